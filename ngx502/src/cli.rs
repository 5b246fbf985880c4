//! What a user types: one struct a command. What it means to `commands` is in `meaning`.

mod meaning;
mod pages;
mod values;

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use jiff::Timestamp;
use ngx502::attribute::verdict::{Cause, Symptom};
use ngx502::commands::{export, report};
use ngx502::report::chart::Kind;

pub(crate) use self::meaning::{is_json, use_color};
pub(crate) use self::pages::{completions, man};

/// Explains every 502 and 504 of a live nginx: which process died or said no, how, and by whose hand.
#[derive(Debug, Parser)]
#[command(name = "ngx502", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// Diagnostics on standard error; twice for the verifier's and the loader's.
    #[arg(short, long, action = ArgAction::Count, global = true)]
    pub(crate) verbose: u8,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Attach to nginx and explain every failed upstream request as it happens.
    Trace(TraceArgs),
    /// Print what `trace` printed, from captures; several hosts' are merged by time.
    Replay(ReplayArgs),
    /// The postmortem of captures: causes, timeline, upstreams, latency; as text, JSON or one HTML page.
    Report(ReportArgs),
    /// Draw captures: causes over time, upstreams, latency, its percentiles; as SVG or PNG.
    Chart(ChartArgs),
    /// The verdicts of captures for other engines: JSON lines, CSV or Parquet.
    Export(ExportArgs),
    /// What this kernel and this nginx allow, and which verdicts a missing probe costs.
    Doctor(DoctorArgs),
    /// What a symptom or cause means, how to confirm it and how to fix it.
    Explain(ExplainArgs),
    /// Print the manual page, in roff.
    Man(ManArgs),
    /// Print a completion script for a shell.
    Completions(CompletionsArgs),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    /// human on a terminal, json otherwise.
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
    /// Only this nginx master (with its workers) or worker; repeatable. Default: every nginx on the host, in
    /// containers too, and those started later.
    #[arg(long = "pid", value_name = "PID")]
    pub(crate) pids: Vec<u32>,
    /// Only these statuses, e.g. 502,504. Default: every failed upstream request.
    #[arg(long, value_delimiter = ',', value_name = "STATUS", value_parser = clap::value_parser!(u16).range(200..600))]
    pub(crate) status: Vec<u16>,
    /// Also report 502s and 504s that the upstream itself answered. Seeing them takes a probe on every response
    /// (about 1.5 µs each), so it is off by default.
    #[arg(long)]
    pub(crate) passthrough: bool,
    /// Show the latency of all upstream requests this often: 10s, 1m. Default: at the end, and on SIGUSR1.
    #[arg(long, value_parser = values::duration, value_name = "TIME", conflicts_with = "no_latency")]
    pub(crate) interval: Option<Duration>,
    /// Do without the latency of successful requests, and the hook on the success path that it takes.
    #[arg(long)]
    pub(crate) no_latency: bool,
    /// End after this long: 30s, 5m, 1h.
    #[arg(long, value_parser = values::duration, value_name = "TIME")]
    pub(crate) duration: Option<Duration>,
    /// Keep query strings in URIs; they often hold personal data.
    #[arg(long)]
    pub(crate) with_query: bool,
    /// One line a verdict.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) capture: CaptureArgs,
}

/// The capture beside what is shown.
#[derive(Debug, Args)]
pub(crate) struct CaptureArgs {
    /// Also capture everything into this file, for `replay`, `report`, `chart` and `export`.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Replace a file that is there.
    #[arg(long, requires = "output")]
    pub(crate) force: bool,
    /// At this size the capture goes on in a new file: FILE.1 is the latest before it, then FILE.2 and so on.
    #[arg(long, requires = "output", value_parser = values::size, value_name = "SIZE", default_value = "1G")]
    pub(crate) max_size: u64,
    /// Files of a capture that are kept; the oldest goes first.
    #[arg(long, requires = "output", value_parser = clap::value_parser!(u32).range(1..=1000), value_name = "N",
          default_value_t = 8)]
    pub(crate) max_files: u32,
}

/// Which captures, and what of them.
#[derive(Debug, Args)]
pub(crate) struct CapturesArgs {
    /// Captures that `trace -o` wrote.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Only these causes, e.g. oom-killed,queue-full.
    #[arg(long, value_delimiter = ',', value_name = "CAUSE")]
    pub(crate) cause: Vec<Cause>,
    /// Only these symptoms, e.g. connect-refused.
    #[arg(long, value_delimiter = ',', value_name = "SYMPTOM")]
    pub(crate) symptom: Vec<Symptom>,
    /// Only this upstream as nginx names it, e.g. 127.0.0.1:9000 or unix:/run/x.sock; repeatable.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) upstream: Vec<String>,
    /// Only what was traced on this host; repeatable.
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Vec<String>,
    /// Not before this: 2026-11-21T02:00:00Z; without an offset, UTC.
    #[arg(long, value_parser = values::moment, value_name = "TIME")]
    pub(crate) since: Option<Timestamp>,
    /// Before this.
    #[arg(long, value_parser = values::moment, value_name = "TIME")]
    pub(crate) until: Option<Timestamp>,
    /// Show query strings, where the trace kept them.
    #[arg(long)]
    pub(crate) with_query: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    pub(crate) captures: CapturesArgs,
    /// human on a terminal, json otherwise.
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
    /// One line a verdict.
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// Where a report or export goes.
#[derive(Debug, Args)]
pub(crate) struct OutputArgs {
    /// Write to this file instead of standard output; its name can tell the format.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Replace a file that is there.
    #[arg(long, requires = "output")]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    #[command(flatten)]
    pub(crate) captures: CapturesArgs,
    /// text, json or html. Default: by the output's name, else text.
    #[arg(long)]
    pub(crate) format: Option<report::Format>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ChartArgs {
    #[command(flatten)]
    pub(crate) captures: CapturesArgs,
    /// all, causes, upstreams, latency or percentiles.
    #[arg(long, default_value = "all")]
    pub(crate) kind: Kind,
    /// The picture; its name ends in .svg or .png.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Replace a file that is there.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) captures: CapturesArgs,
    /// jsonl, csv or parquet. Default: by the output's name, else jsonl.
    #[arg(long)]
    pub(crate) format: Option<export::Format>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Trace for this long (3s unless told) and say what each BPF program costs: runs a second, time a run, share of
    /// one CPU. The kernel counts run times meanwhile, which costs every BPF program on the machine some 20 ns a run.
    #[arg(long, value_parser = values::duration, value_name = "TIME", num_args = 0..=1, default_missing_value = "3s",
          require_equals = true)]
    pub(crate) cost: Option<Duration>,
    /// human on a terminal, json otherwise.
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// A symptom or cause, e.g. connect-refused; without it, all of them in one line each.
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
    fn a_capture_is_bounded_unless_told_otherwise() {
        let Command::Trace(trace) = parse(&["trace", "-o", "x", "--max-files", "3"]) else {
            panic!("not trace")
        };
        assert_eq!((trace.capture.max_size, trace.capture.max_files), (1 << 30, 3));
        assert!(Cli::try_parse_from(["ngx502", "trace", "--force"]).is_err(), "--force of what?");
    }

    #[test]
    fn the_cost_is_measured_for_three_seconds_unless_told() {
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
