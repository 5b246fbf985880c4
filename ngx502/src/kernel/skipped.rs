//! Runs of programs that the kernel left out.
//!
//! The kernel does not run a tracepoint's program on a CPU where that program is at work already, and only counts the event
//! (`recursion_misses`; 6.1, commit 05b24ff9b2cf). Up to 6.x that takes an interrupt which meets the same tracepoint. From
//! 7.0 on (commit a46023d5616e) the program can be preempted: until it goes on, every event of its kind on that CPU is left
//! out. In a guest with 7.2, slow as it is, that were a few events a minute.

use std::os::fd::{AsFd as _, AsRawFd as _};

use super::load::Kernel;

impl Kernel {
    /// How many runs were left out so far, of all programs; each may have been an event of any process. 0 where the kernel
    /// does not tell (before 5.12).
    pub fn skipped_runs(&self) -> u64 {
        let descriptors =
            self.programs().filter_map(|(_, program)| Some(program.fd().ok()?.as_fd().as_raw_fd()));
        let told =
            descriptors.map(|descriptor| std::fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")));
        told.filter_map(|text| recursion_misses(&text.ok()?)).sum()
    }
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
}
