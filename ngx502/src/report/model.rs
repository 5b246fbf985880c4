//! The report as data. Field names are the JSON of `ngx502 report --format json`, schema 1: fields may be added, never
//! renamed. Times are RFC 3339 UTC, durations whole microseconds, shares between 0 and 1, absent facts `null`.
//!
//! Texts that came from the network are clipped and lossily UTF-8 but otherwise as they were: who shows them escapes.

use serde::{Deserialize, Serialize};

use crate::attribute::finding::Fix;
use crate::attribute::verdict::{Cause, Certainty, Symptom};
use crate::latency::{Figures, Quantiles};
use crate::time::Moment;

/// The version of the JSON schema.
pub const SCHEMA: u32 = 1;

/// What happened.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The ngx502 that wrote the report.
    pub version: String,
    /// One paragraph: what happened.
    pub summary: String,
    /// First and last moment under observation; `null` when nothing was recorded.
    pub window: Option<Window>,
    /// The traced hosts.
    pub hosts: Vec<HostRow>,
    /// Counts over everything.
    pub totals: Totals,
    /// Causes, most frequent first.
    pub causes: Vec<CauseRow>,
    /// Symptoms, most frequent first.
    pub symptoms: Vec<SymptomRow>,
    /// Causes and latency over time.
    pub timeline: Timeline,
    /// Upstreams, most failures first.
    pub upstreams: Vec<UpstreamRow>,
    /// Upstreams that are not listed.
    pub upstreams_other: Other,
    /// Upstream processes, most failures first; processes that share host, name, unit and container are one row.
    pub processes: Vec<ProcessRow>,
    /// Processes that are not listed.
    pub processes_other: Other,
    /// The first failures, in time order.
    pub first: Vec<Case>,
    /// The failures that kept a client waiting longest, longest first.
    pub worst: Vec<Case>,
    /// Latency of all upstreams together.
    pub latency: LatencySummary,
    /// Records that were lost while tracing; empty means none.
    pub lost: Vec<LostRow>,
    /// What could not be read of the captures, as sentences; empty means nothing.
    pub damage: Vec<String>,
}

impl Report {
    /// The report as one JSON object, indented, with a line feed at the end.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers, texts and lists are JSON") + "\n"
    }
}

/// From when to when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// The first moment.
    pub since: Moment,
    /// The last.
    pub until: Moment,
}

/// One traced host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostRow {
    /// Its name.
    pub host: String,
    /// `uname -r`.
    pub kernel: String,
    /// The ngx502 that traced it.
    pub traced_by: String,
    /// nginx builds found at the start.
    pub nginx: Vec<String>,
    /// Client requests that failed.
    pub failed: u64,
    /// Client requests that a retry or the cache rescued.
    pub rescued: u64,
}

/// Counts over everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Client requests that failed.
    pub failed: u64,
    /// Client requests that a retry or the cache rescued.
    pub rescued: u64,
    /// Upstream requests that were answered; `null` where latency was not traced.
    pub answered: Option<u64>,
    /// Answers ≥ 500 of nginx itself without an upstream (`return 502`): counted, not explained.
    pub not_upstream: u64,
    /// Records that were lost while tracing.
    pub lost_events: u64,
    /// Failed requests by status, ascending.
    pub by_status: Vec<StatusRow>,
}

/// Failed requests of one status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusRow {
    /// What the client saw.
    pub status: u16,
    /// How often.
    pub count: u64,
}

/// One cause.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CauseRow {
    /// Its name.
    pub cause: Cause,
    /// Failed requests.
    pub count: u64,
    /// Of all failed requests.
    pub share: f64,
    /// Of `count`, how many were proven.
    pub proven: u64,
    /// Of `count`, how many were inferred.
    pub inferred: u64,
    /// The first of them.
    pub since: Moment,
    /// The last of them.
    pub until: Moment,
    /// The first of the surest.
    pub example: Case,
}

/// One symptom.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SymptomRow {
    /// Its name.
    pub symptom: Symptom,
    /// Failed requests.
    pub count: u64,
    /// Of all failed requests.
    pub share: f64,
}

/// How often one cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CauseCount {
    /// Its name.
    pub cause: Cause,
    /// Failed requests.
    pub count: u64,
}

/// What happened when.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// Width of every bucket in seconds: a power of two.
    pub bucket_seconds: u64,
    /// Buckets in time order; those without any observation are left out.
    pub buckets: Vec<Bucket>,
    /// Periods of failures, separated by quiet of at least a minute and five buckets, in time order.
    pub episodes: Vec<Episode>,
}

/// One bucket of the timeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// Its start.
    pub time: Moment,
    /// Failed client requests.
    pub failed: u64,
    /// Rescued client requests.
    pub rescued: u64,
    /// The failed ones by cause, most frequent first.
    pub causes: Vec<CauseCount>,
    /// Total time of answered upstream requests.
    pub answered: Option<Quantiles>,
    /// Total time of failed attempts.
    pub failed_attempts: Option<Quantiles>,
}

/// A period of failures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    /// Its first failure.
    pub onset: Moment,
    /// Start of the bucket with most failures.
    pub peak: Moment,
    /// Its last failure.
    pub end: Moment,
    /// Failed client requests.
    pub failed: u64,
    /// Of them, in the peak's bucket.
    pub peak_failed: u64,
    /// The most frequent cause.
    pub cause: Cause,
}

/// One upstream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UpstreamRow {
    /// The nginx host.
    pub host: String,
    /// `127.0.0.1:9000`, `unix:/run/x.sock`, or a group's name; empty when unknown.
    pub address: String,
    /// Client requests whose last attempt failed here.
    pub failed: u64,
    /// Of all failed requests.
    pub share: f64,
    /// Client requests that failed here first and were rescued.
    pub rescued: u64,
    /// The failed ones by cause, most frequent first.
    pub causes: Vec<CauseCount>,
    /// Its latency.
    pub latency: Latency,
}

/// Processes of one name, unit and container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessRow {
    /// Where it runs.
    pub host: String,
    /// Its name.
    pub comm: String,
    /// systemd unit.
    pub unit: Option<String>,
    /// Its container: the name where known, else the id.
    pub container: Option<String>,
    /// Its process ids, the first eight seen.
    pub pids: Vec<u32>,
    /// Whether there were more than those.
    pub more_pids: bool,
    /// Client requests that failed at it.
    pub failed: u64,
    /// Of all failed requests.
    pub share: f64,
    /// Those by cause, most frequent first.
    pub causes: Vec<CauseCount>,
}

/// What a bounded table left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Other {
    /// Rows; a row that came back after it was dropped counts again.
    pub rows: u64,
    /// Failed requests in them. When it is not 0, counts of listed rows are lower bounds.
    pub failed: u64,
}

/// One failed request with its evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// When nginx answered.
    pub time: Moment,
    /// The nginx host.
    pub host: String,
    /// What the client saw.
    pub status: u16,
    /// `GET`.
    pub method: Option<String>,
    /// Without the query string unless the capture was made with `--with-query`.
    pub uri: Option<String>,
    /// Host header.
    pub request_host: Option<String>,
    /// Client address.
    pub client: Option<String>,
    /// As nginx names it.
    pub upstream: Option<String>,
    /// What nginx saw.
    pub symptom: Symptom,
    /// Why.
    pub cause: Cause,
    /// How sure.
    pub certainty: Certainty,
    /// One sentence.
    pub summary: String,
    /// Attempts that nginx made.
    pub attempts: u64,
    /// Total time of the deciding attempt.
    pub total_us: Option<u64>,
    /// Observed facts in time order, the first 32.
    pub evidence: Vec<Fact>,
    /// Commands or configuration lines.
    pub fix: Vec<Fix>,
}

/// One observed fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// When it was observed.
    pub time: Moment,
    /// Its kind: `connect`, `exit`, `oom`, …
    pub event: String,
    /// The fact as a sentence.
    pub text: String,
}

/// Latency of answered requests against failed attempts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Upstream requests that were answered.
    pub answered: Figures,
    /// Attempts that failed.
    pub failed: Figures,
}

/// Latency of all upstreams with the distribution of total times.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencySummary {
    /// The percentiles.
    #[serde(flatten)]
    pub all: Latency,
    /// Total times in bins of a tenth of a decade, ascending, empty bins left out.
    pub bins: Vec<Bin>,
    /// Failed attempts that took no time by nginx's clock of milliseconds, the only one that saw them. They are in no
    /// percentile of total times and in no bin; phases that took none by that clock are in no percentile either.
    #[serde(default)]
    pub unmeasured: u64,
}

/// A bin of the latency histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bin {
    /// The bin is 10^(index/10) to 10^((index+1)/10) microseconds.
    pub index: u32,
    /// Answered upstream requests.
    pub answered: u64,
    /// Failed attempts.
    pub failed: u64,
}

/// Lost records of one host and reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostRow {
    /// Where.
    pub host: String,
    /// Why.
    pub reason: String,
    /// How many.
    pub events: u64,
}
