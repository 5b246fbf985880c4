//! What only the live machine knows: who listens, who holds a socket, why a path refuses a worker.
//!
//! [`Enricher::snapshot`] reports once what there is at the start; [`Enricher::before`] makes, record by record, the
//! look-ups that a failure calls for, so that attribution, live or replayed, reads the answers first. A fact that
//! cannot be had is absent, and `log::debug` says why. Start times of processes come from /proc here, rounded down
//! to a clock tick, so they are compared within one.

mod access;
mod busy;
mod containers;
mod guards;
mod holders;
mod hops;
mod kernel_log;
mod limits;
mod links;
mod listeners;
mod local;
mod lookup;
mod path;
mod peer;
mod procnet;
mod rate_limit;
mod route;
mod sockets;
#[cfg(test)]
mod tests;
mod units;
pub(crate) mod waits;

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use self::containers::Containers;
use self::holders::SocketOwners;
use self::kernel_log::KernelLog;
use self::lookup::Lookup;
use self::rate_limit::RateLimit;
use self::sockets::Netns;
use self::waits::Looker;
use crate::event::{
    Body, Endpoint, EndpointInfo, Links, NamespaceAddresses, Nanos, Pid, ProcessInfo, ProcessRef, Record,
    Socket,
};
use crate::kernel::onward::OnwardReader;
use crate::proc::{self, clock::same_start};

/// Look-ups a second, all together: at about a millisecond each they cost at most an eighth of a processor, and that only
/// while as many different places fail. What an accept queue held cannot be asked later.
const LOOKUPS_PER_SECOND: u32 = 128;
/// Processes a second that are asked for whether they live, one read of /proc each: where workers crash upon requests,
/// every failure asks for another.
const LIVES_PER_SECOND: u32 = 256;
/// Connections a second whose other end is looked for: each is a look-up of its own, so they have their own share.
const PEERS_PER_SECOND: u32 = 32;
/// Processes that are remembered as reported; beyond, all are forgotten and reported anew.
const MAX_KNOWN: usize = 16 * 1024;
/// Places whose holders are remembered; beyond, all are forgotten until a look-up finds them again.
const MAX_PLACES: usize = 8 * 1024;
/// Network namespaces whose addresses are remembered; beyond, all are forgotten and reported anew.
const MAX_NAMESPACES: usize = 1_024;

/// How often systemd is asked for failed units: each time costs a process.
const UNITS_EVERY: Duration = Duration::from_secs(10);

/// How often the other listeners of a program are looked for: each time costs a read of /proc a listener.
const PROGRAMS_EVERY: Duration = Duration::from_secs(2);

/// How often the addresses of all namespaces are read because a connect to a foreign address failed: each costs a read of
/// /proc.
const ADDRESSES_EVERY: Duration = Duration::from_secs(2);

/// What was last reported of a network namespace.
#[derive(Debug)]
struct ReportedNamespace {
    /// A process that lived in it.
    via: ProcessRef,
    addresses: Vec<IpAddr>,
    links: Option<Links>,
}

/// SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV: signals of which the kernel logs where they come from.
const FAULTS: [i32; 5] = [4, 5, 7, 8, 11];

/// Asks the machine on behalf of attribution.
#[derive(Debug)]
pub struct Enricher {
    /// What the kernel remembers of connections of processes that serve nginx.
    onward: Option<OnwardReader>,
    owners: SocketOwners,
    containers: Containers,
    limit: RateLimit<Lookup>,
    peers_limit: RateLimit<Lookup>,
    lives_limit: RateLimit<Lookup>,
    known: HashMap<Pid, Nanos>,
    /// The connections of processes that serve nginx, by what was last reported of them.
    told: hops::Told,
    /// Who was last found to hold the listeners bound to a place.
    holders: HashMap<Endpoint, Vec<ProcessRef>>,
    /// Each network namespace as it was last reported.
    addresses: HashMap<u32, ReportedNamespace>,
    /// When those of all were read.
    addresses_read: Option<Instant>,
    /// Who asks what processes wait for, off the tracer's thread.
    looker: Option<Looker>,
    kernel_log: KernelLog,
    /// When systemd was asked last.
    units_asked: Option<Instant>,
    /// When a program's other listeners were looked for last.
    programs_asked: Option<Instant>,
}

impl Enricher {
    /// One that knows nothing yet.
    pub fn of_this_machine() -> Self {
        Self {
            onward: None,
            owners: SocketOwners::default(),
            containers: Containers::of_this_machine(),
            limit: RateLimit::new(LOOKUPS_PER_SECOND),
            peers_limit: RateLimit::new(PEERS_PER_SECOND),
            lives_limit: RateLimit::new(LIVES_PER_SECOND),
            known: HashMap::new(),
            told: hops::Told::default(),
            holders: HashMap::new(),
            addresses: HashMap::new(),
            addresses_read: None,
            looker: None,
            kernel_log: KernelLog::open(),
            units_asked: None,
            programs_asked: None,
        }
    }

    /// The same with the kernel's memory of connections.
    pub fn with_onward(self, reader: OnwardReader) -> Self {
        Self { onward: Some(reader), ..self }
    }

    /// The same with looks at what processes wait for.
    pub fn with_looker(self, looker: Looker) -> Self {
        Self { looker: Some(looker), ..self }
    }

    /// These nginx workers, every network namespace's addresses, everything that listens there now, and who holds it.
    ///
    /// `Process` facts come before the `Endpoint` that names them.
    pub fn snapshot(&mut self, workers: impl Iterator<Item = Pid>, now: Nanos) -> Vec<Record> {
        self.owners.refresh();
        let mut bodies = Vec::new();
        for pid in workers {
            self.report(&ProcessRef { pid, ..ProcessRef::default() }, &mut bodies);
        }
        self.report_namespaces(&mut bodies);
        for endpoint in listeners::everywhere(&mut self.owners) {
            self.report_endpoint(endpoint, &mut bodies);
        }
        bodies.into_iter().map(|body| Record { at: now, body }).collect()
    }

    /// The facts to insert before `record`, with its time. Empty for nearly every record of a storm: each look-up is
    /// made at most once a second of the records' time.
    pub fn before(&mut self, record: &Record) -> Vec<Record> {
        let mut bodies = Vec::new();
        match &record.body {
            Body::Attempt(attempt) => {
                self.report_other_end(attempt.socket.as_deref(), &mut bodies);
                self.answer(lookup::of_attempt(attempt, record.at), record.at, &mut bodies);
                self.follow(attempt.socket.as_deref(), attempt.key.worker, record.at, &mut bodies);
                if lookup::is_kept_waiting(attempt) {
                    self.look(attempt.socket.as_deref(), record.at, &bodies);
                }
            }
            Body::Request(request) => {
                self.report_other_end(request.closed.as_deref(), &mut bodies);
                self.answer(lookup::of_request(request, record.at), record.at, &mut bodies);
                if request.is_muted() {
                    self.follow(request.closed.as_deref(), request.key.worker, record.at, &mut bodies);
                    if request.status == 504 {
                        self.look(request.closed.as_deref(), record.at, &bodies);
                    }
                }
            }
            Body::Listen(listen) => {
                self.report(&listen.process, &mut bodies);
                self.report_new_namespace(listen.process.pid, &mut bodies);
            }
            Body::Exit(exit) => {
                self.report(&ProcessRef { pid: exit.parent, ..ProcessRef::default() }, &mut bodies);
                self.report(&exit.process, &mut bodies);
            }
            Body::Signal(signal) => {
                self.report(&signal.target, &mut bodies);
                self.report(&signal.sender, &mut bodies);
                if !signal.from_user && FAULTS.contains(&signal.signal) {
                    let place = self.kernel_log.place_of(&signal.target);
                    bodies.extend(place.map(|place| Body::FaultPlace(Box::new(place))));
                }
            }
            Body::Oom(oom) => {
                self.report(&oom.victim, &mut bodies);
                self.report(&oom.trigger, &mut bodies);
                if oom.limit_bytes.is_none() && oom.memcg != Some(false) {
                    bodies.extend(limits::memory(oom).map(Body::MemoryLimit));
                }
            }
            Body::Worker(worker) => self.report(&worker.process, &mut bodies),
            Body::Waits(waits) => waits.named().for_each(|process| self.report(process, &mut bodies)),
            _ => {}
        }
        bodies.into_iter().map(|body| Record { at: record.at, body }).collect()
    }

    /// Has those looked at that could have answered: who has the connection, else all who could have accepted it.
    fn look(&mut self, socket: Option<&Socket>, at: Nanos, answers: &[Body]) {
        let Some(looker) = &mut self.looker else { return };
        let owner = socket.and_then(|socket| socket.owner.clone());
        let mut found: Vec<ProcessRef> = owner.into_iter().collect();
        for answer in answers {
            if let Body::PeerSocket(peer) = answer {
                found.extend(peer.holders.iter().cloned());
            }
        }
        // Who passes on what comes is looked at as well as those behind it.
        if found.is_empty() || answers.iter().any(|answer| matches!(answer, Body::Onward(_))) {
            for answer in answers {
                if let Body::Endpoint(info) = answer
                    && info.asked
                {
                    found.extend(info.listeners.iter().flat_map(|one| one.holders.iter().cloned()));
                }
            }
        }
        looker.ask(found, at);
    }

    /// Forgets a process that ended, so that a later one of its number is reported again.
    pub fn forget(&mut self, pid: Pid) {
        self.known.remove(&pid);
    }

    fn answer(&mut self, lookups: Vec<Lookup>, at: Nanos, bodies: &mut Vec<Body>) {
        for lookup in lookups {
            let limit = match lookup {
                Lookup::Peer(..) => &mut self.peers_limit,
                Lookup::Lives(_) => &mut self.lives_limit,
                _ => &mut self.limit,
            };
            if !limit.allow(&lookup, at) {
                continue;
            }
            match self.look_up(&lookup) {
                Ok(answers) => answers.into_iter().for_each(|answer| self.push(answer, bodies)),
                Err(error) => log::debug!("{lookup:?} found nothing: {error}"),
            }
        }
    }

    fn look_up(&mut self, lookup: &Lookup) -> io::Result<Vec<Body>> {
        match lookup {
            Lookup::Listeners(worker, endpoint, delivered) => {
                let former = self.holders.get(endpoint).map_or(&[][..], Vec::as_slice);
                // Each listener's holder is asked for its name: not for every place in a storm.
                let search = !former.is_empty() && due(&mut self.programs_asked, PROGRAMS_EVERY);
                let program = if search { former } else { &[] };
                let mut found = listeners::at(&mut self.owners, *worker, endpoint, *delivered, program)?;
                let empty = |body: &Body| matches!(body, Body::Endpoint(info) if info.listeners.is_empty());
                if former.is_empty() && found.iter().any(empty) {
                    let units = self.failed_units();
                    // At most as often.
                    let down = units.is_some_and(|units| {
                        found.splice(..0, units);
                        true
                    });
                    if down {
                        let down = self.containers.down();
                        found.splice(..0, (!down.is_empty()).then_some(Body::DownContainers(down)));
                    }
                }
                Ok(found)
            }
            Lookup::Walk(worker, path) => {
                Ok(vec![Body::PathWalk(Box::new(path::walk_as_worker(*worker, path)?))])
            }
            Lookup::Limits(worker) => Ok(vec![Body::Limits(limits::descriptors(*worker)?)]),
            Lookup::Ports(worker, remote) => Ok(vec![Body::Ports(limits::ports(*worker, *remote)?)]),
            Lookup::Peer(worker, of, ends, server) => {
                let found = peer::find(&mut self.owners, *worker, *of, ends, *server);
                Ok(found.map(Body::PeerSocket).into_iter().collect())
            }
            Lookup::Route(worker, to) => Ok(vec![Body::Route(route::towards(*worker, *to)?)]),
            Lookup::Guards(worker) => Ok(vec![Body::Guards(Box::new(guards::of(*worker)?))]),
            Lookup::Lives(process) => Ok(self.alive(process).into_iter().collect()),
        }
    }

    /// Asks systemd, at most every few seconds; `None` where that was done just before.
    fn failed_units(&mut self) -> Option<Option<Body>> {
        if !due(&mut self.units_asked, UNITS_EVERY) {
            return None;
        }
        let units = units::failed().inspect_err(|error| log::debug!("systemd names no failed unit: {error}"));
        Some(units.ok().filter(|units| !units.is_empty()).map(Body::FailedUnits))
    }

    /// Adds an answer, preceded by the processes that it names.
    fn push(&mut self, answer: Body, bodies: &mut Vec<Body>) {
        match answer {
            Body::Endpoint(endpoint) => {
                if !self.addresses.contains_key(&endpoint.netns)
                    && let Some(netns) = self.owners.namespace(endpoint.netns)
                {
                    self.report_namespace(netns, bodies);
                }
                self.report_endpoint(*endpoint, bodies);
            }
            Body::AddressOwner(found) => {
                if due(&mut self.addresses_read, ADDRESSES_EVERY) {
                    self.report_namespaces(bodies);
                }
                bodies.push(Body::AddressOwner(found));
            }
            Body::PeerSocket(peer) => {
                peer.holders.iter().for_each(|holder| self.report(holder, bodies));
                bodies.push(Body::PeerSocket(peer));
            }
            Body::PathAlias { path, resolved } => {
                if let Some(holders) = self.holders.get(&Endpoint::Unix(resolved.clone())).cloned() {
                    self.holders.insert(Endpoint::Unix(path.clone()), holders);
                }
                bodies.push(Body::PathAlias { path, resolved });
            }
            other => bodies.push(other),
        }
    }

    /// Adds what was found at a place. Where nothing listens any more, it matters whether the former holders still live.
    fn report_endpoint(&mut self, endpoint: EndpointInfo, bodies: &mut Vec<Body>) {
        if endpoint.asked && endpoint.listeners.is_empty() {
            let former = self.holders.get(&endpoint.endpoint).cloned().unwrap_or_default();
            bodies.extend(former.iter().filter_map(|process| self.alive(process)));
        }
        if self.holders.len() >= MAX_PLACES {
            self.holders.clear();
        }
        for listener in &endpoint.listeners {
            self.holders.insert(listener.bound.clone(), listener.holders.clone());
        }
        let holders = endpoint.listeners.iter().flat_map(|listener| &listener.holders);
        let near = endpoint.near.iter().map(|near| &near.process);
        holders.chain(near).for_each(|process| self.report(process, bodies));
        bodies.push(Body::Endpoint(Box::new(endpoint)));
    }

    /// Adds the addresses of every namespace where they changed.
    fn report_namespaces(&mut self, bodies: &mut Vec<Body>) {
        for netns in self.owners.namespaces().to_vec() {
            self.report_namespace(netns, bodies);
        }
    }

    /// Adds those of a process's namespace if it was not seen before.
    fn report_new_namespace(&mut self, pid: Pid, bodies: &mut Vec<Body>) {
        match Netns::of(pid) {
            // The number of one that is gone is soon another's.
            Ok(netns) if !self.addresses.get(&netns.inum).is_some_and(|known| proc::runs(&known.via)) => {
                self.report_namespace(netns, bodies);
            }
            Ok(_) => {}
            Err(error) => log::debug!("process {pid} listens in a namespace that is not known: {error}"),
        }
    }

    fn report_namespace(&mut self, netns: Netns, bodies: &mut Vec<Body>) {
        let addresses = local::addresses(netns);
        let links = links::of(netns, self.owners.namespaces())
            .inspect_err(|error| log::debug!("where namespace {} leads is not known: {error}", netns.inum))
            .ok();
        let still_there = || Netns::of(netns.via).is_ok_and(|now| now.inum == netns.inum);
        let Ok(process) = proc::process_ref(netns.via) else { return };
        let same = |known: &mut ReportedNamespace| {
            known.via.clone_from(&process);
            known.addresses == addresses && known.links == links
        };
        if !still_there() || self.addresses.get_mut(&netns.inum).is_some_and(same) {
            return;
        }
        self.report(&process, bodies);
        if self.addresses.len() >= MAX_NAMESPACES {
            self.addresses.clear();
        }
        let reported =
            ReportedNamespace { via: process.clone(), addresses: addresses.clone(), links: links.clone() };
        self.addresses.insert(netns.inum, reported);
        bodies.push(Body::NamespaceAddresses(NamespaceAddresses {
            netns: netns.inum,
            process,
            addresses,
            links,
        }));
    }

    fn report_other_end(&mut self, socket: Option<&Socket>, bodies: &mut Vec<Body>) {
        let Some(socket) = socket else { return };
        let processes = [socket.closer.as_ref().map(|closer| &closer.process), socket.owner.as_ref()];
        processes.into_iter().flatten().for_each(|process| self.report(process, bodies));
    }

    /// Adds what /proc knows of a process that was not reported yet and still lives.
    fn report(&mut self, process: &ProcessRef, bodies: &mut Vec<Body>) {
        let known = self.known.get(&process.pid).is_some_and(|start| same_start(*start, process.start));
        if process.pid.0 == 0 || known {
            return;
        }
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        match self.info(process.pid) {
            Ok(info) if same_start(info.process.start, process.start) => {
                self.known.insert(process.pid, info.process.start);
                bodies.push(Body::Process(Box::new(info)));
            }
            Ok(_) => log::debug!("process {} is another one by now", process.pid),
            Err(error) => {
                // Remembered too, or every record about a dead process would look again; without its start time it
                // would stand for later processes of that number.
                if process.start.0 != 0 {
                    self.known.insert(process.pid, process.start);
                }
                log::debug!("process {} cannot be looked at: {error}", process.pid);
            }
        }
    }

    /// What /proc knows of a process, if it still runs.
    fn alive(&mut self, process: &ProcessRef) -> Option<Body> {
        let info = proc::runs(process).then(|| self.info(process.pid))?;
        Some(Body::Process(Box::new(info.ok()?)))
    }

    /// What /proc knows of a process, and its container's names.
    fn info(&mut self, pid: Pid) -> io::Result<ProcessInfo> {
        let mut info = proc::info(pid)?;
        if let (Some(id), Some(names)) = (&info.container, &mut info.container_names) {
            *names = self.containers.names(id, names.runtime);
        }
        Ok(info)
    }
}

/// Whether `every` has passed since `last`; it begins anew then.
fn due(last: &mut Option<Instant>, every: Duration) -> bool {
    let due = last.is_none_or(|last| last.elapsed() >= every);
    if due {
        *last = Some(Instant::now());
    }
    due
}
