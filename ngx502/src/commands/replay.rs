//! `ngx502 replay`: the live attribution over captures, shown as `trace` shows it; and [`Replay`], on which `report`,
//! `chart` and `export` rest too.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use super::driver::{Driver, Outputs, Watcher, warn_forgotten};
use crate::attribute::{self, verdict::Outcome};
use crate::escape;
use crate::event::Record;
use crate::filter::Filter;
use crate::output::Destination;
use crate::session::Session;
use crate::sink::options::Format;
use crate::source::file::Merged;
use crate::time::Moment;

/// What to replay and how to show it.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// The captures.
    #[command(flatten)]
    pub captures: Captures,
    /// Output format. Default: human on a terminal, json otherwise.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Print one line per verdict.
    #[arg(short, long)]
    quiet: bool,
}

/// Prints what `trace` printed, apart from its `ready`: of several captures merged by time, and only what the filter
/// accepts, which the summary counts.
///
/// # Errors
/// When a file is no capture or cannot be read at all, or standard output fails.
pub fn run(options: &Options, verbose: u8) -> Result<()> {
    let replay = Replay::open(&options.captures)?;
    let first = replay.sessions().next().context("there is no capture to replay: name a file")?.clone();
    let show_host = replay.sessions().any(|session| session.host != first.host);
    let output = super::output(options.format, options.quiet, verbose);
    let mut outputs = Outputs::new(output, show_host, None);
    let complaints = replay.run(&mut outputs)?;
    outputs.finish(&first)?;
    complain(&complaints);
    Ok(())
}

/// What to replay.
#[derive(Clone, Debug, Default, Args)]
pub struct Captures {
    /// Captures written by `trace -o`.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Which verdicts.
    #[command(flatten)]
    pub filter: Filter,
    /// Show query strings, if the trace kept them.
    #[arg(long)]
    pub with_query: bool,
}

/// Captures to turn into a file of a format.
#[derive(Clone, Debug, Default, Args)]
pub struct Conversion<F: ValueEnum + Default + Send + Sync + 'static> {
    /// Of what.
    #[command(flatten)]
    pub captures: Captures,
    /// `None`: by the name of `output`, else the default.
    #[arg(long, value_enum, help = format_help::<F>())]
    pub format: Option<F>,
    /// `None`: standard output.
    #[command(flatten)]
    pub output: Option<Destination>,
}

fn format_help<F: ValueEnum + Default>() -> String {
    let default = F::default().to_possible_value();
    let default = default.as_ref().map_or("", |value| value.get_name());
    format!("Output format. Default: by the output's extension, else {default}")
}

impl<F: ValueEnum + Default + Send + Sync> Conversion<F> {
    /// The format asked for, or the one that the output's name suggests.
    pub fn format(&self) -> F {
        self.format.clone().or_else(|| self.output.as_ref()?.format()).unwrap_or_default()
    }
}

/// Captures that are open: their metadata are known, their records are not read yet.
pub struct Replay<'a> {
    files: &'a [PathBuf],
    merged: Merged,
    /// One a session.
    drivers: Vec<Driver>,
}

impl<'a> Replay<'a> {
    /// Opens all files.
    ///
    /// # Errors
    /// When one is no capture or cannot be read at all.
    pub fn open(captures: &'a Captures) -> Result<Self> {
        let Captures { files, filter, with_query } = captures;
        let merged = Merged::open(files)?;
        let driver = |session: &Session| {
            let with_query = session.with_query && *with_query;
            Driver::new(Session { with_query, ..session.clone() }, filter.clone())
        };
        let drivers = merged.sessions().map(driver).collect();
        Ok(Self { files, merged, drivers })
    }

    /// The sessions, as they may be shown.
    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.drivers.iter().map(Driver::session)
    }

    /// Replays everything, merged by time, and shows `watcher` what the filter accepts. Returns what is wrong
    /// with the files, in sentences: damaged ones are read as far as possible.
    ///
    /// # Errors
    /// When the watcher fails.
    pub fn run(mut self, watcher: &mut impl Watcher) -> Result<Vec<String>> {
        let progress = progress_over(self.files)?;
        let mut count = 0u64;
        let mut order = Order::default();
        while let Some((index, record)) = self.merged.next() {
            match self.drivers.as_mut_slice() {
                [only] => only.push(record, watcher)?,
                several => order.push(several, index, record, watcher)?,
            }
            count += 1;
            if count.is_multiple_of(8192) {
                progress.set_position(self.merged.position());
            }
        }
        match self.drivers.as_mut_slice() {
            [only] => only.finish(watcher)?,
            several => order.finish(several, watcher)?,
        }
        progress.finish_and_clear();
        warn_forgotten(&self.drivers);
        Ok(self.merged.complaints())
    }
}

/// Outcomes of several sessions, put in the order of their times: a session tells some of its own a moment late.
#[derive(Default)]
struct Order {
    /// By time and number, with the index of the driver.
    waiting: BTreeMap<(Moment, u64), (usize, Outcome)>,
    count: u64,
}

impl Order {
    /// Hands a record to its driver, and shows what no other session can precede any more.
    fn push(
        &mut self,
        drivers: &mut [Driver],
        index: usize,
        record: Record,
        watcher: &mut impl Watcher,
    ) -> Result<()> {
        let now = Moment::of(drivers[index].session(), record.at);
        let ticked = drivers[index].decide(record, watcher)?;
        self.gather(drivers, index);
        let settled = now.before(attribute::LATE);
        while let Some(first) = self.waiting.first_entry().filter(|first| first.key().0 <= settled) {
            let (of, outcome) = first.remove();
            drivers[of].show_one(&outcome, watcher)?;
        }
        ticked.map_or(Ok(()), |at| watcher.tick(drivers[index].session(), at))
    }

    fn gather(&mut self, drivers: &mut [Driver], index: usize) {
        for (at, outcome) in drivers[index].take() {
            self.count += 1;
            self.waiting.insert((at, self.count), (index, outcome));
        }
    }

    /// Shows the rest.
    fn finish(mut self, drivers: &mut [Driver], watcher: &mut impl Watcher) -> Result<()> {
        drivers.iter_mut().for_each(Driver::decide_all);
        (0..drivers.len()).for_each(|index| self.gather(drivers, index));
        self.waiting.values().try_for_each(|(of, outcome)| drivers[*of].show_one(outcome, watcher))
    }
}

/// Says on standard error what could not be read.
pub(super) fn complain(complaints: &[String]) {
    for complaint in complaints {
        super::say(escape::terminal(complaint.as_bytes()));
    }
}

/// A bar on standard error over the files' bytes; hidden where that is no terminal.
fn progress_over(files: &[PathBuf]) -> Result<ProgressBar> {
    if !io::stderr().is_terminal() {
        return Ok(ProgressBar::hidden());
    }
    let total = files.iter().filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum();
    let style = ProgressStyle::with_template("{bar:32} {bytes}/{total_bytes} {elapsed} (ETA {eta})")
        .context("cannot draw the progress bar: its template is wrong")?;
    Ok(ProgressBar::new(total).with_style(style))
}
