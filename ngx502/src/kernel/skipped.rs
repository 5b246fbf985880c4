//! Runs of programs that the kernel left out.
//!
//! The kernel does not run a tracepoint's program on a CPU where that program is at work already, and only counts the event
//! (`recursion_misses`; 6.1, commit 05b24ff9b2cf). Up to 6.x that takes an interrupt which meets the same tracepoint. From
//! 7.0 on (commit a46023d5616e) the program can be preempted: until it goes on, every event of its kind on that CPU is left
//! out. In a guest with 7.2, slow as it is, that were a few events a minute.

use std::fs::File;
use std::mem;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::FileExt as _;

use aya::programs::Program;

use super::load::Kernel;
use super::providers::OBSERVATIONS;
use crate::session::observation;

/// Every byte that a socket sends or receives. These say nothing of processes and listeners.
const TRAFFIC: [&str; 2] = [observation::SENT, observation::RECEIVED];

/// How many runs were left out; each may have been an event of any process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Of programs that only see traffic.
    pub traffic: u64,
    /// Of all others.
    pub others: u64,
}

/// Reads the kernel's counts. Opening a program's `fdinfo` costs more than reading it, hence it stays open.
#[derive(Default)]
pub struct SkippedRuns {
    counters: Vec<Counter>,
    /// The counts at the last reading.
    last: Skipped,
}

struct Counter {
    is_traffic: bool,
    /// The program's `/proc/self/fdinfo/N`, which is made anew for each reader at its beginning.
    fdinfo: File,
}

impl SkippedRuns {
    /// What was left out since the last reading; nothing where the kernel does not count (before 5.12).
    pub fn read(&mut self, kernel: &Kernel) -> Skipped {
        // Programs are never unloaded, but some are loaded only once they are needed.
        let loaded = kernel.programs().filter(|(_, program)| program.fd().is_ok());
        if loaded.count() != self.counters.len() {
            let counters = kernel.programs().filter_map(|(name, program)| Counter::open(name, program));
            self.counters = counters.collect();
        }
        let mut total = Skipped::default();
        for counter in &self.counters {
            let count = counter.read().unwrap_or(0);
            *(if counter.is_traffic { &mut total.traffic } else { &mut total.others }) += count;
        }
        let last = mem::replace(&mut self.last, total);
        Skipped {
            traffic: total.traffic.saturating_sub(last.traffic),
            others: total.others.saturating_sub(last.others),
        }
    }
}

impl Counter {
    /// `None` for a program that is not loaded.
    fn open(name: &str, program: &Program) -> Option<Self> {
        let descriptor = program.fd().ok()?.as_fd().as_raw_fd();
        let fdinfo = File::open(format!("/proc/self/fdinfo/{descriptor}")).ok()?;
        Some(Self { is_traffic: is_traffic(name), fdinfo })
    }

    fn read(&self) -> Option<u64> {
        let mut fdinfo = [0; FDINFO_MAX];
        let len = self.fdinfo.read_at(&mut fdinfo, 0).ok()?;
        recursion_misses(str::from_utf8(&fdinfo[..len]).ok()?)
    }
}

/// A program's `fdinfo` has some 200 bytes.
const FDINFO_MAX: usize = 1_024;

fn is_traffic(program: &str) -> bool {
    let traffic = OBSERVATIONS.iter().filter(|observation| TRAFFIC.contains(&observation.name));
    let mut programs =
        traffic.flat_map(|observation| observation.providers).flat_map(|provider| provider.programs);
    programs.any(|(name, _)| *name == program)
}

/// The count in a program's `fdinfo`, `bpf_prog_show_fdinfo` in kernel/bpf/syscall.c.
fn recursion_misses(fdinfo: &str) -> Option<u64> {
    fdinfo.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misses_are_read_where_the_kernel_counts_them() {
        let fdinfo =
            "pos:\t0\nflags:\t02000002\nprog_type:\t17\nprog_jited:\t1\nrun_cnt:\t0\nrecursion_misses:\t42\n";
        assert_eq!(recursion_misses(fdinfo), Some(42));
        assert_eq!(recursion_misses("pos:\t0\nprog_type:\t17\n"), None);
    }

    #[test]
    fn traffic_is_not_what_proves_causes() {
        assert!(is_traffic("sock_recv_length") && is_traffic("tcp_sendmsg"));
        assert!(!is_traffic("inet_sock_set_state") && !is_traffic("sched_process_exit"));
    }
}
