//! Processor time and memory of other processes, from /proc.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// Processor time of all threads of a process so far, from the scheduler's nanoseconds (`schedstat`).
///
/// # Errors
/// When the process is gone, or the kernel keeps no such statistics.
pub(super) fn cpu(pid: u32) -> Result<Duration> {
    let threads =
        fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("process {pid} is gone"))?;
    let mut total = 0;
    for thread in threads {
        // A thread may end between listing and reading; its time is then missing from both ends of a difference.
        let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        let spent = text.split(' ').next().and_then(|text| text.parse::<u64>().ok());
        total += spent.context("this kernel keeps no schedstat, so processor time is not known")?;
    }
    Ok(Duration::from_nanos(total))
}

/// Memory of a process in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    /// Resident now.
    pub(super) resident: u64,
    /// Resident at its highest.
    pub(super) peak: u64,
}

/// Resident memory of a process.
///
/// # Errors
/// When the process is gone.
pub(super) fn memory(pid: u32) -> Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(parse(&status))
}

fn parse(status: &str) -> Memory {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
    };
    Memory { resident: field("VmRSS:"), peak: field("VmHWM:") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_kibibytes() {
        let memory = parse("Name:\tx\nVmHWM:\t   20480 kB\nVmRSS:\t   10240 kB\n");
        assert_eq!(memory, Memory { resident: 10_240, peak: 20_480 });
    }

    #[test]
    fn our_own_processor_time_grows() {
        let before = cpu(std::process::id()).unwrap();
        let work = || std::hint::black_box((0..100_000).fold(0_u64, u64::wrapping_add));
        // Until the scheduler has counted some of it.
        while work() > 0 && cpu(std::process::id()).unwrap() <= before {}
        assert!(cpu(std::process::id()).unwrap() > before);
    }
}
