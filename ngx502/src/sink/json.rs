//! JSON lines, schema 1: one object a line, `"type"` first. `docs/json.md` says what each holds.
//!
//! Times are RFC 3339 UTC with microseconds, durations integers in microseconds, absent facts `null`. Bytes that are
//! not UTF-8 read as U+FFFD. What a terminal might obey or be fooled by is escaped, so that a line is safe to `cat`.

use std::io;

use serde::Serialize;

use crate::attribute::verdict::Outcome;
use crate::session::Session;
use crate::sink::Sink;
use crate::summary::{Summary, UpstreamLatency};
use crate::time::Moment;

use self::line::line;
use self::schema::Plain;

pub(crate) mod line;
mod schema;
mod serializer;

/// The schema's version: raised when a field is renamed or removed, which is not meant to happen.
pub const SCHEMA: u32 = 1;

/// Buffered bytes from which on a line is written without waiting for the end of the batch.
const BUFFER: usize = 64 * 1024;

/// Writes outcomes as JSON lines.
#[derive(Debug)]
pub struct JsonSink<W> {
    out: W,
    buffer: Vec<u8>,
}

impl<W: io::Write> JsonSink<W> {
    /// A sink that writes to `out`, which need not be buffered.
    pub fn new(out: W) -> JsonSink<W> {
        JsonSink { out, buffer: Vec::with_capacity(2 * BUFFER) }
    }

    fn line(&mut self, value: &impl Serialize) -> io::Result<()> {
        serializer::append(&mut self.buffer, value).map_err(io::Error::other)?;
        self.buffer.push(b'\n');
        if self.buffer.len() >= BUFFER { self.drain() } else { Ok(()) }
    }

    fn drain(&mut self) -> io::Result<()> {
        let written = self.out.write_all(&self.buffer);
        // Also after a failure: nothing is written twice.
        self.buffer.clear();
        written
    }
}

impl<W: io::Write> Sink for JsonSink<W> {
    fn ready(&mut self, session: &Session) -> io::Result<()> {
        self.line(&Plain::Ready {
            schema: SCHEMA,
            version: &session.version,
            kernel: &session.kernel,
            workers: &session.workers,
            providers: session,
            host: &session.host,
            time: Moment::of(session, session.ready_at),
        })
    }

    fn outcome(&mut self, session: &Session, outcome: &Outcome) -> io::Result<()> {
        match outcome {
            Outcome::Verdict(verdict) => self.line(&line("verdict", session, verdict)),
            Outcome::Rescued(verdict) => self.line(&line("rescued", session, verdict)),
            Outcome::Lost { events, reason } => self.line(&Plain::Lost { events: *events, reason }),
            Outcome::Notice { at, topic, text } => {
                let time = Moment::of(session, *at);
                self.line(&Plain::Notice { time, host: &session.host, topic, text })
            }
            // Only the summary counts them.
            Outcome::NotUpstream { .. } => Ok(()),
        }
    }

    fn latency(&mut self, session: &Session, now: Moment, upstreams: &[UpstreamLatency]) -> io::Result<()> {
        self.line(&Plain::Latency { time: now, host: &session.host, upstreams })
    }

    fn summary(&mut self, _session: &Session, summary: &Summary) -> io::Result<()> {
        self.line(&Plain::Summary(summary))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.drain()?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests;
