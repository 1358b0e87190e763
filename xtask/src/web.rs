//! The packages for web pages: built, checked and tried, also against a process of this build.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::run::{cargo, run, say, workspace};
use crate::setup;

const CONFIG: &str = "[api]\nbind = \"127.0.0.1:0\"\n[storage]\ndata_dir = \"data\"\n[collections.runs]\n";

/// Builds both packages, checks their form and types, and runs their tests.
pub fn test() -> Result<(), String> {
    let path = setup::web()?;
    cargo(&["build", "--quiet", "-p", "tidelock", "--bin", "tidelock"], &[])?;
    let process = Process::start()?;
    say("npm test in web, with a process of this build");
    let mut tests = Command::new("npm");
    tests.arg("test").current_dir(workspace().join("web")).env("PATH", path);
    tests.env("TIDELOCK_URL", format!("http://{}", process.told("api.address")?));
    run(tests.env("TIDELOCK_TOKEN", process.told("api.token")?))
}

/// Writes the API's document anew, and the types that are made from it.
pub fn types() -> Result<(), String> {
    let path = setup::web()?;
    cargo(&["build", "--quiet", "-p", "tidelock", "--bin", "tidelock"], &[])?;
    let document = crate::run::output(program()?, &["openapi"]).ok_or("`tidelock openapi` failed")?;
    let file = workspace().join("web/packages/client/openapi.json");
    fs::write(&file, document + "\n").map_err(|error| format!("{} cannot be written: {error}", file.display()))?;
    run(Command::new("npm").args(["run", "types"]).current_dir(workspace().join("web")).env("PATH", path))
}

/// The command, which cargo builds beside this program.
fn program() -> Result<PathBuf, String> {
    let this = std::env::current_exe().map_err(|error| format!("where this program lies is not known: {error}"))?;
    Ok(this.with_file_name(format!("tidelock{}", std::env::consts::EXE_SUFFIX)))
}

/// A process in a folder of its own; both go with it.
struct Process {
    child: Child,
    folder: PathBuf,
}

impl Process {
    fn start() -> Result<Self, String> {
        let folder = std::env::temp_dir().join(format!("tidelock-web-{}", std::process::id()));
        let unwritten = |error| format!("{} cannot be written: {error}", folder.display());
        fs::create_dir_all(&folder).map_err(unwritten)?;
        fs::write(folder.join("tidelock.toml"), CONFIG).map_err(unwritten)?;
        let mut command = Command::new(program()?);
        command.args(["run", "--json"]).current_dir(&folder).env_clear().env("HOME", &folder).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("tidelock could not be started: {error}"))?;
        let mut up = String::new();
        if let Some(said) = child.stdout.take() {
            // Where it ends before it is up, its own words on the error output tell why.
            let _ = BufReader::new(said).read_line(&mut up);
        }
        let process = Self { child, folder };
        if up.is_empty() { Err("tidelock did not come up; what it says stands above".to_owned()) } else { Ok(process) }
    }

    /// What it has left in its data folder for whoever wants to speak to it.
    fn told(&self, name: &str) -> Result<String, String> {
        let file = self.folder.join("data").join(Path::new(name));
        let text = fs::read_to_string(&file).map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
        Ok(text.trim().to_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
