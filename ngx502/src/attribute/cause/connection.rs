//! An established connection ended: who closed it.

use std::rc::Rc;

use super::death::{self, Dead};
use super::{DISORDER, Diagnosis, only_holder, waiting};
use crate::attribute::attempt::FailedAttempt;
use crate::attribute::destination::Destination;
use crate::attribute::finding::connection::{Close, Connection, Progress};
use crate::attribute::finding::death::Role;
use crate::attribute::finding::evidence::Fact;
use crate::attribute::finding::listener::Listener;
use crate::attribute::finding::{Doubt, Unknown};
use crate::attribute::processes::same;
use crate::attribute::verdict::{ProcessFacts, Symptom};
use crate::attribute::world::World;
use crate::event::{CloseKind, Closer, Nanos, ProcessRef, Socket};
use crate::units::Micros;

/// A FIN that crosses the request on its way (nanoseconds).
const CROSSING: u64 = 2_000_000;
/// A process that ends so soon after a close was ending already (nanoseconds).
const LAST_MOMENTS: u64 = 150_000_000;
/// A TLS handshake and HTTP/2's preface take no more turns, and hardly longer (nanoseconds).
const HANDSHAKE_TURNS: u32 = 4;
const HANDSHAKE: u64 = 5_000_000_000;

/// Finds who ended a connection.
pub(super) fn diagnose(world: &World, failure: &FailedAttempt) -> Diagnosis {
    let Some(socket) = &failure.socket else {
        return match failure.unix() {
            true => by_holders(world, failure),
            false => Diagnosis::new(Unknown::SocketUnobserved),
        };
    };
    // The handshake was complete for nginx, but not for the listener, which had no room (tcp_abort_on_overflow).
    if let Some(queue) = socket.refusal.and_then(|refusal| refusal.queue) {
        return waiting::full(world, failure, Some(queue));
    }
    let found = match &socket.closer {
        Some(closer) => by_closer(world, failure, socket, closer),
        None => unobserved(world, failure, socket),
    };
    let received = failure.state.as_ref().and_then(|state| state.bytes_received).unwrap_or(0);
    let hidden = failure.is_wordless() && received > 0;
    found.unless_proven_by(|| hidden.then_some(Doubt::RejectionHidden))
}

fn by_closer(world: &World, failure: &FailedAttempt, socket: &Socket, closer: &Closer) -> Diagnosis {
    let process = world.processes.facts(&closer.process);
    let how = closer.how.into();
    let evidence = Fact::Closed(process.clone(), how, closer.exiting);
    if closer.how == CloseKind::Destroyed {
        // In the context of the tool that asked the kernel for it, which is not the server.
        let facts = closed(process, how, Some(progress(socket, Some(closer))));
        return Diagnosis::new(facts).with_evidence(closer.at, evidence);
    }
    let found = if closer.exiting {
        death::explain(world, server(&closer.process, closer.at, Some(closer.exit_code)))
            .unwrap_or_else(|| Diagnosis::new(Unknown::DiedSomehow(process.clone(), how)))
    } else if let Some(race) = race(failure, socket, Some(closer)) {
        keepalive_race(Some(process.clone()), race)
    } else if closer.how == CloseKind::NeverAccepted {
        let (process, near) = (process.clone(), Vec::new());
        Diagnosis::new(Listener::Stopped { process, at: Some(closer.at), while_waiting: true, near })
    } else if let Some(ended) = ended_after(world, closer) {
        ended
    } else if let Some(asked) = death::asked_to_exit(world, server(&closer.process, closer.at, None)) {
        asked
    } else {
        let (process, progress) = (process.clone(), Some(progress(socket, Some(closer))));
        let ended_us = last_moments(world, closer);
        Diagnosis::new(Connection::ClosedByUpstream { process, how, progress, ended_us })
    };
    found.with_evidence(closer.at, evidence).with_process(process)
}

/// The end of a process that closed its connections first, as interpreters and workers at the end of their life do.
fn ended_after(world: &World, closer: &Closer) -> Option<Diagnosis> {
    let before = last_moments(world, closer)?;
    let at = death::exited_by_itself(world, &closer.process, closer.at)?;
    let found = death::explain(world, server(&closer.process, at, None));
    found.map(|found| found.with_doubt(Doubt::ClosedFirst(before)))
}

/// From a close to the end of who closed, where that came soon.
fn last_moments(world: &World, closer: &Closer) -> Option<Micros> {
    let (at, _) = world.processes.find(&closer.process)?.exit.as_ref().filter(|(at, _)| *at >= closer.at)?;
    let after = at.micros_since(closer.at);
    (after <= LAST_MOMENTS / 1_000).then_some(Micros(after))
}

/// How far the response had come.
fn progress(socket: &Socket, closer: Option<&Closer>) -> Progress {
    // Over a connection's life: of one request only where it was the first.
    let written = closer.and_then(|closer| closer.written).filter(|_| socket.requests == 1);
    match socket.sent_at {
        _ if answering(socket) => Progress::WithinResponse,
        None => Progress::BeforeRequest,
        Some(_) if written.is_some_and(|bytes| bytes > 0) => Progress::Answered,
        Some(_) if unread(socket, closer) => Progress::Unread,
        Some(_) => Progress::BeforeResponse,
    }
}

/// Whether the closed end had read nothing of the current request.
fn unread(socket: &Socket, closer: Option<&Closer>) -> bool {
    is_whole_request(socket, closer.and_then(|closer| closer.unread))
}

/// Whether the upstream's FIN acknowledges nothing of the current request: it was sent before that arrived.
fn unacknowledged(socket: &Socket) -> bool {
    is_whole_request(socket, socket.unacked_at_fin)
}

/// Whether the bytes that are left are all of the current request.
fn is_whole_request(socket: &Socket, left: Option<u32>) -> bool {
    left.zip(socket.request_bytes).is_some_and(|(left, request)| request > 0 && u64::from(left) >= request)
}

/// Whether a connection was taken from the pool for the current request; `None` where only what was sent in turns speaks
/// for it, which a TLS handshake and HTTP/2 do as well.
fn reused(failure: &FailedAttempt, socket: &Socket) -> Option<bool> {
    if socket.requests < 2 {
        return Some(false);
    }
    let Some(connect_at) = socket.connect_at else { return Some(true) };
    if let Some(took) = failure.state.as_ref().and_then(|state| state.response_ms) {
        // nginx's clock has milliseconds.
        let began = failure.at.0.saturating_sub((u64::from(took) + 1) * 1_000_000);
        return Some(connect_at.0 < began);
    }
    let idle = socket.sent_at.is_some_and(|sent| sent.0.saturating_sub(connect_at.0) > HANDSHAKE);
    (idle || socket.requests > HANDSHAKE_TURNS).then_some(true)
}

/// The death of a process that served the connection.
fn server(process: &ProcessRef, at: Nanos, code: Option<i32>) -> Dead<'_> {
    Dead { process, role: Role::Server, at, code, near: Vec::new() }
}

/// Whether a reused idle connection was being closed as the request was sent; `None` when not.
fn race(failure: &FailedAttempt, socket: &Socket, closer: Option<&Closer>) -> Option<Race> {
    let sent = socket.sent_at?;
    let pooled = reused(failure, socket);
    if pooled == Some(false) || answering(socket) {
        return None;
    }
    let doubt = pooled.is_none().then_some(Doubt::PerhapsFresh);
    if unread(socket, closer) || unacknowledged(socket) {
        return Some(Race(doubt));
    }
    let closed = [closer.map(|closer| closer.at), socket.fin_at].into_iter().flatten().min()?;
    let crossing =
        closed.0 <= sent.0 + CROSSING && closer.is_none_or(|closer| closer.how == CloseKind::Closed);
    // It had read all that had come.
    let had_it = closer.is_some_and(|closer| closer.unread == Some(0));
    match closed <= sent {
        true => Some(Race(doubt)),
        false => (crossing && !had_it).then_some(Race(Some(Doubt::CloseAndRequestCrossed))),
    }
}

/// Whether a byte of the response to the current request came.
fn answering(socket: &Socket) -> bool {
    socket.first_byte_at.is_some_and(|first| Some(first) >= socket.sent_at)
}

/// A reused connection was being closed; with what speaks against a proof.
struct Race(Option<Doubt>);

fn keepalive_race(process: Option<Rc<ProcessFacts>>, Race(doubt): Race) -> Diagnosis {
    doubt.into_iter().fold(Diagnosis::new(Connection::KeepaliveRace { process }), Diagnosis::with_doubt)
}

fn unobserved(world: &World, failure: &FailedAttempt, socket: &Socket) -> Diagnosis {
    if let Some(owner) = &socket.owner {
        return by_owner(world, failure, socket, owner);
    }
    let died = dying_holders(world, failure);
    if let Some(race) = race(failure, socket, None).filter(|_| died.is_empty()) {
        return keepalive_race(None, race);
    }
    match Destination::of(world, failure) {
        Some(there) if !there.is_here(world) => remote(world, &there, socket),
        _ => by_holders(world, failure),
    }
}

/// What became of the processes that share the listener while the request was on its way.
fn by_holders(world: &World, failure: &FailedAttempt) -> Diagnosis {
    match dying_holders(world, failure).as_slice() {
        [only] => match death::explain(world, server(only, failure.at, None)) {
            Some(found) => found.with_doubt(Doubt::DiedMeanwhile),
            None => Diagnosis::new(Unknown::CloserUnobserved),
        },
        [] => by_only_server(world, failure),
        several => Diagnosis::new(Unknown::SeveralDied(several.len())),
    }
}

/// Nobody saw who closed, but who read from the other end last is known: it died, or it closed.
fn by_owner(world: &World, failure: &FailedAttempt, socket: &Socket, owner: &ProcessRef) -> Diagnosis {
    let process = world.processes.facts(owner);
    let exit = world.processes.find(owner).and_then(|life| life.exit.as_ref());
    // A death precedes the close that it causes; one that comes later tells nothing of it.
    if exit.is_some_and(|(at, _)| *at <= failure.at)
        && let Some(found) = death::explain(world, server(owner, failure.at, None))
    {
        return found.with_doubt(Doubt::LastReaderDied);
    }
    if let Some(found) = pooled(failure, socket, &process) {
        return found.with_process(process);
    }
    if let Some(found) = death::asked_to_exit(world, server(owner, failure.at, None)) {
        return found;
    }
    let listens = Destination::of(world, failure).is_some_and(|there| {
        let holds = |holder: &ProcessRef| same(holder, owner);
        world.listeners.living(&there).any(|one| one.holders.iter().any(holds))
    });
    match listens || world.processes.alive_since(owner, failure.at) {
        true => closed_unseen(process.clone(), Some(progress(socket, None)), Doubt::LastReader)
            .with_process(process),
        false => Diagnosis::new(Unknown::LastReaderGone(process.clone())).with_process(process),
    }
}

/// A process ended the connection and lived on.
fn closed(process: Rc<ProcessFacts>, how: Close, progress: Option<Progress>) -> Connection {
    Connection::ClosedByUpstream { process, how, progress, ended_us: None }
}

/// Such a process closed it, which was not observed itself.
fn closed_unseen(process: Rc<ProcessFacts>, progress: Option<Progress>, doubt: Doubt) -> Diagnosis {
    Diagnosis::inferred(closed(process, Close::Closed, progress), doubt)
}

/// A reused connection whose close was not observed: an idle one that was closed before the request refuses the very
/// first write; one that took the request and ended at once may have been closing, or not.
fn pooled(failure: &FailedAttempt, socket: &Socket, process: &Rc<ProcessFacts>) -> Option<Diagnosis> {
    if reused(failure, socket) == Some(false) || answering(socket) {
        return None;
    }
    let after = failure.at.micros_since(socket.sent_at?);
    match failure.underlying == Symptom::SendFailed {
        true => Some(keepalive_race(Some(process.clone()), Race(Some(Doubt::CloseAndRequestCrossed)))),
        false => (after * 1_000 < CROSSING).then(|| Diagnosis::new(Unknown::MaybeRace(Micros(after)))),
    }
}

/// Nobody read from the other end, and no process of the place died: the only one that listens there closed it.
fn by_only_server(world: &World, failure: &FailedAttempt) -> Diagnosis {
    let unseen = || Diagnosis::new(Unknown::CloserUnobserved);
    let Some(there) = Destination::of(world, failure).filter(|_| failure.unix()) else { return unseen() };
    let mut living = world.listeners.living(&there);
    // Where workers have died before, one may have died now and be told too late.
    if living.any(|one| !one.lost.is_empty()) {
        return unseen();
    }
    let Some(only) = only_holder(world, &there) else { return unseen() };
    let process = world.processes.facts(only);
    let raced = failure.socket.as_deref().and_then(|socket| pooled(failure, socket, &process));
    raced.unwrap_or_else(|| closed_unseen(process.clone(), None, Doubt::OnlyServer)).with_process(process)
}

/// No end on this host was seen. That proves another host where every connection of this host would have been joined
/// with its other end; an address says little, since it may be translated.
fn remote(world: &World, there: &Destination, socket: &Socket) -> Diagnosis {
    let joined = world.joins_connections() && socket.established_at.is_some() && socket.unacked.is_some();
    if !joined && !there.is_elsewhere() {
        return Diagnosis::new(Unknown::ClosedElsewhere);
    }
    let found = match (socket.reset_at, socket.fin_at) {
        (None, None) => Diagnosis::inferred(Connection::ClosedByRemote { reset: None }, Doubt::EndUnseen),
        (reset, _) => Diagnosis::new(Connection::ClosedByRemote { reset: Some(reset.is_some()) }),
    };
    found.unless_proven_by(|| (!joined).then_some(Doubt::NotThisHost))
}

/// Holders of the listener that died while this request was on its way.
fn dying_holders(world: &World, failure: &FailedAttempt) -> Vec<ProcessRef> {
    let Some(there) = Destination::of(world, failure) else { return Vec::new() };
    let since = failure.began_at();
    let window = |at: Nanos| at >= since && at.0 <= failure.at.0 + DISORDER;
    let lost = world.listeners.living(&there).flat_map(|one| &one.lost);
    let mut died: Vec<_> = lost.filter(|(_, at)| window(*at)).map(|(holder, _)| holder.clone()).collect();
    // A listener outlives its holders, or dies with the last one: earlier ones had no holder that died since.
    for gone in world.listeners.gone(&there).filter(|gone| gone.at >= since) {
        for holder in &gone.holders {
            let exit = world.processes.find(holder).and_then(|life| life.exit.as_ref());
            if exit.is_some_and(|(at, _)| window(*at)) && !died.iter().any(|known| same(known, holder)) {
                died.push(holder.clone());
            }
        }
    }
    died
}
