//! Digests: what they are made of, whose rows are in them, and that both sides make the same.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidelock_actors::document::{Layout, Spelling, bucket, hash};

use super::{ADA, BOB, Caller, Kit, quoted};
use crate::support::Dice;

/// A column of every kind that is written in its own way.
const ODD: &str = "
    create type mood as enum ('so so', 'it''s \"fine\"');
    create domain short as text check (length(value) < 40);
    create table odd (
      id int, part text, n bigint, money numeric(38, 10), \"Real\" double precision, small real, yes bool, words text,
      padded char(5), day date, at timestamptz, local timestamp, bytes bytea, numbers bigint[], times timestamptz[],
      meta jsonb, written json, mood mood, short short, net inet, span interval, primary key (part, id));
    select tidelock.attach('odd');";

const COLUMNS: [&str; 21] = [
    "id", "part", "n", "money", "Real", "small", "yes", "words", "padded", "day", "at", "local", "bytes", "numbers",
    "times", "meta", "written", "mood", "short", "net", "span",
];

impl Caller {
    async fn audit(&self, entry: Value) -> Value {
        let answer = self.value(&format!("select tidelock_audit({})", quoted(&json!([entry])))).await;
        serde_json::from_str::<Value>(&answer).unwrap()["collections"][0].clone()
    }

    /// The digests of one bucket's rows, by key.
    async fn rows(&self, table: &str, columns: &[&str]) -> BTreeMap<String, u64> {
        let answer = self.audit(json!({ "table": table, "columns": columns, "only": [0] })).await;
        let rows = answer["rows"].as_array().unwrap_or_else(|| panic!("{answer}"));
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        rows.iter().map(|row| (text(&row[0]), u64::from_str_radix(&text(&row[1]), 16).unwrap())).collect()
    }
}

/// As `4_audit.sql` says it, from texts that were written down by hand.
fn digest(key: &str, texts: &[Option<&str>]) -> u64 {
    let texts = texts.iter().zip(1..);
    let seed = texts.fold(0, |all, (text, place)| all ^ text.map_or(0, |text| hash(text.as_bytes(), place)));
    hash(key.as_bytes(), seed)
}

#[tokio::test]
async fn a_digest_is_of_the_texts_of_the_columns_whatever_the_session_is_set_to() {
    let kit = Kit::with(ODD).await;
    kit.owner
        .run(
            "insert into odd values (1, 'a\"b', 9223372036854775807, 12345678901234567890123456.0123456789, 1e300, 'NaN', false,
               E'Grüße\\n''\\\\\"🙂', 'ab', '2026-11-22', '2026-11-22 10:00:00.123456+02', '2026-11-22 10:00:00.5', '\\x00ff',
               '{1,NULL,-9223372036854775808}', '{2026-11-22 10:00:00+02}', '{\"bb\": [1.50, null, {\"é\": \"\\u0001\"}], \"a\": 1e2}',
               ' {\"z\":1,  \"a\":2}', 'it''s \"fine\"', 'so', '10.0.0.1', '1 day 02:03');
             insert into odd (id, part, words) values (2, '', '');
             insert into odd (id, part, at, meta, written, \"Real\") values (3, 'x', '-infinity', 'null', 'null', '-0');
             insert into odd (id, part, at, meta) values (4, 'x', '0044-03-15 00:00:00+00 BC', '\"text\"');
             set timezone = 'Asia/Tokyo'; set datestyle = 'German'",
        )
        .await;
    let rows = kit.owner.rows("odd", &COLUMNS).await;
    let full = [
        "1",
        "a\"b",
        "9223372036854775807",
        "12345678901234567890123456.0123456789",
        "1e+300",
        "NaN",
        "false",
        "Grüße\n'\\\"🙂",
        "ab   ",
        "2026-11-22",
        "2026-11-22 08:00:00.123456+00",
        "2026-11-22 10:00:00.5",
        "\\x00ff",
        "[1, null, -9223372036854775808]",
        "[\"2026-11-22T08:00:00+00:00\"]",
        r#"{"a": 100, "bb": [1.50, null, {"é": "\u0001"}]}"#,
        r#" {"z":1,  "a":2}"#,
        "it's \"fine\"",
        "so",
        "10.0.0.1",
        "1 day 02:03:00",
    ];
    assert_eq!(rows[r#"["a\"b", 1]"#], digest(r#"["a\"b", 1]"#, &full.map(Some)));
    let mut texts: [Option<&str>; 21] = [None; 21];
    (texts[0], texts[1], texts[7]) = (Some("2"), Some(""), Some(""));
    assert_eq!(rows[r#"["", 2]"#], digest(r#"["", 2]"#, &texts), "an empty text is something");
    let mut texts = [None; 21];
    (texts[0], texts[1], texts[4], texts[10]) = (Some("3"), Some("x"), Some("-0"), Some("-infinity"));
    assert_eq!(rows[r#"["x", 3]"#], digest(r#"["x", 3]"#, &texts), "a JSON null is nothing");
    let mut texts = [None; 21];
    (texts[0], texts[1], texts[10], texts[15]) =
        (Some("4"), Some("x"), Some("0044-03-15 00:00:00+00 BC"), Some("text"));
    assert_eq!(rows[r#"["x", 4]"#], digest(r#"["x", 4]"#, &texts));
    assert_eq!(rows.len(), 4);
}

#[tokio::test]
async fn buckets_hold_the_digests_of_their_rows_and_only_what_belongs_to_the_collection() {
    let kit = Kit::with(
        "create table notes_of (id text primary key, body text, gone timestamptz); select tidelock.attach('notes_of', soft => 'gone');
         insert into notes_of select 'note ' || n, 'body ' || n % 7 from generate_series(1, 500) n;
         update notes_of set gone = now() where id like '%9'",
    )
    .await;
    let entry = json!({ "table": "notes_of", "columns": ["id", "body"], "buckets": 64, "filter": [["body", "not.in", ["body 1", "body 2"]]] });
    let digests = kit.owner.audit(entry.clone()).await["digests"].as_str().unwrap().to_owned();
    assert_eq!(digests.len(), 64 * 16);
    let mut expected = vec![0; 64];
    for n in (1..=500).filter(|n| n % 10 != 9 && n % 7 != 1 && n % 7 != 2) {
        let (key, body) = (format!("note {n}"), format!("body {}", n % 7));
        expected[bucket(&key, 64)] ^= digest(&key, &[Some(&key), Some(&body)]);
    }
    let told: Vec<u64> = (0..64).map(|at| u64::from_str_radix(&digests[16 * at..16 * at + 16], 16).unwrap()).collect();
    assert_eq!(told, expected);
    let some: Value =
        entry.as_object().unwrap().clone().into_iter().chain([("only".to_owned(), json!([5, 9]))]).collect();
    let rows = kit.owner.audit(some).await["rows"].as_array().unwrap().clone();
    assert!(
        !rows.is_empty() && rows.iter().all(|row| [5, 9].contains(&bucket(row[0].as_str().unwrap(), 64))),
        "{rows:?}"
    );
    for (wrong, code) in [
        (json!({ "table": "nowhere" }), "42P01"),
        (json!({ "table": "notes_of", "columns": ["no"] }), "42703"),
        (json!({ "table": "notes_of", "buckets": 3 }), "22023"),
        (json!({ "table": "notes_of", "buckets": 1 << 20 }), "22023"),
    ] {
        assert_eq!(kit.owner.audit(wrong.clone()).await["error"]["code"], code, "{wrong}");
    }
}

#[tokio::test]
async fn a_users_audit_tells_nothing_of_anothers_rows() {
    let kit = Kit::with(&format!(
        "create table notes_of (id text primary key, owner uuid, body text);
         alter table notes_of enable row level security;
         create policy own on notes_of to authenticated using (owner = auth.uid());
         select tidelock.attach('notes_of', 'owner');
         insert into notes_of values ('adas', '{ADA}', 'hers')"
    ))
    .await;
    let (ada, bob) = (kit.user(ADA).await, kit.user(BOB).await);
    let entries = [
        json!({ "table": "notes_of", "columns": ["id", "owner", "body"], "buckets": 4 }),
        json!({ "table": "notes_of", "columns": ["id", "owner", "body"], "only": [0] }),
    ];
    let all_of =
        async |caller: &Caller| [caller.audit(entries[0].clone()).await, caller.audit(entries[1].clone()).await];
    let (hers, his) = (all_of(&ada).await, all_of(&bob).await);
    assert_eq!((&his[0]["digests"], &his[1]["rows"]), (&json!("0".repeat(64)), &json!([])));
    kit.owner
        .run(&format!("insert into notes_of select 'bobs ' || n, '{BOB}', 'his' from generate_series(1, 50) n"))
        .await;
    assert_eq!(all_of(&ada).await, hers);
    assert_ne!(all_of(&bob).await, his);
    let anon = kit.another_owner().await;
    anon.run("set role anon").await;
    let told = anon.audit(entries[0].clone()).await;
    assert!(told["digests"] == "0".repeat(64) || told["error"]["code"] == "42501", "{told}");
}

/// A text that is hard to write, from few letters so that lengths and repetitions vary.
fn odd_text(dice: &mut Dice) -> String {
    let letters = ["a", "B", "\"", "\\", "\n", "\t", "\u{1}", "\u{7f}", "é", "🙂", "T", " ", "/", "{", "null"];
    (0..dice.below(8)).map(|_| letters[dice.below(letters.len() as u64) as usize]).collect()
}

fn odd_value(dice: &mut Dice, depth: u64) -> Value {
    match dice.below(if depth < 3 { 8 } else { 6 }) {
        0 => Value::Null,
        1 => json!(dice.below(2) == 0),
        2 => json!(dice.below(u64::MAX) as i64),
        3 => json!(dice.below(1_000_000) as f64 / 64.0 * 10_f64.powi(dice.below(40) as i32 - 20)),
        4 => json!(-(dice.below(1_000) as f64) / 8.0),
        5 => json!(odd_text(dice)),
        6 => (0..dice.below(4)).map(|_| odd_value(dice, depth + 1)).collect(),
        _ => (0..dice.below(4)).map(|_| (odd_text(dice), odd_value(dice, depth + 1))).collect(),
    }
}

#[tokio::test]
async fn both_sides_make_the_same_digest_of_random_rows() {
    let (mut dice, seed) = Dice::new("digests");
    let kit = Kit::with(
        "create table things (id text primary key, words text, meta jsonb, written json, many jsonb[], n numeric, real float8, at timestamptz);
         select tidelock.attach('things')",
    )
    .await;
    let sql = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let mut rows = Vec::new();
    for number in 0..300 {
        let at = format!("'epoch'::timestamptz + {} * interval '1 microsecond'", dice.below(4_000_000_000_000_000));
        let (meta, written, many) = (odd_value(&mut dice, 0), odd_value(&mut dice, 0), odd_value(&mut dice, 1));
        let real = dice.below(1 << 40) as f64 * 10_f64.powi(dice.below(60) as i32 - 30);
        let n = format!("{}.{:03}", dice.below(1 << 50), dice.below(1_000));
        let (key, words) = (sql(&format!("{}{number}", odd_text(&mut dice))), sql(&odd_text(&mut dice)));
        let [meta, written, many] = [meta, written, many].map(|value| sql(&value.to_string()));
        rows.push(format!("({key}, {words}, {meta}, {written}, array[{many}::jsonb, null], {n}, {real:e}, {at})"));
    }
    kit.owner.run(&format!("insert into things values {}", rows.join(", "))).await;
    let columns = ["id", "words", "meta", "written", "many", "n", "real", "at"];
    let theirs = kit.owner.rows("things", &columns).await;
    let spelling = |name: &str| match name {
        "at" => Spelling::Instant,
        "written" => Spelling::Verbatim,
        _ => Spelling::Plain,
    };
    let layout = Layout::new(columns.map(|name| (name.to_owned(), spelling(name))));
    let documents = kit.owner.column("select row_to_json(t.*) from things t").await;
    let mut hashes = Vec::new();
    for document in &documents {
        let key = serde_json::from_str::<Value>(document).unwrap()["id"].as_str().unwrap().to_owned();
        let ours = layout.digest(&key, document, &mut hashes);
        assert_eq!(ours, theirs[&key], "seed {seed}: {document}");
    }
    assert_eq!((documents.len(), theirs.len()), (300, 300));
}
