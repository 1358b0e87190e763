//! The server: away, restricted, of another mind about the time, without a table or without the kit.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

use super::guide::Section;
use super::{SOON, Scene, app, signed_in};
use crate::support::World;

pub const MISSING_TABLE: &str = "A table is missing";
pub const CLOCK: &str = "This device's clock is wrong";
pub const DOWN: &str = "The server is down";
pub const RESTRICTED: &str = "The project's quota is used up";
pub const KIT: &str = "The server kit is missing or old";

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const RELOAD: &str = "notify pgrst, 'reload schema'";

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_table() {
    let mut section = Section::of(MISSING_TABLE);
    for world in World::both().await {
        let session = world.project.any_user().await.unwrap();
        let text = signed_in(&app(&world, ""), &session.access_token);
        let scene = Scene::well(world, text);
        let sql = async |statement: &str| scene.world.project.sql(&format!("{statement}; {RELOAD}")).await.unwrap();
        sql("alter table public.notes rename to memos").await;
        scene.put("waits");
        scene.look(&mut section);

        sql("alter table public.memos rename to notes").await;
        scene.sync();
        scene.assert_well_again();
        scene.assert_notes(["before", "waits"]).await;
    }
    section.assert_seen();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_by_a_day() {
    let mut section = Section::of(CLOCK);
    let world = World::new().await;
    let text = app(&world, "");
    let scene = Scene::well(world, text);
    for servers in [Timestamp::now() - DAY, Timestamp::now() + DAY] {
        let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&servers).unwrap();
        scene.world.network.set_date(Some(&date));
        scene.put("meanwhile");
        scene.desk.ok(&["sync"]);
        scene.look(&mut section);
    }
    // The clock is set.
    scene.world.network.set_date(None);
    scene.desk.ok(&["sync"]);
    scene.assert_well_again();
    scene.assert_notes(["before", "meanwhile"]).await;
    section.assert_seen();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down() {
    let world = World::new().await;
    if world.project.is_external() {
        println!("not on an external project: it cannot be stopped from here");
        return;
    }
    let mut section = Section::of(DOWN);
    let text = app(&world, "stall_after = \"2s\"").replace(&world.network.url, &world.project.url);
    let mut scene = Scene::well(world, text);
    scene.world.project.stop_server().unwrap();
    scene.put("waits");
    scene.look(&mut section);

    scene.world.project.start_server().await.unwrap();
    scene.assert_well_again();
    scene.assert_notes(["before", "waits"]).await;
    section.assert_seen();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_that_is_restricted() {
    let mut section = Section::of(RESTRICTED);
    let world = World::new().await;
    let text = app(&world, "");
    let scene = Scene::well(world, text);
    scene.world.network.set_instead(Some((402, r#"{"message":"exceed_egress_quota"}"#)));
    scene.put("waits");
    scene.look(&mut section);

    scene.world.network.set_instead(None);
    scene.assert_well_again();
    scene.assert_notes(["before", "waits"]).await;
    section.assert_seen();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kit_that_is_missing_or_old() {
    let mut section = Section::of(KIT);
    // It is old.
    let world = World::with_kit().await;
    let session = world.project.any_user().await.unwrap();
    let text = signed_in(&app(&world, ""), &session.access_token);
    let scene = Scene::well(world, text.clone());
    let apply = async |words: &[&str]| {
        let printed = scene.desk.ok(&[&["remote", "sql"], words].concat());
        scene.world.project.sql(&printed).await.unwrap();
    };
    scene.world.project.sql("update tidelock.kit set version = 2").await.unwrap();
    scene.put("meanwhile");
    scene.look(&mut section);
    apply(&[]).await;
    scene.assert_well_again();

    // It is removed, and installed again: that is another kit, which knows nothing of the past.
    apply(&["--remove"]).await;
    scene.put("waits");
    scene.look(&mut section);
    apply(&[]).await;
    // The server takes a moment to notice its new functions.
    let began = Instant::now();
    while scene.desk.run(&["remote", "check"]).said.contains("the server kit is not installed") {
        assert!(began.elapsed() < SOON, "the kit was installed");
    }
    scene.desk.run(&["sync"]);
    scene.look(&mut section);
    scene.desk.ok(&["sync", "--accept-server"]);
    scene.assert_well_again();
    scene.assert_notes(["before", "meanwhile", "waits"]).await;

    // It was never there, and is insisted on.
    let world = World::new().await;
    let session = world.project.any_user().await.unwrap();
    let text = signed_in(&app(&world, ""), &session.access_token);
    let mut scene = Scene::well(world, text.clone());
    scene.configure(&text.replace("[remote]", "[remote]\nmode = \"kit\""));
    scene.restart();
    scene.put("waits");
    scene.look(&mut section);
    let printed = scene.desk.ok(&["remote", "sql"]);
    scene.world.project.sql(&printed).await.unwrap();
    scene.sync();
    // Of a kit the doctor has more to say, which is no trouble.
    scene.usual.extend(scene.troubles().into_iter().filter(|line| line.contains("has no owner")));
    scene.assert_well_again();
    scene.assert_notes(["before", "waits"]).await;
    section.assert_seen();
}
