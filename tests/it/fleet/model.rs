//! What is written: groups of rows over three tables, each of which a transaction rewrites whole, so that whoever
//! reads can tell a half one: all rows carry the same revision, the number of rows, and the sum of their marks.

use std::collections::BTreeMap;

use crate::support::{Dice, uuid};

pub const TABLES: [&str; 3] = ["boards", "lists", "cards"];
const PARENTS: [&str; 3] = ["", "board_id", "list_id"];
const BOARD: usize = 0;
const LIST: usize = 1;
pub const CARD: usize = 2;

/// The most operations of a transaction.
const MOST_ROWS: u64 = 8;
const MOST_GROUPS: usize = 6;

/// A row: where it is, what it hangs on, and the number that its last writer gave it and nobody else uses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    pub table: usize,
    pub key: String,
    pub parent: Option<String>,
    pub mark: u64,
}

/// One transaction: all rows that the group has from now on, and those that it no longer has.
#[derive(Clone, Debug)]
pub struct Step {
    pub group: String,
    pub revision: String,
    pub saved: Vec<Row>,
    pub removed: Vec<Row>,
}

/// Somebody who writes groups of their own, and knows what the server must end up with.
pub struct Author {
    pub number: u64,
    pub dice: Dice,
    pub groups: BTreeMap<String, Vec<Row>>,
    /// Where all rows of a group are cards on this list, because only one table can be written at a time.
    list: Option<String>,
    drawn: u64,
}

impl Author {
    pub fn new(number: u64, seed: u64, list: Option<String>) -> Self {
        Self { number, dice: Dice::of_seed(seed * 1_000 + number), groups: BTreeMap::new(), list, drawn: 0 }
    }

    /// The first of the marks that only this author gives.
    pub fn first_mark(number: u64) -> u64 {
        number << 40
    }

    /// What to do next; `done` makes it known.
    pub fn next(&mut self) -> Step {
        let names: Vec<String> = self.groups.keys().cloned().collect();
        let wants_new = names.len() < 2 || names.len() < MOST_GROUPS && self.dice.below(4) == 0;
        if wants_new {
            let (group, rows) = (uuid(self.draw()), self.found());
            return self.rewrite(group, rows, Vec::new());
        }
        let group = self.one_of(&names);
        let mut rows = self.groups[&group].clone();
        match self.dice.below(10) {
            0 if self.list.is_none() || rows.len() == 1 => self.rewrite(group, Vec::new(), rows),
            1..=3 if self.list.is_none() => {
                let removed = self.shrink(&mut rows);
                self.rewrite(group, rows, removed)
            }
            4..=6 => {
                self.grow(&mut rows);
                self.rewrite(group, rows, Vec::new())
            }
            _ => {
                self.shuffle(&mut rows);
                self.rewrite(group, rows, Vec::new())
            }
        }
    }

    /// The same rows with other marks: a group that others write too, or a step of which nobody knows whether it was done.
    pub fn rewrite(&mut self, group: String, rows: Vec<Row>, removed: Vec<Row>) -> Step {
        let saved = rows.into_iter().map(|row| Row { mark: self.mark(), ..row }).collect();
        Step { group, revision: format!("{} {}", self.number, self.drawn), saved, removed }
    }

    pub fn done(&mut self, step: &Step) {
        if step.saved.is_empty() {
            self.groups.remove(&step.group);
        } else {
            self.groups.insert(step.group.clone(), step.saved.clone());
        }
    }

    fn found(&mut self) -> Vec<Row> {
        let mut rows = Vec::new();
        if self.list.is_none() {
            rows.push(Row { table: BOARD, key: uuid(self.draw()), parent: None, mark: 0 });
        }
        self.grow(&mut rows);
        rows
    }

    fn grow(&mut self, rows: &mut Vec<Row>) {
        let room = MOST_ROWS - rows.len() as u64;
        let least = u64::from(rows.is_empty());
        for _ in 0..least.max(self.dice.below(room + 1)) {
            let lists: Vec<String> = self.list.iter().cloned().chain(keys_of(rows, LIST)).collect();
            let is_list = self.list.is_none() && (lists.is_empty() || self.dice.below(3) == 0);
            let parent = if is_list { rows[0].key.clone() } else { self.one_of(&lists) };
            let table = if is_list { LIST } else { CARD };
            rows.push(Row { table, key: uuid(self.draw()), parent: Some(parent), mark: 0 });
        }
    }

    /// Takes one row away; cards of a list that goes move to another one.
    fn shrink(&mut self, rows: &mut Vec<Row>) -> Vec<Row> {
        let at = self.dice.below(rows.len() as u64) as usize;
        let others: Vec<String> = keys_of(rows, LIST).into_iter().filter(|key| *key != rows[at].key).collect();
        let has_children = rows.iter().any(|row| row.parent.as_ref() == Some(&rows[at].key));
        if rows[at].table == BOARD || has_children && others.is_empty() {
            return Vec::new();
        }
        let gone = rows.remove(at);
        for row in rows.iter_mut().filter(|row| row.parent.as_ref() == Some(&gone.key)) {
            row.parent = Some(others[self.dice.below(others.len() as u64) as usize].clone());
        }
        vec![gone]
    }

    /// Moves cards between the group's lists.
    fn shuffle(&mut self, rows: &mut [Row]) {
        let lists = keys_of(rows, LIST);
        if lists.len() > 1 {
            rows.iter_mut().filter(|row| row.table == CARD).for_each(|row| row.parent = Some(self.one_of(&lists)));
        }
    }

    fn one_of(&mut self, names: &[String]) -> String {
        names[self.dice.below(names.len() as u64) as usize].clone()
    }

    fn mark(&mut self) -> u64 {
        const NOISE: u64 = 1 << 16;
        Self::first_mark(self.number) + (self.draw() & 0xFF_FFFF) * NOISE + self.dice.below(NOISE)
    }

    /// A number that was not drawn before, by nobody.
    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        (self.number << 32) + self.drawn
    }
}

fn keys_of(rows: &[Row], table: usize) -> Vec<String> {
    rows.iter().filter(|row| row.table == table).map(|row| row.key.clone()).collect()
}

impl Step {
    /// The fields of a row, by their names, as JSON.
    pub fn fields(&self, row: &Row) -> Vec<(&'static str, String)> {
        let text = |value: &str| format!("\"{value}\"");
        let checksum: u64 = self.saved.iter().map(|row| row.mark).sum();
        let mut fields = vec![
            ("grp", text(&self.group)),
            ("revision", text(&self.revision)),
            ("checksum", checksum.to_string()),
            ("size", self.saved.len().to_string()),
            ("mark", row.mark.to_string()),
        ];
        fields.extend(row.parent.iter().map(|parent| (PARENTS[row.table], text(parent))));
        fields
    }

    pub fn document(&self, row: &Row) -> String {
        let fields = self.fields(row).into_iter().map(|(name, value)| format!("\"{name}\":{value}"));
        format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
    }

    /// A row as a statement.
    pub fn sql(&self, row: &Row, is_new: bool) -> String {
        let fields = self.fields(row).into_iter().map(|(name, value)| (name, value.replace('"', "'")));
        let (names, values): (Vec<_>, Vec<_>) = fields.unzip();
        let (table, key) = (TABLES[row.table], &row.key);
        if is_new {
            return format!("insert into {table} (id, {}) values ('{key}', {});", names.join(", "), values.join(", "));
        }
        let set: Vec<_> = names.iter().zip(&values).map(|(name, value)| format!("{name} = {value}")).collect();
        format!("update {table} set {} where id = '{key}';", set.join(", "))
    }
}
