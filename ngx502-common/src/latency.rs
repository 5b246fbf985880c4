//! Latency histograms: log-linear, 16 buckets an octave, hence at most 6.25 % wide.

/// Buckets of one histogram: exact below 16 µs, then 16 an octave up to 2^35 µs (9 hours). A power of two, so that a
/// mask bounds an index for the verifier.
pub const BUCKETS: usize = 512;
/// Sub-buckets of an octave, as a power of two.
const SUB_BITS: u32 = 4;

/// An upstream whose requests are counted together.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable))]
pub struct Series {
    /// IPv4 in the first four bytes; IPv6; or, for AF_UNIX, a hash of the path: the key of the map `PATHS`.
    pub address: [u8; 16],
    /// AF_UNIX 1, AF_INET 2, AF_INET6 10; 0: the upstreams for which there was no room.
    pub family: u16,
    /// Port in host byte order; 0 for AF_UNIX.
    pub port: u16,
    /// Padding, 0.
    pub reserved: u32,
}

impl Series {
    /// Those for which there was no room.
    pub const OTHERS: Self = Self { address: [0; 16], family: 0, port: 0, reserved: 0 };
}

/// Where a place among the series keeps its durations: those of requests that went well, then those of attempts that
/// nginx called failed.
#[inline(always)]
pub fn durations_at(place: u32, failed: bool) -> u32 {
    place * 2 + failed as u32
}

/// The durations of one series and outcome.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Durations {
    /// connect(2) to established, one a connection.
    pub connect: [u32; BUCKETS],
    /// Request sent to first byte.
    pub first_byte: [u32; BUCKETS],
    /// Start of the attempt (connect(2), or the request on a pooled connection) to the last byte.
    pub total: [u32; BUCKETS],
}

#[cfg(feature = "user")]
// SAFETY: `repr(C)` without padding; any bytes are a valid value.
unsafe impl aya::Pod for Series {}
#[cfg(feature = "user")]
// SAFETY: `repr(C)`, only u32; any bytes are a valid value.
unsafe impl aya::Pod for Durations {}

/// The bucket of a duration in microseconds.
#[inline(always)]
pub fn bucket(micros: u64) -> usize {
    if micros < 16 {
        return micros as usize;
    }
    let octave = log2(micros);
    let sub = (micros >> (octave - SUB_BITS)) & 15;
    let index = (octave - SUB_BITS) as usize * 16 + 16 + sub as usize;
    if index < BUCKETS { index } else { BUCKETS - 1 }
}

/// The largest duration in microseconds that falls into a bucket.
pub fn upper_bound(bucket: usize) -> u64 {
    if bucket < 16 {
        return bucket as u64;
    }
    let shift = (bucket - 16) / 16;
    let sub = (bucket % 16) as u64;
    ((16 + sub + 1) << shift) - 1
}

/// Position of the highest bit; BPF has no instruction that counts zeros.
#[inline(always)]
fn log2(value: u64) -> u32 {
    let mut value = value;
    let mut result = 0;
    let mut step = 32;
    while step > 0 {
        if value >> step != 0 {
            value >>= step;
            result += step;
        }
        step /= 2;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_is_within_its_bucket_and_a_sixteenth_of_its_end() {
        let mut micros = 1;
        while micros < 600_000_000 {
            let end = upper_bound(bucket(micros));
            assert!(end >= micros && end - micros <= micros / 16, "{micros} is reported as {end}");
            micros += 1 + micros / 37;
        }
    }

    #[test]
    fn buckets_follow_each_other() {
        for index in 1..BUCKETS {
            assert_eq!(bucket(upper_bound(index - 1) + 1), index);
            assert_eq!(bucket(upper_bound(index)), index);
        }
    }

    #[test]
    fn what_is_too_long_is_counted_in_the_last_bucket() {
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }
}
