//! Resets, ICMP errors and retransmissions of upstream connections.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};

use crate::{
    connection, emit,
    kernel::{self, offset},
    sock::Sock,
};

/// SO_EE_ORIGIN_ICMP and SO_EE_ORIGIN_ICMP6.
const ORIGIN_ICMP: [u8; 2] = [2, 3];

/// `DECLARE_EVENT_CLASS(tcp_event_sk, TP_PROTO(struct sock *sk))`: a RST arrived.
#[raw_tracepoint(tracepoint = "tcp_receive_reset")]
pub fn tcp_receive_reset(ctx: RawTracePointContext) -> i32 {
    if let Some(connection) = connection::get(ctx.arg(0)) {
        connection.facts.reset_at = emit::now();
    }
    0
}

/// `TRACE_EVENT(tcp_send_reset, TP_PROTO(const struct sock *sk, const struct sk_buff *skb[, reason]))`: traced after it was
/// sent, so on loopback the other end's record comes first. Without a socket (a closed port) there is nothing to join.
#[raw_tracepoint(tracepoint = "tcp_send_reset")]
pub fn tcp_send_reset(ctx: RawTracePointContext) -> i32 {
    let sk: u64 = ctx.arg(0);
    if sk != 0
        && let Some(connection) = connection::of_peer(sk)
    {
        connection.facts.reset_sent_at = emit::now();
    }
    0
}

/// `TRACE_EVENT(inet_sk_error_report, TP_PROTO(const struct sock *sk))`: 5.14 and later. An ICMP error waits in the
/// socket's error queue, even where `sk_err` stays 0 since connect(2) holds the socket.
#[raw_tracepoint(tracepoint = "inet_sk_error_report")]
pub fn inet_sk_error_report(ctx: RawTracePointContext) -> i32 {
    let sk: u64 = ctx.arg(0);
    let Some(connection) = connection::get(sk) else { return 0 };
    if connection.facts.errno == 0 {
        connection.facts.errno = sk.error();
    }
    let newest = kernel::read_or(sk, offset!(sk_error_queue_prev), 0u64);
    // An empty queue points at its own head inside the socket.
    if newest == 0 || (newest >= sk && newest < sk + 4096) || offset!(skb_cb) == u16::MAX {
        return 0;
    }
    let error = newest + u64::from(offset!(skb_cb));
    if ORIGIN_ICMP.contains(&kernel::read_or(error, offset!(exterr_origin), 0u8)) {
        connection.facts.icmp = 1;
        connection.facts.icmp_type = kernel::read_or(error, offset!(exterr_type), 0);
        connection.facts.icmp_code = kernel::read_or(error, offset!(exterr_code), 0);
        if connection.facts.errno == 0 {
            connection.facts.errno = kernel::read_or::<u32>(error, offset!(exterr_errno), 0) as i32;
        }
    }
    0
}

/// `tcp_retransmit_skb(const struct sock *sk, const struct sk_buff *skb[, int err])`
#[raw_tracepoint(tracepoint = "tcp_retransmit_skb")]
pub fn tcp_retransmit_skb(ctx: RawTracePointContext) -> i32 {
    if let Some(connection) = connection::get(ctx.arg(0)) {
        connection.facts.retransmits += 1;
    }
    0
}
