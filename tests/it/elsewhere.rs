//! Backups that a user's other devices see, and get.

use tidelock::{Config, Document, Point, RestoreMode, RestoreRequest, Tidelock};
use tidelock_testbed::{HoldAt, ProjectOptions, Session, Storage};

use crate::support::{Device, Dice, World};

async fn world() -> World {
    world_with(Storage::Off).await
}

async fn world_with(storage: Storage) -> World {
    World::with(ProjectOptions { kit: vec![("notes", None)], storage, ..ProjectOptions::default() }).await
}

/// What makes a device upload its backups.
const UPLOADED: &str = "upload = \"backups\"\nencrypt = \"passphrase\"\npassphrase = \"correct horse\"";

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

/// Backs up, and waits until the server knows of it.
async fn back_up(device: &Device) -> String {
    let before = device.told(|status| status.backups_published_at.is_some()).await.backups_published_at;
    let id = device.tidelock.backup().await.unwrap().id;
    device.told(|status| status.backups_published_at > before).await;
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
    let nobody = device_of(&world, "nobody", None, "").tidelock.backups().list_everywhere().await;
    assert_eq!(nobody.unwrap_err().code(), "unauthorized", "that is not: there are none");
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
    let status = phone.told(|status| status.publish_error.is_some()).await;
    assert_eq!((status.backups_published_at, status.backup_error), (None, None));
    world.network.set_offline(false);
    phone.told(|status| status.publish_error.is_none() && status.backups_published_at.is_some()).await;
    assert_eq!(seen_by(&phone).await, [(id, false)]);
}

#[tokio::test]
async fn without_a_kit_or_a_user_nobody_complains_and_a_bucket_is_asked_after() {
    let world = World::new().await;
    let session = world.project.any_user().await.unwrap();
    let mut gate = world.network.pause_next("GET", "/rest/v1/tidelock_backups", HoldAt::Response);
    let phone = device_of(&world, "phone", Some(&session), "");
    assert!(gate.reached().await);
    gate.release();
    let mut again = world.network.pause_next("GET", "/rest/v1/tidelock_backups", HoldAt::Request);
    phone.tidelock.backup().await.unwrap();
    assert!(again.reached().await, "it asks again when there is something new to tell");
    let status = phone.tidelock.status();
    assert_eq!((status.publish_error, status.backups_published_at), (None, None));
    again.release();
    let error = phone.tidelock.backups().list_everywhere().await.unwrap_err().to_string();
    assert!(error.contains("tidelock remote sql"), "{error}");
    let nobody = device_of(&world, "nobody", None, UPLOADED);
    let status = nobody.told(|status| status.publish_error.is_some()).await;
    assert!(status.publish_error.unwrap().contains("nobody is signed in"));
}

/// Names of the files in the bucket.
async fn files(world: &World) -> String {
    world.value("select string_agg(name, ' ' order by name) from storage.objects where bucket_id = 'backups'").await
}

#[tokio::test]
async fn an_encrypted_backup_is_uploaded_and_a_new_device_is_made_of_it() {
    for storage in [Storage::Resumable, Storage::Plain] {
        let world = world_with(storage).await;
        let session = world.project.any_user().await.unwrap();
        let phone = device_of(&world, "phone", Some(&session), UPLOADED);
        phone.save("notes", "n-1", r#"{"body":"secret words"}"#).await;
        let full = back_up(&phone).await;
        phone.save("notes", "n-2", r#"{"body":"more"}"#).await;
        let log = back_up(&phone).await;
        assert!(full.ends_with("-full") && log.ends_with("-log"));
        let there = files(&world).await;
        let own = format!("{}/phone-", session.user_id);
        assert!(there.split(' ').all(|name| name.starts_with(&own)) && there.split(' ').count() == 2, "{there}");

        let laptop = device_of(&world, "laptop", Some(&session), UPLOADED);
        let notices = laptop.tidelock.backups().list_everywhere().await.unwrap();
        assert!(notices.iter().all(|notice| notice.encrypted && notice.object.is_some()), "{notices:?}");
        let file = world.folder("from-there.tidelock");
        let fetched = laptop.tidelock.backups().fetch(None, file.clone()).await.unwrap();
        assert_eq!(fetched.records, 2);
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(12).any(|window| window == b"secret words"), "encrypted here as well");
        let point = Point { backup: Some(file.display().to_string()), at: None };
        let request = RestoreRequest { point, mode: RestoreMode::Authority, dry_run: false };
        laptop.tidelock.restore(request).await.unwrap();
        assert_eq!(laptop.records("notes").await, phone.records("notes").await);

        let stranger = device_of(&world, "stranger", Some(&world.project.any_user().await.unwrap()), UPLOADED);
        let error = stranger.tidelock.backups().fetch(Some(full), world.folder("stolen")).await.unwrap_err();
        assert!(error.to_string().contains("no device of this user's has a backup"), "{error}");
    }
}

#[tokio::test]
async fn what_was_uploaded_goes_with_the_backup_and_what_is_there_is_not_sent_again() {
    let world = world_with(Storage::Resumable).await;
    let session = world.project.any_user().await.unwrap();
    let more =
        format!("{UPLOADED}\nincremental = false\nkeep_last = 1\nkeep_hourly = 0\nkeep_daily = 0\nkeep_weekly = 0");
    let phone = device_of(&world, "phone", Some(&session), &more);
    phone.save("notes", "n-1", r#"{"body":"one"}"#).await;
    back_up(&phone).await;
    let first = files(&world).await;
    phone.save("notes", "n-1", r#"{"body":"two"}"#).await;
    let second = back_up(&phone).await;
    let there = files(&world).await;
    assert!(there.contains(&second) && !there.contains(' ') && there != first, "{there}");

    // A device that was restarted asks, and sends what it has not told yet, once.
    assert!(phone.tidelock.backups().verify(None).await.unwrap().healthy);
    phone.tidelock.shutdown().await;
    let phone = device_of(&world, "phone", Some(&session), &more);
    phone.told(|status| status.backups_published_at.is_some()).await;
    assert_eq!(seen_by(&phone).await, [(second, true)]);
    phone.tidelock.shutdown().await;
    world.network.reset_counts();
    let phone = device_of(&world, "phone", Some(&session), &more);
    phone.told(|status| status.backups_published_at.is_some()).await;
    let sent = world.network.requests();
    assert!(!sent.is_empty() && sent.iter().all(|(method, _)| method == "GET"), "{sent:?}");
}

/// Documents that hardly compress, so many that a backup of them is of several parts.
async fn fill(device: &Device) {
    let mut dice = Dice::of_seed(7);
    for page in 0..8 {
        let documents = (0..1_000).map(|number| {
            let noise: String = (0..2_000).map(|_| char::from(b'a' + u8::try_from(dice.below(26)).unwrap())).collect();
            (format!("n-{page}-{number}"), Document::parse(&format!(r#"{{"body":"{noise}"}}"#)).unwrap())
        });
        device.tidelock.bulk_save("notes", documents.collect()).await.unwrap();
    }
}

#[tokio::test]
async fn an_upload_that_is_cut_goes_on_where_it_was_also_after_a_restart() {
    let world = world_with(Storage::Resumable).await;
    let session = world.project.any_user().await.unwrap();
    let phone = device_of(&world, "phone", Some(&session), UPLOADED);
    fill(&phone).await;
    phone.told(|status| status.backups_published_at.is_some()).await;
    // The first part arrives; before its answer comes, the device is gone.
    world.network.reset_counts();
    let mut gate = world.network.pause_next("PATCH", "/storage/v1/upload/resumable/*", HoldAt::Response);
    phone.tidelock.backup().await.unwrap();
    assert!(gate.reached().await);
    phone.tidelock.shutdown().await;
    gate.release();
    let begun =
        world.network.requests().iter().filter(|(method, path)| method == "POST" && path.contains("upload")).count();
    let phone = device_of(&world, "phone", Some(&session), UPLOADED);
    phone.told(|status| status.backups_published_at.is_some()).await;
    let requests = world.network.requests();
    let count =
        |method: &str| requests.iter().filter(|(m, path)| m == method && path.contains("upload/resumable")).count();
    assert_eq!((begun, count("POST")), (1, 1), "it was begun once: {requests:?}");
    assert!(count("HEAD") >= 1 && count("PATCH") >= 2, "{requests:?}");
    let fetched = phone.tidelock.backups().fetch(None, world.folder("fetched.tidelock")).await.unwrap();
    assert_eq!(fetched.records, 8_000);
}

/// What the server has for all users: rows, and files.
async fn held(world: &World) -> (String, String) {
    let rows = "select string_agg(owner || ' ' || place || ' ' || id, ', ' order by place, id) from tidelock_backups";
    (world.value(rows).await, files(world).await)
}

#[tokio::test]
async fn what_a_folder_never_told_of_is_not_taken_for_gone() {
    let world = world_with(Storage::Resumable).await;
    let session = world.project.any_user().await.unwrap();
    let phone = device_of(&world, "phone", Some(&session), UPLOADED);
    phone.save("notes", "n-1", r#"{"body":"one"}"#).await;
    back_up(&phone).await;
    phone.tidelock.shutdown().await;
    drop(phone);
    let before = held(&world).await;

    // The device was lost, and is set up anew at the same place.
    std::fs::remove_dir_all(world.folder("phone")).unwrap();
    let anew = device_of(&world, "phone", Some(&session), UPLOADED);
    anew.told(|status| status.backups_published_at.is_some()).await;
    assert_eq!(held(&world).await, before);
    anew.tidelock.backups().fetch(None, world.folder("fetched.tidelock")).await.unwrap();

    // Its folder is copied, and each takes backups of its own and forgets them.
    back_up(&anew).await;
    anew.tidelock.shutdown().await;
    let copied =
        std::process::Command::new("cp").arg("-r").args([world.folder("phone"), world.folder("copy")]).status();
    assert!(copied.unwrap().success());
    let before = held(&world).await;
    let copy = device_of(&world, "copy", Some(&session), UPLOADED);
    copy.told(|status| status.backups_published_at.is_some()).await;
    for view in copy.tidelock.backups().list().await.unwrap() {
        std::fs::remove_file(view.path).unwrap();
    }
    back_up(&copy).await;
    let (rows, names) = held(&world).await;
    assert!(before.0.split(", ").all(|row| rows.contains(row)), "{before:?} {rows}");
    assert!(before.1.split(' ').all(|name| names.contains(name)), "{before:?} {names}");
}

#[tokio::test]
async fn a_backup_that_is_damaged_here_stays_where_it_was_uploaded() {
    let world = world_with(Storage::Resumable).await;
    let session = world.project.any_user().await.unwrap();
    let phone = device_of(&world, "phone", Some(&session), UPLOADED);
    phone.save("notes", "n-1", r#"{"body":"one"}"#).await;
    let id = back_up(&phone).await;
    let before = held(&world).await;
    let file = phone.tidelock.backups().list().await.unwrap().remove(0).path;
    std::fs::write(&file, b"no backup any more").unwrap();
    back_up(&phone).await;
    let (rows, names) = held(&world).await;
    assert!(rows.contains(&before.0) && names.contains(&before.1) && rows.contains(&id), "{before:?} {rows} {names}");
}

#[tokio::test]
async fn what_is_not_encrypted_never_leaves_the_device() {
    let world = world_with(Storage::Resumable).await;
    let session = world.project.any_user().await.unwrap();
    let phone = device_of(&world, "phone", Some(&session), "");
    phone.save("notes", "n-1", r#"{"body":"one"}"#).await;
    let plain = back_up(&phone).await;
    phone.tidelock.shutdown().await;
    let phone = device_of(&world, "phone", Some(&session), UPLOADED);
    let status = phone.told(|status| status.publish_error.is_some()).await;
    let words = status.publish_error.unwrap();
    assert!(words.contains(&plain) && words.contains("is not encrypted"), "{words}");
    assert_eq!(files(&world).await, "");
    phone.save("notes", "n-2", r#"{"body":"two"}"#).await;
    let encrypted = phone.tidelock.backup().await.unwrap();
    assert!(encrypted.id.ends_with("-full"), "it continues nothing that can be read: {encrypted:?}");
    phone.told(|status| status.publish_error.is_none()).await;
    let names = files(&world).await;
    assert!(names.contains(&encrypted.id) && !names.contains(&plain), "{names}");
}

#[tokio::test]
async fn h26_another_user_of_the_same_store_is_not_told_to_have_its_backups() {
    let world = world_with(Storage::Resumable).await;
    let [ada, bob] = [world.project.any_user().await.unwrap(), world.project.any_user().await.unwrap()];
    let phone = device_of(&world, "phone", Some(&ada), UPLOADED);
    phone.save("notes", "n-1", r#"{"body":"one"}"#).await;
    back_up(&phone).await;
    let before = held(&world).await;
    phone.tidelock.set_access_token(Some(bob.access_token.clone().into()));
    phone.tidelock.backup().await.unwrap();
    let status = phone.told(|status| status.publish_error.is_some()).await;
    assert!(status.publish_error.unwrap().contains("another user's"));
    assert_eq!(held(&world).await, before);
    phone.tidelock.set_access_token(Some(ada.access_token.clone().into()));
    phone.told(|status| status.publish_error.is_none()).await;
    assert!(held(&world).await.0.len() > before.0.len());
}

/// Refuses the first row that comes, as a server does that is busy with another one.
const BUSY_ONCE: &str = "
    create sequence public.tries;
    grant usage on sequence public.tries to public;
    create function public.busy_once() returns trigger language plpgsql as $$
    begin
      if nextval('public.tries') = 1 then
        raise exception 'busy' using errcode = '40001';
      end if;
      return new;
    end $$;
    create trigger busy before insert on public.notes for each row execute function public.busy_once()";

#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_async_waits_for_the_server_as_well() {
    let world = world().await;
    let phone = device_of(&world, "phone", Some(&world.project.any_user().await.unwrap()), "");
    let id = back_up(&phone).await;
    world.project.sql(BUSY_ONCE).await.unwrap();
    phone.save("notes", "a", r#"{"body":"one"}"#).await;
    let tidelock = phone.tidelock.clone();
    let without_async = std::thread::spawn(move || {
        let listed = tidelock::blocking(tidelock.backups().list_everywhere()).unwrap();
        tidelock::blocking(tidelock.probe()).unwrap();
        tidelock::blocking(tidelock.inspect()).unwrap();
        tidelock::blocking(tidelock.wait_synced()).unwrap();
        listed.into_iter().map(|notice| notice.id).collect::<Vec<_>>()
    });
    let listed = tokio::task::spawn_blocking(|| without_async.join()).await.unwrap().unwrap();
    assert_eq!(listed, [id]);
    assert_eq!(world.value("select last_value > 1 from public.tries").await, "t", "it was refused and waited");
    assert_eq!(phone.tidelock.status().pending, 0);
}
