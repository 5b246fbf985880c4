//! The lines' fields, in the order in which they are written: structs that borrow from a verdict and only serialise.

use bstr::{BStr, BString, ByteSlice};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::attribute::text::Text;
use crate::attribute::verdict::{AttemptFacts, Cause, Evidence, ProcessFacts, Symptom, Times, Verdict};
use crate::event::Nanos;
use crate::session::Session;
use crate::sink::json::SCHEMA;
use crate::sink::time::Rfc3339;
use crate::sink::{ErrnoName, LatencyFacts, SummaryFacts, UpstreamLatency, shown_uri};

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
    time: Rfc3339,
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
            time: Rfc3339::new(session.wall(session.ready_at)),
        }
    }
}

fn providers<S: Serializer>(session: &&Session, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(session.providers.iter().map(|(signal, _)| (signal, session.provider(signal))))
}

/// A `verdict` or `rescued` line.
#[derive(Serialize)]
pub(super) struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    /// When nginx answered.
    time: Rfc3339,
    /// What the client saw.
    status: u16,
    /// The traced machine.
    host: &'a str,
    request: Option<Request<'a>>,
    worker: Worker<'a>,
    upstream: Option<Upstream<'a>>,
    symptom: &'static str,
    cause: &'static str,
    /// `proven`, `inferred` or `unknown`.
    certainty: &'static str,
    /// One sentence a person can act on.
    summary: &'a Text,
    /// Observed facts in time order.
    #[serde(serialize_with = "evidence")]
    evidence: (&'a Session, &'a [Evidence]),
    /// Attempts in the order nginx made them; the last decides.
    #[serde(serialize_with = "attempts")]
    attempts: &'a [AttemptFacts],
    /// Symbolic: `ECONNREFUSED`.
    #[serde(serialize_with = "errno_name")]
    errno: Option<i32>,
    /// Times of the deciding attempt.
    latency: Times,
    /// A command or configuration line each.
    fix: &'a [Text],
}

impl<'a> Line<'a> {
    pub(super) fn new(kind: &'static str, session: &'a Session, verdict: &'a Verdict) -> Line<'a> {
        Line {
            kind,
            time: Rfc3339::new(session.wall(verdict.at)),
            status: verdict.status,
            host: &verdict.host,
            request: verdict.request.as_ref().map(|request| Request {
                method: lossy(&request.method),
                uri: request.uri.as_ref().map(|uri| Lossy(shown_uri(session, uri).as_bstr())),
                host: lossy(&request.host),
                client: lossy(&request.client),
            }),
            worker: Worker {
                pid: verdict.worker.pid.0,
                exe: lossy(&verdict.worker.exe),
                container: verdict.worker.container.as_deref(),
            },
            upstream: verdict.upstream.as_ref().map(|upstream| Upstream {
                address: Lossy(upstream.address.as_bstr()),
                kind: if upstream.unix { "unix" } else { "tcp" },
                process: upstream.process.as_deref().map(Process::new),
            }),
            symptom: verdict.symptom.as_str(),
            cause: verdict.cause.as_str(),
            certainty: verdict.certainty.as_str(),
            summary: &verdict.summary,
            evidence: (session, &verdict.evidence),
            attempts: &verdict.attempts,
            errno: verdict.errno,
            latency: verdict.latency,
            fix: &verdict.fix,
        }
    }
}

#[derive(Serialize)]
struct Request<'a> {
    method: Option<Lossy<'a>>,
    /// Without the query string unless the trace was made with it.
    uri: Option<Lossy<'a>>,
    host: Option<Lossy<'a>>,
    client: Option<Lossy<'a>>,
}

#[derive(Serialize)]
struct Worker<'a> {
    pid: u32,
    exe: Option<Lossy<'a>>,
    container: Option<&'a str>,
}

#[derive(Serialize)]
struct Upstream<'a> {
    /// As nginx names it: `127.0.0.1:9000`, `unix:/run/x.sock`.
    address: Lossy<'a>,
    /// `tcp` or `unix`.
    kind: &'static str,
    /// Who listens or listened there.
    process: Option<Process<'a>>,
}

#[derive(Serialize)]
struct Process<'a> {
    pid: u32,
    comm: Lossy<'a>,
    unit: Option<&'a str>,
    container: Option<&'a str>,
}

impl<'a> Process<'a> {
    fn new(process: &'a ProcessFacts) -> Process<'a> {
        Process {
            pid: process.pid.0,
            comm: Lossy(process.comm.as_bstr()),
            unit: process.unit.as_deref(),
            container: process.container.as_deref(),
        }
    }
}

#[derive(Serialize)]
struct EvidenceLine<'a> {
    time: Rfc3339,
    event: &'static str,
    text: &'a Text,
}

fn evidence<S: Serializer>(facts: &(&Session, &[Evidence]), serializer: S) -> Result<S::Ok, S::Error> {
    let (session, facts) = facts;
    serializer.collect_seq(facts.iter().map(|fact| EvidenceLine {
        time: Rfc3339::new(session.wall(fact.at)),
        event: fact.event,
        text: &fact.text,
    }))
}

#[derive(Serialize)]
struct Attempt<'a> {
    upstream: Option<Lossy<'a>>,
    symptom: Option<&'static str>,
    cause: Option<&'static str>,
    #[serde(serialize_with = "errno_name")]
    errno: Option<i32>,
    connect_us: Option<u64>,
    first_byte_us: Option<u64>,
    total_us: Option<u64>,
}

fn attempts<S: Serializer>(attempts: &&[AttemptFacts], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(attempts.iter().map(|attempt| Attempt {
        upstream: lossy(&attempt.upstream),
        symptom: attempt.symptom.map(|symptom| symptom.as_str()),
        cause: attempt.cause.map(|cause| cause.as_str()),
        errno: attempt.errno,
        connect_us: attempt.times.connect_us,
        first_byte_us: attempt.times.first_byte_us,
        total_us: attempt.times.total_us,
    }))
}

fn errno_name<S: Serializer>(errno: &Option<i32>, serializer: S) -> Result<S::Ok, S::Error> {
    match errno {
        Some(errno) => serializer.collect_str(&ErrnoName(*errno)),
        None => serializer.serialize_none(),
    }
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
    time: Rfc3339,
    host: &'a str,
    topic: &'a str,
    text: &'a str,
}

impl<'a> Notice<'a> {
    pub(super) fn new(session: &'a Session, at: Nanos, topic: &'a str, text: &'a str) -> Notice<'a> {
        Notice { kind: "notice", time: Rfc3339::new(session.wall(at)), host: &session.host, topic, text }
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
    /// Symptom to count, most frequent first.
    #[serde(serialize_with = "counts")]
    by_symptom: &'a [(Symptom, u64)],
    /// Status to count of what nginx answered without an upstream.
    #[serde(serialize_with = "counts")]
    not_upstream: &'a [(u16, u64)],
    lost_events: u64,
    latency: LatencyFacts,
    /// Latency per upstream and outcome; empty where the kernel did not count.
    upstreams: Vec<Series<'a>>,
}

/// `{"type":"latency"}`: all upstream requests since the trace began, on SIGUSR1 and with `--interval`.
#[derive(Serialize)]
pub(super) struct Latency<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    time: Rfc3339,
    host: &'a str,
    upstreams: Vec<Series<'a>>,
}

impl<'a> Latency<'a> {
    pub(super) fn new(session: &'a Session, wall_ns: i128, upstreams: &'a [UpstreamLatency]) -> Latency<'a> {
        let upstreams = upstreams.iter().map(Series::new).collect();
        Latency { kind: "latency", time: Rfc3339::new(wall_ns), host: &session.host, upstreams }
    }
}

/// Latency of one upstream; `ok` is false for attempts that nginx called failed.
#[derive(Serialize)]
struct Series<'a> {
    address: std::borrow::Cow<'a, str>,
    ok: bool,
    #[serde(flatten)]
    latency: LatencyFacts,
}

impl<'a> Series<'a> {
    fn new(upstream: &'a UpstreamLatency) -> Series<'a> {
        Series { address: upstream.upstream.to_str_lossy(), ok: upstream.ok, latency: upstream.latency }
    }
}

impl<'a> Summary<'a> {
    pub(super) fn new(facts: &'a SummaryFacts) -> Summary<'a> {
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

fn counts<S: Serializer, K: ToString>(counts: &&[(K, u64)], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(counts.len()))?;
    for (name, count) in *counts {
        map.serialize_entry(&name.to_string(), count)?;
    }
    map.end()
}

/// Bytes as a string, U+FFFD for what is not UTF-8.
struct Lossy<'a>(&'a BStr);

impl Serialize for Lossy<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_str_lossy())
    }
}

fn lossy(bytes: &Option<BString>) -> Option<Lossy<'_>> {
    bytes.as_ref().map(|bytes| Lossy(bytes.as_bstr()))
}
