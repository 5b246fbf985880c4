//! Who listens where, with every process that shares the socket, and how the last listener of a place ended.
//!
//! A listener is gone when its last holder is gone; the kernel says so with a `Listen` record, and where no hook tells of
//! AF_UNIX sockets, the last holder's exit says so.

mod listener;
mod place;

use bstr::BString;

pub(super) use listener::{ClosedListener, End, Listener};
use place::{Place, place};

use super::bounded::Bounded;
use super::closed_paths::ClosedPaths;
use super::destination::Destination;
use super::homes::{Home, near};
use super::processes::same;
use crate::event::{Endpoint, EndpointInfo, Listen, Nanos, Pid, ProcessRef};

/// Places remembered; each with at most [`PER_PLACE`] listeners, living and dead.
const PLACES: usize = 8_192;
const PER_PLACE: usize = 64;
/// Beyond so many places of one process, those that nobody listens at any more are forgotten.
const PER_PROCESS: usize = 256;
/// A dying process closes its files within this time (nanoseconds) of its last record.
const ENDING: u64 = 1_000_000_000;
/// How old a look-up's list of holders may be that does not say (nanoseconds).
const STALE: u64 = 10_000_000_000;
/// Processes whose places are remembered: as many as may share listeners.
const HOLDERS: usize = 32_768;

/// The table.
#[derive(Debug)]
pub(super) struct Listeners {
    live: Bounded<Place, Vec<Listener>>,
    gone: Bounded<Place, Vec<ClosedListener>>,
    /// Socket paths that lead through symbolic links, to where they lead.
    aliases: Bounded<BString, Endpoint>,
    closed_paths: ClosedPaths,
    /// Where each process holds a listener. May name too many places, never too few.
    held: Bounded<Pid, Vec<Place>>,
}

impl Listeners {
    pub(super) fn new() -> Self {
        Self {
            live: Bounded::new(PLACES),
            gone: Bounded::new(PLACES),
            aliases: Bounded::new(PLACES),
            closed_paths: ClosedPaths::new(),
            held: Bounded::new(HOLDERS),
        }
    }

    /// How many places were forgotten.
    pub(super) fn evicted(&self) -> u64 {
        self.live.evicted()
            + self.gone.evicted()
            + self.aliases.evicted()
            + self.closed_paths.evicted()
            + self.held.evicted()
    }

    /// Living listeners that a connect there reaches.
    pub(super) fn living<'a>(&'a self, there: &'a Destination) -> impl Iterator<Item = &'a Listener> {
        let (home, endpoint) = (there.home, self.resolved(&there.endpoint));
        let all = self.live.get(&place(endpoint)).into_iter().flatten();
        all.filter(move |listener| home.reaches(endpoint, listener.netns, &listener.bound))
    }

    /// Dead listeners of a place.
    pub(super) fn gone<'a>(&'a self, there: &'a Destination) -> impl Iterator<Item = &'a ClosedListener> {
        let (home, endpoint) = (there.home, self.resolved(&there.endpoint));
        let all = self.gone.get(&place(endpoint)).into_iter().flatten();
        all.filter(move |gone| home.reaches(endpoint, gone.netns, &gone.bound))
    }

    /// `path` leads to `resolved` in the worker's root: listeners are known by the latter.
    pub(super) fn alias(&mut self, path: &BString, resolved: &BString) {
        self.aliases.insert(path.clone(), Endpoint::Unix(resolved.clone()));
    }

    /// The path of a listener that ended and may have been at `endpoint` by another name.
    pub(super) fn closed_alike(&self, endpoint: &Endpoint) -> Option<&BString> {
        let names = &self.closed_paths;
        names.alike(endpoint).or_else(|| names.alike(self.resolved(endpoint)))
    }

    fn resolved<'a>(&'a self, endpoint: &'a Endpoint) -> &'a Endpoint {
        match endpoint {
            Endpoint::Unix(path) => self.aliases.get(path).unwrap_or(endpoint),
            Endpoint::Tcp(_) => endpoint,
        }
    }

    /// A socket began or ceased to listen.
    pub(super) fn listen(&mut self, at: Nanos, event: &Listen) {
        if event.open { self.open(at, event) } else { self.close(at, event) }
    }

    fn open(&mut self, at: Nanos, event: &Listen) {
        let listener = Listener {
            id: Some(event.id),
            netns: event.netns,
            bound: event.endpoint.clone(),
            holders: vec![event.process.clone()],
            lost: Vec::new(),
            opened_at: Some(at),
            confirmed_at: at,
        };
        self.hold(&event.process, &place(&event.endpoint));
        let there = self.live_at(&event.endpoint);
        there.retain(|other| other.id != Some(event.id));
        push(there, listener);
    }

    fn close(&mut self, at: Nanos, event: &Listen) {
        let end = if event.exiting { End::Died } else { End::Closed };
        let there = self.live_at(&event.endpoint);
        let fits =
            |listener: &Listener| listener.bound == event.endpoint && near(listener.netns, event.netns);
        let found = there
            .iter()
            .position(|listener| listener.id == Some(event.id))
            .or_else(|| {
                there.iter().position(|one| one.id.is_none() && fits(one) && one.is_held_by(&event.process))
            })
            .or_else(|| there.iter().position(|one| one.id.is_none() && fits(one)));
        let mut holders = vec![event.process.clone()];
        if let Some(found) = found {
            let listener = there.remove(found);
            holders.extend(listener.holders);
            holders.extend(listener.lost.into_iter().map(|(holder, _)| holder));
        } else if let Some(known) = self.buried(event) {
            // The last holder's exit had told already; the socket's own end is the better witness.
            known.end = end;
            known.last = event.process.clone();
            return;
        }
        self.bury(ClosedListener {
            id: Some(event.id),
            netns: event.netns,
            bound: event.endpoint.clone(),
            last: event.process.clone(),
            at,
            end,
            holders,
            rest: Vec::new(),
            lost_one: false,
        });
        self.tidy(&place(&event.endpoint));
    }

    fn buried(&mut self, event: &Listen) -> Option<&mut ClosedListener> {
        let gone = self.gone.get_mut(&place(&event.endpoint))?;
        gone.iter_mut().rev().find(|gone| {
            let identity = gone.id == Some(event.id) || gone.id.is_none() && gone.bound == event.endpoint;
            identity
                && near(gone.netns, event.netns)
                && gone.holders.iter().any(|one| same(one, &event.process))
        })
    }

    /// A child shares its parent's sockets.
    pub(super) fn fork(&mut self, parent: &ProcessRef, child: &ProcessRef) {
        let places = self.held.get(&parent.pid).cloned().unwrap_or_default();
        for place in &places {
            let there = self.live.get_mut(place).into_iter().flatten();
            let mut shared = false;
            for listener in there.filter(|listener| listener.is_held_by(parent)) {
                listener.holders.push(child.clone());
                shared = true;
            }
            if shared {
                self.hold(child, place);
            }
        }
    }

    /// A process is gone: so are the listeners that only it held.
    pub(super) fn exit(&mut self, at: Nanos, process: &ProcessRef) {
        let mut dead = Vec::new();
        let places = self.held.remove(&process.pid).unwrap_or_default();
        for place in &places {
            let Some(listeners) = self.live.get_mut(place) else { continue };
            listeners.retain_mut(|listener| {
                if !listener.is_held_by(process) {
                    return true;
                }
                listener.holders.retain(|holder| !same(holder, process));
                if listener.lost.len() == PER_PLACE {
                    listener.lost.remove(0);
                }
                listener.lost.push((process.clone(), at));
                if listener.holders.is_empty() {
                    dead.push(listener.ended(process.clone(), at, End::Died));
                }
                !listener.holders.is_empty()
            });
            self.tidy(place);
        }
        dead.into_iter().for_each(|gone| self.bury(gone));
    }

    /// What a look-up found. Its list of holders may be older than the latest fork and name who has `died` since.
    pub(super) fn found(&mut self, at: Nanos, info: &EndpointInfo, died: impl Fn(&ProcessRef) -> bool) {
        if info.asked && info.listeners.is_empty() {
            self.found_empty(at, info);
        }
        let listed_at = match info.holders_at {
            Nanos(0) => Nanos(at.0.saturating_sub(STALE)),
            known => known,
        };
        for found in &info.listeners {
            let place = place(&found.bound);
            let holders: Vec<_> = found.holders.iter().filter(|holder| !died(holder)).cloned().collect();
            if holders.is_empty() && self.ending(at, &found.bound) {
                continue;
            }
            holders.iter().for_each(|holder| self.hold(holder, &place));
            let there = self.live_at(&found.bound);
            let known = there.iter_mut().find(|known| {
                let shared = holders.iter().any(|holder| known.is_held_by(holder));
                known.bound == found.bound
                    && near(known.netns, info.netns)
                    && (shared || known.holders.is_empty())
            });
            match known {
                Some(known) => known.confirm(at, holders, listed_at),
                None => push(
                    there,
                    Listener {
                        id: None,
                        netns: info.netns,
                        bound: found.bound.clone(),
                        holders,
                        lost: Vec::new(),
                        opened_at: info.asked.then_some(at),
                        confirmed_at: at,
                    },
                ),
            }
        }
    }

    /// Whether a socket that a look-up found in nobody's hands is one that is known already, or has ended just now: the
    /// kernel shows it until the last holder's files are closed.
    fn ending(&self, at: Nanos, bound: &Endpoint) -> bool {
        let place = place(bound);
        let known = self.live.get(&place).into_iter().flatten().any(|one| one.bound == *bound);
        let ended = |gone: &ClosedListener| gone.bound == *bound && gone.at.0 + ENDING >= at.0;
        known || self.gone.get(&place).into_iter().flatten().any(ended)
    }

    fn found_empty(&mut self, at: Nanos, info: &EndpointInfo) {
        let wanted = self.resolved(&info.endpoint).clone();
        let key = place(&wanted);
        // A socket bound to that name that nginx's path does not lead to: the file was replaced, or it is another
        // file system's.
        let aside = info.near.iter().any(|near| near.bound == wanted);
        let home = Home::Namespace(info.netns);
        let Some(there) = self.live.get_mut(&key).filter(|_| !aside) else { return };
        let (stale, kept) = std::mem::take(there)
            .into_iter()
            .partition::<Vec<_>, _>(|one| home.reaches(&wanted, one.netns, &one.bound));
        *there = kept;
        for listener in stale {
            let lost = listener.lost.last().filter(|(_, died)| *died >= listener.confirmed_at);
            let (last, when) = match (lost, listener.holders.first()) {
                (Some((holder, died)), _) => (holder.clone(), *died),
                (None, Some(holder)) => (holder.clone(), at),
                (None, None) => continue,
            };
            let lost_one = lost.is_some();
            self.bury(ClosedListener {
                rest: listener.holders.clone(),
                lost_one,
                ..listener.ended(last, when, End::Unseen)
            });
        }
        self.tidy(&key);
    }

    fn hold(&mut self, process: &ProcessRef, place: &Place) {
        let mut places = self.held.remove(&process.pid).unwrap_or_default();
        if !places.contains(place) {
            if places.len() >= PER_PROCESS {
                places.retain(|place| self.live.get(place).is_some());
            }
            places.push(place.clone());
        }
        self.held.insert(process.pid, places);
    }

    /// Forgets a place where nothing listens any more.
    fn tidy(&mut self, place: &Place) {
        if self.live.get(place).is_some_and(Vec::is_empty) {
            self.live.remove(place);
        }
    }

    fn bury(&mut self, gone: ClosedListener) {
        self.closed_paths.add(&gone.bound);
        let key = place(&gone.bound);
        let mut there = self.gone.remove(&key).unwrap_or_default();
        push(&mut there, gone);
        self.gone.insert(key, there);
    }

    fn live_at(&mut self, endpoint: &Endpoint) -> &mut Vec<Listener> {
        let key = place(endpoint);
        if self.live.get(&key).is_none() {
            self.live.insert(key.clone(), Vec::new());
        }
        self.live.get_mut(&key).expect("inserted above")
    }
}

fn push<T>(list: &mut Vec<T>, item: T) {
    if list.len() == PER_PLACE {
        list.remove(0);
    }
    list.push(item);
}
