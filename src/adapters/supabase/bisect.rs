//! Finds the rows that a server refuses within a batch: halves what was refused until the guilty rows stand alone,
//! and all others have gone through.

use std::future::Future;

use futures::stream::{FuturesUnordered, StreamExt};
use tidelock_actors::model::{Fault, FaultKind};

use super::fault::may_concern_one_row;

/// PostgreSQL's SQLSTATE of a statement that was ended because it and another waited for each other.
const DEADLOCK: &str = "40P01";
/// The same of one whose snapshot another has overtaken.
const SERIALIZATION: &str = "40001";
/// Requests that are under way at once.
const WIDTH: usize = 6;

/// Sends all parts, several at once, each halved as often as it takes. Each row is in exactly one of the parts that
/// come back, each with the last answer it had; a part with a refusal has more than one row only where the refusal
/// meets all of them. Where there are several, one that misses a parent or was caught in a deadlock goes again, alone,
/// once the others are through: the parent, or what it was locked with, may have been on its way in one of them.
pub(super) async fn bisect<'r, T, Answer>(
    parts: Vec<&'r [usize]>,
    send: impl Fn(&'r [usize]) -> Answer,
) -> Vec<(&'r [usize], Result<T, Fault>)>
where
    Answer: Future<Output = Result<T, Fault>>,
{
    let (mut told, mut early) = (Vec::new(), Vec::new());
    let may_be_early = parts.len() > 1;
    let mut waiting: Vec<_> = parts.into_iter().rev().map(|part| (part, may_be_early)).collect();
    let mut under_way = FuturesUnordered::new();
    loop {
        while under_way.len() < WIDTH
            && let Some((part, may_be_early)) = waiting.pop()
        {
            let answer = send(part);
            under_way.push(async move { (part, may_be_early, answer.await) });
        }
        match under_way.next().await {
            None => {
                early.sort_unstable();
                match early.is_empty() {
                    true => return told,
                    false => waiting.push((early.remove(0), false)),
                }
            }
            Some((part, true, Err(fault))) if met_another(&fault) => early.push(part),
            Some((part, may_be_early, Err(fault))) if part.len() > 1 && may_concern_one_row(&fault) => {
                let (first, second) = part.split_at(part.len() / 2);
                waiting.extend([(second, may_be_early), (first, may_be_early)]);
            }
            Some((part, _, answer)) => told.push((part, answer)),
        }
    }
}

/// Whether another request at the same time may be the only reason.
fn met_another(fault: &Fault) -> bool {
    fault.kind == FaultKind::Ordering || matches!(fault.code.as_deref(), Some(DEADLOCK | SERIALIZATION))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::task::Poll;

    use super::*;

    /// Bisects `count` rows of which some are refused; answers what went through, what did not, and how many requests.
    fn run(count: usize, kind: FaultKind, is_guilty: impl Fn(usize) -> bool) -> (Vec<usize>, Vec<Vec<usize>>, usize) {
        let rows: Vec<usize> = (0..count).collect();
        let requests = Cell::new(0);
        let told = futures::executor::block_on(bisect(vec![&rows], |part| {
            requests.set(requests.get() + 1);
            let guilty = part.iter().any(|row| is_guilty(*row));
            async move { if guilty { Err(Fault::new(kind, "no")) } else { Ok(()) } }
        }));
        let mut through: Vec<usize> =
            told.iter().filter(|(_, answer)| answer.is_ok()).flat_map(|(part, _)| part.to_vec()).collect();
        through.sort_unstable();
        let refused = told.iter().filter(|(_, answer)| answer.is_err()).map(|(part, _)| part.to_vec()).collect();
        (through, refused, requests.get())
    }

    #[test]
    fn one_guilty_row_among_a_thousand_stands_alone() {
        for guilty in [0, 1, 499, 500, 998, 999] {
            let (through, refused, requests) = run(1_000, FaultKind::Refused, |row| row == guilty);
            assert_eq!(refused, [[guilty]]);
            assert_eq!(through.len(), 999);
            assert!(requests <= 21, "{requests} requests");
        }
    }

    #[test]
    fn all_rows_guilty_come_back_one_by_one() {
        let (through, refused, requests) = run(64, FaultKind::Ordering, |_| true);
        assert_eq!((through.len(), refused.len(), requests), (0, 64, 127));
    }

    #[test]
    fn a_fault_that_meets_everything_is_not_bisected() {
        for kind in [FaultKind::Transient, FaultKind::Unauthorized, FaultKind::Schema] {
            let (through, refused, requests) = run(100, kind, |row| row == 7);
            assert_eq!((through.len(), refused.len(), requests), (0, 1, 1));
        }
    }

    /// Each part misses what the one before it brings, as long as that has not arrived.
    #[test]
    fn a_part_that_comes_before_what_it_refers_to_goes_again_whole() {
        let rows: Vec<usize> = (0..3_000).collect();
        let (arrived, requests) = (&Cell::new(0), &Cell::new(0));
        let told = futures::executor::block_on(bisect(rows.chunks(500).collect(), |part| async move {
            requests.set(requests.get() + 1);
            let comes_early = part[0] > arrived.get();
            yield_once().await;
            if comes_early {
                return Err(Fault::new(FaultKind::Ordering, "no parent"));
            }
            arrived.set(part[0] + part.len());
            Ok(())
        }));
        assert!(told.iter().all(|(part, answer)| part.len() == 500 && answer.is_ok()));
        assert_eq!((told.len(), requests.get()), (6, 11));
    }

    /// The first part is long on its way; the second is refused meanwhile, for a bad row and for a parent that is not
    /// there yet, or because the two met in a deadlock.
    #[test]
    fn what_another_request_may_have_caused_is_tried_again_alone_and_charged_to_nobody() {
        for (kind, code) in [(FaultKind::Ordering, "23503"), (FaultKind::Transient, "40P01")] {
            let rows: Vec<usize> = (0..8).collect();
            let (arrived, under_way) = (&Cell::new(false), &Cell::new(0));
            let told = futures::executor::block_on(bisect(rows.chunks(4).collect(), |part| async move {
                under_way.set(under_way.get() + 1);
                for _ in 0..if part[0] == 0 { 50 } else { 1 } {
                    yield_once().await;
                }
                let met_another = under_way.get() > 1 || !arrived.get();
                under_way.set(under_way.get() - 1);
                match part {
                    [0, ..] => arrived.set(true),
                    _ if part.contains(&5) => return Err(Fault::new(FaultKind::Refused, "a bad row")),
                    _ if met_another => {
                        return Err(Fault { code: Some(code.to_owned()), ..Fault::new(kind, "too early") });
                    }
                    _ => {}
                }
                Ok(())
            }));
            let failed: Vec<_> =
                told.iter().filter(|(_, answer)| answer.is_err()).map(|(part, _)| part.to_vec()).collect();
            assert_eq!(failed, [[5]], "{code}");
            assert_eq!(told.iter().map(|(part, _)| part.len()).sum::<usize>(), 8);
        }
    }

    async fn yield_once() {
        let mut has_yielded = false;
        futures::future::poll_fn(|task| {
            task.waker().wake_by_ref();
            if std::mem::replace(&mut has_yielded, true) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    #[test]
    fn nothing_to_send_sends_one_empty_part_at_most() {
        let (through, refused, _) = run(0, FaultKind::Refused, |_| true);
        assert!(through.is_empty() && refused.is_empty());
    }
}
