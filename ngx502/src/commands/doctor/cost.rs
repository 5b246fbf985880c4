//! `ngx502 doctor --cost`: what each hook costs here and now, measured by a trace whose records are thrown away.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Finding;
use crate::kernel::{cost::count_runs, load::Kernel};
use crate::nginx::Tracked;

/// How often the ring buffer is emptied: a full one would spare the programs work, and the account with it.
const EMPTY_EVERY: Duration = Duration::from_millis(5);

/// Traces every nginx for `time` and gives one finding for each program that ran or could have, the dearest first, and
/// the sum.
///
/// # Errors
/// When the kernel keeps no account, or nginx cannot be traced.
pub(super) fn measure(kernel: &mut Kernel, time: Duration) -> Result<Vec<Finding>> {
    let counting = count_runs()?;
    let mut ring = kernel.take_events()?;
    Tracked::new(Default::default(), false).attach_all(kernel)?;
    let (before, start) = (kernel.runs()?, Instant::now());
    while start.elapsed() < time {
        while ring.next().is_some() {}
        thread::sleep(EMPTY_EVERY);
    }
    let (after, elapsed) = (kernel.runs()?, start.elapsed());
    drop(counting);
    let mut costs: Vec<_> = after.into_iter().collect();
    for (program, runs) in &mut costs {
        *runs = runs.since(before.get(program).copied().unwrap_or_default());
    }
    costs.sort_by(|(a, left), (b, right)| (right.time, a).cmp(&(left.time, b)));
    let (mut together, mut traps) = (Duration::ZERO, 0);
    let mut findings = Vec::new();
    for (program, runs) in costs {
        together += runs.time;
        traps += if runs.trap { runs.count } else { 0 };
        findings.push(Finding::Hook {
            program,
            runs_per_second: runs.count as f64 / elapsed.as_secs_f64(),
            ns_per_run: runs.nanos(),
            cpu_share: runs.time.as_secs_f64() / elapsed.as_secs_f64(),
            trap: runs.trap,
        });
    }
    findings.push(Finding::Cost {
        seconds: elapsed.as_secs_f64(),
        cpu_share: together.as_secs_f64() / elapsed.as_secs_f64(),
        traps_per_second: traps as f64 / elapsed.as_secs_f64(),
    });
    Ok(findings)
}
