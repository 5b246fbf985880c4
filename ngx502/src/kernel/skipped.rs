//! Runs of programs that the kernel left out.
//!
//! The kernel does not run a tracepoint's program on a CPU where that program is at work already, and only counts the event
//! (`recursion_misses`; 6.1, commit 05b24ff9b2cf). Up to 6.x that takes an interrupt which meets the same tracepoint. From
//! 7.0 on (commit a46023d5616e) the program can be preempted: until it goes on, every event of its kind on that CPU is left
//! out. In a guest with 7.2, slow as it is, that were a few events a minute.

use std::os::fd::{AsFd as _, AsRawFd as _};

use aya::programs::Program;

use super::load::Kernel;
use super::providers::SIGNALS;

/// The signals of every byte that a socket sends or receives. They tell of no process and no listener.
const TRAFFIC: [&str; 2] = ["sent", "received"];

/// How many runs were left out; each may have been an event of any process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Of programs that only see traffic.
    pub traffic: u64,
    /// Of all others.
    pub others: u64,
}

impl Kernel {
    /// What was left out so far; nothing where the kernel does not tell (before 5.12).
    pub fn skipped_runs(&self) -> Skipped {
        let mut skipped = Skipped::default();
        for (name, program) in self.programs() {
            let count = misses_of(program).unwrap_or(0);
            *(if is_traffic(name) { &mut skipped.traffic } else { &mut skipped.others }) += count;
        }
        skipped
    }
}

fn is_traffic(program: &str) -> bool {
    let signals = SIGNALS.iter().filter(|signal| TRAFFIC.contains(&signal.name));
    let mut programs = signals.flat_map(|signal| signal.providers).flat_map(|provider| provider.programs);
    programs.any(|(name, _)| *name == program)
}

fn misses_of(program: &Program) -> Option<u64> {
    let descriptor = program.fd().ok()?.as_fd().as_raw_fd();
    recursion_misses(&std::fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).ok()?)
}

/// The count in a program's `fdinfo`, `bpf_prog_show_fdinfo` in kernel/bpf/syscall.c.
fn recursion_misses(fdinfo: &str) -> Option<u64> {
    fdinfo.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misses_are_read_where_the_kernel_tells_them() {
        let told =
            "pos:\t0\nflags:\t02000002\nprog_type:\t17\nprog_jited:\t1\nrun_cnt:\t0\nrecursion_misses:\t42\n";
        assert_eq!(recursion_misses(told), Some(42));
        assert_eq!(recursion_misses("pos:\t0\nprog_type:\t17\n"), None);
    }

    #[test]
    fn traffic_is_told_from_what_proves_causes() {
        assert!(is_traffic("sock_recv_length") && is_traffic("tcp_sendmsg"));
        assert!(!is_traffic("inet_sock_set_state") && !is_traffic("sched_process_exit"));
    }
}
