//! What a push makes of operations, and what it tells of them.

use serde_json::{Value, json};

use super::{Kit, create, kinds, operation, push_sql};

const ITEMS: &str =
    "create table items (id text primary key, n int default 7, body text); select tidelock.attach('items');";

#[tokio::test]
async fn creates_updates_and_deletions_take_effect_and_conflicts_carry_the_row() {
    let kit = Kit::with(ITEMS).await;
    let answer = kit
        .owner
        .push(&json!([create(1, "items", "a", json!({ "body": "x" })), create(2, "items", "b", json!({ "n": null }))]))
        .await;
    assert_eq!(kinds(&answer), ["applied", "applied"]);
    assert_eq!(answer["verdicts"][0]["made"], json!({ "n": 7 }));
    assert_eq!(answer["verdicts"][1]["made"], json!({ "body": null }));
    let version = answer["version"].as_str().unwrap().to_owned();
    assert_eq!(answer["verdicts"][0]["version"], json!(version));
    let batch = json!([
        operation(3, "update", "items", "a", Some(&version), json!({ "n": 8 })),
        operation(4, "delete", "items", "b", Some(&version), Value::Null),
        operation(5, "delete", "items", "never", Some(&version), Value::Null),
        operation(6, "update", "items", "never", Some(&version), json!({ "n": 1 })),
        create(7, "items", "a", json!({ "n": 1 })),
        operation(8, "update", "items", "a", Some(&version), json!({ "body": "two" })),
    ]);
    let answer = kit.owner.push(&batch).await;
    assert_eq!(kinds(&answer), ["applied", "applied", "applied", "conflict", "conflict", "applied"], "{answer}");
    assert_eq!(answer["verdicts"][3]["row"], Value::Null);
    let conflict = &answer["verdicts"][4]["row"];
    assert_eq!((&conflict["n"], &conflict["body"]), (&json!(8), &json!("x")));
    assert_eq!(conflict["tidelock_version"], answer["version"]);
    // Its row had that version when the push began, and only the push itself has changed it since.
    assert_eq!(kit.owner.column("select concat_ws(' ', id, n, body) from items").await, ["a 8 two"]);
}

/// The ledger outlives the kit that wrote it.
#[tokio::test]
async fn h23_what_an_operation_asks_has_the_digest_that_it_always_had() {
    let kit = Kit::with(ITEMS).await;
    let batch = json!([create(1, "items", "a", json!({ "n": 1, "body": "x" }))]);
    assert_eq!(kit.owner.verdicts(&batch).await, ["applied"]);
    assert_eq!(kit.owner.value("select digests[1] from tidelock.ledger").await, "-9216847118221681018");
}

#[tokio::test]
async fn a_row_may_have_very_many_columns_that_nobody_sends() {
    let columns: Vec<String> = (0..120).map(|n| format!("c{n} int default {n}")).collect();
    let table = format!("create table wide (id int primary key, n int, {});", columns.join(", "));
    let kit = Kit::with(&format!("{table} select tidelock.attach('wide')")).await;
    let batch = json!([create(1, "wide", "1", json!({ "n": 1 })), create(2, "wide", "2", json!({ "n": 2 }))]);
    let answer = kit.owner.push(&batch).await;
    for verdict in answer["verdicts"].as_array().unwrap() {
        let made = verdict["made"].as_object().unwrap();
        assert_eq!((made.len(), &made["c119"]), (120, &json!(119)), "{verdict}");
    }
}

#[tokio::test]
async fn a_key_that_comes_twice_in_a_batch_meets_its_own_row() {
    let kit = Kit::with(ITEMS).await;
    let batch = json!([
        create(1, "items", "a", json!({ "n": 1 })),
        create(2, "items", "b", json!({ "n": 1 })),
        create(3, "items", "a", json!({ "n": 2 }))
    ]);
    let answer = kit.owner.push(&batch).await;
    assert_eq!(kinds(&answer), ["applied", "applied", "conflict"], "{answer}");
    let version = answer["version"].as_str();
    let batch = json!([
        operation(4, "update", "items", "a", version, json!({ "n": 3 })),
        operation(5, "update", "items", "a", version, json!({ "n": 4 }))
    ]);
    let mut kinds = kit.owner.verdicts(&batch).await;
    kinds.sort();
    assert_eq!(kinds, ["applied", "conflict"]);
}

#[tokio::test]
async fn a_row_that_somebody_else_changes_meanwhile_is_a_conflict_not_a_refusal() {
    let kit = Kit::with(ITEMS).await;
    let version = kit.owner.push(&json!([create(1, "items", "a", json!({ "n": 1 }))])).await["version"]
        .as_str()
        .unwrap()
        .to_owned();
    for (number, action) in [(2, "update"), (3, "delete")] {
        let version =
            if number == 2 { version.clone() } else { kit.owner.value("select tidelock_version from items").await };
        let other = kit.another_owner().await;
        other.run("begin; update items set body = coalesce(body, '') || 'theirs'").await;
        let pusher = kit.another_owner().await;
        let pid = pusher.value("select pg_backend_pid()").await;
        let push = tokio::spawn(async move {
            pusher.push(&json!([operation(number, action, "items", "a", Some(&version), json!({ "n": 2 }))])).await
        });
        // It waits for the other's lock.
        while kit.owner.value(&format!("select wait_event_type from pg_stat_activity where pid = {pid}")).await
            != "Lock"
        {
            tokio::task::yield_now().await;
        }
        other.run("commit").await;
        let answer = push.await.unwrap();
        assert_eq!(kinds(&answer), ["conflict"], "{answer}");
        assert_eq!(answer["verdicts"][0]["row"]["n"], 1);
    }
}

#[tokio::test]
async fn what_triggers_make_of_the_pushed_rows_is_told_and_other_rows_make_it_not_alone() {
    let kit = Kit::with(
        "create table items (id text primary key, n int, body text, twice int generated always as (n * 2) stored, children int not null default 0);
         create table children (id text primary key, parent text references items on delete cascade);
         create table unattached (id text);
         create function shout() returns trigger language plpgsql as $$ begin
           new.body := upper(new.body); insert into unattached values (new.id); return new; end $$;
         create trigger shout before insert or update on items for each row execute function shout();
         create function count_children() returns trigger language plpgsql as $$ begin
           update items set children = children + 1 where id = new.parent; return new; end $$;
         create trigger count_children after insert on children for each row execute function count_children();
         select tidelock.attach('items'); select tidelock.attach('children');",
    )
    .await;
    let answer = kit
        .owner
        .push(&json!([create(1, "items", "a", json!({ "n": 2, "body": "x", "twice": 99, "children": 0 }))]))
        .await;
    assert_eq!(answer["verdicts"][0]["made"], json!({ "id": "a", "body": "X", "twice": 4 }), "{answer}");
    assert_eq!(answer["alone"], true);
    let answer = kit
        .owner
        .push(&json!([operation(2, "update", "items", "a", answer["version"].as_str(), json!({ "n": 3, "twice": 0 }))]))
        .await;
    assert_eq!(answer["verdicts"][0]["made"], json!({ "twice": 6 }), "{answer}");
    assert_eq!(answer["alone"], true);
    // The child's trigger writes a row that was not asked for.
    let answer = kit.owner.push(&json!([create(3, "children", "c", json!({ "parent": "a" }))])).await;
    assert_eq!((&kinds(&answer)[..], &answer["alone"]), (&["applied".to_owned()][..], &json!(false)), "{answer}");
    // What a later operation's trigger makes of an earlier one's row is told as well.
    let answer = kit
        .owner
        .push(&json!([
            create(4, "items", "b", json!({ "n": 1, "body": "Y" })),
            create(5, "children", "d", json!({ "parent": "b" }))
        ]))
        .await;
    assert_eq!((&answer["verdicts"][0]["made"]["children"], &answer["alone"]), (&json!(1), &json!(true)), "{answer}");
    // A deletion that takes others with it.
    let answer =
        kit.owner.push(&json!([operation(6, "delete", "items", "b", answer["version"].as_str(), Value::Null)])).await;
    assert_eq!((&kinds(&answer)[..], &answer["alone"]), (&["applied".to_owned()][..], &json!(false)), "{answer}");
}

#[tokio::test]
async fn what_a_column_rounds_or_cuts_on_the_way_in_is_told() {
    let kit = Kit::with(
        "create table items (id uuid primary key, price numeric(10, 2), at timestamp, day date, n int, other text);
         select tidelock.attach('items');",
    )
    .await;
    let set = json!({ "price": 1.005, "at": "2024-01-02T03:04:05+02:00", "day": "2024-01-02T10:00:00", "n": "5" });
    let key = |end: &str| format!("00000000-0000-4000-8000-{end}");
    let answer = kit
        .owner
        .push(&json!([
            create(1, "items", &key("00000000000a"), json!({ "price": 1.5, "at": null, "day": "2024-01-02", "n": 5 })),
            create(2, "items", &key("00000000000b"), set.clone()),
            create(3, "items", &key("00000000000C"), json!({ "n": 1 })),
        ]))
        .await;
    assert_eq!(answer["verdicts"][0]["made"], json!({ "other": null }), "{answer}");
    let made = &answer["verdicts"][1]["made"];
    assert_eq!((&made["price"], &made["at"]), (&json!(1.01), &json!("2024-01-02T03:04:05")), "{answer}");
    assert_eq!((&made["day"], &made["n"]), (&json!("2024-01-02"), &json!(5)), "{answer}");
    assert_eq!(answer["verdicts"][2]["made"]["id"], json!(key("00000000000c")), "{answer}");
}

#[tokio::test]
async fn a_key_that_is_too_long_is_refused_and_finds_no_other_row() {
    let kit = Kit::with("create table items (id varchar(5) primary key, n int); select tidelock.attach('items')").await;
    kit.owner.push(&json!([create(1, "items", "abcde", json!({ "n": 1 }))])).await;
    let batch = json!([
        create(2, "items", "abcdefg", json!({ "n": 2 })),
        operation(3, "update", "items", "abcdefg", Some("1"), json!({ "n": 2 })),
        create(4, "items", "fghijkl", json!({ "n": 2 }))
    ]);
    assert_eq!(kit.owner.verdicts(&batch).await, ["refused 22001", "conflict", "refused 22001"]);
    assert_eq!(kit.owner.column("select id || n from items").await, ["abcde1"]);
}

#[tokio::test]
async fn what_a_trigger_writes_into_a_partitioned_table_makes_a_push_not_alone() {
    let kit = Kit::with(
        "create table items (id text primary key);
         create table events (id text, year int, primary key (id, year)) partition by range (year);
         create table events_now partition of events for values from (2000) to (3000);
         create function note() returns trigger language plpgsql as $$ begin
           insert into events values (new.id, 2026); return new; end $$;
         create trigger note after insert on items for each row execute function note();
         select tidelock.attach('items'); select tidelock.attach('events');",
    )
    .await;
    let answer = kit.owner.push(&json!([create(1, "items", "a", json!({}))])).await;
    assert_eq!((kinds(&answer), &answer["alone"]), (vec!["applied".to_owned()], &json!(false)), "{answer}");
}

#[tokio::test]
async fn h23_a_batch_that_is_sent_again_answers_the_same_and_changes_nothing() {
    let kit = Kit::with(&format!(
        "{ITEMS} create table counter (n int); insert into counter values (0);
         create function count_changes() returns trigger language plpgsql as $$ begin update counter set n = n + 1; return null; end $$;
         create trigger count after insert or update or delete on items for each row execute function count_changes();"
    ))
    .await;
    let batch = json!([create(1, "items", "a", json!({ "n": 1 })), create(2, "items", "b", json!({ "n": 1 }))]);
    let first = kit.owner.push(&batch).await;
    // Two more at the same time, on connections of their own.
    let (one, two) = (kit.another_owner().await, kit.another_owner().await);
    for again in <[Value; 2]>::from(tokio::join!(one.push(&batch), two.push(&batch))) {
        assert_eq!(kinds(&again), ["applied", "applied"]);
        assert_eq!(again["verdicts"][0]["version"], first["version"]);
        assert_eq!(again["verdicts"][0]["again"], true);
    }
    assert_eq!(kit.owner.value("select n from counter").await, "2");
    // A part of it with something new: only that takes effect, and the order of the verdicts is that of the batch.
    let batch = json!([create(3, "items", "c", json!({ "n": 1 })), batch[0], create(4, "items", "a", json!({}))]);
    assert_eq!(kit.owner.verdicts(&batch).await, ["applied", "applied", "conflict"]);
    assert_eq!(kit.owner.value("select n from counter").await, "3");
    // Sent by two at once for the first time.
    let batch = json!([create(9, "items", "z", json!({ "n": 1 }))]);
    let (left, right) = tokio::join!(one.push(&batch), two.push(&batch));
    assert_eq!(left["verdicts"][0]["version"], right["verdicts"][0]["version"]);
    assert_eq!(kit.owner.value("select n from counter").await, "4");
}

#[tokio::test]
async fn h31_a_number_used_for_something_else_and_another_database_are_found_out() {
    let kit = Kit::with(ITEMS).await;
    kit.owner.push(&json!([create(1, "items", "a", json!({ "n": 1 }))])).await;
    let mut copied = create(1, "items", "b", json!({ "n": 1 }));
    copied["covers"] = json!([1, 2]);
    assert_eq!(kit.owner.verdicts(&json!([copied])).await, ["refused TL002"]);
    let batch = super::quoted(&json!([create(3, "items", "c", json!({}))]));
    assert_eq!(
        kit.owner.refused(&format!("select tidelock_push('device', 'epoch', {batch}, 'another')")).await,
        "TL001"
    );
    kit.owner.value(&format!("select tidelock_push('device', 'epoch', {batch}, tidelock.epoch())")).await;
    assert_eq!(kit.owner.column("select id from items").await, ["a", "c"]);
}

#[tokio::test]
async fn h41_values_of_every_kind_arrive_and_come_back_exactly() {
    let kit = Kit::with("select tidelock.attach('samples')").await;
    let set = r#"{"a_bool":true,"a_smallint":-32768,"a_bigint":9223372036854775807,"a_numeric":12345678901234567890.123456789012345678901234567890,"a_money":1234567890123456789012345678.0123456789,"a_text":"tab\t \"q\" 'a' \\ é 🎈 \u0001","a_date":"2024-02-29","a_time":"23:59:59.999999","a_timestamptz":"2024-01-02T03:04:05.678901+00:00","a_uuid":"00000000-0000-4000-8000-000000000001","a_jsonb":{"a":[1,{"b":null}],"n":1e400,"t":"x"},"some_bytes":"\\x00ff10","bigints":[9223372036854775807,null,-9223372036854775808],"numerics":[0.10,1e-20],"texts":["a,b","{\"}",null,""],"jsonbs":[{"a":1},[]],"times":["2024-01-02T03:04:05.000001+00:00"]}"#;
    let batch = format!(r#"[{{"group":1,"table":"samples","action":"create","key":"5","set":{set},"covers":[1]}}]"#);
    let push = format!(
        "select a -> 'shared' -> (a -> 'verdicts' ->> 0)::integer from tidelock_push('d', 'e', '{}') a",
        batch.replace('\'', "''")
    );
    let verdict = kit.owner.value(&push).await;
    assert!(verdict.contains(r#""verdict": "applied""#), "{verdict}");
    // Nothing that was sent is other than it was sent, to the last digit: also in the answer of a pull.
    let set_sql = format!("'{}'::jsonb", set.replace('\'', "''"));
    let differing = |row: &str| {
        format!(
            "select string_agg(key || ': ' || value, ', ') from jsonb_each({set_sql}) where value is distinct from {row} -> key"
        )
    };
    assert_eq!(kit.owner.value(&differing("(select to_jsonb(s) from samples s)")).await, "");
    let pulled = r#"(tidelock_changes(null, '[{"table":"samples"}]')::jsonb -> 'collections' -> 0 -> 'rows' -> 0)"#;
    assert_eq!(kit.owner.value(&differing(pulled)).await, "");
    assert_eq!(
        kit.owner
            .value(&format!(
                "select string_agg(k, ', ') from jsonb_object_keys('{}'::jsonb -> 'made') k where {set_sql} ? k",
                verdict.replace('\'', "''")
            ))
            .await,
        ""
    );
}

#[tokio::test]
async fn soft_deletion_marks_the_row_and_devices_see_it_gone() {
    let kit = Kit::with("create table items (id text primary key, body text, deleted_at timestamptz); select tidelock.attach('items', soft => 'deleted_at');").await;
    let created = kit.owner.push(&json!([create(1, "items", "a", json!({ "body": "x" }))])).await;
    let since = kit.owner.snapshot().await;
    let delete = |number| operation(number, "delete", "items", "a", created["version"].as_str(), Value::Null);
    let answer = kit.owner.push(&json!([delete(2)])).await;
    assert_eq!((&kinds(&answer)[..], &answer["alone"]), (&["applied".to_owned()][..], &json!(true)), "{answer}");
    assert_eq!(kit.owner.verdicts(&json!([delete(3)])).await, ["applied"], "it is deleted already");
    assert_eq!(kit.owner.value("select deleted_at is not null from items").await, "t");
    let answer = kit.owner.changes(Some(&since), &json!([{ "table": "items" }]), 10).await;
    assert_eq!(answer["collections"][0]["gone"], json!(["a"]));
    let answer = kit.owner.changes(None, &json!([{ "table": "items" }]), 10).await;
    assert_eq!(answer["collections"][0]["rows"], json!([]));
}

#[tokio::test]
async fn what_is_nobodys_fault_is_an_error_of_the_whole_request() {
    let kit = Kit::with(ITEMS).await;
    let other = kit.another_owner().await;
    let version = kit.owner.push(&json!([create(1, "items", "a", json!({ "n": 1 }))])).await["version"]
        .as_str()
        .unwrap()
        .to_owned();
    other.run("begin; update items set n = 2").await;
    let batch = json!([
        create(2, "items", "b", json!({})),
        operation(3, "update", "items", "a", Some(&version), json!({ "n": 3 }))
    ]);
    kit.owner.run("set statement_timeout = '50ms'").await;
    assert_eq!(kit.owner.refused(&push_sql(&batch)).await, "57014");
    kit.owner.run("set statement_timeout = 0; set lock_timeout = '50ms'").await;
    assert_eq!(kit.owner.refused(&push_sql(&batch)).await, "55P03");
    kit.owner.run("set lock_timeout = 0; begin isolation level repeatable read; select 1").await;
    other.run("commit").await;
    assert_eq!(kit.owner.refused(&push_sql(&batch)).await, "40001");
    kit.owner.run("rollback; begin read only").await;
    assert_eq!(kit.owner.refused(&push_sql(&batch)).await, "25006");
    kit.owner.run("rollback").await;
    assert_eq!(kit.owner.value("select count(*) from items").await, "1", "nothing of it took effect");
}
