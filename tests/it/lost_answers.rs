//! An answer is lost after the server has committed, and the record goes on changing here.

use tidelock_testbed::HoldAt;

use crate::support::{Device, World, uuid};

/// A device whose create of task 1 has reached the server without its knowing.
async fn with_a_lost_answer(world: &World, strategy: &str) -> Device {
    let directory = world.folder("here");
    let text = world.config_text(&directory, &format!("auto = false\nconflict = \"{strategy}\""));
    let text = text.replace(r#"timeout = "10s""#, r#"timeout = "1s""#);
    let tidelock = tidelock::Tidelock::open(tidelock::Config::from_toml(&text).unwrap()).unwrap();
    let device = Device { tidelock, directory };
    device.save("tasks", &uuid(1), r#"{"title":"first","n":1}"#).await;
    let held = world.network.pause_next("POST", &world.push_path("tasks"), HoldAt::Response);
    assert!(device.tidelock.sync(Default::default()).await.is_err());
    drop(held);
    assert_eq!(world.rows("tasks").await.len(), 1, "the server has it");
    device
}

#[tokio::test]
async fn h17_a_record_deleted_after_a_lost_answer_is_deleted_on_the_server_too() {
    for world in World::both().await {
        let device = with_a_lost_answer(&world, "newest-wins").await;
        device.tidelock.delete("tasks", &uuid(1)).await.unwrap();
        device.sync_until_settled().await;
        assert!(world.rows("tasks").await.is_empty());
        assert!(device.records("tasks").await.is_empty(), "and does not come back");
    }
}

#[tokio::test]
async fn h54_ones_own_edit_after_a_lost_answer_is_no_conflict() {
    for (world, strategy) in World::both().await.into_iter().zip(["remote-wins", "manual"]) {
        let device = with_a_lost_answer(&world, strategy).await;
        device.save("tasks", &uuid(1), r#"{"title":"second"}"#).await;
        device.sync_until_settled().await;
        assert_eq!(world.value("select title || ' ' || n from public.tasks").await, "second 1", "{strategy}");
        assert!(device.tidelock.conflicts(true).await.unwrap().is_empty(), "{strategy}");
    }
}

#[tokio::test]
async fn h47_what_was_sent_before_a_restart_is_remembered() {
    for world in World::both().await {
        let device = with_a_lost_answer(&world, "remote-wins").await;
        device.save("tasks", &uuid(1), r#"{"title":"second"}"#).await;
        device.tidelock.shutdown().await;
        let again = tidelock::Tidelock::open(device.tidelock.config()).unwrap();
        let device = Device { tidelock: again, directory: device.directory };
        device.sync_until_settled().await;
        assert_eq!(world.value("select title || ' ' || n from public.tasks").await, "second 1");
        assert!(device.tidelock.conflicts(true).await.unwrap().is_empty());
    }
}
