//! Where outcomes go.
//!
//! A sink is given every [`Outcome`] in order and shows it: [`json`] as one line each for machines, [`terminal`] for a
//! person. Sinks buffer; whoever drives them calls [`Sink::flush`] after each batch, so that a lone 502 is seen at
//! once and a storm costs one write a batch.

use std::io;

use serde::Serialize;

use crate::attribute::verdict::{Cause, Outcome, Symptom};
use crate::session::Session;

pub mod json;
pub mod terminal;

#[cfg(test)]
mod sample;

/// Something that shows outcomes.
///
/// Every method fails with what the underlying writer said; ask [`is_broken_pipe`] whether that only means that the
/// reader has gone.
pub trait Sink {
    /// Everything is attached: from here on nothing is missed.
    fn ready(&mut self, session: &Session) -> io::Result<()>;

    /// One outcome. `session` is the one of the host that it comes from.
    fn outcome(&mut self, session: &Session, outcome: &Outcome) -> io::Result<()>;

    /// The time is now `wall_ns` (nanoseconds since the Unix epoch); what a sink holds back by time becomes due.
    fn tick(&mut self, wall_ns: i128) -> io::Result<()>;

    /// Latency of all upstream requests up to `wall_ns`, on demand and at intervals.
    fn latency(&mut self, session: &Session, wall_ns: i128, upstreams: &[UpstreamLatency]) -> io::Result<()>;

    /// The last thing shown.
    fn summary(&mut self, session: &Session, summary: &SummaryFacts) -> io::Result<()>;

    /// Hands everything shown so far to the reader.
    fn flush(&mut self) -> io::Result<()>;
}

/// Whether an error only means that the reader (`head`, a closed pager) has gone, which is no failure.
pub fn is_broken_pipe(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

/// What a whole trace amounts to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SummaryFacts {
    /// Client requests that failed.
    pub verdicts: u64,
    /// Requests with a failed attempt that were answered nevertheless.
    pub rescued: u64,
    /// Verdicts by cause, most frequent first.
    pub by_cause: Vec<(Cause, u64)>,
    /// Verdicts by symptom, most frequent first.
    pub by_symptom: Vec<(Symptom, u64)>,
    /// Statuses ≥ 500 that nginx gave without an upstream, most frequent first.
    pub not_upstream: Vec<(u16, u64)>,
    /// Records that were lost.
    pub lost_events: u64,
    /// Latency of upstream requests.
    pub latency: LatencyFacts,
    /// The same per upstream and outcome; empty where the kernel did not count.
    pub upstreams: Vec<UpstreamLatency>,
}

/// Latency of the requests to one upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamLatency {
    /// As nginx names it: `127.0.0.1:9000`, `unix:/run/x.sock`.
    pub upstream: bstr::BString,
    /// True for answered requests, false for attempts that nginx called failed.
    pub ok: bool,
    /// The durations.
    pub latency: LatencyFacts,
}

/// Latency of upstream requests by phase; `None` where nothing was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LatencyFacts {
    /// connect(2) to established.
    #[serde(rename = "connect_us")]
    pub connect: Option<Quantiles>,
    /// Request sent to first response byte.
    #[serde(rename = "first_byte_us")]
    pub first_byte: Option<Quantiles>,
    /// Start of the attempt to its end.
    #[serde(rename = "total_us")]
    pub total: Option<Quantiles>,
}

/// A distribution of durations in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Quantiles {
    /// How many durations.
    pub count: u64,
    /// Median.
    pub p50: u64,
    /// 90th percentile.
    pub p90: u64,
    /// 99th percentile.
    pub p99: u64,
    /// The longest.
    pub max: u64,
}
