//! Makes sure that what the tests need is there.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::{output, quietly, run, say, workspace};

const OLDEST_POSTGRESQL: u32 = 15;
/// `npm ci` of the lock file that the packages were installed from.
const STAMP: &str = "node_modules/.installed-package-lock.json";
/// Debian's package would start a server of its own; tests start theirs.
const NO_MAIN_CLUSTER: &str = "mkdir -p /etc/postgresql-common/createcluster.d && \
     echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.d/tidelock-tests.conf";

/// Node, PostgreSQL and the test server's packages.
pub fn everything() -> Result<(), String> {
    postgresql()?;
    node()
}

/// Node and the test server's packages: all that the demo needs.
pub fn node() -> Result<(), String> {
    if output("npm", &["--version"]).is_none() {
        install(&["nodejs", "npm"], "Node.js with npm (https://nodejs.org)")?;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    packages("testbed/server", "the test server and a Node for it, about 300 MB", &path)
}

fn postgresql() -> Result<(), String> {
    if newest_postgresql() >= OLDEST_POSTGRESQL {
        return Ok(());
    }
    let wanted = format!("PostgreSQL {OLDEST_POSTGRESQL} or newer, with `pg_config` on the path");
    if apt().is_some() {
        as_root("keep PostgreSQL's package from starting a server", NO_MAIN_CLUSTER)?;
    }
    install(&["postgresql"], &wanted)?;
    match newest_postgresql() {
        version if version >= OLDEST_POSTGRESQL => Ok(()),
        version => Err(format!("this system's PostgreSQL is {version}, too old for the tests: install {wanted}")),
    }
}

/// The newest major version where Debian keeps them or on the path; 0 when there is none.
fn newest_postgresql() -> u32 {
    let mut candidates: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.flatten().map(|entry| entry.path().join("bin/postgres")).collect())
        .unwrap_or_default();
    candidates.extend(output("pg_config", &["--bindir"]).map(|folder| Path::new(&folder).join("postgres")));
    candidates.push("postgres".into());
    candidates.iter().filter_map(|program| major_version(&output(program, &["--version"])?)).max().unwrap_or(0)
}

/// `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` gives 15.
fn major_version(text: &str) -> Option<u32> {
    let number = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Node and the packages that the packages for web pages are built and tried with; where programs are looked for then.
pub fn web() -> Result<OsString, String> {
    node()?;
    // The test server's Node is new enough whatever the system has.
    let own = workspace().join("testbed/server/node_modules/.bin");
    let rest = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(own).chain(std::env::split_paths(&rest)))
        .map_err(|error| format!("PATH cannot be used: {error}"))?;
    packages("web", "what web pages are built and tried with, about 130 MB", &path)?;
    Ok(path)
}

/// `npm ci` when the lock file is another one than at the last time.
fn packages(folder: &str, what: &str, path: &OsStr) -> Result<(), String> {
    let at = workspace().join(folder);
    let lock = std::fs::read(at.join("package-lock.json"))
        .map_err(|error| format!("{folder}/package-lock.json cannot be read: {error}; check the clone"))?;
    let stamp = at.join(STAMP);
    if std::fs::read(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    say(&format!("npm ci in {folder} ({what})"));
    let mut install = Command::new("npm");
    install.args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(&at).env("PATH", path);
    run(&mut install)?;
    std::fs::write(&stamp, lock).map_err(|error| format!("{} cannot be written: {error}", stamp.display()))
}

/// Installs Debian's packages, or says what to install by hand.
fn install(names: &[&str], by_hand: &str) -> Result<(), String> {
    if apt().is_none() {
        return Err(format!("missing: {by_hand}; install it and run this again (apt-get needs Debian and root)"));
    }
    let names = names.join(" ");
    as_root(&format!("apt-get install {names}"), "apt-get update -qq")?;
    as_root("this may take a minute", &format!("apt-get install -y -qq --no-install-recommends {names}"))
}

/// How to become root where there is apt-get: nothing to put before a command, or sudo without a password.
fn apt() -> Option<&'static [&'static str]> {
    output("apt-get", &["--version"])?;
    if output("id", &["-u"])? == "0" {
        return Some(&[]);
    }
    output("sudo", &["-n", "true"]).map(|_| ["sudo", "-n"].as_slice())
}

fn as_root(what: &str, script: &str) -> Result<(), String> {
    say(what);
    let script = format!("export DEBIAN_FRONTEND=noninteractive; {script}");
    let words: Vec<&str> = apt().unwrap_or(&[]).iter().copied().chain(["sh", "-c", &script]).collect();
    quietly(Command::new(words[0]).args(&words[1..])).map_err(|error| format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_from_what_postgres_prints() {
        assert_eq!(major_version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"), Some(15));
        assert_eq!(major_version("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major_version("nothing"), None);
    }
}
