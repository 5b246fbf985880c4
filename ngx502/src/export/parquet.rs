//! Parquet for engines: typed columns, dictionary and zstd compression, bounded row groups.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::Arc;

use parquet::basic::{Compression, ZstdLevel};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::row::{COLUMNS, Cell, Row, Type};
use crate::attribute::verdict::Outcome;
use crate::session::Session;
use crate::sink::Sink;

/// Rows of a full group.
const GROUP_ROWS: usize = 65_536;
/// Bytes of text at which a group is closed early, so that long texts do not take the memory.
const GROUP_TEXT: usize = 24 << 20;

/// Writes rows in groups.
pub struct ParquetSink<W: Write + Send> {
    output: SerializedFileWriter<W>,
    columns: Vec<Buffer>,
    rows: usize,
    text: usize,
}

/// The values of one column of the group under construction.
#[derive(Default)]
struct Buffer {
    levels: Vec<i16>,
    numbers: Vec<i64>,
    texts: Vec<ByteArray>,
}

impl<W: Write + Send> ParquetSink<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// Those of `output`; so in the methods of [`Sink`].
    pub fn new(output: W) -> io::Result<Self> {
        let schema = Arc::new(parse_message_type(&schema()).map_err(system)?);
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_dictionary_enabled(true)
            .set_created_by(concat!("ngx502 ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        let output = SerializedFileWriter::new(output, schema, Arc::new(properties)).map_err(system)?;
        let columns = COLUMNS.iter().map(|_| Buffer::default()).collect();
        Ok(ParquetSink { output, columns, rows: 0, text: 0 })
    }

    fn write_group(&mut self) -> io::Result<()> {
        let mut group = self.output.next_row_group().map_err(system)?;
        for (column, buffer) in COLUMNS.iter().zip(&mut self.columns) {
            let Buffer { levels, numbers, texts } = std::mem::take(buffer);
            let levels = column.optional.then_some(&levels[..]);
            let next = group.next_column().map_err(system)?;
            let mut writer =
                next.ok_or_else(|| io::Error::other("the Parquet schema has too few columns"))?;
            match writer.untyped() {
                ColumnWriter::Int32ColumnWriter(typed) => {
                    let numbers: Vec<i32> =
                        numbers.iter().map(|n| i32::try_from(*n).unwrap_or(i32::MAX)).collect();
                    typed.write_batch(&numbers, levels, None)
                }
                ColumnWriter::Int64ColumnWriter(typed) => typed.write_batch(&numbers, levels, None),
                ColumnWriter::ByteArrayColumnWriter(typed) => typed.write_batch(&texts, levels, None),
                _ => Err(ParquetError::General("the schema has a type that no column has".to_owned())),
            }
            .map_err(system)?;
            writer.close().map_err(system)?;
        }
        group.close().map_err(system)?;
        (self.rows, self.text) = (0, 0);
        Ok(())
    }
}

impl<W: Write + Send> Sink for ParquetSink<W> {
    /// Adds a row; writes a group when it is full.
    fn outcome(&mut self, session: &Session, outcome: &Outcome) -> io::Result<()> {
        let Some(row) = Row::new(session, outcome) else { return Ok(()) };
        for (column, buffer) in COLUMNS.iter().zip(&mut self.columns) {
            let cell = row.cell(column);
            buffer.levels.push(i16::from(cell != Cell::Null));
            match cell {
                Cell::Null => {}
                Cell::Integer(value) => buffer.numbers.push(value),
                Cell::Text(text) => {
                    self.text += text.len();
                    buffer.texts.push(ByteArray::from(text.into_owned().into_bytes()));
                }
            }
        }
        self.rows += 1;
        if self.rows >= GROUP_ROWS || self.text >= GROUP_TEXT { self.write_group() } else { Ok(()) }
    }

    /// Nothing: rows become readable with the footer.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Writes what is buffered and the footer.
    fn finish(&mut self) -> io::Result<()> {
        if self.rows > 0 {
            self.write_group()?;
        }
        self.output.finish().map(drop).map_err(system)
    }
}

/// The system's own error, which tells a closed pipe from a full disk; Parquet's wraps it.
fn system(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(error) => match error.downcast() {
            Ok(error) => *error,
            Err(error) => io::Error::other(error),
        },
        other => io::Error::other(other),
    }
}

fn schema() -> String {
    let mut text = String::from("message ngx502 {");
    for column in COLUMNS {
        let repetition = if column.optional { "optional" } else { "required" };
        let (physical, logical) = match column.of {
            Type::Time => ("int64", " (TIMESTAMP(MICROS,true))"),
            Type::Int => ("int32", ""),
            Type::Long => ("int64", ""),
            Type::Text => ("binary", " (UTF8)"),
        };
        let _ = write!(text, " {repetition} {physical} {}{logical};", column.name);
    }
    text + " }"
}
