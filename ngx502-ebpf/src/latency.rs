//! Durations of upstream requests, counted in the kernel: no record a request.

use ngx502_common::{
    connection::Connection,
    latency::{BUCKETS, Durations, Series, bucket},
};

use crate::{
    connection::{self, AF_INET, AF_INET6, AF_UNIX, Head},
    kernel::{self, offset},
    maps::{DURATIONS, NO_DURATIONS, PATHS},
};

/// Upstreams for which the map has no room.
const OTHERS: Series = Series { address: [0; 16], family: 0, port: 0, failed: 0 };

/// Fills in where a new connection's durations are counted.
#[inline(always)]
pub fn identify(connection: &mut Connection, sk: u64, head: &Head) {
    let family = connection.facts.family;
    connection.series.family = family;
    match family {
        AF_INET | AF_INET6 => {
            if let Some((_, remote)) = head.addresses() {
                connection.series.address = remote;
            }
            connection.series.port = u16::from_be(head.get(offset!(skc_dport)).unwrap_or(0));
        }
        AF_UNIX => identify_path(connection, sk),
        _ => {}
    }
}

/// Names an AF_UNIX series by a hash of its path, and keeps the path beside it.
#[inline(never)]
fn identify_path(connection: &mut Connection, sk: u64) {
    let peer = kernel::read_or(sk, offset!(unix_peer), 0u64);
    if peer == 0 {
        return;
    }
    connection::unix_path(&mut connection.facts, peer);
    let mut hash = FNV_OFFSET;
    for word in connection.facts.path.chunks_exact(8) {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(word);
        hash = (hash ^ u64::from_ne_bytes(bytes)).wrapping_mul(FNV_PRIME);
        // The multiplication only carries upwards.
        hash ^= hash >> 32;
    }
    connection.series.address[..8].copy_from_slice(&hash.to_ne_bytes());
    if PATHS.get_ptr(&hash).is_none() {
        let _ = PATHS.insert(&hash, &connection.facts.path, 0);
    }
}

/// As FNV-1a, but by words of 64 bits: a path is zero-padded.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x100_0000_01b3;

/// Counts the current request, if it had a response and was not counted yet.
#[inline(never)]
pub fn count(connection: &mut Connection) {
    let Some(phases) = connection.uncounted() else { return };
    connection.last_byte_at = 0;
    let Some(durations) = durations(&connection.series) else { return };
    if let Some(connect) = phases.connect {
        add(&mut durations.connect, connect);
    }
    add(&mut durations.first_byte, phases.first_byte);
    add(&mut durations.total, phases.total);
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

#[inline(always)]
fn durations<'a>(series: &Series) -> Option<&'a mut Durations> {
    let found = match DURATIONS.get_ptr_mut(series) {
        Some(found) => Some(found),
        None => {
            let blank = NO_DURATIONS.get(0)?;
            let key = if DURATIONS.insert(series, blank, 0).is_ok() { series } else { &OTHERS };
            if DURATIONS.get_ptr(key).is_none() {
                let _ = DURATIONS.insert(key, blank, 0);
            }
            DURATIONS.get_ptr_mut(key)
        }
    };
    // SAFETY: per-CPU map memory; a nested program on this CPU may lose one count against another's.
    found.map(|found| unsafe { &mut *found })
}
