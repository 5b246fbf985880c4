//! What one stranger's file may cost: time, and bytes unpacked. A file that is made to take more yields nothing.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// The largest nginx known, with debug information, takes a fifth of it.
const TIME: Duration = Duration::from_secs(2);
/// Bytes of its sections unpacked, all together.
const BYTES: u64 = 256 << 20;

/// What is left of it.
#[derive(Debug)]
pub(super) struct Budget {
    until: Instant,
    bytes: Cell<u64>,
}

impl Budget {
    /// The whole of it, from now on.
    pub(super) fn new() -> Self {
        Self { until: Instant::now() + TIME, bytes: Cell::new(BYTES) }
    }

    /// Whether the time is over.
    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// How many bytes may still be unpacked.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// So many were.
    pub(super) fn spend(&self, bytes: u64) {
        self.bytes.set(self.bytes.get().saturating_sub(bytes));
    }
}
