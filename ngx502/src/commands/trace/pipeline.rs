//! What a live trace does with its records: capture them, attribute, show.

use std::io::{self, BufWriter, Write as _};

use anyhow::Result;

use super::super::driver::{Driver, Printer, Watcher, warn_forgotten};
use super::Options;
use crate::attribute::verdict::Outcome;
use crate::capture::{Stopped, Writer};
use crate::event::{Latency, Nanos, Record};
use crate::filter::Filter;
use crate::session::Session;

/// Attribution, and where its records and outcomes go.
pub(super) struct Pipeline {
    driver: Driver,
    outputs: Outputs,
}

/// The capture of the records, if one is asked for, and what prints their outcomes.
struct Outputs {
    capture: Option<Writer>,
    printer: Printer,
}

impl Pipeline {
    /// Begins the capture, if one is asked for.
    ///
    /// # Errors
    /// When its file cannot be created.
    pub(super) fn new(session: Session, options: &Options, verbose: u8) -> Result<Self> {
        let out = BufWriter::with_capacity(1 << 16, io::stdout());
        let capture = match &options.capture {
            Some(path) => Some(Writer::create(path, &session, options.retention)?),
            None => None,
        };
        let output = super::super::output(options.format, options.quiet, verbose);
        let printer = Printer::new(output.sink(out, false));
        Ok(Self { driver: Driver::new(session, Filter::default()), outputs: Outputs { capture, printer } })
    }

    /// Says that everything is attached.
    pub(super) fn ready(&mut self) -> Result<()> {
        self.outputs.printer.ready(self.driver.session())
    }

    /// Takes the next record in live order.
    pub(super) fn push(&mut self, record: Record) -> Result<()> {
        self.driver.push(record, &mut self.outputs)
    }

    /// Hands on what was shown so far.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.outputs.printer.flush()
    }

    /// Shows the latency of all upstream requests so far; `uncounted` is what the records will tell later.
    pub(super) fn latency(&mut self, now: Nanos, uncounted: Option<&Latency>) -> Result<()> {
        self.outputs.printer.latency(self.driver.session(), now, uncounted)
    }

    /// Closes the capture, shows what is left and the summary.
    pub(super) fn finish(mut self) -> Result<()> {
        self.outputs.close();
        self.driver.finish(&mut self.outputs)?;
        warn_forgotten([&self.driver]);
        self.outputs.printer.finish(self.driver.session())
    }
}

impl Outputs {
    /// Does something with the capture; when that fails, the trace says so and goes on without.
    fn capture(&mut self, work: impl FnOnce(&mut Writer) -> Result<(), Stopped>) {
        if let Some(Err(stopped)) = self.capture.as_mut().map(work) {
            self.capture = None;
            warn_stopped(&stopped);
        }
    }

    fn close(&mut self) {
        if let Some(Err(stopped)) = self.capture.take().map(Writer::finish) {
            warn_stopped(&stopped);
        }
    }
}

impl Watcher for Outputs {
    fn record(&mut self, session: &Session, record: &Record) -> Result<()> {
        self.capture(|capture| capture.record(record));
        self.printer.record(session, record)
    }

    fn outcome(&mut self, session: &Session, outcome: &Outcome) -> Result<()> {
        self.printer.outcome(session, outcome)
    }

    fn tick(&mut self, session: &Session, at: Nanos) -> Result<()> {
        self.capture(|capture| capture.tick(at));
        self.printer.tick(session, at)
    }
}

impl Drop for Outputs {
    /// Also a trace that ends since nobody reads its output leaves a whole capture.
    fn drop(&mut self) {
        self.close();
    }
}

/// Says why there is no capture from here on.
fn warn_stopped(stopped: &Stopped) {
    // Whoever closed standard error does not want to know.
    let _ = writeln!(io::stderr(), "ngx502: {stopped}");
}
