//! What the processes that serve nginx connect to themselves: the values of the maps `ONWARD` and `RECENT`, which user
//! space only reads. A process that merely forwards is known by it, and so is what it forwarded to.

use crate::connection::Connection;
use crate::event::Process;

/// Connections of one process that are remembered; a power of two.
pub const RECENT_LEN: usize = 8;

/// One connection of such a process, from its connect(2) on; it outlives the socket.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Onward {
    /// As of nginx's own; addresses, times, `pair` and what the other end did are known, what was sent and received when
    /// is not.
    pub connection: Connection,
    /// When the process itself closed it; 0 while it is open, and where the other end was first.
    pub closed_at: u64,
    /// When it ended, by whichever side: nothing changes any more; 0 before.
    pub ended_at: u64,
}

/// The latest connections of one process.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Recent {
    /// The process: its id may be another's later.
    pub process: Process,
    /// How many there were; the next one's place is this modulo [`RECENT_LEN`].
    pub count: u64,
    /// Their keys in `ONWARD`; 0 for none.
    pub keys: [u64; RECENT_LEN],
}

#[cfg(feature = "user")]
// SAFETY: `repr(C)` without padding, integers only; any bytes are a valid value.
unsafe impl aya::Pod for Onward {}
#[cfg(feature = "user")]
// SAFETY: likewise.
unsafe impl aya::Pod for Recent {}
