//! The life of TCP sockets: nginx's own towards upstreams, those of the processes that serve it, and their other ends on
//! this host.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use ngx502_common::{
    connection::Connection,
    event::{CLOSE_ABORT, CLOSE_DESTROYED, CLOSE_FIN, CLOSE_NEVER_ACCEPTED},
    net::{
        CLOSE, CLOSE_WAIT, CLOSING, ESTABLISHED, FIN_WAIT1, FIN_WAIT2, LAST_ACK, LISTEN, SYN_RECV, SYN_SENT,
    },
};

use crate::{
    connection, emit,
    hooks::listen,
    onward,
    sock::{self, Sock, TypedSock},
    task,
};

const EPIPE: i32 = 32;
const ECONNABORTED: i32 = 103;
const ECONNRESET: i32 = 104;
const ETIMEDOUT: i32 = 110;

/// `TRACE_EVENT(inet_sock_set_state, TP_PROTO(const struct sock *sk, const int oldstate, const int newstate))`
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn inet_sock_set_state(ctx: BtfTracePointContext) -> i32 {
    let sk = TypedSock::argument(&ctx, 0);
    let (old, new) = (ctx.arg::<i32>(1) as u8, ctx.arg::<i32>(2) as u8);
    match (old, new) {
        (CLOSE, LISTEN) => listen::changed(sk.address(), true),
        (LISTEN, CLOSE) => listen::changed(sk.address(), false),
        (CLOSE, SYN_SENT) => connecting(sk),
        // Only the kernel is in these states any more, and nothing can happen to the connection that counts.
        (FIN_WAIT1 | FIN_WAIT2 | CLOSING | LAST_ACK, _) => {}
        _ => {
            if let Some(connection) = connection::get(sk.address()) {
                upstream_changed(connection, sk, old, new);
            } else if let Some(onward) = onward::get(sk.address()) {
                onward::changed(onward, sk, old, new);
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
    connection::released(TypedSock::argument(&ctx, 0).address());
    0
}

#[inline(always)]
fn connecting(sk: impl Sock) {
    if task::is_traced() {
        connection::begin(sk);
    } else {
        onward::begin(sk);
    }
}

#[inline(always)]
fn upstream_changed(connection: &mut Connection, sk: impl Sock, old: u8, new: u8) {
    match (old, new) {
        (SYN_SENT, ESTABLISHED) => {
            connection.facts.established_at = emit::now();
            connection::publish(connection, sk);
        }
        (ESTABLISHED, CLOSE_WAIT) => {
            connection::fin_received(connection, sk);
        }
        (_, CLOSE) if connection.facts.errno == 0 => {
            connection.facts.errno = sk.error();
        }
        _ => {}
    }
    // nginx closes it. What the other end or the kernel has closed (CLOSE) is released in nginx's own close(2).
    if matches!(new, FIN_WAIT1 | LAST_ACK) {
        connection::save_closed(connection, sk.address());
    }
}

/// The other end of an upstream connection, in the context of whoever holds it.
#[inline(always)]
fn other_end_changed(sk: impl Sock, old: u8, new: u8) {
    match (old, new) {
        (SYN_RECV, ESTABLISHED) => {
            if let Some(connection) = connection::of_peer(sk) {
                connection::joined(connection, sk);
            }
        }
        (ESTABLISHED, FIN_WAIT1) => {
            closed(sk, old, CLOSE_FIN);
        }
        (ESTABLISHED | CLOSE_WAIT, CLOSE) => match sk.error() {
            // A reset or a timeout came in: this side did not close.
            EPIPE | ECONNRESET | ETIMEDOUT => {}
            ECONNABORTED => {
                closed(sk, old, CLOSE_DESTROYED);
            }
            _ if sock::socket_of(sk.address()) == 0 => {
                closed(sk, old, CLOSE_NEVER_ACCEPTED);
            }
            _ => {
                closed(sk, old, CLOSE_ABORT);
            }
        },
        _ => {}
    }
}

#[inline(never)]
fn closed<S: Sock>(sk: S, old: u8, how: u32) {
    if let Some(connection) = connection::of_peer(sk) {
        connection::server_closed(connection, sk, old, how);
    }
}
