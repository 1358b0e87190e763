//! The guide as a test reads it: its sections, and what each says that the commands print.

use std::collections::BTreeSet;

const GUIDE: &str = include_str!("../../../docs/troubleshooting.md");

/// Words of the guide that stand for what differs from one time to the next.
const VARIABLE: [&str; 13] = [
    "ADDRESS",
    "FUNCTION",
    "CODE",
    "COLLECTION",
    "HOST",
    "LENGTH",
    "NUMBER",
    "PORT",
    "SIZE",
    "TABLE",
    "TIME",
    "USER",
    "WORDS",
];
/// Lines of the status that a guide may leave unquoted: they tell how things stand, not what is wrong.
const PLAIN: [&str; 11] = [
    "online",
    "server",
    "session",
    "pending",
    "last synced",
    "last pushed",
    "last pulled",
    "last backup",
    "caught up",
    "next round",
    "backups told of",
];

/// One case: what it says is printed, and which of it has been seen.
pub struct Section {
    title: &'static str,
    blocks: Vec<Block>,
    seen: BTreeSet<usize>,
}

/// Lines that a command prints.
struct Block {
    command: String,
    lines: Vec<String>,
}

/// The titles of all sections that are a case.
pub fn titles() -> Vec<&'static str> {
    GUIDE.lines().filter_map(|line| line.strip_prefix("## ")).collect()
}

impl Section {
    pub fn of(title: &'static str) -> Self {
        let text = GUIDE.split("\n## ").find(|part| part.lines().next() == Some(title));
        let text = text.unwrap_or_else(|| panic!("the guide has no section {title:?}"));
        let blocks: Vec<_> = text.split("\n```").skip(1).step_by(2).map(Block::read).collect();
        assert!(!blocks.is_empty(), "{title} quotes nothing");
        Self { title, blocks, seen: BTreeSet::new() }
    }

    /// Whether a status is one that the guide tells of, to the last line that says that something is wrong.
    pub fn tells_status(&mut self, said: &str) -> bool {
        let lines: Vec<_> = said.split("\n\n").next().unwrap_or_default().lines().map(one_line).collect();
        let is_plain = |line: &&String| {
            PLAIN.iter().any(|name| line.starts_with(name)) || ["parked 0", "conflicts 0"].contains(&line.as_str())
        };
        let telling: Vec<_> = lines.iter().filter(|line| !is_plain(line)).cloned().collect();
        self.tells("tidelock status", &lines, &telling)
    }

    /// Holds the guide to what a command says about the trouble.
    #[track_caller]
    pub fn assert_tells(&mut self, command: &str, said: &[String]) {
        assert!(
            self.tells(command, said, said),
            "{:?} of the guide does not quote what {command} prints: {said:#?}",
            self.title
        );
    }

    /// Everything that it quotes has been printed.
    #[track_caller]
    pub fn assert_seen(&self) {
        let unseen = (0..self.blocks.len()).filter(|at| !self.seen.contains(at));
        let unseen: Vec<_> = unseen.map(|at| (&self.blocks[at].command, &self.blocks[at].lines)).collect();
        assert!(unseen.is_empty(), "{:?} of the guide quotes what nobody has seen: {unseen:#?}", self.title);
    }

    /// Whether a block of the command quotes nothing but what was said, and all that is telling.
    fn tells(&mut self, command: &str, said: &[String], telling: &[String]) -> bool {
        let is_told = |block: &Block| {
            block.command == command
                && block.lines.iter().all(|pattern| said.iter().any(|line| fits(pattern, line)))
                && telling.iter().all(|line| block.lines.iter().any(|pattern| fits(pattern, line)))
        };
        let found = self.blocks.iter().position(is_told);
        self.seen.extend(found);
        found.is_some()
    }
}

impl Block {
    /// The first line is the command; indented lines go on with the one before.
    fn read(text: &str) -> Self {
        let mut lines = text.lines().skip(1);
        let command = lines.next().and_then(|line| line.strip_prefix("$ "));
        let command = command.unwrap_or_else(|| panic!("a block without a command: {text}")).to_owned();
        let mut whole: Vec<String> = Vec::new();
        for line in lines {
            match (line.strip_prefix("    "), whole.last_mut()) {
                (Some(more), Some(last)) => last.push_str(&format!(" {more}")),
                _ => whole.push(line.to_owned()),
            }
        }
        Self { command, lines: whole.iter().map(|line| one_line(line)).collect() }
    }
}

/// Columns are as wide as what stands in them.
pub fn one_line(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a line is as the guide has it, where its variable words stand for anything.
fn fits(pattern: &str, line: &str) -> bool {
    let mut fixed = vec![String::new()];
    for word in pattern.split_inclusive(|letter: char| !letter.is_alphanumeric()) {
        let name = word.trim_end_matches(|letter: char| !letter.is_alphanumeric());
        match VARIABLE.contains(&name) {
            true => fixed.push(word[name.len()..].to_owned()),
            false => fixed.last_mut().unwrap().push_str(word),
        }
    }
    let Some(mut left) = line.strip_prefix(fixed[0].as_str()) else { return false };
    let [_, between @ .., last] = fixed.as_slice() else { return left.is_empty() };
    for part in between {
        // Something stands for the variable, be it one letter.
        let Some(at) = left.char_indices().skip(1).map(|(at, _)| at).find(|at| left[*at..].starts_with(part)) else {
            return false;
        };
        left = &left[at + part.len()..];
    }
    left.len() > last.len() && left.ends_with(last.as_str())
}

#[test]
fn a_line_fits_where_only_variable_words_differ() {
    for (pattern, line, is_so) in [
        ("all is well", "all is well", true),
        ("all is well", "all is well now", false),
        ("NUMBER for: COLLECTION: 42501", "12 for: notes: 42501", true),
        ("NUMBER for: COLLECTION: 42501", "12 for: notes: 42501 more", false),
        ("the server (HTTP 401: WORDS) → sign in", "the server (HTTP 401: no) → sign in", true),
        ("the server (HTTP 401: WORDS) → sign in", "the server (HTTP 500: no) → sign in", false),
        ("since TIME", "since ", false),
    ] {
        assert_eq!(fits(pattern, line), is_so, "{pattern} {line}");
    }
}
