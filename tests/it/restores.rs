//! Three devices write, sync, back up and restore, old points and new ones, one of them killed in the middle of it: all
//! end as the server, and where a backup was given the last word, the server ends as that backup.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tidelock::{Document, Point, RestoreMode, RestoreRequest};

use crate::kill::tidelock;
use crate::support::{Device, Dice, World, assert_equal};

/// Keys of the shared records.
const KEYS: u64 = 30;
const OWN: &str = "[collections.drafts]\ndirection = \"local\"\n[backup]\nenabled = false\nkeep_last = 20";

/// A backup of a device, and what was in it.
struct Kept {
    device: usize,
    id: String,
    notes: BTreeMap<String, Document>,
    drafts: BTreeMap<String, Document>,
}

struct Trial {
    world: World,
    dice: Dice,
    devices: Vec<Device>,
    /// The third device has no handle here: commands open its store, and some of them are killed.
    third: PathBuf,
    kept: Vec<Kept>,
}

/// Documents without what the server stamps.
fn unstamped(records: BTreeMap<String, Document>) -> BTreeMap<String, Document> {
    records.into_iter().map(|(key, document)| (key, document.without("updated_at"))).collect()
}

impl Trial {
    async fn new(world: World, dice: Dice) -> Self {
        let devices = ["first", "second"].map(|name| world.device_with(name, OWN)).into();
        let folder = world.folder("third");
        std::fs::create_dir_all(&folder).unwrap();
        let third = folder.join("tidelock.toml");
        let text = format!("{}\n{OWN}", world.config_text(&folder.join("data"), "auto = false"));
        std::fs::write(&third, text).unwrap();
        Self { world, dice, devices, third, kept: Vec::new() }
    }

    async fn write(&mut self) {
        for _ in 0..1 + self.dice.below(6) {
            let key = format!("n{}", self.dice.below(KEYS));
            let text = format!(r#"{{"body":"{}"}}"#, self.dice.below(1_000));
            match self.dice.below(8) {
                0 => drop(self.devices[self.dice.below(2) as usize].tidelock.delete("notes", &key).await.unwrap()),
                1 => self.devices[self.dice.below(2) as usize].save("drafts", &key, &text).await,
                2 => drop(self.command(&["put", "notes", &key, &text]).await),
                _ => self.devices[self.dice.below(2) as usize].save("notes", &key, &text).await,
            }
        }
    }

    async fn command(&self, arguments: &[&str]) -> Option<serde_json::Value> {
        let output = tidelock(&self.third).args(arguments).arg("--json").output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(matches!(output.status.code(), Some(0 | 3)), "{arguments:?}: {said}");
        serde_json::from_slice(&output.stdout).ok()
    }

    async fn back_up(&mut self) {
        let device = self.dice.below(3) as usize;
        let kept = match self.devices.get(device) {
            Some(handle) => {
                let id = handle.tidelock.backup().await.unwrap().id;
                let notes = unstamped(handle.records("notes").await);
                Kept { device, id, notes, drafts: handle.records("drafts").await }
            }
            None => {
                let id = self.command(&["backup", "create"]).await.unwrap()["id"].as_str().unwrap().to_owned();
                Kept { device, id, notes: BTreeMap::new(), drafts: BTreeMap::new() }
            }
        };
        self.kept.push(kept);
    }

    /// Backups that have been removed since are passed over.
    async fn restore(&mut self) {
        let Some(at) = self.kept.len().checked_sub(1).map(|last| self.dice.below(last as u64 + 1) as usize) else {
            return;
        };
        let kept = self.kept.remove(at);
        let mode = if self.dice.below(2) == 0 { RestoreMode::Replica } else { RestoreMode::Authority };
        match self.devices.get(kept.device) {
            Some(_) => self.restore_and_look(&kept, mode).await,
            None => self.restore_and_kill(&kept, mode).await,
        }
    }

    async fn restore_and_look(&self, kept: &Kept, mode: RestoreMode) {
        let device = &self.devices[kept.device];
        if device.tidelock.backups().list().await.unwrap().iter().all(|view| view.id != kept.id) {
            return;
        }
        self.settle().await;
        let point = Point { backup: Some(kept.id.clone()), at: None };
        let report = device.tidelock.restore(RestoreRequest { point, mode, dry_run: false }).await.unwrap();
        assert_eq!(report.server_error, None);
        assert_equal(&device.records("drafts").await, &kept.drafts, "what never leaves the device");
        self.settle().await;
        if mode == RestoreMode::Authority {
            assert_equal(&unstamped(self.world.rows("notes").await), &kept.notes, "the backup has the last word");
        }
    }

    /// A command that is killed at any moment has restored all or nothing.
    async fn restore_and_kill(&mut self, kept: &Kept, mode: RestoreMode) {
        let mode = if mode == RestoreMode::Replica { "replica" } else { "authority" };
        let mut child = tidelock(&self.third)
            .args(["backup", "restore", &kept.id, "--mode", mode, "--json"])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let time = Duration::from_millis(self.dice.below(400));
        if tokio::time::timeout(time, child.wait()).await.is_err() {
            child.kill().await.unwrap();
        }
        let verified = self.command(&["verify"]).await.unwrap();
        assert_eq!(verified["healthy"], true, "{verified}");
    }

    /// All devices equal the server, and nothing waits.
    async fn settle(&self) {
        for _ in 0..2 {
            for device in &self.devices {
                device.sync_until_settled().await;
            }
            self.command(&["sync"]).await;
        }
        for device in &self.devices {
            device.sync_until_settled().await;
            assert_equal(&device.records("notes").await, &self.world.rows("notes").await, "after all rounds");
            device.assert_healthy().await;
        }
        let status = self.command(&["status"]).await.unwrap();
        assert_eq!((&status["pending"], &status["parked"]), (&0.into(), &0.into()), "{status}");
        let listed = self.command(&["list", "notes"]).await.unwrap();
        let documents = listed.as_array().unwrap().iter().map(|one| Document::parse(&one.to_string()).unwrap());
        let third = documents.map(|document| (document.string("id").unwrap(), document)).collect();
        assert_equal(&third, &self.world.rows("notes").await, "the third device");
    }
}

/// `TIDELOCK_RESTORE_ROUNDS` makes it longer: `cargo xtask restores`.
#[tokio::test(flavor = "multi_thread")]
async fn h31_h32_three_devices_that_restore_old_points_and_new_ones_end_as_the_server() {
    let rounds = std::env::var("TIDELOCK_RESTORE_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(16);
    let (_, seed) = Dice::new("restores");
    for (offset, world) in World::both().await.into_iter().enumerate() {
        let mut trial = Trial::new(world, Dice::of_seed(seed + offset as u64)).await;
        for round in 0..rounds / 2 {
            trial.write().await;
            match trial.dice.below(4) {
                0 => trial.settle().await,
                1 => drop(trial.devices[trial.dice.below(2) as usize].tidelock.sync(Default::default()).await.unwrap()),
                _ => {}
            }
            trial.back_up().await;
            trial.write().await;
            if round % 2 == 1 {
                trial.restore().await;
            }
        }
        trial.settle().await;
    }
}
