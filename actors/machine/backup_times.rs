//! When a backup is taken, when one is tried, and when the server is told of them. Something to do is always ahead while
//! backups are wanted: after a failure it is tried again, sooner than it would be due. Telling the server may take long
//! and keeps no backup waiting.

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
    /// Whether the server is told of them.
    pub publish: bool,
    /// The wait after a failure.
    pub backoff: Backoff,
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Time has passed.
    Woken,
    /// What was done to the files is over, well or not.
    Ended {
        /// What it was.
        work: Work,
        /// Whether it ended well.
        is_done: bool,
    },
    /// The server was told, or could not be.
    Told {
        /// Whether that need not be tried again.
        is_done: bool,
    },
    /// There is something new to tell the server, or somebody else whose backups they would be.
    News,
    /// The settings are others now.
    Configured(Times),
    /// The part was restarted: what was at work is gone.
    Restarted,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Something with the files.
    Files(Work),
    /// Tell the server which there are.
    Publish,
}

/// What is done with the files, one thing at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Take a backup, if something has changed.
    Backup,
    /// Restore the newest one into a file beside, to see that it can be.
    Drill,
}

/// One of the chores.
#[derive(Debug, Clone, Copy)]
struct Chore {
    due: Instant,
    failures: u32,
}

/// Whether the server knows what there is.
#[derive(Debug, Clone, Copy)]
enum Published {
    /// It knows.
    All,
    /// It is to be told.
    Due(Instant),
    /// It is being told.
    Running {
        /// Whether something has changed meanwhile.
        again: bool,
    },
}

/// The machine.
#[derive(Debug)]
pub struct BackupTimes {
    times: Times,
    backup: Chore,
    drill: Chore,
    /// What is done to the files just now.
    running: Option<Work>,
    published: Published,
    /// How often in a row the server could not be told.
    publish_failures: u32,
    chance: Chance,
}

impl BackupTimes {
    /// Goes on where the archive stands: how long ago a backup was taken and tried.
    pub fn new(times: Times, taken_ago: Duration, drilled_ago: Duration, now: Instant, seed: u64) -> Self {
        let due = |interval: Duration, ago: Duration| Chore { due: now + interval.saturating_sub(ago), failures: 0 };
        let (backup, drill) = (due(times.interval, taken_ago), due(times.drill_interval, drilled_ago));
        let (published, chance) = (Published::Due(now), Chance::from_seed(seed));
        Self { times, backup, drill, running: None, published, publish_failures: 0, chance }
    }

    /// Takes an input and tells what is to be done now.
    pub fn handle(&mut self, input: Input, now: Instant) -> Option<Task> {
        match input {
            Input::Woken => {}
            Input::Ended { work, is_done } => self.end(work, is_done, now),
            Input::Told { is_done } => self.end_publishing(is_done, now),
            Input::News => self.publish(now),
            Input::Configured(times) => self.configure(times, now),
            Input::Restarted => {
                self.running = None;
                self.publish_at_once(now);
            }
        }
        let (due, task) = self.deadline()?;
        if due > now {
            return None;
        }
        match task {
            Task::Files(work) => self.running = Some(work),
            Task::Publish => self.published = Published::Running { again: false },
        }
        Some(task)
    }

    /// When there is something to do, and what; what is at work is not due.
    pub fn deadline(&self) -> Option<(Instant, Task)> {
        let is_free = self.running.is_none() && self.times.enabled;
        let is_drilled = is_free && !self.times.drill_interval.is_zero();
        let publish = match self.published {
            Published::Due(due) if self.times.publish => Some((due, Task::Publish)),
            Published::Due(_) | Published::All | Published::Running { .. } => None,
        };
        let backup = is_free.then_some((self.backup.due, Task::Files(Work::Backup)));
        let drill = is_drilled.then_some((self.drill.due, Task::Files(Work::Drill)));
        [backup, drill, publish].into_iter().flatten().min_by_key(|(due, _)| *due)
    }

    /// There is something new to tell.
    fn publish(&mut self, now: Instant) {
        match &mut self.published {
            Published::All | Published::Due(_) => self.publish_at_once(now),
            Published::Running { again } => *again = true,
        }
    }

    fn publish_at_once(&mut self, now: Instant) {
        (self.published, self.publish_failures) = (Published::Due(now), 0);
    }

    fn end_publishing(&mut self, is_done: bool, now: Instant) {
        let Published::Running { again } = self.published else { return };
        self.publish_failures = if is_done { 0 } else { self.publish_failures + 1 };
        self.published = match self.publish_failures {
            0 if again => Published::Due(now),
            0 => Published::All,
            failures => Published::Due(now + self.times.backoff.wait(failures, &mut self.chance)),
        };
    }

    fn end(&mut self, work: Work, is_done: bool, now: Instant) {
        self.running = self.running.filter(|running| *running != work);
        let (chore, interval) = match work {
            Work::Backup => (&mut self.backup, self.times.interval),
            Work::Drill => (&mut self.drill, self.times.drill_interval),
        };
        chore.failures = if is_done { 0 } else { chore.failures + 1 };
        let wait = match chore.failures {
            0 => interval,
            failures => self.times.backoff.wait(failures, &mut self.chance).min(interval),
        };
        chore.due = now + wait;
    }

    /// A shorter interval counts from now at the latest; a longer one from the next time on. What is told, and where to,
    /// may be something else now.
    fn configure(&mut self, times: Times, now: Instant) {
        self.publish(now);
        self.backup.due = self.backup.due.min(now + times.interval);
        self.drill.due = self.drill.due.min(now + times.drill_interval);
        self.times = times;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const BACKUP: Task = Task::Files(Work::Backup);
    const DRILL: Task = Task::Files(Work::Drill);

    fn times() -> Times {
        let backoff = Backoff { base: Duration::from_secs(5), cap: 5 * MINUTE };
        Times { enabled: true, interval: 15 * MINUTE, drill_interval: 24 * 60 * MINUTE, publish: false, backoff }
    }

    fn machine(taken_ago: Duration, start: Instant) -> BackupTimes {
        BackupTimes::new(times(), taken_ago, Duration::ZERO, start, 1)
    }

    #[test]
    fn a_backup_is_taken_when_the_last_one_is_old_enough() {
        let start = Instant::now();
        let mut machine = machine(10 * MINUTE, start);
        assert_eq!(machine.handle(Input::Woken, start + 4 * MINUTE), None);
        assert_eq!(machine.deadline(), Some((start + 5 * MINUTE, BACKUP)));
        assert_eq!(machine.handle(Input::Woken, start + 5 * MINUTE), Some(BACKUP));
        assert_eq!(machine.handle(Input::Woken, start + 50 * MINUTE), None, "one at a time");
        let ended = Input::Ended { work: Work::Backup, is_done: true };
        assert_eq!(machine.handle(ended, start + 6 * MINUTE), None);
        assert_eq!(machine.deadline(), Some((start + 21 * MINUTE, BACKUP)));
    }

    #[test]
    fn after_a_failure_it_is_tried_again_with_backoff_and_never_later_than_it_would_be_due() {
        let (start, mut now) = (Instant::now(), Instant::now());
        let mut machine = machine(60 * MINUTE, start);
        let mut waits = Vec::new();
        for _ in 0..40 {
            assert_eq!(machine.handle(Input::Woken, now), Some(BACKUP));
            machine.handle(Input::Ended { work: Work::Backup, is_done: false }, now);
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
        assert_eq!(machine.handle(Input::Configured(times()), start), Some(BACKUP));
    }

    #[test]
    fn a_part_that_was_restarted_has_something_ahead_again() {
        let start = Instant::now();
        let mut machine = machine(60 * MINUTE, start);
        assert_eq!(machine.handle(Input::Woken, start), Some(BACKUP));
        assert_eq!(machine.deadline(), None);
        assert_eq!(machine.handle(Input::Restarted, start), Some(BACKUP));
    }

    #[test]
    fn the_newest_backup_is_tried_once_a_day_unless_that_is_not_wanted() {
        let start = Instant::now();
        let day = 24 * 60 * MINUTE;
        let times = Times { interval: 10 * day, ..times() };
        let mut machine = BackupTimes::new(times, Duration::ZERO, Duration::ZERO, start, 1);
        assert_eq!(machine.handle(Input::Woken, start + day), Some(DRILL));
        machine.handle(Input::Ended { work: Work::Drill, is_done: true }, start + day);
        assert_eq!(machine.deadline(), Some((start + 2 * day, DRILL)));
        machine.handle(Input::Configured(Times { drill_interval: Duration::ZERO, ..times }), start + day);
        assert_eq!(machine.deadline().map(|(_, task)| task), Some(BACKUP));
    }

    fn publishing(start: Instant) -> BackupTimes {
        BackupTimes::new(Times { publish: true, ..times() }, Duration::ZERO, Duration::ZERO, start, 1)
    }

    fn told(is_done: bool) -> Input {
        Input::Told { is_done }
    }

    #[test]
    fn the_server_is_told_at_the_start_and_of_what_is_new() {
        let start = Instant::now();
        let mut machine = publishing(start);
        assert_eq!(machine.handle(Input::Woken, start), Some(Task::Publish));
        assert_eq!(machine.handle(told(true), start), None);
        assert_eq!(machine.handle(Input::News, start + MINUTE), Some(Task::Publish));
        assert_eq!(machine.handle(told(true), start + MINUTE), None);
        assert_eq!(machine.handle(Input::Woken, start + 15 * MINUTE), Some(BACKUP));
        let ended = Input::Ended { work: Work::Backup, is_done: true };
        assert_eq!(machine.handle(ended, start + 16 * MINUTE), None, "nothing had changed");
        assert_eq!(machine.handle(Input::News, start + 16 * MINUTE), Some(Task::Publish));
    }

    #[test]
    fn telling_the_server_keeps_no_backup_waiting_and_what_changes_meanwhile_is_told_as_well() {
        let start = Instant::now();
        let mut machine = publishing(start);
        assert_eq!(machine.handle(Input::Woken, start), Some(Task::Publish));
        assert_eq!(machine.handle(Input::Woken, start + 15 * MINUTE), Some(BACKUP));
        let ended = Input::Ended { work: Work::Backup, is_done: true };
        machine.handle(ended, start + 16 * MINUTE);
        assert_eq!(machine.handle(Input::News, start + 16 * MINUTE), None, "it is still being told");
        assert_eq!(machine.handle(told(true), start + 17 * MINUTE), Some(Task::Publish));
        assert_eq!(machine.handle(told(true), start + 18 * MINUTE), None);
        assert_eq!(machine.deadline(), Some((start + 31 * MINUTE, BACKUP)));
    }

    #[test]
    fn a_server_that_cannot_be_told_is_tried_again_with_backoff() {
        let (start, mut now) = (Instant::now(), Instant::now());
        let mut machine = publishing(start);
        let mut waits = Vec::new();
        while now < start + 9 * MINUTE {
            assert_eq!(machine.handle(Input::Woken, now), Some(Task::Publish));
            machine.handle(told(false), now);
            let (due, task) = machine.deadline().unwrap();
            assert_eq!(task, Task::Publish);
            waits.push(due - now);
            now = due;
        }
        assert!(waits[0] <= Duration::from_secs(5) && waits.iter().all(|wait| *wait <= 5 * MINUTE), "{waits:?}");
        assert!(waits.len() < 40 && waits.iter().any(|wait| *wait > MINUTE), "{waits:?}");
    }

    #[test]
    fn with_backups_off_those_that_are_asked_for_are_told_all_the_same() {
        let start = Instant::now();
        let times = Times { enabled: false, publish: true, ..times() };
        let mut machine = BackupTimes::new(times, Duration::ZERO, Duration::ZERO, start, 1);
        assert_eq!(machine.handle(Input::Woken, start), Some(Task::Publish));
        assert_eq!((machine.handle(told(true), start), machine.deadline()), (None, None));
        assert_eq!(machine.handle(Input::News, start), Some(Task::Publish));
    }
}
