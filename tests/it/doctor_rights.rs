//! What the doctor says of rights and of slow tables: neither more than it can know, nor advice that opens a table to
//! everybody.

use tidelock::{Checkup, Config, Tidelock};

use crate::doctor::{assert_said, lines, users_device};
use crate::support::{Device, World, uuid};

/// A device of nobody in particular.
fn device(world: &World, name: &str, remote: &str, collections: &str) -> Device {
    let directory = world.folder(name);
    let text = format!(
        "[remote]\nurl = \"{}\"\nanon_key = \"{}\"\n{remote}\n[sync]\nauto = false\n[storage]\ndata_dir = \"{}\"\n\
         {collections}",
        world.network.url,
        world.project.publishable_key,
        directory.display()
    );
    Device { tidelock: Tidelock::open(Config::from_toml(&text).unwrap()).unwrap(), directory }
}

/// What is advised where rights are missing.
fn advice(checkup: &Checkup) -> Vec<&str> {
    let rights = checkup.checks.iter().filter(|one| one.check == "row-level security" && !one.next.is_empty());
    rights.map(|one| &*one.next).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_signed_in_is_told_to_sign_in_and_never_to_let_everybody_write() {
    for world in [World::new().await, World::with_kit().await] {
        world.project.sql("revoke insert, delete on public.notes from anon").await.unwrap();
        let nobody = device(&world, "nobody", "", "[collections.notes]\n[collections.readonly_for_users]");
        let checkup = nobody.tidelock.doctor().await;
        let advised = advice(&checkup);
        assert!(!advised.is_empty(), "{:#?}", lines(&checkup));
        for next in advised {
            assert!(next.starts_with("sign in (remote.access_token)"), "{next}");
            assert!(["insert", "update", "delete"].iter().all(|verb| !next.contains(verb)), "{next}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_table_is_neither_a_fault_of_the_schema_nor_of_the_way() {
    let world = World::new().await;
    world
        .project
        .sql(
            "insert into public.notes values ('a', 'one');
             drop policy everybody on public.notes;
             create policy slow on public.notes using (pg_sleep(8) is not null);
             revoke delete on public.tasks from anon",
        )
        .await
        .unwrap();
    let slow = device(&world, "slow", "timeout = \"2s\"", "[collections.notes]\n[collections.tasks]");
    let found = lines(&slow.tidelock.doctor().await);
    assert_said(&found, "warning reading: notes: reading a row takes longer than 2 s");
    assert_said(&found, "row-level security: tasks: whoever is not signed in has no grant to delete");
    assert!(!found.iter().any(|line| line.starts_with("failure ") || line.starts_with("ok schema")), "{found:#?}");

    world
        .project
        .sql(
            "drop policy slow on public.notes;
             create function gives_up() returns boolean language plpgsql as
               $$ begin raise exception using errcode = '57014', message = 'canceling statement due to statement timeout'; end $$;
             create policy slow on public.notes using (gives_up())",
        )
        .await
        .unwrap();
    let found = lines(&slow.tidelock.doctor().await);
    assert_said(&found, "warning reading: notes: the server gave up reading a row (57014: canceling");
    assert!(!found.iter().any(|line| line.starts_with("failure ")), "{found:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_kit_only_a_denial_of_the_table_is_called_a_missing_grant() {
    let world = World::new().await;
    let user = users_device(&world, "user", "notes", "").await;
    world
        .project
        .sql("revoke update on public.notes from authenticated; grant update (body) on public.notes to authenticated")
        .await
        .unwrap();
    let found = lines(&user.tidelock.doctor().await);
    assert_said(
        &found,
        "warning row-level security: notes: this user has no grant to update in notes; whether there is one on some of its \
         columns only the server kit can tell",
    );
    world
        .project
        .sql(
            "grant update on public.notes to authenticated;
             create function denies() returns trigger language plpgsql as
               $$ begin raise exception using errcode = '42501', message = 'permission denied for function owns'; end $$;
             create trigger denies before update on public.notes for each statement execute function denies()",
        )
        .await
        .unwrap();
    let found = lines(&user.tidelock.doctor().await);
    assert_said(
        &found,
        "warning row-level security: notes: whether this user may update cannot be told without the kit (42501",
    );
    assert!(!found.iter().any(|line| line.contains("has no grant")), "{found:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn that_something_is_permitted_is_not_said_to_mean_every_row() {
    let world = World::with_kit().await;
    let pull = users_device(&world, "pull", "readonly_for_users", "direction = \"pull\"").await;
    world.project.sql(&format!("insert into public.readonly_for_users (id) values ('{}')", uuid(1))).await.unwrap();
    assert_said(&lines(&pull.tidelock.doctor().await), "what a policy says of single rows only a sync shows");
    world
        .project
        .sql(
            "create policy narrow on public.readonly_for_users as restrictive for select using (true);
             create view public.seen as select * from public.notes;
             grant all on public.seen to authenticated",
        )
        .await
        .unwrap();
    assert_said(
        &lines(&pull.tidelock.doctor().await),
        "only a sync shows (restrictive policies narrow readonly_for_users)",
    );
    let view = users_device(&world, "view", "seen", "").await;
    assert_said(
        &lines(&view.tidelock.doctor().await),
        "warning row-level security: seen: seen is a view or a foreign table: policies of what is behind it are not told",
    );
}
