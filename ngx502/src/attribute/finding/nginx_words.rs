//! nginx's own message about an attempt: its format string with what is known of the arguments.

use std::borrow::Cow;
use std::fmt::{self, Display as _};

use bstr::{BString, ByteSlice};

use super::{Verdict, say};
use crate::nginx_format::{self, Slot};
use crate::units::Errno;

/// Whether nginx's message about a failure could be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogWords {
    /// It was.
    #[default]
    Read,
    /// error_log's level keeps nginx from formatting one: the symptom follows from nginx's states and the socket.
    Hidden,
    /// The level lets it through, but the call that takes it was not observed.
    Missed,
}

/// What nginx said of an attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NginxWords {
    /// Whether it could be read.
    pub words: LogWords,
    /// The format string; empty where it could not.
    pub text: BString,
    /// Its first string argument, or OpenSSL's text.
    pub detail: Option<BString>,
    /// Its first numeric argument.
    pub number: Option<i64>,
    /// What nginx was doing: `connecting to upstream`.
    pub action: Option<BString>,
    /// Whether the worker's socket was observed.
    pub socket_seen: bool,
    /// Whether the upstream has a name or an address.
    pub named: bool,
}

impl NginxWords {
    /// OpenSSL's text where there is one, else nginx's.
    pub(super) fn detail_or_text(&self) -> Cow<'_, str> {
        self.detail.as_ref().unwrap_or(&self.text).to_str_lossy()
    }

    /// The message: the text with what is known of its arguments.
    pub(super) fn message(&self, on: &Verdict) -> impl fmt::Display {
        fmt::from_fn(|f| {
            if self.text.is_empty() {
                let words = match self.words {
                    LogWords::Missed => "was not observed",
                    _ => "is hidden by error_log's level",
                };
                let socket = if self.socket_seen { " and the socket" } else { "" };
                return write!(f, "nginx's message {words}; its states{socket} say {}", on.symptom);
            }
            match &self.detail {
                Some(detail) if self.text.starts_with(b"%*s") => detail.fmt(f),
                detail => f.write_str(&fill(&self.text, detail.as_ref(), self.number)),
            }
        })
    }

    /// The message with its errno, what nginx was doing, and to whom: as it stands in the error log.
    pub(super) fn said(&self, on: &Verdict) -> impl fmt::Display {
        fmt::from_fn(|f| {
            self.message(on).fmt(f)?;
            if let Some(number) = on.errno {
                say(f, &[" (", &Errno(number).name(), ")"])?;
            }
            match (&self.action, self.named) {
                (Some(action), true) => say(f, &[" while ", &action.to_str_lossy(), " (", &on.target, ")"]),
                (Some(action), false) => write!(f, " while {action}"),
                (None, true) => write!(f, ", upstream {}", on.target),
                (None, false) => Ok(()),
            }
        })
    }
}

/// Fills a format's first string and number; further slots go, with the punctuation that joins them.
fn fill<'a>(text: &'a BString, mut detail: Option<&BString>, mut number: Option<i64>) -> Cow<'a, str> {
    let (mut out, mut from) = (String::new(), 0);
    while let Some((slot, kind)) = nginx_format::next_slot(text, from) {
        out.reserve(128);
        out.push_str(&text[from..slot.start].to_str_lossy());
        from = slot.end;
        if kind == Slot::Counted {
            // The string's own length.
            number = None;
        }
        let value = match kind {
            Slot::Text | Slot::Counted => detail.take().map(|detail| detail.to_str_lossy()),
            Slot::Number => number.take().map(|number| number.to_string().into()),
        };
        match value {
            Some(value) => out.push_str(&value),
            None => out.truncate(out.trim_end_matches("\\x").trim_end_matches([':', ' ']).len()),
        }
    }
    if from == 0 {
        return text.to_str_lossy();
    }
    out.push_str(&text[from..].to_str_lossy());
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_filled_with_what_is_known() {
        let filled = |text: &str, detail: Option<&str>, number| {
            fill(&text.into(), detail.map(BString::from).as_ref(), number).into_owned()
        };
        assert_eq!(
            filled("%V could not be resolved (%i: %s)", Some("gone.test"), Some(3)),
            "gone.test could not be resolved (3)"
        );
        assert_eq!(
            filled("connect() to %V failed", Some("unix:/run/x"), None),
            "connect() to unix:/run/x failed"
        );
        assert_eq!(
            filled("upstream sent too big header", Some("junk"), Some(7)),
            "upstream sent too big header"
        );
        assert_eq!(
            filled("%ui worker_connections are not enough", None, Some(512)),
            "512 worker_connections are not enough"
        );
        assert_eq!(filled("too large http2 frame: %uz", None, Some(7)), "too large http2 frame: 7");
        assert_eq!(filled("status \"%02Xd\" of %l:%s", Some("a"), Some(9)), "status \"9\" of:a");
        assert_eq!(filled("100%", None, None), "100");
        let cut = "upstream sent invalid header: \"%*s\\x%02xd...\"";
        assert_eq!(filled(cut, Some("X-"), Some(2)), "upstream sent invalid header: \"X-...\"");
    }
}
