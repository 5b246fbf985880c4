//! Nobody answered at the place: who listened there last, and what became of it.

use std::net::IpAddr;
use std::rc::Rc;

use super::death::{self, Dead};
use super::{DISORDER, Diagnosis, moved, on_this_host};
use crate::attribute::attempt::FailedAttempt;
use crate::attribute::destination::Destination;
use crate::attribute::finding::death::Role;
use crate::attribute::finding::evidence::Fact;
use crate::attribute::finding::listener::{Down, Failed, Listener, Near, NotListening, PathIs};
use crate::attribute::finding::{Doubt, Unknown};
use crate::attribute::listeners::{ClosedListener, End};
use crate::attribute::verdict::{ProcessFacts, Symptom};
use crate::attribute::world::World;
use crate::event::{
    DownContainer, Endpoint, EndpointInfo, NEAR_MAX, Nanos, NearListener, Nearness, PathKind,
};

/// Failed units that a finding keeps.
const UNITS: usize = 16;

/// What is known of the place, for the rules below.
struct Place<'a> {
    world: &'a World,
    failure: &'a FailedAttempt,
    there: &'a Destination,
    endpoint: &'a Endpoint,
    asked: Option<(Nanos, &'a EndpointInfo)>,
}

/// Finds why nobody accepted a connect that the kernel refused.
pub(super) fn diagnose(world: &World, failure: &FailedAttempt) -> Diagnosis {
    let Some(there) = Destination::of(world, failure) else { return Diagnosis::new(Unknown::NoAddress) };
    if let Some(icmp) = failure.socket.as_ref().and_then(|socket| socket.icmp) {
        return Diagnosis::new(Listener::Rejected { icmp: icmp.into() });
    }
    let asked = world.asked(&there).filter(|(at, _)| at.0 + DISORDER >= failure.at.0);
    let place = Place { world, failure, there: &there, endpoint: &there.endpoint, asked };
    let gone = world.last_gone(failure.worker, &there, Nanos(failure.at.0 + DISORDER));
    place
        .still_listening()
        .or_else(|| gone.map(|gone| place.ended(gone)))
        .or_else(|| place.not_here())
        .unwrap_or_else(|| place.never())
}

/// The end of the last listener at an address that left this host with its network namespace, as a container's does:
/// nobody is there any more to refuse a connect.
pub(super) fn left_with_namespace(world: &World, failure: &FailedAttempt) -> Option<Diagnosis> {
    let there = Destination::of(world, failure).filter(Destination::is_former)?;
    // Several namespaces may have had it; the port tells them apart, or nothing does.
    let mut ends = there.formers(world, failure.netns()).filter_map(|there| last_end(world, failure, &there));
    match (ends.next(), ends.next()) {
        (Some((_, found)), None) => Some(found),
        _ => None,
    }
}

/// The end of the last listener that was there, and when that was.
pub(super) fn last_end(
    world: &World,
    failure: &FailedAttempt,
    there: &Destination,
) -> Option<(Nanos, Diagnosis)> {
    let gone = world.last_gone(failure.worker, there, Nanos(failure.at.0 + DISORDER))?;
    Some((gone.at, Place { world, failure, there, endpoint: &there.endpoint, asked: None }.ended(gone)))
}

impl Place<'_> {
    /// Somebody listened there before the connect began, and does.
    fn still_listening(&self) -> Option<Diagnosis> {
        let (world, failure) = (self.world, self.failure);
        let since = failure.socket.as_ref().and_then(|socket| socket.connect_at).unwrap_or(failure.at);
        let aside =
            self.asked.and_then(|(_, info)| info.near.first()).filter(|near| near.bound == *self.endpoint);
        if let (Some(near), Endpoint::Unix(_)) = (aside, self.endpoint) {
            let who = world.processes.facts(&near.process);
            if let Some(found) = self.replaced(near, &who) {
                return Some(found);
            }
            let found = Diagnosis::new(Unknown::ListenerNotReached(Some(who.clone()), true));
            return Some(found.with_process(who));
        }
        if self.asked.is_some_and(|(_, info)| info.listeners.is_empty()) {
            return None;
        }
        let mut living = world.listeners.living(self.there);
        let listener = living.find(|one| one.opened_at.is_none_or(|at| at < since))?;
        let process = listener.holders.first().map(|holder| world.processes.facts(holder));
        Some(match (failure.underlying, self.asked) {
            // A holder may have closed its copy unseen, by exec: only a look-up at the failure shows that it listens.
            (Symptom::ConnectRefused, None) => Diagnosis::new(Unknown::ListenerNotConfirmed(process)),
            // This host's TCP did not take it to the listener that is there now.
            (Symptom::ConnectRefused, Some(_)) if self.refused_here() => {
                Diagnosis::new(Unknown::ListenerNotReached(process, false))
            }
            (Symptom::ConnectRefused, Some(_)) if world.sees_refusals(failure) => {
                Diagnosis::new(Listener::Filtered { process })
            }
            (Symptom::ConnectRefused, Some(_)) => {
                Diagnosis::inferred(Listener::Filtered { process }, Doubt::ListenerLives)
            }
            _ => Diagnosis::new(Unknown::ListenerNotReached(process, false)),
        })
    }

    /// A living listener of this very name, which the path does not lead to. In other mounts the same name may be another
    /// server's, so that it is inferred there.
    fn replaced(&self, near: &NearListener, who: &Rc<ProcessFacts>) -> Option<Diagnosis> {
        let other_files = match near.why {
            Nearness::SamePath => false,
            Nearness::OtherFiles => true,
            _ => return None,
        };
        let path = self.asked.and_then(|(_, info)| info.path).and_then(|kind| match kind {
            PathKind::Missing => Some(PathIs::Missing),
            PathKind::Socket => Some(PathIs::SocketLeftBehind),
            PathKind::Other => Some(PathIs::NotASocket),
            PathKind::Unknown => None,
        });
        let found = Diagnosis::new(Listener::Replaced { process: who.clone(), path, other_files });
        let found = if other_files { found.with_doubt(Doubt::OtherMounts) } else { found };
        let (at, _) = self.asked?;
        Some(
            found
                .with_evidence(at, Fact::NoListener)
                .with_evidence(at, Fact::Alive(who.clone()))
                .with_process(who.clone()),
        )
    }

    /// Whether TCP of this host was seen to refuse this connect.
    fn refused_here(&self) -> bool {
        self.failure.socket.as_ref().is_some_and(|socket| socket.refusal.is_some())
    }

    /// The last listener's end as the cause.
    fn ended(&self, gone: &ClosedListener) -> Diagnosis {
        let found = match gone.end {
            // It closed as it shut down.
            End::Closed if self.has_exited(gone) => self.died(gone),
            End::Closed => {
                let process = self.world.processes.facts(&gone.last);
                self.stopped(process, Some(gone.at))
            }
            End::Died => self.died(gone),
            End::Unseen => self.unseen(gone),
        };
        let found = found.unless_proven_by(|| self.other_namespace(gone));
        found.with_evidence(gone.at, Fact::ListenerGone)
    }

    /// Whether a name or an address alone leads to a listener of another namespace.
    fn other_namespace(&self, gone: &ClosedListener) -> Option<Doubt> {
        let here = self.asked.map_or(self.failure.netns(), |(_, info)| info.netns);
        match &gone.bound {
            Endpoint::Unix(_) if self.is_the_file(gone) => None,
            Endpoint::Unix(path) => {
                let elsewhere = gone.netns != here && gone.netns != 0 && here != 0;
                let pathname = path.first() != Some(&0);
                let doubt = || {
                    (pathname && !self.world.sees_same_files(self.failure.worker, gone))
                        .then_some(Doubt::OtherMounts)
                };
                elsewhere.then_some(Doubt::OtherNamespace).or_else(doubt)
            }
            Endpoint::Tcp(_) => {
                let other = self.there.is_former() || self.there.other_netns(self.failure.netns()).is_some();
                (other && !self.there.delivered).then_some(Doubt::AddressOnly)
            }
        }
    }

    /// Whether nginx's path leads to the very file that a listener was bound to.
    fn is_the_file(&self, gone: &ClosedListener) -> bool {
        gone.file.is_some() && gone.file == self.asked.and_then(|(_, info)| info.file)
    }

    fn stopped(&self, process: Rc<ProcessFacts>, at: Option<Nanos>) -> Diagnosis {
        let near = self.same_program();
        Diagnosis::new(Listener::Stopped { process: process.clone(), at, while_waiting: false, near })
            .with_process(process)
    }

    /// Listeners of the same program elsewhere.
    fn same_program(&self) -> Vec<Near> {
        let near = self.asked.into_iter().flat_map(|(_, info)| &info.near);
        near.filter(|near| near.why == Nearness::SameProgram).map(Near::from).collect()
    }

    /// Whether the last listener had ended when the failure came.
    fn has_exited(&self, gone: &ClosedListener) -> bool {
        let exit = self.world.processes.find(&gone.last).and_then(|life| life.exit.as_ref());
        exit.is_some_and(|(at, _)| *at <= self.failure.at)
    }

    fn died(&self, gone: &ClosedListener) -> Diagnosis {
        let near = self.same_program();
        let dead = Dead {
            process: &gone.last,
            role: Role::LastListener,
            at: gone.at,
            code: None,
            near: near.clone(),
        };
        death::explain(self.world, dead).unwrap_or_else(|| {
            let process = self.world.processes.facts(&gone.last);
            Diagnosis::new(Unknown::ListenerVanished(process.clone(), near)).with_process(process)
        })
    }

    /// A look-up found it gone: a holder that lives closed it, a holder that died took it along, or either.
    fn unseen(&self, gone: &ClosedListener) -> Diagnosis {
        let facts = |process| self.world.processes.facts(process);
        let living = gone.rest.iter().find(|holder| self.world.processes.alive_since(holder, gone.at));
        match living {
            Some(living) if gone.lost_one => {
                let (living, dead, near) = (facts(living), facts(&gone.last), self.same_program());
                Diagnosis::new(Unknown::StoppedOrDied { living: living.clone(), dead, near })
                    .with_process(living)
            }
            Some(living) => {
                let process = facts(living);
                let found = self.stopped(process.clone(), None).with_doubt(Doubt::CloseUnseen);
                found.with_evidence(gone.at, Fact::Alive(process))
            }
            None => self.died(gone).unless_proven_by(|| Some(Doubt::Shared)),
        }
    }

    /// The address is another host's, or may be a container's.
    fn not_here(&self) -> Option<Diagnosis> {
        if on_this_host(self.world, self.failure) {
            return None;
        }
        Some(match self.there.is_elsewhere() {
            true => Diagnosis::inferred(Listener::OnAnotherHost { reset: true }, Doubt::NotThisHost),
            false => Diagnosis::new(Unknown::RefusedElsewhere),
        })
    }

    /// Nobody listened there since tracing began.
    fn never(&self) -> Diagnosis {
        let Some((at, info)) = self.asked else {
            return Diagnosis::inferred(self.not_listening(None, false), Doubt::NotLookedUp);
        };
        if !info.listeners.is_empty() {
            return Diagnosis::new(Unknown::ListensByNow);
        }
        let watched = self.world.saw_every_listener(self.endpoint, self.failure.at);
        let doubt = match self.world.listeners.closed_alike(self.endpoint) {
            Some(path) if path.first() != Some(&b'/') => {
                return Diagnosis::new(Unknown::RelativePath(path.clone(), self.endpoint.clone()));
            }
            Some(path) if watched => Some(Doubt::SimilarPath(path.clone())),
            _ => (!watched).then_some(Doubt::Unwatched),
        };
        let found = Diagnosis::new(self.not_listening(Some(info), watched));
        let found = doubt.into_iter().fold(found, Diagnosis::with_doubt).with_evidence(at, Fact::NoListener);
        let named = self.world.failed_units().iter().filter(|unit| Failed::resembles(unit, self.endpoint));
        named.fold(found, |found, unit| match unit.at {
            Some(at) => found.with_evidence(at, Fact::UnitFailed(unit.into())),
            None => found,
        })
    }

    /// Containers that publish this very place.
    fn containers_down(&self) -> Vec<Down> {
        let Endpoint::Tcp(wanted) = self.endpoint else { return Vec::new() };
        let publishes = |down: &&DownContainer| {
            let here = |(ip, port): &(Option<IpAddr>, u16)| {
                *port == wanted.port() && ip.is_none_or(|ip| ip == wanted.ip().to_canonical())
            };
            down.publishes.iter().any(here)
        };
        self.world.down_containers().iter().filter(publishes).map(Down::from).collect()
    }

    fn not_listening(&self, info: Option<&EndpointInfo>, watched: bool) -> Listener {
        let path = match (self.failure.underlying, info.and_then(|info| info.path)) {
            (_, Some(PathKind::Other)) => Some(PathIs::NotASocket),
            (Symptom::SocketMissing, _) => Some(PathIs::Missing),
            (_, Some(PathKind::Socket)) => Some(PathIs::SocketLeftBehind),
            _ => None,
        };
        let near: Vec<_> = info.iter().flat_map(|info| info.near.iter().map(Near::from)).collect();
        let units = || self.world.failed_units().iter().filter(|_| info.is_some());
        let (named, others): (Vec<_>, Vec<_>) =
            units().partition(|unit| Failed::resembles(unit, self.endpoint));
        Listener::NotListening(NotListening {
            endpoint: self.endpoint.clone(),
            path,
            watched,
            near_cut: near.len() >= NEAR_MAX,
            near,
            moved: moved::of(self.world, self.failure, self.there),
            containers_down: self.containers_down(),
            failed_units: named.into_iter().chain(others).take(UNITS).map(Failed::from).collect(),
        })
    }
}
