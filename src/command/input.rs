//! Documents on the command line or on standard input.

use std::io::Read;

use tidelock::Document;

use super::failure::{FAILED, Failure, USAGE};

/// The document that an argument holds, or that comes on standard input for `-`.
pub fn document(argument: &str) -> Result<Document, Failure> {
    if argument != "-" {
        return parse(argument, "the document");
    }
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| Failure::new(FAILED, format!("standard input cannot be read ({error})")))?;
    parse(&text, "the document on standard input")
}

fn parse(text: &str, what: &str) -> Result<Document, Failure> {
    Document::parse(text).map_err(|error| {
        Failure::new(USAGE, format!("{what} is {error}; give one JSON object, such as '{{\"title\": \"…\"}}'"))
    })
}
