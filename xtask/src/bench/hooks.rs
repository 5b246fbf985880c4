//! Run time of each BPF program, by the kernel's own statistics (`kernel.bpf_stats_enabled`).
//!
//! The statistics cost some 20 ns a run themselves, so they are off while throughput is compared. They cover the
//! program, not the way there: a uprobe's trap costs another microsecond or so, which only the throughput shows.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::bed::Bed;
use super::scenario::Scenario;
use super::tool::{Tool, Tracer};
use crate::exec;

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// What one program cost under a load.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct HookCost {
    /// The BPF function.
    pub(super) name: String,
    /// Nanoseconds a run, foreign events included.
    pub(super) nanos: f64,
    /// Runs a request.
    pub(super) runs: f64,
}

impl HookCost {
    /// Nanoseconds a request.
    pub(super) fn nanos_per_request(&self) -> f64 {
        self.nanos * self.runs
    }
}

/// Programs of a process: id → (nanoseconds, runs).
type Totals = BTreeMap<u32, (u64, u64)>;

/// Switches the statistics on; back to what they were when this drops.
struct Statistics(String);

impl Statistics {
    fn on() -> Result<Statistics> {
        let before = fs::read_to_string(SWITCH).context("this kernel has no BPF statistics")?;
        fs::write(SWITCH, "1").context("BPF statistics cannot be switched on; run as root")?;
        Ok(Statistics(before))
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        if let Err(error) = fs::write(SWITCH, self.0.trim()) {
            eprintln!("{SWITCH} stays on, which costs every BPF program some time: {error}");
        }
    }
}

/// Run time a request of every program of `ngx502`, the dearest first.
///
/// # Errors
/// When a run fails, or there are no statistics.
pub(super) fn measure(bed: &Bed, scenario: Scenario, binary: &Path, time: Duration) -> Result<Vec<HookCost>> {
    let _statistics = Statistics::on()?;
    let tracer = Tracer::start(Tool::Ngx502, binary, bed)?;
    let before = totals(tracer.pid())?;
    let run = bed.run(scenario, time)?;
    let after = totals(tracer.pid())?;
    let names = names()?;
    tracer.stop()?;
    Ok(costs(&before, &after, &names, run.load.requests))
}

fn costs(before: &Totals, after: &Totals, names: &BTreeMap<u32, String>, requests: u64) -> Vec<HookCost> {
    let mut costs: Vec<HookCost> = after
        .iter()
        .filter_map(|(id, (nanos, runs))| {
            let (nanos_before, runs_before) = before.get(id).copied().unwrap_or_default();
            let runs = runs.saturating_sub(runs_before);
            let nanos = nanos.saturating_sub(nanos_before);
            (runs > 0).then(|| HookCost {
                name: names.get(id).cloned().unwrap_or_else(|| format!("program {id}")),
                nanos: nanos as f64 / runs as f64,
                runs: runs as f64 / requests.max(1) as f64,
            })
        })
        .collect();
    costs.sort_by(|a, b| b.nanos_per_request().total_cmp(&a.nanos_per_request()));
    costs
}

/// Statistics of the programs that a process holds, from its descriptors.
fn totals(pid: u32) -> Result<Totals> {
    let mut totals = Totals::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // A descriptor may be closed between listing and reading.
        let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
        totals.extend(parse(&text));
    }
    Ok(totals)
}

/// One descriptor's `fdinfo`; `None` for all but programs. A link names its program too, without statistics.
fn parse(fdinfo: &str) -> Option<(u32, (u64, u64))> {
    let field = |name: &str| -> Option<u64> {
        fdinfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
    };
    Some((u32::try_from(field("prog_id")?).ok()?, (field("run_time_ns")?, field("run_cnt")?)))
}

/// Names of all programs of this machine: only the kernel's type information has them whole, and bpftool reads it.
fn names() -> Result<BTreeMap<u32, String>> {
    let Some(bpftool) = exec::find("bpftool") else { return Ok(BTreeMap::new()) };
    let list: Value =
        serde_json::from_str(&exec::read(Command::new(bpftool).args(["--json", "prog", "show"]))?)?;
    let programs = list.as_array().context("bpftool lists no programs")?;
    Ok(programs
        .iter()
        .filter_map(|program| {
            Some((u32::try_from(program["id"].as_u64()?).ok()?, program["name"].as_str()?.to_owned()))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_told_from_a_link() {
        let program = "pos:\t0\nprog_type:\t17\nprog_id:\t9\nrun_time_ns:\t300\nrun_cnt:\t3\n";
        assert_eq!(parse(program), Some((9, (300, 3))));
        assert_eq!(parse("link_type:\traw_tracepoint\nprog_id:\t9\n"), None);
    }

    #[test]
    fn only_what_happened_under_the_load_counts() {
        let before = Totals::from([(1, (1000, 10)), (2, (50, 5))]);
        let after = Totals::from([(1, (3000, 30)), (2, (50, 5)), (3, (900, 1))]);
        let costs = costs(&before, &after, &BTreeMap::from([(1, "one".to_owned())]), 10);
        assert_eq!(
            costs,
            [
                HookCost { name: "one".into(), nanos: 100.0, runs: 2.0 },
                HookCost { name: "program 3".into(), nanos: 900.0, runs: 0.1 },
            ]
        );
    }
}
