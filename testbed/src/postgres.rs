//! One PostgreSQL server process on a folder of its own: the binaries, the folder, the process, its end.
//!
//! Only `std::process` here: a cluster is shared by tests that each have a runtime of their own, so it must not
//! depend on any of them.

use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::{Context, Error, Result, tail};

const OLDEST_MAJOR_VERSION: u32 = 15;
const START_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// Loopback ports are picked by asking the system and giving them back; somebody else may be faster.
const PORT_ATTEMPTS: u32 = 5;

/// Waits for our end (its input closes, however we die), stops the server at once and removes the folder.
const WATCHDOG: &str = r#"
cat >/dev/null
server=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
case "$server" in *[!0-9]*) server= ;; esac # initdb, which ends by itself
if [ -n "$server" ]; then
  kill -QUIT "$server" 2>/dev/null
  for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$server" 2>/dev/null || break; sleep 0.2; done
  kill -KILL "$server" 2>/dev/null
fi
rm -rf "$1"
"#;

/// A PostgreSQL server on loopback, removed with everything in it when this value or the process ends.
pub(crate) struct Postgres {
    binaries: PathBuf,
    folder: PathBuf,
    owner: Option<Owner>,
    port: u16,
    process: Option<Child>,
    /// Closing it is what the watchdog waits for.
    watchdog: Option<(Child, ChildStdin)>,
}

/// The unprivileged user that PostgreSQL runs as when we are root, which it refuses.
#[derive(Clone, Copy)]
struct Owner {
    user: u32,
    group: u32,
}

impl Postgres {
    /// Creates the folder and starts the server. Blocks for about a second.
    pub(crate) fn start() -> Result<Self> {
        let binaries = find_binaries()?;
        let owner = unprivileged_owner()?;
        let folder = std::env::temp_dir().join(format!("tidelock-postgres-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&folder).context(format!("create {}", folder.display()))?;
        let mut server = Self { binaries, folder, owner, port: 0, process: None, watchdog: None };
        server.watch()?;
        server.give_folder()?;
        server.initialise()?;
        server.start_on_any_port()?;
        Ok(server)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// A folder that is removed with the server.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Stops at once, without a checkpoint: what was committed is recovered from the log at the next start.
    pub(crate) fn crash(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        signal("QUIT", process.id())?;
        let asked = Instant::now();
        while process.try_wait().context("wait for PostgreSQL")?.is_none() {
            if asked.elapsed() > STOP_WITHIN {
                process.kill().context("kill PostgreSQL")?;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Starts again on the same port after [`Postgres::crash`].
    pub(crate) fn start_again(&mut self) -> Result<()> {
        if self.process.is_some() {
            return Ok(());
        }
        self.launch()
    }

    /// A database as SQL, as `pg_dump` writes it.
    pub(crate) fn dump(&self, database_url: &str) -> Result<String> {
        let output = self.tool("pg_dump").args(["--inserts", database_url]).output().context("run pg_dump")?;
        if !output.status.success() {
            let detail = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Error::Start { what: "pg_dump", detail });
        }
        // Lines with a backslash are for psql alone.
        let dump = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(dump.split_inclusive('\n').filter(|line| !line.starts_with('\\')).collect())
    }

    /// A program that comes with PostgreSQL. Where the server was found on the path alone, it may lie elsewhere on it.
    pub(crate) fn tool(&self, program: &str) -> Command {
        let beside = self.binaries.join(program);
        Command::new(if beside.exists() { beside } else { program.into() })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.join(program));
        command.current_dir(&self.folder).stdin(Stdio::null());
        if let Some(owner) = self.owner {
            command.uid(owner.user).gid(owner.group);
        }
        command
    }

    fn watch(&mut self) -> Result<()> {
        let mut watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "tidelock-watchdog"])
            .arg(&self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // In a group of its own, so that Ctrl-C in the terminal does not end it with us.
            .process_group(0)
            .spawn()
            .context("start the watchdog")?;
        self.watchdog = watchdog.stdin.take().map(|input| (watchdog, input));
        Ok(())
    }

    fn give_folder(&self) -> Result<()> {
        let private = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(&self.folder, private).context("protect the PostgreSQL folder")?;
        match self.owner {
            Some(owner) => std::os::unix::fs::chown(&self.folder, Some(owner.user), Some(owner.group))
                .context("give the PostgreSQL folder to an unprivileged user"),
            None => Ok(()),
        }
    }

    fn initialise(&self) -> Result<()> {
        // Debian and most others have C.UTF-8; elsewhere plain C, which sorts the same.
        let locale = if cfg!(target_os = "linux") { "--locale=C.UTF-8" } else { "--locale=C" };
        let output = self
            .command("initdb")
            .args(["-D", "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", locale, "--no-sync"])
            .output()
            .context("run initdb")?;
        if output.status.success() {
            return Ok(());
        }
        Err(Error::Start { what: "initdb", detail: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
    }

    fn start_on_any_port(&mut self) -> Result<()> {
        let mut attempt = 1;
        loop {
            self.port = free_port()?;
            match self.launch() {
                Err(_) if attempt < PORT_ATTEMPTS => attempt += 1,
                result => return result,
            }
        }
    }

    fn launch(&mut self) -> Result<()> {
        let log = self.folder.join("postgres.log");
        let output = std::fs::OpenOptions::new().create(true).append(true).open(&log).context("open the log")?;
        let mut process = self
            .command("postgres")
            .args(["-D", "data", "-p", &self.port.to_string()])
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
            .args(["-c", "max_connections=400", "-c", "shared_buffers=32MB", "-c", "timezone=UTC"])
            .stdout(Stdio::null())
            .stderr(output)
            .process_group(0)
            .spawn()
            .context("start postgres")?;
        let started = Instant::now();
        let ready = self.folder.join("data/postmaster.pid");
        loop {
            // Its first line names the process (a crashed one may have left it), its last whether that is ready.
            let own = process.id().to_string();
            let is_ready = |text: String| text.lines().next() == Some(&own) && text.trim_end().ends_with("ready");
            if std::fs::read_to_string(&ready).is_ok_and(is_ready) {
                self.process = Some(process);
                return Ok(());
            }
            let ended = process.try_wait().context("wait for postgres")?.is_some();
            if ended || started.elapsed() > START_WITHIN {
                let _ = process.kill();
                return Err(Error::Start { what: "PostgreSQL", detail: tail(&log) });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.crash();
        if let Some((mut watchdog, input)) = self.watchdog.take() {
            drop(input);
            let _ = watchdog.wait();
        }
    }
}

fn free_port() -> Result<u16> {
    let socket = TcpListener::bind("127.0.0.1:0").context("find a free port")?;
    Ok(socket.local_addr().context("find a free port")?.port())
}

fn signal(name: &str, process: u32) -> Result<()> {
    // The shell's own `kill`: a small system has no program of that name.
    let script = format!("kill -{name} {process}");
    Command::new("sh").args(["-c", &script]).status().context("send a signal").map(drop)
}

/// The newest PostgreSQL that is new enough, where Debian keeps them or on the path.
fn find_binaries() -> Result<PathBuf> {
    let mut candidates: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.flatten().map(|entry| entry.path().join("bin")).collect())
        .unwrap_or_default();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        candidates.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    candidates.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    candidates
        .into_iter()
        .filter_map(|folder| major_version(&folder).map(|version| (version, folder)))
        .filter(|(version, folder)| *version >= OLDEST_MAJOR_VERSION && folder.join("initdb").exists())
        .max_by_key(|(version, _)| *version)
        .map(|(_, folder)| folder)
        .ok_or(Error::Missing {
            what: "PostgreSQL 15 or newer",
            remedy: "install it so that `pg_config` is on the path",
        })
}

fn major_version(folder: &Path) -> Option<u32> {
    let output = Command::new(folder.join("postgres")).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let number = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// `postgres` where Debian's package made it, else `nobody`; nothing when we are not root.
fn unprivileged_owner() -> Result<Option<Owner>> {
    let probe = tempfile::NamedTempFile::new().context("find out who we are")?;
    if probe.as_file().metadata().context("find out who we are")?.uid() != 0 {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
    let owner = ["postgres", "nobody"].iter().find_map(|name| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some(Owner { user: fields.next()?.parse().ok()?, group: fields.next()?.parse().ok()? })
    });
    owner.map(Some).ok_or(Error::Missing {
        what: "an unprivileged user for PostgreSQL",
        remedy: "create a system user named `postgres`",
    })
}
