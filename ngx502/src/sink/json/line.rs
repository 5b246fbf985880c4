//! The line of a verdict, its fields in the order in which they are written. `docs/json.md` says what each means.

use std::borrow::Cow;

use bstr::{BString, ByteSlice};
use serde::{Serialize, Serializer};

use crate::attribute::finding::evidence::{Event, Evidence};
use crate::attribute::verdict::{
    AttemptFacts, Cause, Certainty, ProcessFacts, RequestFacts, Symptom, Times, Verdict,
};
use crate::event::Pid;
use crate::session::Session;
use crate::time::Moment;
use crate::units::Errno;

/// A `verdict` or `rescued` line.
#[derive(Serialize)]
pub(crate) struct Line<'a, D> {
    #[serde(rename = "type")]
    kind: &'static str,
    time: Moment,
    status: u16,
    host: &'a str,
    request: Option<Request<'a>>,
    worker: Worker<'a>,
    upstream: Option<Upstream<'a>>,
    symptom: Option<&'static str>,
    cause: Cause,
    certainty: Certainty,
    summary: Summary<'a>,
    evidence: Vec<Observed<'a>>,
    attempts: Vec<Attempt<'a>>,
    errno: Option<Errno>,
    latency: Times,
    fix: Vec<String>,
    details: D,
}

#[derive(Serialize)]
struct Request<'a> {
    method: Option<Cow<'a, str>>,
    uri: Option<Cow<'a, str>>,
    host: Option<Cow<'a, str>>,
    client: Option<Cow<'a, str>>,
}

#[derive(Serialize)]
struct Worker<'a> {
    pid: Pid,
    exe: Option<Cow<'a, str>>,
    container: Option<&'a str>,
    container_name: Option<&'a str>,
}

#[derive(Serialize)]
struct Upstream<'a> {
    address: Cow<'a, str>,
    kind: &'static str,
    process: Option<&'a ProcessFacts>,
}

#[derive(Serialize)]
struct Observed<'a> {
    time: Moment,
    event: Event,
    text: Text<'a>,
}

#[derive(Serialize)]
struct Attempt<'a> {
    upstream: Option<Cow<'a, str>>,
    symptom: Option<&'static str>,
    cause: Option<Cause>,
    errno: Option<Errno>,
    #[serde(flatten)]
    times: Times,
}

/// A verdict's sentence, written straight into the line.
struct Summary<'a>(&'a Verdict);

impl Serialize for Summary<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.summary())
    }
}

/// A fact's sentence, likewise.
struct Text<'a>(&'a Evidence, &'a Verdict);

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.text(self.1))
    }
}

/// The line of a verdict; `kind` is its `type`.
pub(crate) fn line<'a>(
    kind: &'static str,
    session: &Session,
    verdict: &'a Verdict,
) -> Line<'a, impl Serialize> {
    let time = |at| Moment::of(session, at);
    Line {
        kind,
        time: time(verdict.at),
        status: verdict.status,
        host: &verdict.host,
        request: verdict.request.as_ref().map(request),
        worker: Worker {
            pid: verdict.worker.pid,
            exe: lossy(&verdict.worker.exe),
            container: verdict.worker.container.as_deref(),
            container_name: verdict.worker.container_name.as_deref(),
        },
        upstream: verdict.upstream.as_ref().map(|upstream| Upstream {
            address: upstream.address.to_str_lossy(),
            kind: if upstream.unix { "unix" } else { "tcp" },
            process: upstream.process.as_deref(),
        }),
        symptom: verdict.symptom.fact(),
        cause: verdict.cause,
        certainty: verdict.certainty,
        summary: Summary(verdict),
        evidence: verdict
            .evidence
            .iter()
            .map(|fact| Observed { time: time(fact.at), event: fact.event(), text: Text(fact, verdict) })
            .collect(),
        attempts: verdict.attempts.iter().map(attempt).collect(),
        errno: verdict.errno.map(Errno),
        latency: verdict.latency,
        fix: verdict.fix(),
        details: verdict.details(),
    }
}

fn request(facts: &RequestFacts) -> Request<'_> {
    Request {
        method: lossy(&facts.method),
        uri: lossy(&facts.uri),
        host: lossy(&facts.host),
        client: lossy(&facts.client),
    }
}

fn attempt(facts: &AttemptFacts) -> Attempt<'_> {
    Attempt {
        upstream: lossy(&facts.upstream),
        symptom: facts.symptom.and_then(Symptom::fact),
        cause: facts.cause,
        errno: facts.errno.map(Errno),
        times: facts.times,
    }
}

/// Bytes as text, U+FFFD for what is not UTF-8.
fn lossy(bytes: &Option<BString>) -> Option<Cow<'_, str>> {
    bytes.as_ref().map(|bytes| bytes.to_str_lossy())
}
