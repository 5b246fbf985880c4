//! The live ring buffer.

use std::io;
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use tokio::io::unix::AsyncFd;

/// Longer than the interval in which the BPF side wakes the reader at most once (5 ms, `ngx502-ebpf/src/emit.rs`):
/// what it sent without a wake-up is there when this has passed.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(7);
/// Records taken at once before others get their turn.
const BATCH: usize = 4096;

/// Reads records as they come, woken rarely in a storm and at once for a lone record.
pub struct RingSource {
    ring: AsyncFd<RingBuf<MapData>>,
    /// Records were found since the last wait, so more may have come without a wake-up.
    look_again: bool,
}

impl RingSource {
    /// Takes over the ring buffer. Needs a tokio runtime with I/O.
    ///
    /// # Errors
    /// When its descriptor cannot be watched.
    pub fn new(ring: RingBuf<MapData>) -> io::Result<Self> {
        // SAFETY: the map owns its descriptor and gives the same one for as long as it lives.
        let ring = unsafe { AsyncFd::register(ring) }?;
        Ok(Self { ring, look_again: false })
    }

    /// Waits until there may be records. Cancel-safe.
    ///
    /// # Errors
    /// When waiting fails.
    pub async fn ready(&mut self) -> io::Result<()> {
        if self.look_again {
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
            self.look_again = false;
            return Ok(());
        }
        self.ring.readable().await?.clear_ready();
        Ok(())
    }

    /// Hands the bytes of each record that is there to `consume`, at most a batch; how many there were.
    pub fn drain(&mut self, mut consume: impl FnMut(&[u8])) -> usize {
        let ring = self.ring.get_mut();
        let mut count = 0;
        while count < BATCH
            && let Some(record) = ring.next()
        {
            consume(&record);
            count += 1;
        }
        self.look_again |= count > 0;
        count
    }
}
