//! Where outcomes go.
//!
//! A sink is given every [`Outcome`] in order and shows it: [`json`] as one line each for machines, [`terminal`] for a
//! person, `export` as tables for other engines. Sinks buffer; whoever drives them calls [`Sink::flush`] after each
//! batch, so that a lone 502 is seen at once and a storm costs one write a batch.

use std::io;

use crate::attribute::verdict::Outcome;
use crate::session::Session;
use crate::summary::{Summary, UpstreamLatency};
use crate::time::Moment;

pub mod json;
pub mod options;
pub mod terminal;

#[cfg(test)]
mod sample;

/// Something that shows outcomes.
///
/// Every method fails with what the underlying writer said; ask [`is_broken_pipe`] whether that only means that the
/// reader has gone.
pub trait Sink {
    /// Everything is attached: from here on nothing is missed.
    fn ready(&mut self, _session: &Session) -> io::Result<()> {
        Ok(())
    }

    /// One outcome. `session` is the one of the host that it comes from.
    fn outcome(&mut self, session: &Session, outcome: &Outcome) -> io::Result<()>;

    /// The time is `now`; what a sink holds back by time becomes due.
    fn tick(&mut self, _now: Moment) -> io::Result<()> {
        Ok(())
    }

    /// Latency of all upstream requests up to `now`, on demand and at intervals.
    fn latency(&mut self, _session: &Session, _now: Moment, _all: &[UpstreamLatency]) -> io::Result<()> {
        Ok(())
    }

    /// What all of it amounts to.
    fn summary(&mut self, _session: &Session, _summary: &Summary) -> io::Result<()> {
        Ok(())
    }

    /// Hands everything shown so far to the reader.
    fn flush(&mut self) -> io::Result<()>;

    /// Nothing more is coming.
    fn finish(&mut self) -> io::Result<()> {
        self.flush()
    }
}

/// Whether an error only means that the reader (`head`, a closed pager) has gone, which is no failure.
pub fn is_broken_pipe(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}
