//! An established connection ended: who closed it.

use super::death::{self, Dead, Role};
use super::{Diagnosis, maybe_container, on_this_host};
use crate::attribute::attempt::Failure;
use crate::attribute::processes::same;
use crate::attribute::verdict::{Cause, Certainty, Symptom};
use crate::attribute::wording::{self, connection as words};
use crate::attribute::world::World;
use crate::event::{CloseKind, Closer, Nanos, ProcessRef, Socket};

/// A FIN that crosses the request on its way (nanoseconds).
const CROSSING: u64 = 2_000_000;
/// Records of different CPUs may be out of order by this much.
const DISORDER: u64 = 50_000_000;

/// Finds who ended a connection.
pub(super) fn diagnose(world: &World, failure: &Failure) -> Diagnosis {
    let there = wording::target(failure);
    let Some(socket) = &failure.socket else {
        return match failure.unix() {
            true => by_holders(world, failure, &there),
            false => Diagnosis::unknown(words::unobserved_socket(&there)),
        };
    };
    let mut found = match &socket.closer {
        Some(closer) => by_closer(world, failure, socket, closer),
        None => unobserved(world, failure, socket, &there),
    };
    let received = failure.state.as_ref().and_then(|state| state.bytes_received).unwrap_or(0);
    if failure.hidden && received > 0 && found.certainty == Certainty::Proven {
        found.doubt(words::maybe_invalid());
    }
    found
}

fn by_closer(world: &World, failure: &Failure, socket: &Socket, closer: &Closer) -> Diagnosis {
    let there = wording::target(failure);
    let who = world.processes.facts(&closer.process);
    let found = if closer.exiting {
        let dead = dead(failure, &closer.process, closer.at, Some(closer.exit_code));
        death::explain(world, &dead).unwrap_or_else(|| Diagnosis::unknown(words::died_somehow(&who, closer)))
    } else if let Some(certainty) = race(socket, Some(closer)) {
        keepalive_race(&there, &wording::name_unit(&who), certainty)
    } else if closer.how == CloseKind::NeverAccepted {
        Diagnosis::proven(Cause::StoppedListening, words::never_accepted(&who, &there)).fix(who.restart())
    } else if let Some(told) = death::told_to_end(world, &dead(failure, &closer.process, closer.at, None)) {
        told
    } else {
        Diagnosis::proven(Cause::ClosedByUpstream, words::closed_alive(&who, closer, &there, socket))
            .fix(wording::journal(&who))
    };
    found.seen(closer.at, "close", words::close_seen(&who, closer)).of(who)
}

fn dead<'a>(failure: &Failure, process: &'a ProcessRef, at: Nanos, code: Option<i32>) -> Dead<'a> {
    Dead { process, role: Role::Server, there: wording::target(failure), at, code, failed_at: failure.at }
}

/// Whether a reused idle connection was being closed as the request was sent; `None` when not.
fn race(socket: &Socket, closer: Option<&Closer>) -> Option<Certainty> {
    let sent = socket.sent_at?;
    if socket.requests < 2 || answering(socket) {
        return None;
    }
    let closed = [closer.map(|closer| closer.at), socket.fin_at].into_iter().flatten().min()?;
    let crossing =
        closed.0 <= sent.0 + CROSSING && closer.is_none_or(|closer| closer.how == CloseKind::Closed);
    match closed <= sent {
        true => Some(Certainty::Proven),
        false => crossing.then_some(Certainty::Inferred),
    }
}

/// Whether a byte of the response to the current request came.
fn answering(socket: &Socket) -> bool {
    socket.first_byte_at.is_some_and(|first| Some(first) >= socket.sent_at)
}

fn keepalive_race(there: &str, who: &str, certainty: Certainty) -> Diagnosis {
    Diagnosis::new(Cause::KeepaliveRace, certainty, words::keepalive_race(who, there, certainty))
        .fix(words::keepalive_fix())
}

fn unobserved(world: &World, failure: &Failure, socket: &Socket, there: &str) -> Diagnosis {
    if let Some(owner) = &socket.owner {
        return by_owner(world, failure, socket, owner);
    }
    let died = dying_holders(world, failure);
    if let Some(certainty) = race(socket, None).filter(|_| died.is_empty()) {
        return keepalive_race(there, "the upstream", certainty);
    }
    if !on_this_host(world, failure) {
        return remote(world, failure, socket, there);
    }
    by_holders(world, failure, there)
}

/// What became of the processes that share the listener while the request was on its way.
fn by_holders(world: &World, failure: &Failure, there: &str) -> Diagnosis {
    match dying_holders(world, failure).as_slice() {
        [only] => match death::explain(world, &dead(failure, only, failure.at, None)) {
            Some(mut found) => {
                found.doubt(words::died_meanwhile());
                found
            }
            None => Diagnosis::unknown(words::not_seen(there)),
        },
        [] => by_only_server(world, failure, there),
        several => Diagnosis::unknown(words::several_died(there, several.len())),
    }
}

/// Nobody saw who closed, but who read from the other end last is known: it died, or it closed.
fn by_owner(world: &World, failure: &Failure, socket: &Socket, owner: &ProcessRef) -> Diagnosis {
    let there = wording::target(failure);
    let who = world.processes.facts(owner);
    let exit = world.processes.find(owner).and_then(|life| life.exit.as_ref());
    // A death precedes the close that it causes; one that comes later tells nothing of it.
    if exit.is_some_and(|(at, _)| *at <= failure.at)
        && let Some(mut found) = death::explain(world, &dead(failure, owner, failure.at, None))
    {
        found.doubt(words::reader_died());
        return found;
    }
    if let Some(found) = reused(failure, socket, &there, &wording::name_unit(&who)) {
        return found.of(who);
    }
    if let Some(found) = death::told_to_end(world, &dead(failure, owner, failure.at, None)) {
        return found;
    }
    let listens = failure.endpoint().is_some_and(|endpoint| {
        let holds = |holder: &ProcessRef| same(holder, owner);
        world.listeners.living(failure.netns(), &endpoint).any(|one| one.holders.iter().any(holds))
    });
    match listens || world.processes.alive_since(owner, failure.at) {
        true => Diagnosis::inferred(Cause::ClosedByUpstream, words::reader_closed(&who, &there, socket))
            .fix(wording::journal(&who))
            .of(who),
        false => Diagnosis::unknown(words::reader_gone(&who, &there)).of(who),
    }
}

/// A reused connection whose close was not observed: an idle one that was closed before the request refuses the very
/// first write; one that took the request and ended at once may have been closing, or not.
fn reused(failure: &Failure, socket: &Socket, there: &str, who: &str) -> Option<Diagnosis> {
    if socket.requests < 2 || answering(socket) {
        return None;
    }
    let after = failure.at.micros_since(socket.sent_at?);
    match failure.mechanism == Symptom::SendFailed {
        true => Some(keepalive_race(there, who, Certainty::Inferred)),
        false => (after * 1_000 < CROSSING).then(|| Diagnosis::unknown(words::maybe_race(there, after))),
    }
}

/// Nobody read from the other end, and no process of the place died: the only one that listens there closed it.
fn by_only_server(world: &World, failure: &Failure, there: &str) -> Diagnosis {
    let unseen = || Diagnosis::unknown(words::not_seen(there));
    let Some(endpoint) = failure.endpoint().filter(|_| failure.unix()) else { return unseen() };
    let mut living = world.listeners.living(failure.netns(), &endpoint);
    // Where workers have died before, one may have died now and be told too late.
    if living.any(|one| !one.lost.is_empty()) {
        return unseen();
    }
    let mut holders = world.listeners.living(failure.netns(), &endpoint).flat_map(|one| &one.holders);
    let (Some(only), None) = (holders.next(), holders.next()) else { return unseen() };
    let who = world.processes.facts(only);
    let socket = failure.socket.as_deref();
    let raced = socket.and_then(|socket| reused(failure, socket, there, &wording::name_unit(&who)));
    let closed = || {
        Diagnosis::inferred(Cause::ClosedByUpstream, words::only_server_closed(&who, there))
            .fix(wording::journal(&who))
    };
    raced.unwrap_or_else(closed).of(who)
}

fn remote(world: &World, failure: &Failure, socket: &Socket, there: &str) -> Diagnosis {
    if maybe_container(world, failure) {
        return Diagnosis::unknown(words::somewhere(there));
    }
    match (socket.reset_at, socket.fin_at) {
        (None, None) => Diagnosis::inferred(Cause::ClosedByRemote, words::remote_unseen(there)),
        (reset, _) => Diagnosis::proven(Cause::ClosedByRemote, words::remote(there, reset.is_some())),
    }
}

/// Holders of the listener that died while this request was on its way.
fn dying_holders(world: &World, failure: &Failure) -> Vec<ProcessRef> {
    let Some(endpoint) = failure.endpoint() else { return Vec::new() };
    let since = failure.began_at();
    let window = |at: Nanos| at >= since && at.0 <= failure.at.0 + DISORDER;
    let lost = world.listeners.living(failure.netns(), &endpoint).flat_map(|one| &one.lost);
    let mut died: Vec<_> = lost.filter(|(_, at)| window(*at)).map(|(holder, _)| holder.clone()).collect();
    // A listener outlives its holders, or dies with the last one: earlier ones had no holder that died since.
    for gone in world.listeners.gone(failure.netns(), &endpoint).filter(|gone| gone.at >= since) {
        for holder in &gone.holders {
            let exit = world.processes.find(holder).and_then(|life| life.exit.as_ref());
            if exit.is_some_and(|(at, _)| window(*at)) && !died.iter().any(|known| same(known, holder)) {
                died.push(holder.clone());
            }
        }
    }
    died
}
