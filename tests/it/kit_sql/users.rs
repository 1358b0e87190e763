//! Who gets to know what: rows, keys, tombstones, and the kit's own tables.

use serde_json::{Value, json};

use super::{ADA, BOB, Caller, Kit, create, operation};

const NOTES: &str = "
    create table notes_of (id text primary key, owner uuid, body text);
    alter table notes_of enable row level security;
    create policy own on notes_of to authenticated using (owner = auth.uid()) with check (owner = auth.uid());
    create table rooms (id text primary key, guest uuid);
    alter table rooms enable row level security;
    create policy own on rooms to authenticated using (guest = auth.uid()) with check (guest = auth.uid());
    select tidelock.attach('notes_of', 'owner'); select tidelock.attach('rooms');";

async fn anonymous(kit: &Kit) -> Caller {
    let caller = kit.another_owner().await;
    caller.run("set role anon").await;
    caller
}

#[tokio::test]
async fn a_user_gets_no_row_key_or_tombstone_of_another() {
    let kit = Kit::with(NOTES).await;
    let (ada, bob, anon) = (kit.user(ADA).await, kit.user(BOB).await, anonymous(&kit).await);
    let since = kit.owner.snapshot().await;
    kit.owner.run(&format!(
        "insert into notes_of values ('bobs-1', '{BOB}', 'secret'), ('bobs-2', '{BOB}', 'secret'), ('adas-1', '{ADA}', ''), ('adas-2', '{ADA}', '');
         insert into rooms values ('room-1', '{BOB}'), ('room-2', '{ADA}');"
    )).await;
    kit.owner.run("delete from notes_of where id like '%2'; delete from rooms").await;
    let both = json!([{ "table": "notes_of" }, { "table": "rooms" }]);
    for since in [None, Some(since.as_str())] {
        for (caller, own, other) in [(&ada, "adas", "bobs"), (&bob, "bobs", "adas"), (&anon, "nothing", "s-")] {
            let text = caller.changes_text(since, &both, 100).await;
            assert!(!text.contains(other) && !text.contains("room-"), "{text}");
            if own != "nothing" {
                assert!(text.contains(&format!("{own}-1")), "{text}");
                assert_eq!(text.contains(&format!("[\"{own}-2\"]")), since.is_some(), "{text}");
            }
        }
    }
    // The owner of the database sees all, also what was deleted.
    let text = kit.owner.changes_text(Some(&since), &both, 100).await;
    assert!(text.contains("adas-2") && text.contains("bobs-2") && text.contains("room-1"), "{text}");
}

#[tokio::test]
async fn h07_a_row_that_moves_to_another_user_is_gone_for_one_and_there_for_the_other() {
    let kit = Kit::with(&format!("{NOTES} insert into notes_of values ('n', '{ADA}', 'x')")).await;
    let (ada, bob) = (kit.user(ADA).await, kit.user(BOB).await);
    let since = kit.owner.snapshot().await;
    kit.owner.run(&format!("update notes_of set owner = '{BOB}'")).await;
    let notes = json!([{ "table": "notes_of" }]);
    let answer = ada.changes(Some(&since), &notes, 100).await;
    assert_eq!((&answer["collections"][0]["rows"], &answer["collections"][0]["gone"]), (&json!([]), &json!(["n"])));
    let answer = bob.changes(Some(&since), &notes, 100).await;
    assert_eq!(answer["collections"][0]["rows"][0]["id"], "n");
    assert_eq!(answer["collections"][0]["gone"], json!([]));
    // And a row that gets another key is gone under the old one.
    let since = kit.owner.snapshot().await;
    kit.owner.run("update notes_of set id = 'm'").await;
    let answer = bob.changes(Some(&since), &notes, 100).await;
    assert_eq!(
        (&answer["collections"][0]["rows"][0]["id"], &answer["collections"][0]["gone"]),
        (&json!("m"), &json!(["n"]))
    );
}

#[tokio::test]
async fn one_users_numbers_are_not_in_anothers_ledger() {
    let kit = Kit::with(NOTES).await;
    let (ada, bob) = (kit.user(ADA).await, kit.user(BOB).await);
    let batch = |id: &str, owner: &str| json!([create(1, "notes_of", id, json!({ "owner": owner }))]);
    assert_eq!(ada.verdicts(&batch("a", ADA)).await, ["applied"]);
    // The same device and number, as another user: an operation of its own.
    let answer = bob.push(&batch("b", BOB)).await;
    assert_eq!((&answer["verdicts"][0]["verdict"], &answer["verdicts"][0]["again"]), (&json!("applied"), &Value::Null));
    assert_eq!(ada.push(&batch("a", ADA)).await["verdicts"][0]["again"], true);
}

#[tokio::test]
async fn the_kits_tables_and_its_administration_are_closed_to_users() {
    let kit = Kit::with(NOTES).await;
    for caller in [kit.user(ADA).await, anonymous(&kit).await] {
        for table in ["kit", "tables", "tombstones", "ledger"] {
            for sql in ["select * from", "delete from", "truncate"] {
                assert_eq!(caller.refused(&format!("{sql} tidelock.{table}")).await, "42501", "{sql} {table}");
            }
        }
        for call in ["attach('notes_of')", "detach('notes_of')", "remove()", "tidy()"] {
            assert_eq!(caller.refused(&format!("select tidelock.{call}")).await, "42501", "{call}");
        }
        assert_eq!(caller.refused("create table tidelock.mine (id int)").await, "42501");
    }
}

#[tokio::test]
async fn policies_and_triggers_that_name_tables_of_public_without_their_schema_work() {
    let kit = Kit::with(&format!(
        "create table members (room text, person uuid);
         create function may_see(room text) returns boolean language sql stable security definer as
           $$ select exists (select from members m where m.room = $1 and m.person = auth.uid()) $$;
         alter function may_see(text) set search_path = public;
         create function greet() returns trigger language plpgsql as $$ begin
           new.greeting := (select 'hello ' || count(*) from members where room = new.room); return new; end $$;
         create function is_member(wanted text) returns boolean language plpgsql stable as
           $$ begin return (select exists (select from members where room = wanted and person = auth.uid())); end $$;
         create table messages (id int primary key, room text, greeting text);
         alter table messages enable row level security;
         create policy seen on messages to authenticated using (may_see(room) and is_member(room)) with check (is_member(room));
         create trigger greet before insert on messages for each row execute function greet();
         select tidelock.attach('messages');
         insert into members values ('hall', '{ADA}');"
    ))
    .await;
    let (ada, bob) = (kit.user(ADA).await, kit.user(BOB).await);
    let batch = json!([create(1, "messages", "1", json!({ "room": "hall" }))]);
    assert_eq!(bob.verdicts(&batch).await, ["refused 42501"]);
    let answer = ada.push(&batch).await;
    assert_eq!(answer["verdicts"][0]["made"]["greeting"], "hello 1", "{answer}");
    let answer = ada.changes(None, &json!([{ "table": "messages" }]), 10).await;
    assert_eq!(answer["collections"][0]["rows"][0]["greeting"], "hello 1");
    let update = operation(
        2,
        "update",
        "messages",
        "1",
        answer["collections"][0]["rows"][0]["tidelock_version"].as_str(),
        json!({ "greeting": "x" }),
    );
    assert_eq!(ada.verdicts(&json!([update])).await, ["applied"]);
}

#[tokio::test]
async fn a_user_tells_of_own_backups_only_and_the_anonymous_of_none() {
    let kit = Kit::with("").await;
    let (ada, bob, anon) = (kit.user(ADA).await, kit.user(BOB).await, anonymous(&kit).await);
    let notice = |columns: &str, values: &str| {
        format!(
            "insert into tidelock_backups (place, id, device, path, kind, reason, timestamp, bytes, records, pending, client_id,
               encrypted, digest{columns})
             values ('here', 'one', 'd', 'p', 'full', 'requested', now(), 1, 1, 0, 'c', false, 'x'{values})"
        )
    };
    ada.run(&notice("", "")).await;
    bob.run(&notice("", "")).await;
    assert_eq!(anon.refused(&notice("", "")).await, "23514", "they are nobody's");
    assert_eq!(bob.refused(&notice(", owner", &format!(", '{ADA}'"))).await, "42501");
    assert_eq!(bob.refused(&format!("update tidelock_backups set owner = '{ADA}'")).await, "42501");
    bob.run("update tidelock_backups set device = 'his'; delete from tidelock_backups").await;
    let seen = "select owner || ' ' || device from tidelock_backups";
    assert_eq!(ada.column(seen).await, [format!("{ADA} d")]);
    assert!(bob.column(seen).await.is_empty() && anon.column(seen).await.is_empty());
    // Installed again, it keeps what it was told.
    kit.owner.run(&tidelock_testbed::kit::script().unwrap()).await;
    assert_eq!(kit.owner.column(seen).await, [format!("{ADA} d")]);
}
