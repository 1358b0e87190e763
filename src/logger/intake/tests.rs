//! What is taken, what is redacted, and what is never heard.

use serde_json::json;
use tracing_subscriber::layer::SubscriberExt;

use super::*;
use crate::logger::layer;

const CANARY: &str = "cAnArY7";

fn intake(local: Level, remote: Level) -> Arc<Intake> {
    Arc::new(Intake::new(Levels { local, remote }, Redactor::default()))
}

/// What an intake has after this was said to it.
fn heard(intake: &Arc<Intake>, say: impl FnOnce()) -> Vec<Entry> {
    let subscriber = tracing_subscriber::registry().with(layer::of_store(intake.clone()));
    tracing::subscriber::with_default(subscriber, say);
    intake.drain(true).entries
}

#[test]
fn a_message_comes_with_its_fields_and_spans() {
    let intake = intake(Level::Info, Level::Warn);
    let entries = heard(&intake, || {
        let outer = tracing::info_span!("export", run = 7, late = tracing::field::Empty);
        let _outer = outer.enter();
        outer.record("late", "yes");
        let _inner = tracing::info_span!("page", number = 2).entered();
        tracing::warn!(ms = 17, why = ?Some("x"), ok = false, "slow {}", "disk");
    });
    let [entry] = entries.as_slice() else { panic!("{entries:?}") };
    assert_eq!((entry.message.as_str(), entry.level, entry.ships), ("slow disk", Severity::Warn, true));
    assert_eq!(Value::Object(entry.fields.clone()), json!({"ms": 17, "why": "Some(\"x\")", "ok": false}));
    let spans = json!(entry.spans);
    assert_eq!(
        spans,
        json!([{"name": "export", "fields": {"run": 7, "late": "yes"}}, {"name": "page", "fields": {"number": 2}}])
    );
    assert_eq!(entry.target, module_path!());
}

#[test]
fn levels_say_what_is_kept_and_what_is_shipped_and_change_while_running() {
    let intake = intake(Level::Info, Level::Warn);
    let say = || {
        tracing::error!("e");
        tracing::warn!("w");
        tracing::info!("i");
        tracing::debug!("d");
    };
    let told = |entries: Vec<Entry>| entries.into_iter().map(|entry| (entry.message, entry.ships)).collect::<Vec<_>>();
    let pairs =
        |pairs: &[(&str, bool)]| pairs.iter().map(|(said, ships)| (said.to_string(), *ships)).collect::<Vec<_>>();
    assert_eq!(told(heard(&intake, say)), pairs(&[("e", true), ("w", true), ("i", false)]));
    intake.set_levels(Levels { local: Level::Debug, remote: Level::Error });
    assert_eq!(told(heard(&intake, say)), pairs(&[("e", true), ("w", false), ("i", false), ("d", false)]));
    intake.set_levels(Levels { local: Level::Off, remote: Level::Warn });
    assert_eq!(told(heard(&intake, say)), pairs(&[("e", true), ("w", true)]));
    intake.set_levels(Levels { local: Level::Off, remote: Level::Off });
    assert_eq!(told(heard(&intake, say)), []);
    assert_eq!(intake.levels(), Levels { local: Level::Off, remote: Level::Off });
}

#[test]
fn identical_warnings_are_folded_and_different_ones_are_not() {
    let intake = intake(Level::Info, Level::Warn);
    let entries = heard(&intake, || {
        for number in 0..100 {
            tracing::warn!("the same");
            tracing::warn!(number = number % 2, "not the same");
            tracing::info!("a step");
        }
    });
    let mut counts: Vec<_> =
        entries.iter().filter(|entry| entry.level == Severity::Warn).map(|entry| entry.count).collect();
    counts.sort_unstable();
    assert_eq!(counts, [1, 1, 1, 49, 49, 99]);
    assert_eq!(entries.iter().filter(|entry| entry.level == Severity::Info).count(), 100, "steps are told one by one");
}

#[test]
fn h48_the_logger_never_hears_itself() {
    let intake = intake(Level::Trace, Level::Trace);
    let entries = heard(&intake, || {
        tracing::error!(target: OWN_TARGET, "own");
        let shipping = tracing::error_span!(target: OWN_TARGET, "ship");
        shipping.in_scope(|| {
            tracing::error!("on its way");
            tracing::info_span!("deeper").in_scope(|| tracing::error!("on its way"));
        });
        tracing::error!(target: "hyper_util::client", "a carrier");
        tracing::error!(target: "tidelock_actors::supervisor", part = "logger", "a part failed");
        tracing::error!(target: "tidelock_actors::supervisor", part = "sync", "a part failed");
        tracing::error!(target: "tidelock_loggers", "somebody else");
    });
    let told: Vec<_> = entries.iter().map(|entry| (entry.target.as_str(), entry.ships)).collect();
    assert_eq!(
        told,
        [
            ("hyper_util::client", false),
            ("tidelock_actors::supervisor", false),
            ("tidelock_actors::supervisor", true),
            ("tidelock_loggers", true)
        ]
    );
}

#[test]
fn h48_no_secret_is_kept_of_a_message_a_field_a_span_or_a_call() {
    let secrets = [SecretText::from(format!("a {CANARY} secret"))];
    let levels = Levels { local: Level::Trace, remote: Level::Warn };
    let intake = Arc::new(Intake::new(levels, Redactor::new(&["prompt".to_owned()], secrets)));
    let mut entries = heard(&intake, || {
        let span = tracing::info_span!("login", password = CANARY, url = format!("http://u:{CANARY}@h/"));
        let _span = span.enter();
        tracing::warn!(token = CANARY, header = format!("Bearer {CANARY}"), "with sb_secret_{CANARY}");
        tracing::trace!(configured = ?Some(format!("it is a {CANARY} secret")), "a {CANARY} secret");
    });
    let metadata = json!({"prompt": CANARY, "headers": {"apikey": CANARY}, "n": [format!("AGE-SECRET-KEY-{CANARY}")]});
    intake.call(&format!("sb_secret_{CANARY}"), "act", 1.0, metadata);
    entries.extend(intake.drain(true).entries);
    assert_eq!(entries.len(), 3);
    for entry in &entries {
        let (json, debug) = (serde_json::to_string(entry).unwrap(), format!("{entry:?}"));
        assert!(!json.contains(CANARY) && !debug.contains(CANARY), "{json}");
        assert!(json.contains("[redacted]"), "{json}");
    }
}

type SecretText = secrecy::SecretString;

#[test]
fn an_entry_has_a_bound_whatever_is_logged() {
    struct Endless;
    impl std::fmt::Display for Endless {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            loop {
                f.write_str("on and on ")?;
            }
        }
    }
    let intake = intake(Level::Info, Level::Warn);
    let mut entries = heard(&intake, || {
        let _span = tracing::info_span!("span", a = "x".repeat(100_000), b = "x".repeat(100_000)).entered();
        tracing::warn!(a = "x".repeat(1_000_000), b = "ü".repeat(100_000), c = %Endless, d = "x".repeat(9_000), "{Endless}");
    });
    intake.call("p", "a", f64::NAN, json!(vec!["x".repeat(3_000); 30]));
    entries.extend(intake.drain(true).entries);
    for entry in entries {
        let text = serde_json::to_string(&entry).unwrap();
        let (bytes, again) = (text.len(), serde_json::from_str::<Entry>(&text).unwrap());
        assert_eq!(Entry { ships: true, ..again }, entry, "it can be read again");
        assert!(bytes < 2 * LOG_ENTRY_BYTES, "{bytes}");
    }
}

#[test]
fn calls_are_shipped_each_and_with_shipping_off_they_stay_here() {
    let intake = intake(Level::Off, Level::Warn);
    for _ in 0..3 {
        intake.call("gemini", "generate", 10.0, json!({"model": "x"}));
    }
    let entries = intake.drain(true).entries;
    assert_eq!(entries.iter().map(|entry| (entry.ships, entry.count)).collect::<Vec<_>>(), [(true, 1); 3]);
    intake.set_levels(Levels { local: Level::Off, remote: Level::Off });
    intake.call("gemini", "generate", 10.0, Value::Null);
    assert!(!intake.drain(true).entries[0].ships);
}

#[test]
fn what_was_said_before_a_store_was_open_is_its_own_and_knows_its_secrets() {
    let (early, store) = (intake(Level::Info, Level::Warn), intake(Level::Warn, Level::Error));
    store.set_redactor(Redactor::new(&[], [SecretText::from(CANARY)]));
    let said = heard(&early, || ());
    assert!(said.is_empty());
    let subscriber = tracing_subscriber::registry().with(layer::of_store(early.clone()));
    tracing::subscriber::with_default(subscriber, || {
        tracing::info!("a step");
        tracing::warn!("early {CANARY}");
        tracing::error!("early error");
    });
    early.pour_into(&store);
    let entries = store.drain(true).entries;
    let told: Vec<_> = entries.iter().map(|entry| (entry.message.as_str(), entry.ships)).collect();
    assert_eq!(told, [("early [redacted]", false), ("early error", true)]);
}

#[test]
fn a_closed_intake_takes_nothing() {
    let intake = intake(Level::Info, Level::Warn);
    intake.close();
    intake.call("p", "a", 1.0, Value::Null);
    assert!(intake.drain(true).entries.is_empty());
}
