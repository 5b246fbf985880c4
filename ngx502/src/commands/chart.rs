//! `ngx502 chart`: draws captures into an SVG or PNG file.

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use super::replay::Captures;
use super::report;
use crate::output::Destination;
use crate::report::Report;
use crate::report::chart::{self, Kind};

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Of what.
    pub captures: Captures,
    /// Which chart.
    pub kind: Kind,
    /// Its file; the name ends in `.svg` or `.png`.
    pub output: Destination,
}

/// Draws the chart. Nothing is written unless it could be drawn.
///
/// # Errors
/// When the output's name ends in neither `.svg` nor `.png`, a file is no capture or cannot be read at all, there is
/// nothing to draw, or the output cannot be written.
pub fn run(options: &Options) -> Result<()> {
    let encoding = Encoding::of(&options.output)?;
    options.output.check()?;
    draw(options, encoding, &report::collect(&options.captures)?)
}

#[derive(Clone, Copy, ValueEnum)]
enum Encoding {
    Svg,
    Png,
}

impl Encoding {
    fn of(to: &Destination) -> Result<Self> {
        to.format().with_context(|| {
            let path = to.path.display();
            format!("unsupported extension in `{path}`: use .svg or .png")
        })
    }
}

fn draw(options: &Options, encoding: Encoding, report: &Report) -> Result<()> {
    let picture = match encoding {
        Encoding::Svg => chart::svg(report, options.kind, chart::WIDE)?.into_bytes(),
        Encoding::Png => chart::png(report, options.kind, chart::WIDE)?,
    };
    options.output.write_bytes(&picture)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Collector;

    #[test]
    fn no_data_and_an_odd_name_are_told_and_leave_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let report = Collector::new().finish();
        for (name, wanted) in
            [("x.svg", "nothing to draw"), ("x.png", "nothing to draw"), ("x.pdf", ".svg or .png")]
        {
            let output = Destination { path: folder.path().join(name), force: false };
            let captures = Captures::default();
            let options = Options { captures, kind: Kind::All, output: output.clone() };
            let drawn = Encoding::of(&output).and_then(|encoding| draw(&options, encoding, &report));
            let error = drawn.unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
            assert!(!output.path.exists());
        }
    }

    #[test]
    fn every_chart_is_found_by_its_name() {
        for kind in Kind::SINGLE {
            assert_eq!(Kind::from_str(kind.as_str(), false), Ok(kind));
        }
    }
}
