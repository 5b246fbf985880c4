//! `ngx502 export`: the verdicts of captures as lines or tables for other engines.

use std::io::{self, BufWriter, IsTerminal as _, Write};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use super::driver::Watcher;
use super::replay::{Captures, Conversion, Replay, complain};
use crate::attribute::verdict::Outcome;
use crate::export::{CsvSink, ParquetSink};
use crate::session::Session;
use crate::sink::Sink;
use crate::sink::json::JsonSink;

/// What to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// JSON lines as `trace` prints them, without `ready` and `summary`.
    #[default]
    #[value(name = "jsonl")]
    JsonLines,
    /// Comma-separated values (RFC 4180).
    Csv,
    /// Apache Parquet, compressed by zstd.
    Parquet,
}

impl Format {
    fn sink(self, output: impl Write + Send + 'static) -> io::Result<Box<dyn Sink>> {
        Ok(match self {
            Format::JsonLines => Box::new(JsonSink::new(output)),
            Format::Csv => Box::new(CsvSink::new(output)?),
            Format::Parquet => Box::new(ParquetSink::new(output)?),
        })
    }

    /// What it means when writing fails.
    fn failed(self) -> &'static str {
        match self {
            Format::JsonLines => "cannot write the lines: free disk space or choose another path",
            Format::Csv => {
                "cannot write the CSV, which is now incomplete: free disk space or choose another path"
            }
            Format::Parquet => {
                "cannot write the Parquet file, which is now incomplete: free disk space or choose another path"
            }
        }
    }
}

/// Writes the verdicts of the captures to where `options` say.
///
/// # Errors
/// When a file is no capture or cannot be read at all, the output cannot be written, or it is a terminal that Parquet
/// would only confuse.
pub fn run(options: &Conversion<Format>) -> Result<()> {
    let (captures, format) = (&options.captures, options.format());
    let complaints = match &options.output {
        Some(to) => {
            to.check()?;
            to.write(|file| export(captures, format, BufWriter::new(file)))?
        }
        None if format == Format::Parquet && io::stdout().is_terminal() => {
            bail!("refusing to write Parquet to a terminal: use -o FILE")
        }
        None => export(captures, format, BufWriter::new(io::stdout()))?,
    };
    complain(&complaints);
    Ok(())
}

fn export(captures: &Captures, format: Format, output: impl Write + Send + 'static) -> Result<Vec<String>> {
    let sink = format.sink(output).context(format.failed())?;
    let mut exporting = Exporting { sink, format };
    let complaints = Replay::open(captures)?.run(&mut exporting)?;
    exporting.sink.finish().context(format.failed())?;
    Ok(complaints)
}

struct Exporting {
    sink: Box<dyn Sink>,
    format: Format,
}

impl Watcher for Exporting {
    fn outcome(&mut self, session: &Session, outcome: &Outcome) -> Result<()> {
        self.sink.outcome(session, outcome).context(self.format.failed())
    }
}
