//! What commands print on standard output: one JSON document, or short aligned text.

use std::io::{self, Write};
use std::time::Duration;

use indicatif::ProgressBar;
use serde::Serialize;

use super::failure::Failure;

/// How the user wants to read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// One JSON document.
    Json,
    /// Text for people.
    Text,
}

impl Output {
    /// Prints `value` as JSON, or else the text that `words` makes of it.
    pub fn print<T: Serialize>(self, value: &T, words: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        let text = match self {
            Self::Json => serde_json::to_string(value).map_err(io::Error::from)?,
            Self::Text => words(value),
        };
        line(&text)
    }
}

/// Prints one text and ends its line; nothing for an empty one.
pub fn line(text: &str) -> Result<(), Failure> {
    if !text.is_empty() {
        writeln!(io::stdout().lock(), "{}", text.trim_end_matches('\n'))?;
    }
    Ok(())
}

/// Rows under their heads, columns as wide as their widest cell; nothing where there are no rows.
pub fn table<const N: usize>(heads: [&str; N], rows: Vec<[String; N]>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut all = vec![heads.map(str::to_owned)];
    all.extend(rows);
    columns(&all)
}

/// Names and values side by side.
pub fn pairs(pairs: &[(&str, String)]) -> String {
    columns(&pairs.iter().map(|(name, value)| [(*name).to_owned(), value.clone()]).collect::<Vec<_>>())
}

fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Shows on a terminal that something takes its time.
pub async fn waiting_for<T>(what: &'static str, work: impl Future<Output = T>) -> T {
    let bar = ProgressBar::new_spinner().with_message(what);
    bar.enable_steady_tick(Duration::from_millis(100));
    let done = work.await;
    bar.finish_and_clear();
    done
}

/// A size for people: `1.5 MiB`.
pub fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

pub fn yes_or_no(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = vec![["1".to_owned(), "é".to_owned()], ["100".to_owned(), String::new()]];
        assert_eq!(table(["id", "name"], rows), "id   name\n1    é\n100");
        assert_eq!(table(["id"], Vec::new()), "");
    }
}
