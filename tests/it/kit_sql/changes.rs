//! Pages, filters, columns, and what an answer costs.

use serde_json::{Value, json};

use super::{Caller, Follower, Kit};

#[tokio::test]
async fn h03_h04_h20_pages_around_the_number_of_rows_end_whatever_the_key() {
    let keys = [
        ("int", "id bigint", "id", "n::bigint * 1000000007"),
        ("uuid", "id uuid", "id", "md5(n::text)::uuid"),
        ("text", "id text", "id", r#"chr(96 + n % 7) || '"''\,{}% é🎈' || n"#),
        (
            "composite",
            "a text, id uuid, b timestamptz",
            "a, id, b",
            r#"'x"''\' || n % 3, md5(n::text)::uuid, 'epoch'::timestamptz + n * interval '1.000001 s'"#,
        ),
    ];
    const ROWS: usize = 10;
    for (name, columns, key, values) in keys {
        let insert = |extra: &str| {
            format!("insert into items ({key}, n) select {values}, n from generate_series(1, {ROWS}) n {extra}")
        };
        let kit = Kit::with(&format!(
            "create table items ({columns}, n int, primary key ({key})); {}; select tidelock.attach('items')",
            insert("")
        ))
        .await;
        for limit in [1, ROWS - 1, ROWS, ROWS + 1] {
            kit.owner.run(&format!("delete from items; {}", insert(""))).await;
            // First all of them by key, then as changes of one transaction, then as deletions.
            let mut follower = Follower::of("items");
            let pages = follower.pull(&kit.owner, limit, "n").await;
            assert_eq!(follower.rows.len(), ROWS, "{name}, limit {limit}");
            assert!(pages <= (ROWS / limit + 1) as u32, "{name}, limit {limit}: {pages} pages");
            kit.owner.run("update items set n = n + 100").await;
            follower.rows.clear();
            follower.deliveries.clear();
            follower.pull(&kit.owner, limit, "n").await;
            assert_eq!(follower.rows.len(), ROWS, "{name}, limit {limit}, changes");
            assert!(follower.deliveries.values().all(|count| *count == 1), "{name}, limit {limit}");
            kit.owner.run("begin; update items set n = n + 1; delete from items; commit").await;
            let gone = gone_in_pages(&kit.owner, follower.since.as_deref().unwrap(), limit).await;
            assert_eq!(gone.len(), ROWS, "{name}, limit {limit}: {gone:?}");
        }
    }
}

async fn gone_in_pages(caller: &Caller, since: &str, limit: usize) -> Vec<String> {
    let mut entry = json!({ "table": "public.items", "since": since });
    let mut gone = Vec::new();
    loop {
        let answer = caller.changes(None, &json!([entry]), limit).await;
        let collection = &answer["collections"][0];
        gone.extend(collection["gone"].as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_owned()));
        let Some(more) = collection["more"].as_object() else { return gone };
        entry["until"] = more["until"].clone();
        entry["after"] = more["after"].clone();
    }
}

#[tokio::test]
async fn h20_tombstones_of_rows_that_came_back_do_not_end_the_pages() {
    let kit = Kit::with("create table items (id int primary key); select tidelock.attach('items');").await;
    kit.owner.run("insert into items select generate_series(1, 10)").await;
    let since = kit.owner.snapshot().await;
    // The first page of tombstones is full, and all of its rows are there again.
    kit.owner.run("delete from items; insert into items select generate_series(1, 4)").await;
    let mut gone = gone_in_pages(&kit.owner, &since, 4).await;
    gone.sort_by_key(|key| key.parse::<u32>().unwrap());
    assert_eq!(gone, ["5", "6", "7", "8", "9", "10"]);
}

#[tokio::test]
async fn an_idle_answer_about_forty_tables_is_small() {
    let tables =
        (1..=40).map(|n| format!("create table items_{n} (id int primary key); select tidelock.attach('items_{n}');"));
    let kit = Kit::with(&tables.collect::<String>()).await;
    let collections: Value = (1..=40).map(|n| json!({ "table": format!("public.items_{n}") })).collect();
    let since = kit.owner.snapshot().await;
    let text = kit.owner.changes_text(Some(&since), &collections, 1_000).await;
    assert!(text.len() < 3_000, "{} bytes: {text}", text.len());
}

#[tokio::test]
async fn one_changed_row_among_a_hundred_thousand_is_found_by_the_index_also_while_an_old_transaction_is_open() {
    let kit = Kit::with(
        "create table items (id int primary key, body text);
         alter table items enable row level security;
         create policy own on items to authenticated using (true);
         select tidelock.attach('items', shared => true);",
    )
    .await;
    // After attaching, so that all of them are in the index.
    let insert = "insert into items select n, 'the body of ' || n from generate_series(1, 100000) n; analyze items";
    kit.owner.run(insert).await;
    let user = kit.user(super::ADA).await;
    let open = kit.another_owner().await;
    open.run("begin; update items set body = '' where id = 7").await;
    let since = kit.owner.snapshot().await;
    kit.owner.run("update items set body = 'new' where id = 500; delete from items where id = 501").await;
    let collections = super::quoted(&json!([{ "table": "items", "since": since }]));
    let plan = format!("explain (analyze, buffers, format json) select tidelock_changes(null, {collections})");
    // The first time, the catalogue is read as well.
    user.value(&plan).await;
    let plan: Value = serde_json::from_str(&user.value(&plan).await).unwrap();
    let pages = plan[0]["Plan"]["Shared Hit Blocks"].as_u64().unwrap()
        + plan[0]["Plan"]["Shared Read Blocks"].as_u64().unwrap();
    assert!(pages < 300, "{pages} pages were read");
    let answer = user.changes(Some(&since), &json!([{ "table": "items" }]), 100).await;
    assert_eq!(answer["collections"][0]["rows"].as_array().unwrap().len(), 1);
    assert_eq!(answer["collections"][0]["gone"], json!(["501"]));
}

#[tokio::test]
async fn a_filter_and_columns_choose_and_a_row_that_leaves_the_filter_is_gone() {
    let kit = Kit::with(
        "create table items (id int primary key, kind text, done bool, body text);
         select tidelock.attach('items');
         insert into items values (1, 'a', false, 'x'), (2, 'b', false, 'x'), (3, null, true, 'x'), (4, 'it''s', true, 'x');",
    )
    .await;
    let ids = |answer: &Value| -> Vec<u64> {
        answer["collections"][0]["rows"].as_array().unwrap().iter().map(|row| row["id"].as_u64().unwrap()).collect()
    };
    let filters = [
        (json!([["kind", "eq", "a"]]), vec![1]),
        (json!([["kind", "not.eq", "a"]]), vec![2, 4]),
        (json!([["kind", "in", ["a", "it's"]]]), vec![1, 4]),
        (json!([["kind", "in", []]]), vec![]),
        (json!([["kind", "is", "null"]]), vec![3]),
        (json!([["kind", "not.is", "null"], ["id", "gte", 2]]), vec![2, 4]),
        (json!([["done", "is", "true"], ["id", "lt", "4"]]), vec![3]),
        (json!([["kind", "like", "it%"]]), vec![4]),
    ];
    for (filter, expected) in filters {
        let answer = kit.owner.changes(None, &json!([{ "table": "items", "filter": filter }]), 10).await;
        assert_eq!(ids(&answer), expected, "{filter}: {answer}");
    }
    let entry = json!([{ "table": "items", "filter": [["kind", "eq", "a"]], "columns": ["kind"] }]);
    let answer = kit.owner.changes(None, &entry, 10).await;
    let row = answer["collections"][0]["rows"][0].as_object().unwrap();
    assert_eq!(row.keys().collect::<Vec<_>>(), ["id", "kind", "tidelock_version"]);
    let since = answer["snapshot"].as_str().unwrap();
    kit.owner.run("update items set kind = 'b' where id = 1; update items set kind = 'a' where id = 2").await;
    let answer = kit.owner.changes(Some(since), &entry, 10).await;
    assert_eq!((ids(&answer), &answer["collections"][0]["gone"]), (vec![2], &json!(["1"])));
}

#[tokio::test]
async fn a_bad_filter_column_or_table_is_an_error_of_that_collection_alone() {
    let kit = Kit::with("create table items (id int primary key, at timestamptz); select tidelock.attach('items'); insert into items values (1)").await;
    let bad = [
        json!({ "table": "nowhere" }),
        json!({ "table": "not a table; drop" }),
        json!({ "table": "items", "columns": ["nothing"] }),
        json!({ "table": "items", "filter": [["nothing", "eq", "1"]] }),
        json!({ "table": "items", "filter": [["id", "eq", "x"]] }),
        json!({ "table": "items", "filter": [["id", "gt", "99999999999999"]] }),
        json!({ "table": "items", "filter": [["at", "gt", "no time"]] }),
        json!({ "table": "items", "filter": [["id", "like", "x"]] }),
        json!({ "table": "items", "filter": [["id", "sounds", "x"]] }),
        json!({ "table": "items", "filter": [["id", "in", "x"]] }),
        json!({ "table": "items", "since": "no snapshot" }),
    ];
    let mut collections = bad.to_vec();
    collections.push(json!({ "table": "items" }));
    let answer = kit.owner.changes(None, &Value::Array(collections), 10).await;
    for (entry, answer) in bad.iter().zip(answer["collections"].as_array().unwrap()) {
        assert!(answer["error"]["code"].is_string(), "{entry}: {answer}");
    }
    assert_eq!(answer["collections"][bad.len()]["rows"].as_array().unwrap().len(), 1, "{answer}");
}

#[tokio::test]
async fn names_that_need_quotes_or_are_the_functions_own_work() {
    let columns = [
        "key",
        "name",
        "action",
        "n",
        "t",
        "r",
        "o",
        "g",
        "c",
        "document",
        "place",
        "ordinality",
        "version",
        "user",
        "order",
        "Größe \"x\"",
        "it's",
        "gone",
        "old",
        "new",
    ];
    let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let list = columns.iter().map(|name| format!("{} text", quote(name))).collect::<Vec<_>>().join(", ");
    let kit = Kit::with(&format!(
        r#"create schema "Mixed Case"; create table "Mixed Case"."It's ""odd""" ({list}, primary key ({}, {}));
           select tidelock.attach('"Mixed Case"."It''s ""odd"""', owner => 'user');"#,
        quote("key"),
        quote("Größe \"x\"")
    ))
    .await;
    let table = r#"Mixed Case.It's "odd""#;
    let mut follower = Follower::of(table);
    follower.pull(&kit.owner, 10, "key").await;
    let set: serde_json::Map<_, _> =
        columns.iter().map(|name| ((*name).to_owned(), json!(format!("{name} 1")))).collect();
    let key = r#"["key 1", "Größe \"x\" 1"]"#;
    let answer = kit.owner.push(&json!([super::create(1, table, key, Value::Object(set.clone()))])).await;
    assert_eq!(super::kinds(&answer), ["applied"], "{answer}");
    assert!(answer["verdicts"][0]["made"].is_null(), "{answer}");
    assert_eq!(answer["alone"], true);
    follower.pull(&kit.owner, 10, "key").await;
    let mut row = follower.rows["key 1"].clone();
    row.as_object_mut().unwrap().remove("tidelock_version");
    assert_eq!(row, Value::Object(set));
    let version = answer["verdicts"][0]["version"].as_str().unwrap();
    let update =
        super::operation(2, "update", table, key, Some(version), json!({ "n": "2", "t": "3", "ordinality": "4" }));
    let answer = kit.owner.push(&json!([update])).await;
    assert_eq!(super::kinds(&answer), ["applied"], "{answer}");
    let version = answer["verdicts"][0]["version"].as_str().unwrap();
    let delete = super::operation(3, "delete", table, key, Some(version), Value::Null);
    assert_eq!(kit.owner.verdicts(&json!([delete])).await, ["applied"]);
    let since = follower.since.clone().unwrap();
    let answer = kit.owner.changes(Some(&since), &json!([{ "table": table }]), 10).await;
    assert_eq!(answer["collections"][0]["gone"], json!([key]), "{answer}");
}
