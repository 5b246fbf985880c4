//! `ngx502 replay`: the live attribution over captures.
//!
//! [`Replay`] is generic over the engine and over who watches: `show` prints as `trace` does, `export` and `report`
//! watch in their own way.

mod filter;
mod show;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal, Write as _};
use std::path::PathBuf;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};

pub use self::filter::Filter;
pub use self::show::{Options, run};
use crate::attribute::verdict::Outcome;
use crate::attribute::{self, Attributor};
use crate::escape;
use crate::event::{Body, Record};
use crate::query;
use crate::session::Session;
use crate::source::file::{FileReport, Merged};

/// Turns the records of one session into outcomes.
pub trait Engine {
    /// Takes the next record; appends what it decides.
    fn feed(&mut self, record: Record, outcomes: &mut Vec<Outcome>);
    /// The capture is over; appends what was undecided.
    fn finish(&mut self, outcomes: &mut Vec<Outcome>);
    /// How many facts were forgotten for lack of room.
    fn evicted(&self) -> u64 {
        0
    }
}

impl Engine for Attributor {
    fn feed(&mut self, record: Record, outcomes: &mut Vec<Outcome>) {
        Attributor::feed(self, record, outcomes);
    }

    fn finish(&mut self, outcomes: &mut Vec<Outcome>) {
        Attributor::finish(self, outcomes);
    }

    fn evicted(&self) -> u64 {
        Attributor::evicted(self)
    }
}

/// The engine that the live trace of this session used.
pub fn attributor(session: &Session) -> Attributor {
    Attributor::new(session, attribute::Options::of(session))
}

/// Who watches a replay. A closure over outcomes is one.
pub trait Watcher {
    /// An outcome that the filter lets through.
    ///
    /// # Errors
    /// Ends the replay.
    fn outcome(&mut self, session: &Session, outcome: &Outcome) -> Result<()>;

    /// A record that tells of no failure (latency, the clock) of a host and a time that the filter lets through, after
    /// the outcomes that it decided.
    ///
    /// # Errors
    /// Ends the replay.
    fn beside(&mut self, session: &Session, record: &Record) -> Result<()> {
        let _ = (session, record);
        Ok(())
    }
}

impl<F: FnMut(&Session, &Outcome) -> Result<()>> Watcher for F {
    fn outcome(&mut self, session: &Session, outcome: &Outcome) -> Result<()> {
        self(session, outcome)
    }
}

/// What to replay.
#[derive(Clone, Debug, Default)]
pub struct Captures {
    /// The files.
    pub files: Vec<PathBuf>,
    /// Which verdicts.
    pub filter: Filter,
    /// Show the query strings that a capture holds.
    pub with_query: bool,
}

/// What a replay saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Outcomes that reached the sink.
    pub shown: u64,
    /// Outcomes that the filter held back.
    pub filtered: u64,
    /// What was found out about each file.
    pub files: Vec<FileReport>,
}

/// Captures that are open: their metadata are known, their records are not read yet.
pub struct Replay<'a> {
    captures: &'a Captures,
    merged: Merged,
    sessions: Vec<Session>,
}

impl<'a> Replay<'a> {
    /// Opens all files.
    ///
    /// # Errors
    /// When one is no capture or cannot be read at all.
    pub fn open(captures: &'a Captures) -> Result<Self> {
        let merged = Merged::open(&captures.files)?;
        let shown = |session: &Session| Session {
            with_query: session.with_query && captures.with_query,
            ..session.clone()
        };
        let sessions = merged.sessions().map(shown).collect();
        Ok(Self { captures, merged, sessions })
    }

    /// The sessions, as they may be shown.
    pub fn sessions(&self) -> &[Session] {
        &self.sessions
    }

    /// Replays everything, merged by time, with one engine a session; shows `watcher` what the filter accepts.
    ///
    /// # Errors
    /// When the watcher fails; damaged files are read as far as possible and reported.
    pub fn run<E: Engine>(
        mut self,
        engine: impl Fn(&Session) -> E,
        watcher: &mut impl Watcher,
    ) -> Result<Replayed> {
        let filter = &self.captures.filter;
        let mut engines: Vec<E> = self.sessions.iter().map(engine).collect();
        let progress = progress_over(&self.captures.files)?;
        let mut replayed = Replayed::default();
        let mut outcomes = Vec::new();
        let mut count = 0u64;
        while let Some((index, mut record)) = self.merged.next() {
            let session = &self.sessions[index];
            query::cut(session, &mut record);
            let beside = beside(session, filter, &record);
            engines[index].feed(record, &mut outcomes);
            replayed.show(session, filter, &mut outcomes, watcher)?;
            if let Some(record) = beside {
                watcher.beside(session, &record)?;
            }
            count += 1;
            if count.is_multiple_of(8192) {
                progress.set_position(self.merged.position());
            }
        }
        for (engine, session) in engines.iter_mut().zip(&self.sessions) {
            engine.finish(&mut outcomes);
            replayed.show(session, filter, &mut outcomes, watcher)?;
        }
        progress.finish_and_clear();
        tell_forgotten(engines.iter().map(Engine::evicted).sum());
        replayed.files = self.merged.reports().to_vec();
        Ok(replayed)
    }
}

/// A copy of what watchers are told beside outcomes: attribution takes the record.
fn beside(session: &Session, filter: &Filter, record: &Record) -> Option<Record> {
    let told = matches!(record.body, Body::Latency(_) | Body::Tick);
    (told && filter.accepts_moment(session, record.at)).then(|| record.clone())
}

impl Replayed {
    fn show(
        &mut self,
        session: &Session,
        filter: &Filter,
        outcomes: &mut Vec<Outcome>,
        watcher: &mut impl Watcher,
    ) -> Result<()> {
        for outcome in outcomes.drain(..) {
            if filter.accepts(session, &outcome) {
                watcher.outcome(session, &outcome)?;
                self.shown += 1;
            } else {
                self.filtered += 1;
            }
        }
        Ok(())
    }

    /// Says on standard error what could not be read.
    pub fn complain(&self) {
        for complaint in self.files.iter().flat_map(FileReport::complaints) {
            // Whoever closed standard error does not want to know.
            let _ = writeln!(io::stderr(), "ngx502: {}", escape::terminal(complaint.as_bytes()));
        }
    }
}

/// Says that attribution had too little room to remember everything, if so: the verdicts themselves do not tell.
pub(super) fn tell_forgotten(evicted: u64) {
    if evicted > 0 {
        // Whoever closed standard error does not want to know.
        let _ = writeln!(
            io::stderr(),
            "ngx502: {evicted} facts about listeners, processes or look-ups were forgotten for lack of room; causes that \
             needed them are inferred or unknown"
        );
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
