//! From records to what is shown: the one order that a live trace and a replay share.

use std::io::{self, BufWriter};

use anyhow::{Context as _, Result};

use crate::attribute::verdict::Outcome;
use crate::attribute::{Attributor, Options};
use crate::capture::{Stopped, Writer};
use crate::event::{Body, Latency, Nanos, Record};
use crate::filter::Filter;
use crate::query;
use crate::session::Session;
use crate::sink::Sink;
use crate::sink::options::OutputOptions;
use crate::summary::Tally;
use crate::time::Moment;

/// Who is given what a [`Driver`] makes of records.
pub trait Watcher {
    /// A record, its query string cut, before it is decided upon.
    ///
    /// # Errors
    /// Ends the trace or replay; so in the other methods.
    fn record(&mut self, _session: &Session, _record: &Record) -> Result<()> {
        Ok(())
    }

    /// An outcome.
    fn outcome(&mut self, session: &Session, outcome: &Outcome) -> Result<()>;

    /// The session's clock has reached `at`; what was decided until then has been shown.
    fn tick(&mut self, _session: &Session, _at: Nanos) -> Result<()> {
        Ok(())
    }
}

/// Attribution of one session's records. A watcher sees what the filter lets through.
pub struct Driver {
    session: Session,
    filter: Filter,
    attributor: Attributor,
    outcomes: Vec<Outcome>,
}

impl Driver {
    /// A driver that has seen no record.
    pub fn new(session: Session, filter: Filter) -> Driver {
        let attributor = Attributor::new(&session, Options::of(&session));
        Driver { session, filter, attributor, outcomes: Vec::new() }
    }

    /// The session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Takes the next record in live order. Query strings go first: what attribution does not see live a replay of the
    /// capture need not have, and both decide alike.
    ///
    /// # Errors
    /// When the watcher fails.
    pub fn push(&mut self, record: Record, watcher: &mut impl Watcher) -> Result<()> {
        let ticked = self.decide(record, watcher)?;
        self.show(watcher)?;
        ticked.map_or(Ok(()), |at| watcher.tick(&self.session, at))
    }

    /// Takes the next record and keeps what it decides; the time of a tick that the watcher is to see.
    ///
    /// # Errors
    /// When the watcher fails.
    pub(super) fn decide(&mut self, mut record: Record, watcher: &mut impl Watcher) -> Result<Option<Nanos>> {
        query::cut(&self.session, &mut record);
        let (at, is_tick) = (record.at, matches!(record.body, Body::Tick));
        let wanted = self.filter.accepts_moment(&self.session, at);
        if wanted {
            watcher.record(&self.session, &record)?;
        }
        self.attributor.feed(record, &mut self.outcomes);
        Ok((wanted && is_tick).then_some(at))
    }

    /// What was decided and not shown, with its time.
    pub(super) fn take(&mut self) -> impl Iterator<Item = (Moment, Outcome)> {
        let now = self.attributor.now();
        let at = move |outcome: &Outcome| match outcome {
            Outcome::Verdict(verdict) | Outcome::Rescued(verdict) => verdict.at,
            Outcome::Notice { at, .. } => *at,
            Outcome::Lost { .. } | Outcome::NotUpstream { .. } => now,
        };
        let session = &self.session;
        self.outcomes.drain(..).map(move |outcome| (Moment::of(session, at(&outcome)), outcome))
    }

    /// Decides what was undecided, and keeps it.
    pub(super) fn decide_all(&mut self) {
        self.attributor.finish(&mut self.outcomes);
    }

    /// Shows an outcome of this session's.
    ///
    /// # Errors
    /// When the watcher fails.
    pub(super) fn show_one(&self, outcome: &Outcome, watcher: &mut impl Watcher) -> Result<()> {
        if self.filter.accepts(&self.session, outcome) {
            watcher.outcome(&self.session, outcome)?;
        }
        Ok(())
    }

    /// There are no more records: decides what was undecided.
    ///
    /// # Errors
    /// When the watcher fails.
    pub fn finish(&mut self, watcher: &mut impl Watcher) -> Result<()> {
        self.decide_all();
        self.show(watcher)
    }

    fn show(&mut self, watcher: &mut impl Watcher) -> Result<()> {
        let outcomes = std::mem::take(&mut self.outcomes);
        outcomes.iter().try_for_each(|outcome| self.show_one(outcome, watcher))
    }
}

/// Says that attribution had too little room to remember everything, if so: the verdicts themselves do not tell.
pub(super) fn warn_forgotten<'a>(drivers: impl IntoIterator<Item = &'a Driver>) {
    let evicted: u64 = drivers.into_iter().map(|driver| driver.attributor.evicted()).sum();
    if evicted > 0 {
        super::say(format_args!(
            "{evicted} facts about listeners, processes or look-ups were forgotten for lack of room; causes that needed them \
             are inferred or unknown"
        ));
    }
}

/// Where a trace or replay leaves things: outcomes on standard output, what they amount to in its summary, and the
/// records of a trace in a capture, if one is asked for.
pub(super) struct Outputs {
    sink: Box<dyn Sink>,
    tally: Tally,
    capture: Option<Writer>,
}

const FAILED: &str = "cannot write to standard output";

impl Outputs {
    /// `show_host` names each verdict's host.
    pub(super) fn new(options: OutputOptions, show_host: bool, capture: Option<Writer>) -> Outputs {
        let out = BufWriter::with_capacity(1 << 16, io::stdout());
        Outputs { sink: options.sink(out, show_host), tally: Tally::default(), capture }
    }

    /// Says that everything is attached.
    pub(super) fn ready(&mut self, session: &Session) -> Result<()> {
        self.sink.ready(session).context(FAILED)?;
        self.flush()
    }

    /// Hands on what was shown so far.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.sink.flush().context(FAILED)
    }

    /// Shows the latency of all upstream requests so far; `uncounted` is what the records will tell later.
    pub(super) fn latency(
        &mut self,
        session: &Session,
        now: Nanos,
        uncounted: Option<&Latency>,
    ) -> Result<()> {
        let upstreams = self.tally.upstreams(uncounted);
        self.sink.latency(session, Moment::of(session, now), &upstreams).context(FAILED)?;
        self.flush()
    }

    /// Shows the summary.
    pub(super) fn finish(&mut self, session: &Session) -> Result<()> {
        self.sink.summary(session, &self.tally.summary()).context(FAILED)?;
        self.sink.finish().context(FAILED)
    }

    /// Does something with the capture; when that fails, the trace says so and goes on without.
    fn capture(&mut self, work: impl FnOnce(&mut Writer) -> Result<(), Stopped>) {
        if let Some(Err(stopped)) = self.capture.as_mut().map(work) {
            self.capture = None;
            super::say(stopped);
        }
    }

    /// Closes the capture.
    pub(super) fn close(&mut self) {
        if let Some(Err(stopped)) = self.capture.take().map(Writer::finish) {
            super::say(stopped);
        }
    }
}

impl Watcher for Outputs {
    fn record(&mut self, _session: &Session, record: &Record) -> Result<()> {
        self.capture(|capture| capture.record(record));
        self.tally.record(record);
        Ok(())
    }

    fn outcome(&mut self, session: &Session, outcome: &Outcome) -> Result<()> {
        self.tally.outcome(outcome);
        self.sink.outcome(session, outcome).context(FAILED)
    }

    fn tick(&mut self, session: &Session, at: Nanos) -> Result<()> {
        self.capture(|capture| capture.tick(at));
        self.sink.tick(Moment::of(session, at)).context(FAILED)
    }
}

impl Drop for Outputs {
    /// Also a trace that ends since nobody reads its output leaves a whole capture.
    fn drop(&mut self) {
        self.close();
    }
}
