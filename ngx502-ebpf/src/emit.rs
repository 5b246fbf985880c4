//! The only way to the ring buffer: counts what does not fit, wakes the reader rarely.

use aya_ebpf::{
    bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::{bpf_ktime_get_boot_ns, generated::bpf_ringbuf_output},
};
use ngx502_common::{config::loss, event::Header};

use crate::{
    bound,
    maps::{EVENTS, LOST, WAKEUP},
    task,
};

/// A storm wakes the reader this often at most; the reader itself looks again as long as it finds records.
const WAKEUP_INTERVAL_NS: u64 = 5_000_000;

/// A header for the current moment and process.
#[inline(always)]
pub fn header(kind: u16) -> Header {
    Header { at: now(), pid: task::tgid(), kind, reserved: 0 }
}

/// CLOCK_BOOTTIME in nanoseconds.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// Sends a record that fits on the stack.
#[inline(always)]
pub fn send<T>(record: &T) {
    // SAFETY: `record` is `size_of::<T>()` readable bytes.
    unsafe { output(core::ptr::from_ref(record).cast(), size_of::<T>() as u64, wakeup_flags(now())) };
}

/// Sends `len` bytes at `record`, at most `MAX`, that were made at `at`; whether there was room.
///
/// # Safety
/// `MAX` bytes must be readable; the verifier checks it.
#[inline(always)]
pub unsafe fn send_bytes<const MAX: usize>(record: *const u8, len: u64, at: u64) -> bool {
    let flags = wakeup_flags(at);
    let len = bound::at_most::<MAX>(len);
    // SAFETY: as the caller vouches.
    unsafe { output(record, len, flags) }
}

/// # Safety
/// `len` bytes at `record` must be readable.
#[inline(always)]
unsafe fn output(record: *const u8, len: u64, flags: u64) -> bool {
    // SAFETY: the map exists; the caller vouches for the bytes.
    let result = unsafe {
        bpf_ringbuf_output((&raw const EVENTS).cast_mut().cast(), record.cast_mut().cast(), len, flags)
    };
    if result != 0 {
        count_loss(loss::RING_FULL);
    }
    result == 0
}

/// Counts one record that user space will not see.
#[inline(always)]
pub fn count_loss(reason: u32) {
    if let Some(count) = LOST.get_ptr_mut(reason) {
        // SAFETY: a per-CPU slot; a nested program may lose one count against another's, never memory.
        unsafe { *count += 1 };
    }
}

#[inline(always)]
fn wakeup_flags(now: u64) -> u64 {
    let Some(last) = WAKEUP.get_ptr_mut(0) else { return 0 };
    // SAFETY: an array slot; racing CPUs only wake the reader once more or less.
    unsafe {
        if now.wrapping_sub(core::ptr::read_volatile(last)) < WAKEUP_INTERVAL_NS {
            return u64::from(BPF_RB_NO_WAKEUP);
        }
        core::ptr::write_volatile(last, now);
    }
    u64::from(BPF_RB_FORCE_WAKEUP)
}
