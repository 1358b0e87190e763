//! A document's key, where the caller gives none.

use tidelock_actors::document::Document;

use super::problem::Problem;

/// The document's own key by its collection's key field; a new one, rising with time, where it has none.
pub fn key_of(document: &Document, field: &str) -> Result<String, Problem> {
    let text = document.fields().get(field).unwrap_or("null");
    match text.as_bytes().first() {
        Some(b'n') => Ok(uuid::Uuid::now_v7().to_string()),
        Some(b'"') => Ok(serde_json::from_str(text).unwrap_or_default()),
        Some(b'-' | b'0'..=b'9') => Ok(text.to_owned()),
        _ => Err(Problem::bad_request(format!(
            "the document's key field {field:?} is neither text nor a number; set it to the record's key"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_text_or_a_number_and_is_made_where_there_is_none() {
        let key = |text: &str| key_of(&Document::parse(text).unwrap(), "id").map_err(|problem| problem.detail);
        assert_eq!(key(r#"{"id":"a\"b"}"#), Ok("a\"b".to_owned()));
        assert_eq!(key(r#"{"id":9007199254740993}"#), Ok("9007199254740993".to_owned()));
        assert!(key(r#"{"id":true}"#).is_err());
        let (first, second) = (key("{}").unwrap(), key(r#"{"id":null}"#).unwrap());
        assert!(first < second, "{first} {second}");
    }
}
