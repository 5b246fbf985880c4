//! From what was typed to what is meant.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use ngx502::capture::{self, Retention};
use ngx502::commands::replay::{self, Captures, Conversion};
use ngx502::commands::{chart, export, report, trace};
use ngx502::filter::Filter;
use ngx502::output::Destination;
use ngx502::sink::options::{Format, OutputOptions};
use ngx502::sink::terminal::Detail;

use super::{
    CaptureArgs, CapturesArgs, ChartArgs, ExportArgs, OutputArgs, ReplayArgs, ReportArgs, TraceArgs,
};

/// The format asked for; else text for a terminal and JSON for anything else.
pub(crate) fn format_or_default(format: Option<Format>) -> Format {
    format.unwrap_or(if io::stdout().is_terminal() { Format::Human } else { Format::Json })
}

/// Whether text may have colours.
pub(crate) fn use_color() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn output(format: Option<Format>, quiet: bool, verbose: u8) -> OutputOptions {
    let detail = match (quiet, verbose) {
        (true, _) => Detail::Quiet,
        (false, 0) => Detail::Normal,
        (false, _) => Detail::Verbose,
    };
    OutputOptions { format: format_or_default(format), color: use_color(), detail }
}

impl TraceArgs {
    /// The trace that is meant.
    pub(crate) fn options(self, verbose: u8) -> trace::Options {
        trace::Options {
            output: output(self.format, self.quiet, verbose),
            pids: self.pids,
            statuses: (!self.status.is_empty()).then_some(self.status),
            passthrough: self.passthrough,
            no_latency: self.no_latency,
            interval: self.interval,
            duration: self.duration,
            with_query: self.with_query,
            verbose: verbose > 0,
            command: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
            capture: self.capture.options(),
        }
    }
}

impl CaptureArgs {
    fn options(self) -> Option<trace::CaptureOptions> {
        let CaptureArgs { output, force, max_size, max_files } = self;
        let retention = Retention { max_size: Some(max_size), max_files };
        output.map(|path| trace::CaptureOptions { path, options: capture::Options { force, retention } })
    }
}

impl CapturesArgs {
    fn captures(self) -> Captures {
        let CapturesArgs { files, cause, symptom, upstream, host, since, until, with_query } = self;
        let filter =
            Filter { causes: cause, symptoms: symptom, upstreams: upstream, hosts: host, since, until };
        Captures { files, filter, with_query }
    }
}

impl OutputArgs {
    fn destination(self) -> Option<Destination> {
        self.output.map(|path| destination(path, self.force))
    }
}

fn destination(path: PathBuf, force: bool) -> Destination {
    Destination { path, force }
}

impl ReplayArgs {
    /// The replay that is meant.
    pub(crate) fn options(self, verbose: u8) -> replay::Options {
        let output = output(self.format, self.quiet, verbose);
        replay::Options { captures: self.captures.captures(), output }
    }
}

impl ReportArgs {
    /// The report that is meant.
    pub(crate) fn options(self) -> Conversion<report::Format> {
        let ReportArgs { captures, format, output } = self;
        Conversion { captures: captures.captures(), format, output: output.destination() }
    }
}

impl ChartArgs {
    /// The chart that is meant.
    pub(crate) fn options(self) -> chart::Options {
        let ChartArgs { captures, kind, output, force } = self;
        chart::Options { captures: captures.captures(), kind, output: destination(output, force) }
    }
}

impl ExportArgs {
    /// The export that is meant.
    pub(crate) fn options(self) -> Conversion<export::Format> {
        let ExportArgs { captures, format, output } = self;
        Conversion { captures: captures.captures(), format, output: output.destination() }
    }
}
