//! The clocks of every record: CLOCK_BOOTTIME, what it lacks to the wall clock, and the ticks in which `/proc` counts it.

use std::sync::LazyLock;

use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};

use crate::event::Nanos;

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// A clock tick of /proc in nanoseconds: 10 ms on every common kernel.
static TICK: LazyLock<u64> = LazyLock::new(|| {
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|ticks| u64::try_from(ticks).ok());
    NANOS_PER_SECOND as u64 / per_second.unwrap_or(100).max(1)
});

/// CLOCK_BOOTTIME now.
pub(crate) fn now() -> Nanos {
    Nanos(u64::try_from(read(ClockId::CLOCK_BOOTTIME)).unwrap_or(0))
}

/// CLOCK_REALTIME minus CLOCK_BOOTTIME, in nanoseconds.
pub(crate) fn wall_offset() -> i64 {
    read(ClockId::CLOCK_REALTIME) - read(ClockId::CLOCK_BOOTTIME)
}

/// How long this machine has slept since its boot, in nanoseconds: CLOCK_BOOTTIME minus CLOCK_MONOTONIC.
pub(crate) fn asleep() -> u64 {
    let asleep = read(ClockId::CLOCK_BOOTTIME) - read(ClockId::CLOCK_MONOTONIC);
    u64::try_from(asleep).unwrap_or(0)
}

/// A number of clock ticks since boot, as `/proc/PID/stat` counts them.
pub(super) fn from_ticks(ticks: u64) -> Nanos {
    Nanos(ticks.saturating_mul(*TICK))
}

/// Whether two start times can be one process's: at most a tick apart, or one of them unknown (0). Those from /proc are
/// rounded down to a tick, those from BPF are exact.
pub(crate) fn same_start(a: Nanos, b: Nanos) -> bool {
    a.0 == 0 || b.0 == 0 || a.0.abs_diff(b.0) <= *TICK
}

fn read(clock: ClockId) -> i64 {
    // These clocks exist on every kernel with BPF tracing; 0 would only spoil the times shown.
    clock_gettime(clock).map_or(0, |time| time.tv_sec() * NANOS_PER_SECOND + time.tv_nsec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_times_may_differ_by_a_tick() {
        let (rounded, exact) = (from_ticks(1234), Nanos(from_ticks(1234).0 + *TICK - 1));
        assert!(same_start(rounded, exact) && same_start(Nanos(0), exact));
        assert!(!same_start(rounded, Nanos(exact.0 + 1_000_000_000)));
    }
}
