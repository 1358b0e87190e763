//! Backups that a user's other devices see, and get.

use std::time::Duration;

use tidelock::{Config, Status, Tidelock};
use tidelock_testbed::{ProjectOptions, Session};

use crate::support::{Device, World};

async fn world() -> World {
    let tables = vec![("notes", None)];
    World::with(ProjectOptions { kit: tables, ..ProjectOptions::default() }).await
}

/// A device of a user's, who need not be signed in; `more` goes into `[backup]`.
fn device_of(world: &World, name: &str, session: Option<&Session>, more: &str) -> Device {
    let directory = world.folder(name);
    let text = format!(
        "[remote]\nurl = \"{}\"\nanon_key = \"{}\"\naccess_token = \"{}\"\n[sync]\nauto = false\nretry_delay = \"50ms\"\n\
         retry_delay_max = \"200ms\"\n[storage]\ndata_dir = \"{}\"\n[backup]\nenabled = false\n{more}\n\
         [collections.notes]\ntable = \"notes\"",
        world.network.url,
        world.project.publishable_key,
        session.map_or("", |session| &session.access_token),
        directory.display(),
    );
    Device { tidelock: Tidelock::open(Config::from_toml(&text).unwrap()).unwrap(), directory }
}

/// Waits until the status says it.
async fn told(device: &Device, what: impl Fn(&Status) -> bool) -> Status {
    use futures::StreamExt;
    let mut statuses = device.tidelock.status_stream();
    let waiting = async { statuses.by_ref().filter(|status| futures::future::ready(what(status))).next().await };
    match tokio::time::timeout(Duration::from_secs(60), waiting).await {
        Ok(status) => status.unwrap(),
        Err(_) => panic!("it never came: {:?}", device.tidelock.status()),
    }
}

/// Backs up, and waits until the server knows of it.
async fn back_up(device: &Device) -> String {
    let before = told(device, |status| status.backups_published_at.is_some()).await.backups_published_at;
    let id = device.tidelock.backup().await.unwrap().id;
    told(device, |status| status.backups_published_at > before).await;
    id
}

async fn seen_by(device: &Device) -> Vec<(String, bool)> {
    let notices = device.tidelock.backups().list_everywhere().await.unwrap();
    notices.into_iter().map(|notice| (notice.id, notice.verified_at.is_some())).collect()
}

#[tokio::test]
async fn a_users_devices_see_each_others_backups_and_nobody_else_does() {
    let world = world().await;
    let (mine, other) = (world.project.any_user().await.unwrap(), world.project.any_user().await.unwrap());
    let phone = device_of(
        &world,
        "phone",
        Some(&mine),
        "keep_last = 2\nkeep_hourly = 0\nkeep_daily = 0\nkeep_weekly = 0\nincremental = false",
    );
    let laptop = device_of(&world, "laptop", Some(&mine), "");
    phone.save("notes", "n-1", r#"{"body":"secret words"}"#).await;
    let first = back_up(&phone).await;
    assert_eq!(seen_by(&laptop).await, [(first.clone(), false)]);
    let notice = laptop.tidelock.backups().list_everywhere().await.unwrap().remove(0);
    assert_eq!((notice.records, notice.pending, notice.object), (1, 1, None));
    assert!(notice.path.contains("phone") && notice.place.starts_with("phone-"));

    phone.save("notes", "n-2", r#"{"body":"more"}"#).await;
    let second = back_up(&phone).await;
    phone.save("notes", "n-3", r#"{"body":"still more"}"#).await;
    let third = back_up(&phone).await;
    assert_eq!(seen_by(&laptop).await, [(third, false), (second, false)], "{first} is gone here and there");

    let stranger = device_of(&world, "stranger", Some(&other), "");
    assert_eq!(seen_by(&stranger).await, []);
    assert_eq!(seen_by(&device_of(&world, "nobody", None, "")).await, []);
    let all = world.value("select string_agg(b::text, '') from tidelock_backups b").await;
    assert!(!all.is_empty() && !all.contains("secret words"));
}

#[tokio::test]
async fn a_server_that_is_away_is_told_once_it_is_back() {
    let world = world().await;
    let session = world.project.any_user().await.unwrap();
    world.network.set_offline(true);
    let phone = device_of(&world, "phone", Some(&session), "");
    let id = phone.tidelock.backup().await.unwrap().id;
    let status = told(&phone, |status| status.publish_error.is_some()).await;
    assert_eq!((status.backups_published_at, status.backup_error), (None, None));
    world.network.set_offline(false);
    told(&phone, |status| status.publish_error.is_none() && status.backups_published_at.is_some()).await;
    assert_eq!(seen_by(&phone).await, [(id, false)]);
}

#[tokio::test]
async fn without_a_kit_or_a_user_nobody_complains_and_a_bucket_is_asked_after() {
    let world = World::new().await;
    let session = world.project.any_user().await.unwrap();
    let phone = device_of(&world, "phone", Some(&session), "");
    phone.tidelock.backup().await.unwrap();
    assert_eq!(phone.tidelock.status().publish_error, None);
    let error = phone.tidelock.backups().list_everywhere().await.unwrap_err().to_string();
    assert!(error.contains("tidelock remote sql"), "{error}");
    let upload = "upload = \"backups\"\nencrypt = \"passphrase\"\npassphrase = \"correct horse\"";
    let nobody = device_of(&world, "nobody", None, upload);
    let status = told(&nobody, |status| status.publish_error.is_some()).await;
    assert!(status.publish_error.unwrap().contains("nobody is signed in"));
}
