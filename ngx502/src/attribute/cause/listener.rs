//! Nobody answered at the place: who listened there last, and what became of it.

use std::rc::Rc;

use super::death::{self, Dead, Role};
use super::{Diagnosis, maybe_container, on_this_host};
use crate::attribute::attempt::Failure;
use crate::attribute::listeners::{End, Gone};
use crate::attribute::verdict::{Cause, Certainty, Symptom};
use crate::attribute::wording;
use crate::attribute::wording::listener::{self as words, History};
use crate::attribute::world::World;
use crate::event::{Endpoint, EndpointInfo, NEAR_MAX, Nanos, NearListener, Nearness};

/// How much later than the failure a record of its reason may carry its time.
const DISORDER: u64 = 50_000_000;

/// Near misses that a fix asks for one by one.
const NEAR_SHOWN: usize = 3;

/// Failed units that a fix asks for.
const UNITS_NAMED: usize = 3;

/// What is known of the place, for the rules below.
struct Place<'a> {
    world: &'a World,
    failure: &'a Failure,
    endpoint: &'a Endpoint,
    there: Rc<str>,
    asked: Option<(Nanos, &'a EndpointInfo)>,
}

/// Finds why nobody accepted a connect that the kernel refused.
pub(super) fn diagnose(world: &World, failure: &Failure) -> Diagnosis {
    let Some(endpoint) = failure.endpoint() else { return Diagnosis::unknown(words::no_address()) };
    let there = wording::target(failure);
    if let Some(icmp) = failure.socket.as_ref().and_then(|socket| socket.icmp) {
        return Diagnosis::proven(Cause::Firewall, words::rejected(&there, icmp)).fix([words::filters()]);
    }
    let netns = failure.netns();
    let asked = world.asked(netns, &endpoint).filter(|(at, _)| at.0 + DISORDER >= failure.at.0);
    let place = Place { world, failure, endpoint: &endpoint, there, asked };
    let gone = world.listeners.last_gone(netns, &endpoint, Nanos(failure.at.0 + DISORDER));
    place
        .still_listening()
        .or_else(|| gone.map(|gone| place.ended(gone)))
        .or_else(|| place.not_here())
        .unwrap_or_else(|| place.never())
}

impl Place<'_> {
    /// Somebody listened there before the connect began, and does.
    fn still_listening(&self) -> Option<Diagnosis> {
        let (world, failure, there) = (self.world, self.failure, &self.there);
        let since = failure.socket.as_ref().and_then(|socket| socket.connect_at).unwrap_or(failure.at);
        let aside =
            self.asked.and_then(|(_, info)| info.near.first()).filter(|near| near.bound == *self.endpoint);
        if let (Some(near), Endpoint::Unix(_)) = (aside, self.endpoint) {
            let who = world.processes.facts(&near.process);
            let summary = words::bound_aside(there, &wording::name_unit(&who));
            return Some(Diagnosis::unknown(summary).fix(who.restart()).of(who));
        }
        if self.asked.is_some_and(|(_, info)| info.listeners.is_empty()) {
            return None;
        }
        let mut living = world.listeners.living(failure.netns(), self.endpoint);
        let listener = living.find(|one| one.opened_at.is_none_or(|at| at < since))?;
        let holder = listener.holders.first().map(|holder| world.processes.facts(holder));
        let who = wording::name_or(holder.as_deref(), "a process");
        Some(match (failure.mechanism, self.asked) {
            // A holder may have closed its copy unseen, by exec: only a look-up at the failure shows that it listens.
            (Symptom::ConnectRefused, None) => Diagnosis::unknown(words::refused_unconfirmed(there, &who)),
            (Symptom::ConnectRefused, Some(_)) => {
                Diagnosis::inferred(Cause::Firewall, words::refused_by_filter(there, &who))
                    .fix([words::filters()])
            }
            _ => Diagnosis::unknown(words::bound_aside(there, &who)),
        })
    }

    /// The last listener's end as the cause.
    fn ended(&self, gone: &Gone) -> Diagnosis {
        let mut found = match gone.end {
            // It closed as it shut down.
            End::Closed if self.has_exited(gone) => self.died(gone),
            End::Closed => {
                let who = self.world.processes.facts(&gone.last);
                let ago = wording::span(gone.at, self.failure.at);
                Diagnosis::proven(Cause::StoppedListening, words::stopped(&who, &self.there, ago))
                    .fix(who.restart())
                    .of(who)
            }
            End::Died => self.died(gone),
            End::Unseen => self.unseen(gone),
        };
        let here = self.asked.map_or(self.failure.netns(), |(_, info)| info.netns);
        if found.certainty == Certainty::Proven && gone.netns != here && gone.netns != 0 && here != 0 {
            found.doubt(words::other_namespace());
        }
        let near = self.asked.into_iter().flat_map(|(_, info)| &info.near);
        let elsewhere = near.filter(|near| near.why == Nearness::SameProgram);
        found.seen(gone.at, "listen", words::gone(&self.there)).fix(nearest(elsewhere))
    }

    /// Whether the last listener had ended when the failure came.
    fn has_exited(&self, gone: &Gone) -> bool {
        let exit = self.world.processes.find(&gone.last).and_then(|life| life.exit.as_ref());
        exit.is_some_and(|(at, _)| *at <= self.failure.at)
    }

    fn died(&self, gone: &Gone) -> Diagnosis {
        let dead = Dead {
            process: &gone.last,
            role: Role::LastListener,
            there: self.there.clone(),
            at: gone.at,
            code: None,
            failed_at: self.failure.at,
        };
        death::explain(self.world, &dead).unwrap_or_else(|| {
            let who = self.world.processes.facts(&gone.last);
            Diagnosis::unknown(words::vanished(&who, &self.there)).of(who)
        })
    }

    /// A look-up found it gone: a holder that lives closed it, a holder that died took it along, or either.
    fn unseen(&self, gone: &Gone) -> Diagnosis {
        let facts = |process| self.world.processes.facts(process);
        let living = gone.rest.iter().find(|holder| self.world.processes.alive_since(holder, gone.at));
        match living {
            Some(living) if gone.lost_one => {
                let (living, dead) = (facts(living), facts(&gone.last));
                Diagnosis::unknown(words::stopped_or_died(&living, &dead, &self.there)).of(living)
            }
            Some(living) => {
                let who = facts(living);
                Diagnosis::inferred(Cause::StoppedListening, words::stopped_unseen(&who, &self.there))
                    .seen(gone.at, "process", words::lives(&who))
                    .fix(who.restart())
                    .of(who)
            }
            None => {
                let mut found = self.died(gone);
                if found.certainty == Certainty::Proven {
                    found.doubt(words::shared());
                }
                found
            }
        }
    }

    /// The address is another host's, or may be a container's.
    fn not_here(&self) -> Option<Diagnosis> {
        if on_this_host(self.world, self.failure) {
            return None;
        }
        Some(match maybe_container(self.world, self.failure) {
            true => Diagnosis::unknown(words::somewhere(&self.there)),
            false => Diagnosis::inferred(Cause::ClosedByRemote, words::elsewhere(&self.there)),
        })
    }

    /// Nobody listened there since tracing began.
    fn never(&self) -> Diagnosis {
        let there = &self.there;
        let Some((at, info)) = self.asked else {
            return Diagnosis::inferred(Cause::NotListening, words::never_unconfirmed(there));
        };
        if !info.listeners.is_empty() {
            return Diagnosis::unknown(words::listens_by_now(there));
        }
        let watched = self.world.saw_every_listener(self.endpoint, self.failure.at);
        let alike = self.world.listeners.ended_alike(self.endpoint);
        let (certainty, history) = match alike {
            Some(path) if path.first() != Some(&b'/') => {
                return Diagnosis::unknown(words::relative(there, path)).fix([words::check(self.endpoint)]);
            }
            Some(path) if watched => (Certainty::Inferred, History::Alike(path)),
            _ if watched => (Certainty::Proven, History::Watched),
            _ => (Certainty::Inferred, History::Unwatched),
        };
        let summary = words::never(there, self.failure.mechanism, info.path, history);
        let found = Diagnosis::new(Cause::NotListening, certainty, summary)
            .seen(at, "listen", words::looked_up(there))
            .fix(nearest(info.near.iter()));
        self.failed_units(found).fix([words::check(self.endpoint)])
    }

    /// A service that failed before may be the one that is missing: that its name is in the path says so, no more.
    fn failed_units(&self, found: Diagnosis) -> Diagnosis {
        let units = self.world.failed_units();
        let named: Vec<_> = units.iter().filter(|unit| words::resembles(&unit.unit, self.endpoint)).collect();
        let found = named.iter().fold(found, |found, unit| match unit.at {
            Some(at) => found.seen(at, "unit", words::unit_failed(unit)),
            None => found,
        });
        let others = units.iter().filter(|unit| !named.contains(unit));
        let asked = named.iter().copied().chain(others).take(UNITS_NAMED);
        found.fix(asked.map(words::failed_unit))
    }
}

/// The nearest listeners, and how many there are beside them.
fn nearest<'a>(near: impl Iterator<Item = &'a NearListener>) -> impl Iterator<Item = String> {
    let near: Vec<_> = near.collect();
    let shown = near.iter().take(NEAR_SHOWN).map(|near| words::near(near)).collect::<Vec<_>>();
    let more = near.len().saturating_sub(NEAR_SHOWN);
    let more = (more > 0).then(|| words::more_near(more, near.len() >= NEAR_MAX));
    shown.into_iter().chain(more)
}
