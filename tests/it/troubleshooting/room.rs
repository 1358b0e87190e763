//! No room: on the disk, or within what the store may take.

use serde_json::{Value, json};

use super::guide::Section;
use super::{Scene, app};
use crate::support::World;

pub const DISK: &str = "The disk is full";
pub const QUOTA: &str = "The store's quota is used up";

fn document(n: u64) -> String {
    json!({ "body": format!("{n}{}", "x".repeat(50_000)) }).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_is_used_up() {
    let mut section = Section::of(QUOTA);
    let world = World::new().await;
    let text = app(&world, "").replace("[storage]", "[storage]\nquota = \"2MB\"");
    let scene = Scene::well(world, text);
    let put = |n: u64| scene.desk.run(&["put", "notes", &format!("n-{n:02}"), &document(n)]);
    let refused = (0..100).find_map(|n| {
        if put(n).exit == 0 {
            return None;
        }
        // What is sent gives room back: only then it is full.
        scene.until_done();
        let again = put(n);
        (again.exit != 0).then(|| (n, again.failed(1)))
    });
    let (taken, words) = refused.unwrap();
    section.assert_tells("tidelock put notes", &[super::one_line(&words)]);
    scene.look(&mut section);

    for n in 1..taken {
        scene.desk.ok(&["delete", "notes", &format!("n-{n:02}")]);
    }
    scene.desk.ok(&["compact", "--forget-history"]);
    scene.put("more");
    scene.assert_well_again();
    scene.assert_notes(["before", "more", "n-00"]).await;
    section.assert_seen();
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk() {
    use crate::command_line::{Desk, Process};
    use crate::full_disk::Disk;

    let mut section = Section::of(DISK);
    let world = World::new().await;
    let text = app(&world, "").replace("data_dir = \"data\"", "data_dir = \"disk/data\"");
    let desk = Desk::with(&text);
    let Some(disk) = Disk::mounted(&desk.path("disk")) else {
        println!("not seen: nobody may mount a disk here");
        return;
    };
    let ask = |words: &[&str]| -> Value {
        let done = disk.run(&desk, &[words, &["--json"]].concat(), "");
        serde_json::from_str(&done.said).unwrap_or_else(|_| panic!("{words:?}: {}", done.complained))
    };
    let until_sent = || {
        let began = std::time::Instant::now();
        loop {
            let status = ask(&["status"]);
            if status["pending"] == 0 && status["last_error"].is_null() && status["phase"] == "idle" {
                break;
            }
            assert!(began.elapsed() < super::SOON, "{status:#}");
        }
    };
    let troubles = || super::troubles(&disk.run(&desk, &["doctor"], ""), &disk.run(&desk, &["doctor", "--json"], ""));
    let _process = Process::started(disk.enter(&desk.prepared(&["run", "--json"])));
    ask(&["put", "notes", "before", r#"{"body":"words"}"#]);
    until_sent();
    let usual = troubles();

    disk.fill(&desk, Some(0));
    let refused = (0..1_000).find_map(|n| {
        let done = disk.run(&desk, &["put", "notes", &format!("n-{n:03}"), &document(n)], "");
        (done.exit != 0).then(|| (n, done.failed(1)))
    });
    let (taken, words) = refused.unwrap();
    section.assert_tells("tidelock put notes", &[super::one_line(&words)]);
    let status = disk.run(&desk, &["status"], "");
    assert!(section.tells_status(&status.said), "the guide does not quote this status: {}", status.said);
    let found: Vec<_> = troubles().into_iter().filter(|line| !usual.contains(line)).collect();
    section.assert_tells("tidelock doctor", &found);
    assert_eq!(ask(&["get", "notes", "before"])["body"], "words", "reading goes on");

    disk.fill(&desk, None);
    ask(&["put", "notes", "after", r#"{"body":"words"}"#]);
    until_sent();
    assert!(!troubles().iter().any(|line| line.starts_with("failure")), "{:#?}", troubles());
    assert_eq!(ask(&["verify"])["healthy"], true);
    assert_eq!(world.rows("notes").await.len() as u64, taken + 2, "what was taken has arrived");
    section.assert_seen();
}
