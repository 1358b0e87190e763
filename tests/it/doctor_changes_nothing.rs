//! That the doctor only looks: nothing on the server and no backup is other than before, and no store is made.

use std::collections::BTreeMap;
use std::fs;

use tidelock::{Config, Tidelock};
use tidelock_testbed::ProjectOptions;

use crate::command_line::Desk;
use crate::support::{Device, World};

/// What the server was told of, with the transactions that wrote it, and the backups' folder to the last byte.
async fn told_and_kept(world: &World, desk: &Desk) -> (String, BTreeMap<String, Vec<u8>>) {
    let told = world.value("select string_agg(b.xmin::text || b::text, ' ' order by id) from tidelock_backups b").await;
    let files = fs::read_dir(desk.path("data/backups")).unwrap().map(|file| {
        let file = file.unwrap();
        (file.file_name().to_string_lossy().into_owned(), fs::read(file.path()).unwrap())
    });
    (told, files.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_is_told_of_no_backup_by_who_only_looks() {
    let world = World::with(ProjectOptions { kit: vec![("notes", None)], ..ProjectOptions::default() }).await;
    let session = world.project.any_user().await.unwrap();
    let text = format!(
        "[remote]\nurl = \"{}\"\nanon_key = \"{}\"\naccess_token = \"{}\"\n[sync]\nauto = false\n[storage]\n\
         data_dir = \"data\"\n[collections.notes]",
        world.network.url, world.project.publishable_key, session.access_token
    );
    let desk = Desk::with(&text);
    let config = |more: &str| {
        let mut config = Config::from_toml(&format!("{text}\n[backup]\n{more}")).unwrap();
        config.storage.data_dir = desk.path("data");
        config
    };
    let open = |more: &str| Device { tidelock: Tidelock::open(config(more)).unwrap(), directory: desk.path("data") };
    let device = open("");
    device.save("notes", "a", r#"{"body":"one"}"#).await;
    device.tidelock.backup().await.unwrap();
    device.told(|status| status.backups_published_at.is_some()).await;
    device.tidelock.shutdown().await;
    drop(device);
    // One that the server does not know of.
    let silent = open("publish = false");
    silent.tidelock.backup().await.unwrap();
    silent.tidelock.shutdown().await;
    drop(silent);

    let before = told_and_kept(&world, &desk).await;
    assert!(before.0.contains("-full") && before.1.len() > 2, "{before:?}");
    for words in [&["doctor"][..], &["status"], &["doctor", "--json"], &["list", "notes"]] {
        desk.ok(words);
        assert_eq!(told_and_kept(&world, &desk).await, before, "{words:?}");
    }
}

#[test]
fn no_store_is_made_where_there_is_none() {
    let desk = Desk::with("[storage]\ndata_dir = \"data\"\n[collections.notes]");
    let said = desk.ok(&["doctor"]);
    assert!(said.contains("store") && said.contains("there is none yet in "), "{said}");
    assert!(said.contains("any command that saves, makes it"), "{said}");
    assert!(!desk.path("data").exists());
}

#[test]
fn a_damaged_store_is_told_of_and_left_as_it_is() {
    let desk = Desk::with("[storage]\ndata_dir = \"data\"\n[collections.notes]");
    desk.ok(&["put", "notes", "a", "{}"]);
    fs::write(desk.path("data/tidelock.db"), "no database").unwrap();
    let said = desk.run(&["doctor"]);
    assert!(said.exit == 1 && said.said.contains("the store is damaged ("), "{}", said.said);
    assert!(said.said.contains("tidelock verify --repair"), "{}", said.said);
    assert_eq!(fs::read(desk.path("data/tidelock.db")).unwrap(), b"no database");
    assert!(!desk.path("data/damaged").exists());
}
