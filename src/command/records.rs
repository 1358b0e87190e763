//! Commands on records: put, get, list, delete, export.

use std::io::Write;

use tidelock::Document;
use tidelock::adapters::sqlite::ListQuery;
use tidelock::api::{Deleted, Saved, key_of};

use super::access::Access;
use super::arguments::{Collection, List, Put, Record};
use super::conditions;
use super::failure::{FAILED, Failure};
use super::input;
use super::output::{Output, line};

/// Records read at once.
const PAGE: usize = 1_000;

/// `put`
pub async fn put(access: &Access, arguments: &Put, key_field: &str, output: Output) -> Result<(), Failure> {
    let (given, document) = match arguments.key_and_document.as_slice() {
        [key, document] => (Some(key.clone()), document),
        [document] => (None, document),
        _ => return Err(Failure::new(super::failure::USAGE, "give a document, or a key and a document")),
    };
    let document = input::document(document)?;
    let id = match given {
        Some(key) => key,
        None => key_of(&document, key_field)?,
    };
    access.save(&arguments.collection, &id, document).await?;
    output.print(&Saved { id }, |saved| saved.id.clone())
}

/// `get`
pub async fn get(access: &Access, record: &Record) -> Result<(), Failure> {
    let Record { collection, id } = record;
    match access.get(collection, id).await? {
        Some(document) => line(document.as_str()),
        None => Err(Failure::new(
            FAILED,
            format!("there is no record {id:?} in {collection}; see `tidelock list {collection}`"),
        )),
    }
}

/// `delete`
pub async fn delete(access: &Access, record: &Record, output: Output) -> Result<(), Failure> {
    let Record { collection, id } = record;
    let deleted = access.delete(collection, id).await?;
    output.print(&Deleted { deleted }, |Deleted { deleted }| {
        if *deleted {
            format!("deleted {collection}/{id}")
        } else {
            format!("there was no record {id:?} in {collection}")
        }
    })
}

/// `list`: an array of documents, or one document a line.
pub async fn list(access: &Access, arguments: &List, output: Output) -> Result<(), Failure> {
    let query = ListQuery {
        collection: arguments.collection.clone(),
        filter: arguments.conditions.iter().map(|text| conditions::condition(text)).collect::<Result<_, _>>()?,
        order: arguments.order.iter().map(|text| conditions::order(text)).collect::<Result<_, _>>()?,
        limit: PAGE,
        after: arguments.after.as_deref().map(conditions::after),
    };
    let mut writer = Writer::new(output);
    walk(access, query, arguments.limit, |document| writer.document(document)).await?;
    writer.end()
}

/// `export`: JSON Lines, whatever the output is wanted as.
pub async fn export(access: &Access, arguments: &Collection) -> Result<(), Failure> {
    let query = ListQuery { collection: arguments.collection.clone(), limit: PAGE, ..ListQuery::default() };
    let mut writer = Writer::new(Output::Text);
    walk(access, query, None, |document| writer.document(document)).await?;
    writer.end()
}

/// Reads page by page and shows every document, so that memory stays bounded however many there are.
async fn walk(
    access: &Access,
    mut query: ListQuery,
    limit: Option<usize>,
    mut show: impl FnMut(&Document) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut left = limit.unwrap_or(usize::MAX);
    loop {
        query.limit = left.min(PAGE);
        if query.limit == 0 {
            return Ok(());
        }
        let page = access.list(query.clone()).await?;
        for (_, document) in &page.rows {
            show(document)?;
        }
        left -= page.rows.len().min(left);
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(()),
        }
    }
}

/// Writes documents as they come: the elements of an array, or lines.
struct Writer {
    to: std::io::BufWriter<std::io::Stdout>,
    output: Output,
    is_first: bool,
}

impl Writer {
    fn new(output: Output) -> Self {
        Self { to: std::io::BufWriter::new(std::io::stdout()), output, is_first: true }
    }

    fn document(&mut self, document: &Document) -> Result<(), Failure> {
        match (self.output, self.is_first) {
            (Output::Text, _) => writeln!(self.to, "{document}")?,
            (Output::Json, true) => write!(self.to, "[{document}")?,
            (Output::Json, false) => write!(self.to, ",{document}")?,
        }
        self.is_first = false;
        Ok(())
    }

    fn end(mut self) -> Result<(), Failure> {
        match (self.output, self.is_first) {
            (Output::Text, _) => {}
            (Output::Json, true) => writeln!(self.to, "[]")?,
            (Output::Json, false) => writeln!(self.to, "]")?,
        }
        Ok(self.to.flush()?)
    }
}
