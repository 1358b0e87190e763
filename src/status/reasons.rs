//! The status in sentences: why it is in its phase, and why nothing moves.

use jiff::Timestamp;
use tidelock_actors::status::{SyncPhase, SyncStatus};

use super::{Parts, Phase, phase};

/// Why it is in this phase.
pub(super) fn of_phase(phase: Phase, sync: &SyncStatus, parts: &Parts, pending: u64) -> String {
    let reason = || sync.reason.clone().unwrap_or_else(|| "no reason is known".to_owned());
    match phase {
        Phase::Idle if sync.last_synced_ms.is_none() => "no round has ended well yet".to_owned(),
        Phase::Idle => match (sync.paused.first(), pending) {
            (None, _) if sync.last_error.is_some() => {
                format!("the last round did not end well: {}", sync.last_error.as_deref().unwrap_or_default())
            }
            (Some((name, fault)), _) => format!("done but for {name}, which does not fit the server: {fault}"),
            (None, 0) => "everything is done until the next round".to_owned(),
            (None, 1) => "1 operation waits for the next round".to_owned(),
            (None, pending) => format!("{pending} operations wait for the next round"),
        },
        Phase::Syncing => "a round runs".to_owned(),
        Phase::Offline => format!("the last round was cut, and the next one tries again: {}", reason()),
        Phase::NeedsAuth => format!("the server does not accept the credentials: {}", reason()),
        Phase::Paused if sync.phase != SyncPhase::Paused => "tidelock is stopped".to_owned(),
        Phase::Paused => reason(),
        Phase::Degraded => {
            of_part("degraded", "failed too often, is tried again now and then, and the rest works", parts)
        }
        Phase::Failed => of_part("failed", "failed for good, and nothing works without it", parts),
    }
}

fn of_part(state: &str, what: &str, parts: &Parts) -> String {
    let found = parts.iter().find(|(_, part)| part.state == state);
    found.map_or_else(String::new, |(name, part)| {
        let cause = part.cause.as_deref().unwrap_or("no cause is known");
        format!("the {name} part {what}: {cause}")
    })
}

/// The parts without which nothing moves; what is wrong with others is no reason for a stall.
const MOVERS: [&str; 4] = ["storage", "queue", "conflict", "sync"];

/// Why nothing moves although something should (H13).
pub(super) fn of_stall(sync: &SyncStatus, parts: &Parts, pending: u64, unanswered_since: Option<Timestamp>) -> String {
    let movers = parts.iter().filter(|(name, _)| MOVERS.contains(&name.as_str()));
    let movers: Parts = movers.map(|(name, part)| (name.clone(), part.clone())).collect();
    let phase = phase(sync, &movers);
    let phase_reason = of_phase(phase, sync, &movers, pending);
    match (phase, unanswered_since) {
        (Phase::Syncing | Phase::Degraded, Some(since)) => {
            format!("the server has taken a request and not answered it since {since}")
        }
        (Phase::Syncing, None) => match &sync.last_error {
            Some(error) => format!("a round runs; the last one ended with: {error}"),
            None => "a round runs, and nothing comes of it".to_owned(),
        },
        (Phase::Idle, _) => match &sync.last_error {
            Some(error) => error.clone(),
            None => format!("operations wait, and no round takes them up ({phase_reason})"),
        },
        (Phase::Offline | Phase::Paused | Phase::NeedsAuth | Phase::Degraded | Phase::Failed, _) => phase_reason,
    }
}

#[cfg(test)]
mod tests {
    use super::super::PartStatus;
    use super::*;
    use tidelock_actors::model::{Fault, FaultKind};

    fn sync(phase: SyncPhase, reason: &str) -> SyncStatus {
        SyncStatus { phase, reason: Some(reason.to_owned()), last_synced_ms: Some(1), ..SyncStatus::default() }
    }

    #[test]
    fn every_phase_says_why_in_one_sentence() {
        let none = Parts::new();
        let idle = sync(SyncPhase::Idle, "");
        let ill = PartStatus { state: "degraded".into(), restarts: 5, cause: Some("asked to crash".into()) };
        let degraded = Parts::from([("sync".to_owned(), ill.clone())]);
        let failed = Parts::from([("storage".to_owned(), PartStatus { state: "failed".into(), ..ill })]);
        let misfit = ("notes".into(), Fault::new(FaultKind::Schema, "no such table"));
        let misfit = SyncStatus { paused: vec![misfit], ..idle.clone() };
        let unwell = SyncStatus { last_error: Some("the server has no kit".to_owned()), ..idle.clone() };
        for (phase, sync, parts, pending, reason) in [
            (Phase::Idle, &SyncStatus::default(), &none, 1, "no round has ended well yet"),
            (Phase::Idle, &idle, &none, 0, "everything is done until the next round"),
            (Phase::Idle, &idle, &none, 3, "3 operations wait for the next round"),
            (Phase::Idle, &unwell, &none, 1, "the last round did not end well: the server has no kit"),
            (Phase::Idle, &misfit, &none, 0, "done but for notes, which does not fit the server: no such table"),
            (
                Phase::Offline,
                &sync(SyncPhase::Offline, "no answer within 30 s"),
                &none,
                0,
                "the last round was cut, and the next one tries again: no answer within 30 s",
            ),
            (
                Phase::NeedsAuth,
                &sync(SyncPhase::NeedsAuth, "HTTP 401: JWT expired"),
                &none,
                0,
                "the server does not accept the credentials: HTTP 401: JWT expired",
            ),
            (Phase::Paused, &sync(SyncPhase::Paused, "sync is switched off"), &none, 0, "sync is switched off"),
            (Phase::Paused, &idle, &none, 0, "tidelock is stopped"),
            (
                Phase::Degraded,
                &idle,
                &degraded,
                0,
                "the sync part failed too often, is tried again now and then, and the rest works: asked to crash",
            ),
            (
                Phase::Failed,
                &idle,
                &failed,
                0,
                "the storage part failed for good, and nothing works without it: asked to crash",
            ),
        ] {
            assert_eq!(of_phase(phase, sync, parts, pending), reason);
        }
    }

    #[test]
    fn h13_a_stall_names_what_it_waits_for() {
        let since = Timestamp::from_second(1_800_000_000).unwrap();
        let none = Parts::new();
        let offline = sync(SyncPhase::Offline, "no network");
        let said = of_stall(&offline, &none, 1, None);
        assert_eq!(said, "the last round was cut, and the next one tries again: no network");
        let running = sync(SyncPhase::Syncing, "");
        let said = of_stall(&running, &none, 1, Some(since));
        assert_eq!(said, "the server has taken a request and not answered it since 2027-01-15T08:00:00Z");
        let after_an_error = SyncStatus { last_error: Some("HTTP 503".into()), ..running };
        let said = of_stall(&after_an_error, &none, 1, None);
        assert_eq!(said, "a round runs; the last one ended with: HTTP 503");
    }

    #[test]
    fn h13_a_part_that_sync_does_not_need_is_no_reason_for_a_stall() {
        let ill = PartStatus { state: "degraded".into(), restarts: 5, cause: Some("asked to crash".into()) };
        let offline = sync(SyncPhase::Offline, "no network");
        let needed = |name: &str| {
            let parts = Parts::from([(name.to_owned(), ill.clone())]);
            assert_eq!(phase(&offline, &parts), Phase::Degraded, "as a whole it is");
            of_stall(&offline, &parts, 1, None).contains(&format!("the {name} part failed too often"))
        };
        assert_eq!(MOVERS.map(needed), [true; 4]);
        assert_eq!(["backup", "logger"].map(needed), [false; 2]);
    }
}
