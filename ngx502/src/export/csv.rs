//! CSV after RFC 4180, safe to open in a spreadsheet.
//!
//! What a spreadsheet would take for a formula gets an apostrophe in front; control characters and those that reorder
//! or hide text become `\u{1b}`, so that a URI from the network stays a text. Parquet and JSON keep such texts as they are.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};

use anyhow::{Context, Result};

use super::row::{COLUMNS, Cell, Row, Type};
use crate::escape::is_deceptive;
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
                Cell::Text(text) => Cow::Owned(harmless(&text).into_owned()),
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

/// A text that no spreadsheet computes and no terminal obeys.
fn harmless(text: &str) -> Cow<'_, str> {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if !formula && !text.contains(is_deceptive) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    if formula {
        safe.push('\'');
    }
    for char in text.chars() {
        if is_deceptive(char) {
            let _ = write!(safe, "{}", char.escape_unicode());
        } else {
            safe.push(char);
        }
    }
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests {
    use super::harmless;

    #[test]
    fn formulas_and_control_characters_become_text() {
        for (hostile, safe) in [
            ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'\\u{9}=1"),
            ("\r=1", "'\\u{d}=1"),
            ("/a\u{1b}[31m\u{9b}", "/a\\u{1b}[31m\\u{9b}"),
            ("/a\u{202e}b", "/a\\u{202e}b"),
            ("/plain?é", "/plain?é"),
        ] {
            assert_eq!(harmless(hostile), safe);
        }
    }
}
