//! What a user types: one struct a command. What it means to `commands` is in `meaning`.

mod meaning;
mod pages;
mod values;

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand};
use clap_complete::Shell;
use jiff::Timestamp;
use ngx502::attribute::verdict::{Cause, Symptom};
use ngx502::commands::{export, report};
use ngx502::report::chart::Kind;
use ngx502::sink::options::Format;

pub(crate) use self::meaning::{format_or_default, use_color};
pub(crate) use self::pages::{completions, man};

/// Explains every 502 and 504 of a live nginx: names the process that failed, how it failed, and what caused it.
#[derive(Debug, Parser)]
#[command(name = "ngx502", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// Show more, with diagnostics on stderr; repeat (-vv) for BPF loader and verifier logs.
    #[arg(short, long, action = ArgAction::Count, global = true, display_order = 900)]
    pub(crate) verbose: u8,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Attach to nginx and explain every failed upstream request as it happens.
    Trace(TraceArgs),
    /// Print the verdicts of captures as `trace` would; captures of several hosts are merged by time.
    Replay(ReplayArgs),
    /// Summarize captures: causes, timeline, upstreams and latency, as text, JSON or a single HTML page.
    Report(ReportArgs),
    /// Draw captures as SVG or PNG: causes over time, upstreams, latency and its percentiles.
    Chart(ChartArgs),
    /// Convert captures to JSON Lines, CSV or Parquet, one row per verdict.
    Export(ExportArgs),
    /// Check which probes work with this kernel and nginx, and what is lost without the missing ones.
    Doctor(DoctorArgs),
    /// Explain a symptom or cause: what it means, how to confirm it and how to fix it.
    Explain(ExplainArgs),
    /// Print the manual page, in roff.
    Man(ManArgs),
    /// Print a completion script for a shell.
    Completions(CompletionsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    /// Output format. Default: human on a terminal, json otherwise.
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
    /// Trace only this nginx master (with its workers) or worker; repeatable. Default: every nginx on the host,
    /// including those in containers and those started later.
    #[arg(long = "pid", value_name = "PID")]
    pub(crate) pids: Vec<u32>,
    /// Report only these statuses, e.g. 502,504. Default: every failed upstream request.
    #[arg(long, value_delimiter = ',', value_name = "STATUS", value_parser = clap::value_parser!(u16).range(200..600))]
    pub(crate) status: Vec<u16>,
    /// Also report 502s and 504s that the upstream itself returned. This puts a probe on every response (about
    /// 1.5 µs each), so it is off by default.
    #[arg(long)]
    pub(crate) passthrough: bool,
    /// Print upstream latency at this interval, e.g. 10s or 1m. Default: at the end, and on SIGUSR1.
    #[arg(long, value_parser = values::duration, value_name = "TIME", conflicts_with = "no_latency")]
    pub(crate) interval: Option<Duration>,
    /// Do not measure latency (removes the probe on the success path).
    #[arg(long)]
    pub(crate) no_latency: bool,
    /// Stop after this time, e.g. 30s, 5m or 1h.
    #[arg(long, value_parser = values::duration, value_name = "TIME")]
    pub(crate) duration: Option<Duration>,
    /// Keep query strings in URIs. They often contain personal data.
    #[arg(long)]
    pub(crate) with_query: bool,
    /// Print one line per verdict.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) capture: CaptureArgs,
}

/// The capture beside what is shown.
#[derive(Debug, Args)]
pub(crate) struct CaptureArgs {
    /// Also record a capture to this file, for `replay`, `report`, `chart` and `export`.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Overwrite an existing file.
    #[arg(long, requires = "output")]
    pub(crate) force: bool,
    /// Rotate the capture at this size, e.g. 500M or 1G (FILE.1 is the newest rotated file).
    #[arg(long, requires = "output", value_parser = values::size, value_name = "SIZE", default_value = "1G")]
    pub(crate) max_size: u64,
    /// Keep at most this many files of the capture; the oldest is deleted first.
    #[arg(long, requires = "output", value_parser = clap::value_parser!(u32).range(1..=1000), value_name = "N",
          default_value_t = 8)]
    pub(crate) max_files: u32,
}

/// Which captures, and what of them.
#[derive(Debug, Args)]
pub(crate) struct CapturesArgs {
    /// Captures written by `trace -o`.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Only these causes, e.g. oom-killed,queue-full.
    #[arg(long, value_delimiter = ',', value_name = "CAUSE")]
    pub(crate) cause: Vec<Cause>,
    /// Only these symptoms, e.g. connect-refused.
    #[arg(long, value_delimiter = ',', value_name = "SYMPTOM")]
    pub(crate) symptom: Vec<Symptom>,
    /// Only this upstream, as nginx names it, e.g. 127.0.0.1:9000 or unix:/run/x.sock; repeatable.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) upstream: Vec<String>,
    /// Only verdicts of this host; repeatable.
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Vec<String>,
    /// Only verdicts at or after this time, e.g. 2026-11-21T02:00:00Z (UTC if no offset is given).
    #[arg(long, value_parser = values::moment, value_name = "TIME")]
    pub(crate) since: Option<Timestamp>,
    /// Only verdicts before this time.
    #[arg(long, value_parser = values::moment, value_name = "TIME")]
    pub(crate) until: Option<Timestamp>,
    /// Show query strings, if the trace kept them.
    #[arg(long)]
    pub(crate) with_query: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    pub(crate) captures: CapturesArgs,
    /// Output format. Default: human on a terminal, json otherwise.
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
    /// Print one line per verdict.
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// Where a report or export goes.
#[derive(Debug, Args)]
pub(crate) struct OutputArgs {
    /// Write to this file instead of stdout; its extension selects the format.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Overwrite an existing file.
    #[arg(long, requires = "output")]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    #[command(flatten)]
    pub(crate) captures: CapturesArgs,
    /// Output format. Default: by the output's extension, else text.
    #[arg(long, value_enum)]
    pub(crate) format: Option<report::Format>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ChartArgs {
    #[command(flatten)]
    pub(crate) captures: CapturesArgs,
    /// What to draw.
    #[arg(long, value_enum, default_value = "all")]
    pub(crate) kind: Kind,
    /// Write the chart to this file; the extension is .svg or .png.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Overwrite an existing file.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) captures: CapturesArgs,
    /// Output format. Default: by the output's extension, else jsonl.
    #[arg(long, value_enum)]
    pub(crate) format: Option<export::Format>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Trace for this long (default 3s) and show what each BPF program costs: runs per second, time per run, share of
    /// one CPU. While it measures, the kernel's statistics cost every BPF program on the machine about 20 ns per run.
    #[arg(long, value_parser = values::duration, value_name = "TIME", num_args = 0..=1, default_missing_value = "3s",
          require_equals = true)]
    pub(crate) cost: Option<Duration>,
    /// Output format. Default: human on a terminal, json otherwise.
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// A symptom or cause, e.g. connect-refused. Default: list all of them.
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// A command, e.g. trace, for its own page. Default: the overview.
    pub(crate) command: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell to generate completions for.
    pub(crate) shell: Shell,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(words: &[&str]) -> Command {
        Cli::try_parse_from([&["ngx502"], words].concat()).expect("valid").command
    }

    #[test]
    fn the_command_tree_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn statuses_are_a_list() {
        let Command::Trace(trace) = parse(&["trace", "--status", "502,504"]) else { panic!("not trace") };
        assert_eq!(trace.status, [502, 504]);
    }

    #[test]
    fn a_capture_is_bounded_by_default() {
        let Command::Trace(trace) = parse(&["trace", "-o", "x", "--max-files", "3"]) else {
            panic!("not trace")
        };
        assert_eq!((trace.capture.max_size, trace.capture.max_files), (1 << 30, 3));
        assert!(Cli::try_parse_from(["ngx502", "trace", "--force"]).is_err(), "--force of what?");
    }

    #[test]
    fn the_cost_is_measured_for_three_seconds_by_default() {
        let cost = |words: &[&str]| {
            let Command::Doctor(doctor) = parse(words) else { panic!("not doctor") };
            doctor.cost
        };
        assert_eq!(cost(&["doctor"]), None);
        assert_eq!(cost(&["doctor", "--cost"]), Some(Duration::from_secs(3)));
        assert_eq!(cost(&["doctor", "--cost=500ms"]), Some(Duration::from_millis(500)));
    }

    #[test]
    fn filters_name_causes_and_times() {
        let words = ["replay", "a", "b", "--cause", "killed,dns", "--since", "2026-11-21T02:00"];
        let Command::Replay(replay) = parse(&words) else { panic!("not replay") };
        assert_eq!(replay.captures.cause, [Cause::Killed, Cause::Dns]);
        assert_eq!(replay.captures.since, Some("2026-11-21T02:00:00Z".parse().expect("a time")));
        assert!(Cli::try_parse_from(["ngx502", "replay", "a", "--cause", "gremlins"]).is_err());
        assert!(Cli::try_parse_from(["ngx502", "replay"]).is_err(), "a replay of nothing");
    }
}
