//! One verdict as one flat row, and the table of columns that CSV and Parquet share.

use std::borrow::Cow;

use serde_json::Value;

use crate::attribute::verdict::Outcome;
use crate::session::Session;
use crate::sink::json::line::line;
use crate::time::Moment;

/// A verdict's line of JSON, from which the columns take their values.
pub(super) struct Row {
    time: Moment,
    line: Value,
}

impl Row {
    /// The row of an outcome; `None` for those that are no verdict.
    pub(super) fn new(session: &Session, outcome: &Outcome) -> Option<Row> {
        let (kind, verdict) = match outcome {
            Outcome::Verdict(verdict) => ("verdict", verdict),
            Outcome::Rescued(verdict) => ("rescued", verdict),
            Outcome::Lost { .. } | Outcome::Notice { .. } | Outcome::NotUpstream { .. } => return None,
        };
        let line =
            serde_json::to_value(line(kind, session, verdict)).expect("every key of a line is a string");
        Some(Row { time: Moment::of(session, verdict.at), line })
    }

    /// Its value in a column; arrays and objects as JSON.
    pub(super) fn cell(&self, column: &Column) -> Cell<'_> {
        match self.line.pointer(column.place) {
            Some(_) if column.of == Type::Time => Cell::Integer(self.time.micros()),
            None | Some(Value::Null) => Cell::Null,
            Some(Value::Number(number)) => number.as_i64().map_or(Cell::Null, Cell::Integer),
            Some(Value::String(text)) => Cell::Text(Cow::Borrowed(text)),
            Some(other) => Cell::Text(Cow::Owned(other.to_string())),
        }
    }
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cell<'a> {
    /// Not known.
    Null,
    /// A number or microseconds.
    Integer(i64),
    /// Valid UTF-8, but as hostile as it came.
    Text(Cow<'a, str>),
}

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    /// Microseconds since the Unix epoch, UTC.
    Time,
    /// 32 bits, signed.
    Int,
    /// 64 bits, signed.
    Long,
    /// UTF-8.
    Text,
}

/// A column: its name, its type, whether it may be absent, and where its value is.
pub(super) struct Column {
    /// The name, in JSON's words, joined by underscores.
    pub(super) name: &'static str,
    /// The type.
    pub(super) of: Type,
    /// Whether it may be absent.
    pub(super) optional: bool,
    /// Its value's place in a verdict's line of JSON, as a JSON pointer.
    place: &'static str,
}

const fn always(name: &'static str, of: Type, place: &'static str) -> Column {
    Column { name, of, optional: false, place }
}

const fn maybe(name: &'static str, of: Type, place: &'static str) -> Column {
    Column { name, of, optional: true, place }
}

/// Every column, in order. Columns may be added at the end, never renamed.
pub(super) const COLUMNS: &[Column] = &[
    maybe("time", Type::Time, "/time"),
    always("type", Type::Text, "/type"),
    always("host", Type::Text, "/host"),
    always("status", Type::Int, "/status"),
    maybe("symptom", Type::Text, "/symptom"),
    always("cause", Type::Text, "/cause"),
    always("certainty", Type::Text, "/certainty"),
    always("summary", Type::Text, "/summary"),
    maybe("request_method", Type::Text, "/request/method"),
    maybe("request_uri", Type::Text, "/request/uri"),
    maybe("request_host", Type::Text, "/request/host"),
    maybe("request_client", Type::Text, "/request/client"),
    always("worker_pid", Type::Long, "/worker/pid"),
    maybe("worker_exe", Type::Text, "/worker/exe"),
    maybe("worker_container", Type::Text, "/worker/container"),
    maybe("upstream_address", Type::Text, "/upstream/address"),
    maybe("upstream_kind", Type::Text, "/upstream/kind"),
    maybe("process_pid", Type::Long, "/upstream/process/pid"),
    maybe("process_comm", Type::Text, "/upstream/process/comm"),
    maybe("process_unit", Type::Text, "/upstream/process/unit"),
    maybe("process_container", Type::Text, "/upstream/process/container"),
    maybe("errno", Type::Text, "/errno"),
    maybe("connect_us", Type::Long, "/latency/connect_us"),
    maybe("first_byte_us", Type::Long, "/latency/first_byte_us"),
    maybe("total_us", Type::Long, "/latency/total_us"),
    always("attempts", Type::Text, "/attempts"),
    always("evidence", Type::Text, "/evidence"),
    always("fix", Type::Text, "/fix"),
    maybe("worker_container_name", Type::Text, "/worker/container_name"),
    maybe("process_container_name", Type::Text, "/upstream/process/container_name"),
    maybe("process_pool", Type::Text, "/upstream/process/pool"),
    always("details", Type::Text, "/details"),
];
