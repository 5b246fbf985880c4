//! The two clocks of a live trace.

use nix::time::{ClockId, clock_gettime};

use crate::event::Nanos;

/// CLOCK_BOOTTIME now, the clock of every record.
pub(super) fn now() -> Nanos {
    Nanos(u64::try_from(read(ClockId::CLOCK_BOOTTIME)).unwrap_or(0))
}

/// CLOCK_REALTIME minus CLOCK_BOOTTIME.
pub(super) fn wall_offset() -> i64 {
    read(ClockId::CLOCK_REALTIME) - read(ClockId::CLOCK_BOOTTIME)
}

fn read(clock: ClockId) -> i64 {
    // Both clocks exist on every kernel with BPF tracing; 0 would only spoil the times shown.
    clock_gettime(clock).map_or(0, |time| time.tv_sec() * 1_000_000_000 + time.tv_nsec())
}
