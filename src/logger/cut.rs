//! Texts that are not longer than they may be.

use std::borrow::Cow;
use std::fmt::{self, Write};

use tidelock_actors::limits::LOG_TEXT_READ;

/// What stands where a text was cut.
const CUT: &str = "… (cut)";
/// Bytes before the end of a text that was not read to its end: a secret may begin in them.
const UNSURE: usize = 1_024;

/// At most so many bytes of a text, and a mark where it was longer. PostgreSQL takes no NUL in a text.
pub(super) fn cut(text: &str, bytes: usize) -> String {
    let is_longer = text.len() > bytes;
    let kept = if is_longer { &text[..boundary(text, bytes.saturating_sub(CUT.len()))] } else { text };
    let mut kept = kept.replace('\0', "?");
    if is_longer {
        kept.push_str(CUT);
    }
    kept
}

/// As much of a text as is looked at for secrets, and less what one may begin in.
pub(super) fn readable(text: &str) -> Cow<'_, str> {
    if text.len() <= LOG_TEXT_READ {
        return text.into();
    }
    let mut bounded = Bounded::default();
    let _ = bounded.write_str(text);
    bounded.finish().into()
}

/// The last place at or before `at` that is between two characters.
fn boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default()
}

/// Takes what is written and stops at its bound, so that nobody can fill the memory by logging.
#[derive(Default)]
pub(super) struct Bounded {
    text: String,
    is_full: bool,
}

impl Bounded {
    /// What was written, as far as it can be told from secrets.
    pub fn finish(mut self) -> String {
        if self.is_full {
            self.text.truncate(boundary(&self.text, self.text.len().saturating_sub(UNSURE)));
            self.text.push_str(CUT);
        }
        self.text
    }
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let fits = boundary(text, LOG_TEXT_READ.saturating_sub(self.text.len()));
        self.text.push_str(&text[..fits]);
        self.is_full = fits < text.len();
        if self.is_full { Err(fmt::Error) } else { Ok(()) }
    }
}
