//! The task runner: `cargo xtask <task>`. Each task sets up what it needs, and says what it does.

mod run;
mod setup;
mod web;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask <task> [arguments]

  setup                    install what the test server needs: Node and npm, PostgreSQL 15 or newer, npm packages
  demo [arguments]         two devices work offline and come together (needs only Node)
  test [arguments]         all tests, those of the packages for web pages too; with arguments, `cargo test` with them
  web [types]              the packages for web pages: built, checked and tried; or the API's document and types made anew
  fleet                    ten devices and everybody else on one project, at full size; the tests run a slice of it
  backups [SECONDS]        a backup every second under 2,000 writes a second, for five minutes; the tests run a slice of it
  restores [ROUNDS]        three devices that write, sync, back up, restore and are killed, 500 times; the tests run a slice
  bench [--quick] [--json] each figure and its floor, side by side

On Debian and Ubuntu, as root or with passwordless sudo, missing programs are installed with apt-get.
";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let task = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let result = match task.as_str() {
        "setup" => setup::everything(),
        "demo" => demo(&rest),
        "test" => test(&rest),
        "web" => web(&rest),
        "fleet" => fleet(&rest),
        "backups" => backups(&rest),
        "restores" => restores(&rest),
        "bench" => bench(&rest),
        "" | "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        unknown => Err(format!("no task is called `{unknown}`: see `cargo xtask --help`")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn demo(arguments: &[String]) -> Result<(), String> {
    setup::node()?;
    run::cargo(&["run", "--quiet", "--example", "demo", "--"], arguments)
}

fn test(arguments: &[String]) -> Result<(), String> {
    setup::everything()?;
    run::cargo(&["test", "--workspace"], arguments)?;
    if arguments.is_empty() { web::test() } else { Ok(()) }
}

fn web(arguments: &[String]) -> Result<(), String> {
    match arguments {
        [] => web::test(),
        [what] if what == "types" => web::types(),
        [what, ..] => Err(format!("`web` has no `{what}`: see `cargo xtask --help`")),
    }
}

fn fleet(arguments: &[String]) -> Result<(), String> {
    setup::everything()?;
    let test = ["test", "-p", "tidelock", "--test", "it", "--", "fleet::", "--nocapture"];
    run::cargo_with(&[("TIDELOCK_FLEET", "full")], &test, arguments)
}

fn backups(arguments: &[String]) -> Result<(), String> {
    let seconds = arguments.first().map_or("300", String::as_str);
    let test = ["test", "-p", "tidelock", "--test", "it", "--", "backups::", "--nocapture"];
    run::cargo_with(&[("TIDELOCK_BACKUP_SECONDS", seconds)], &test, &[])
}

fn restores(arguments: &[String]) -> Result<(), String> {
    setup::everything()?;
    let rounds = arguments.first().map_or("500", String::as_str);
    let test = ["test", "-p", "tidelock", "--test", "it", "--", "restores::", "--nocapture"];
    run::cargo_with(&[("TIDELOCK_RESTORE_ROUNDS", rounds)], &test, &[])
}

fn bench(arguments: &[String]) -> Result<(), String> {
    setup::everything()?;
    run::cargo(&["bench", "--bench", "figures", "--"], arguments)
}
