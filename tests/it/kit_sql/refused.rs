//! What the server will not have: one of many, one of a group, now or at the end of the transaction.

use serde_json::{Value, json};

use super::{ADA, BOB, Kit, create, kinds, operation};

const ITEMS: &str = "
    create table parents (id int primary key);
    insert into parents values (1);
    create table items (id int primary key, n int check (n >= 0), code text unique, parent int references parents,
      late int references parents deferrable initially deferred);
    select tidelock.attach('items'); select tidelock.attach('parents');";

fn grouped(group: u64, mut operation: Value) -> Value {
    operation["group"] = json!(1_000 + group);
    operation
}

#[tokio::test]
async fn h15_one_of_a_thousand_that_is_refused_keeps_none_of_the_others_back() {
    let kit = Kit::with(&format!("{ITEMS} insert into items (id, code) values (0, 'taken')")).await;
    let refusals = [
        (json!({ "n": -1 }), "23514"),
        (json!({ "code": "taken" }), "23505"),
        (json!({ "parent": 9 }), "23503"),
        (json!({ "late": 9 }), "23503"),
        (json!({ "n": "no number" }), "22P02"),
    ];
    for (round, (bad, code)) in (0..).zip(&refusals) {
        let number = |n: u64| 10_000 * round + n;
        let batch: Vec<_> = (1..=1_000)
            .map(|n| {
                create(
                    number(n),
                    "items",
                    &number(n).to_string(),
                    if n == 637 { bad.clone() } else { json!({ "n": n }) },
                )
            })
            .collect();
        let answer = kit.owner.push(&json!(batch)).await;
        for (at, kind) in kinds(&answer).iter().enumerate() {
            let expected = if at == 636 { format!("refused {code}") } else { "applied".to_owned() };
            assert_eq!(*kind, expected, "{bad}: {}", answer["verdicts"][at]);
        }
        assert_eq!(answer["alone"], true, "{bad}");
    }
    assert_eq!(kit.owner.value("select count(*) from items").await, (1 + 999 * refusals.len()).to_string());
}

#[tokio::test]
async fn what_an_operation_leaves_out_is_as_the_first_one_has_it_and_a_group_of_its_own() {
    let kit = Kit::with(ITEMS).await;
    let batch = json!([
        { "table": "items", "action": "create", "key": "1", "covers": [1], "set": { "n": 1 } },
        { "key": "2", "covers": [2], "set": { "n": 2 } },
        { "group": 0, "key": "3", "covers": [3], "set": { "n": -1 } },
        { "table": "parents", "key": "4", "covers": [4] },
        { "group": 1, "action": "delete", "key": "9", "covers": [5] },
    ]);
    assert_eq!(kit.owner.verdicts(&batch).await, ["refused 23514", "applied", "refused 23514", "applied", "applied"]);
    assert_eq!(kit.owner.value("select string_agg(id::text, ' ') from items").await, "2");
    assert_eq!(kit.owner.value("select string_agg(id::text, ' ' order by id) from parents").await, "1 4");
}

#[tokio::test]
async fn where_the_first_operation_says_nothing_the_others_mean_what_they_say() {
    let kit = Kit::with(ITEMS).await;
    let batch = json!([
        { "key": "1", "action": "create", "covers": [1] },
        { "table": "items", "action": "create", "key": "2", "covers": [2] },
        { "table": "parents", "action": "create", "key": "3", "covers": [3] },
    ]);
    assert_eq!(kit.owner.verdicts(&batch).await, ["refused 42P01", "applied", "applied"]);
    let made = "select (select string_agg(id::text, ' ') from items)
      || ', ' || (select string_agg(id::text, ' ' order by id) from parents)";
    assert_eq!(kit.owner.value(made).await, "2, 1 3");
}

#[tokio::test]
async fn h15_an_unknown_table_column_action_or_key_is_refused_by_itself() {
    let kit = Kit::with(ITEMS).await;
    let batch = json!([
        create(1, "nowhere", "1", json!({})),
        create(2, "items", "2", json!({ "nothing": 1 })),
        operation(3, "erase", "items", "3", None, json!({})),
        create(4, "items", "no number", json!({})),
        create(5, "items", "5", json!({})),
    ]);
    let expected = ["refused 42P01", "refused 42703", "refused 22023", "refused 22P02", "applied"];
    assert_eq!(kit.owner.verdicts(&batch).await, expected);
}

#[tokio::test]
async fn h15_h19_a_group_takes_effect_as_a_whole_or_not_at_all() {
    let kit = Kit::with(ITEMS).await;
    let version = kit.owner.push(&json!([create(1, "items", "1", json!({ "n": 1 }))])).await["version"]
        .as_str()
        .unwrap()
        .to_owned();
    kit.owner.run("update items set n = 2").await;
    let batch = json!([
        grouped(1, create(2, "items", "2", json!({ "n": 1 }))),
        grouped(1, create(3, "items", "3", json!({ "n": -1 }))),
        grouped(2, create(4, "items", "4", json!({ "n": 1 }))),
        grouped(2, operation(5, "update", "items", "1", Some(&version), json!({ "n": 5 }))),
        grouped(3, create(6, "items", "6", json!({ "n": 1 }))),
        grouped(3, create(7, "items", "7", json!({ "late": 9 }))),
        grouped(4, create(8, "items", "8", json!({ "n": 1 }))),
        grouped(4, create(9, "items", "9", json!({ "n": 1 }))),
        // A group whose members do not stand together.
        grouped(1, create(10, "items", "10", json!({ "n": 1 }))),
    ]);
    let answer = kit.owner.push(&batch).await;
    let kinds = kinds(&answer);
    assert_eq!(kinds[..2], ["refused 23514", "refused 23514"], "{answer}");
    assert_eq!(kinds[2..4], ["waits", "conflict"], "{answer}");
    assert_eq!(kinds[4..6], ["refused 23503", "refused 23503"], "{answer}");
    assert_eq!(kinds[6..], ["applied", "applied", "refused 23514"], "{answer}");
    assert_eq!(kit.owner.column("select id from items order by id").await, ["1", "8", "9"]);
    // Mended, they take effect: nothing of them is in the ledger.
    let batch = json!([grouped(1, create(2, "items", "2", json!({}))), grouped(1, create(3, "items", "3", json!({})))]);
    assert_eq!(kit.owner.verdicts(&batch).await, ["applied", "applied"]);
}

#[tokio::test]
async fn rows_of_one_group_may_need_each_other_in_their_order_or_at_its_end() {
    let kit = Kit::with(
        "create table nodes (id int primary key, name text, parent int references nodes,
           twin int references nodes deferrable initially deferred);
         select tidelock.attach('nodes'); insert into nodes values (1, 'root');",
    )
    .await;
    let batch = json!([
        grouped(1, create(1, "nodes", "2", json!({ "parent": 1 }))),
        grouped(1, create(2, "nodes", "3", json!({ "name": "a" }))),
        grouped(1, create(3, "nodes", "4", json!({ "parent": 3 }))),
        grouped(2, create(4, "nodes", "5", json!({ "twin": 6 }))),
        grouped(2, create(5, "nodes", "6", json!({ "twin": 5 }))),
    ]);
    assert_eq!(kit.owner.verdicts(&batch).await, ["applied"; 5]);
}

#[tokio::test]
async fn h27_h55_what_row_level_security_forbids_is_refused_never_taken_for_done() {
    let kit = Kit::with(&format!(
        "create table items (id int primary key, owner uuid, body text, locked bool);
         alter table items enable row level security;
         create policy own on items for select to authenticated using (owner = auth.uid());
         create policy made on items for insert to authenticated with check (owner = auth.uid());
         create policy unlocked on items for update to authenticated using (owner = auth.uid() and locked is not true);
         create policy kept on items for delete to authenticated using (owner = auth.uid() and locked is not true);
         select tidelock.attach('items', 'owner');
         insert into items values (1, '{ADA}', 'hers', true), (2, '{BOB}', 'secret', false);"
    ))
    .await;
    let ada = kit.user(ADA).await;
    let version = kit.owner.value("select tidelock_version from items limit 1").await;
    let base = Some(version.as_str());
    let batch = json!([
        operation(1, "update", "items", "1", base, json!({ "body": "x" })),
        operation(2, "delete", "items", "1", base, Value::Null),
        create(3, "items", "2", json!({ "owner": ADA })),
        create(4, "items", "3", json!({ "owner": BOB })),
        operation(5, "update", "items", "2", base, json!({ "body": "x" })),
        operation(6, "delete", "items", "2", base, Value::Null),
        create(7, "items", "4", json!({ "owner": ADA })),
    ]);
    let answer = ada.push(&batch).await;
    // Bob's row is not there as far as she can know.
    let expected =
        ["refused 42501", "refused 42501", "refused 23505", "refused 42501", "conflict", "applied", "applied"];
    assert_eq!(kinds(&answer), expected, "{answer}");
    assert_eq!(answer["verdicts"][4]["row"], Value::Null);
    let text = answer.to_string();
    assert!(!text.contains("secret") && !text.contains(BOB), "{text}");
    assert_eq!(
        kit.owner.column("select concat_ws(' ', id, body) from items order by id").await,
        ["1 hers", "2 secret", "4"]
    );
}

#[tokio::test]
async fn a_row_that_its_maker_may_not_read_is_made_all_the_same() {
    let kit = Kit::with(
        "create table reports (id int primary key, body text);
         alter table reports enable row level security;
         create policy anybody on reports for insert to authenticated with check (true);
         select tidelock.attach('reports');",
    )
    .await;
    let ada = kit.user(ADA).await;
    let batch =
        json!([create(1, "reports", "1", json!({ "body": "x" })), create(2, "reports", "2", json!({ "body": "y" }))]);
    let answer = ada.push(&batch).await;
    assert_eq!(kinds(&answer), ["applied", "applied"], "{answer}");
    kit.owner.run("revoke select on reports from authenticated").await;
    let answer = ada.push(&json!([create(3, "reports", "3", json!({ "body": "z" }))])).await;
    assert_eq!((kinds(&answer), &answer["alone"]), (vec!["applied".to_owned()], &json!(false)), "{answer}");
    assert_eq!(kit.owner.value("select count(*) from reports").await, "3");
}
