//! Keeps foreign sockets and processes away from the hash tables.
//!
//! The hooks on the success path run for every socket of the machine. A look-up in an array is inlined and costs a
//! few nanoseconds, one in a hash table several dozen; hence a slot is asked first. A slot may say yes for a stranger
//! that shares it, and for what a full table forgot by itself, which costs a look-up; it never says no for what is in
//! the table.

use core::arch::asm;

use ngx502_common::config::{SOCKET_SLOTS_LEN, seen, worker_slot};

use aya_ebpf::maps::Array;

use crate::maps::{ONWARD_SLOTS, SEEN, SOCKET_SLOTS, WORKER_SLOTS};

/// The slot of a socket, in the one entry of the array: each entry of its own would be padded to eight bytes.
///
/// Sockets are slab objects of more than 512 bytes, so that the lowest bits say nothing. Neighbours get neighbouring
/// slots, which share a cache line and a page: strewn over the table, its slots cost a miss at each look.
#[inline(always)]
fn socket_slot(slots: &Array<[u32; SOCKET_SLOTS_LEN]>, sk: u64) -> Option<*mut u32> {
    const { assert!(SOCKET_SLOTS_LEN.is_power_of_two()) };
    let slots = slots.get_ptr_mut(0)?;
    let slot = ((sk >> 9) ^ (sk >> 25)) as usize & (SOCKET_SLOTS_LEN - 1);
    // SAFETY: the mask keeps it in the table.
    Some(unsafe { slots.cast::<u32>().add(slot) })
}

/// Whether a socket may be in `CONNECTIONS` or `WATCHED`.
#[inline(always)]
pub fn may_know_socket(sk: u64) -> bool {
    is_counted(&SOCKET_SLOTS, sk)
}

/// Whether a socket may be in `ONWARD_SOCKETS`.
#[inline(always)]
pub fn may_be_onward(sk: u64) -> bool {
    is_counted(&ONWARD_SLOTS, sk)
}

#[inline(always)]
fn is_counted(slots: &Array<[u32; SOCKET_SLOTS_LEN]>, sk: u64) -> bool {
    // SAFETY: array memory; a count that is being changed is as good before as after.
    socket_slot(slots, sk).is_some_and(|count| unsafe { count.read_volatile() } != 0)
}

/// An entry for a socket was added.
#[inline(always)]
pub fn socket_added(sk: u64) {
    add(&SOCKET_SLOTS, sk, 1);
}

/// An entry for a socket was removed.
#[inline(always)]
pub fn socket_removed(sk: u64) {
    add(&SOCKET_SLOTS, sk, u32::MAX);
}

/// An entry for a socket was added to `ONWARD_SOCKETS`.
#[inline(always)]
pub fn onward_added(sk: u64) {
    add(&ONWARD_SLOTS, sk, 1);
    note(seen::ONWARD);
}

/// An entry for a socket was removed there.
#[inline(always)]
pub fn onward_removed(sk: u64) {
    add(&ONWARD_SLOTS, sk, u32::MAX);
}

#[inline(always)]
fn add(slots: &Array<[u32; SOCKET_SLOTS_LEN]>, sk: u64, difference: u32) {
    if let Some(count) = socket_slot(slots, sk) {
        let difference = u64::from(difference);
        // core's atomics have no `fetch_add` for BPF before its third version, which Linux 5.10 does not run.
        // SAFETY: array memory, aligned to 4.
        unsafe {
            asm!("lock *(u32 *)({count} + 0) += {difference}", count = in(reg) count, difference = in(reg) difference)
        };
    }
}

/// Whether a process may be traced.
#[inline(always)]
pub fn may_trace(tgid: u32) -> bool {
    // SAFETY: array memory.
    WORKER_SLOTS.get_ptr(worker_slot(tgid)).is_some_and(|seen| unsafe { seen.read_volatile() } != 0)
}

/// A process is traced from now on. The slot keeps saying so when it ended, since another may share it.
#[inline(always)]
pub fn worker_added(tgid: u32) {
    let _ = WORKER_SLOTS.set(worker_slot(tgid), &1, 0);
}

/// Whether any AF_UNIX connection was ever observed: if not, no socket's other end is to be looked for.
#[inline(always)]
pub fn unix_seen() -> bool {
    seen(seen::UNIX)
}

/// Whether the error log of any nginx ever hid failures: if not, nothing needs to be kept in its stead.
#[inline(always)]
pub fn hiding_log_seen() -> bool {
    seen(seen::HIDING_LOG)
}

/// Whether any process that holds a listener has connected to something itself.
#[inline(always)]
pub fn onward_seen() -> bool {
    seen(seen::ONWARD)
}

#[inline(always)]
fn seen(what: u32) -> bool {
    // SAFETY: array memory.
    SEEN.get_ptr(what).is_some_and(|seen| unsafe { seen.read_volatile() } != 0)
}

/// An AF_UNIX connection is observed.
#[inline(always)]
pub fn unix_added() {
    note(seen::UNIX);
}

#[inline(always)]
fn note(what: u32) {
    if let Some(seen) = SEEN.get_ptr_mut(what) {
        // SAFETY: array memory, in which this is the only value ever written.
        unsafe { seen.write_volatile(1) };
    }
}
