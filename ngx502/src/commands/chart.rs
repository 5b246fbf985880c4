//! `ngx502 chart`: draws captures into an SVG or PNG file.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};

use super::replay::Captures;
use super::report;
use crate::output::Destination;
use crate::report::Report;
use crate::report::chart::{self, Kind};

/// What was asked for.
#[derive(Clone, Debug, Args)]
pub struct Options {
    #[command(flatten)]
    captures: Captures,
    /// What to draw.
    #[arg(long, value_enum, default_value = "all")]
    kind: Kind,
    /// Write the chart to this file; the extension is .svg or .png.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Overwrite an existing file.
    #[arg(long)]
    force: bool,
}

/// Draws the chart. Nothing is written unless it could be drawn.
///
/// # Errors
/// When the output's name ends in neither `.svg` nor `.png`, a file is no capture or cannot be read at all, there is
/// nothing to draw, or the output cannot be written.
pub fn run(options: &Options) -> Result<()> {
    let to = Destination { path: options.output.clone(), force: options.force };
    let encoding = encoding(&to)?;
    to.check()?;
    draw(options.kind, encoding, &report::collect(&options.captures)?, &to)
}

#[derive(Clone, Copy, ValueEnum)]
enum Encoding {
    Svg,
    Png,
}

fn encoding(to: &Destination) -> Result<Encoding> {
    let path = to.path.display();
    to.format().with_context(|| format!("unsupported extension in `{path}`: use .svg or .png"))
}

fn draw(kind: Kind, encoding: Encoding, report: &Report, to: &Destination) -> Result<()> {
    let picture = match encoding {
        Encoding::Svg => chart::svg(report, kind, chart::WIDE, None)?.into_bytes(),
        Encoding::Png => chart::png(report, kind, chart::WIDE)?,
    };
    to.write_bytes(&picture)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Collector;

    #[test]
    fn no_data_and_an_odd_name_are_told_and_leave_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let report = Collector::default().finish();
        for (name, wanted) in
            [("x.svg", "nothing to draw"), ("x.png", "nothing to draw"), ("x.pdf", ".svg or .png")]
        {
            let to = Destination { path: folder.path().join(name), force: false };
            let drawn = encoding(&to).and_then(|encoding| draw(Kind::All, encoding, &report, &to));
            let error = drawn.unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
            assert!(!to.path.exists());
        }
    }

    #[test]
    fn every_chart_is_found_by_its_name() {
        for kind in Kind::SINGLE {
            assert_eq!(Kind::from_str(kind.as_str(), false), Ok(kind));
        }
    }
}
