//! Waiting that ended without an answer: in the network, in the accept queue, or in a worker.

use std::rc::Rc;

use super::{Diagnosis, listener, on_this_host};
use crate::attribute::attempt::FailedAttempt;
use crate::attribute::destination::Destination;
use crate::attribute::finding::evidence::{Fact, ServerEnd};
use crate::attribute::finding::waiting::{AcceptQueue, Waiting};
use crate::attribute::finding::{Doubt, Unknown};
use crate::attribute::symptom::ETIMEDOUT;
use crate::attribute::verdict::ProcessFacts;
use crate::attribute::world::World;
use crate::event::{EndpointInfo, Nanos, PeerSocket, Queue, Socket};
use crate::units::Micros;

/// Processes of a listener that a finding names.
const WORKERS: usize = 64;

/// AF_UNIX connect said EAGAIN: that is a full backlog and nothing else.
pub(super) fn backlog_full(world: &World, failure: &FailedAttempt) -> Diagnosis {
    let own = failure.socket.as_ref().and_then(|socket| socket.queue);
    full(world, failure, own.or_else(|| queue(world, failure)))
}

/// The accept queue had no room.
pub(super) fn full(world: &World, failure: &FailedAttempt, queue: Option<Queue>) -> Diagnosis {
    let accept = accept_queue(world, failure, queue);
    let process = accept.process.clone();
    let mut found = Diagnosis::new(Waiting::QueueFull(accept)).with_process(process);
    if let Some(queue) = failure.socket.as_ref().and_then(|socket| socket.queue) {
        found = found.with_evidence(failure.at, Fact::QueueMet(queue));
    }
    looked_at_queue(world, failure, found)
}

/// No answer to the SYN.
pub(super) fn connecting(world: &World, failure: &FailedAttempt) -> Diagnosis {
    let Some(socket) = &failure.socket else { return Diagnosis::new(Unknown::ConnectUnobserved) };
    if let Some(icmp) = socket.icmp {
        return Diagnosis::new(Waiting::Icmp { icmp: icmp.into() });
    }
    if let Some(found) = listener::left_with_namespace(world, failure) {
        return found;
    }
    if !on_this_host(world, failure) {
        return Diagnosis::new(Unknown::SilentHost(socket.retransmits + 1));
    }
    let dropped = |doubt| Diagnosis::inferred(Waiting::SynDropped {}, doubt);
    let queue = queue(world, failure);
    match (queue, asked(world, failure)) {
        (Some(queue), _) if queue.length > queue.limit => full(world, failure, Some(queue)),
        (Some(Queue { length: 0, .. }), _) if socket.retransmits > 0 => dropped(Doubt::QueueEmpty),
        (None, Some(info)) if info.listeners.is_empty() && socket.retransmits > 0 => {
            dropped(Doubt::ClosedPortRefuses)
        }
        _ => Diagnosis::new(Unknown::SynUnanswered),
    }
}

/// No answer to the request, or nginx could not send it.
pub(super) fn reading(world: &World, failure: &FailedAttempt) -> Diagnosis {
    let Some(socket) = &failure.socket else { return by_queue(world, failure) };
    let timer = failure.is_wordless() || failure.nginx.text.starts_with(b"upstream timed out");
    if failure.errno == Some(ETIMEDOUT) && !timer && socket.retransmits > 0 {
        let down = Waiting::PathDown { retransmissions: socket.retransmits };
        return Diagnosis::inferred(down, Doubt::NoAcknowledgement);
    }
    if timer && is_idle(failure, socket) {
        let process = socket.owner.as_ref().map(|owner| world.processes.facts(owner));
        return Diagnosis::new(Waiting::Idle { process: process.clone() }).with_process(process);
    }
    let asked = world.peer_socket(socket.id);
    let peer = asked.map(|(_, peer)| peer);
    let holder = peer.and_then(|peer| peer.holders.first()).or(socket.owner.as_ref());
    let holder = holder.map(|holder| world.processes.facts(holder));
    // Bytes that the upstream's program read or wrote, in this response or an earlier one, show that it had accepted.
    let touched = socket.requests > 1
        || socket.first_byte_at.is_some()
        || socket.bytes_received.unwrap_or(0) > 0
        || socket.owner.is_some();
    let accepted = if touched { Some(true) } else { socket.accepted.or(peer.and_then(|peer| peer.accepted)) };
    let found = match accepted {
        Some(false) => not_accepted(world, failure),
        _ if is_lost(socket) => lost(world, failure, socket),
        Some(true) => slow(failure, holder),
        // The host has it; whether a process does, nobody on this one sees.
        None if is_acknowledged(socket) && !on_this_host(world, failure) => {
            slow_as(failure, holder, false).with_doubt(Doubt::AcknowledgedOnly)
        }
        None => Diagnosis::new(Unknown::AcceptUnobserved),
    };
    // An end that was accepted may be in nobody's hands again by the time of the look-up: that would mislead.
    match asked.filter(|(_, peer)| peer.accepted == accepted) {
        Some((at, peer)) => found.with_evidence(*at, Fact::ServerEnd(server_end(peer))),
        None => found,
    }
}

/// Whether an upgraded connection was silent, and nothing that nginx sent waits for the other end.
fn is_idle(failure: &FailedAttempt, socket: &Socket) -> bool {
    let upgraded =
        failure.nginx.action.as_ref().is_some_and(|action| action == "proxying upgraded connection");
    upgraded && !is_lost(socket) && socket.window != Some(0) && socket.unacked.is_none_or(|bytes| bytes == 0)
}

/// Whether what nginx sent was repeated and still not acknowledged, with room for it at the other end.
fn is_lost(socket: &Socket) -> bool {
    socket.retransmits > 0 && socket.unacked.is_some_and(|bytes| bytes > 0) && socket.window != Some(0)
}

/// Whether the other host's kernel has all that nginx sent.
fn is_acknowledged(socket: &Socket) -> bool {
    socket.unacked == Some(0) && socket.request_bytes.is_some_and(|bytes| bytes > 0)
}

/// The path lost the flow: between two ends on this host something here drops it.
fn lost(world: &World, failure: &FailedAttempt, socket: &Socket) -> Diagnosis {
    let retransmissions = socket.retransmits;
    match socket.server.is_some() || on_this_host(world, failure) {
        true => Diagnosis::inferred(Waiting::SegmentsDropped { retransmissions }, Doubt::BothEndsHere),
        false => Diagnosis::inferred(Waiting::PathDown { retransmissions }, Doubt::NoAcknowledgement),
    }
}

fn server_end(peer: &PeerSocket) -> ServerEnd {
    let holder = peer.holders.first().map(|holder| (holder.comm.clone(), holder.pid));
    ServerEnd { accepted: peer.accepted, holder, unread: peer.unread }
}

/// The socket was not observed. A connection stays in the accept queue when nginx gives it up, so that an empty queue
/// shows that somebody had taken it.
fn by_queue(world: &World, failure: &FailedAttempt) -> Diagnosis {
    let connected = failure.state.as_ref().is_some_and(|state| state.connect_ms.is_some());
    match queue(world, failure) {
        Some(Queue { length: 0, .. }) if connected && on_this_host(world, failure) => {
            let process = accept_queue(world, failure, None).process;
            slow(failure, process).with_doubt(Doubt::NothingWaited)
        }
        _ => Diagnosis::new(Unknown::ReadUnobserved),
    }
}

fn slow(failure: &FailedAttempt, process: Option<Rc<ProcessFacts>>) -> Diagnosis {
    slow_as(failure, process, true)
}

/// No answer in time; `accepted`: a process had taken the connection.
fn slow_as(failure: &FailedAttempt, process: Option<Rc<ProcessFacts>>, accepted: bool) -> Diagnosis {
    let waited_us = failure.times().total_us.map(Micros);
    let reads = failure.socket.as_ref().and_then(|socket| socket.window).map(|window| window > 0);
    let facts = Waiting::UpstreamSlow { process: process.clone(), waited_us, reads, accepted };
    Diagnosis::new(facts).with_process(process)
}

fn not_accepted(world: &World, failure: &FailedAttempt) -> Diagnosis {
    let queue = queue(world, failure);
    let socket = failure.socket.as_ref();
    let unacknowledged = socket.is_some_and(|one| one.retransmits > 0 && one.bytes_acked.unwrap_or(1) == 0);
    if unacknowledged && queue.is_some_and(|queue| queue.length > queue.limit) {
        return full(world, failure, queue).with_doubt(Doubt::NeverAcknowledged);
    }
    let accept = accept_queue(world, failure, queue);
    let process = accept.process.clone();
    looked_at_queue(world, failure, Diagnosis::new(Waiting::NotAccepted(accept)).with_process(process))
}

/// A queue with those who serve it, as far as a look-up found them.
fn accept_queue(world: &World, failure: &FailedAttempt, queue: Option<Queue>) -> AcceptQueue {
    let listeners = asked(world, failure).map_or(&[][..], |info| &info.listeners);
    let first = listeners.first();
    let holders = || listeners.iter().flat_map(|listener| &listener.holders);
    AcceptQueue {
        process: first.and_then(|one| one.holders.first()).map(|holder| world.processes.facts(holder)),
        waiting: queue.map(|queue| queue.length),
        limit: queue.map(|queue| queue.limit),
        workers: holders().map(|holder| holder.pid).take(WORKERS).collect(),
        all_busy: first.and_then(|one| one.all_busy),
        stuck: None,
        // The pool of the workers, which their master does not name.
        pool: world.processes.pool(holders()),
    }
}

/// Adds what the look-up found of the queue and of those who serve it.
fn looked_at_queue(world: &World, failure: &FailedAttempt, found: Diagnosis) -> Diagnosis {
    let Some((at, info)) = asked_when(world, failure) else { return found };
    let seen = info.listeners.iter().filter_map(|listener| {
        Some(Fact::QueueFound(listener.queue?, listener.holders.len(), listener.all_busy))
    });
    seen.fold(found, |found, fact| found.with_evidence(at, fact))
}

/// The look-up that belongs to this failure.
fn asked<'a>(world: &'a World, failure: &FailedAttempt) -> Option<&'a EndpointInfo> {
    asked_when(world, failure).map(|(_, info)| info)
}

fn asked_when<'a>(world: &'a World, failure: &FailedAttempt) -> Option<(Nanos, &'a EndpointInfo)> {
    world.asked(&Destination::of(world, failure)?).filter(|(at, _)| {
        // A look-up of an earlier failure tells nothing about now; one second covers the order of records.
        at.0 + 1_000_000_000 >= failure.at.0
    })
}

/// The fullest queue among the listeners (a SO_REUSEPORT group has several).
fn queue(world: &World, failure: &FailedAttempt) -> Option<Queue> {
    let queues = asked(world, failure)?.listeners.iter().filter_map(|listener| listener.queue);
    queues.max_by_key(|queue| i64::from(queue.length) - i64::from(queue.limit))
}
