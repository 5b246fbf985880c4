//! What a live trace does with its records: capture them, attribute, show.

use std::io::{self, BufWriter, Write as _};

use anyhow::Result;

use super::super::driver::{Driver, Shown, Watcher, tell_forgotten};
use super::Options;
use crate::attribute::verdict::Outcome;
use crate::capture::{Stopped, Writer};
use crate::event::{Latency, Nanos, Record};
use crate::filter::Filter;
use crate::session::Session;

/// Attribution, and what its outcomes and records go to.
pub(super) struct Pipeline {
    driver: Driver,
    rim: Rim,
}

/// Where a live trace ends: the capture of what attribution is fed, and the sink.
struct Rim {
    capture: Option<Writer>,
    shown: Shown,
}

impl Pipeline {
    /// Begins the capture, if one is asked for.
    ///
    /// # Errors
    /// When its file cannot be created.
    pub(super) fn new(session: Session, options: &Options) -> Result<Self> {
        let out = BufWriter::with_capacity(1 << 16, io::stdout());
        let capture = match &options.capture {
            Some(capture) => Some(Writer::create(&capture.path, &session, capture.options)?),
            None => None,
        };
        let shown = Shown::new(options.output.sink(out, false));
        Ok(Self { driver: Driver::new(session, Filter::default()), rim: Rim { capture, shown } })
    }

    /// Says that everything is attached.
    pub(super) fn ready(&mut self) -> Result<()> {
        self.rim.shown.ready(self.driver.session())
    }

    /// Takes the next record in live order.
    pub(super) fn push(&mut self, record: Record) -> Result<()> {
        self.driver.push(record, &mut self.rim)
    }

    /// Hands on what was shown so far.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.rim.shown.flush()
    }

    /// Shows the latency of all upstream requests so far; `uncounted` is what the records will tell later.
    pub(super) fn latency(&mut self, now: Nanos, uncounted: Option<&Latency>) -> Result<()> {
        self.rim.shown.latency(self.driver.session(), now, uncounted)
    }

    /// Closes the capture, shows what is left and the summary.
    pub(super) fn finish(mut self) -> Result<()> {
        self.rim.close();
        self.driver.finish(&mut self.rim)?;
        tell_forgotten([&self.driver]);
        self.rim.shown.finish(self.driver.session())
    }
}

impl Rim {
    /// Does something with the capture; when that fails it is told, and the trace goes on without.
    fn capture(&mut self, work: impl FnOnce(&mut Writer) -> Result<(), Stopped>) {
        if let Some(Err(stopped)) = self.capture.as_mut().map(work) {
            self.capture = None;
            tell(&stopped);
        }
    }

    fn close(&mut self) {
        if let Some(Err(stopped)) = self.capture.take().map(Writer::finish) {
            tell(&stopped);
        }
    }
}

impl Watcher for Rim {
    fn record(&mut self, session: &Session, record: &Record) -> Result<()> {
        self.capture(|capture| capture.record(record));
        self.shown.record(session, record)
    }

    fn outcome(&mut self, session: &Session, outcome: &Outcome) -> Result<()> {
        self.shown.outcome(session, outcome)
    }

    fn tick(&mut self, session: &Session, at: Nanos) -> Result<()> {
        self.capture(|capture| capture.tick(at));
        self.shown.tick(session, at)
    }
}

impl Drop for Rim {
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
