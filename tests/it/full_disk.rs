//! A disk that is really full (H44): a small one of its own, in a mount namespace, which needs no rights.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::command_line::{Desk, Done};
use crate::support::Dice;

const CONFIG: &str = r#"
[api]
enabled = false
[storage]
data_dir = "disk/data"
[backup]
keep_last = 1
incremental = false
[collections.runs]
"#;

/// A disk of 160 MB at `disk` of a desk's folder, for those who enter its namespace; it goes with its keeper.
pub struct Disk(Child);

impl Disk {
    /// Nothing where the system allows nobody but root to mount, and we are not root.
    pub fn mounted(at: &Path) -> Option<Self> {
        fs::create_dir(at).unwrap();
        let words = format!("mount -t tmpfs -o size=160m tmpfs '{}' && echo ready && cat", at.display());
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &words]);
        let mut keeper = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        let mut said = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let disk = Self(keeper);
        (said == "ready\n").then_some(disk)
    }

    /// Does something where the disk is.
    pub fn enter(&self, inside: &Command) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--user", "--mount", "--preserve-credentials", "--target", &self.0.id().to_string(), "--"]);
        // The folder is entered in there: from outside the disk is not to be seen.
        command.args(["sh", "-c", "cd \"$0\" && exec \"$@\""]).arg(inside.get_current_dir().unwrap());
        command.arg(inside.get_program()).args(inside.get_args()).stdin(Stdio::piped());
        command.env_clear().envs(inside.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
    }

    pub fn run(&self, desk: &Desk, words: &[&str], input: &str) -> Done {
        let mut child =
            self.enter(&desk.prepared(words)).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        Done::from(child.wait_with_output().unwrap())
    }

    fn ok(&self, desk: &Desk, words: &[&str]) -> String {
        let done = self.run(desk, words, "");
        assert_eq!(done.exit, 0, "{words:?}: {}", done.complained);
        done.said
    }

    /// Fills the disk but for so many bytes, or empties it of that again.
    pub fn fill(&self, desk: &Desk, free: Option<u64>) {
        let script = match free {
            // A process that writes at the same time may take the last of it: the disk is as full as wanted all the same.
            Some(free) => format!(
                "avail() {{ df --output=avail -B1 disk | tail -1; }}; \
                 head -c $(($(avail) - {free})) /dev/zero > disk/filler || [ $(avail) -le {free} ]"
            ),
            None => "rm disk/filler".to_owned(),
        };
        let mut inside = Command::new("sh");
        inside.args(["-c", &script]).current_dir(desk.path(""));
        assert!(self.enter(&inside).status().unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Its input ends, and so does it.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Documents that hardly compress.
fn documents(dice: &mut Dice, count: usize) -> String {
    let mut text = String::new();
    for number in 0..count {
        let noise: String = (0..1_000).map(|_| char::from(b'!' + 2 + u8::try_from(dice.below(56)).unwrap())).collect();
        text.push_str(&format!("{}\n", serde_json::json!({ "id": format!("r-{number}"), "noise": noise })));
    }
    text
}

fn everything(disk: &Disk, desk: &Desk) -> String {
    let verified: Value = serde_json::from_str(&disk.ok(desk, &["verify", "--json"])).unwrap();
    assert_eq!(verified["healthy"], true, "{verified}");
    disk.ok(desk, &["export", "runs"]) + &disk.ok(desk, &["queue", "list", "--json"])
}

#[test]
fn h44_a_full_disk_during_backup_restore_and_import_leaves_the_store_as_it_was() {
    let desk = Desk::with(CONFIG);
    let Some(disk) = Disk::mounted(&desk.path("disk")) else {
        println!("not seen: nobody may mount a disk here");
        return;
    };
    let (mut dice, _) = Dice::new("full disk");
    let imported = disk.run(&desk, &["import", "runs", "-"], &documents(&mut dice, 4_000));
    assert_eq!(imported.exit, 0, "{}", imported.complained);
    let carried = desk.path("carried.tidelock").display().to_string();
    disk.ok(&desk, &["backup", "export", &carried, &id_of(&disk.ok(&desk, &["backup", "create", "--json"]))]);
    assert_eq!(disk.run(&desk, &["import", "runs", "-"], &documents(&mut dice, 4_000)).exit, 0);
    let before = everything(&disk, &desk);

    for free in [12_000_000, 4_000_000, 500_000] {
        disk.fill(&desk, Some(free));
        for words in [
            &["backup", "create"][..],
            &["backup", "restore", &carried, "--mode", "authority"],
            &["backup", "restore", &carried, "--mode", "replica"],
            &["backup", "import", &carried],
            &["backup", "import", &carried, "--replace"],
        ] {
            let done = disk.run(&desk, words, "");
            assert_eq!(done.exit, 1, "{words:?} with {free} bytes free: {}", done.said);
            let complaint = done.failed(1);
            assert!(
                complaint.contains("full") || complaint.contains("room") || complaint.contains("free"),
                "{complaint}"
            );
            assert_eq!(everything(&disk, &desk), before, "{words:?} with {free} bytes free");
        }
        disk.fill(&desk, None);
    }
    let copied = ["backup", "restore", &carried, "--to", "disk/elsewhere"];
    disk.fill(&desk, Some(500_000));
    disk.run(&desk, &copied, "").failed(1);
    disk.fill(&desk, None);
    disk.ok(&desk, &copied);
    disk.ok(&desk, &["backup", "create"]);
    disk.ok(&desk, &["backup", "import", &carried, "--replace"]);
    assert_ne!(everything(&disk, &desk), before);
}

fn id_of(view: &str) -> String {
    let view: Value = serde_json::from_str(view).unwrap();
    view["id"].as_str().unwrap().to_owned()
}
