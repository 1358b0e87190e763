//! `tidelock import`: a JSON Lines file, streamed into the store transaction by transaction.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tidelock::Document;
use tidelock::api::key_of;

use super::access::Access;
use super::arguments;
use super::failure::{FAILED, Failure, IN_PART, USAGE};
use super::output::Output;

/// Documents in one transaction.
const DOCUMENTS: usize = 500;
/// Bytes of documents after which a transaction is closed early, so that a request to the process stays within its
/// limit.
const BYTES: usize = 8 * 1024 * 1024;
/// Bytes of one line: more than a document may have.
const LINE_BYTES: u64 = 16 * 1024 * 1024;

/// What was imported.
#[derive(Debug, Default, Serialize)]
struct Imported {
    /// Documents saved.
    imported: u64,
    /// Of these, records that were new or really changed.
    changed: u64,
}

/// Saves every document; at the first one that cannot be saved it stops and names its line.
pub async fn import(
    access: &Access,
    arguments: &arguments::Import,
    key_field: &str,
    output: Output,
) -> Result<(), Failure> {
    let mut import = Import {
        access,
        collection: &arguments.collection,
        name: name_of(&arguments.file),
        waiting: Vec::new(),
        bytes: 0,
        first_line: 1,
        done: Imported::default(),
    };
    let (lines, bar) = open(&arguments.file, &import.name)?;
    let ended = import.all(lines, &bar, key_field).await;
    bar.finish_and_clear();
    ended?;
    output.print(&import.done, |done| {
        format!("imported {} documents into {}, {} changed", done.imported, arguments.collection, done.changed)
    })
}

struct Import<'a> {
    access: &'a Access,
    collection: &'a str,
    name: String,
    waiting: Vec<(String, Document)>,
    bytes: usize,
    first_line: u64,
    done: Imported,
}

/// What one line holds.
enum Line {
    End,
    Blank,
    Document(String, Document),
}

impl Import<'_> {
    async fn all(&mut self, mut lines: impl BufRead, bar: &ProgressBar, key_field: &str) -> Result<(), Failure> {
        for number in 1.. {
            let mut text = String::new();
            match read(&mut lines, &mut text, key_field) {
                Ok(Line::End) => break,
                Ok(Line::Blank) => {}
                Ok(Line::Document(key, document)) => self.waiting.push((key, document)),
                Err(failure) => {
                    // What stands before the bad line is good: it goes in.
                    self.flush(number).await?;
                    return Err(self.stopped(&failure, &format!("line {number}")));
                }
            }
            self.bytes += text.len();
            bar.inc(text.len() as u64);
            if self.waiting.len() >= DOCUMENTS || self.bytes >= BYTES {
                self.flush(number + 1).await?;
            }
        }
        self.flush(0).await
    }

    /// Saves what is waiting in one transaction; the next one begins with this line.
    async fn flush(&mut self, next_line: u64) -> Result<(), Failure> {
        let documents = std::mem::take(&mut self.waiting);
        let count = documents.len() as u64;
        if count > 0 {
            let lines = format!("the {count} documents from line {} on", self.first_line);
            let saved = self.access.bulk_save(self.collection, documents).await;
            self.done.changed += saved.map_err(|failure| self.stopped(&failure, &lines))?;
            self.done.imported += count;
        }
        self.bytes = 0;
        self.first_line = next_line;
        Ok(())
    }

    /// The end before the end of the file: where, why, and what is in already.
    fn stopped(&self, failure: &Failure, place: &str) -> Failure {
        let imported = self.done.imported;
        let (exit, done) = match imported {
            0 => (failure.exit, "nothing was imported".to_owned()),
            _ => (
                IN_PART,
                format!("the {imported} documents before it were imported, and importing them again changes nothing"),
            ),
        };
        Failure::new(exit, format!("{}: {place}: {failure}; {done}", self.name))
    }
}

fn read(lines: &mut impl BufRead, text: &mut String, key_field: &str) -> Result<Line, Failure> {
    let failed = |error: io::Error| Failure::new(FAILED, format!("cannot be read ({error})"));
    if lines.by_ref().take(LINE_BYTES).read_line(text).map_err(failed)? == 0 {
        return Ok(Line::End);
    }
    if text.trim().is_empty() {
        return Ok(Line::Blank);
    }
    let document = Document::parse(text).map_err(|error| Failure::new(USAGE, error))?;
    Ok(Line::Document(key_of(&document, key_field)?, document))
}

fn name_of(file: &Path) -> String {
    if is_standard_input(file) { "standard input".to_owned() } else { file.display().to_string() }
}

fn is_standard_input(file: &Path) -> bool {
    file == Path::new("-")
}

/// The file's lines and a bar as long as the file; the bar shows only on a terminal.
fn open(path: &Path, name: &str) -> Result<(Box<dyn BufRead>, ProgressBar), Failure> {
    if is_standard_input(path) {
        return Ok((Box::new(BufReader::new(io::stdin())), ProgressBar::no_length()));
    }
    let failed =
        |error: io::Error| Failure::new(USAGE, format!("{name} cannot be read ({error}); name a JSON Lines file"));
    let file = File::open(path).map_err(failed)?;
    let bar = ProgressBar::new(file.metadata().map_err(failed)?.len());
    let style = ProgressStyle::with_template("{bar:40} {decimal_bytes}/{decimal_total_bytes} {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    Ok((Box::new(BufReader::with_capacity(1024 * 1024, file)), bar))
}
