//! Showing a replay as `trace` shows what happens.

use std::io::{self, BufWriter};

use anyhow::{Context as _, Result};

use super::{Captures, Replay, Watcher, attributor};
use crate::attribute::verdict::Outcome;
use crate::commands::view::View;
use crate::event::{Body, Record};
use crate::session::Session;
use crate::sink::Sink;
use crate::summary::Tally;

/// What to replay and how to show it.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The captures.
    pub captures: Captures,
    /// How to show them.
    pub view: View,
}

/// Prints what `trace` printed, apart from its `ready`: of several captures merged by time, and only what the filter
/// accepts, which the summary counts.
///
/// # Errors
/// When a file is no capture or cannot be read at all, or standard output fails.
pub fn run(options: &Options) -> Result<()> {
    let Options { captures, view } = options;
    let replay = Replay::open(captures)?;
    let first = replay.sessions().first().context("there is no capture to replay: name a file")?.clone();
    let show_host = replay.sessions().iter().any(|session| session.host != first.host);
    let out = BufWriter::with_capacity(1 << 16, io::stdout());
    let mut shown = Shown { sink: view.sink(out, show_host), tally: Tally::default() };
    let replayed = replay.run(attributor, &mut shown)?;
    let Shown { mut sink, tally } = shown;
    sink.summary(&first, &tally.summary()).and_then(|()| sink.flush()).context(FAILED)?;
    replayed.complain();
    Ok(())
}

const FAILED: &str = "cannot write to standard output";

struct Shown {
    sink: Box<dyn Sink>,
    tally: Tally,
}

impl Watcher for Shown {
    fn outcome(&mut self, session: &Session, outcome: &Outcome) -> Result<()> {
        self.tally.outcome(outcome);
        self.sink.outcome(session, outcome).context(FAILED)
    }

    fn beside(&mut self, session: &Session, record: &Record) -> Result<()> {
        self.tally.record(record);
        if record.body == Body::Tick {
            self.sink.tick(session.wall(record.at)).context(FAILED)?;
        }
        Ok(())
    }
}
