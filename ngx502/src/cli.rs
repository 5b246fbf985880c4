//! The command tree. The options of most commands are described beside what they do, in `ngx502::commands`.

mod pages;

use clap::{ArgAction, Parser, Subcommand};
use clap_complete::Shell;
use ngx502::commands::{chart, doctor, export, replay, report, trace};

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
    Trace(trace::Options),
    /// Print the verdicts of captures as `trace` would; captures of several hosts are merged by time.
    Replay(replay::Options),
    /// Summarize captures: causes, timeline, upstreams and latency, as text, JSON or a single HTML page.
    Report(replay::Conversion<report::Format>),
    /// Draw captures as SVG or PNG: causes over time, upstreams, latency and its percentiles.
    Chart(chart::Options),
    /// Convert captures to JSON Lines, CSV or Parquet, one row per verdict.
    Export(replay::Conversion<export::Format>),
    /// Check which probes work with this kernel and nginx, and what is lost without the missing ones.
    Doctor(doctor::Options),
    /// Explain a symptom or cause: what it means, how to confirm it and how to fix it.
    Explain {
        /// A symptom or cause, e.g. connect-refused. Default: list all of them.
        name: Option<String>,
    },
    /// Print the manual page, in roff.
    Man {
        /// A command, e.g. trace, for its own page. Default: the overview.
        command: Option<String>,
    },
    /// Print a completion script for a shell.
    Completions {
        /// The shell to generate completions for.
        shell: Shell,
    },
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::CommandFactory;

    use ngx502::attribute::verdict::Cause;
    use ngx502::capture;

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
        assert_eq!(trace.statuses, Some(vec![502, 504]));
    }

    #[test]
    fn a_capture_is_bounded_by_default() {
        let Command::Trace(trace) = parse(&["trace", "-o", "x", "--max-files", "3"]) else {
            panic!("not trace")
        };
        let capture::Options { max_size, max_files, .. } = trace.retention;
        assert_eq!((max_size, max_files), (Some(1 << 30), 3));
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
        assert_eq!(replay.captures.filter.causes, [Cause::Killed, Cause::Dns]);
        assert_eq!(replay.captures.filter.since, Some("2026-11-21T02:00:00Z".parse().expect("a time")));
        assert!(Cli::try_parse_from(["ngx502", "replay", "a", "--cause", "gremlins"]).is_err());
        assert!(Cli::try_parse_from(["ngx502", "replay"]).is_err(), "a replay of nothing");
    }
}
