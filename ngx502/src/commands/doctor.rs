//! `ngx502 doctor`: what this kernel and this nginx allow, which verdicts a missing probe costs, and on demand how much
//! time the probes take.

mod cost;
mod text;

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;

use crate::{
    escape,
    event::Pid,
    kernel::{
        load::{Kernel, ObservationState, Refused},
        preflight,
        providers::{self, Uprobe},
    },
    nginx::{
        LOG_LIMIT, Memory, binary::Binary, discover, discover::NginxProcess, is_debug, layout, load_bias,
    },
    privileges,
    sink::options::Format,
    values,
};

/// What to measure and how to show it.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Trace for this long (default 3s) and show what each BPF program costs: runs per second, time per run, share of
    /// one CPU. While it measures, the kernel's statistics cost every BPF program on the machine about 20 ns per run.
    #[arg(long, value_parser = values::duration, value_name = "TIME", num_args = 0..=1,
          default_missing_value = "3s", require_equals = true)]
    pub cost: Option<Duration>,
    /// Output format. Default: human on a terminal, json otherwise.
    #[arg(long, value_enum)]
    format: Option<Format>,
}

/// Where a function is probed.
#[derive(Debug, Serialize)]
struct Point {
    /// Bytes behind the function's beginning.
    offset: u64,
    /// Traps a hit: one where the kernel emulates the instruction there, else two.
    traps: u8,
}

/// One line of the diagnosis; as JSON, `type` comes first.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Finding {
    /// An observation of the kernel.
    #[serde(rename = "signal")]
    Observation {
        /// Its name.
        name: &'static str,
        /// The hook in use; `null` when none attaches.
        provider: Option<&'static str>,
        /// Hooks tried before, each with the reason why it is not available.
        tried: Vec<Refused>,
        /// What is lost without it; `null` when nothing is.
        costs: Option<&'static str>,
    },
    /// An nginx executable that runs.
    Nginx {
        /// Path in its own root.
        exe: String,
        /// What it calls itself.
        version: Option<String>,
        /// Its processes.
        pids: Vec<u32>,
        /// Functions that can be probed.
        probes: Vec<&'static str>,
        /// Where in each of them, in the same order.
        probe_points: Vec<Point>,
        /// What is missing and what that costs, in sentences.
        problems: Vec<String>,
        /// Where the struct layout comes from.
        layout: String,
    },
    /// What one BPF program cost while it was watched.
    Hook {
        /// The program.
        program: String,
        /// Its runs, those for other processes' events included.
        runs_per_second: f64,
        /// Its mean run time.
        ns_per_run: f64,
        /// Its share of one CPU.
        cpu_share: f64,
        /// Whether each run takes a trap as well, which is not part of these figures.
        trap: bool,
    },
    /// What they cost together.
    Cost {
        /// How long they were watched.
        seconds: f64,
        /// Share of one CPU, without traps.
        cpu_share: f64,
        /// Hits of uprobes.
        traps_per_second: f64,
    },
    /// The end.
    Result {
        /// Whether `trace` would work.
        can_trace: bool,
        /// Observations with a provider.
        signals: usize,
        /// All observations.
        of: usize,
        /// nginx executables found.
        nginx: usize,
    },
}

/// Loads and attaches every probe for a moment, and says what came of it; with [`Options::cost`], traces for so long and
/// says what that took.
///
/// # Errors
/// When tracing is impossible at all (privileges, no BTF, the kernel refuses the programs), or `out` fails.
pub fn run(options: &Options, out: &mut impl Write) -> Result<()> {
    privileges::restrict();
    let mut kernel = Kernel::load(preflight::check()?, false)?;
    kernel.load_every_uprobe()?;
    kernel.attach(&[]);
    let observations: Vec<_> = kernel.observations.iter().map(observation).collect();
    let nginx = nginx();
    let served = kernel.observations.iter().filter(|state| state.provider.is_some()).count();
    let can_trace =
        nginx.iter().all(|finding| matches!(finding, Finding::Nginx { probes, .. } if !probes.is_empty()));
    let result = Finding::Result { can_trace, signals: served, of: observations.len(), nginx: nginx.len() };
    let costs = match options.cost {
        Some(time) => cost::measure(&mut kernel, time)?,
        None => Vec::new(),
    };
    let findings = observations.iter().chain(&nginx).chain(&costs).chain([&result]);
    if super::format_or_default(options.format) == Format::Json {
        for finding in findings {
            serde_json::to_writer(&mut *out, finding)?;
            writeln!(out)?;
        }
    } else {
        text::show(findings, out)?;
    }
    if !can_trace {
        bail!("at least one nginx cannot be traced, see its problems above");
    }
    Ok(())
}

fn observation(state: &ObservationState) -> Finding {
    let ObservationState { observation, provider, tried } = state.clone();
    let costs = provider.is_none().then_some(observation.without);
    Finding::Observation { name: observation.name, provider, tried, costs }
}

/// One finding for each executable, by its file.
fn nginx() -> Vec<Finding> {
    let mut executables = BTreeMap::<_, Vec<_>>::new();
    for process in discover::processes() {
        executables.entry(process.id).or_default().push(process);
    }
    executables.values().map(|processes| executable(&processes[0], processes)).collect()
}

fn executable(first: &NginxProcess, all: &[NginxProcess]) -> Finding {
    let exe = escape::terminal(&first.exe).into_owned();
    let pids = all.iter().map(|nginx| nginx.process.pid.0).collect();
    let binary = match Binary::open(&first.binary_path) {
        Ok(binary) => binary,
        Err(error) => {
            let problem = format!("{}: {error}", first.binary_path.display());
            let (problems, layout) = (vec![problem], "unknown".to_owned());
            let (probes, probe_points) = (Vec::new(), Vec::new());
            return Finding::Nginx { exe, version: None, pids, probes, probe_points, problems, layout };
        }
    };
    let (probes, missing): (Vec<&Uprobe>, Vec<_>) =
        providers::error_path().partition(|uprobe| binary.functions.contains_key(uprobe.program));
    let mut problems: Vec<_> = binary.problem().iter().map(ToString::to_string).collect();
    problems.extend(all.iter().find_map(|nginx| debug_log(nginx.process.pid, &binary)));
    problems.extend(missing.iter().map(|uprobe| format!("without {}: {}", uprobe.symbol, uprobe.without)));
    let points = probes.iter().filter_map(|uprobe| binary.functions.get(uprobe.program));
    let probe_points =
        points.map(|point| Point { offset: point.skip, traps: if point.emulated { 1 } else { 2 } }).collect();
    Finding::Nginx {
        exe,
        version: binary.version.as_ref().map(ToString::to_string),
        pids,
        probes: probes.iter().map(|uprobe| uprobe.symbol).collect(),
        probe_points,
        problems,
        layout: format!("{:?}", layout::of(&binary).1),
    }
}

/// What a log at `debug` means for the trace of a process.
fn debug_log(pid: Pid, binary: &Binary) -> Option<String> {
    Memory::of(pid, binary.id)?.log_level(binary, load_bias(pid, binary, binary.id)?).filter(|level| is_debug(*level)).map(|_| {
        format!(
            "the error_log of process {pid} is at debug level: above {LOG_LIMIT} messages/s `trace` stops reading it and \
             infers symptoms from nginx's state"
        )
    })
}
