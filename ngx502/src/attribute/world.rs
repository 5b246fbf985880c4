//! Everything that records told about the host: the state that causes are found in.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use bstr::BString;

use super::attempt::FailedAttempt;
use super::bounded::Bounded;
use super::destination::Destination;
use super::homes::{Home, Homes, near};
use super::listeners::{ClosedListener, Listeners};
use super::processes::{Processes, same};
use super::verdict::{Cause, Symptom, WorkerFacts};
use crate::event::{
    Body, DownContainer, Endpoint, EndpointInfo, FailedUnit, FileNumbers, Guards, LOST_TRAFFIC, Limits,
    Nanos, Onward, OnwardAttempt, PathKind, PathWalk, PeerSocket, Pid, Ports, ProcessRef, ProcessWaits,
    RouteLookup, WorkerInfo,
};
use crate::session::{Session, observation};

/// Connections of one process that are remembered.
const ONWARD: usize = 32;
/// Look-ups of each kind that are remembered.
const LOOKUPS: usize = 4_096;
/// A look at what processes wait for serves failures so much later, since one serves them all for a second, and comes at
/// most so much after (nanoseconds).
const LOOK_BEFORE: u64 = 1_100_000_000;
const LOOK_AFTER: u64 = 3_000_000_000;
/// Failed units that are remembered.
const UNITS: usize = 64;

/// A peer's last failure, in one worker.
#[derive(Clone, Debug)]
pub(super) struct PeerFailure {
    pub(super) at: Nanos,
    pub(super) symptom: Symptom,
    pub(super) cause: Cause,
}

/// What the tracer was able to see.
#[derive(Clone, Copy, Debug)]
struct Watch {
    since: Nanos,
    /// TCP listeners that come and go.
    tcp: bool,
    /// AF_UNIX listeners that come and go.
    unix: bool,
    /// RSTs of this host's to connects that nobody takes.
    refusals: bool,
    /// Records were lost.
    lost: bool,
}

/// The host as the records so far describe it.
#[derive(Debug)]
pub(super) struct World {
    pub(super) now: Nanos,
    watch: Watch,
    pub(super) listeners: Listeners,
    pub(super) processes: Processes,
    pub(super) homes: Homes,
    /// By process: what it connected to itself, the latest last.
    onward: Bounded<Pid, (ProcessRef, Vec<OnwardAttempt>)>,
    /// By place: a look-up is valid for the failure that asked for it.
    pub(super) endpoints: Bounded<Endpoint, (Nanos, EndpointInfo)>,
    walks: Bounded<(Pid, BString), (Nanos, Rc<PathWalk>)>,
    limits: Bounded<Pid, (Nanos, Limits)>,
    ports: Bounded<SocketAddr, (Nanos, Ports)>,
    routes: Bounded<(Pid, IpAddr), (Nanos, RouteLookup)>,
    guards: Bounded<Pid, (Nanos, Rc<Guards>)>,
    /// As systemd told them last.
    failed_units: Vec<FailedUnit>,
    /// As their runtime's files told them last.
    down_containers: Vec<DownContainer>,
    peer_sockets: Bounded<u64, (Nanos, PeerSocket)>,
    waits: Bounded<Pid, (Nanos, ProcessWaits)>,
    workers: Bounded<Pid, WorkerInfo>,
    peers: Bounded<(Pid, BString), PeerFailure>,
    /// The peers that each worker was seen to try in a group that had no live peer left.
    groups: Bounded<(Pid, BString), Vec<BString>>,
}

impl World {
    pub(super) fn new(session: &Session) -> Self {
        Self {
            now: Nanos(0),
            watch: Watch {
                since: session.ready_at,
                tcp: session.provider(observation::TCP_STATE).is_some(),
                unix: session.provider(observation::UNIX_LISTEN).is_some(),
                refusals: sees_refusals(session),
                lost: false,
            },
            listeners: Listeners::new(),
            processes: Processes::new(),
            homes: Homes::new(),
            onward: Bounded::new(LOOKUPS),
            endpoints: Bounded::new(LOOKUPS),
            walks: Bounded::new(LOOKUPS),
            limits: Bounded::new(LOOKUPS),
            ports: Bounded::new(LOOKUPS),
            routes: Bounded::new(LOOKUPS),
            guards: Bounded::new(LOOKUPS),
            failed_units: Vec::new(),
            down_containers: Vec::new(),
            peer_sockets: Bounded::new(LOOKUPS),
            waits: Bounded::new(LOOKUPS),
            workers: Bounded::new(LOOKUPS),
            peers: Bounded::new(LOOKUPS),
            groups: Bounded::new(LOOKUPS),
        }
    }

    /// Takes in what a record says about the host; nginx's own records say nothing here.
    pub(super) fn learn(&mut self, at: Nanos, body: &Body) {
        match body {
            Body::Listen(event) => self.listeners.listen(at, event),
            Body::Fork { parent, child } => {
                // A worker runs what its master runs.
                if let Some(master) = self.workers.get(&parent.pid) {
                    let worker = WorkerInfo { process: child.clone(), ..master.clone() };
                    self.workers.insert(child.pid, worker);
                }
                self.processes.fork(parent, child);
                self.listeners.fork(parent, child);
            }
            Body::Exit(exit) => {
                self.processes.exit(at, exit);
                self.listeners.exit(at, &exit.process);
            }
            Body::Signal(signal) => self.processes.signal(at, signal),
            Body::Oom(oom) => self.processes.oom(at, oom),
            Body::FaultPlace(place) => self.processes.faulted(place),
            Body::Process(info) => self.processes.learn(at, info),
            Body::Endpoint(info) => {
                self.listeners.found(at, info, |process| self.processes.died_by(process, at));
                if info.asked {
                    self.homes.asked(at, info);
                    self.endpoints.insert(info.endpoint.clone(), (at, (**info).clone()));
                }
            }
            Body::PathWalk(walk) => {
                drop(self.walks.insert((walk.worker, walk.path.clone()), (at, Rc::new((**walk).clone()))))
            }
            Body::Limits(limits) => drop(self.limits.insert(limits.worker, (at, *limits))),
            Body::Ports(ports) => drop(self.ports.insert(ports.remote, (at, *ports))),
            Body::Route(route) => drop(self.routes.insert((route.worker, route.to), (at, *route))),
            Body::Guards(guards) => {
                drop(self.guards.insert(guards.worker, (at, Rc::new((**guards).clone()))))
            }
            Body::FailedUnits(units) => self.failed_units = units.iter().take(UNITS).cloned().collect(),
            Body::DownContainers(all) => self.down_containers = all.iter().take(UNITS).cloned().collect(),
            Body::PeerSocket(peer) => drop(self.peer_sockets.insert(peer.of, (at, peer.clone()))),
            Body::Waits(found) => {
                found.processes.iter().for_each(|one| drop(self.waits.insert(one.pid(), (at, one.clone()))));
            }
            Body::Worker(worker) => drop(self.workers.insert(worker.process.pid, worker.clone())),
            // What is sent and received tells of no listener.
            Body::Lost { reason, .. } => self.watch.lost |= reason != LOST_TRAFFIC,
            Body::Attempt(_) | Body::Request(_) | Body::Answer(_) => {}
            Body::MemoryLimit(limit) => self.processes.memory_limit(limit),
            Body::Onward(found) => self.connected_onward(found),
            Body::AddressOwner(found) => self.homes.owner(at, found),
            Body::NamespaceAddresses(found) => self.homes.namespace(at, found),
            Body::PathAlias { path, resolved } => self.listeners.alias(path, resolved),
            Body::Latency(_) | Body::Tick | Body::Notice { .. } => {}
        }
    }

    /// Whether every listener that was at a place between the start and `until` would be known.
    pub(super) fn saw_every_listener(&self, endpoint: &Endpoint, until: Nanos) -> bool {
        let watched = match endpoint {
            Endpoint::Tcp(_) => self.watch.tcp,
            Endpoint::Unix(_) => self.watch.unix,
        };
        watched && !self.watch.lost && self.watch.since <= until && !self.listeners.forgot(endpoint)
    }

    /// Whether every connection between two sockets of this host would have been joined.
    pub(super) fn joins_connections(&self) -> bool {
        self.watch.tcp && !self.watch.lost
    }

    fn connected_onward(&mut self, found: &Onward) {
        let known =
            self.onward.remove(&found.process.pid).filter(|(process, _)| same(process, &found.process));
        let mut attempts = known.map(|(_, attempts)| attempts).unwrap_or_default();
        attempts.retain(|known| found.attempts.iter().all(|news| news.socket.id != known.socket.id));
        attempts.extend(found.attempts.iter().cloned());
        let surplus = attempts.len().saturating_sub(ONWARD);
        attempts.drain(..surplus);
        self.onward.insert(found.process.pid, (found.process.clone(), attempts));
    }

    /// What a process connected to itself lately, the latest last.
    pub(super) fn onward(&self, process: &ProcessRef) -> &[OnwardAttempt] {
        let known = self.onward.get(&process.pid).filter(|(known, _)| same(known, process));
        known.map_or(&[], |(_, attempts)| attempts)
    }

    /// Whether the RST that this failed connect got would have been seen, had TCP of this host sent it.
    pub(super) fn sees_refusals(&self, failure: &FailedAttempt) -> bool {
        let socket = failure.socket.as_ref();
        let reset = socket.is_some_and(|socket| socket.reset_at.is_some() && socket.unacked.is_some());
        self.watch.refusals && !self.watch.lost && reset
    }

    /// The dead listener that was last at the place where a connect of `of` led, before a time.
    pub(super) fn last_gone<'a>(
        &'a self,
        of: Pid,
        there: &'a Destination,
        before: Nanos,
    ) -> Option<&'a ClosedListener> {
        let all = self.listeners.gone(there).filter(|gone| gone.at <= before);
        all.filter(|gone| self.can_have_been(gone, there, of)).max_by_key(|gone| gone.at)
    }

    /// Whether a dead listener of that name can have been at the very place.
    fn can_have_been(&self, gone: &ClosedListener, there: &Destination, of: Pid) -> bool {
        if let Endpoint::Tcp(address) = &there.endpoint {
            return self.homes.had(gone.netns, address.ip(), gone.at);
        }
        let Some((_, info)) = self.asked(there) else { return true };
        let differ = |ours: FileNumbers, theirs: FileNumbers| {
            ours.device == theirs.device && ours.inode != theirs.inode
        };
        // Who is killed leaves the file behind.
        let left_none = info.path == Some(PathKind::Missing) && self.processes.was_killed(&gone.last);
        let another = info.file.zip(gone.file).is_some_and(|(ours, theirs)| differ(ours, theirs));
        !another && (!left_none || self.sees_same_files(of, gone))
    }

    /// Whether a holder of a listener had the mounts of the process `of`, so that one name means one file to both; true where
    /// those are not known.
    pub(super) fn sees_same_files(&self, of: Pid, gone: &ClosedListener) -> bool {
        let Some(mounts) = self.processes.mounts_of(of) else { return true };
        let theirs = |holder| self.processes.find(holder)?.info.as_ref()?.mounts;
        gone.mounts.or_else(|| gone.holders.iter().find_map(theirs)) == Some(mounts)
    }

    /// The look-up of a place, made because an attempt failed.
    pub(super) fn asked(&self, there: &Destination) -> Option<(Nanos, &EndpointInfo)> {
        let (at, info) = self.endpoints.get(&there.endpoint)?;
        let here = matches!(there.home, Home::Namespace(netns) if near(netns, info.netns));
        here.then_some((*at, info))
    }

    pub(super) fn walk(&self, worker: Pid, path: &BString) -> Option<&(Nanos, Rc<PathWalk>)> {
        self.walks.get(&(worker, path.clone()))
    }

    pub(super) fn limits(&self, worker: Pid) -> Option<&(Nanos, Limits)> {
        self.limits.get(&worker)
    }

    pub(super) fn ports(&self, remote: &SocketAddr) -> Option<&(Nanos, Ports)> {
        self.ports.get(remote)
    }

    /// The look-up of a route, made because an attempt failed.
    pub(super) fn route(&self, worker: Pid, to: IpAddr) -> Option<&(Nanos, RouteLookup)> {
        self.routes.get(&(worker, to.to_canonical()))
    }

    pub(super) fn guards(&self, worker: Pid) -> Option<&(Nanos, Rc<Guards>)> {
        self.guards.get(&worker)
    }

    /// Services that had failed when systemd was asked.
    pub(super) fn failed_units(&self) -> &[FailedUnit] {
        &self.failed_units
    }

    /// What a process was found to wait for as a request failed at `at`, and when.
    pub(super) fn waits(&self, pid: Pid, at: Nanos) -> Option<(Nanos, &ProcessWaits)> {
        let (when, waits) = self.waits.get(&pid)?;
        (when.0 + LOOK_BEFORE >= at.0 && when.0 <= at.0 + LOOK_AFTER).then_some((*when, waits))
    }

    /// The same, whenever that was.
    pub(super) fn waits_of(&self, pid: Pid) -> Option<&ProcessWaits> {
        self.waits.get(&pid).map(|(_, waits)| waits)
    }

    /// Containers that did not run when they were looked for.
    pub(super) fn down_containers(&self) -> &[DownContainer] {
        &self.down_containers
    }

    pub(super) fn peer_socket(&self, id: u64) -> Option<&(Nanos, PeerSocket)> {
        self.peer_sockets.get(&id)
    }

    /// Whether this worker answers 502 to a response without a header.
    pub(super) fn refuses_http09(&self, worker: Pid) -> bool {
        super::symptom::refuses_http09(self.workers.get(&worker).and_then(|info| info.version.as_deref()))
    }

    pub(super) fn worker_facts(&self, pid: Pid) -> WorkerFacts {
        let info = self.workers.get(&pid);
        WorkerFacts {
            pid,
            exe: info.map(|info| info.exe.clone()),
            container: info.and_then(|info| info.container.clone()),
            container_name: self.processes.container_name(pid),
        }
    }

    pub(super) fn peer_failed(&mut self, worker: Pid, peer: BString, failure: PeerFailure) {
        self.peers.insert((worker, peer), failure);
    }

    /// The peers that a request tried before its group had none left.
    pub(super) fn group_tried(&mut self, worker: Pid, group: BString, peers: Vec<BString>) {
        let mut known = self.groups.remove(&(worker, group.clone())).unwrap_or_default();
        for peer in peers {
            if !known.contains(&peer) && known.len() < 64 {
                known.push(peer);
            }
        }
        self.groups.insert((worker, group), known);
    }

    /// A group's known members with their last failures, in this worker or another one of its master's: with a `zone` they share
    /// what they know of peers.
    pub(super) fn group(&self, worker: Pid, group: &BString) -> Vec<(&BString, &PeerFailure)> {
        let mut found: Vec<(&BString, &PeerFailure)> = Vec::new();
        for one in self.siblings(worker) {
            for peer in self.groups.get(&(one, group.clone())).into_iter().flatten() {
                let failures = self.siblings(worker).filter_map(|one| self.peers.get(&(one, peer.clone())));
                let last = failures.max_by_key(|last| last.at);
                if let Some(last) = last.filter(|_| found.iter().all(|(known, _)| *known != peer)) {
                    found.push((peer, last));
                }
            }
        }
        found
    }

    /// Every peer that failed in this worker since `since`, or else in another one of its master's; not those of other groups.
    pub(super) fn failed_since(
        &self,
        worker: Pid,
        group: &BString,
        since: Nanos,
    ) -> Vec<(&BString, &PeerFailure)> {
        let elsewhere = |peer: &BString| {
            let others =
                self.groups.from(&(Pid(0), BString::default())).filter(|((_, name), _)| name != group);
            others.into_iter().any(|(_, peers)| peers.contains(peer))
        };
        let of = |one: Pid| {
            let own =
                self.peers.from(&(one, BString::default())).take_while(move |((pid, _), _)| *pid == one);
            let lately = own.filter(|((_, peer), last)| last.at >= since && !elsewhere(peer));
            lately.map(|((_, peer), last)| (peer, last)).collect::<Vec<_>>()
        };
        let own = of(worker);
        match own.is_empty() {
            false => own,
            true => self.siblings(worker).map(of).find(|found| !found.is_empty()).unwrap_or_default(),
        }
    }

    /// This worker, then the others of its master's.
    fn siblings(&self, worker: Pid) -> impl Iterator<Item = Pid> {
        let parent = |pid: Pid| self.processes.parent_of(pid);
        let master = parent(worker);
        let others = self.workers.from(&Pid(0)).map(|(pid, _)| *pid);
        let same = move |pid: &Pid| *pid != worker && master.is_some() && parent(*pid) == master;
        std::iter::once(worker).chain(others.filter(same))
    }

    /// Entries forgotten for lack of room, in all tables.
    pub(super) fn evicted(&self) -> u64 {
        self.listeners.evicted()
            + self.processes.evicted()
            + self.homes.evicted()
            + self.onward.evicted()
            + self.endpoints.evicted()
            + self.walks.evicted()
            + self.limits.evicted()
            + self.ports.evicted()
            + self.routes.evicted()
            + self.guards.evicted()
            + self.peer_sockets.evicted()
            + self.waits.evicted()
            + self.workers.evicted()
            + self.peers.evicted()
            + self.groups.evicted()
    }
}

/// Before Linux 6.10 the tracepoint is not called where there is no connection; the functions always are.
fn sees_refusals(session: &Session) -> bool {
    match session.provider(observation::RESET_SENT) {
        Some("kprobe") => true,
        Some(_) => {
            let mut numbers = session.kernel.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
            (numbers.next(), numbers.next()) >= (Some(6), Some(10))
        }
        None => false,
    }
}
