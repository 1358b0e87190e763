//! When a backup is taken and when one is tried. Something to do is always ahead while backups are wanted: after a
//! failure it is tried again, sooner than it would be due.

use std::time::{Duration, Instant};

use super::Chance;
use super::backoff::Backoff;

/// What the configuration says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Whether backups are taken without anybody asking.
    pub enabled: bool,
    /// From one to the next.
    pub interval: Duration,
    /// From one trial to the next; zero means never.
    pub drill_interval: Duration,
    /// The wait after a failure.
    pub backoff: Backoff,
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Time has passed.
    Woken,
    /// What was to be done is over, well or not.
    Ended {
        /// What it was.
        task: Task,
        /// Whether it ended well.
        is_done: bool,
    },
    /// The settings are others now.
    Configured(Times),
    /// The part was restarted: what was at work is gone.
    Restarted,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Take a backup, if something has changed.
    Backup,
    /// Restore the newest one into a file beside, to see that it can be.
    Drill,
}

/// One of the two chores.
#[derive(Debug, Clone, Copy)]
struct Chore {
    due: Instant,
    failures: u32,
}

/// The machine.
#[derive(Debug)]
pub struct BackupTimes {
    times: Times,
    backup: Chore,
    drill: Chore,
    running: Option<Task>,
    chance: Chance,
}

impl BackupTimes {
    /// Goes on where the archive stands: how long ago a backup was taken and tried.
    pub fn new(times: Times, taken_ago: Duration, drilled_ago: Duration, now: Instant, seed: u64) -> Self {
        let due = |interval: Duration, ago: Duration| Chore { due: now + interval.saturating_sub(ago), failures: 0 };
        let (backup, drill) = (due(times.interval, taken_ago), due(times.drill_interval, drilled_ago));
        Self { times, backup, drill, running: None, chance: Chance::from_seed(seed) }
    }

    /// Takes an input and tells what is to be done now.
    pub fn handle(&mut self, input: Input, now: Instant) -> Option<Task> {
        match input {
            Input::Woken => {}
            Input::Ended { task, is_done } => self.end(task, is_done, now),
            Input::Configured(times) => self.configure(times, now),
            Input::Restarted => self.running = None,
        }
        let (due, task) = self.deadline()?;
        if due > now {
            return None;
        }
        self.running = Some(task);
        Some(task)
    }

    /// When there is something to do, and what; nothing while something is at work.
    pub fn deadline(&self) -> Option<(Instant, Task)> {
        if self.running.is_some() || !self.times.enabled {
            return None;
        }
        let is_drilled = !self.times.drill_interval.is_zero();
        let drill = is_drilled.then_some((self.drill.due, Task::Drill));
        [Some((self.backup.due, Task::Backup)), drill].into_iter().flatten().min_by_key(|(due, _)| *due)
    }

    fn end(&mut self, task: Task, is_done: bool, now: Instant) {
        self.running = self.running.filter(|running| *running != task);
        let (chore, interval) = match task {
            Task::Backup => (&mut self.backup, self.times.interval),
            Task::Drill => (&mut self.drill, self.times.drill_interval),
        };
        chore.failures = if is_done { 0 } else { chore.failures + 1 };
        let wait = match chore.failures {
            0 => interval,
            failures => self.times.backoff.wait(failures, &mut self.chance).min(interval),
        };
        chore.due = now + wait;
    }

    /// A shorter interval counts from now at the latest; a longer one from the next time on.
    fn configure(&mut self, times: Times, now: Instant) {
        self.backup.due = self.backup.due.min(now + times.interval);
        self.drill.due = self.drill.due.min(now + times.drill_interval);
        self.times = times;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn times() -> Times {
        let backoff = Backoff { base: Duration::from_secs(5), cap: 5 * MINUTE };
        Times { enabled: true, interval: 15 * MINUTE, drill_interval: 24 * 60 * MINUTE, backoff }
    }

    fn machine(taken_ago: Duration, start: Instant) -> BackupTimes {
        BackupTimes::new(times(), taken_ago, Duration::ZERO, start, 1)
    }

    #[test]
    fn a_backup_is_taken_when_the_last_one_is_old_enough() {
        let start = Instant::now();
        let mut machine = machine(10 * MINUTE, start);
        assert_eq!(machine.handle(Input::Woken, start + 4 * MINUTE), None);
        assert_eq!(machine.deadline(), Some((start + 5 * MINUTE, Task::Backup)));
        assert_eq!(machine.handle(Input::Woken, start + 5 * MINUTE), Some(Task::Backup));
        assert_eq!(machine.handle(Input::Woken, start + 50 * MINUTE), None, "one at a time");
        let ended = Input::Ended { task: Task::Backup, is_done: true };
        assert_eq!(machine.handle(ended, start + 6 * MINUTE), None);
        assert_eq!(machine.deadline(), Some((start + 21 * MINUTE, Task::Backup)));
    }

    #[test]
    fn after_a_failure_it_is_tried_again_with_backoff_and_never_later_than_it_would_be_due() {
        let (start, mut now) = (Instant::now(), Instant::now());
        let mut machine = machine(60 * MINUTE, start);
        let mut waits = Vec::new();
        for _ in 0..40 {
            assert_eq!(machine.handle(Input::Woken, now), Some(Task::Backup));
            machine.handle(Input::Ended { task: Task::Backup, is_done: false }, now);
            let (due, _) = machine.deadline().unwrap();
            waits.push(due - now);
            now = due;
        }
        assert!(waits[0] <= Duration::from_secs(5) && waits.iter().all(|wait| *wait <= 5 * MINUTE), "{waits:?}");
        assert!(waits[10..].iter().any(|wait| *wait > MINUTE), "{waits:?}");
    }

    #[test]
    fn with_backups_off_nothing_is_due_and_switched_on_something_is() {
        let start = Instant::now();
        let mut machine = BackupTimes::new(Times { enabled: false, ..times() }, 60 * MINUTE, Duration::ZERO, start, 1);
        assert_eq!((machine.handle(Input::Woken, start + 90 * MINUTE), machine.deadline()), (None, None));
        assert_eq!(machine.handle(Input::Configured(times()), start), Some(Task::Backup));
    }

    #[test]
    fn a_part_that_was_restarted_has_something_ahead_again() {
        let start = Instant::now();
        let mut machine = machine(60 * MINUTE, start);
        assert_eq!(machine.handle(Input::Woken, start), Some(Task::Backup));
        assert_eq!(machine.deadline(), None);
        assert_eq!(machine.handle(Input::Restarted, start), Some(Task::Backup));
    }

    #[test]
    fn the_newest_backup_is_tried_once_a_day_unless_that_is_not_wanted() {
        let start = Instant::now();
        let day = 24 * 60 * MINUTE;
        let times = Times { interval: 10 * day, ..times() };
        let mut machine = BackupTimes::new(times, Duration::ZERO, Duration::ZERO, start, 1);
        assert_eq!(machine.handle(Input::Woken, start + day), Some(Task::Drill));
        machine.handle(Input::Ended { task: Task::Drill, is_done: true }, start + day);
        assert_eq!(machine.deadline(), Some((start + 2 * day, Task::Drill)));
        machine.handle(Input::Configured(Times { drill_interval: Duration::ZERO, ..times }), start + day);
        assert_eq!(machine.deadline().map(|(_, task)| task), Some(Task::Backup));
    }
}
