//! Durations of upstream requests, counted in the kernel: no record a request.

use aya_ebpf::bindings::BPF_NOEXIST;
use ngx502_common::{
    connection::Connection,
    latency::{BUCKETS, Series, bucket, durations_at},
    net::AF_UNIX,
};

use crate::{
    maps::{DURATIONS, PATHS, SERIES},
    sock::{self, Sock},
};

/// How many places there are for series, a power of two; the loader sizes the maps to it.
#[unsafe(no_mangle)]
static SERIES_PLACES: u32 = 0;

/// How many places are tried for a series before it counts among the others.
const TRIES: u32 = 8;

/// Fills in for whom a new connection's durations are counted.
#[inline(always)]
pub fn identify(connection: &mut Connection, sk: impl Sock) {
    connection.series.family = connection.facts.family;
    if let Some(ends) = sk.ends() {
        connection.series.address = ends.remote;
        connection.series.port = u16::from_be(ends.remote_port);
    }
}

/// Names an AF_UNIX series by a hash of the path of a socket's peer.
#[inline(never)]
pub fn identify_path(connection: &mut Connection, peer: u64) {
    connection.series.family = AF_UNIX;
    if peer == 0 {
        return;
    }
    connection.facts.path_len = sock::unix_path(&mut connection.facts.path, peer);
    let hash = hash_of_path(&connection.facts.path, connection.facts.path_len);
    connection.series.address[..8].copy_from_slice(&hash.to_ne_bytes());
}

#[inline(always)]
fn hash_of_path(path: &[u8; 112], len: u16) -> u64 {
    let mut hash = FNV_OFFSET;
    for (index, word) in path.chunks_exact(8).enumerate() {
        if index * 8 >= usize::from(len) {
            break;
        }
        let mut bytes = [0; 8];
        bytes.copy_from_slice(word);
        hash = (hash ^ u64::from_ne_bytes(bytes)).wrapping_mul(FNV_PRIME);
        // The multiplication only carries upwards.
        hash ^= hash >> 32;
    }
    hash
}

/// As FNV-1a, but by words of 64 bits: a path is zero-padded.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x100_0000_01b3;

/// Counts the current request, if it had a response and was not counted yet.
#[inline(never)]
pub fn count(connection: &mut Connection) {
    let Some(phases) = connection.uncounted() else { return };
    connection.last_byte_at = 0;
    let Some(durations) = DURATIONS.get_ptr_mut(durations_at(connection.place, connection.failed != 0))
    else {
        return;
    };
    // SAFETY: per-CPU map memory; a nested program on this CPU may lose one count against another's.
    let durations = unsafe { &mut *durations };
    if let Some(connect) = phases.connect {
        add(&mut durations.connect, connect);
    }
    add(&mut durations.first_byte, phases.first_byte);
    add(&mut durations.total, phases.total);
}

/// Finds the place of a connection's series, or takes one: 0 when the nearest are all taken by others.
#[inline(never)]
pub fn place_of(connection: &Connection) -> u32 {
    // SAFETY: read-only data, which the loader filled in; volatile, lest the compiler folds the placeholder in.
    let places = unsafe { core::ptr::read_volatile(&raw const SERIES_PLACES) };
    let first = hash_of(&connection.series);
    for step in 0..TRIES {
        let place = first.wrapping_add(step) & places.wrapping_sub(1);
        if place == 0 {
            continue;
        }
        let series = match has(place) {
            None => take(place, connection),
            known => known,
        };
        if series.is_some_and(|series| *series == connection.series) {
            return place;
        }
    }
    0
}

/// The series that has a place. Entries never change.
#[inline(always)]
fn has<'a>(place: u32) -> Option<&'a Series> {
    // SAFETY: map memory stays valid while a program runs.
    unsafe { SERIES.get(&place) }
}

/// Takes a place that was free, and returns who has it now: another CPU may have been faster.
#[inline(always)]
fn take<'a>(place: u32, connection: &Connection) -> Option<&'a Series> {
    if SERIES.insert(&place, &connection.series, u64::from(BPF_NOEXIST)).is_ok()
        && connection.facts.family == AF_UNIX
    {
        let _ = PATHS.insert(&place, &connection.facts.path, 0);
    }
    has(place)
}

#[inline(always)]
fn hash_of(series: &Series) -> u32 {
    let mut halves = [0; 2];
    for (half, bytes) in halves.iter_mut().zip(series.address.chunks_exact(8)) {
        let mut word = [0; 8];
        word.copy_from_slice(bytes);
        *half = u64::from_ne_bytes(word);
    }
    let hash = (halves[0] ^ halves[1].rotate_left(29) ^ u64::from(series.port) << 40).wrapping_mul(FNV_PRIME);
    (hash ^ hash >> 32) as u32
}

/// [`bucket`], verified once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn bucket_of(micros: u64) -> u64 {
    bucket(micros) as u64
}

#[inline(always)]
fn add(histogram: &mut [u32; BUCKETS], micros: u64) {
    let index = bucket_of(micros) as usize;
    // The verifier does not follow the bound through `bucket`'s arithmetic, and the compiler, which does, would drop
    // the mask: the volatile read hides the value from it.
    // SAFETY: a local variable.
    let index = unsafe { core::ptr::read_volatile(&raw const index) } & (BUCKETS - 1);
    histogram[index] += 1;
}
