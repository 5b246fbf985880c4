//! From records to what is shown and captured: the one place where the live order is fixed.

use std::io::{self, BufWriter, Write as _};

use anyhow::{Context as _, Result};

use super::{super::replay::tell_forgotten, Options};
use crate::{
    attribute::{self, Attributor, verdict::Outcome},
    capture::{Stopped, Writer},
    event::{Latency, Nanos, Record},
    query,
    session::Session,
    sink::Sink,
    summary::Tally,
};

/// Attribution, the sinks behind it, and the capture of what it is fed.
pub(super) struct Pipeline {
    session: Session,
    attributor: Attributor,
    capture: Option<Writer>,
    tally: Tally,
    sinks: Vec<Box<dyn Sink>>,
    outcomes: Vec<Outcome>,
}

impl Pipeline {
    /// Begins the capture, if one is asked for.
    ///
    /// # Errors
    /// When its file cannot be created.
    pub(super) fn new(session: Session, options: &Options) -> Result<Self> {
        let out = BufWriter::with_capacity(1 << 16, io::stdout());
        let attributor = Attributor::new(&session, attribute::Options::of(&session));
        let capture = match &options.capture {
            Some(capture) => Some(Writer::create(&capture.path, &session, capture.options)?),
            None => None,
        };
        let sinks = vec![options.view.sink(out, false)];
        Ok(Self { session, attributor, capture, tally: Tally::default(), sinks, outcomes: Vec::new() })
    }

    /// Says that everything is attached.
    pub(super) fn ready(&mut self) -> Result<()> {
        for sink in &mut self.sinks {
            sink.ready(&self.session)
                .and_then(|()| sink.flush())
                .context("cannot write to standard output")?;
        }
        Ok(())
    }

    /// Takes the next record in live order. Query strings go first: what attribution does not see here a replay of the
    /// capture need not have, and both decide alike.
    pub(super) fn push(&mut self, mut record: Record) -> Result<()> {
        query::cut(&self.session, &mut record);
        self.capture(|capture| capture.record(&record));
        self.tally.record(&record);
        self.attributor.feed(record, &mut self.outcomes);
        self.show()
    }

    /// Does something with the capture; when that fails it is told, and the trace goes on without.
    fn capture(&mut self, work: impl FnOnce(&mut Writer) -> Result<(), Stopped>) {
        if let Some(Err(stopped)) = self.capture.as_mut().map(work) {
            self.capture = None;
            tell(&stopped);
        }
    }

    /// Hands on what was shown so far.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.sinks.iter_mut().try_for_each(|sink| sink.flush()).context("cannot write to standard output")
    }

    /// Lets sinks show what they held back.
    pub(super) fn tick(&mut self, now: Nanos) -> Result<()> {
        self.capture(|capture| capture.tick(now));
        let wall = self.session.wall(now);
        for sink in &mut self.sinks {
            sink.tick(wall).and_then(|()| sink.flush()).context("cannot write to standard output")?;
        }
        Ok(())
    }

    /// Shows the latency of all upstream requests so far; `uncounted` is what the records will tell later.
    pub(super) fn latency(&mut self, now: Nanos, uncounted: Option<&Latency>) -> Result<()> {
        let upstreams = self.tally.upstreams(uncounted);
        let wall = self.session.wall(now);
        for sink in &mut self.sinks {
            sink.latency(&self.session, wall, &upstreams)
                .and_then(|()| sink.flush())
                .context("cannot write to standard output")?;
        }
        Ok(())
    }

    /// Closes the capture, shows what is left and the summary.
    pub(super) fn finish(mut self) -> Result<()> {
        self.close();
        self.attributor.finish(&mut self.outcomes);
        self.show()?;
        tell_forgotten(self.attributor.evicted());
        let facts = self.tally.summary();
        for sink in &mut self.sinks {
            sink.summary(&self.session, &facts)
                .and_then(|()| sink.flush())
                .context("cannot write to standard output")?;
        }
        Ok(())
    }

    fn close(&mut self) {
        if let Some(Err(stopped)) = self.capture.take().map(Writer::finish) {
            tell(&stopped);
        }
    }

    fn show(&mut self) -> Result<()> {
        for outcome in self.outcomes.drain(..) {
            self.tally.outcome(&outcome);
            for sink in &mut self.sinks {
                sink.outcome(&self.session, &outcome).context("cannot write to standard output")?;
            }
        }
        Ok(())
    }
}

impl Drop for Pipeline {
    /// Also a trace that ends since nobody reads its output leaves a whole capture.
    fn drop(&mut self) {
        self.close();
    }
}

/// Says why there is no capture from here on.
fn tell(stopped: &Stopped) {
    // Whoever closed standard error does not want to know.
    let _ = writeln!(io::stderr(), "ngx502: {stopped}");
}
