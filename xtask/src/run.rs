//! Running other programs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The folder of the workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

/// Says what is being done. On the error output, so that `--json` stays readable by machines.
pub fn say(text: &str) {
    eprintln!("xtask: {text}");
}

/// Runs cargo in the workspace.
pub fn cargo(first: &[&str], rest: &[String]) -> Result<(), String> {
    cargo_with(&[], first, rest)
}

/// The same with these environment variables.
pub fn cargo_with(variables: &[(&str, &str)], first: &[&str], rest: &[String]) -> Result<(), String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(first).args(rest).envs(variables.iter().copied()).current_dir(workspace());
    say(&format!("cargo {} {}", first.join(" "), rest.join(" ")));
    run(&mut command)
}

/// Runs a program to its end, its output passing through.
pub fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(|error| format!("`{name}` could not be run: {error}; is it installed?"))?;
    if status.success() { Ok(()) } else { Err(format!("`{name}` failed ({status}); what it says stands above")) }
}

/// Runs a program to its end, and shows what it said only when it failed.
pub fn quietly(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("`{name}` could not be run: {error}; is it installed?"))?;
    if output.status.success() {
        return Ok(());
    }
    eprint!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Err(format!("`{name}` failed ({}); what it says stands above", output.status))
}

/// What a program prints, when it runs and succeeds.
pub fn output(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
