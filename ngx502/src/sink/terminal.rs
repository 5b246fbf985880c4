//! For a person at a terminal, probably at night.
//!
//! Each verdict is a block whose first words are what failed and whose second line is the sentence to act on. In a
//! storm repeats are folded into a count (`fold`), so that the first of each kind stay on the screen.

use std::io;

use crate::attribute::verdict::{Outcome, Verdict};
use crate::session::Session;
use crate::sink::Sink;
use crate::summary::{Summary, UpstreamLatency};
use crate::time::Moment;
use crate::units::Count;

use self::block::Block;
use self::fold::{Fold, Folded, Key};
use self::paint::{Tone, paint};

mod block;
mod closing;
mod fold;
mod paint;

/// How much is shown of each verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// One line a verdict, none folded.
    Quiet,
    /// A block a verdict, repeats folded.
    #[default]
    Normal,
    /// As normal, with every fact, every attempt and the whole URI.
    Verbose,
}

/// How a terminal sink writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalOptions {
    /// Whether to use colour.
    pub color: bool,
    /// Columns to lay text out in; at least 40 are used.
    pub width: usize,
    /// How much to show.
    pub detail: Detail,
    /// Whether to name the traced host in each verdict (several captures at once).
    pub show_host: bool,
}

impl Default for TerminalOptions {
    fn default() -> TerminalOptions {
        TerminalOptions { color: false, width: 100, detail: Detail::Normal, show_host: false }
    }
}

/// Writes outcomes for people.
#[derive(Debug)]
pub struct TerminalSink<W> {
    out: W,
    text: String,
    options: TerminalOptions,
    fold: Fold,
    /// The day of the last verdict shown, `2026-11-21`.
    day: String,
    lost: Lost,
}

/// Lost records that wait for the next tick, so that a flood of losses does not flood the screen.
#[derive(Debug, Default)]
struct Lost {
    events: u64,
    reason: String,
    shown_at: Option<Moment>,
}

impl<W: io::Write> TerminalSink<W> {
    /// A sink that writes to `out`, which need not be buffered.
    pub fn new(out: W, options: TerminalOptions) -> TerminalSink<W> {
        let options = TerminalOptions { width: options.width.max(40), ..options };
        let (text, day) = (String::new(), String::new());
        TerminalSink { out, text, options, fold: Fold::default(), day, lost: Lost::default() }
    }

    fn verdict(&mut self, session: &Session, verdict: &Verdict, rescued: bool) {
        let (time, quiet) = (Moment::of(session, verdict.at), self.options.detail == Detail::Quiet);
        if !quiet {
            self.advance(time);
            if !self.fold.admit(Key::of(verdict, rescued)) {
                return;
            }
            self.day_rule(time);
        }
        let mut block = Block { out: &mut self.text, options: &self.options, verdict, time, rescued };
        if quiet { block.write_line() } else { block.write() }
    }

    /// A rule with the date, where the day is not the one of the verdict before.
    fn day_rule(&mut self, time: Moment) {
        if self.day != time.date() {
            self.day = time.date();
            let rule = format!("── {} UTC ──", self.day);
            self.text += &format!("{}\n\n", self.paint(Tone::Dim, &rule));
        }
    }

    fn advance(&mut self, now: Moment) {
        let due = self.fold.advance(now);
        self.folded(due);
        if self.lost.events > 0 && self.lost.shown_at.is_none_or(|shown| now.since(shown) >= fold::SECOND) {
            self.show_lost();
        }
    }

    fn folded(&mut self, lines: Vec<Folded>) {
        let any = !lines.is_empty();
        for line in lines {
            let text = block::folded(&line, &self.options);
            self.text += &format!("{}\n", self.paint(Tone::Dim, &text));
        }
        if any {
            self.text.push('\n');
        }
    }

    fn show_lost(&mut self) {
        let text = format!(
            "lost {} events ({}): counts and causes may be incomplete",
            Count(self.lost.events),
            crate::escape::terminal(self.lost.reason.as_bytes())
        );
        self.text += &format!("{}\n\n", self.paint(Tone::Bad, &text));
        self.lost = Lost { shown_at: Some(self.fold.now()), ..Lost::default() };
    }

    fn paint(&self, tone: Tone, text: &str) -> String {
        paint(self.options.color, tone, text)
    }

    fn drain(&mut self) -> io::Result<()> {
        let written = self.out.write_all(self.text.as_bytes());
        // Also after a failure: nothing is written twice.
        self.text.clear();
        written
    }
}

impl<W: io::Write> Sink for TerminalSink<W> {
    fn ready(&mut self, session: &Session) -> io::Result<()> {
        closing::ready(&mut self.text, &self.options, session);
        self.drain()
    }

    fn outcome(&mut self, session: &Session, outcome: &Outcome) -> io::Result<()> {
        match outcome {
            Outcome::Verdict(verdict) => self.verdict(session, verdict, false),
            Outcome::Rescued(verdict) => self.verdict(session, verdict, true),
            Outcome::Lost { events, reason } => {
                self.lost.events = self.lost.events.saturating_add(*events);
                self.lost.reason.clone_from(reason);
                self.advance(self.fold.now());
            }
            // Said on standard error when it happened, and in each summary that it concerns.
            Outcome::Notice { .. } | Outcome::NotUpstream { .. } => {}
        }
        if self.text.len() >= 64 * 1024 { self.drain() } else { Ok(()) }
    }

    fn tick(&mut self, now: Moment) -> io::Result<()> {
        self.advance(now);
        Ok(())
    }

    fn latency(&mut self, session: &Session, now: Moment, upstreams: &[UpstreamLatency]) -> io::Result<()> {
        closing::upstreams(&mut self.text, &self.options, session, (now, upstreams));
        self.drain()
    }

    fn summary(&mut self, _session: &Session, summary: &Summary) -> io::Result<()> {
        let pending = self.fold.drain();
        self.folded(pending);
        if self.lost.events > 0 {
            self.show_lost();
        }
        closing::summary(&mut self.text, &self.options, summary);
        self.drain()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.drain()?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests;
