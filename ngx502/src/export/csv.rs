//! CSV after RFC 4180, safe to open in a spreadsheet.
//!
//! What a spreadsheet would take for a formula gets an apostrophe in front; control characters and those that reorder
//! or hide text become `\x1b`, so that a URI from the network stays a text. Parquet and JSON keep such texts as they are.

use std::borrow::Cow;
use std::io::{self, Write};

use anyhow::{Context, Result};

use super::row::{COLUMNS, Cell, Row, Type};
use crate::escape;
use crate::time::Moment;

/// Writes a header and one line a row.
pub struct CsvWriter<W: Write> {
    output: csv::Writer<W>,
}

impl<W: Write> CsvWriter<W> {
    /// Writes the header.
    pub fn new(output: W) -> Result<Self> {
        let mut output = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(output);
        output.write_record(COLUMNS.iter().map(|column| column.name)).map_err(system).context(FAILED)?;
        Ok(CsvWriter { output })
    }

    /// Writes a row.
    pub fn write(&mut self, row: &Row<'_>) -> Result<()> {
        for column in COLUMNS {
            let cell = match (column.value)(row) {
                Cell::Null => Cow::Borrowed(""),
                Cell::Integer(micros) if column.of == Type::Time => {
                    Cow::Owned(Moment::from_micros(micros).to_string())
                }
                Cell::Integer(value) => Cow::Owned(value.to_string()),
                Cell::Text(text) => Cow::Owned(escape::csv(&text).into_owned()),
            };
            self.output.write_field(cell.as_bytes()).map_err(system).context(FAILED)?;
        }
        self.output.write_record(None::<&[u8]>).map_err(system).context(FAILED)
    }

    /// Writes what is buffered.
    pub fn finish(mut self) -> Result<()> {
        self.output.flush().context(FAILED)
    }
}

const FAILED: &str = "cannot write the CSV, it ends in the middle: free space or choose another place";

/// The system's own error, which tells a closed pipe from a full disk; csv's hides it.
fn system(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}
