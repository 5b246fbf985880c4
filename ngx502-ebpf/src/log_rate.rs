//! How many messages nginx logs that report no failure: each costs a trap, and user space ends that when there are many.

use aya_ebpf::{macros::map, maps::PerCpuArray};

use crate::{maps::TRACED, task};

/// As many as `LAYOUTS` has.
const BINARIES: u32 = 256;

/// Log calls below the level `error`, by the caller's entry in `LAYOUTS`. Only ever grows; user space reads the
/// difference.
#[map]
pub static LOG_CALLS: PerCpuArray<u64> = PerCpuArray::with_max_entries(BINARIES, 0);

/// Counts one call of a traced process.
#[inline(always)]
pub fn count() {
    // SAFETY: read at once.
    let Some(traced) = (unsafe { TRACED.get(&task::tgid()) }) else { return };
    if let Some(calls) = LOG_CALLS.get_ptr_mut(traced.layout) {
        // SAFETY: this CPU's own entry; a count that a preemption loses does not matter.
        unsafe { *calls += 1 };
    }
}
