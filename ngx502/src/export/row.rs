//! One verdict as one flat row, and the table of columns that CSV and Parquet share.

use std::borrow::Cow;

use bstr::{BString, ByteSlice};
use serde_json::{Value, json};

use crate::attribute::finding::evidence::Evidence;
use crate::attribute::verdict::{Outcome, ProcessFacts, RequestFacts, Symptom, Verdict};
use crate::session::Session;
use crate::time::Moment;
use crate::units::Errno;

/// A verdict with the session that it belongs to.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    session: &'a Session,
    verdict: &'a Verdict,
    kind: &'static str,
}

impl<'a> Row<'a> {
    /// The row of an outcome; `None` for those that are no verdict.
    pub fn new(session: &'a Session, outcome: &'a Outcome) -> Option<Row<'a>> {
        match outcome {
            Outcome::Verdict(verdict) => Some(Row { session, verdict, kind: "verdict" }),
            Outcome::Rescued(verdict) => Some(Row { session, verdict, kind: "rescued" }),
            Outcome::Lost { .. } | Outcome::Notice { .. } | Outcome::NotUpstream { .. } => None,
        }
    }

    fn request(&self, fact: impl FnOnce(&'a RequestFacts) -> Option<&'a BString>) -> Cell<'a> {
        Cell::bytes(self.verdict.request.as_ref().and_then(fact))
    }

    fn process(&self) -> Option<&'a ProcessFacts> {
        self.verdict.upstream.as_ref()?.process.as_deref()
    }

    fn attempts(&self) -> Value {
        let attempts = self.verdict.attempts.iter().map(|attempt| {
            json!({
                "upstream": attempt.upstream.as_ref().map(|name| name.to_str_lossy()),
                "symptom": attempt.symptom.and_then(Symptom::fact),
                "cause": attempt.cause.map(|cause| cause.as_str()),
                "errno": attempt.errno.map(Errno),
                "connect_us": attempt.times.connect_us,
                "first_byte_us": attempt.times.first_byte_us,
                "total_us": attempt.times.total_us,
            })
        });
        attempts.collect()
    }

    fn evidence(&self) -> Value {
        let fact = |fact: &Evidence| {
            let text = fact.text(self.verdict).to_string();
            json!({"time": Moment::of(self.session, fact.at), "event": fact.event(), "text": text})
        };
        self.verdict.evidence.iter().map(fact).collect()
    }
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell<'a> {
    /// Not known.
    Null,
    /// A number or microseconds.
    Integer(i64),
    /// Valid UTF-8, but as hostile as it came.
    Text(Cow<'a, str>),
}

impl<'a> Cell<'a> {
    fn bytes(bytes: Option<&'a BString>) -> Self {
        bytes.map_or(Cell::Null, |bytes| Cell::Text(bytes.to_str_lossy()))
    }

    fn text(text: Option<&'a str>) -> Self {
        text.map_or(Cell::Null, |text| Cell::Text(Cow::Borrowed(text)))
    }

    fn integer(value: Option<impl TryInto<i64>>) -> Self {
        value.and_then(|value| value.try_into().ok()).map_or(Cell::Null, Cell::Integer)
    }
}

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Microseconds since the Unix epoch, UTC.
    Time,
    /// 32 bits, signed.
    Int,
    /// 64 bits, signed.
    Long,
    /// UTF-8.
    Text,
}

/// A column: its name, its type, whether it may be absent, and how a row fills it.
pub struct Column {
    /// The name, in JSON's words, joined by underscores.
    pub name: &'static str,
    /// The type.
    pub of: Type,
    /// Whether it may be absent.
    pub optional: bool,
    /// Its value.
    pub value: for<'a> fn(&Row<'a>) -> Cell<'a>,
}

const fn always(name: &'static str, of: Type, value: for<'a> fn(&Row<'a>) -> Cell<'a>) -> Column {
    Column { name, of, optional: false, value }
}

const fn maybe(name: &'static str, of: Type, value: for<'a> fn(&Row<'a>) -> Cell<'a>) -> Column {
    Column { name, of, optional: true, value }
}

/// Every column, in order. Columns may be added at the end, never renamed.
pub const COLUMNS: &[Column] = &[
    maybe("time", Type::Time, |r| Cell::Integer(Moment::of(r.session, r.verdict.at).micros())),
    always("type", Type::Text, |r| Cell::text(Some(r.kind))),
    always("host", Type::Text, |r| Cell::text(Some(&r.verdict.host))),
    always("status", Type::Int, |r| Cell::Integer(i64::from(r.verdict.status))),
    maybe("symptom", Type::Text, |r| Cell::text(r.verdict.symptom.fact())),
    always("cause", Type::Text, |r| Cell::text(Some(r.verdict.cause.as_str()))),
    always("certainty", Type::Text, |r| Cell::text(Some(r.verdict.certainty.as_str()))),
    always("summary", Type::Text, |r| Cell::Text(Cow::Owned(r.verdict.summary().to_string()))),
    maybe("request_method", Type::Text, |r| r.request(|request| request.method.as_ref())),
    maybe("request_uri", Type::Text, |r| r.request(|request| request.uri.as_ref())),
    maybe("request_host", Type::Text, |r| r.request(|request| request.host.as_ref())),
    maybe("request_client", Type::Text, |r| r.request(|request| request.client.as_ref())),
    always("worker_pid", Type::Long, |r| Cell::Integer(i64::from(r.verdict.worker.pid.0))),
    maybe("worker_exe", Type::Text, |r| Cell::bytes(r.verdict.worker.exe.as_ref())),
    maybe("worker_container", Type::Text, |r| Cell::text(r.verdict.worker.container.as_deref())),
    maybe("upstream_address", Type::Text, |r| Cell::bytes(r.verdict.upstream.as_ref().map(|u| &u.address))),
    maybe("upstream_kind", Type::Text, |r| {
        Cell::text(r.verdict.upstream.as_ref().map(|u| if u.unix { "unix" } else { "tcp" }))
    }),
    maybe("process_pid", Type::Long, |r| Cell::integer(r.process().map(|p| p.pid.0))),
    maybe("process_comm", Type::Text, |r| Cell::bytes(r.process().map(|p| &p.comm))),
    maybe("process_unit", Type::Text, |r| Cell::text(r.process().and_then(|p| p.unit.as_deref()))),
    maybe("process_container", Type::Text, |r| Cell::text(r.process().and_then(|p| p.container.as_deref()))),
    maybe("errno", Type::Text, |r| {
        r.verdict.errno.map_or(Cell::Null, |errno| Cell::Text(Errno(errno).name()))
    }),
    maybe("connect_us", Type::Long, |r| Cell::integer(r.verdict.latency.connect_us)),
    maybe("first_byte_us", Type::Long, |r| Cell::integer(r.verdict.latency.first_byte_us)),
    maybe("total_us", Type::Long, |r| Cell::integer(r.verdict.latency.total_us)),
    always("attempts", Type::Text, |r| Cell::Text(Cow::Owned(r.attempts().to_string()))),
    always("evidence", Type::Text, |r| Cell::Text(Cow::Owned(r.evidence().to_string()))),
    always("fix", Type::Text, |r| Cell::Text(Cow::Owned(json!(r.verdict.fix()).to_string()))),
    maybe("worker_container_name", Type::Text, |r| Cell::text(r.verdict.worker.container_name.as_deref())),
    maybe("process_container_name", Type::Text, |r| {
        r.process()
            .and_then(|p| p.container_names.as_ref()?.label())
            .map_or(Cell::Null, |name| Cell::Text(Cow::Owned(name)))
    }),
    maybe("process_pool", Type::Text, |r| Cell::text(r.process().and_then(|p| p.pool.as_deref()))),
    always("details", Type::Text, |r| Cell::Text(Cow::Owned(json!(r.verdict.details()).to_string()))),
];
