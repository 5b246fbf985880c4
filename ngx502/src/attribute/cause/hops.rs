//! From the process that nginx met to where the cause is: whoever only passes on what comes is not the cause, but what its
//! own attempt met; and an address that is translated is not where that is.
//!
//! A forwarder is known by what it did: it had a connection of its own that failed as it gave nginx's up. Which of its
//! connections served nginx's cannot be observed, so that what follows is inferred; where connections to several places
//! could have, nothing follows.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::rc::Rc;

use bstr::ByteSlice as _;

use super::{DISORDER, Diagnosis, explain, kernel_view, listener, only_holder, sole_listener};
use crate::attribute::attempt::FailedAttempt;
use crate::attribute::destination::Destination;
use crate::attribute::finding::connection::{Close, Connection, Progress};
use crate::attribute::finding::death::How;
use crate::attribute::finding::evidence::Fact;
use crate::attribute::finding::hops::{Hop, Leg, Relation};
use crate::attribute::finding::waiting::Waiting;
use crate::attribute::finding::{Doubt, Facts, LogWords, NginxWords, place};
use crate::attribute::servers;
use crate::attribute::symptom::{self, ECONNREFUSED, ECONNRESET, ETIMEDOUT};
use crate::attribute::verdict::{Certainty, Symptom};
use crate::attribute::world::World;
use crate::event::{Endpoint, Ends, Nanos, OnwardAttempt, ProcessRef, Socket};

/// Forwarders in a row.
const DEPTH: usize = 4;
/// A forwarder that is ended because of whom it led to is ended within this time (nanoseconds): dockerd takes some 25 ms.
const ENDED_AFTER: u64 = 5_000_000_000;

/// Follows a failure for as long as it leads on. The last station's finding is the cause.
pub(super) fn follow(world: &World, failure: &FailedAttempt, mut found: Diagnosis) -> Diagnosis {
    translate(world, failure, &mut found);
    let mut failure = Cow::Borrowed(failure);
    for _ in 0..DEPTH {
        let Some(forwarder) = Forwarder::of(world, &failure, &found) else { break };
        match forwarder.led_to(world, &failure) {
            Led::To(step) => {
                let (next, attempt) = join(world, &failure, found, &forwarder.process, *step);
                (found, failure) = (next, Cow::Owned(attempt));
            }
            Led::Several(count) => return found.unless_proven_by(|| Some(Doubt::SeveralOnward(count))),
            Led::Nowhere => {
                let closed = matches!(forwarder.what, Did::Closed(..));
                let forwards = || servers::only_forwards(forwarder.process.comm.as_bstr());
                return found.unless_proven_by(|| (closed && forwards()).then_some(Doubt::OnwardUnseen));
            }
        }
    }
    found
}

/// Adds the station that a translated address leads to.
fn translate(world: &World, failure: &FailedAttempt, found: &mut Diagnosis) {
    let Some(named) = failure.remote().filter(|named| !named.ip().is_unspecified()) else { return };
    let socket = failure.socket.as_deref();
    let Some(there) = socket.and_then(|socket| Destination::delivered(socket, failure.at)) else { return };
    let same =
        |to: &SocketAddr| to.port() == named.port() && to.ip().to_canonical() == named.ip().to_canonical();
    if matches!(&there.endpoint, Endpoint::Tcp(to) if same(to)) {
        return;
    }
    let address: Rc<str> = place(&there.endpoint).into();
    let leg = Rc::new(Leg { from: None, to: Rc::clone(&address) });
    // What the socket went through was told with the address that it was connected to.
    let elsewhere =
        found.evidence.iter_mut().filter(|one| !matches!(one.fact, Fact::Socket(_) | Fact::Nginx));
    elsewhere.filter(|one| one.leg.is_none()).for_each(|one| one.leg = Some(Rc::clone(&leg)));
    let process = found.process.clone().or_else(|| sole_listener(world, failure));
    let (relation, namespace, finding) = (Relation::TranslatedTo, there.namespace(), found.finding.clone());
    found.hops.push(Hop { process, relation, address, namespace, finding });
}

/// A process that may only have passed on what it met.
struct Forwarder {
    process: ProcessRef,
    what: Did,
}

/// What it did with nginx's connection.
enum Did {
    /// It closed it then; true: in the midst of a response.
    Closed(Nanos, bool),
    /// It does not answer.
    Waits,
    /// Somebody ended it then.
    Ended(Nanos),
}

/// Where that led.
enum Led {
    To(Box<Step>),
    /// Connections to so many places could be meant.
    Several(usize),
    Nowhere,
}

/// From a forwarder to the next station.
struct Step {
    /// The forwarder's own attempt, as if it were nginx's.
    attempt: FailedAttempt,
    relation: Relation,
    doubt: Doubt,
    found: Diagnosis,
}

impl Forwarder {
    /// The process that a finding ends at, unless that explains itself.
    fn of(world: &World, failure: &FailedAttempt, found: &Diagnosis) -> Option<Self> {
        let socket = failure.socket.as_deref();
        let closer = socket.and_then(|socket| socket.closer.as_ref());
        let (process, what) = match &found.finding.facts {
            Facts::Connection(Connection::ClosedByUpstream { how, progress, .. })
                if *how != Close::Destroyed =>
            {
                let cut = *progress == Some(Progress::WithinResponse);
                match (closer, socket.and_then(|socket| socket.owner.as_ref())) {
                    (Some(closer), _) => (closer.process.clone(), Did::Closed(closer.at, cut)),
                    (None, Some(owner)) => (owner.clone(), Did::Closed(failure.at, cut)),
                    (None, None) => return None,
                }
            }
            Facts::Death(death) => match (&death.how, closer.filter(|closer| closer.exiting)) {
                // A process for each connection ends with its own.
                (How::Exited { .. }, Some(closer)) => (closer.process.clone(), Did::Closed(closer.at, false)),
                (How::Killed { .. }, Some(closer)) => (closer.process.clone(), Did::Ended(closer.at)),
                (How::Killed { .. } | How::Exited { asked: Some(_), .. }, None) => {
                    let there = Destination::of(world, failure)?;
                    let gone = world.last_gone(failure.worker, &there, Nanos(failure.at.0 + DISORDER))?;
                    (gone.last.clone(), Did::Ended(gone.at))
                }
                _ => return None,
            },
            Facts::Waiting(Waiting::UpstreamSlow { .. }) => {
                let peer = world.peer_socket(socket?.id).and_then(|(_, peer)| peer.holders.first());
                let seen = peer.or(socket?.owner.as_ref()).cloned();
                let held = || only_holder(world, &Destination::of(world, failure)?).cloned();
                (seen.or_else(held)?, Did::Waits)
            }
            _ => return None,
        };
        Some(Self { process, what })
    }

    /// Where it led, by what it connected to itself.
    fn led_to(&self, world: &World, failure: &FailedAttempt) -> Led {
        let own = world.onward(&self.process);
        match self.what {
            Did::Closed(at, cut) => {
                let begun = self.taken_at(failure);
                let in_time = |end: &End<'_>| end.at >= begun && end.at.0 <= at.0 + DISORDER;
                let failed = own.iter().filter_map(|one| End::of(one, cut)).filter(in_time);
                self.the_one(world, failed, Relation::ForwardsTo)
            }
            Did::Waits => {
                let open = own.iter().filter_map(|one| End::awaited(one, failure.at));
                self.the_one(world, open, Relation::WaitsFor)
            }
            Did::Ended(at) => self.ended_with(world, at).map_or(Led::Nowhere, Led::To),
        }
    }

    /// When it may have begun to serve: it need not wait for the request.
    fn taken_at(&self, failure: &FailedAttempt) -> Nanos {
        let fresh = failure.socket.as_ref().filter(|socket| socket.requests < 2);
        fresh.and_then(|socket| socket.connect_at).unwrap_or_else(|| failure.began_at())
    }

    /// The latest of these, if all went to one place.
    fn the_one<'a>(&self, world: &World, ends: impl Iterator<Item = End<'a>>, relation: Relation) -> Led {
        let mut places = Vec::new();
        let mut last = None;
        for end in ends {
            if let Ends::Tcp { remote, .. } = &end.socket.ends
                && !places.contains(remote)
            {
                places.push(*remote);
            }
            last = Some(end);
        }
        match (last, places.len()) {
            (Some(end), 1) => {
                let attempt =
                    self.attempt(end.at, end.symptom, end.errno, Some(end.socket.clone()), places[0]);
                let mut found = explain(world, &attempt);
                kernel_view(&attempt, &mut found.evidence);
                Led::To(Box::new(Step { attempt, relation, doubt: Doubt::ForwardedThen, found }))
            }
            (_, 0 | 1) => Led::Nowhere,
            (_, several) => Led::Several(several),
        }
    }

    /// It was ended at `at`; the server that it last led to had died before.
    fn ended_with(&self, world: &World, at: Nanos) -> Option<Box<Step>> {
        let last = world.onward(&self.process).last().map(|attempt| &attempt.socket);
        let remote = match last.map(|socket| &socket.ends) {
            Some(Ends::Tcp { remote, .. }) => *remote,
            _ => {
                let info = world.processes.find(&self.process)?.info.as_ref()?;
                servers::forwards_to(info.command.as_bstr())?
            }
        };
        // What it was told of its last connection says nothing of this moment but where that led.
        let socket = last.map(|socket| Socket {
            closer: None,
            refusal: None,
            reset_at: None,
            fin_at: None,
            icmp: None,
            ..socket.clone()
        });
        let attempt = self.attempt(at, Symptom::ConnectRefused, None, socket, remote);
        let there = Destination::of(world, &attempt)?;
        let (ended, found) = listener::last_end(world, &attempt, &there)?;
        let before = ended.0 <= at.0 + DISORDER && at.0 <= ended.0 + ENDED_AFTER;
        let died = matches!(found.finding.facts, Facts::Death(_));
        let (relation, doubt) = (Relation::ForwardsTo, Doubt::EndedWithServer);
        (before && died).then(|| Box::new(Step { attempt, relation, doubt, found }))
    }

    /// Its own attempt, as if it were nginx's.
    fn attempt(
        &self,
        at: Nanos,
        symptom: Symptom,
        errno: Option<i32>,
        socket: Option<Socket>,
        remote: SocketAddr,
    ) -> FailedAttempt {
        FailedAttempt {
            at,
            worker: self.process.pid,
            symptom,
            underlying: symptom,
            errno,
            nginx: NginxWords { words: LogWords::Hidden, ..NginxWords::default() },
            peer: Some(remote.to_string().into()),
            socket: socket.map(Box::new),
            state: None,
            concluded: false,
        }
    }
}

/// How a connection of a forwarder's own ended, in the terms of nginx's symptoms.
struct End<'a> {
    socket: &'a Socket,
    at: Nanos,
    symptom: Symptom,
    errno: Option<i32>,
}

impl<'a> End<'a> {
    /// Its failure; `None` where it did not fail, or may not have. A response that was cut need not have been empty here.
    fn of(attempt: &'a OnwardAttempt, cut: bool) -> Option<Self> {
        let OnwardAttempt { socket, ended_at, closed_at } = attempt;
        let first = |moment: Option<Nanos>| moment.filter(|at| closed_at.is_none_or(|closed| *at <= closed));
        let silent = Self::silent(socket);
        let (at, symptom, errno) = match (socket.established_at, first(socket.reset_at), first(socket.fin_at))
        {
            (None, reset, _) => {
                let refused = reset.map(|_| ECONNREFUSED);
                let errno = socket.errno.or(refused).unwrap_or(ETIMEDOUT);
                ((*ended_at)?, symptom::connect(errno, false), Some(errno))
            }
            (Some(_), Some(reset), _) => (reset, Symptom::Reset, Some(ECONNRESET)),
            (Some(_), None, Some(fin)) if silent || cut => (fin, Symptom::ClosedEarly, None),
            // It gave up itself.
            (Some(_), None, None) if silent && Self::asked(socket) => {
                ((*closed_at)?, Symptom::ReadTimedOut, Some(ETIMEDOUT))
            }
            _ => return None,
        };
        Some(Self { socket, at, symptom, errno })
    }

    /// A connection that was open at that time, whose server owed an answer or had not taken it yet.
    fn awaited(attempt: &'a OnwardAttempt, at: Nanos) -> Option<Self> {
        let OnwardAttempt { socket, ended_at, .. } = attempt;
        let symptom = match socket.established_at {
            // It ends as nginx gives up.
            _ if ended_at.is_some_and(|ended| ended < at) => return None,
            _ if socket.connect_at.is_none_or(|began| began > at) => return None,
            None => Symptom::ConnectTimedOut,
            Some(_) if Self::silent(socket) && Self::asked(socket) => Symptom::ReadTimedOut,
            Some(_) => return None,
        };
        Some(Self { socket, at, symptom, errno: Some(ETIMEDOUT) })
    }

    /// Whether not a byte came over it; a FIN counts as one.
    fn silent(socket: &Socket) -> bool {
        socket.bytes_received.is_some_and(|bytes| bytes <= u64::from(socket.fin_at.is_some()))
    }

    /// Whether something was sent over it; the SYN counts as a byte.
    fn asked(socket: &Socket) -> bool {
        socket.bytes_acked.is_some_and(|bytes| bytes > 1) || socket.unacked.is_some_and(|bytes| bytes > 1)
    }
}

/// One station further: the finding of the step, with what led there, and the attempt that it explains.
fn join(
    world: &World,
    failure: &FailedAttempt,
    found: Diagnosis,
    forwarder: &ProcessRef,
    step: Step,
) -> (Diagnosis, FailedAttempt) {
    let process = world.processes.facts(forwarder);
    let Step { attempt, relation, doubt, found: mut next } = step;
    let mut hops = found.hops;
    match hops.last_mut() {
        Some(last) => last.process = last.process.take().or(Some(process.clone())),
        None => hops.push(Hop {
            process: Some(process.clone()),
            relation: Relation::Listens,
            address: failure.target(),
            namespace: None,
            finding: found.finding,
        }),
    }
    if next.certainty() != Certainty::Unknown {
        next = next.with_doubt(doubt);
    }
    let there = Destination::of(world, &attempt);
    let address = attempt.target();
    hops.push(Hop {
        process: next.process.clone().or_else(|| sole_listener(world, &attempt)),
        relation,
        address: Rc::clone(&address),
        namespace: there.as_ref().and_then(Destination::namespace),
        finding: next.finding.clone(),
    });
    next.hops = hops;
    translate(world, &attempt, &mut next);
    let leg = Rc::new(Leg { from: Some(process.clone()), to: address });
    next.evidence.iter_mut().filter(|one| one.leg.is_none()).for_each(|one| one.leg = Some(Rc::clone(&leg)));
    next.evidence.splice(..0, found.evidence);
    next.process = found.process.or(Some(process));
    (next, attempt)
}
