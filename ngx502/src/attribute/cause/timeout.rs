//! Waiting that ended without an answer: in the network, in the accept queue, or in a worker.

use super::{Diagnosis, on_this_host};
use crate::attribute::attempt::Failure;
use crate::attribute::named::Named;
use crate::attribute::symptom::ETIMEDOUT;
use crate::attribute::verdict::Cause;
use crate::attribute::wording::{self, timeout as words};
use crate::attribute::world::World;
use crate::event::{EndpointInfo, Nanos, Queue};

/// AF_UNIX connect said EAGAIN: that is a full backlog and nothing else.
pub(super) fn backlog_full(world: &World, failure: &Failure) -> Diagnosis {
    let there = wording::target(failure);
    let own = failure.socket.as_ref().and_then(|socket| socket.queue);
    full(world, failure, &there, own.or_else(|| queue(world, failure)))
}

fn full(world: &World, failure: &Failure, there: &str, queue: Option<Queue>) -> Diagnosis {
    let (who, busy) = listener(world, failure);
    let comm = who.as_ref().map(|who| who.comm.to_vec()).unwrap_or_default();
    let mut found = Diagnosis::proven(Cause::QueueFull, words::full(there, who.as_deref(), queue, busy));
    if let Some(queue) = failure.socket.as_ref().and_then(|socket| socket.queue) {
        found = found.seen(failure.at, "queue", words::queue_met(&queue));
    }
    found = looked_at_queue(world, failure, found);
    let more = words::more_backlog(pool(world, failure), &comm, queue.map(|queue| queue.limit));
    found.process = who;
    found.fix(more)
}

/// No answer to the SYN.
pub(super) fn connecting(world: &World, failure: &Failure) -> Diagnosis {
    let there = wording::target(failure);
    let Some(socket) = &failure.socket else { return Diagnosis::unknown(words::connect_unobserved(&there)) };
    if let Some(icmp) = socket.icmp {
        return Diagnosis::proven(Cause::Unreachable, words::icmp(&there, icmp));
    }
    if !on_this_host(world, failure) {
        return Diagnosis::unknown(words::silent_host(&there, socket.retransmits + 1));
    }
    let queue = queue(world, failure);
    match (queue, asked(world, failure)) {
        (Some(queue), _) if queue.length > queue.limit => full(world, failure, &there, Some(queue)),
        (Some(Queue { length: 0, .. }), _) if socket.retransmits > 0 => filtered(&there, words::QUEUE_EMPTY),
        (None, Some(info)) if info.listeners.is_empty() && socket.retransmits > 0 => {
            filtered(&there, words::NOBODY_THERE)
        }
        _ => Diagnosis::unknown(words::syn_unanswered(&there)),
    }
}

fn filtered(there: &str, why: &str) -> Diagnosis {
    Diagnosis::inferred(Cause::Firewall, words::filtered(there, why)).fix([wording::listener::filters()])
}

/// No answer to the request, or nginx could not send it.
pub(super) fn reading(world: &World, failure: &Failure) -> Diagnosis {
    let there = wording::target(failure);
    let Some(socket) = &failure.socket else { return by_queue(world, failure, &there) };
    let timer = failure.hidden || failure.text.starts_with(b"upstream timed out");
    if failure.errno == Some(ETIMEDOUT) && !timer && socket.retransmits > 0 {
        return Diagnosis::inferred(Cause::Unreachable, words::path_down(&there, socket.retransmits));
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
        Some(true) => slow(failure, &there, holder),
        Some(false) => not_accepted(world, failure, &there),
        None => Diagnosis::unknown(words::accepted_unknown(&there)),
    };
    // An end that was accepted may be in nobody's hands again by the time of the look-up: that would mislead.
    match asked.filter(|(_, peer)| peer.accepted == accepted) {
        Some((at, peer)) => found.seen(*at, "accept", words::other_end(peer)),
        None => found,
    }
}

/// The socket was not observed. A connection stays in the accept queue when nginx gives it up, so that an empty queue
/// shows that somebody had taken it.
fn by_queue(world: &World, failure: &Failure, there: &str) -> Diagnosis {
    let connected = failure.state.as_ref().is_some_and(|state| state.connect_ms.is_some());
    let (holder, _) = listener(world, failure);
    match queue(world, failure) {
        Some(Queue { length: 0, .. }) if connected && on_this_host(world, failure) => {
            let mut found = slow(failure, there, holder);
            found.doubt(words::queue_was_empty());
            found
        }
        _ => Diagnosis::unknown(words::read_unobserved(there)),
    }
}

fn slow(failure: &Failure, there: &str, holder: Option<Named>) -> Diagnosis {
    let summary = words::slow(there, holder.as_deref(), failure.times().total_us);
    let mut found =
        Diagnosis::proven(Cause::UpstreamSlow, summary).fix(holder.as_deref().map(words::look_inside));
    found.process = holder;
    found.fix([words::allow_more_time()])
}

fn not_accepted(world: &World, failure: &Failure, there: &str) -> Diagnosis {
    let queue = queue(world, failure);
    let socket = failure.socket.as_ref();
    let unacknowledged = socket.is_some_and(|one| one.retransmits > 0 && one.bytes_acked.unwrap_or(1) == 0);
    if unacknowledged && queue.is_some_and(|queue| queue.length > queue.limit) {
        let mut found = full(world, failure, there, queue);
        found.doubt(words::never_acknowledged());
        return found;
    }
    let (who, busy) = listener(world, failure);
    let comm = who.as_ref().map(|who| who.comm.to_vec()).unwrap_or_default();
    let summary = words::not_accepted(there, who.as_deref(), queue, busy == Some(true));
    let mut found = looked_at_queue(world, failure, Diagnosis::proven(Cause::NotAccepted, summary));
    let more = words::more_backlog(pool(world, failure), &comm, None).into_iter().take(1);
    found.process = who;
    found.fix(more)
}

/// The pool of the workers, which their master does not name.
fn pool(world: &World, failure: &Failure) -> Option<String> {
    let listeners = &asked(world, failure)?.listeners;
    world.processes.pool(listeners.iter().flat_map(|listener| &listener.holders))
}

/// Adds what the look-up found of the queue and of those who serve it.
fn looked_at_queue(world: &World, failure: &Failure, found: Diagnosis) -> Diagnosis {
    let Some((at, info)) = asked_when(world, failure) else { return found };
    let seen = info.listeners.iter().filter_map(|listener| {
        Some(words::queue_seen(&listener.queue?, listener.holders.len(), listener.all_busy))
    });
    seen.fold(found, |found, text| found.seen(at, "queue", text))
}

/// The look-up that belongs to this failure.
fn asked<'a>(world: &'a World, failure: &Failure) -> Option<&'a EndpointInfo> {
    asked_when(world, failure).map(|(_, info)| info)
}

fn asked_when<'a>(world: &'a World, failure: &Failure) -> Option<(Nanos, &'a EndpointInfo)> {
    world.asked(failure.netns(), &failure.endpoint()?).filter(|(at, _)| {
        // A look-up of an earlier failure tells nothing about now; one second covers the order of records.
        at.0 + 1_000_000_000 >= failure.at.0
    })
}

/// The fullest queue among the listeners (a SO_REUSEPORT group has several).
fn queue(world: &World, failure: &Failure) -> Option<Queue> {
    let queues = asked(world, failure)?.listeners.iter().filter_map(|listener| listener.queue);
    queues.max_by_key(|queue| i64::from(queue.length) - i64::from(queue.limit))
}

fn listener(world: &World, failure: &Failure) -> (Option<Named>, Option<bool>) {
    let Some(found) = asked(world, failure).and_then(|info| info.listeners.first()) else {
        return (None, None);
    };
    (found.holders.first().map(|holder| world.processes.facts(holder)), found.all_busy)
}
