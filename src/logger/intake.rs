//! Where log entries gather: filled from any thread behind a short lock, emptied by the logger. It never waits, and what
//! does not fit is shed and counted.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Instant;

use jiff::Timestamp;
use serde_json::{Map, Value};
use tidelock_actors::limits::{LOG_ENTRY_BYTES, LOG_TEXT_BYTES};
use tidelock_actors::logger::OWN_TARGET;
use tidelock_actors::logs::{ApiCall, Drained, Entry, Severity, SpanContext, bytes_of_value};
use tidelock_actors::ports::LogIntake;
use uuid::Uuid;

use super::cut::cut;
use super::gathering::{Gathering, News};
use super::redact::Redactor;
use crate::config::Level;
use crate::locks::{locked, locked_to_read, locked_to_write};

/// The programs that carry requests. What they say while entries are shipped would be about the logger.
const CARRIERS: [&str; 5] = ["hyper", "hyper_util", "h2", "reqwest", "rustls"];
/// The target of calls of services.
const CALLS: &str = "api_call";

/// Which entries are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Levels {
    /// These are kept on this device.
    pub local: Level,
    /// The server is to have these.
    pub remote: Level,
}

/// A hint to the logger that there is something to write.
pub(super) type Waker = Arc<dyn Fn() + Send + Sync>;

/// The intake of one store, or of nobody yet.
pub(crate) struct Intake {
    gathering: Mutex<Gathering>,
    local: AtomicU8,
    remote: AtomicU8,
    is_closed: AtomicBool,
    redactor: RwLock<Arc<Redactor>>,
    waker: RwLock<Option<Waker>>,
    hasher: RandomState,
}

/// What was said, as the layer has it.
pub(super) struct Said<'a> {
    pub level: Severity,
    pub target: &'a str,
    pub message: String,
    pub fields: Map<String, Value>,
    pub spans: Vec<SpanContext>,
}

/// The rank below which everything is wanted.
fn wanted(level: Level) -> u8 {
    level.severity().map_or(0, |severity| severity.rank() + 1)
}

/// The other way round.
fn level_of(wanted: u8) -> Level {
    let least = usize::from(wanted).checked_sub(1);
    Level::of(least.and_then(|rank| Severity::ALL.get(rank).copied()))
}

impl Intake {
    pub fn new(levels: Levels, redactor: Redactor) -> Self {
        Self {
            gathering: Mutex::default(),
            local: AtomicU8::new(wanted(levels.local)),
            remote: AtomicU8::new(wanted(levels.remote)),
            is_closed: AtomicBool::new(false),
            redactor: RwLock::new(Arc::new(redactor)),
            waker: RwLock::default(),
            hasher: RandomState::new(),
        }
    }

    /// Takes other levels from now on.
    pub fn set_levels(&self, levels: Levels) {
        let before = self.rank();
        self.local.store(wanted(levels.local), Ordering::Relaxed);
        self.remote.store(wanted(levels.remote), Ordering::Relaxed);
        if before != self.rank() {
            // What was found uninteresting is asked about again.
            tracing::callsite::rebuild_interest_cache();
        }
    }

    /// Which entries are taken now.
    pub fn levels(&self) -> Levels {
        let [local, remote] = [&self.local, &self.remote].map(|rank| level_of(rank.load(Ordering::Relaxed)));
        Levels { local, remote }
    }

    /// From which level on something is wanted.
    pub fn level(&self) -> Level {
        level_of(self.rank())
    }

    /// The rank below which something is wanted.
    pub fn rank(&self) -> u8 {
        self.local.load(Ordering::Relaxed).max(self.remote.load(Ordering::Relaxed))
    }

    /// Takes out other secrets from now on.
    pub fn set_redactor(&self, redactor: Redactor) {
        *locked_to_write(&self.redactor) = Arc::new(redactor);
    }

    pub fn redactor(&self) -> Arc<Redactor> {
        locked_to_read(&self.redactor).clone()
    }

    /// Who is told that there is something.
    pub(super) fn set_waker(&self, waker: Waker) {
        *locked_to_write(&self.waker) = Some(waker);
        // What came before it is told as well.
        self.wake();
    }

    /// Nothing more is taken.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
        *locked_to_write(&self.waker) = None;
    }

    /// Whether something of this level from there is wanted at all.
    pub fn wants(&self, level: Severity, target: &str) -> bool {
        // What carriers whisper is only wanted where everything is.
        let is_noise = is_of(target, &CARRIERS) && level > Severity::Warn && self.rank() <= Severity::Trace.rank();
        level.rank() < self.rank() && !is_own(target) && !is_noise
    }

    /// Takes what was said. What is in it must be bounded; secrets are taken out here.
    pub(super) fn say(&self, said: Said<'_>) {
        let Said { level, target, message, fields, spans } = said;
        if !self.wants(level, target) {
            return;
        }
        // A part's failures are told by the supervisor: those of the logger would come back to it.
        let is_own = fields.get("part").is_some_and(|part| part == "logger");
        let ships = level.rank() < self.remote.load(Ordering::Relaxed) && !is_own && !is_of(target, &CARRIERS);
        let redactor = self.redactor();
        let spans = spans.into_iter().map(|span| SpanContext { fields: redactor.map(span.fields), ..span });
        let (now, fields) = (Timestamp::now(), redactor.map(fields));
        let message = redactor.short(&message);
        let key = (level <= Severity::Warn)
            .then(|| self.hasher.hash_one((level, target, &message, Value::Object(fields.clone()).to_string())));
        let entry = Entry {
            id: Uuid::now_v7().to_string(),
            at: now,
            last_at: now,
            level,
            target: cut(target, LOG_TEXT_BYTES),
            message,
            fields,
            spans: spans.collect(),
            count: 1,
            call: None,
            ships,
        };
        self.offer(entry, key);
    }

    /// Takes a call of a service.
    pub fn call(&self, provider: &str, action: &str, credits: f64, metadata: Value) {
        let (redactor, now) = (self.redactor(), Timestamp::now());
        let call = ApiCall {
            provider: redactor.short(provider),
            action: redactor.short(action),
            // What is no number could not be read again.
            credits: if credits.is_finite() { credits } else { 0.0 },
            metadata: redactor.value("metadata", metadata),
        };
        let entry = Entry {
            id: Uuid::now_v7().to_string(),
            at: now,
            last_at: now,
            level: Severity::Info,
            target: CALLS.to_owned(),
            message: format!("{} {}", call.provider, call.action),
            fields: Map::new(),
            spans: Vec::new(),
            count: 1,
            call: Some(call),
            ships: self.remote.load(Ordering::Relaxed) > 0,
        };
        self.offer(entry, None);
    }

    fn offer(&self, mut entry: Entry, key: Option<u64>) {
        if self.is_closed.load(Ordering::Relaxed) {
            return;
        }
        fit(&mut entry);
        let news = locked(&self.gathering).offer(entry, key, Instant::now());
        if news == News::Notice {
            self.wake();
        }
    }

    fn wake(&self) {
        let waker = locked_to_read(&self.waker).clone();
        if let Some(waker) = waker {
            waker();
        }
    }

    /// Gives all that has gathered here to another intake, which knows more secrets.
    pub(super) fn pour_into(&self, other: &Self) {
        let Drained { entries, .. } = self.drain(true);
        let redactor = other.redactor();
        for mut entry in entries {
            entry.message = redactor.text(&entry.message).into_owned();
            entry.fields = redactor.map(entry.fields);
            entry.spans.iter_mut().for_each(|span| span.fields = redactor.map(std::mem::take(&mut span.fields)));
            entry.ships = entry.ships && entry.level.rank() < other.remote.load(Ordering::Relaxed);
            if entry.level.rank() < other.rank() {
                other.offer(entry, None);
            }
        }
    }
}

impl LogIntake for Intake {
    fn drain(&self, all: bool) -> Drained {
        let taken = locked(&self.gathering).take(Instant::now(), all);
        taken.into()
    }

    fn is_urgent(&self) -> bool {
        locked(&self.gathering).is_urgent()
    }
}

/// What is still too large loses what is largest.
fn fit(entry: &mut Entry) {
    let fields = |map: &Map<String, Value>| -> usize { map.values().map(bytes_of_value).sum() };
    let cut = |map: &mut Map<String, Value>, bytes: usize| {
        if fields(map) > bytes {
            *map = Map::from_iter([("cut".to_owned(), Value::Bool(true))]);
        }
    };
    cut(&mut entry.fields, LOG_ENTRY_BYTES / 2);
    entry.spans.iter_mut().for_each(|span| cut(&mut span.fields, LOG_TEXT_BYTES / 4));
    if let Some(call) = &mut entry.call
        && bytes_of_value(&call.metadata) > LOG_ENTRY_BYTES
    {
        call.metadata = serde_json::json!({ "cut": true });
    }
}

/// Whether a target is one of these, or within one of them.
fn is_of(target: &str, parts: &[&str]) -> bool {
    parts.iter().any(|part| target.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with("::")))
}

/// Whether it is the logger that speaks.
pub(super) fn is_own(target: &str) -> bool {
    target == OWN_TARGET
}

#[cfg(test)]
mod tests;
