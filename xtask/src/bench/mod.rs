//! `cargo xtask bench`: what tracing costs nginx, and what it costs itself.
//!
//! Every figure is a comparison within one run on one machine: untraced and traced runs alternate ([`rounds`]), and
//! bpftrace, strace and bcc's tools run beside ngx502. How the processes are placed says [`bed`].

mod bed;
mod endurance;
mod hooks;
mod machine;
mod page;
mod replay;
mod rounds;
mod scenario;
mod tool;
mod usage;
mod wrk;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use bed::Bed;
use page::Results;
use scenario::Scenario;
use tool::Tool;

use crate::setup::{self, Task};
use crate::{build, exec};

/// A measurement of its own.
#[derive(clap::Subcommand)]
enum Only {
    /// Only the speed of `replay` and `report`; needs neither root nor nginx.
    Replay(replay::Args),
}

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    only: Option<Only>,
    /// Only these loads; all by default.
    #[arg(long = "scenario", value_enum, value_delimiter = ',')]
    scenarios: Vec<Scenario>,
    /// Only these tracers; all by default.
    #[arg(long = "tool", value_enum, value_delimiter = ',')]
    tools: Vec<Tool>,
    /// Traced runs a load.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Traced runs a load for bpftrace, strace and bcc's tools.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rival_rounds: u32,
    /// How long a run lasts, in whole seconds: 3s.
    #[arg(long, default_value = "3s", value_parser = parse_seconds)]
    time: Duration,
    /// Watch memory over so many requests, of one load after the other: 10000000.
    #[arg(long, value_name = "REQUESTS")]
    soak: Option<u64>,
    /// Nothing but the long run of --soak.
    #[arg(long, requires = "soak")]
    only_soak: bool,
    /// How long the idle tracer is watched. 0s leaves it out.
    #[arg(long, default_value = "10s", value_parser = parse_seconds)]
    idle: Duration,
    /// Leave out the run time of each BPF program.
    #[arg(long)]
    no_hooks: bool,
    /// Take it that all programs are installed.
    #[arg(long)]
    no_setup: bool,
    /// Leave out the speed of `replay` and `report`.
    #[arg(long)]
    no_replay: bool,
    /// Only print; docs/performance.md stays as it is.
    #[arg(long, global = true)]
    no_write: bool,
    /// This ngx502 in place of the workspace's release build.
    #[arg(long, value_name = "PATH", global = true)]
    binary: Option<PathBuf>,
}

/// Measures, prints and writes the results.
///
/// # Errors
/// When ngx502 or the load fails, or a verdict is missing; a rival that fails is only noted.
pub(crate) fn run(args: &Args) -> Result<()> {
    if !args.no_setup {
        setup::ensure(Task::Bench)?;
    }
    let binary = match &args.binary {
        Some(path) => fs::canonicalize(path).with_context(|| format!("{path:?} is not there"))?,
        None => build::release()?,
    };
    if let Some(Only::Replay(replay)) = args.only {
        return bench_replay(args, replay, &binary);
    }
    if !nix::unistd::geteuid().is_root() {
        bail!("tracing needs root; run `sudo --preserve-env cargo xtask bench`");
    }
    mount_tracefs();
    let results = measure(args, &binary)?;
    put(args, &results.sections())?;
    if !args.no_replay {
        bench_replay(args, replay::Args::default(), &binary)?;
    }
    if let Some(soak) = results.soak.as_ref().filter(|soak| soak.cost.verdicts != soak.failures) {
        bail!("the long run: {} verdicts for {} 502s; each must have one", soak.cost.verdicts, soak.failures);
    }
    let incomplete = results.comparisons.iter().find(|one| one.tool.is_judged() && !one.is_complete());
    match incomplete {
        Some(one) => {
            let (verdicts, failures, _) = one.reported();
            bail!("{}: {verdicts} verdicts for {failures} 502s; each round must have one each", one.scenario)
        }
        None => Ok(()),
    }
}

fn bench_replay(args: &Args, replay: replay::Args, binary: &Path) -> Result<()> {
    let machine = machine::describe()?;
    let figures = replay::measure(replay, binary)?;
    put(args, &[("bench replay", figures.to_markdown(&machine))])
}

/// Shows sections, and writes them unless that is not wanted.
fn put(args: &Args, sections: &[(&str, String)]) -> Result<()> {
    sections.iter().for_each(|(_, section)| println!("{section}"));
    if args.no_write { Ok(()) } else { write(sections) }
}

/// Puts sections into `docs/performance.md`, each in the place of its name.
///
/// # Errors
/// When the page cannot be written.
pub(crate) fn write(sections: &[(&str, String)]) -> Result<()> {
    let path = exec::workspace().join("docs/performance.md");
    let page = fs::read_to_string(&path).unwrap_or_else(|_| "# Performance\n".to_owned());
    let page = sections.iter().fold(page, |page, (name, section)| page::insert(&page, name, section));
    fs::write(&path, page).with_context(|| format!("{path:?} cannot be written"))
}

fn measure(args: &Args, binary: &Path) -> Result<Results> {
    let bed = Bed::start()?;
    let mut results = Results { machine: machine::describe()?, method: args.method(), ..Results::default() };
    if let Some(requests) = args.soak {
        results.soak = Some(endurance::soak(&bed, binary, requests)?);
    }
    if args.only_soak {
        return Ok(results);
    }
    for tool in args.tools(binary)? {
        let program = if tool.is_ours() { binary } else { Path::new(tool.name()) };
        let rounds = if tool.is_ours() { args.rounds } else { args.rival_rounds };
        for scenario in args.scenarios() {
            match rounds::compare(&bed, scenario, (tool, program), rounds, args.time) {
                Ok(comparison) => results.comparisons.push(comparison),
                Err(error) if !tool.is_ours() => {
                    results.missing.push(format!("{scenario} with {}: {error:#}", tool.name()));
                }
                Err(error) => return Err(error.context(format!("{scenario} with {}", tool.name()))),
            }
        }
    }
    // The reader compares tools on one load.
    results.comparisons.sort_by_key(|one| (one.scenario as u8, one.tool as u8));
    if !args.no_hooks {
        for scenario in args.scenarios() {
            results.hooks.push((scenario, hooks::measure(&bed, scenario, binary, args.time)?));
        }
    }
    if !args.idle.is_zero() {
        results.idle = Some(endurance::idle(&bed, binary, args.idle)?);
    }
    Ok(results)
}

impl Args {
    fn scenarios(&self) -> Vec<Scenario> {
        if self.scenarios.is_empty() { Scenario::value_variants().to_vec() } else { self.scenarios.clone() }
    }

    /// The tracers wanted; `--no-latency` only where ngx502 has it.
    fn tools(&self, binary: &Path) -> Result<Vec<Tool>> {
        if !self.tools.is_empty() {
            return Ok(self.tools.clone());
        }
        let help = exec::read(Command::new(binary).args(["trace", "--help"]))?;
        let has_no_latency = help.contains("--no-latency");
        let all = Tool::value_variants().iter().copied();
        Ok(all.filter(|tool| *tool != Tool::NoLatency || has_no_latency).collect())
    }

    fn method(&self) -> String {
        format!(
            "Traced runs of {} s alternate with untraced ones; {} rounds ({} for tools that are not ours); {} connections; \
             traced divided by the mean of its two neighbours: median (first–third quartile).",
            self.time.as_secs(),
            self.rounds,
            self.rival_rounds,
            wrk::CONNECTIONS,
        )
    }
}

/// bpftrace finds tracepoints there and does not mount it itself. Where it cannot be mounted, bpftrace says so.
fn mount_tracefs() {
    let target = "/sys/kernel/tracing";
    if !Path::new(target).join("events").exists() {
        let flags = nix::mount::MsFlags::empty();
        if let Err(error) = nix::mount::mount(Some("tracefs"), target, Some("tracefs"), flags, None::<&str>) {
            eprintln!("{target} cannot be mounted, so bpftrace will not run: {error}");
        }
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.strip_suffix('s').unwrap_or(text).parse();
    seconds.map(Duration::from_secs).map_err(|_| format!("`{text}` is no number of whole seconds; write 3s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_whole_seconds() {
        assert_eq!(parse_seconds("120s"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_seconds("3"), Ok(Duration::from_secs(3)));
        assert!(parse_seconds("1.5s").is_err());
        assert!(parse_seconds("2m").is_err());
    }
}
