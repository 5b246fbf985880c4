//! `ngx502 export`: the verdicts of captures as lines or tables for other engines.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::str::FromStr;

use anyhow::{Context as _, Result, bail};

use super::output::Destination;
use super::replay::{Captures, Replay, Replayed, attributor};
use crate::attribute::verdict::Outcome;
use crate::export::{CsvWriter, ParquetWriter, Row};
use crate::session::Session;
use crate::sink::json::write_outcome;

/// Lines are written when this many bytes are together.
const LINES: usize = 1 << 16;

/// What to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// The JSON lines of `trace` and `replay`, without `ready` and `summary`.
    #[default]
    JsonLines,
    /// RFC 4180.
    Csv,
    /// Parquet with zstd.
    Parquet,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "jsonl" => Ok(Format::JsonLines),
            "csv" => Ok(Format::Csv),
            "parquet" => Ok(Format::Parquet),
            _ => Err(format!("unknown export format `{text}`: expected jsonl, csv or parquet")),
        }
    }
}

/// What to export.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Of what.
    pub captures: Captures,
    /// As what; `None`: by the name of `output`, else JSON lines.
    pub format: Option<Format>,
    /// `None`: standard output.
    pub output: Option<Destination>,
}

impl Options {
    /// The format asked for, or the one that the output's name suggests.
    pub fn format(&self) -> Format {
        let named = || self.output.as_ref()?.path.extension()?.to_str()?.to_ascii_lowercase().parse().ok();
        self.format.or_else(named).unwrap_or_default()
    }
}

/// Writes the verdicts of the captures to where `options` say.
///
/// # Errors
/// When a file is no capture or cannot be read at all, the output cannot be written, or it is a terminal that Parquet
/// would only confuse.
pub fn run(options: &Options) -> Result<()> {
    let (captures, format) = (&options.captures, options.format());
    let replayed = match &options.output {
        Some(to) => {
            to.check()?;
            to.write(|file: File| export(captures, format, BufWriter::new(file)))?
        }
        None if format == Format::Parquet && io::stdout().is_terminal() => {
            bail!("refusing to write Parquet to a terminal: use -o FILE")
        }
        None => export(captures, format, BufWriter::new(io::stdout()))?,
    };
    replayed.complain();
    Ok(())
}

/// Writes the verdicts of the captures to `output`.
///
/// # Errors
/// When a file is no capture or cannot be read at all, or `output` fails.
pub fn export<W: Write + Send>(captures: &Captures, format: Format, mut output: W) -> Result<Replayed> {
    match format {
        Format::JsonLines => {
            let mut lines = Vec::with_capacity(2 * LINES);
            let mut watch = |session: &Session, outcome: &Outcome| {
                write_outcome(&mut lines, session, outcome)?;
                if lines.len() >= LINES { drain(&mut lines, &mut output) } else { Ok(()) }
            };
            let replayed = Replay::open(captures)?.run(attributor, &mut watch)?;
            drain(&mut lines, &mut output)?;
            output.flush().context(FAILED)?;
            Ok(replayed)
        }
        Format::Csv => {
            let mut writer = CsvWriter::new(output)?;
            let mut watch = |session: &Session, outcome: &Outcome| {
                Row::new(session, outcome).map_or(Ok(()), |row| writer.write(&row))
            };
            let replayed = Replay::open(captures)?.run(attributor, &mut watch)?;
            writer.finish().map(|()| replayed)
        }
        Format::Parquet => {
            let mut writer = ParquetWriter::new(output)?;
            let mut watch = |session: &Session, outcome: &Outcome| {
                Row::new(session, outcome).map_or(Ok(()), |row| writer.write(&row))
            };
            let replayed = Replay::open(captures)?.run(attributor, &mut watch)?;
            writer.finish().map(|()| replayed)
        }
    }
}

const FAILED: &str = "cannot write the lines: free space or choose another place";

fn drain(lines: &mut Vec<u8>, output: &mut impl Write) -> Result<()> {
    output.write_all(lines).context(FAILED)?;
    lines.clear();
    Ok(())
}
