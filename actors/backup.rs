//! When backups are taken and tried, and the server told of them. It never blocks a writer and never touches a file: that
//! is the archive's. Its decisions are in `machine::backup_times` and `machine::retention`.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::watch;

use crate::backups::{ArchiveError, ArchiveState, PublishError, Reason, Taken};
use crate::deferred::Deferred;
use crate::instant::now;
use crate::limits::ACTOR_MAILBOX;
use crate::machine::backup_times::{BackupTimes, Input, Task, Times, Work};
use crate::metrics;
use crate::ports::{Archive, Clock, Ports, Publisher};
use crate::supervisor::{Crash, Stop};

/// Asks for a backup now, whether something has changed or not.
#[derive(Message)]
#[rtype(result = "Result<Taken, ArchiveError>")]
pub struct TakeBackup(pub Reason);

/// A hint: somebody has signed in.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Renewed;

/// Takes over changed settings.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Configure(pub Times);

/// What the world is told about backups.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BackupStatus {
    /// When the newest one was taken, milliseconds since 1970.
    pub taken_ms: Option<i64>,
    /// What went wrong when one was taken last.
    pub last_error: Option<String>,
    /// What went wrong when one was tried last.
    pub drill_error: Option<String>,
    /// When the server was last told of all of them, milliseconds since 1970.
    pub published_ms: Option<i64>,
    /// Why it could not be told last.
    pub publish_error: Option<String>,
}

/// The actor.
pub struct BackupTimer {
    times: BackupTimes,
    archive: Arc<dyn Archive>,
    publisher: Arc<dyn Publisher>,
    clock: Arc<dyn Clock>,
    status: watch::Sender<BackupStatus>,
    wake_up: Option<SpawnHandle>,
}

impl BackupTimer {
    /// Goes on where the archive stands.
    pub fn new(
        times: Times,
        ports: &Ports,
        status: watch::Sender<BackupStatus>,
        archived: ArchiveState,
        seed: u64,
    ) -> Self {
        let (archive, publisher, clock) = (ports.archive.clone(), ports.publisher.clone(), ports.clock.clone());
        let ago = |ms: Option<i64>| {
            ms.map_or(Duration::ZERO, |ms| {
                Duration::from_millis(u64::try_from(clock.now_ms() - ms).unwrap_or_default())
            })
        };
        let taken_ago = ago(archived.taken_ms.or(archived.since_ms));
        let drilled_ago = ago(archived.drilled_ms.or(archived.since_ms));
        status.send_modify(|status| status.taken_ms = archived.taken_ms);
        let times = BackupTimes::new(times, taken_ago, drilled_ago, now(), seed);
        Self { times, archive, publisher, clock, status, wake_up: None }
    }

    fn step(&mut self, input: Input, context: &mut Context<Self>) {
        if let Some(task) = self.times.handle(input, now()) {
            self.perform(task, context);
        }
        self.rearm(context);
    }

    fn perform(&mut self, task: Task, context: &mut Context<Self>) {
        match task {
            Task::Files(work) => self.work(work, context),
            Task::Publish => self.publish(context),
        }
    }

    fn work(&self, work: Work, context: &mut Context<Self>) {
        let archive = self.archive.clone();
        let working = async move {
            match work {
                Work::Backup => take(archive, Reason::Periodic).await,
                Work::Drill => archive.drill().await.map(|()| None),
            }
        };
        let ended = working.into_actor(self).map(move |ended, timer, context| {
            timer.note(work, &ended);
            timer.step(Input::Ended { work, is_done: ended.is_ok() }, context);
            // A trial is told of as well, however it ended; that nothing had changed is no news.
            if work == Work::Drill || matches!(ended, Ok(Some(_))) {
                timer.step(Input::News, context);
            }
        });
        context.spawn(ended);
    }

    fn publish(&self, context: &mut Context<Self>) {
        let publisher = self.publisher.clone();
        let work = async move { publisher.publish().await };
        let ended = work.into_actor(self).map(|ended, timer, context| {
            timer.note_published(&ended);
            // Where there is nobody to tell, that is tried again with the next news.
            let is_done = !matches!(ended, Err(PublishError::Failed(_)));
            timer.step(Input::Told { is_done }, context);
        });
        context.spawn(ended);
    }

    fn note(&self, work: Work, ended: &Result<Option<Taken>, ArchiveError>) {
        if let Err(error) = ended {
            tracing::warn!(%error, task = ?work, "a backup failed; it is tried again");
        }
        self.show(|status| {
            let said = ended.as_ref().err().map(ToString::to_string);
            match work {
                Work::Backup => status.last_error = said,
                Work::Drill => status.drill_error = said,
            }
            let taken = ended.as_ref().ok().and_then(Option::as_ref);
            status.taken_ms = taken.map(|taken| taken.taken_ms).or(status.taken_ms);
        });
    }

    fn note_published(&self, ended: &Result<(), PublishError>) {
        let now_ms = self.clock.now_ms();
        let is_new = self.show(|status| match ended {
            Ok(()) => (status.published_ms, status.publish_error) = (Some(now_ms), None),
            // Nobody asked for it in particular.
            Err(PublishError::Nowhere(_)) => status.publish_error = None,
            Err(error @ PublishError::Failed(_)) => status.publish_error = Some(error.to_string()),
        });
        match ended {
            Err(PublishError::Failed(error)) if is_new => {
                tracing::warn!(%error, "the server could not be told of the backups; tried again");
            }
            Err(error) => tracing::debug!(%error, "the server was not told of the backups"),
            Ok(()) => {}
        }
    }

    fn show(&self, change: impl FnOnce(&mut BackupStatus)) -> bool {
        self.status.send_if_modified(|status| {
            let before = status.clone();
            change(status);
            *status != before
        })
    }

    /// One timer, at the machine's deadline.
    fn rearm(&mut self, context: &mut Context<Self>) {
        if let Some(old) = self.wake_up.take() {
            context.cancel_future(old);
        }
        if let Some((due, _)) = self.times.deadline() {
            let pause = due.saturating_duration_since(now()).max(Duration::from_millis(1));
            self.wake_up = Some(context.run_later(pause, |timer, context| timer.step(Input::Woken, context)));
        }
    }
}

/// Takes a backup and counts it; a periodic one that was not needed is none.
async fn take(archive: Arc<dyn Archive>, reason: Reason) -> Result<Option<Taken>, ArchiveError> {
    let began = now();
    let ended = archive.take(reason).await;
    match &ended {
        Ok(Some(_)) => {
            metrics::BACKUPS.add(1, &["taken".into()]);
            metrics::BACKUP_SECONDS.observe(now().duration_since(began).as_secs_f64(), &[]);
        }
        Ok(None) => {}
        Err(_) => metrics::BACKUPS.add(1, &["failed".into()]),
    }
    ended
}

impl Actor for BackupTimer {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(ACTOR_MAILBOX);
        self.step(Input::Woken, context);
    }
}

impl Supervised for BackupTimer {
    fn restarting(&mut self, context: &mut Self::Context) {
        self.wake_up = None;
        self.step(Input::Restarted, context);
    }
}

impl Handler<TakeBackup> for BackupTimer {
    type Result = Deferred<Result<Taken, ArchiveError>>;

    fn handle(&mut self, TakeBackup(reason): TakeBackup, context: &mut Self::Context) -> Self::Result {
        let (answer, archive) = (Deferred::default(), self.archive.clone());
        let given: Self::Result = answer.clone();
        let work = take(archive, reason);
        let ended = work.into_actor(self).map(move |ended, timer, context| {
            timer.note(Work::Backup, &ended);
            timer.step(Input::News, context);
            let nothing = || ArchiveError::Failed("the archive took no backup".to_owned());
            answer.give(ended.and_then(|taken| taken.ok_or_else(nothing)));
        });
        context.spawn(ended);
        given
    }
}

impl Handler<Renewed> for BackupTimer {
    type Result = ();

    fn handle(&mut self, _: Renewed, context: &mut Self::Context) {
        self.step(Input::News, context);
    }
}

impl Handler<Configure> for BackupTimer {
    type Result = ();

    fn handle(&mut self, Configure(times): Configure, context: &mut Self::Context) {
        self.step(Input::Configured(times), context);
    }
}

impl Handler<Stop> for BackupTimer {
    type Result = ();

    /// A backup in the middle is left to the archive: its file gets its name only when it is whole.
    fn handle(&mut self, _: Stop, context: &mut Self::Context) {
        context.stop();
    }
}

impl Handler<Crash> for BackupTimer {
    type Result = ();

    fn handle(&mut self, _: Crash, _: &mut Self::Context) {
        panic!("asked to crash");
    }
}
