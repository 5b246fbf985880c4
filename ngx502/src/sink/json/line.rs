//! The line of a verdict, its fields in the order in which they are written. `docs/json.md` says what each means.

use serde::{Serialize, Serializer};

use crate::attribute::finding::Fix;
use crate::attribute::finding::evidence::{Event, Evidence};
use crate::attribute::verdict::{
    AttemptFacts, Cause, Certainty, RequestFacts, Times, UpstreamFacts, Verdict, WorkerFacts,
};
use crate::session::Session;
use crate::time::Moment;
use crate::units::Errno;

/// A `verdict` or `rescued` line.
#[derive(Serialize)]
pub(crate) struct Line<'a, H, D> {
    #[serde(rename = "type")]
    kind: &'static str,
    time: Moment,
    status: u16,
    host: &'a str,
    request: &'a Option<RequestFacts>,
    worker: &'a WorkerFacts,
    upstream: &'a Option<UpstreamFacts>,
    symptom: Option<&'static str>,
    cause: Cause,
    certainty: Certainty,
    #[serde(serialize_with = "sentence")]
    summary: &'a Verdict,
    hops: H,
    evidence: Observations<'a>,
    attempts: &'a [AttemptFacts],
    errno: Option<Errno>,
    latency: Times,
    fix: Vec<Fix>,
    details: D,
}

/// A verdict's evidence, oldest first.
struct Observations<'a>(&'a Session, &'a Verdict);

impl Serialize for Observations<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(session, verdict) = *self;
        serializer.collect_seq(verdict.evidence.iter().map(|fact| Observed {
            time: Moment::of(session, fact.at),
            event: fact.event(),
            text: Text(fact, verdict),
        }))
    }
}

#[derive(Serialize)]
struct Observed<'a> {
    time: Moment,
    event: Event,
    text: Text<'a>,
}

/// A verdict's sentence, written straight into the line.
fn sentence<S: Serializer>(verdict: &&Verdict, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&verdict.summary())
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
    session: &'a Session,
    verdict: &'a Verdict,
) -> Line<'a, impl Serialize, impl Serialize> {
    Line {
        kind,
        time: Moment::of(session, verdict.at),
        status: verdict.status,
        host: &verdict.host,
        request: &verdict.request,
        worker: &verdict.worker,
        upstream: &verdict.upstream,
        symptom: verdict.symptom.fact(),
        cause: verdict.cause,
        certainty: verdict.certainty,
        summary: verdict,
        hops: verdict.hops(),
        evidence: Observations(session, verdict),
        attempts: &verdict.attempts,
        errno: verdict.errno.map(Errno),
        latency: verdict.latency,
        fix: verdict.fix(),
        details: verdict.details(),
    }
}
