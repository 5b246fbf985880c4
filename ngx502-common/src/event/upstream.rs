//! What nginx says of upstream attempts and requests, and what the kernel knows of the sockets.

#[cfg(feature = "user")]
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Header, Process};

/// [`Attempt::via`]: `ngx_log_error_core`.
pub const VIA_LOG: u8 = 0;
/// [`Attempt::via`]: `ngx_connection_error`.
pub const VIA_CONNECTION_ERROR: u8 = 1;
/// [`Attempt::via`]: `ngx_ssl_error`.
pub const VIA_SSL_ERROR: u8 = 2;

/// [`SocketFacts::accepted`]: not known.
pub const ACCEPTED_UNKNOWN: u8 = 0;
/// [`SocketFacts::accepted`]: it was not accepted.
pub const ACCEPTED_NO: u8 = 1;
/// [`SocketFacts::accepted`]: it was accepted.
pub const ACCEPTED_YES: u8 = 2;

/// [`CloserFacts::how`]: nothing was seen.
pub const CLOSE_NONE: u32 = 0;
/// [`CloserFacts::how`]: FIN.
pub const CLOSE_FIN: u32 = 1;
/// [`CloserFacts::how`]: RST by close with unread data or SO_LINGER 0.
pub const CLOSE_ABORT: u32 = 2;
/// [`CloserFacts::how`]: it was never accepted when its listener closed.
pub const CLOSE_NEVER_ACCEPTED: u32 = 3;
/// [`CloserFacts::how`]: an administrator destroyed it (ECONNABORTED).
pub const CLOSE_DESTROYED: u32 = 4;

/// Longest request line that is sent along.
pub const LINE_MAX: usize = 1024;
/// Longest string argument of a log line.
pub const DETAIL_MAX: usize = 192;
/// Longest peer name; an AF_UNIX path has at most 108 bytes, `unix:` before it.
pub const PEER_MAX: usize = 116;
/// How many upstream states are sent, the last ones.
pub const STATES_MAX: usize = 6;

/// Who closed the other end of a connection.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "user", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
pub struct CloserFacts {
    /// When.
    pub at: u64,
    /// Cgroup v2 id of the closing task.
    pub cgroup: u64,
    /// The closing process.
    pub process: Process,
    /// One of the `CLOSE_` constants.
    pub how: u32,
    /// 1 when the task was exiting.
    pub exiting: u32,
    /// `task->exit_code`.
    pub exit_code: i32,
    /// Bytes that had arrived there and that it had not read; [`UNKNOWN`] where that is not known, as for AF_UNIX.
    pub unread: u32,
    /// Bytes that had arrived there over the connection's life, or [`UNKNOWN`].
    pub received: u32,
    /// Bytes that were written there over the connection's life, or [`UNKNOWN`].
    pub written: u32,
}

/// A RST to a segment that met no connection: a closed port, a connection that is no more, or an accept queue that had
/// no room.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "user", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
pub struct RefusalFacts {
    /// When; 0: none was seen.
    pub at: u64,
    /// The segment's destination where it arrived, which a translation may have changed on its way.
    pub address: [u8; 16],
    /// The network namespace of the device that it came in by.
    pub netns: u32,
    /// Destination port, host byte order.
    pub port: u16,
    /// AF_INET 2, AF_INET6 10.
    pub family: u16,
    /// Accept queue of the listener that had no room.
    pub queue_length: u32,
    /// Its limit; 0 together with `queue_length` 0: nobody listened.
    pub queue_limit: u32,
}

/// The other end of a connection, as it sees itself: another address than nginx's where a translation is in between.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "user", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
pub struct ServerFacts {
    /// Its address.
    pub address: [u8; 16],
    /// Its network namespace; 0: it was not seen on this host.
    pub netns: u32,
    /// Its port, host byte order.
    pub port: u16,
    /// AF_INET 2, AF_INET6 10.
    pub family: u16,
    /// The inode of its socket while a process holds it; 0 otherwise.
    pub inode: u64,
    /// Bytes that arrived there and are not read; [`UNKNOWN`] where that is not known.
    pub unread: u32,
    /// Padding, 0.
    pub reserved: u32,
}

/// A number that is not known.
pub const UNKNOWN: u32 = u32::MAX;

/// One upstream socket of nginx.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "user", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
pub struct SocketFacts {
    /// `struct sock *`; 0: there is no socket.
    pub id: u64,
    /// connect(2) began.
    pub connect_at: u64,
    /// Established.
    pub established_at: u64,
    /// nginx began to send its current request.
    pub sent_at: u64,
    /// First byte of the current response.
    pub first_byte_at: u64,
    /// FIN from the peer.
    pub fin_at: u64,
    /// RST from the peer.
    pub reset_at: u64,
    /// RST sent by the other end, where that is on this host.
    pub reset_sent_at: u64,
    /// `tcp_sock.bytes_received`; `u64::MAX` when unknown.
    pub bytes_received: u64,
    /// `tcp_sock.bytes_acked`; `u64::MAX` when unknown.
    pub bytes_acked: u64,
    /// Bytes of the current request that nginx gave to the kernel.
    pub request_bytes: u64,
    /// Bytes that the upstream had not acknowledged as its FIN arrived; [`UNKNOWN`] without a FIN.
    pub unacked_at_fin: u32,
    /// The same at this moment; [`UNKNOWN`] for AF_UNIX.
    pub unacked: u32,
    /// The upstream's receive window at this moment; [`UNKNOWN`] for AF_UNIX.
    pub window: u32,
    /// The first byte that is not acknowledged, as a sequence number.
    pub first_unacked: u32,
    /// The RST that answered a segment of this socket for want of a connection.
    pub refusal: RefusalFacts,
    /// The other end, where that is on this host.
    pub server: ServerFacts,
    /// The other end's last holder.
    pub closer: CloserFacts,
    /// The process that last received on the other end; pid 0 when none was seen.
    pub owner: Process,
    /// Network namespace inode.
    pub netns: u32,
    /// First errno that the kernel put on it, positive; 0 for none.
    pub errno: i32,
    /// Retransmitted segments.
    pub retransmits: u32,
    /// Requests sent on it; 0 when not counted.
    pub requests: u32,
    /// Accept queue of an AF_UNIX listener that had no room.
    pub queue_length: u32,
    /// Its limit; 0 together with `queue_length` 0 when unknown.
    pub queue_limit: u32,
    /// nginx's address.
    pub local: [u8; 16],
    /// The upstream's address.
    pub remote: [u8; 16],
    /// nginx's port, host byte order.
    pub local_port: u16,
    /// The upstream's port, host byte order.
    pub remote_port: u16,
    /// AF_UNIX 1, AF_INET 2, AF_INET6 10.
    pub family: u16,
    /// Length of `path`.
    pub path_len: u16,
    /// `TCP_*` state.
    pub state: u8,
    /// One of the `ACCEPTED_` constants.
    pub accepted: u8,
    /// 1 when `icmp_type` and `icmp_code` were seen.
    pub icmp: u8,
    /// ICMP type.
    pub icmp_type: u8,
    /// ICMP code.
    pub icmp_code: u8,
    /// Padding, 0.
    pub reserved: [u8; 3],
    /// The server's `sun_path`, where it is AF_UNIX.
    pub path: [u8; 112],
}

/// nginx reported trouble with an upstream attempt.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "user", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
pub struct Attempt {
    /// Common part.
    pub header: Header,
    /// The (sub)request's address.
    pub request: u64,
    /// Its main request's address; 0 when the layout is not known.
    pub main: u64,
    /// `log->connection`.
    pub connection: u64,
    /// Address of the format or text.
    pub text: u64,
    /// Address of `log->action`'s text.
    pub action: u64,
    /// `log->log_level`.
    pub log_level: u64,
    /// The first two variable arguments, as the registers hold them: which one is a number the format says.
    pub arguments: [i64; 2],
    /// How many upstream states there were.
    pub index: u32,
    /// errno; 0 for none.
    pub errno: i32,
    /// Level of the call; 0 where the function has none.
    pub level: u8,
    /// One of the `VIA_` constants.
    pub via: u8,
    /// Length of `text_copy`.
    pub text_len: u16,
    /// Length of `peer`.
    pub peer_len: u16,
    /// Length of `detail`.
    pub detail_len: u16,
    /// Length of `host`.
    pub host_len: u16,
    /// Length of `client`.
    pub client_len: u16,
    /// Length of `line`.
    pub line_len: u16,
    /// Length of `action_copy`.
    pub action_len: u16,
    /// The upstream socket.
    pub socket: SocketFacts,
    /// The text itself, for pointers that are not into the executable.
    pub text_copy: [u8; 96],
    /// `log->action` itself, likewise.
    pub action_copy: [u8; 48],
    /// `u->peer.name`.
    pub peer: [u8; PEER_MAX],
    /// 1: the probe could not read the name; its address is in the first eight bytes of `peer`.
    pub peer_unread: u32,
    /// The first string argument.
    pub detail: [u8; DETAIL_MAX],
    /// Host header.
    pub host: [u8; 128],
    /// Client address.
    pub client: [u8; 48],
    /// Request line.
    pub line: [u8; LINE_MAX],
}

/// `ngx_http_upstream_state_t`.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "user", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
pub struct State {
    /// Milliseconds; -1 when not reached.
    pub response_ms: i64,
    /// Milliseconds; -1 when not reached.
    pub connect_ms: i64,
    /// Milliseconds; -1 when not reached.
    pub header_ms: i64,
    /// Bytes; -1 when unknown.
    pub bytes_received: i64,
    /// Bytes; -1 when unknown.
    pub bytes_sent: i64,
    /// Status.
    pub status: u16,
    /// Length of `peer`; 0 without one.
    pub peer_len: u16,
    /// 1: the probe could not read the name; its address is in the first eight bytes of `peer`.
    pub peer_unread: u32,
    /// Name; cut.
    pub peer: [u8; PEER_MAX],
    /// Padding, 0.
    pub reserved: [u8; 4],
}

/// nginx answers with its own error page.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "user", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
pub struct Request {
    /// Common part.
    pub header: Header,
    /// The (sub)request's address.
    pub request: u64,
    /// Its main request's address; 0 when the layout is not known.
    pub main: u64,
    /// `log->connection`.
    pub connection: u64,
    /// `log->log_level`.
    pub log_level: u64,
    /// How many upstream states there are in all; 0 when there is no array.
    pub states_total: u32,
    /// How many of them are in `states`.
    pub states_len: u32,
    /// Status.
    pub status: u16,
    /// Length of `peer`.
    pub peer_len: u16,
    /// Length of `host`.
    pub host_len: u16,
    /// Length of `client`.
    pub client_len: u16,
    /// Length of `line`.
    pub line_len: u16,
    /// 1: `r->upstream` is set.
    pub has_upstream: u8,
    /// 1: `r->cache` is set.
    pub has_cache: u8,
    /// 1: an [`Answer`] will follow.
    pub answer_follows: u8,
    /// 1: an [`Attempt`] of this request has reported the peer, the host, the client and the request line.
    pub reported: u8,
    /// Padding, 0.
    pub reserved: [u8; 2],
    /// The last upstream states, oldest first. The record ends with the last one that there is where `reported` is set
    /// and `closed` is empty.
    pub states: [State; STATES_MAX],
    /// The upstream socket that this thread closed last; `id` 0 when none was seen.
    pub closed: SocketFacts,
    /// `u->peer.name`.
    pub peer: [u8; PEER_MAX],
    /// 1: the probe could not read the name; its address is in the first eight bytes of `peer`.
    pub peer_unread: u32,
    /// Host header.
    pub host: [u8; 128],
    /// Client address.
    pub client: [u8; 48],
    /// Request line.
    pub line: [u8; LINE_MAX],
}

/// nginx wrote to the client, or gave it up. Sent alone where `has_last` is 0, else as the beginning of [`Answer`].
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "user", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
pub struct Answered {
    /// Common part.
    pub header: Header,
    /// The main request's address.
    pub main: u64,
    /// `log->connection`.
    pub connection: u64,
    /// How many upstream states there were.
    pub states_total: u32,
    /// `r->headers_out.status`; 0 when it could not be read.
    pub status: u16,
    /// 1 when the client's connection closed before anything was written.
    pub client_gone: u8,
    /// 1 when a state follows; 0 when there is none, or none but those that the [`Request`] reported.
    pub has_last: u8,
}

/// The same with the last upstream state.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "user", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
pub struct Answer {
    /// What became of the request.
    pub answered: Answered,
    /// The last upstream state.
    pub last: State,
}

#[cfg(feature = "user")]
// SAFETY: `repr(C)` without padding, integers only; any bytes are a valid value.
unsafe impl aya::Pod for RefusalFacts {}

const _: () = {
    assert!(size_of::<CloserFacts>() == 72);
    assert!(size_of::<RefusalFacts>() == 40);
    assert!(size_of::<ServerFacts>() == 40);
    assert!(size_of::<SocketFacts>() == 80 + 24 + 40 + 40 + 72 + 32 + 24 + 32 + 8 + 8 + 112);
    assert!(size_of::<State>() == 48 + 120);
    assert!(core::mem::offset_of!(Attempt, socket) == 16 + 64 + 8 + 16);
    assert!(core::mem::offset_of!(Attempt, line) == 104 + 472 + 96 + 48 + 120 + 192 + 128 + 48);
    assert!(core::mem::offset_of!(Request, states) == 16 + 32 + 8 + 16);
    assert!(core::mem::offset_of!(Request, line) == 72 + 472 + 168 * STATES_MAX + 120 + 176);
    assert!(size_of::<Answer>() == 16 + 16 + 8 + 168);
};
