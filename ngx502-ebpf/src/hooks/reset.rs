//! Resets, ICMP errors and retransmissions of upstream connections.

use aya_ebpf::{
    macros::{kprobe, raw_tracepoint},
    programs::{ProbeContext, RawTracePointContext},
};
use ngx502_common::{
    event::RefusalFacts,
    net::{AF_INET, AF_INET6, LISTEN},
};

use crate::{
    connection, emit,
    kernel::{self, offset},
    maps::REFUSALS,
    sock::{self, Sock},
    sock_common,
};

/// Where an IP header has its destination.
const IPV4_DESTINATION: u16 = 16;
const IPV6_DESTINATION: u16 = 24;

/// SO_EE_ORIGIN_ICMP and SO_EE_ORIGIN_ICMP6.
const ORIGIN_ICMP: [u8; 2] = [2, 3];

/// `DECLARE_EVENT_CLASS(tcp_event_sk, TP_PROTO(struct sock *sk))`: a RST arrived.
#[raw_tracepoint(tracepoint = "tcp_receive_reset")]
pub fn tcp_receive_reset(ctx: RawTracePointContext) -> i32 {
    if let Some(connection) = connection::any(ctx.arg(0)) {
        connection.facts.reset_at = emit::now();
    }
    0
}

/// `TRACE_EVENT(tcp_send_reset, TP_PROTO(const struct sock *sk, const struct sk_buff *skb[, reason]))`. Before 6.10 it was
/// only called for connections.
#[raw_tracepoint(tracepoint = "tcp_send_reset")]
pub fn tcp_send_reset(ctx: RawTracePointContext) -> i32 {
    reset_sent(ctx.arg(0), ctx.arg(1));
    0
}

/// `static void tcp_v4_send_reset(const struct sock *sk, struct sk_buff *skb[, enum sk_rst_reason reason])`
#[kprobe]
pub fn tcp_v4_send_reset(ctx: ProbeContext) -> u32 {
    if let (Some(sk), Some(skb)) = (ctx.arg(0), ctx.arg(1)) {
        reset_sent(sk, skb);
    }
    0
}

/// `static void tcp_v6_send_reset(const struct sock *sk, struct sk_buff *skb[, enum sk_rst_reason reason])`
#[kprobe]
pub fn tcp_v6_send_reset(ctx: ProbeContext) -> u32 {
    if let (Some(sk), Some(skb)) = (ctx.arg(0), ctx.arg(1)) {
        reset_sent(sk, skb);
    }
    0
}

/// This host answers the segment `skb` with a RST: that of a connection (`sk`), a listener's for want of room, or
/// nobody's (0).
#[inline(always)]
fn reset_sent(sk: u64, skb: u64) {
    let listener = sk != 0 && kernel::read(sk, offset!(skc_state)) == Some(LISTEN);
    if sk == 0 || listener {
        refused(if listener { sk } else { 0 }, skb);
    } else if let Some(connection) = connection::of_peer(sk) {
        connection.facts.reset_sent_at = emit::now();
    }
}

/// Keeps where a segment met no connection, by its sequence number: whoever sent it knows that as the first byte that is
/// not acknowledged.
#[inline(always)]
fn refused(listener: u64, skb: u64) {
    let head: u64 = kernel::read_or(skb, offset!(skb_head), 0);
    let header = |distance: u16| head + u64::from(kernel::read_or(skb, distance, 0u16));
    let tcp = header(offset!(skb_transport_header));
    let Some([ports, sequence]) = kernel::read::<[u32; 2]>(tcp, 0) else { return };
    let net = kernel::read_or(kernel::read_or(skb, offset!(skb_dev), 0u64), offset!(netdev_net), 0u64);
    let mut refusal = RefusalFacts {
        at: emit::now(),
        address: [0; 16],
        netns: sock::netns_of(net),
        port: u32::from_be(ports) as u16,
        family: AF_INET,
        queue_length: 0,
        queue_limit: 0,
    };
    let ip = header(offset!(skb_network_header));
    match kernel::read_or(ip, 0, 0u8) >> 4 {
        4 => refusal.address = sock_common::widen(kernel::read_or(ip, IPV4_DESTINATION, 0)),
        _ => {
            refusal.address = sock_common::unmapped(kernel::read_or(ip, IPV6_DESTINATION, [0; 4]));
            refusal.family = AF_INET6;
        }
    }
    if listener != 0 {
        refusal.queue_length = kernel::read_or(listener, offset!(sk_ack_backlog), 0);
        refusal.queue_limit = kernel::read_or(listener, offset!(sk_max_ack_backlog), 0);
    }
    let _ = REFUSALS.insert(&u32::from_be(sequence), &refusal, 0);
}

/// `TRACE_EVENT(inet_sk_error_report, TP_PROTO(const struct sock *sk))`: 5.14 and later. An ICMP error waits in the
/// socket's error queue, even where `sk_err` stays 0 since connect(2) holds the socket.
#[raw_tracepoint(tracepoint = "inet_sk_error_report")]
pub fn inet_sk_error_report(ctx: RawTracePointContext) -> i32 {
    let sk: u64 = ctx.arg(0);
    let Some(connection) = connection::any(sk) else { return 0 };
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
    if let Some(connection) = connection::any(ctx.arg(0)) {
        connection.facts.retransmits += 1;
    }
    0
}
