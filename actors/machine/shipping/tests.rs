//! What the machine promises, without a book or a server.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn times() -> Times {
    Times { ships: true, backoff: Backoff { base: 5 * SECOND, cap: 300 * SECOND } }
}

fn written(pending: u64) -> Input {
    Input::Written { pending: Some(pending), is_counting: false }
}

fn shipped(verdict: Verdict, sent: usize, pending: u64) -> Input {
    Input::Shipped { verdict, sent, pending: Some(pending) }
}

/// A machine that has read the book and found nothing in it.
fn idle(start: Instant) -> Shipping {
    let mut machine = Shipping::new(times(), start, 1);
    assert_eq!(machine.handle(Input::Woken, start), [Effect::Write { all: false }]);
    assert_eq!(machine.handle(written(0), start), []);
    assert_eq!(machine.deadline(), None);
    machine
}

/// A machine with a batch on its way.
fn under_way(start: Instant, pending: u64) -> (Shipping, Instant) {
    let mut machine = Shipping::new(times(), start, 1);
    machine.handle(Input::Woken, start);
    machine.handle(written(pending), start);
    let now = start + LOG_SHIP_PAUSE;
    assert_eq!(machine.handle(Input::Woken, now), [Effect::Ship { rows: LOG_BATCH_ROWS }]);
    (machine, now)
}

#[test]
fn what_gathers_is_written_within_a_second_and_an_error_at_once() {
    let start = Instant::now();
    let mut machine = idle(start);
    let later = start + 10 * SECOND;
    assert_eq!(machine.handle(Input::Noticed { is_urgent: false }, later), []);
    assert_eq!(machine.deadline(), Some((later + LOG_WRITE_PAUSE, Reason::Write)));
    assert_eq!(machine.handle(Input::Noticed { is_urgent: true }, later), [Effect::Write { all: false }]);
    machine.handle(written(1), later);
    // The next error follows at once, and is written all the same within the least pause.
    assert_eq!(machine.handle(Input::Noticed { is_urgent: true }, later), []);
    assert_eq!(machine.deadline(), Some((later + LOG_WRITE_LEAST, Reason::Write)));
}

#[test]
fn what_is_noticed_during_a_write_is_written_after_it() {
    let start = Instant::now();
    let mut machine = idle(start);
    assert_eq!(machine.handle(Input::Wanted, start), [Effect::Write { all: false }]);
    assert_eq!(machine.handle(Input::Noticed { is_urgent: false }, start), []);
    assert_eq!(machine.handle(written(0), start), []);
    assert_eq!(machine.handle(Input::Woken, start + LOG_WRITE_LEAST), [Effect::Write { all: false }]);
}

#[test]
fn what_the_book_did_not_take_is_tried_again_a_second_later_and_not_for_ever_at_the_end() {
    let start = Instant::now();
    let mut machine = idle(start);
    let not_taken = Input::Written { pending: None, is_counting: false };
    machine.handle(Input::Wanted, start);
    machine.handle(Input::Noticed { is_urgent: true }, start);
    assert_eq!(machine.handle(not_taken, start), []);
    let later = start + LOG_WRITE_PAUSE;
    assert_eq!(machine.deadline(), Some((later, Reason::Write)));
    assert_eq!(machine.handle(Input::Woken, later), [Effect::Write { all: false }]);
    machine.handle(written(0), later);
    assert_eq!(machine.handle(Input::Stopping, later), [Effect::Write { all: true }]);
    assert_eq!(machine.handle(not_taken, later), [Effect::Finish]);
}

#[test]
fn repetitions_that_are_counted_are_written_when_their_window_ends() {
    let start = Instant::now();
    let mut machine = idle(start);
    machine.handle(Input::Wanted, start);
    machine.handle(Input::Written { pending: Some(0), is_counting: true }, start);
    assert_eq!(machine.deadline(), Some((start + LOG_FOLD_WINDOW, Reason::Write)));
}

#[test]
fn a_backlog_goes_batch_after_batch_and_the_rest_gathers() {
    let start = Instant::now();
    let (mut machine, now) = under_way(start, 450);
    assert_eq!(machine.handle(shipped(Verdict::Taken, 200, 250), now), [Effect::Ship { rows: LOG_BATCH_ROWS }]);
    assert_eq!(machine.handle(shipped(Verdict::Taken, 200, 50), now), []);
    assert_eq!(machine.deadline(), Some((now + LOG_SHIP_PAUSE, Reason::Ship)));
    machine.handle(Input::Woken, now + LOG_SHIP_PAUSE);
    machine.handle(shipped(Verdict::Taken, 50, 0), now + LOG_SHIP_PAUSE);
    assert_eq!(machine.deadline(), None, "nothing is asked of the server without need");
}

#[test]
fn a_server_that_is_down_is_tried_less_and_less_and_at_once_when_it_is_back() {
    let (mut machine, mut now) = under_way(Instant::now(), 1);
    let mut waits = Vec::new();
    for _ in 0..40 {
        assert_eq!(machine.handle(shipped(Verdict::Later(Duration::ZERO), 1, 1), now), []);
        let (due, _) = machine.deadline().unwrap();
        waits.push(due - now);
        now = due;
        assert_eq!(machine.handle(Input::Woken, now), [Effect::Ship { rows: LOG_BATCH_ROWS }]);
    }
    assert!(waits[0] <= 5 * SECOND && waits.iter().all(|wait| *wait <= 300 * SECOND), "{waits:?}");
    assert!(waits[10..].iter().any(|wait| *wait > 60 * SECOND), "{waits:?}");
    machine.handle(shipped(Verdict::Later(3_600 * SECOND), 1, 1), now);
    assert_eq!(machine.deadline(), Some((now + 3_600 * SECOND, Reason::Ship)), "what the server asks for is obeyed");
    assert_eq!(machine.handle(Input::Reached, now), [Effect::Ship { rows: LOG_BATCH_ROWS }]);
}

#[test]
fn h48_a_server_that_does_not_let_us_is_not_hammered_until_the_credentials_are_others() {
    let (mut machine, now) = under_way(Instant::now(), 9);
    machine.handle(shipped(Verdict::Resting, 9, 9), now);
    for _ in 0..100 {
        assert_eq!(machine.handle(Input::Reached, now), []);
        machine.handle(Input::Noticed { is_urgent: false }, now);
    }
    machine.handle(Input::Wanted, now);
    machine.handle(written(10), now);
    machine.handle(written(10), now);
    assert_eq!(machine.shipment, Shipment::Due { at: now + LOG_REFUSED_RETRY, why: Waiting::Resting });
    assert!(machine.handle(Input::Renewed, now).contains(&Effect::Ship { rows: LOG_BATCH_ROWS }));
}

#[test]
fn one_bad_entry_is_found_by_halves_and_given_up_and_the_others_go_through() {
    let (mut machine, mut now) = under_way(Instant::now(), 200);
    // The entry at place 137 is refused, whatever it travels with.
    let (mut left, mut refused, mut requests) = ((0..200).collect::<Vec<u32>>(), 0, 0);
    while !left.is_empty() {
        let sent = left.len().min(machine.rows);
        let is_bad = left[..sent].contains(&137);
        let verdict = match (is_bad, sent) {
            (false, _) => Verdict::Taken,
            (true, 1) => Verdict::GivenUp,
            (true, _) => Verdict::Smaller,
        };
        if verdict != Verdict::Smaller {
            left.drain(..sent);
        }
        refused += u32::from(verdict == Verdict::GivenUp);
        requests += 1;
        machine.handle(shipped(verdict, sent, left.len() as u64), now);
        if let Some((due, Reason::Ship)) = machine.deadline() {
            now = due;
            machine.handle(Input::Woken, now);
        }
    }
    assert_eq!(refused, 1);
    assert!(requests < 64, "{requests}");
}

#[test]
fn a_table_that_refuses_every_entry_is_asked_less_and_less() {
    let (mut machine, start) = under_way(Instant::now(), 1_000);
    let mut now = start;
    for left in (900..1_000).rev() {
        machine.handle(shipped(Verdict::GivenUp, 1, left), now);
        now = machine.deadline().unwrap().0;
        machine.handle(Input::Woken, now);
    }
    assert!(now - start > 60 * 60 * SECOND, "{:?}", now - start);
}

#[test]
fn a_stop_writes_everything_and_ships_nothing_more() {
    let start = Instant::now();
    let (mut machine, now) = under_way(start, 500);
    assert_eq!(machine.handle(Input::Stopping, now), [Effect::Write { all: true }]);
    assert_eq!(machine.handle(shipped(Verdict::Taken, 200, 300), now), []);
    assert_eq!(machine.handle(written(300), now), [Effect::Finish]);
    let mut machine = idle(start);
    machine.handle(Input::Wanted, start);
    assert_eq!(machine.handle(Input::Stopping, start), [], "one write at a time");
    assert_eq!(machine.handle(written(0), start), [Effect::Write { all: true }]);
    assert_eq!(machine.handle(written(0), start), [Effect::Finish]);
}

#[test]
fn with_shipping_off_nothing_is_due_and_switched_on_something_is() {
    let start = Instant::now();
    let mut machine = Shipping::new(Times { ships: false, ..times() }, start, 1);
    machine.handle(Input::Woken, start);
    assert_eq!((machine.handle(written(5), start), machine.deadline()), (vec![], None));
    machine.handle(Input::Configured(times()), start);
    assert_eq!(machine.deadline().map(|(_, reason)| reason), Some(Reason::Ship));
}

#[test]
fn a_part_that_was_restarted_reads_the_book_and_goes_on() {
    let (mut machine, now) = under_way(Instant::now(), 5);
    assert_eq!(machine.handle(Input::Restarted, now), [Effect::Write { all: false }]);
    machine.handle(written(5), now);
    assert_eq!(machine.deadline(), Some((now + LOG_SHIP_PAUSE, Reason::Ship)));
}

#[test]
fn each_answer_has_its_verdict() {
    let fault = |kind, status: u16| Err(Fault { status: Some(status), ..Fault::new(kind, "no") });
    for (kind, status, verdict) in [
        (FaultKind::Transient, 503, Verdict::Later(Duration::ZERO)),
        (FaultKind::Unauthorized, 401, Verdict::Resting),
        (FaultKind::Refused, 401, Verdict::Resting),
        (FaultKind::Refused, 403, Verdict::Resting),
        (FaultKind::Schema, 404, Verdict::Resting),
        (FaultKind::Refused, 400, Verdict::Smaller),
        (FaultKind::Doubtful, 413, Verdict::Smaller),
        (FaultKind::Ordering, 409, Verdict::Smaller),
    ] {
        assert_eq!(judge(&fault(kind, status), 2), verdict, "{kind:?} {status}");
    }
    assert_eq!(judge(&fault(FaultKind::Refused, 400), 1), Verdict::GivenUp);
    assert_eq!(judge(&Ok(()), 2), Verdict::Taken);
    let busy = Fault { retry_after_ms: Some(u64::MAX), ..Fault::new(FaultKind::Transient, "busy") };
    assert_eq!(judge(&Err(busy), 2), Verdict::Later(RETRY_AFTER_MAX));
}

#[test]
fn credentials_that_come_while_a_batch_is_refused_are_tried_at_once_and_only_once() {
    let (mut machine, now) = under_way(Instant::now(), 3);
    assert_eq!(machine.handle(Input::Renewed, now), []);
    assert_eq!(machine.handle(shipped(Verdict::Resting, 3, 3), now), [Effect::Ship { rows: LOG_BATCH_ROWS }]);
    assert_eq!(machine.handle(shipped(Verdict::Resting, 3, 3), now), []);
    assert_eq!(machine.deadline(), Some((now + LOG_REFUSED_RETRY, Reason::Ship)));
}

#[test]
fn a_server_that_comes_back_while_a_batch_fails_is_tried_at_once() {
    let (mut machine, now) = under_way(Instant::now(), 3);
    machine.handle(Input::Reached, now);
    let failed = shipped(Verdict::Later(Duration::ZERO), 3, 3);
    assert_eq!(machine.handle(failed, now), [Effect::Ship { rows: LOG_BATCH_ROWS }]);
    assert_eq!(machine.handle(failed, now), [], "now it waits");
}
