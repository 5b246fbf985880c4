//! The fields of every line but a verdict's (`line`), in the order in which they are written.

use bstr::ByteSlice;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::attribute::verdict::{Cause, Symptom};
use crate::event::Nanos;
use crate::latency::{Figures, Quantiles};
use crate::session::Session;
use crate::sink::json::SCHEMA;
use crate::summary::{self, UpstreamLatency};
use crate::time::Moment;

/// The `ready` line.
#[derive(Serialize)]
pub(super) struct Ready<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    schema: u32,
    version: &'a str,
    kernel: &'a str,
    /// Pids of the nginx workers.
    workers: &'a [u32],
    /// Signal to provider; `null` where a signal has none.
    #[serde(serialize_with = "providers")]
    providers: &'a Session,
    host: &'a str,
    time: Moment,
}

impl<'a> Ready<'a> {
    pub(super) fn new(session: &'a Session) -> Ready<'a> {
        Ready {
            kind: "ready",
            schema: SCHEMA,
            version: &session.version,
            kernel: &session.kernel,
            workers: &session.workers,
            providers: session,
            host: &session.host,
            time: Moment::of(session, session.ready_at),
        }
    }
}

fn providers<S: Serializer>(session: &&Session, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(session.providers.iter().map(|(signal, _)| (signal, session.provider(signal))))
}

/// A `lost` line.
#[derive(Serialize)]
pub(super) struct Lost<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    events: u64,
    /// Where they were lost.
    reason: &'a str,
}

impl<'a> Lost<'a> {
    pub(super) fn new(events: u64, reason: &'a str) -> Lost<'a> {
        Lost { kind: "lost", events, reason }
    }
}

/// A `notice` line.
#[derive(Serialize)]
pub(super) struct Notice<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    time: Moment,
    host: &'a str,
    topic: &'a str,
    text: &'a str,
}

impl<'a> Notice<'a> {
    pub(super) fn new(session: &'a Session, at: Nanos, topic: &'a str, text: &'a str) -> Notice<'a> {
        Notice { kind: "notice", time: Moment::of(session, at), host: &session.host, topic, text }
    }
}

/// The `summary` line.
#[derive(Serialize)]
pub(super) struct Summary<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    verdicts: u64,
    rescued: u64,
    /// Cause to count, most frequent first.
    #[serde(serialize_with = "counts")]
    by_cause: &'a [(Cause, u64)],
    /// Symptom to count, most frequent first; last `unknown`, for those whose symptom is null.
    #[serde(serialize_with = "symptoms")]
    by_symptom: &'a [(Symptom, u64)],
    /// Status to count of what nginx answered without an upstream.
    #[serde(serialize_with = "counts")]
    not_upstream: &'a [(u16, u64)],
    lost_events: u64,
    #[serde(serialize_with = "figures")]
    latency: Figures,
    /// Latency per upstream and outcome; empty where the kernel did not count.
    upstreams: Vec<Series<'a>>,
}

/// `{"type":"latency"}`: all upstream requests since the trace began, on SIGUSR1 and with `--interval`.
#[derive(Serialize)]
pub(super) struct Latency<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    time: Moment,
    host: &'a str,
    upstreams: Vec<Series<'a>>,
}

impl<'a> Latency<'a> {
    pub(super) fn new(session: &'a Session, now: Moment, upstreams: &'a [UpstreamLatency]) -> Latency<'a> {
        let upstreams = upstreams.iter().map(Series::new).collect();
        Latency { kind: "latency", time: now, host: &session.host, upstreams }
    }
}

/// Latency of one upstream; `ok` is false for attempts that nginx called failed.
#[derive(Serialize)]
struct Series<'a> {
    address: std::borrow::Cow<'a, str>,
    ok: bool,
    #[serde(flatten, serialize_with = "figures")]
    latency: Figures,
}

impl<'a> Series<'a> {
    fn new(upstream: &'a UpstreamLatency) -> Series<'a> {
        Series { address: upstream.upstream.to_str_lossy(), ok: upstream.ok, latency: upstream.latency }
    }
}

impl<'a> Summary<'a> {
    pub(super) fn new(facts: &'a summary::Summary) -> Summary<'a> {
        Summary {
            kind: "summary",
            verdicts: facts.verdicts,
            rescued: facts.rescued,
            by_cause: &facts.by_cause,
            by_symptom: &facts.by_symptom,
            not_upstream: &facts.not_upstream,
            lost_events: facts.lost_events,
            latency: facts.latency,
            upstreams: facts.upstreams.iter().map(Series::new).collect(),
        }
    }
}

/// The figures of a phase, in this schema's words.
#[derive(Serialize)]
struct Percentiles {
    count: u64,
    p50: u64,
    p90: u64,
    p99: u64,
    max: u64,
}

fn figures<S: Serializer>(figures: &Figures, serializer: S) -> Result<S::Ok, S::Error> {
    let percentiles = |quantiles: Quantiles| {
        let Quantiles { count, p50_us, p90_us, p99_us, p999_us: _, max_us } = quantiles;
        Percentiles { count, p50: p50_us, p90: p90_us, p99: p99_us, max: max_us }
    };
    let phases =
        [("connect_us", figures.connect), ("first_byte_us", figures.first_byte), ("total_us", figures.total)];
    serializer.collect_map(phases.map(|(name, quantiles)| (name, quantiles.map(percentiles))))
}

fn symptoms<S: Serializer>(counts: &&[(Symptom, u64)], serializer: S) -> Result<S::Ok, S::Error> {
    let known = counts.iter().filter_map(|(symptom, count)| Some((symptom.fact()?, *count)));
    let unknown = counts.iter().filter(|(symptom, _)| symptom.fact().is_none()).map(|(_, count)| count).sum();
    serializer.collect_map(known.chain((unknown > 0).then_some(("unknown", unknown))))
}

fn counts<S: Serializer, K: ToString>(counts: &&[(K, u64)], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(counts.len()))?;
    for (name, count) in *counts {
        map.serialize_entry(&name.to_string(), count)?;
    }
    map.end()
}
