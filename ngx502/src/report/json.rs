//! The report as JSON: one object, its schema documented on [`Report`] and its parts.

use std::io::{self, Write};

use super::Report;

/// Writes the report, indented, with a line feed at the end.
///
/// # Errors
/// Those of `out`.
pub fn write(report: &Report, mut out: impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut out, report)?;
    out.write_all(b"\n")
}
