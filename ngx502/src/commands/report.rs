//! `ngx502 report`: collects a report of captures and writes it as text, JSON or HTML.

use std::io::{self, Write as _};

use anyhow::{Context, Result};
use clap::ValueEnum;

use super::driver::Watcher;
use super::replay::{Captures, Conversion, Replay};
use crate::attribute::verdict::Outcome;
use crate::event::{Body, Record};
use crate::filter::Filter;
use crate::output::Destination;
use crate::report::{Collector, Report, html, text};
use crate::session::Session;
use crate::sink::options::{DEFAULT_WIDTH, terminal_width};

/// How to write a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For a terminal or a ticket.
    #[default]
    Text,
    /// One JSON object.
    Json,
    /// One self-contained page.
    #[value(alias = "htm")]
    Html,
}

/// Collects the report and writes it to where `options` say.
///
/// # Errors
/// When a file is no capture or cannot be read at all, or the output cannot be created or written.
pub fn run(options: &Conversion<Format>) -> Result<()> {
    options.output.iter().try_for_each(Destination::check)?;
    put(options, &collect(&options.captures)?)
}

/// What captures amount to.
///
/// # Errors
/// When a file is no capture or cannot be read at all.
pub fn collect(captures: &Captures) -> Result<Report> {
    let mut collecting = Collecting { collector: Collector::default(), filter: &captures.filter };
    let complaints = Replay::open(captures)?.run(&mut collecting)?;
    let mut collector = collecting.collector;
    complaints.into_iter().for_each(|damage| collector.damage(damage));
    Ok(collector.finish())
}

struct Collecting<'a> {
    collector: Collector,
    filter: &'a Filter,
}

impl Watcher for Collecting<'_> {
    fn record(&mut self, session: &Session, record: &Record) -> Result<()> {
        if let Body::Latency(latency) = &record.body {
            self.collector.latency(session, record.at, &self.filter.narrowed(latency));
        }
        Ok(())
    }

    fn outcome(&mut self, session: &Session, outcome: &Outcome) -> Result<()> {
        self.collector.outcome(session, outcome);
        Ok(())
    }
}

fn put(options: &Conversion<Format>, report: &Report) -> Result<()> {
    let render = |width| match options.format() {
        Format::Text => text::render(report, width),
        Format::Json => report.to_json(),
        Format::Html => html::render(report),
    };
    let Some(to) = &options.output else {
        let width = terminal_width().unwrap_or(DEFAULT_WIDTH).min(DEFAULT_WIDTH);
        let mut out = io::stdout().lock();
        return out
            .write_all(render(width).as_bytes())
            .and_then(|()| out.flush())
            .context("cannot write the report to stdout");
    };
    to.write(|mut file| {
        file.write_all(render(DEFAULT_WIDTH).as_bytes())
            .with_context(|| format!("cannot write the whole report to `{}`", to.path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Collector;

    #[test]
    fn the_output_name_chooses_the_format_unless_told() {
        let output = |name: &str| Some(Destination { path: name.into(), force: false });
        let options = |name: &str| Conversion { output: output(name), ..Conversion::default() };
        assert_eq!(options("x.HTML").format(), Format::Html);
        assert_eq!(options("x.json").format(), Format::Json);
        assert_eq!(options("x").format(), Format::Text);
        assert_eq!(Conversion { format: Some(Format::Text), ..options("x.html") }.format(), Format::Text);
    }

    #[test]
    fn a_report_lands_in_its_file_and_a_bad_place_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("x.html");
        let report = Collector::default().finish();
        let to = |path| Some(Destination { path, force: false });
        put(&Conversion { output: to(output.clone()), ..Conversion::default() }, &report).unwrap();
        assert!(std::fs::read_to_string(&output).unwrap().starts_with("<!DOCTYPE html>"));
        let nowhere = Conversion { output: to(folder.path().join("no/x.html")), ..Conversion::default() };
        assert!(put(&nowhere, &report).unwrap_err().to_string().contains("no/x.html"));
    }
}
