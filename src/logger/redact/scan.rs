//! Finds secrets in a text by their looks and by the names before them, in one pass from left to right.

use super::{REDACTED, Redactor};

/// Beginnings of keys, in small letters: Supabase's and age's.
const BEGINNINGS: [&str; 4] = ["sb_secret_", "sb_publishable_", "sbp_", "age-secret-key-"];
/// What a header of an access token begins with, as base64 of `{"`.
const TOKEN_BEGINS: &str = "eyJ";
/// Bytes that the first part of an access token has at least.
const TOKEN_HEAD: usize = 10;
/// Bytes of a credential that stands after `Bearer` or `Basic` at least; it tells one from prose.
const CREDENTIAL_LEAST: usize = 6;

/// The text without these secrets; nothing if there are none in it.
pub(super) fn scan(text: &str, redactor: &Redactor) -> Option<String> {
    let mut scan = Scan { text, kept: 0, out: String::new(), redactor };
    let mut at = 0;
    while at < text.len() {
        at = match text.as_bytes()[at] {
            byte if is_word(byte) => scan.word(at),
            b':' if text[at..].starts_with("://") => scan.address(at + 3),
            0x1B => after_colour(text, at).max(at + 1),
            _ => at + 1,
        };
    }
    scan.end()
}

/// The text without one secret; a short one goes only where it stands alone.
pub(super) fn without(text: &str, secret: &str, anywhere: usize) -> Option<String> {
    let mut out = String::new();
    let mut kept = 0;
    for (at, found) in text.match_indices(secret) {
        let end = at + found.len();
        let touches = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = text.as_bytes();
        if secret.len() < anywhere
            && (touches(at.checked_sub(1).and_then(|at| bytes.get(at))) || touches(bytes.get(end)))
        {
            continue;
        }
        out.push_str(&text[kept..at]);
        out.push_str(REDACTED);
        kept = end;
    }
    (kept > 0).then(|| out + &text[kept..])
}

struct Scan<'a> {
    text: &'a str,
    /// Up to here the text is in `out`.
    kept: usize,
    out: String,
    redactor: &'a Redactor,
}

impl<'a> Scan<'a> {
    fn end(mut self) -> Option<String> {
        if self.kept == 0 {
            return None;
        }
        self.out.push_str(&self.text[self.kept..]);
        Some(self.out)
    }

    fn redact(&mut self, from: usize, to: usize) -> usize {
        if to > from && &self.text[from..to] != REDACTED {
            self.redact_as(from, to, REDACTED);
        }
        to
    }

    fn redact_as(&mut self, from: usize, to: usize, words: &str) {
        self.out.push_str(&self.text[self.kept..from]);
        self.out.push_str(words);
        self.kept = to;
    }

    /// A word may be a secret, or say that one follows.
    fn word(&mut self, from: usize) -> usize {
        let to = run(self.text, from, is_word);
        let word = &self.text[from..to];
        if let Some(begins) = key_in(word) {
            return self.redact(from + begins, to);
        }
        if word.eq_ignore_ascii_case("bearer") || word.eq_ignore_ascii_case("basic") {
            let begins = run(self.text, to, |byte| byte == b' ');
            let ends = run(self.text, begins, is_credential);
            if begins > to && ends - begins >= CREDENTIAL_LEAST && looks_drawn(&self.text[begins..ends]) {
                return self.redact(begins, ends);
            }
            return to;
        }
        match self.value_after(to) {
            Some((value, quote)) if self.redactor.hides(word) => self.value(word, value, quote),
            _ => to,
        }
    }

    /// Where the value begins, if the word before was its name: after `=` or `:`, quotes, blanks and colours. And the
    /// quote that its name ended with.
    fn value_after(&self, word_ends: usize) -> Option<(usize, &'a str)> {
        let is_blank = |byte| byte == b' ';
        let quote = after_colour(self.text, word_ends);
        let quote_ends = run(self.text, quote, |byte| matches!(byte, b'"' | b'\'' | b'\\'));
        let at = after_colour(self.text, run(self.text, quote_ends, is_blank));
        let rest = &self.text[at..];
        let sign = match rest.as_bytes().first()? {
            b'=' if rest.starts_with("=>") => 2,
            b'=' => 1,
            // A path of modules, or an address.
            b':' if rest.starts_with("::") || rest.starts_with("://") => return None,
            b':' => 1,
            _ => return None,
        };
        let begins = after_colour(self.text, run(self.text, after_colour(self.text, at + sign), is_blank));
        Some((begins, &self.text[quote..quote_ends]))
    }

    /// What is between quotes goes, and the quotes stay; what takes the place of another value is quoted as its name is.
    fn value(&mut self, name: &str, from: usize, quote: &str) -> usize {
        let to = value_end(self.text, from);
        let quoted = opening_quote(&self.text[from..to]);
        if quoted > 0 {
            let (mark, inner) = self.text[from..to].split_at(quoted);
            let closed = inner.strip_suffix(mark).map_or(0, |_| quoted);
            self.redact(from + quoted, to - closed);
            return to;
        }
        let value = &self.text[from..to];
        let is_plain = value.parse::<f64>().is_ok() || matches!(value, "true" | "false" | "None" | "null");
        if is_plain && !self.redactor.hides_number(name) {
            return to;
        }
        if !quote.is_empty() && to > from {
            self.redact_as(from, to, &format!("{quote}{REDACTED}{quote}"));
            return to;
        }
        self.redact(from, to)
    }

    /// What stands before the host of an address: a user and a password.
    fn address(&mut self, from: usize) -> usize {
        let ends = run(self.text, from, |byte| !matches!(byte, b'/' | b'?' | b'#' | b' ' | b'"' | b'\'' | b'<' | b'>'));
        match self.text[from..ends].rfind('@') {
            Some(at) => self.redact(from, from + at),
            None => from,
        }
    }
}

/// Where in a word a key or an access token begins.
fn key_in(word: &str) -> Option<usize> {
    let small = word.to_ascii_lowercase();
    let begins = |begin: &&str| small.find(*begin).filter(|at| small.len() > at + begin.len());
    if let Some(at) = BEGINNINGS.iter().filter_map(begins).min() {
        return Some(at);
    }
    let at = word.find(TOKEN_BEGINS)?;
    let (head, rest) = word[at..].split_once('.')?;
    (head.len() >= TOKEN_HEAD && !rest.is_empty()).then_some(at)
}

/// Whether it was drawn rather than written: digits, capitals after small letters, or longer than words are.
fn looks_drawn(text: &str) -> bool {
    text.len() >= 20
        || text.bytes().any(|byte| byte.is_ascii_digit())
        || text.bytes().skip(1).any(|byte| byte.is_ascii_uppercase())
}

/// Where a value ends: a quoted one after its quote, a bracketed one after its bracket, `Bearer x` after both words, any
/// other one before what cannot be in it.
fn value_end(text: &str, from: usize) -> usize {
    let rest = &text[from..];
    let bytes = rest.as_bytes();
    let escaped = bytes.first() == Some(&b'\\');
    let quote_at = usize::from(escaped);
    match bytes.get(quote_at).copied() {
        Some(quote @ (b'"' | b'\'')) => from + quoted_end(bytes, quote_at + 1, quote),
        Some(b'[' | b'{' | b'(') => from + bracket_end(bytes),
        _ => {
            let word = run(text, from, is_word);
            if text.as_bytes().get(word) == Some(&b'(') {
                return word + bracket_end(&text.as_bytes()[word..]);
            }
            let scheme = &text[from..word];
            let is_scheme = scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("basic");
            let start = if is_scheme { run(text, word, |byte| byte == b' ') } else { from };
            run(text, start, is_credential)
        }
    }
}

/// Bytes of the quote that a text begins with.
fn opening_quote(text: &str) -> usize {
    match text.as_bytes() {
        [b'"' | b'\'', ..] => 1,
        [b'\\', b'"' | b'\'', ..] => 2,
        _ => 0,
    }
}

fn quoted_end(bytes: &[u8], from: usize, quote: u8) -> usize {
    // A text in a text: its quotes are escaped at both ends.
    let is_escaped = from >= 2 && bytes[from - 2] == b'\\';
    let mut at = from;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if is_escaped && bytes.get(at + 1) == Some(&quote) => return at + 2,
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn bracket_end(bytes: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'[' | b'{' | b'(' => depth += 1,
            b']' | b'}' | b')' => depth = depth.saturating_sub(1),
            b'"' => at = quoted_end(bytes, at + 1, b'"') - 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

/// After the escape sequence that colours a terminal, if there is one.
fn after_colour(text: &str, mut at: usize) -> usize {
    while text[at..].starts_with("\u{1b}[") {
        let ends = run(text, at + 2, |byte| byte.is_ascii_digit() || byte == b';');
        at = if text.as_bytes().get(ends) == Some(&b'm') { ends + 1 } else { return ends };
    }
    at
}

/// The end of the bytes from here on that are such; never within a character.
fn run(text: &str, from: usize, is_such: impl Fn(u8) -> bool) -> usize {
    let ends = text.as_bytes()[from..].iter().position(|byte| !is_such(*byte)).map_or(text.len(), |at| from + at);
    if text.is_char_boundary(ends) {
        ends
    } else {
        (0..ends).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(from)
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

fn is_credential(byte: u8) -> bool {
    !byte.is_ascii_whitespace()
        && !matches!(byte, b',' | b';' | b'&' | b')' | b']' | b'}' | b'"' | b'\'' | b'#' | b'\\' | 0x1B)
}
