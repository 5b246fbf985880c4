//! What is sent and received: the only hooks that fire on the success path. Foreign sockets leave after one look-up.

use aya_ebpf::{
    macros::{btf_tracepoint, kprobe},
    programs::{BtfTracePointContext, ProbeContext},
};
use ngx502_common::{connection::Connection, net::AF_UNIX};

use crate::{
    answer, connection, emit, filter,
    kernel::{self, offset},
    latency,
    sock::{Sock, TypedSock},
    task,
};

const EAGAIN: i32 = 11;
/// MSG_PEEK: nginx looks whether a pooled connection is still open.
const PEEK: i32 = 2;

/// `TRACE_EVENT(sock_send_length, TP_PROTO(struct sock *sk, int ret, int flags))`: 6.3 and later, every family.
#[btf_tracepoint(function = "sock_send_length")]
pub fn sock_send_length(ctx: BtfTracePointContext) -> i32 {
    sent(TypedSock::argument(&ctx, 0), ctx.arg(1));
    0
}

/// `TRACE_EVENT(sock_recv_length, TP_PROTO(struct sock *sk, int ret, int flags))`: 6.3 and later, every family.
#[btf_tracepoint(function = "sock_recv_length")]
pub fn sock_recv_length(ctx: BtfTracePointContext) -> i32 {
    let (sk, result, flags): (_, i32, i32) = (TypedSock::argument(&ctx, 0), ctx.arg(1), ctx.arg(2));
    if result != -EAGAIN && flags & PEEK == 0 {
        received(sk, result);
    }
    0
}

/// `int tcp_sendmsg(struct sock *sk, struct msghdr *msg, size_t size)`
#[kprobe]
pub fn tcp_sendmsg(ctx: ProbeContext) -> u32 {
    if let (Some(sk), Some(size)) = (ctx.arg::<u64>(0), ctx.arg::<u64>(2)) {
        sent(sk, size as i32);
    }
    0
}

/// `void tcp_cleanup_rbuf(struct sock *sk, int copied)`: after every receive.
#[kprobe]
pub fn tcp_cleanup_rbuf(ctx: ProbeContext) -> u32 {
    if let (Some(sk), Some(copied)) = (ctx.arg::<u64>(0), ctx.arg::<u64>(1))
        && copied as i32 > 0
    {
        received(sk, copied as i32);
    }
    0
}

/// `static int unix_stream_recvmsg(struct socket *sock, struct msghdr *msg, size_t size, int flags)`, at its entry: what
/// waits in the queue is about to be read.
#[kprobe]
pub fn unix_stream_recvmsg(ctx: ProbeContext) -> u32 {
    if let (Some(socket), Some(flags)) = (ctx.arg::<u64>(0), ctx.arg::<u64>(3)) {
        let sk = kernel::read_or(socket, offset!(socket_sk), 0u64);
        let waiting = kernel::read_or(sk, offset!(sk_receive_qlen), 0u32) > 0;
        if waiting && flags as i32 & PEEK == 0 {
            received(sk, 1);
        }
    }
    0
}

/// `static int unix_stream_sendmsg(struct socket *sock, struct msghdr *msg, size_t len)`
#[kprobe]
pub fn unix_stream_sendmsg(ctx: ProbeContext) -> u32 {
    if let (Some(socket), Some(len)) = (ctx.arg::<u64>(0), ctx.arg::<u64>(2)) {
        sent(kernel::read_or(socket, offset!(socket_sk), 0), len as i32);
    }
    0
}

/// A traced worker sends: to an upstream, or to a client that waits for its answer.
#[inline(always)]
fn sent(sk: impl Sock, bytes: i32) {
    if filter::may_know_socket(sk.address()) {
        known_sent(sk, bytes);
    } else if sk.family() == AF_UNIX && task::is_traced() && is_unix_client(sk) {
        unix_connected(sk, None, bytes);
    }
}

#[inline(always)]
fn known_sent(sk: impl Sock, bytes: i32) {
    match connection::look_up(sk.address()) {
        Some(connection) if connection::is_current(connection, sk) => {
            if connection.worker == task::tgid() {
                request_sent(connection, bytes);
            }
        }
        mut earlier => {
            if !task::is_traced() {
                return;
            }
            if sk.family() != AF_UNIX || !is_unix_client(sk) {
                return answer::sent(sk.address());
            }
            if let Some(earlier) = &mut earlier {
                latency::count(earlier);
            }
            unix_connected(sk, earlier, bytes);
        }
    }
}

/// The first bytes that a worker sends on an AF_UNIX socket that no hook has seen before: when connect(2) was called is
/// not known.
#[inline(always)]
fn unix_connected(sk: impl Sock, earlier: Option<&mut Connection>, bytes: i32) {
    if let Some(connection) = connection::begin_unix(sk, earlier) {
        request_sent(connection, bytes);
    }
}

/// Of an AF_UNIX socket: whether nginx connected it. Its peer is bound to a path, it itself is not; a client of nginx
/// is the other way round.
#[inline(always)]
fn is_unix_client(sk: impl Sock) -> bool {
    sk.unix_addr() == 0
}

/// A request begins with the first bytes sent after a response, or with the first ones at all. What is sent on top of
/// an answer that has begun counts as another one: TLS handshakes, HTTP/2 frames, a body after an early answer.
#[inline(always)]
fn request_sent(connection: &mut Connection, bytes: i32) {
    if connection.facts.sent_at == 0 || connection.facts.first_byte_at != 0 {
        latency::count(connection);
        connection.facts.sent_at = emit::now();
        connection.facts.first_byte_at = 0;
        connection.facts.requests += 1;
        connection.facts.request_bytes = 0;
        connection.failed = 0;
        connection.reported = 0;
    }
    if bytes > 0 {
        connection.facts.request_bytes += bytes as u64;
    }
}

/// A worker receives from its upstream; or the upstream receives from nginx by AF_UNIX, where nothing else shows
/// which process serves the connection.
#[inline(always)]
fn received(sk: impl Sock, result: i32) {
    if let Some(connection) = connection::get_current(sk) {
        if result <= 0 {
            return ended(connection, sk.address(), result);
        }
        let now = emit::now();
        if connection.facts.first_byte_at == 0 {
            connection.facts.first_byte_at = now;
            if connection.facts.requests <= 1 && connection.place == 0 {
                connection.place = latency::place_of(connection);
            }
        }
        connection.last_byte_at = now;
    } else if result > 0
        && filter::unix_seen()
        && sk.family() == AF_UNIX
        && let Some(peer) = sk.unix_peer()
        && let Some(connection) = connection::get_current(peer)
        && connection.facts.owner.pid != task::tgid()
    {
        connection.facts.owner = task::process(task::current());
    }
}

/// The worker learns that its upstream is gone. For AF_UNIX this is the last that is seen of the connection where no
/// hook sees its close; for TCP the state hook knows more.
#[inline(always)]
fn ended(connection: &mut Connection, sk: u64, result: i32) {
    if connection.facts.family != AF_UNIX {
        return;
    }
    connection.facts.fin_at = emit::now();
    if connection.facts.errno == 0 {
        connection.facts.errno = -result;
    }
    connection::save_closed(connection, sk);
}
