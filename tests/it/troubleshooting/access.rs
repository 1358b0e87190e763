//! Who may do what: the key, the session, and what row-level security denies.

use serde_json::json;

use super::guide::Section;
use super::{Scene, app, signed_in};
use crate::support::World;

pub const WRONG_KEY: &str = "The key is wrong";
pub const EXPIRED: &str = "The session has expired";
pub const DENIED: &str = "Row-level security denies it";

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key() {
    let mut section = Section::of(WRONG_KEY);
    let world = World::new().await;
    let text = app(&world, "");
    let mut scene = Scene::well(world, text);
    scene.configure(&scene.text.replace(&scene.world.project.publishable_key, "sb_publishable_of_another_project"));
    scene.restart();
    scene.put("waits");
    scene.look(&mut section);

    scene.configure(&scene.text);
    scene.restart();
    scene.assert_well_again();
    scene.assert_notes(["before", "waits"]).await;
    section.assert_seen();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_session() {
    let world = World::new().await;
    if world.project.is_external() {
        println!("not on an external project: its tokens are not ours to make");
        return;
    }
    let mut section = Section::of(EXPIRED);
    let (email, password) = ("ada@example.com", "a password for tests");
    let session = world.project.sign_up(email, password).await.unwrap();
    let text = app(&world, "");
    let scene = Scene::well(world, signed_in(&text, &session.access_token));
    let ended = jiff::Timestamp::now().as_second() - 3 * 60 * 60;
    let claims = json!({ "sub": session.user_id, "role": "authenticated", "exp": ended });
    scene.configure(&signed_in(&text, &scene.world.project.mint_token(&claims).unwrap()));
    scene.put("waits");
    scene.look(&mut section);

    // The process reads the new token by itself.
    let again = scene.world.project.sign_in(email, password).await.unwrap();
    scene.configure(&signed_in(&text, &again.access_token));
    scene.assert_well_again();
    scene.assert_notes(["before", "waits"]).await;
    section.assert_seen();
}

/// Notes may be read and no longer be added; with the kit the doctor knows that without trying.
#[tokio::test(flavor = "multi_thread")]
async fn what_row_level_security_denies() {
    let mut section = Section::of(DENIED);
    for world in World::both().await {
        let session = world.project.any_user().await.unwrap();
        let text = signed_in(&app(&world, ""), &session.access_token);
        let scene = Scene::well(world, text);
        let policies = "drop policy everybody on public.notes;
             create policy everybody_reads on public.notes for select to authenticated using (true)";
        scene.world.project.sql(policies).await.unwrap();
        scene.put("denied");
        scene.look(&mut section);

        let policy = "create policy everybody_writes on public.notes to authenticated using (true) with check (true)";
        scene.world.project.sql(policy).await.unwrap();
        scene.desk.ok(&["queue", "redrive", "--all"]);
        scene.assert_well_again();
        scene.assert_notes(["before", "denied"]).await;
    }
    section.assert_seen();
}
