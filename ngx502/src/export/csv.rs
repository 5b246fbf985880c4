//! CSV after RFC 4180, safe to open in a spreadsheet.
//!
//! What a spreadsheet would take for a formula gets an apostrophe in front; control characters and those that reorder
//! or hide text become `\x1b`, so that a URI from the network stays a text. Parquet and JSON keep such texts as they are.

use std::io::{self, Write};

use super::row::{COLUMNS, Cell, Row, Type};
use crate::attribute::verdict::Outcome;
use crate::escape;
use crate::session::Session;
use crate::sink::Sink;
use crate::time::Moment;

/// Writes a header and one line a verdict.
pub struct CsvSink<W: Write> {
    output: csv::Writer<W>,
}

impl<W: Write> CsvSink<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// Those of `output`; so in the methods of [`Sink`].
    pub fn new(output: W) -> io::Result<Self> {
        let mut output = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(output);
        output.write_record(COLUMNS.iter().map(|column| column.name)).map_err(system)?;
        Ok(CsvSink { output })
    }
}

impl<W: Write> Sink for CsvSink<W> {
    fn outcome(&mut self, session: &Session, outcome: &Outcome) -> io::Result<()> {
        let Some(row) = Row::new(session, outcome) else { return Ok(()) };
        for column in COLUMNS {
            match row.cell(column) {
                Cell::Null => self.output.write_field(""),
                Cell::Integer(micros) if column.of == Type::Time => {
                    self.output.write_field(Moment::from_micros(micros).rfc3339())
                }
                Cell::Integer(value) => self.output.write_field(value.to_string()),
                Cell::Text(text) => self.output.write_field(escape::csv(&text).as_bytes()),
            }
            .map_err(system)?;
        }
        self.output.write_record(None::<&[u8]>).map_err(system)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// The system's own error, which tells a closed pipe from a full disk; csv's hides it.
fn system(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}
