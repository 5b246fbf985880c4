//! The diagnosis for people.

use std::io::{Result, Write};

use super::{Finding, Point};
use crate::kernel::load::Refused;
use crate::session::NO_PROVIDER;

/// Writes all findings, in their order.
pub(super) fn show<'a>(findings: impl Iterator<Item = &'a Finding>, out: &mut impl Write) -> Result<()> {
    let mut in_table = false;
    for finding in findings {
        let row = matches!(finding, Finding::Hook { .. });
        if row && !in_table {
            writeln!(out, "\n{:<25} {:>10} {:>10} {:>9}", "BPF program", "runs/s", "ns/run", "CPU")?;
        }
        in_table = row;
        show_one(finding, out)?;
    }
    Ok(())
}

/// `ngx_log_error_core+4`, and what a hit there costs where that is more than one trap.
fn place(name: &str, Point { offset, traps }: &Point) -> String {
    let offset = if *offset > 0 { format!("+{offset}") } else { String::new() };
    let traps = if *traps > 1 { " (two traps a hit)" } else { "" };
    format!("{name}{offset}{traps}")
}

fn show_one(finding: &Finding, out: &mut impl Write) -> Result<()> {
    match finding {
        Finding::Observation { name, provider, tried, costs } => {
            writeln!(out, "{name:<15} {}", provider.unwrap_or(NO_PROVIDER))?;
            for Refused { provider, reason } in tried {
                writeln!(out, "{:15} {provider} unavailable: {reason}", "")?;
            }
            match costs {
                Some(costs) => writeln!(out, "{:15} lost without it: {costs}", ""),
                None => Ok(()),
            }
        }
        Finding::Nginx { exe, version, pids, probes, probe_points, problems, layout } => {
            let pids: Vec<_> = pids.iter().map(ToString::to_string).collect();
            let version = version.as_deref().unwrap_or("unknown version");
            writeln!(out, "\n{exe} ({version}), pids {}", pids.join(" "))?;
            let probes: Vec<_> =
                probes.iter().zip(probe_points).map(|(name, point)| place(name, point)).collect();
            writeln!(out, "{:15} uprobes: {}", "", probes.join(" "))?;
            writeln!(out, "{:15} struct layout: {layout}", "")?;
            problems.iter().try_for_each(|problem| writeln!(out, "{:15} {problem}", ""))
        }
        Finding::Hook { program, runs_per_second, ns_per_run, cpu_share, trap } => {
            let share = cpu_share * 100.0;
            let trap = if *trap { "  + a trap per run" } else { "" };
            writeln!(out, "{program:<25} {runs_per_second:>10.1} {ns_per_run:>10.0} {share:>7.3} %{trap}")
        }
        Finding::Cost { seconds, cpu_share, traps_per_second } => {
            let share = cpu_share * 100.0;
            writeln!(
                out,
                "{:<25} {:>10} {:>10} {share:>7.3} %\n\nMeasured for {seconds:.1} s. The kernel's figures exclude the \
                 entry into a program: a trap of\n1 to 3 µs for a uprobe ({traps_per_second:.1} traps/s \
                 here), some tens of ns for the others.",
                "total", "", ""
            )
        }
        Finding::Result { signals, of, nginx, .. } => {
            let found = match nginx {
                0 => "no nginx is running; `ngx502 trace` waits for one".to_owned(),
                1 => "1 nginx executable is running".to_owned(),
                more => format!("{more} nginx executables are running"),
            };
            writeln!(out, "\n{signals} of {of} kernel observations have a provider; {found}.")
        }
    }
}
