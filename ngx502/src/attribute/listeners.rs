//! Who listens where, with every process that shares the socket, and how the last listener of a place ended.
//!
//! A listener is gone when its last holder is gone; the kernel says so with a `Listen` record, and where no hook tells of
//! AF_UNIX sockets, the last holder's exit says so.

mod listener;
mod place;

use bstr::BString;

pub(super) use listener::{ClosedListener, End, Listener};
use place::{Filed, Spot, place};

use super::bounded::Bounded;
use super::closed_paths::ClosedPaths;
use super::destination::Destination;
use super::homes::{Home, near};
use super::processes::same;
use crate::event::{Endpoint, EndpointInfo, Listen, Nanos, Pid, ProcessRef};

/// Socket paths remembered that lead through symbolic links.
const ALIASES: usize = 8_192;
/// Dead holders remembered of a listener that lives.
const LOST_HOLDERS: usize = 64;
/// Beyond so many spots of one process, those that nobody listens at any more are forgotten.
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
    live: Filed<Listener>,
    gone: Filed<ClosedListener>,
    /// Socket paths that lead through symbolic links, to where they lead.
    aliases: Bounded<BString, Endpoint>,
    closed_paths: ClosedPaths,
    /// Where each process holds a listener. May name too many spots, never too few.
    held: Bounded<Pid, Vec<Spot>>,
}

impl Listeners {
    pub(super) fn new() -> Self {
        Self {
            live: Filed::new(),
            gone: Filed::new(),
            aliases: Bounded::new(ALIASES),
            closed_paths: ClosedPaths::new(),
            held: Bounded::new(HOLDERS),
        }
    }

    /// How many spots, listeners, and names were forgotten.
    pub(super) fn evicted(&self) -> u64 {
        self.live.evicted()
            + self.gone.evicted()
            + self.aliases.evicted()
            + self.closed_paths.evicted()
            + self.held.evicted()
    }

    /// Whether a listener was forgotten that may have been at an endpoint.
    pub(super) fn forgot(&self, endpoint: &Endpoint) -> bool {
        let names = self.aliases.evicted() + self.closed_paths.evicted() + self.held.evicted();
        let place = place(self.resolved(endpoint));
        names > 0 || self.live.forgot(&place) || self.gone.forgot(&place)
    }

    /// Living listeners that a connect there reaches.
    pub(super) fn living<'a>(&'a self, there: &'a Destination) -> impl Iterator<Item = &'a Listener> {
        let (home, endpoint) = (there.home, self.resolved(&there.endpoint));
        let all = self.live.at(&place(endpoint));
        all.filter(move |listener| home.reaches(endpoint, listener.netns, &listener.bound))
    }

    /// Dead listeners of a place.
    pub(super) fn gone<'a>(&'a self, there: &'a Destination) -> impl Iterator<Item = &'a ClosedListener> {
        let (home, endpoint) = (there.home, self.resolved(&there.endpoint));
        let all = self.gone.at(&place(endpoint));
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
            file: None,
            mounts: event.mounts,
            holders: vec![event.process.clone()],
            lost: Vec::new(),
            opened_at: Some(at),
            confirmed_at: at,
        };
        let spot = Spot::of(&event.endpoint, event.netns);
        self.hold(&event.process, &spot);
        if let Some(there) = self.live.list(&spot) {
            there.retain(|other| other.id != Some(event.id));
        }
        self.live.push(spot, listener);
    }

    fn close(&mut self, at: Nanos, event: &Listen) {
        let end = if event.exiting { End::Died } else { End::Closed };
        let (mut holders, mut file, mut mounts) = (vec![event.process.clone()], None, event.mounts);
        if let Some(listener) = self.take(event) {
            file = listener.file;
            mounts = listener.mounts.or(mounts);
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
            file,
            mounts,
            last: event.process.clone(),
            at,
            end,
            holders,
            rest: Vec::new(),
            lost_one: false,
        });
        self.live.tidy(&place(&event.endpoint));
    }

    /// Takes the listener that a close is about out of those that live.
    fn take(&mut self, event: &Listen) -> Option<Listener> {
        let fits =
            |one: &Listener| one.id.is_none() && one.bound == event.endpoint && near(one.netns, event.netns);
        let wanted: [&dyn Fn(&Listener) -> bool; 3] =
            [&|one| one.id == Some(event.id), &|one| fits(one) && one.is_held_by(&event.process), &|one| {
                fits(one)
            }];
        let place = place(&event.endpoint);
        wanted.into_iter().find_map(|wanted| {
            self.live.lists_at(&place).find_map(|there| Some(there.remove(there.iter().position(wanted)?)))
        })
    }

    fn buried(&mut self, event: &Listen) -> Option<&mut ClosedListener> {
        let gone = self.gone.lists_at(&place(&event.endpoint)).flatten();
        let known = gone.filter(|gone| {
            let identity = gone.id == Some(event.id) || gone.id.is_none() && gone.bound == event.endpoint;
            identity
                && near(gone.netns, event.netns)
                && gone.holders.iter().any(|one| same(one, &event.process))
        });
        known.max_by_key(|gone| gone.at)
    }

    /// A child shares its parent's sockets.
    pub(super) fn fork(&mut self, parent: &ProcessRef, child: &ProcessRef) {
        let spots = self.held.get(&parent.pid).cloned().unwrap_or_default();
        for spot in &spots {
            let there = self.live.list(spot).into_iter().flatten();
            let mut shared = false;
            for listener in there.filter(|listener| listener.is_held_by(parent)) {
                listener.holders.push(child.clone());
                shared = true;
            }
            if shared {
                self.hold(child, spot);
            }
        }
    }

    /// A process is gone: so are the listeners that only it held.
    pub(super) fn exit(&mut self, at: Nanos, process: &ProcessRef) {
        let mut dead = Vec::new();
        let spots = self.held.remove(&process.pid).unwrap_or_default();
        for spot in &spots {
            let Some(listeners) = self.live.list(spot) else { continue };
            listeners.retain_mut(|listener| {
                if !listener.is_held_by(process) {
                    return true;
                }
                listener.holders.retain(|holder| !same(holder, process));
                if listener.lost.len() == LOST_HOLDERS {
                    listener.lost.remove(0);
                }
                listener.lost.push((process.clone(), at));
                if listener.holders.is_empty() {
                    dead.push(listener.ended(process.clone(), at, End::Died));
                }
                !listener.holders.is_empty()
            });
            self.live.tidy(&place(spot.bound()));
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
            let (place, spot) = (place(&found.bound), Spot::of(&found.bound, info.netns));
            let holders: Vec<_> = found.holders.iter().filter(|holder| !died(holder)).cloned().collect();
            if holders.is_empty() && self.ending(at, &found.bound) {
                continue;
            }
            let known = self.live.lists_at(&place).flatten().find(|known| {
                let shared = holders.iter().any(|holder| known.is_held_by(holder));
                known.bound == found.bound
                    && near(known.netns, info.netns)
                    && (shared || known.holders.is_empty())
            });
            let spot = known.as_ref().map_or(spot, |known| Spot::of(&known.bound, known.netns));
            match known {
                Some(known) => {
                    known.file = found.file.or(known.file);
                    known.confirm(at, holders.clone(), listed_at);
                }
                None => {
                    let listener = Listener {
                        id: None,
                        netns: info.netns,
                        bound: found.bound.clone(),
                        file: found.file,
                        mounts: None,
                        holders: holders.clone(),
                        lost: Vec::new(),
                        opened_at: info.asked.then_some(at),
                        confirmed_at: at,
                    };
                    self.live.push(spot.clone(), listener);
                }
            }
            holders.iter().for_each(|holder| self.hold(holder, &spot));
        }
    }

    /// Whether a socket that a look-up found in nobody's hands is one that is known already, or has ended just now: the
    /// kernel shows it until the last holder's files are closed.
    fn ending(&self, at: Nanos, bound: &Endpoint) -> bool {
        let place = place(bound);
        let known = self.live.at(&place).any(|one| one.bound == *bound);
        let ended = |gone: &ClosedListener| gone.bound == *bound && gone.at.0 + ENDING >= at.0;
        known || self.gone.at(&place).any(ended)
    }

    fn found_empty(&mut self, at: Nanos, info: &EndpointInfo) {
        let wanted = self.resolved(&info.endpoint).clone();
        let key = place(&wanted);
        // A socket bound to that name that nginx's path does not lead to: the file was replaced, or it is another
        // file system's.
        let aside = info.near.iter().any(|near| near.bound == wanted);
        let home = Home::Namespace(info.netns);
        if aside {
            return;
        }
        let reached = |one: &mut Listener| home.reaches(&wanted, one.netns, &one.bound);
        let lists = self.live.lists_at(&key);
        let stale: Vec<_> = lists.flat_map(|there| there.extract_if(.., reached)).collect();
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
        self.live.tidy(&key);
    }

    fn hold(&mut self, process: &ProcessRef, spot: &Spot) {
        let mut spots = self.held.remove(&process.pid).unwrap_or_default();
        if !spots.contains(spot) {
            if spots.len() >= PER_PROCESS {
                spots.retain(|spot| self.live.holds(spot));
            }
            spots.push(spot.clone());
        }
        self.held.insert(process.pid, spots);
    }

    fn bury(&mut self, gone: ClosedListener) {
        self.closed_paths.add(&gone.bound);
        self.gone.push(Spot::of(&gone.bound, gone.netns), gone);
    }
}
