//! The same record edited on two devices, for each strategy.

use tidelock::{Choice, Document};

use crate::support::{Device, World, uuid};

/// Two devices that both edited project 1: there first on the server, here still to be sent.
async fn edited_on_both_sides(world: &World, strategy: &str) -> (Device, Device) {
    let more = format!("conflict = \"{strategy}\"");
    let text = |name: &str| {
        let all = world.config_text(&world.folder(name), &format!("auto = false\n{more}"));
        tidelock::Config::from_toml(&all).unwrap()
    };
    let open =
        |name: &str| Device { tidelock: tidelock::Tidelock::open(text(name)).unwrap(), directory: world.folder(name) };
    let (here, there) = (open("here"), open("there"));
    here.save("tasks", &uuid(1), r#"{"title":"base","n":1,"done":false}"#).await;
    here.sync().await;
    there.sync().await;
    there.save("tasks", &uuid(1), r#"{"title":"there","done":true}"#).await;
    there.sync().await;
    here.save("tasks", &uuid(1), r#"{"title":"here","n":2}"#).await;
    (here, there)
}

async fn outcome(strategy: &str) -> (String, World, Device, Device) {
    let world = World::new().await;
    let (here, there) = edited_on_both_sides(&world, strategy).await;
    let report = here.sync().await;
    assert_eq!(report.conflicts, 1, "{strategy}");
    here.sync_until_settled().await;
    there.sync_until_settled().await;
    let on_server = world.value("select title || ' ' || n || ' ' || done from public.tasks").await;
    for device in [&here, &there] {
        let title = device.field("tasks", &uuid(1), "title").await;
        assert!(
            strategy == "manual" || on_server.starts_with(title.trim_matches('"')),
            "{strategy}: {title} {on_server}"
        );
        device.assert_healthy().await;
    }
    (on_server, world, here, there)
}

#[tokio::test]
async fn local_wins_sends_the_local_document() {
    assert_eq!(outcome("local-wins").await.0, "here 2 false");
}

#[tokio::test]
async fn remote_wins_takes_the_servers_row() {
    assert_eq!(outcome("remote-wins").await.0, "there 1 true");
}

#[tokio::test]
async fn newest_wins_keeps_the_later_change() {
    assert_eq!(outcome("newest-wins").await.0, "here 2 false");
}

#[tokio::test]
async fn merge_takes_each_field_from_the_side_that_changed_it() {
    assert_eq!(outcome("merge").await.0, "here 2 true");
}

#[tokio::test]
async fn h33_the_loser_is_kept_and_can_be_brought_back() {
    let (_, world, here, _there) = outcome("remote-wins").await;
    let conflicts = here.tidelock.conflicts(true).await.unwrap();
    assert_eq!(conflicts.len(), 1);
    let local = conflicts[0].local.as_ref().unwrap();
    assert_eq!(local.string("title").as_deref(), Some("here"));
    here.tidelock.undo(conflicts[0].id).await.unwrap();
    here.sync_until_settled().await;
    assert_eq!(world.value("select title || ' ' || n from public.tasks").await, "here 2");
    assert!(here.tidelock.undo(conflicts[0].id).await.is_err(), "once is enough");
}

#[tokio::test]
async fn manual_holds_the_record_until_somebody_decides() {
    for (choice, expected) in [
        (Choice::Local, "here 2 false"),
        (Choice::Remote, "there 1 true"),
        (Choice::Merged(Document::parse(r#"{"title":"both","n":3,"done":true}"#).unwrap()), "both 3 true"),
    ] {
        let world = World::new().await;
        let (here, _there) = edited_on_both_sides(&world, "manual").await;
        here.sync().await;
        let status = here.tidelock.status();
        assert_eq!((status.conflicts, status.pending, status.parked), (1, 0, 0));
        here.save("tasks", &uuid(2), r#"{"title":"unrelated"}"#).await;
        here.sync().await;
        assert_eq!(world.rows("tasks").await.len(), 2, "everything else flows");
        assert_eq!(here.field("tasks", &uuid(1), "title").await, r#""here""#, "the local edit stays on the screen");

        let open = here.tidelock.conflicts(false).await.unwrap();
        here.tidelock.resolve(open[0].id, choice).await.unwrap();
        here.sync_until_settled().await;
        let on_server = format!("select title || ' ' || n || ' ' || done from public.tasks where id = '{}'", uuid(1));
        assert_eq!(world.value(&on_server).await, expected);
        assert_eq!(here.tidelock.status().conflicts, 0);
        here.assert_healthy().await;
    }
}

#[tokio::test]
async fn a_deletion_against_an_edit_is_a_conflict_too() {
    let world = World::new().await;
    let (here, there) = (world.device("here"), world.device("there"));
    for number in [1, 2] {
        here.save("tasks", &uuid(number), r#"{"title":"base"}"#).await;
    }
    here.sync().await;
    there.sync().await;
    there.tidelock.delete("tasks", &uuid(1)).await.unwrap();
    there.save("tasks", &uuid(2), r#"{"title":"edited there"}"#).await;
    there.sync().await;
    here.save("tasks", &uuid(1), r#"{"title":"edited here"}"#).await;
    here.tidelock.delete("tasks", &uuid(2)).await.unwrap();
    here.sync_until_settled().await;
    there.sync_until_settled().await;
    // Edits win over a deletion of unknown time; the later deletion wins over the earlier edit.
    assert_eq!(world.value("select string_agg(title, ',') from public.tasks").await, "edited here");
    assert_eq!(there.records("tasks").await.len(), 1);
    assert_eq!(here.tidelock.conflicts(true).await.unwrap().len(), 2);
}

#[tokio::test]
async fn h24_a_pull_does_not_overwrite_what_is_still_to_be_sent() {
    let world = World::new().await;
    let (here, there) = edited_on_both_sides(&world, "local-wins").await;
    let request = tidelock::SyncRequest { push: false, ..Default::default() };
    here.tidelock.sync(request).await.unwrap();
    assert_eq!(here.field("tasks", &uuid(1), "title").await, r#""here""#, "the screen does not flicker back");
    here.sync_until_settled().await;
    there.sync_until_settled().await;
    assert_eq!(there.field("tasks", &uuid(1), "title").await, r#""here""#);
}

#[tokio::test]
async fn a_hosts_own_resolver_decides() {
    struct Longest;
    impl tidelock::Resolver for Longest {
        fn resolve(&self, contested: &tidelock::model::Contested) -> tidelock::model::Outcome {
            let title = |document: &Document| document.string("title").unwrap_or_default();
            match (&contested.local, &contested.remote) {
                (Some(local), tidelock::model::RemoteState::Present { document, .. })
                    if title(local).len() > title(document).len() =>
                {
                    tidelock::model::Outcome::Keep(Some(document.overlaid(local)))
                }
                _ => tidelock::model::Outcome::TakeRemote,
            }
        }
    }
    let world = World::new().await;
    let (here, there) = edited_on_both_sides(&world, "newest-wins").await;
    here.tidelock.shutdown().await;
    let config = here.tidelock.config();
    let mut extras = tidelock::Extras::default();
    extras.resolvers.insert("tasks".into(), std::sync::Arc::new(Longest));
    let again = Device { tidelock: tidelock::Tidelock::open_with(config, extras).unwrap(), directory: here.directory };
    again.sync_until_settled().await;
    there.sync_until_settled().await;
    assert_eq!(there.field("tasks", &uuid(1), "title").await, r#""there""#);
    assert_eq!(again.tidelock.conflicts(true).await.unwrap()[0].strategy, "custom");
}
