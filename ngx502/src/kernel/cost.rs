//! What the attached programs cost: the kernel's own account of their runs.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::programs::Program;
use aya::sys::{Stats, enable_stats};

use super::load::Kernel;

/// Lets the kernel count run times for as long as the descriptor is open, so that also a process that is killed leaves
/// nothing switched on.
///
/// # Errors
/// When the kernel (before Linux 5.8) or the privileges do not allow it.
pub fn count_runs() -> Result<OwnedFd> {
    enable_stats(Stats::RunTime)
        .context("the kernel does not count the run time of BPF programs, so their cost is not known")
}

/// Runs of one program so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// How many.
    pub count: u64,
    /// Time in the program, on all CPUs together.
    pub time: Duration,
    /// Whether each run came by a uprobe's trap, which takes time that is not in `time`.
    pub trap: bool,
}

impl Runs {
    /// What was added since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            count: self.count.saturating_sub(before.count),
            time: self.time.saturating_sub(before.time),
            trap: self.trap,
        }
    }

    /// Nanoseconds a run; 0 without runs.
    pub fn nanos(self) -> f64 {
        if self.count == 0 { 0.0 } else { self.time.as_nanos() as f64 / self.count as f64 }
    }
}

impl Kernel {
    /// The runs of each program that is loaded, by the program's name.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn runs(&self) -> Result<BTreeMap<String, Runs>> {
        let loaded = self.programs().filter(|(_, program)| program.fd().is_ok());
        loaded
            .map(|(name, program)| {
                let info = program.info().with_context(|| format!("no account of the program {name}"))?;
                let trap = matches!(program, Program::UProbe(_));
                Ok((name.to_owned(), Runs { count: info.run_count(), time: info.run_time(), trap }))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_costs_what_was_added_meanwhile() {
        let before = Runs { count: 10, time: Duration::from_micros(1), trap: true };
        let after = Runs { count: 30, time: Duration::from_micros(3), trap: true };
        let added = after.since(before);
        assert_eq!(added, Runs { count: 20, time: Duration::from_micros(2), trap: true });
        assert_eq!((added.nanos(), after.since(after).nanos()), (100.0, 0.0));
    }
}
