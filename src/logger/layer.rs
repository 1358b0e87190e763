//! The `tracing` layer: hears what a program says, with the spans it is said in, and gives it to an intake.

use std::fmt::{Debug, Write};
use std::marker::PhantomData;
use std::sync::Arc;

use serde_json::{Map, Value};
use tidelock_actors::limits::{LOG_FIELDS, LOG_SPANS};
use tidelock_actors::logs::{Severity, SpanContext};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Filter, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::cut::Bounded;
use super::intake::{Intake, Said, is_own};
use super::process;
use crate::config::Level;

/// Whose entries they become.
#[derive(Clone)]
enum Ear {
    /// Of the store that hears the process.
    Process,
    /// Of this store.
    Store(Arc<Intake>),
}

impl Ear {
    fn intake(&self) -> Arc<Intake> {
        match self {
            Self::Process => process::intake(),
            Self::Store(intake) => intake.clone(),
        }
    }
}

/// The layer that hears for whichever store hears the process.
pub(super) fn of_process<S>() -> impl Layer<S> + Send + Sync + 'static
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync + 'static,
{
    layer(Ear::Process)
}

/// The layer that hears for one store.
pub(super) fn of_store<S>(intake: Arc<Intake>) -> impl Layer<S> + Send + Sync + 'static
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync + 'static,
{
    layer(Ear::Store(intake))
}

fn layer<S>(ear: Ear) -> impl Layer<S> + Send + Sync + 'static
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync + 'static,
{
    Hearing { ear: ear.clone(), subscriber: PhantomData::<fn(S)> }.with_filter(Wanted(ear))
}

struct Hearing<S> {
    ear: Ear,
    subscriber: PhantomData<fn(S)>,
}

/// What a span was opened with.
struct SpanFields(Map<String, Value>);

impl<S> Layer<S> for Hearing<S>
where
    S: Subscriber + for<'a> LookupSpan<'a> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().replace(SpanFields(fields.map));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        // A host's own words are asked for before anything is locked: it may log while it finds them.
        let mut fields = Fields::default();
        values.record(&mut fields);
        if let Some(span) = context.span(id)
            && let Some(SpanFields(known)) = span.extensions_mut().get_mut()
        {
            for (name, value) in fields.map {
                if known.len() < LOG_FIELDS || known.contains_key(&name) {
                    known.insert(name, value);
                }
            }
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut spans = Vec::new();
        for span in context.event_scope(event).into_iter().flatten() {
            if is_own(span.metadata().target()) {
                return;
            }
            if spans.len() < LOG_SPANS {
                let extensions = span.extensions();
                let fields = extensions.get().map(|SpanFields(fields)| fields.clone()).unwrap_or_default();
                spans.push(SpanContext { name: span.name().to_owned(), fields });
            }
        }
        spans.reverse();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let (level, target) = (severity(metadata.level()), metadata.target());
        self.ear.intake().say(Said { level, target, message: fields.message, fields: fields.map, spans });
    }
}

/// Says beforehand what is not wanted, so that it costs nothing.
struct Wanted(Ear);

impl<S> Filter<S> for Wanted {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        // A span may be what something important is said in.
        metadata.is_span() || self.0.intake().wants(severity(metadata.level()), metadata.target())
    }

    /// Spans are mostly opened at `info`: what is said in them is to have them.
    fn max_level_hint(&self) -> Option<LevelFilter> {
        match self.0.intake().level() {
            Level::Off => Some(LevelFilter::OFF),
            level => Some(LevelFilter::from(level).max(LevelFilter::INFO)),
        }
    }
}

fn severity(level: &tracing::Level) -> Severity {
    match *level {
        tracing::Level::ERROR => Severity::Error,
        tracing::Level::WARN => Severity::Warn,
        tracing::Level::INFO => Severity::Info,
        tracing::Level::DEBUG => Severity::Debug,
        tracing::Level::TRACE => Severity::Trace,
    }
}

/// The words and the values beside them, bounded.
#[derive(Default)]
struct Fields {
    message: String,
    map: Map<String, Value>,
}

impl Fields {
    fn set(&mut self, field: &Field, value: Value) {
        if self.map.len() < LOG_FIELDS || self.map.contains_key(field.name()) {
            self.map.insert(field.name().to_owned(), value);
        }
    }

    fn words(&mut self, field: &Field, words: std::fmt::Arguments<'_>) {
        let mut text = Bounded::default();
        // It fails where the bound is reached: what is there by then is what is kept.
        let _ = text.write_fmt(words);
        match field.name() {
            "message" => self.message = text.finish(),
            _ => self.set(field, text.finish().into()),
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.words(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.words(field, format_args!("{value:?}"));
    }
}
