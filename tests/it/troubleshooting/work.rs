//! What waits for somebody: operations that the server refused, and conflicts that are decided by hand.

use serde_json::json;

use super::guide::Section;
use super::{Scene, app};
use crate::support::{World, uuid};

pub const PARKED: &str = "Operations are parked";
pub const CONFLICTS: &str = "Conflicts wait for a decision";

#[tokio::test(flavor = "multi_thread")]
async fn parked_operations() {
    let mut section = Section::of(PARKED);
    let world = World::new().await;
    let text = app(&world, "");
    let scene = Scene::well(world, text);
    for number in 1..=2 {
        scene.desk.ok(&["put", "tasks", &uuid(number), r#"{"title":"stays","n":-1}"#]);
    }
    scene.until(|status| status["parked"] == 2);
    scene.look(&mut section);
    let listed = scene.desk.ok(&["queue", "list", "--state", "parked"]);
    section.assert_tells(
        "tidelock queue list --state parked",
        &listed.lines().skip(1).map(super::one_line).collect::<Vec<_>>(),
    );

    // One is mended, the other given up.
    let parked = scene.desk.json(&["queue", "list", "--state", "parked"]);
    let other = parked[1]["id"].to_string();
    assert!(scene.desk.ok(&["queue", "show", &parked[0]["id"].to_string()]).contains("stays"));
    scene.desk.ok(&["put", "tasks", &uuid(1), r#"{"n":1}"#]);
    scene.desk.ok(&["queue", "discard", &other]);
    scene.assert_well_again();
    assert_eq!(scene.world.value("select string_agg(title || n, ' ') from public.tasks").await, "stays1");
    let given_up = scene.desk.json(&["history", "tasks", &uuid(2)]);
    assert_eq!(given_up[0]["document"]["title"], "stays", "it can still be read: {given_up}");
    section.assert_seen();
}

#[tokio::test(flavor = "multi_thread")]
async fn conflicts_that_wait() {
    let mut section = Section::of(CONFLICTS);
    let world = World::new().await;
    let text = app(&world, "conflict = \"manual\"");
    let scene = Scene::well(world, text);
    scene.world.project.sql("update public.notes set body = 'there' where id = 'before'").await.unwrap();
    scene.desk.ok(&["put", "notes", "before", r#"{"body":"here"}"#]);
    scene.until(|status| status["conflicts"] == 1);
    scene.look(&mut section);

    let open = scene.desk.json(&["conflicts", "list"]);
    let id = open[0]["id"].to_string();
    let shown = scene.desk.ok(&["conflicts", "show", &id]);
    assert!(shown.contains("here") && shown.contains("there"), "{shown}");
    scene.desk.ok(&["conflicts", "resolve", &id, "--take", "local"]);
    scene.assert_well_again();
    assert_eq!(scene.world.value("select body from public.notes").await, "here");
    let lost = scene.desk.json(&["conflicts", "list", "--all"]);
    assert_eq!(lost[0]["remote"]["body"], json!("there"), "the side that lost is kept: {lost}");
    section.assert_seen();
}
