//! The Node process in front of a database (`testbed/server`): found, started, stopped.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::error::{Context, Error, Result, tail};

const START_WITHIN: Duration = Duration::from_secs(90);
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Where the server's script and its packages are.
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/server");
/// The schema of every project, in this order.
const SCHEMA: [&str; 3] = ["platform.sql", "raw_studio.sql", "trials.sql"];

/// A running server on loopback; ends when dropped or when this process ends.
pub(crate) struct Server {
    process: Child,
    pub(crate) port: u16,
}

impl Server {
    /// Starts one and waits until it answers. `options` are those of `server/options.mjs`.
    pub(crate) async fn start(options: Value, log: PathBuf) -> Result<Self> {
        blocking(move || {
            let (mut process, line) = launch(&options, &log)?;
            let ready = line.and_then(|line| serde_json::from_str::<Value>(&line).ok());
            let port = ready.and_then(|ready| u16::try_from(ready["port"].as_u64()?).ok());
            match port {
                Some(port) => Ok(Self { process, port }),
                None => {
                    let _ = process.kill();
                    let _ = process.wait();
                    Err(Error::Start { what: "the test server", detail: tail(&log) })
                }
            }
        })
        .await
    }

    /// Applies the auth schema and the project's schema to a database, and ends.
    pub(crate) async fn migrate(database_url: &str, log: PathBuf) -> Result<()> {
        let options = json!({ "url": database_url, "migrate": schema_files(), "only_migrate": true });
        blocking(move || {
            let (mut process, _) = launch(&options, &log)?;
            if process.wait().context("wait for the migration")?.success() {
                return Ok(());
            }
            Err(Error::Start { what: "the migration", detail: tail(&log) })
        })
        .await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its input closes: it ends by itself, after writing what it must.
        drop(self.process.stdin.take());
        let asked = Instant::now();
        while matches!(self.process.try_wait(), Ok(None)) {
            if asked.elapsed() > STOP_WITHIN {
                let _ = self.process.kill();
                let _ = self.process.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The schema files, as the server is told them.
pub(crate) fn schema_files() -> Vec<String> {
    SCHEMA.map(|name| schema_folder().join(name).display().to_string()).to_vec()
}

/// Where the schema files are.
pub(crate) fn schema_folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/schema"))
}

/// Starts the process and gives the first line it prints; none when it ended or stayed silent.
fn launch(options: &Value, log: &Path) -> Result<(Child, Option<String>)> {
    let errors = std::fs::OpenOptions::new().create(true).append(true).open(log).context("open the server's log")?;
    let mut process = node_script("serve.mjs")?
        .arg(options.to_string())
        .env("LITE_TELEMETRY", "0")
        .env("DO_NOT_TRACK", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .context("start Node")?;
    let output = process.stdout.take();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        if output.is_some_and(|output| BufReader::new(output).read_line(&mut line).is_ok()) && !line.is_empty() {
            let _ = sender.send(line);
        }
    });
    Ok((process, receiver.recv_timeout(START_WITHIN).ok()))
}

/// A script that stands beside the packages it needs.
pub(crate) fn node_script(name: &str) -> Result<Command> {
    let mut command = Command::new(find_node()?);
    command.current_dir(SCRIPTS).arg(name);
    Ok(command)
}

/// The Node that came with the server's packages, else one on the path that is new enough.
fn find_node() -> Result<PathBuf> {
    let packages = Path::new(SCRIPTS).join("node_modules");
    if !packages.join("@supabase/lite").exists() {
        return Err(Error::Missing { what: "the test server's packages", remedy: "run `npm ci` in testbed/server" });
    }
    let (system, architecture) = (std::env::consts::OS, std::env::consts::ARCH);
    let system = if system == "macos" { "darwin" } else { system };
    let architecture = match architecture {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    };
    let bundled = ["node", "node-bin"]
        .map(|prefix| packages.join(format!("{prefix}-{system}-{architecture}/bin/node")))
        .into_iter()
        .find(|path| path.exists());
    match bundled {
        Some(node) => Ok(node),
        None if has_raw_json("node") => Ok(PathBuf::from("node")),
        None => Err(Error::Missing { what: "Node 22 or newer", remedy: "install it so that `node` is on the path" }),
    }
}

/// The server prints exact numbers with `JSON.rawJSON`, which came with Node 21.
fn has_raw_json(node: &str) -> bool {
    let output = Command::new(node).args(["-p", "typeof JSON.rawJSON"]).output();
    output.is_ok_and(|output| output.stdout.starts_with(b"function"))
}

/// Runs what blocks aside, so that a test's other tasks go on.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(join) => match join.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(cancelled) => Err(std::io::Error::other(cancelled)).context("run a blocking step"),
        },
    }
}
