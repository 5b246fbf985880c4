//! An upstream socket under observation: the value of the map `CONNECTIONS`, which user space only reads.

use crate::{event::SocketFacts, latency::Series};

/// What is known of one upstream socket.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Connection {
    /// What user space gets to see in records; its `path` is that of the peer's address.
    pub facts: SocketFacts,
    /// The worker that connected.
    pub worker: u32,
    /// 1 once the worker has closed it.
    pub saved: u16,
    /// 1 once an attempt was reported with it.
    pub reported: u16,
    /// Inode of the socket: tells an AF_UNIX socket from an earlier one at the same address, where no hook saw
    /// that one's end.
    pub inode: u64,
    /// The other end on this host; 0 when none was seen.
    pub peer: u64,
    /// When the last byte of the current response arrived; 0 once the request is counted.
    pub last_byte_at: u64,
    /// The upstream that its durations are counted for.
    pub series: Series,
    /// What its other end knows it by, once it is established.
    pub pair: Pair,
    /// The place of that upstream among all, once a response came; 0 before, and where there is no room for more.
    pub place: u32,
    /// 1: the current request is an attempt that nginx called failed.
    pub failed: u32,
}

/// A TCP connection by the numbers with which its two ends began to count. Addresses and ports are rewritten on the
/// way (DNAT, SNAT, IPVS) or mean something else in the other end's namespace; these are the same at both ends, and
/// follow from a socket's counters for as long as it lives.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Pair {
    /// The sequence number of the first byte of whoever connected.
    pub client: u32,
    /// The sequence number of the first byte of whoever accepted.
    pub server: u32,
}

/// What a socket's counters say about its connection: `snd_una - bytes_acked` and `rcv_nxt - bytes_received`, which
/// stay what they were when the connection was established.
#[derive(Clone, Copy)]
pub struct Origins {
    /// Of what it sends.
    pub sent: u32,
    /// Of what it receives.
    pub received: u32,
}

impl Origins {
    /// Where the socket is the end that connected: `bytes_acked` counts its SYN.
    #[inline(always)]
    pub fn of_client(self) -> Pair {
        Pair { client: self.sent.wrapping_add(1), server: self.received }
    }

    /// Where it is the end that accepted.
    #[inline(always)]
    pub fn of_server(self) -> Pair {
        Pair { client: self.received, server: self.sent }
    }
}

/// The durations of one request, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phases {
    /// connect(2) to established; `None` on a reused connection, and where connect(2) was not seen.
    pub connect: Option<u64>,
    /// Request sent to first byte.
    pub first_byte: u64,
    /// Start of the attempt to the last byte so far.
    pub total: u64,
}

impl Connection {
    /// The durations of the current request, unless it has no response yet or is counted.
    #[inline(always)]
    pub fn uncounted(&self) -> Option<Phases> {
        let facts = &self.facts;
        if self.last_byte_at == 0 || facts.sent_at == 0 {
            return None;
        }
        let first_request = facts.requests == 1 && facts.connect_at != 0;
        let connected = first_request && facts.established_at != 0;
        Some(Phases {
            connect: if connected { Some(micros(facts.connect_at, facts.established_at)) } else { None },
            first_byte: micros(facts.sent_at, facts.first_byte_at),
            total: micros(if first_request { facts.connect_at } else { facts.sent_at }, self.last_byte_at),
        })
    }
}

#[inline(always)]
fn micros(from: u64, to: u64) -> u64 {
    if to > from { (to - from) / 1_000 } else { 0 }
}

#[cfg(feature = "user")]
// SAFETY: `repr(C)` without padding, integers only; any bytes are a valid value.
unsafe impl aya::Pod for Connection {}
