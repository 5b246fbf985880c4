//! What only the live machine knows: who listens, who holds a socket, why a path refuses a worker.
//!
//! [`Enricher::snapshot`] tells once what there is at the start; [`Enricher::before`] answers, record by record, the
//! questions that a failure raises, so that attribution, live or replayed, reads the answers first. A fact that
//! cannot be had is absent, and `log::debug` says why. Start times of processes come from /proc here, rounded down
//! to a clock tick, so they are compared within one.

mod access;
mod busy;
mod cache;
mod containers;
mod guards;
mod holders;
mod limits;
mod listeners;
mod local;
mod path;
mod peer;
mod procnet;
mod question;
mod route;
mod sockets;
#[cfg(test)]
mod tests;
mod units;

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use self::cache::Recent;
use self::containers::Containers;
use self::holders::Index;
use self::question::Question;
use crate::event::{Body, Endpoint, EndpointInfo, Nanos, Pid, ProcessInfo, ProcessRef, Record, Socket};
use crate::proc::{self, clock::same_start};

/// Questions a second, all together: at about a millisecond each they cost at most an eighth of a processor, and that only
/// while as many different places fail. What an accept queue held cannot be asked later.
const QUESTIONS_PER_SECOND: u32 = 128;
/// Processes a second that are asked for whether they live, one read of /proc each: where workers crash upon requests,
/// every failure asks for another.
const LIVES_PER_SECOND: u32 = 256;
/// Connections a second whose other end is looked for: each is a question of its own, so they have their own share.
const PEERS_PER_SECOND: u32 = 32;
/// Processes that are remembered as told; beyond, all are forgotten and told anew.
const MAX_KNOWN: usize = 16 * 1024;
/// Places whose holders are remembered; beyond, all are forgotten until a look-up finds them again.
const MAX_PLACES: usize = 8 * 1024;

/// How often systemd is asked for failed units: each time costs a process.
const UNITS_EVERY: Duration = Duration::from_secs(10);

/// How often the other listeners of a program are looked for: each time costs a read of /proc a listener.
const PROGRAMS_EVERY: Duration = Duration::from_secs(2);

/// Asks the machine on behalf of attribution.
#[derive(Debug)]
pub struct Enricher {
    workers: Vec<Pid>,
    index: Index,
    containers: Containers,
    recent: Recent<Question>,
    recent_peers: Recent<Question>,
    recent_lives: Recent<Question>,
    known: HashMap<Pid, Nanos>,
    /// Who was last found to hold the listeners bound to a place.
    holders: HashMap<Endpoint, Vec<ProcessRef>>,
    /// When systemd was asked last.
    units_asked: Option<Instant>,
    /// When a program's other listeners were looked for last.
    programs_asked: Option<Instant>,
}

impl Enricher {
    /// An enricher for these nginx workers; others are learned from the records.
    pub fn new(workers: impl Iterator<Item = Pid>) -> Self {
        Self {
            workers: workers.collect(),
            index: Index::default(),
            containers: Containers::of_this_machine(),
            recent: Recent::new(QUESTIONS_PER_SECOND),
            recent_peers: Recent::new(PEERS_PER_SECOND),
            recent_lives: Recent::new(LIVES_PER_SECOND),
            known: HashMap::new(),
            holders: HashMap::new(),
            units_asked: None,
            programs_asked: None,
        }
    }

    /// Everything that listens now, in every network namespace with a process, and who holds it.
    ///
    /// `Process` facts come before the `Endpoint` that names them.
    pub fn snapshot(&mut self, now: Nanos) -> Vec<Record> {
        self.index.refresh();
        let mut bodies = Vec::new();
        for worker in self.workers.clone() {
            self.tell(&ProcessRef { pid: worker, ..ProcessRef::default() }, &mut bodies);
        }
        for endpoint in listeners::everywhere(&mut self.index) {
            self.tell_all(endpoint, &mut bodies);
        }
        bodies.into_iter().map(|body| Record { at: now, body }).collect()
    }

    /// The facts to insert before `record`, with its time. Empty for nearly every record of a storm: each question is
    /// asked at most once a second of the records' time.
    pub fn before(&mut self, record: &Record) -> Vec<Record> {
        let mut bodies = Vec::new();
        match &record.body {
            Body::Attempt(attempt) => {
                self.tell_other_end(attempt.socket.as_deref(), &mut bodies);
                self.answer(question::of_attempt(attempt), record.at, &mut bodies);
            }
            Body::Request(request) => {
                self.tell_other_end(request.closed.as_deref(), &mut bodies);
                self.answer(question::of_request(request), record.at, &mut bodies);
            }
            Body::Listen(listen) => self.tell(&listen.process, &mut bodies),
            Body::Exit(exit) => {
                self.tell(&ProcessRef { pid: exit.parent, ..ProcessRef::default() }, &mut bodies);
                self.tell(&exit.process, &mut bodies);
            }
            Body::Signal(signal) => {
                self.tell(&signal.target, &mut bodies);
                self.tell(&signal.sender, &mut bodies);
            }
            Body::Oom(oom) => {
                self.tell(&oom.victim, &mut bodies);
                self.tell(&oom.trigger, &mut bodies);
                if oom.limit_bytes.is_none() && oom.memcg != Some(false) {
                    bodies.extend(limits::memory(oom).map(Body::MemoryLimit));
                }
            }
            Body::Worker(worker) => self.tell(&worker.process, &mut bodies),
            _ => {}
        }
        bodies.into_iter().map(|body| Record { at: record.at, body }).collect()
    }

    /// Forgets a process that ended, so that a later one of its number is told again.
    pub fn forget(&mut self, pid: Pid) {
        self.known.remove(&pid);
        self.workers.retain(|worker| *worker != pid);
    }

    fn answer(&mut self, questions: Vec<Question>, at: Nanos, bodies: &mut Vec<Body>) {
        for question in questions {
            let recent = match question {
                Question::Peer(..) => &mut self.recent_peers,
                Question::Lives(_) => &mut self.recent_lives,
                _ => &mut self.recent,
            };
            if !recent.admit(&question, at) {
                continue;
            }
            match self.ask(&question) {
                Ok(answers) => {
                    for answer in answers {
                        self.push(answer, bodies);
                    }
                }
                Err(error) => log::debug!("{question:?} stays without an answer: {error}"),
            }
        }
    }

    fn ask(&mut self, question: &Question) -> io::Result<Vec<Body>> {
        match question {
            Question::Listeners(worker, endpoint) => {
                let former = self.holders.get(endpoint).map_or(&[][..], Vec::as_slice);
                // Each listener's holder is asked for its name: not for every place in a storm.
                let search = !former.is_empty() && due(&mut self.programs_asked, PROGRAMS_EVERY);
                let program = if search { former } else { &[] };
                let mut found = listeners::at(&mut self.index, *worker, endpoint, program)?;
                let empty = |body: &Body| matches!(body, Body::Endpoint(info) if info.listeners.is_empty());
                if former.is_empty() && found.iter().any(empty) {
                    found.splice(..0, self.failed_units());
                }
                Ok(found)
            }
            Question::Walk(worker, path) => {
                Ok(vec![Body::PathWalk(Box::new(path::walk_as_worker(*worker, path)?))])
            }
            Question::Limits(worker) => Ok(vec![Body::Limits(limits::descriptors(*worker)?)]),
            Question::Ports(worker, remote) => Ok(vec![Body::Ports(limits::ports(*worker, *remote)?)]),
            Question::Peer(worker, of, ends) => Ok(peer::find(&mut self.index, *worker, *of, ends)
                .map(Body::PeerSocket)
                .into_iter()
                .collect()),
            Question::Route(worker, to) => Ok(vec![Body::Route(route::towards(*worker, *to)?)]),
            Question::Guards(worker) => Ok(vec![Body::Guards(Box::new(guards::of(*worker)?))]),
            Question::Lives(process) => Ok(self.alive(process).into_iter().collect()),
        }
    }

    /// Asks systemd, at most every few seconds.
    fn failed_units(&mut self) -> Option<Body> {
        if !due(&mut self.units_asked, UNITS_EVERY) {
            return None;
        }
        let units =
            units::failed().inspect_err(|error| log::debug!("systemd names no failed unit: {error}")).ok()?;
        (!units.is_empty()).then_some(Body::FailedUnits(units))
    }

    /// Adds an answer, preceded by the processes that it names.
    fn push(&mut self, answer: Body, bodies: &mut Vec<Body>) {
        match answer {
            Body::Endpoint(endpoint) => self.tell_all(*endpoint, bodies),
            Body::PeerSocket(peer) => {
                peer.holders.iter().for_each(|holder| self.tell(holder, bodies));
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

    /// Adds what was found at a place. Where nobody listens any more, it matters whether those who did still live.
    fn tell_all(&mut self, endpoint: EndpointInfo, bodies: &mut Vec<Body>) {
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
        holders.chain(near).for_each(|process| self.tell(process, bodies));
        bodies.push(Body::Endpoint(Box::new(endpoint)));
    }

    fn tell_other_end(&mut self, socket: Option<&Socket>, bodies: &mut Vec<Body>) {
        let Some(socket) = socket else { return };
        let processes = [socket.closer.as_ref().map(|closer| &closer.process), socket.owner.as_ref()];
        processes.into_iter().flatten().for_each(|process| self.tell(process, bodies));
    }

    /// Adds what /proc knows of a process that was not told yet and still lives.
    fn tell(&mut self, process: &ProcessRef, bodies: &mut Vec<Body>) {
        let told = self.known.get(&process.pid).is_some_and(|start| same_start(*start, process.start));
        if process.pid.0 == 0 || told {
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
        let running = proc::runs(process);
        running.then(|| self.info(process.pid).ok()).flatten().map(|info| Body::Process(Box::new(info)))
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
