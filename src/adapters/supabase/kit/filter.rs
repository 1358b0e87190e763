//! A collection's filter, as the configuration writes it, for the server kit: PostgREST's `column=operator.value`,
//! joined by `&`. Groups (`or=(…)`) and paths into JSON are PostgREST's alone.

use serde_json::{Value, json};

const OPERATORS: [&str; 10] = ["eq", "neq", "gt", "gte", "lt", "lte", "like", "ilike", "in", "is"];

/// The filter as `[[column, operator, value], …]`; what the kit cannot evaluate is told in words.
pub(super) fn read(filter: &str) -> Result<Value, String> {
    filter.split('&').filter(|part| !part.is_empty()).map(condition).collect::<Result<Vec<_>, _>>().map(Value::from)
}

fn condition(part: &str) -> Result<Value, String> {
    let unknown = || format!("the server kit cannot evaluate the filter {part:?}; use remote.mode = \"plain\" for it");
    let (column, rest) = part.split_once('=').ok_or_else(unknown)?;
    let (negation, rest) = rest.strip_prefix("not.").map_or(("", rest), |rest| ("not.", rest));
    let (operator, value) = rest.split_once('.').ok_or_else(unknown)?;
    if !OPERATORS.contains(&operator) || column.contains(['(', '>', ',']) || matches!(column, "or" | "and" | "not.or") {
        return Err(unknown());
    }
    let value = match operator {
        "in" => {
            let list = value.strip_prefix('(').and_then(|value| value.strip_suffix(')')).ok_or_else(unknown)?;
            Value::from(items(list))
        }
        "like" | "ilike" => Value::from(value.replace('*', "%")),
        _ => Value::from(value),
    };
    Ok(json!([column, format!("{negation}{operator}"), value]))
}

/// The items of a list; one that holds a comma or a parenthesis stands in quotes.
fn items(list: &str) -> Vec<String> {
    let (mut items, mut item, mut quoted, mut escaped) = (Vec::new(), String::new(), false, false);
    for character in list.chars() {
        match character {
            _ if escaped => {
                item.push(character);
                escaped = false;
            }
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => items.push(std::mem::take(&mut item)),
            _ => item.push(character),
        }
    }
    if !list.is_empty() {
        items.push(item);
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_taken_apart() {
        assert_eq!(
            read(r#"status=eq.a.b&kind=not.in.(x,"y,\"z")&title=ilike.*no*&gone=is.null"#).unwrap(),
            json!([
                ["status", "eq", "a.b"],
                ["kind", "not.in", ["x", "y,\"z"]],
                ["title", "ilike", "%no%"],
                ["gone", "is", "null"]
            ])
        );
        assert_eq!(read("").unwrap(), json!([]));
    }

    #[test]
    fn what_the_kit_cannot_evaluate_says_so() {
        for filter in ["or=(a.eq.1,b.eq.2)", "data->>x=eq.1", "a=fts.x", "a", "a=in.x"] {
            assert!(read(filter).unwrap_err().contains("cannot evaluate the filter"), "{filter}");
        }
    }
}
