//! Sockets and listeners, as the kernel reports them.

use std::net::{IpAddr, SocketAddr};

use bstr::BString;
use serde::{Deserialize, Serialize};

use super::{Nanos, ProcessRef};

/// A RST cannot be older than this (nanoseconds) when nginx tells of it: its timers are done by then.
const REFUSED_LATELY: u64 = 10_000_000_000;

/// One end of a connection on this host, as the kernel saw it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Socket {
    /// `struct sock *`: an identity, not to be followed.
    pub id: u64,
    /// Inode number of the network namespace; 0 when unknown.
    pub netns: u32,
    /// Addresses.
    pub ends: Ends,
    /// `TCP_*` state number at that moment (1 ESTABLISHED, 2 SYN_SENT, 7 CLOSE, 8 CLOSE_WAIT, 10 LISTEN).
    pub state: u8,
    /// When connect(2) began.
    pub connect_at: Option<Nanos>,
    /// When the connection was established.
    pub established_at: Option<Nanos>,
    /// When nginx last began to send a request on it.
    pub sent_at: Option<Nanos>,
    /// When the first byte of the current response arrived.
    pub first_byte_at: Option<Nanos>,
    /// When the peer's FIN arrived.
    pub fin_at: Option<Nanos>,
    /// When the peer's RST arrived.
    pub reset_at: Option<Nanos>,
    /// When the other end sent a RST, where that end is on this host.
    #[serde(default)]
    pub reset_sent_at: Option<Nanos>,
    /// The socket's error or connect(2)'s, as the kernel reported it first; `None` for none.
    pub errno: Option<i32>,
    /// ICMP (type, code) that ended the connect, where one did.
    pub icmp: Option<(u8, u8)>,
    /// Retransmitted segments seen, SYNs included.
    pub retransmits: u32,
    /// Bytes received and acknowledged over its life (`tcp_sock`).
    pub bytes_received: Option<u64>,
    /// Bytes that the peer acknowledged.
    pub bytes_acked: Option<u64>,
    /// Bytes of the current request that nginx gave to the kernel; `None` when not counted.
    #[serde(default)]
    pub request_bytes: Option<u64>,
    /// Bytes that the upstream had not acknowledged as its FIN arrived; `None` without a FIN, and for AF_UNIX.
    #[serde(default)]
    pub unacked_at_fin: Option<u32>,
    /// Bytes that it had not acknowledged at the failure.
    #[serde(default)]
    pub unacked: Option<u32>,
    /// Its receive window at the failure.
    #[serde(default)]
    pub window: Option<u32>,
    /// Where on this host a segment of this socket met no connection and was answered by a RST.
    #[serde(default)]
    pub refusal: Option<Refusal>,
    /// The other end, where that was seen on this host.
    #[serde(default)]
    pub server: Option<Server>,
    /// Requests that nginx has sent on it, this one included; more than 1 means that a pooled connection was reused.
    /// 0 when not counted.
    pub requests: u32,
    /// The accept queue of the listener at the moment of a failed AF_UNIX connect.
    pub queue: Option<Queue>,
    /// Whether a process had accepted the server's end; `None` when unknown.
    pub accepted: Option<bool>,
    /// Who closed or reset the other end, where that end is on this host and was seen.
    pub closer: Option<Closer>,
    /// The process that last received on the other end, seen where no hook shows who closes it. That it closed or
    /// died afterwards is a match in time.
    #[serde(default)]
    pub owner: Option<ProcessRef>,
}

/// What a process that serves nginx connected to itself lately.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Onward {
    /// Which.
    pub process: ProcessRef,
    /// Connections of its own that are new since the last report of the process, or have changed: at most the latest 8.
    pub attempts: Vec<OnwardAttempt>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OnwardAttempt {
    /// As of nginx's own; what was sent and received when is not known. Its `id` is none of nginx's sockets'.
    pub socket: Socket,
    /// When it ended, by whichever side; `None` while it is open.
    pub ended_at: Option<Nanos>,
    /// When the process closed it itself, with the other end still open.
    pub closed_at: Option<Nanos>,
}

/// A RST of this host's to a segment that met no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// When.
    pub at: Nanos,
    /// The segment's destination where it arrived: not nginx's where a translation is in between.
    pub address: SocketAddr,
    /// Network namespace of the device by which it came in; 0 when unknown.
    pub netns: u32,
    /// The accept queue of the listener that had no room; `None`: nobody listened there.
    pub queue: Option<Queue>,
}

/// The other end of a TCP connection, as it sees itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Server {
    /// Its address: not the one that nginx connected to where a translation is in between.
    pub address: SocketAddr,
    /// Its network namespace.
    pub netns: u32,
    /// Its socket's inode at the failure; `None` when no process held it any more, or not yet.
    pub inode: Option<u64>,
    /// Bytes that had arrived there at the failure and were not read.
    pub unread: Option<u32>,
}

impl Socket {
    /// Where the kernel was seen to deliver a segment of this socket, and in which network namespace: not where nginx
    /// connected to if a translation is in between. `at` is when the socket was looked at.
    pub fn delivered(&self, at: Nanos) -> Option<(SocketAddr, u32)> {
        let refused = self.refusal.filter(|refusal| refusal.at.0 + REFUSED_LATELY >= at.0);
        let refused = refused.map(|refusal| (refusal.address, refusal.netns));
        refused.or(self.server.map(|server| (server.address, server.netns)))
    }
}

/// The two ends of a socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Ends {
    /// TCP.
    Tcp {
        /// nginx's end.
        local: SocketAddr,
        /// The upstream's end.
        remote: SocketAddr,
    },
    /// AF_UNIX stream; the path as bound by the server (starts with NUL when abstract, empty when unknown).
    Unix {
        /// The server's path.
        path: BString,
    },
}

/// An accept queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// Connections waiting for accept(2).
    pub length: u32,
    /// The backlog, as listen(2) and somaxconn made it. The queue is full when `length > limit`.
    pub limit: u32,
}

/// The process in whose context the other end of a connection was closed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Closer {
    /// The closing process.
    pub process: ProcessRef,
    /// When.
    pub at: Nanos,
    /// How.
    pub how: CloseKind,
    /// The task was exiting (PF_EXITING): the close is a consequence of its death.
    pub exiting: bool,
    /// `task->exit_code` at that moment: signal in the low 7 bits, status in bits 8–15.
    pub exit_code: i32,
    /// Cgroup v2 id of the task; 0 or 1 when the host has no unified hierarchy.
    pub cgroup: u64,
    /// Bytes that had arrived at the closed end and were not read; `None` when unknown, as for AF_UNIX.
    #[serde(default)]
    pub unread: Option<u32>,
    /// Bytes that had arrived there over the connection's life.
    #[serde(default)]
    pub received: Option<u32>,
    /// Bytes that were written there over the connection's life.
    #[serde(default)]
    pub written: Option<u32>,
}

/// How the other end went away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CloseKind {
    /// FIN: close(2) or shutdown(2).
    #[default]
    Closed,
    /// RST, since data was unread, or by SO_LINGER 0.
    Aborted,
    /// It was still in the accept queue when its listener closed.
    NeverAccepted,
    /// `ss -K` or another administrator's abort.
    Destroyed,
}

/// A listening socket opened or closed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listen {
    /// True: 7 → 10; false: 10 → 7, the last holder let it go.
    pub open: bool,
    /// `struct sock *`.
    pub id: u64,
    /// Inode number of its network namespace; 0 when unknown.
    pub netns: u32,
    /// Where.
    pub endpoint: Endpoint,
    /// In whose context.
    pub process: ProcessRef,
    /// That task was exiting, so its death closed the socket.
    pub exiting: bool,
    /// Its exit code then.
    pub exit_code: i32,
    /// The backlog, for `open`.
    pub backlog: u32,
    /// Inode number of the process's mount namespace.
    #[serde(default)]
    pub mounts: Option<u32>,
}

/// A place to listen.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Endpoint {
    /// TCP address; unspecified for a wildcard.
    Tcp(SocketAddr),
    /// AF_UNIX path; starts with NUL when abstract.
    Unix(BString),
}

impl Endpoint {
    /// Whether a connect to `self` would reach a listener bound to `bound` (wildcards, IPv4-mapped addresses).
    pub fn reaches(&self, bound: &Endpoint) -> bool {
        match (self, bound) {
            (Endpoint::Unix(a), Endpoint::Unix(b)) => a == b,
            (Endpoint::Tcp(a), Endpoint::Tcp(b)) => {
                let (want, have) = (a.ip().to_canonical(), b.ip().to_canonical());
                let wildcard = match b.ip() {
                    IpAddr::V4(ip) => ip.is_unspecified() && want.is_ipv4(),
                    // A dual-stack wildcard takes both families unless IPV6_V6ONLY was set, which is rare.
                    IpAddr::V6(ip) => ip.is_unspecified(),
                };
                a.port() == b.port() && (want == have || wildcard)
            }
            _ => false,
        }
    }
}
