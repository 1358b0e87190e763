//! A data folder that is copied, as backup programs and disk images do: the copy is another device.

use std::path::Path;

use tidelock::{Config, Tidelock};

use crate::support::{Device, World, assert_equal, uuid};

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

fn open(world: &World, directory: &Path) -> Device {
    let config = Config::from_toml(&world.config_text(directory, "auto = false")).unwrap();
    Device { tidelock: Tidelock::open(config).unwrap(), directory: directory.to_owned() }
}

#[tokio::test]
async fn h31_a_cloned_data_folder_is_a_device_of_its_own_and_nothing_is_lost_or_doubled() {
    for world in World::both().await {
        let first = world.device("first");
        for number in 0..10 {
            first.save("projects", &uuid(number), r#"{"name":"synced"}"#).await;
        }
        first.sync().await;
        first.tidelock.backup().await.unwrap();
        for number in 5..15 {
            first.save("projects", &uuid(number), r#"{"name":"waiting"}"#).await;
        }
        first.tidelock.delete("projects", &uuid(0)).await.unwrap();
        let directory = first.directory.clone();
        first.tidelock.shutdown().await;
        drop(first);
        copy(&directory, &world.folder("clone"));

        let (first, clone) = (open(&world, &directory), open(&world, &world.folder("clone")));
        assert_eq!((first.tidelock.status().pending, clone.tidelock.status().pending), (11, 11));
        // Both send what both have, and go on with numbers that both would give.
        first.save("notes", "first", r#"{"body":"of the first"}"#).await;
        clone.save("notes", "clone", r#"{"body":"of the clone"}"#).await;
        clone.save("projects", &uuid(7), r#"{"name":"by the clone"}"#).await;
        for device in [&first, &clone, &first, &clone] {
            device.sync_until_settled().await;
        }
        for collection in ["projects", "notes"] {
            let rows = world.rows(collection).await;
            assert_equal(&first.records(collection).await, &rows, collection);
            assert_equal(&clone.records(collection).await, &rows, collection);
        }
        assert_eq!(world.rows("projects").await.len(), 14);
        assert_eq!(world.rows("notes").await.len(), 2);
        assert_eq!(first.field("projects", &uuid(7), "name").await, r#""by the clone""#);
        for device in [&first, &clone] {
            let status = device.tidelock.status();
            assert_eq!((status.pending, status.parked, status.conflicts), (0, 0, 0));
            device.assert_healthy().await;
            // The clone's backups are its own from here on.
            device.tidelock.backup().await.unwrap();
            assert!(device.tidelock.backups().verify(None).await.unwrap().healthy);
        }
        let of = async |device: &Device| device.tidelock.backups().list().await.unwrap()[0].client_id.clone();
        assert_ne!(of(&first).await, of(&clone).await);
    }
}
