//! The live ring buffer.

use std::io;
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use tokio::io::unix::AsyncFd;

/// Longer than the interval in which the BPF side wakes the reader at most once (5 ms, `ngx502-ebpf/src/emit.rs`):
/// what it sent without a wake-up is there when this has passed.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(7);

/// When to look for records.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    /// When the kernel says that there are some.
    Woken,
    /// Some were there, so more may have come without a wake-up.
    Soon,
    /// Some were left.
    Now,
}

/// Reads records as they come, woken rarely in a storm and at once for a lone record.
pub struct RingSource {
    ring: AsyncFd<RingBuf<MapData>>,
    look: Look,
}

impl RingSource {
    /// Takes over the ring buffer. Needs a tokio runtime with I/O.
    ///
    /// # Errors
    /// When its descriptor cannot be watched.
    pub fn new(ring: RingBuf<MapData>) -> io::Result<Self> {
        // SAFETY: the map owns its descriptor and gives the same one for as long as it lives.
        let ring = unsafe { AsyncFd::register(ring) }?;
        Ok(Self { ring, look: Look::Woken })
    }

    /// Waits until there may be records. Cancel-safe.
    ///
    /// # Errors
    /// When waiting fails.
    pub async fn ready(&mut self) -> io::Result<()> {
        match self.look {
            Look::Woken => self.ring.readable().await?.clear_ready(),
            Look::Soon => tokio::time::sleep(LOOK_AGAIN_AFTER).await,
            // Signals and timers are only seen by a runtime that gets a moment.
            Look::Now => tokio::task::yield_now().await,
        }
        self.look = Look::Woken;
        Ok(())
    }

    /// Reads the next record that is there by its bytes.
    pub fn next<T>(&mut self, read: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let record = self.ring.get_mut().next()?;
        self.look = Look::Soon;
        Some(read(&record))
    }

    /// Not all records that are there were taken: does not wait before the next.
    pub fn leave_rest(&mut self) {
        self.look = Look::Now;
    }
}
