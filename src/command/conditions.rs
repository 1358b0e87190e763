//! `list --where` and `--order`: short text into the store's own questions.

use serde_json::Value;
use tidelock::adapters::sqlite::{Condition, Operator};

use super::failure::{Failure, USAGE};

/// Every way to compare, the longer signs first.
const SIGNS: [(&str, Operator); 7] = [
    ("!=", Operator::NotEqual),
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("=", Operator::Equal),
    ("<", Operator::Less),
    (">", Operator::Greater),
    ("~", Operator::Like),
];

/// `FIELD=VALUE` and its kind. The value is JSON where it reads as a number, `true`, `false`, `null` or quoted text;
/// otherwise it is text as it stands.
pub fn condition(text: &str) -> Result<Condition, Failure> {
    let first = SIGNS
        .iter()
        .filter_map(|(sign, operator)| text.find(sign).map(|at| (at, *sign, *operator)))
        .min_by_key(|(at, sign, _)| (*at, std::cmp::Reverse(sign.len())));
    match first {
        Some((at, sign, operator)) if at > 0 => {
            let (field, value) = (text[..at].trim(), text[at + sign.len()..].trim());
            let value = if operator == Operator::Like { Value::from(value) } else { scalar(value) };
            Ok(Condition { field: field.to_owned(), operator, value })
        }
        _ => Err(Failure::new(
            USAGE,
            format!("{text:?} is not a condition; write FIELD=VALUE, or one of != < <= > >= ~ (like) in place of ="),
        )),
    }
}

fn scalar(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_))) => value,
        Ok(Value::Array(_) | Value::Object(_)) | Err(_) => Value::from(text),
    }
}

/// `FIELD` or `FIELD:desc`.
pub fn order(text: &str) -> Result<(String, bool), Failure> {
    match text.split_once(':') {
        None => Ok((text.to_owned(), false)),
        Some((field, "asc")) => Ok((field.to_owned(), false)),
        Some((field, "desc")) => Ok((field.to_owned(), true)),
        Some(_) => Err(Failure::new(USAGE, format!("{text:?} is not an order; write FIELD, FIELD:asc or FIELD:desc"))),
    }
}

/// Where to go on: a page's end as the store gave it, or in the order of keys simply the last key.
pub fn after(text: &str) -> String {
    match serde_json::from_str(text) {
        Ok(Value::Array(_)) => text.to_owned(),
        _ => Value::from(vec![text]).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn conditions_are_read_from_short_text() {
        for (text, field, operator, value) in [
            ("status=done", "status", Operator::Equal, json!("done")),
            ("n >= 2", "n", Operator::GreaterOrEqual, json!(2)),
            ("n!=null", "n", Operator::NotEqual, json!(null)),
            ("code=\"42\"", "code", Operator::Equal, json!("42")),
            ("title~50%", "title", Operator::Like, json!("50%")),
            ("formula=a<=b", "formula", Operator::Equal, json!("a<=b")),
            ("is=", "is", Operator::Equal, json!("")),
        ] {
            assert_eq!(condition(text).unwrap(), Condition { field: field.to_owned(), operator, value }, "{text}");
        }
        for text in ["status", "=done", ""] {
            assert_eq!(condition(text).unwrap_err().exit, USAGE, "{text}");
        }
    }

    #[test]
    fn orders_and_places_are_read_from_short_text() {
        assert_eq!(order("at:desc"), Ok(("at".to_owned(), true)));
        assert!(order("at:down").is_err());
        assert_eq!(after("r 1"), r#"["r 1"]"#);
        assert_eq!(after(r#"[3,"r1"]"#), r#"[3,"r1"]"#);
    }
}
