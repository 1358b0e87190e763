//! `logs`: what was said lately, and what is said as it is said.

use std::time::Duration;

use serde_json::Value;
use tidelock::logs::{Kept, LogQuery};

use super::access::Access;
use super::arguments;
use super::failure::{Failure, USAGE};
use super::output::{Output, line};

/// How often a process is asked for news.
const FOLLOW_PAUSE: Duration = Duration::from_millis(500);

/// `logs`
pub async fn logs(access: &Access, arguments: &arguments::Logs, output: Output) -> Result<(), Failure> {
    if let Some(level) = arguments.set_level {
        let Some(process) = access.process() else {
            return Err(Failure::new(USAGE, "no process runs on this data folder; set log.level in the configuration"));
        };
        let set = process.set_log_level(level).await?;
        return output.print(&set, |set| format!("messages are kept and said from level {} on", set.level.name()));
    }
    let since = arguments.since;
    let mut query = LogQuery { level: arguments.level, since, after: None, limit: arguments.limit };
    let mut entries = access.logs(query.clone()).await?;
    if !arguments.follow {
        return output.print(&entries, |entries| entries.iter().map(words).collect::<Vec<_>>().join("\n"));
    }
    if access.process().is_none() {
        return Err(Failure::new(
            USAGE,
            "no process runs on this data folder, so nothing will follow; leave out --follow",
        ));
    }
    loop {
        for entry in &entries {
            match output {
                // An entry a line, since there is no end.
                Output::Json => output.print(entry, |_| String::new())?,
                Output::Text => line(&words(entry))?,
            }
        }
        if let Some(last) = entries.last() {
            // From here on its number says where to go on.
            query = LogQuery { after: Some(last.number), since: None, limit: None, ..query };
        }
        tokio::time::sleep(FOLLOW_PAUSE).await;
        entries = access.logs(query.clone()).await?;
    }
}

/// One entry on one line.
fn words(kept: &Kept) -> String {
    let entry = &kept.entry;
    let mut text = format!("{:.3} {:5} ", entry.at, entry.level.name().to_uppercase());
    for span in &entry.spans {
        text.push_str(&format!("{}{}: ", span.name, braced(&span.fields)));
    }
    text.push_str(&format!("{}: {}", entry.target, entry.message));
    if let Some(call) = &entry.call {
        text.push_str(&format!(" credits={} metadata={}", call.credits, call.metadata));
    }
    for (name, value) in &entry.fields {
        text.push_str(&format!(" {name}={value}"));
    }
    if entry.count > 1 {
        text.push_str(&format!(" ({} times until {:.3})", entry.count, entry.last_at));
    }
    // A message of several lines, or one that steers a terminal, is still one line of plain text.
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

fn braced(fields: &serde_json::Map<String, Value>) -> String {
    if fields.is_empty() {
        return String::new();
    }
    let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{{{}}}", fields.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_one_line() {
        let entry = serde_json::json!({
            "number": 7, "pending": true, "id": "x", "at": "2026-11-23T10:00:00.1234567Z", "last_at": "2026-11-23T10:00:30Z",
            "level": "warn", "target": "app", "message": "two\nlines \u{1b}[2J", "fields": {"ms": 17}, "count": 3,
            "spans": [{"name": "export", "fields": {"run": 1}}, {"name": "page"}],
        });
        let expected = "2026-11-23T10:00:00.123Z WARN  export{run=1}: page: app: two lines  [2J ms=17 (3 times until 2026-11-23T10:00:30.000Z)";
        assert_eq!(words(&serde_json::from_value(entry).unwrap()), expected);
    }
}
