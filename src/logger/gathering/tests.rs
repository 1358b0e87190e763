//! Bounds, folding, and counts that add up.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};
use tidelock_actors::logs::ApiCall;

use super::*;

fn entry(message: &str, level: Severity) -> Entry {
    Entry {
        id: String::new(),
        at: Timestamp::UNIX_EPOCH,
        last_at: Timestamp::UNIX_EPOCH,
        level,
        target: "test".to_owned(),
        message: message.to_owned(),
        fields: Map::new(),
        spans: Vec::new(),
        count: 1,
        call: None,
        ships: level <= Severity::Warn,
    }
}

fn warning(number: u64) -> Entry {
    entry(&number.to_string(), Severity::Warn)
}

fn call(number: u64) -> Entry {
    let call = ApiCall { provider: "p".into(), action: number.to_string(), credits: 1.0, metadata: Value::Null };
    Entry { call: Some(call), ships: true, ..entry(&number.to_string(), Severity::Info) }
}

fn drain(gathering: &mut Gathering, now: Instant, all: bool) -> Drained {
    gathering.take(now, all).into()
}

/// What was given of it, from what came out of it.
fn accounted(drained: &Drained) -> i64 {
    drained.entries.len() as i64 + drained.folded + drained.shed as i64
}

fn messages(drained: &Drained) -> Vec<(String, u64)> {
    drained.entries.iter().map(|entry| (entry.message.clone(), entry.count)).collect()
}

#[test]
fn h48_what_does_not_fit_is_shed_oldest_first_and_counted_exactly() {
    let (mut gathering, now) = (Gathering::default(), Instant::now());
    let given = 100_000;
    for number in 0..given {
        gathering.offer(warning(number), Some(number), now);
    }
    let drained = drain(&mut gathering, now, true);
    assert_eq!((drained.entries.len(), drained.shed), (LOG_INTAKE_ROWS, given - LOG_INTAKE_ROWS as u64));
    assert_eq!(drained.entries[0].message, (given - LOG_INTAKE_ROWS as u64).to_string(), "the newest are kept");
    assert_eq!(accounted(&drained), given as i64);
    assert_eq!(drain(&mut gathering, now, true), Drained::default());
}

#[test]
fn large_entries_are_shed_by_their_bytes() {
    let (mut gathering, now) = (Gathering::default(), Instant::now());
    for number in 0..1_000 {
        gathering.offer(entry(&format!("{number}{}", "x".repeat(10_000)), Severity::Warn), None, now);
    }
    let drained = drain(&mut gathering, now, true);
    let bytes: usize = drained.entries.iter().map(Entry::bytes).sum();
    assert!(bytes <= LOG_INTAKE_BYTES && bytes > LOG_INTAKE_BYTES / 2, "{bytes}");
    assert_eq!(accounted(&drained), 1_000);
}

#[test]
fn calls_are_shed_only_when_no_warning_is_left() {
    let (mut gathering, now) = (Gathering::default(), Instant::now());
    for number in 0..1_000 {
        gathering.offer(call(number), None, now);
    }
    for number in 0..3_000 {
        gathering.offer(warning(number), None, now);
    }
    let drained = drain(&mut gathering, now, true);
    let calls = drained.entries.iter().filter(|entry| entry.call.is_some()).count();
    assert_eq!((calls, drained.entries.len(), drained.shed), (1_000, LOG_INTAKE_ROWS, 4_000 - LOG_INTAKE_ROWS as u64));
    for number in 0..3_000 {
        gathering.offer(call(number), None, now);
    }
    gathering.offer(warning(1), None, now);
    let drained = drain(&mut gathering, now, true);
    assert!(drained.entries.iter().all(|entry| entry.call.is_some()), "a warning goes before any call");
    assert_eq!(accounted(&drained), 3_001);
}

#[test]
fn repetitions_within_the_window_become_one_entry_with_a_count() {
    let (mut gathering, start) = (Gathering::default(), Instant::now());
    assert_eq!(gathering.offer(warning(7), Some(7), start), News::Notice);
    let drained = drain(&mut gathering, start, false);
    assert_eq!(
        (messages(&drained), drained.is_counting),
        (vec![("7".to_owned(), 1)], false),
        "the first is told at once"
    );
    for second in 1..20 {
        gathering.offer(warning(7), Some(7), start + Duration::from_secs(second));
    }
    let drained = drain(&mut gathering, start + Duration::from_secs(20), false);
    assert_eq!((messages(&drained), drained.folded, drained.is_counting), (vec![], 18, true));
    let drained = drain(&mut gathering, start + LOG_FOLD_WINDOW, false);
    assert_eq!((messages(&drained), drained.is_counting), (vec![("7".to_owned(), 19)], false));
    // A new window, in which it is told at once again.
    gathering.offer(warning(7), Some(7), start + LOG_FOLD_WINDOW);
    assert_eq!(messages(&drain(&mut gathering, start + LOG_FOLD_WINDOW, false)), [("7".to_owned(), 1)]);
}

#[test]
fn what_is_counted_is_drained_at_the_end_and_shed_like_the_rest() {
    let (mut gathering, now) = (Gathering::default(), Instant::now());
    for _ in 0..10 {
        gathering.offer(warning(1), Some(1), now);
    }
    let drained = drain(&mut gathering, now, true);
    assert_eq!((messages(&drained), drained.folded), (vec![("1".to_owned(), 1), ("1".to_owned(), 9)], 8));
    for _ in 0..10 {
        gathering.offer(warning(1), Some(1), now);
    }
    for number in 0..LOG_INTAKE_ROWS as u64 {
        gathering.offer(call(number), None, now);
    }
    let drained = drain(&mut gathering, now, true);
    assert_eq!((drained.shed, drained.folded), (10, 0));
    assert_eq!(accounted(&drained), 10 + LOG_INTAKE_ROWS as i64);
}

#[test]
fn many_different_warnings_are_counted_within_a_bound() {
    let (mut gathering, now) = (Gathering::default(), Instant::now());
    for number in 0..10 * LOG_FOLD_WINDOWS as u64 {
        gathering.offer(warning(number), Some(number), now);
        gathering.offer(warning(number), Some(number), now);
    }
    assert_eq!((gathering.windows.len(), gathering.ending.len()), (LOG_FOLD_WINDOWS, LOG_FOLD_WINDOWS));
    assert_eq!(accounted(&drain(&mut gathering, now, true)), 20 * LOG_FOLD_WINDOWS as i64);
}

#[test]
fn what_stays_here_is_a_ring_and_takes_no_room_from_warnings() {
    let (mut gathering, now) = (Gathering::default(), Instant::now());
    gathering.offer(warning(1), Some(1), now);
    for number in 0..10_000 {
        gathering.offer(entry(&number.to_string(), Severity::Info), None, now);
    }
    let drained = drain(&mut gathering, now, true);
    assert_eq!((drained.entries.len(), drained.shed), (LOG_LOCAL_ROWS + 1, 0));
    assert_eq!(drained.entries[0].message, "1");
    assert_eq!(drained.entries.last().map(|entry| entry.message.as_str()), Some("9999"));
}

#[test]
fn the_logger_hears_of_the_first_entry_and_of_the_first_error() {
    let (mut gathering, now) = (Gathering::default(), Instant::now());
    let error = || entry("e", Severity::Error);
    let news: Vec<_> = [warning(1), warning(2), error(), error()].map(|entry| gathering.offer(entry, None, now)).into();
    assert_eq!(news, [News::Notice, News::Nothing, News::Notice, News::Nothing]);
    assert!(gathering.is_urgent());
    drain(&mut gathering, now, false);
    assert!(!gathering.is_urgent());
    assert_eq!(gathering.offer(warning(3), None, now), News::Notice);
}
