//! Those who know nothing of tidelock: psql with transactions of its own, one of them open throughout, psql that only
//! looks, and an app with supabase-js.

use std::process::Stdio;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;

use super::model::{Author, Step};
use super::world::{Fleet, HALVES, PSQL, PSQL_OPEN, SUPABASE_JS, card};

/// A program that is told line by line what to do, and answers a line each time.
struct Conversation {
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Conversation {
    fn begin(command: std::process::Command) -> Self {
        let mut command = Command::from(command);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { input, output: BufReader::new(output).lines(), _child: child }
    }

    fn psql(fleet: &Fleet) -> Self {
        let mut command = fleet.world.project.psql().unwrap();
        Self::begin({
            command.args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only"]).stderr(Stdio::null());
            command
        })
    }

    async fn ask(&mut self, line: &str) -> String {
        self.input.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        self.output.next_line().await.unwrap().expect("the program has ended; what it said stands above")
    }

    /// Runs SQL; the rows of what it selects.
    async fn run(&mut self, sql: &str) -> Vec<String> {
        const END: &str = "that was all";
        let mut line = self.ask(&format!("{sql}\n\\echo {END}")).await;
        let mut rows = Vec::new();
        while line != END {
            rows.push(line);
            line = self.output.next_line().await.unwrap().unwrap();
        }
        rows
    }
}

/// Whether there is something to go by: a transaction of a device.
async fn felt(pulse: &mut watch::Receiver<bool>, beats: &mut watch::Receiver<u64>) -> bool {
    tokio::select! {
        biased;
        _ = pulse.wait_for(|is_over| *is_over) => false,
        beat = beats.changed() => beat.is_ok(),
    }
}

/// Writes by psql until it is over: transactions of several statements, some of them taken back in part or whole.
pub async fn write_by_psql(fleet: Arc<Fleet>, mut is_over: watch::Receiver<bool>) -> Author {
    let mut author = Author::new(PSQL, fleet.seed, None);
    let mut psql = Conversation::psql(&fleet);
    let mut beats = fleet.pulse.subscribe();
    while felt(&mut is_over, &mut beats).await {
        let (group, rows) = &fleet.shared[author.dice.below(fleet.shared.len() as u64) as usize];
        let (group, rows) = (group.clone(), rows.clone());
        match author.dice.below(8) {
            0 => {
                // A device may be in the way; then one of the two is taken back.
                let step = author.rewrite(group, rows, Vec::new());
                let rows: String = step.saved.iter().map(|row| step.sql(row, false)).collect();
                psql.run(&format!("begin; {rows} commit;")).await;
            }
            1 => {
                let step = author.next();
                psql.run(&format!("begin; {} rollback;", statements(&author, &step))).await;
            }
            choice => {
                let step = author.next();
                let aside = author.rewrite(group, rows, Vec::new());
                let half = aside.sql(&aside.saved[0], false);
                let taken_back = if choice < 4 { format!("savepoint s; {half} rollback to s;") } else { String::new() };
                let own = statements(&author, &step);
                let seen = psql.run(&format!("begin; {taken_back} {own} commit; {}", look(&step))).await;
                let expected = if step.saved.is_empty() { "" } else { step.revision.as_str() };
                assert_eq!(seen, [expected], "psql's own transactions take effect");
                author.done(&step);
            }
        }
    }
    author
}

fn statements(author: &Author, step: &Step) -> String {
    let before = author.groups.get(&step.group);
    let is_new = |key: &str| !before.into_iter().flatten().any(|row| row.key == key);
    let saved = step.saved.iter().map(|row| step.sql(row, is_new(&row.key)));
    let mut removed: Vec<_> = step.removed.iter().collect();
    removed.sort_by_key(|row| std::cmp::Reverse(row.table));
    let removed = removed
        .into_iter()
        .map(|row| format!("delete from {} where id = '{}';", super::model::TABLES[row.table], row.key));
    saved.chain(removed).collect::<Vec<_>>().join(" ")
}

fn look(step: &Step) -> String {
    format!(
        "select max(revision) from (select grp, revision from boards union all select grp, revision from lists
       union all select grp, revision from cards) r where grp = '{}';",
        step.group
    )
}

/// A transaction that is open from the beginning, with half of what it writes, and commits last of all.
pub struct Open {
    psql: Conversation,
    step: Step,
    author: Author,
}

impl Open {
    pub async fn begin(fleet: &Fleet) -> Self {
        let mut author = fleet.author_of_cards(PSQL_OPEN);
        let rows = (1..=6).map(|n| card(crate::support::uuid((PSQL_OPEN << 32) + n), &fleet.ground, 0)).collect();
        let step = author.rewrite(crate::support::uuid(PSQL_OPEN << 32), rows, Vec::new());
        let mut psql = Conversation::psql(fleet);
        let half: String = step.saved[..3].iter().map(|row| step.sql(row, true)).collect();
        psql.run(&format!("begin; {half}")).await;
        Self { psql, step, author }
    }

    pub async fn commit(mut self) -> Author {
        let half: String = self.step.saved[3..].iter().map(|row| self.step.sql(row, true)).collect();
        self.psql.run(&format!("{half} commit;")).await;
        self.author.done(&self.step);
        self.author
    }
}

/// Looks by psql for groups that are not whole until it is over; how often it looked.
pub async fn read_by_psql(fleet: Arc<Fleet>, mut is_over: watch::Receiver<bool>) -> u64 {
    let mut psql = Conversation::psql(&fleet);
    let (mut beats, mut reads) = (fleet.pulse.subscribe(), 0);
    while felt(&mut is_over, &mut beats).await {
        let halves = psql.run(&format!("{HALVES};")).await;
        assert!(halves.is_empty(), "psql saw halves of {halves:?}");
        reads += 1;
    }
    reads
}

/// Writes and reads by supabase-js until it is over.
pub async fn write_by_supabase_js(fleet: Arc<Fleet>, mut is_over: watch::Receiver<bool>) -> Author {
    let mut author = fleet.author_of_cards(SUPABASE_JS);
    let told = json!({
        "url": fleet.world.project.url, "key": fleet.world.project.secret_key, "list_id": fleet.ground,
        "first_mark": Author::first_mark(SUPABASE_JS), "seed": fleet.seed,
    });
    let mut command = fleet.world.project.node("supabase_js.mjs").unwrap();
    command.arg(told.to_string());
    let mut script = Conversation::begin(command);
    let mut beats = fleet.pulse.subscribe();
    while felt(&mut is_over, &mut beats).await {
        let did: Value = serde_json::from_str(&script.ask("go on").await).unwrap();
        assert_eq!(did["halves"], json!([]), "supabase-js saw halves");
        let group = did["grp"].as_str().unwrap().to_owned();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let row = |row: &Value| card(text(&row["id"]), &fleet.ground, row["mark"].as_u64().unwrap());
        let saved = did["rows"].as_array().unwrap().iter().map(row).collect();
        author.done(&Step { group, revision: String::new(), saved, removed: Vec::new() });
    }
    author
}
