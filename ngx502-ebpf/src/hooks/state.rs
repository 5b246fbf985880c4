//! The life of TCP sockets: nginx's own towards upstreams, and their other ends on this host.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use ngx502_common::{
    connection::Connection,
    event::{CLOSE_ABORT, CLOSE_DESTROYED, CLOSE_FIN, CLOSE_NEVER_ACCEPTED},
};

use crate::{
    answer, connection, emit, filter,
    hooks::listen,
    kernel, latency,
    maps::TRACED,
    sock::{Sock, TypedSock},
    task, thread,
};

const ESTABLISHED: i32 = 1;
const SYN_SENT: i32 = 2;
const SYN_RECV: i32 = 3;
const FIN_WAIT1: i32 = 4;
const FIN_WAIT2: i32 = 5;
const CLOSE: i32 = 7;
const CLOSE_WAIT: i32 = 8;
const LAST_ACK: i32 = 9;
const LISTEN: i32 = 10;
const CLOSING: i32 = 11;

const EPIPE: i32 = 32;
const ECONNABORTED: i32 = 103;
const ECONNRESET: i32 = 104;
const ETIMEDOUT: i32 = 110;

/// `TRACE_EVENT(inet_sock_set_state, TP_PROTO(const struct sock *sk, const int oldstate, const int newstate))`
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn inet_sock_set_state(ctx: BtfTracePointContext) -> i32 {
    let (sk, old, new): (_, i32, i32) = (TypedSock::argument(&ctx, 0), ctx.arg(1), ctx.arg(2));
    match (old, new) {
        (CLOSE, LISTEN) => listen::changed(sk.address(), true),
        (LISTEN, CLOSE) => listen::changed(sk.address(), false),
        (CLOSE, SYN_SENT) => connecting(sk),
        // Nobody is in these states any more but the kernel, and nothing can happen to the connection that counts.
        (FIN_WAIT1 | FIN_WAIT2 | CLOSING | LAST_ACK, _) => {}
        _ => {
            if let Some(connection) = connection::get(sk.address()) {
                upstream_changed(connection, sk, old, new);
            } else {
                other_end_changed(sk, old, new);
            }
        }
    }
    0
}

/// `TRACE_EVENT(tcp_destroy_sock, TP_PROTO(struct sock *sk))`: the end of every TCP socket that was ever hashed.
#[btf_tracepoint(function = "tcp_destroy_sock")]
pub fn tcp_destroy_sock(ctx: BtfTracePointContext) -> i32 {
    released(TypedSock::argument(&ctx, 0).address());
    0
}

/// A socket is gone: an upstream's, or perhaps that of a client that waits for its answer.
#[inline(always)]
pub fn released(sk: u64) {
    if !filter::may_know_socket(sk) {
        return;
    }
    match connection::get(sk) {
        Some(connection) => {
            keep(connection, sk);
            connection::end(connection, sk);
        }
        None => answer::client_ended(sk),
    }
}

#[inline(always)]
fn connecting(sk: impl Sock) {
    if task::is_traced() {
        connection::begin(sk);
    }
}

#[inline(always)]
fn upstream_changed(connection: &mut Connection, sk: impl Sock, old: i32, new: i32) {
    match (old, new) {
        (SYN_SENT, ESTABLISHED) => {
            connection.facts.established_at = emit::now();
            connection::publish(connection, sk);
        }
        (ESTABLISHED, CLOSE_WAIT) => connection.facts.fin_at = emit::now(),
        (_, CLOSE) if connection.facts.errno == 0 => {
            connection.facts.errno = sk.error();
        }
        _ => {}
    }
    // nginx closes it. What the other end or the kernel has closed (CLOSE) is released in nginx's own close(2).
    if matches!(new, FIN_WAIT1 | LAST_ACK) {
        keep(connection, sk.address());
    }
}

/// The other end of an upstream connection, in the context of whoever holds it.
#[inline(always)]
fn other_end_changed(sk: impl Sock, old: i32, new: i32) {
    match (old, new) {
        (SYN_RECV, ESTABLISHED) => {
            if let Some(connection) = connection::of_peer(sk) {
                connection.peer = sk.address();
            }
        }
        (ESTABLISHED, FIN_WAIT1) => {
            closed(sk, CLOSE_FIN);
        }
        (ESTABLISHED | CLOSE_WAIT, CLOSE) => match sk.error() {
            // A reset or a timeout came in: nobody on this side closed.
            EPIPE | ECONNRESET | ETIMEDOUT => {}
            ECONNABORTED => {
                closed(sk, CLOSE_DESTROYED);
            }
            _ if connection::socket_of(sk.address()) == 0 => {
                closed(sk, CLOSE_NEVER_ACCEPTED);
            }
            _ => {
                closed(sk, CLOSE_ABORT);
            }
        },
        _ => {}
    }
}

#[inline(never)]
fn closed<S: Sock>(sk: S, how: u32) {
    if let Some(connection) = connection::of_peer(sk) {
        connection::peer_closed(connection, how);
    }
}

/// Keeps the socket that a worker closes: an error page that follows at once is about it, and where the error log
/// hides the failure's text nothing else tells.
#[inline(never)]
pub fn keep(connection: &mut Connection, sk: u64) {
    if connection.kept != 0 || connection.worker != task::tgid() {
        return;
    }
    connection.kept = 1;
    latency::count(connection);
    // An answer came and nothing broke: an error page that is about it all the same (a bad header) has its text in
    // the error log, unless that hides it. And what an attempt has told of needs no second word.
    let well = connection.facts.first_byte_at != 0 && connection.facts.errno == 0;
    let superfluous = well || connection.told != 0;
    if superfluous && !filter::hiding_log_seen() {
        return;
    }
    // SAFETY: read at once. A worker that is ending is not in the table any more, and answers nobody.
    let hides = unsafe { TRACED.get(&task::tgid()) }.map(|traced| traced.log_hides != 0);
    if hides.is_none() || (hides == Some(false) && superfluous) {
        return;
    }
    if let Some(thread) = thread::current() {
        kernel::copy_struct(&mut thread.closed, &connection.facts);
        connection::complete(&mut thread.closed, &mut thread.head, sk, connection.peer);
    }
}
