//! What is taken out, and what stays.

use serde_json::json;

use super::*;

/// In no text that has been redacted.
const CANARY: &str = "cAnArY7";

fn redactor() -> Redactor {
    let secrets = ["configured-secret-value", "pin7", "with \"quotes\" inside"].map(SecretString::from);
    Redactor::new(&["Prompt".to_owned(), "card-number".to_owned()], secrets)
}

#[test]
fn secrets_are_found_by_their_looks_and_by_their_names() {
    let token = format!("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI{CANARY}.c2lnbmF0dXJl");
    for (text, left) in [
        (format!("sent {token} away"), "sent [redacted] away"),
        (format!("sent=>{token}"), "sent=>[redacted]"),
        (format!("key sb_secret_{CANARY}_x!"), "key [redacted]!"),
        (format!("key sb_publishable_{CANARY}, ok"), "key [redacted], ok"),
        (format!("with AGE-SECRET-KEY-1{CANARY}QQ."), "with [redacted]"),
        (format!("age-secret-key-1{CANARY}"), "[redacted]"),
        (format!("sbp_{CANARY}"), "[redacted]"),
        (format!("Authorization: Bearer {CANARY}"), "Authorization: [redacted]"),
        (format!("sent bearer {CANARY}~+/= twice"), "sent bearer [redacted] twice"),
        (format!("\"authorization\":\"Basic {CANARY}\",\"a\":1"), "\"authorization\":\"[redacted]\",\"a\":1"),
        (format!("https://user:{CANARY}@host/path"), "https://[redacted]@host/path"),
        (format!("postgres://postgres:p@{CANARY}@host:5432/db"), "postgres://[redacted]@host:5432/db"),
        (format!("GET /rest/v1/t?apikey={CANARY}&select=id"), "GET /rest/v1/t?apikey=[redacted]&select=id"),
        (format!("GET /x?select=id&access_token={CANARY}#top"), "GET /x?select=id&access_token=[redacted]#top"),
        (format!("password: \"{CANARY} and \\\" more\", next: 1"), "password: \"[redacted]\", next: 1"),
        (format!("Some(Login {{ passphrase: Some(\"{CANARY}, x\") }})"), "Some(Login { passphrase: [redacted] })"),
        (format!("client_secret={CANARY}"), "client_secret=[redacted]"),
        (format!("cookies: [\"{CANARY}\", \"b\"] end"), "cookies: [redacted] end"),
        (format!("{{\\\"token\\\":\\\"{CANARY}\\\",\\\"n\\\":1}}"), "{\\\"token\\\":\\\"[redacted]\\\",\\\"n\\\":1}"),
        (
            format!("{{\"password\":1234,\"cookies\":[\"{CANARY}\"]}}"),
            "{\"password\":\"[redacted]\",\"cookies\":\"[redacted]\"}",
        ),
        (format!("prompt={CANARY}"), "prompt=[redacted]"),
        (format!("card_number: {CANARY}"), "card_number: [redacted]"),
        (
            format!("\u{1b}[3mtoken\u{1b}[0m\u{1b}[2m=\u{1b}[0m{CANARY}\u{1b}[0m"),
            "\u{1b}[3mtoken\u{1b}[0m\u{1b}[2m=\u{1b}[0m[redacted]\u{1b}[0m",
        ),
        ("it is configured-secret-value!".to_owned(), "it is [redacted]!"),
        ("xconfigured-secret-valuex".to_owned(), "x[redacted]x"),
        ("a pin7 b".to_owned(), "a [redacted] b"),
        ("with \\\"quotes\\\" inside".to_owned(), "[redacted]"),
        (format!("ünï pass=x password={CANARY} ü"), "ünï pass=x password=[redacted] ü"),
        (format!("token: Some(\"a) {CANARY}\") ok"), "token: [redacted] ok"),
    ] {
        let redacted = redactor().text(&text).into_owned();
        assert!(!redacted.contains(CANARY), "{text:?} became {redacted:?}");
        assert_eq!(redacted, left, "{text:?}");
        assert_eq!(redactor().text(&redacted), left, "what is redacted stays as it is");
    }
}

#[test]
fn what_is_no_secret_stays() {
    for text in [
        "",
        "the key of record 17 is missing",
        "bearer of bad news",
        "basic arithmetic",
        "tokens: 1234, max_tokens=50",
        "tidelock::token::refresh failed",
        "spinning pin70",
        "https://host/path?select=id@x",
        "mail somebody@example.com",
        "HTTP 401: eyJ is how one begins",
        "sb_secret_ is a beginning",
        "42501: permission denied for table usage_logs",
        "größer als Ω, 試験",
        "\u{1b}[31mred\u{1b}[0m",
        "\u{1b}[",
    ] {
        assert_eq!(redactor().text(text), text);
        assert!(matches!(redactor().text(text), Cow::Borrowed(_)), "{text:?} was copied");
    }
}

#[test]
fn values_are_redacted_by_name_at_any_depth() {
    let value = json!({
        "headers": {"Authorization": CANARY, "X-Api-Key": [CANARY], "accept": "json"},
        "tokens": 17, "token": CANARY, "pin_password": 1234, "prompt": {"text": CANARY}, "nothing": null, "secret": null,
        "list": [{"cookie": CANARY}, format!("sb_secret_{CANARY}")],
    });
    let redacted = redactor().value("metadata", value);
    assert!(!redacted.to_string().contains(CANARY), "{redacted}");
    let expected = json!({
        "headers": {"Authorization": REDACTED, "X-Api-Key": REDACTED, "accept": "json"},
        "tokens": 17, "token": REDACTED, "pin_password": REDACTED, "prompt": REDACTED, "nothing": null, "secret": null,
        "list": [{"cookie": REDACTED}, REDACTED],
    });
    assert_eq!(redacted, expected);
}

#[test]
fn a_text_of_a_document_renames_no_part_of_a_whole_value() {
    let secrets = ["conflicts", "last_error", "Ada Lovelace"].map(SecretString::from);
    let redactor = Redactor::new(&[], secrets);
    let value =
        json!({"conflicts": [{"last_error": "of conflicts"}], "log": [{"Ada Lovelace": 1}, {"sb_secret_canary": 2}]});
    let left = json!({"conflicts": [{"last_error": "of [redacted]"}], "log": [{"[redacted]": 1}, {"[redacted]": 2}]});
    assert_eq!(redactor.whole(value), left);
}

#[test]
fn a_value_has_a_bound() {
    let mut deep = json!("x");
    for _ in 0..500 {
        deep = json!([deep]);
    }
    assert!(redactor().value("a", deep).to_string().len() < 100);
    let wide: Map<String, Value> = (0..10_000).map(|number| (number.to_string(), json!("x".repeat(100)))).collect();
    assert!(Value::Object(redactor().map(wide)).to_string().len() < 16_000);
    let long = redactor().value("a", json!("ü".repeat(100_000)));
    assert!(long.as_str().unwrap().len() <= LOG_TEXT_BYTES && long.as_str().unwrap().ends_with("(cut)"));
}

/// What is read of a text is bounded, so that nobody who logs pays for more of it, however short it gets.
#[test]
fn no_more_of_a_text_is_looked_at_than_may_be() {
    let long = format!("{}the end", format!("token={} ", "0123456789abcdef".repeat(32)).repeat(LOG_TEXT_READ / 512));
    assert!(long.len() > LOG_TEXT_READ && redactor().text(&long).len() < LOG_TEXT_BYTES);
    let short = redactor().short(&long);
    assert!(short.starts_with("token=[redacted] token") && short.ends_with("(cut)"), "{short}");
    let fields = redactor().map(Map::from_iter([("a".to_owned(), json!(long)), (long.clone(), json!(CANARY))]));
    let text = json!(fields).to_string();
    assert!(!text.contains("the end") && !text.contains("0123456789") && !text.contains(CANARY), "{text}");
}

#[test]
fn h48_a_redactor_shows_nothing_of_what_it_knows() {
    let shown = format!("{:?}", redactor());
    assert!(!shown.contains("configured") && !shown.contains("pin7"), "{shown}");
}

/// Whatever stands around a secret, it is not left there, and no text stops the scan.
#[test]
fn drawn_texts_are_redacted_without_a_panic() {
    let mut chance = tidelock_actors::machine::Chance::from_seed(11);
    let pieces = [
        "\u{1b}[3m",
        "\u{1b}[",
        "token",
        "=",
        ":",
        "\"",
        "'",
        "\\",
        "://",
        "@",
        "(",
        "[",
        "{",
        " ",
        "ü",
        "試",
        "Bearer ",
        "eyJ",
        ".",
        "password",
    ];
    for _ in 0..20_000 {
        let mut text = String::new();
        for _ in 0..12 {
            text.push_str(pieces[(chance.fraction() * pieces.len() as f64) as usize]);
        }
        let text = format!("{text}configured-secret-value{text}");
        assert!(!redactor().text(&text).contains("configured-secret-value"), "{text:?}");
    }
}
