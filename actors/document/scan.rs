//! Takes JSON apart that is known to be well-formed, because a parser has seen it. There, commas and colons carry
//! no information: what is left between two brackets is one value after the other. Strings are skipped by a
//! vectorised search; no text is copied, no number read.

use std::borrow::Cow;

use memchr::{memchr2, memchr3_iter};

/// The fields of an object in the order in which they are written, each with its JSON text; none of any other value.
pub fn entries(text: &str) -> impl Iterator<Item = (Cow<'_, str>, &str)> {
    let mut values = Values::inside(text, '{');
    std::iter::from_fn(move || Some((unquoted(values.next()?), values.next()?)))
}

/// The elements of an array, each as its JSON text; none of any other value.
pub fn elements(text: &str) -> impl Iterator<Item = &str> {
    Values::inside(text, '[')
}

/// A string's content, or any other value's text.
pub fn unquoted(text: &str) -> Cow<'_, str> {
    decoded(text).unwrap_or(Cow::Borrowed(text))
}

/// A string's content; none of any other value, or where an escape stands for no character.
pub(super) fn decoded(text: &str) -> Option<Cow<'_, str>> {
    let content = text.strip_prefix('"')?.strip_suffix('"')?;
    if content.contains('\\') { serde_json::from_str(text).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(content)) }
}

/// The values between a pair of brackets.
struct Values<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Values<'a> {
    fn inside(text: &'a str, bracket: char) -> Self {
        let content = text.trim_start().strip_prefix(bracket);
        Self { text: content.unwrap_or_default(), at: 0 }
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let bytes = self.text.as_bytes();
        let between = |byte: &u8| matches!(byte, b',' | b':' | b' ' | b'\n' | b'\r' | b'\t');
        let begin = self.at + bytes.get(self.at..)?.iter().position(|byte| !between(byte))?;
        self.at = begin + end_of_value(&bytes[begin..])?;
        self.text.get(begin..self.at)
    }
}

/// How long the value is that begins here; none where a bracket ends instead.
fn end_of_value(bytes: &[u8]) -> Option<usize> {
    match bytes.first()? {
        b'"' => end_of_string(bytes),
        b'{' => end_of_nested(bytes, b'{', b'}'),
        b'[' => end_of_nested(bytes, b'[', b']'),
        b'}' | b']' => None,
        _ => Some(bytes.iter().position(|byte| b",}] \n\r\t".contains(byte)).unwrap_or(bytes.len())),
    }
}

fn end_of_string(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// Brackets of the other kind are in pairs between two of this kind, so they need not be counted.
fn end_of_nested(bytes: &[u8], open: u8, close: u8) -> Option<usize> {
    let (mut depth, mut string_end) = (0_usize, 0);
    for at in memchr3_iter(b'"', open, close, bytes) {
        if at < string_end {
            continue;
        }
        match bytes[at] {
            b'"' => string_end = at + end_of_string(&bytes[at..])?,
            byte if byte == open => depth += 1,
            _ if depth == 1 => return Some(at + 1),
            _ => depth -= 1,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Chance;
    use serde_json::Value;

    fn told(text: &str) -> Vec<(String, Value)> {
        entries(text).map(|(name, value)| (name.into_owned(), serde_json::from_str(value).unwrap())).collect()
    }

    #[test]
    fn an_object_falls_into_its_fields() {
        for (text, expected) in [
            ("{}", vec![]),
            (" { } ", vec![]),
            (r#"{"a":1}"#, vec![("a", "1")]),
            (r#"{"b":-1.5e+7,"a":true,"b":null}"#, vec![("b", "-1.5e+7"), ("a", "true"), ("b", "null")]),
            ("{ \"a\" :\n\t\"x\" ,\r\"b\" : false }", vec![("a", "\"x\""), ("b", "false")]),
            (r#"{"a":"} , \" \\","b":"\\\\"}"#, vec![("a", r#""} , \" \\""#), ("b", r#""\\\\""#)]),
            (
                r#"{"a":[1,"]",{"x":[]}],"b":{"]":["}"],"y":{}}}"#,
                vec![("a", r#"[1,"]",{"x":[]}]"#), ("b", r#"{"]":["}"],"y":{}}"#)],
            ),
            (r#"{"":1,"\u0061\"":2,"é🙂":"é🙂"}"#, vec![("", "1"), ("a\"", "2"), ("é🙂", "\"é🙂\"")]),
        ] {
            let told: Vec<_> = entries(text).collect();
            let told: Vec<_> = told.iter().map(|(name, value)| (&**name, *value)).collect();
            assert_eq!(told, expected, "{text}");
        }
    }

    #[test]
    fn an_array_falls_into_its_elements_and_other_values_into_nothing() {
        assert_eq!(
            elements(r#"[1, "a,b" ,[2,[3]],{"a":[]}]"#).collect::<Vec<_>>(),
            ["1", "\"a,b\"", "[2,[3]]", r#"{"a":[]}"#]
        );
        for text in ["[]", " [ ] ", "{\"a\":1}", "1", "\"[1]\"", "null", ""] {
            assert_eq!(elements(text).count(), 0, "{text}");
        }
        assert_eq!(entries("[1,2]").count() + entries("12").count() + entries("").count(), 0);
    }

    #[test]
    fn what_is_torn_off_ends_the_scan() {
        let text = r#"{"a":"x\"y","b":[{"c":1},"]"],"é":{"d":null}}"#;
        for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
            assert!(entries(&text[..end]).count() <= 3);
        }
    }

    /// Documents of every shape, against the parser.
    #[test]
    fn generated_objects_fall_into_what_the_parser_finds() {
        let mut chance = Chance::from_seed(7);
        for _ in 0..2_000 {
            let object = generated(&mut chance, 0);
            let texts = [object.to_string(), serde_json::to_string_pretty(&object).unwrap()];
            let expected: Vec<_> = object.as_object().unwrap().clone().into_iter().collect();
            texts.iter().for_each(|text| assert_eq!(told(text), expected, "{text}"));
        }
    }

    fn generated(chance: &mut Chance, depth: usize) -> Value {
        let below = |chance: &mut Chance, limit: usize| (chance.fraction() * limit as f64) as usize;
        let text = |chance: &mut Chance| -> String {
            let letters = ['a', '"', '\\', '}', ']', '{', '[', ',', ':', ' ', '\n', 'é', '🙂', '\u{1}'];
            (0..below(chance, 6)).map(|_| letters[below(chance, letters.len())]).collect()
        };
        let mut object = serde_json::Map::new();
        for _ in 0..below(chance, 5) {
            let value = match below(chance, if depth < 4 { 7 } else { 5 }) {
                0 => Value::Null,
                1 => Value::from(below(chance, 2) == 0),
                2 => Value::from(below(chance, 1_000_000)),
                3 => Value::from(below(chance, 1_000) as f64 / -8.0),
                4 => Value::from(text(chance)),
                5 => (0..below(chance, 4)).map(|_| generated(chance, depth + 1)).collect(),
                _ => generated(chance, depth + 1),
            };
            object.insert(text(chance), value);
        }
        Value::Object(object)
    }
}
