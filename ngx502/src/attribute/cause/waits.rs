//! Why a process did not answer or accept in time: what it was found in a moment after nginx gave up.
//!
//! A thread that is blocked on something while its process serves nothing else proves it; what an event loop watches, and what
//! one of several threads is in, is inferred. What other processes at the end of a wait are stuck on goes on from there.

use std::rc::Rc;

use super::{Diagnosis, only_holder};
use crate::attribute::attempt::FailedAttempt;
use crate::attribute::destination::Destination;
use crate::attribute::finding::evidence::Fact;
use crate::attribute::finding::hops::{Hop, Relation};
use crate::attribute::finding::waiting::{AcceptQueue, Waiting};
use crate::attribute::finding::waits::{Awaits, Pause, Peer, Pool, Reason, Stuck, Wait, WaitKind};
use crate::attribute::finding::{Doubt, Facts, place};
use crate::attribute::servers;
use crate::attribute::verdict::ProcessFacts;
use crate::attribute::world::World;
use crate::event::{Doing, Nanos, Pid, ProcessRef, ProcessWaits, SocketKind, SocketWait, ThreadWait};
use crate::units::Micros;

/// How far waits are followed, the first process included.
const DEPTH: usize = 4;
/// Waits that a finding names.
const TOLD: usize = 16;
/// A thread that used so much of a CPU computes (thousandths).
const COMPUTING: u32 = 600;
/// What was sent so much before the request came was not for it (microseconds); looks come a moment late.
const SLACK: u64 = 1_500_000;
/// SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU.
const STOPS: [i32; 4] = [19, 20, 21, 22];

/// The processes that a failure waits for, where a look at them can tell more.
pub(super) fn candidates(world: &World, failure: &FailedAttempt, found: &Diagnosis) -> Vec<Pid> {
    match &found.finding.facts {
        // Who had it has closed it by the time of the look-up: the only one that could have accepted it.
        Facts::Waiting(Waiting::UpstreamSlow { process: None, .. }) if found.hops.is_empty() => {
            let there = Destination::of(world, failure);
            let only = there.as_ref().and_then(|there| only_holder(world, there));
            only.map(|only| only.pid).into_iter().collect()
        }
        Facts::Waiting(Waiting::UpstreamSlow { process: Some(process), .. }) => vec![process.pid],
        Facts::Waiting(Waiting::NotAccepted(queue) | Waiting::QueueFull(queue)) => queue.workers.clone(),
        _ => Vec::new(),
    }
}

/// Whether all of these that live were looked at.
pub(super) fn are_looked_at(world: &World, failure: &FailedAttempt, pids: &[Pid]) -> bool {
    let looked = |pid: &Pid| world.waits(*pid, failure.at).is_some();
    pids.iter().any(looked) && pids.iter().all(|pid| looked(pid) || !world.processes.lives(*pid))
}

/// What the processes behind a failure were stuck on; `None` where no look tells.
pub(super) fn explain(world: &World, failure: &FailedAttempt, found: &Diagnosis) -> Option<Diagnosis> {
    let (queue, keeps) = match &found.finding.facts {
        Facts::Waiting(Waiting::UpstreamSlow { .. }) => (None, false),
        Facts::Waiting(Waiting::NotAccepted(queue)) => (Some(queue), false),
        Facts::Waiting(Waiting::QueueFull(queue)) => (Some(queue), true),
        _ => return None,
    };
    let pids = candidates(world, failure, found);
    if !are_looked_at(world, failure, &pids) {
        return None;
    }
    let looked: Vec<_> = pids.iter().filter_map(|pid| world.waits(*pid, failure.at)).collect();
    let servers = without_masters(world, &looked);
    let waited = failure.times().total_us;
    let each: Vec<_> = servers
        .iter()
        .map(|(at, one)| (*at, *one, Found::of(world, one, waited, Some(failure.at), queue.is_some())))
        .collect();
    let evidence = || {
        let told = each.iter().take(TOLD);
        told.map(|(at, one, found)| {
            (*at, Fact::Waits(found.as_ref().map_or_else(|| doing(world, one), |found| found.wait.clone())))
        })
    };
    let Some((first, waiting, proven)) = group(&each) else {
        // What was seen is told all the same.
        let told = found.clone();
        return (!each.is_empty())
            .then(|| evidence().fold(told, |found, (at, fact)| found.with_evidence(at, fact)));
    };
    let pool = Pool { workers: each.len(), waiting };
    let mut waits: Vec<_> =
        each.iter().filter_map(|(_, _, found)| Some(found.as_ref()?.wait.clone())).collect();
    waits.sort_by_key(|wait| std::cmp::Reverse(wait.since_us.map(|since| since.0)));
    waits.truncate(TOLD);
    let at = each.first().map_or(failure.at, |(at, ..)| *at);
    if let (true, Some(queue)) = (keeps, queue) {
        // What is full is proven; that all of them are stuck on one thing may be more than is known.
        let stuck = (waiting == each.len()).then(|| Box::new(stuck(first, waits, pool, None)));
        let mut told = found.clone();
        told.finding.facts = Facts::Waiting(Waiting::QueueFull(AcceptQueue { stuck, ..queue.clone() }));
        return Some(evidence().fold(told, |found, (at, fact)| found.with_evidence(at, fact)));
    }
    let stuck = stuck(first, waits, pool, queue.cloned());
    let mut result = Diagnosis::new(stuck).with_process(found.process.clone());
    (result.evidence, result.hops) = (found.evidence.clone(), found.hops.clone());
    result = evidence().fold(result, |found, (at, fact)| found.with_evidence(at, fact));
    if !proven {
        result = result.with_doubt(first.doubt.clone().unwrap_or(Doubt::OneOfSeveral));
    }
    if found.process.is_none() && queue.is_none() {
        result = result.with_doubt(Doubt::SoleListener).with_process(first.process.clone());
    }
    result.finding.doubts.extend(found.finding.doubts.iter().cloned());
    if let Some(last) = result.hops.last_mut() {
        last.finding = result.finding.clone();
    }
    Some(go_on(world, failure, at, first, result))
}

/// A process that has children among the others supervises them.
fn without_masters<'a>(
    world: &World,
    looked: &[(Nanos, &'a ProcessWaits)],
) -> Vec<(Nanos, &'a ProcessWaits)> {
    let parent_of = |one: &ProcessWaits| {
        world.processes.find(&one.process).and_then(|life| life.parent.as_ref()).map(|parent| parent.pid)
    };
    let parents: Vec<_> = looked.iter().filter_map(|(_, one)| parent_of(one)).collect();
    let servers: Vec<_> = looked.iter().copied().filter(|(_, one)| !parents.contains(&one.pid())).collect();
    if servers.is_empty() { looked.to_vec() } else { servers }
}

/// What one process is stuck on.
#[derive(Clone)]
struct Found {
    process: Rc<ProcessFacts>,
    reason: Reason,
    wait: Wait,
    /// What of it is concluded.
    doubt: Option<Doubt>,
    /// Where the chain goes on.
    behind: Option<ProcessRef>,
}

/// The reason that holds most processes, how many of them, and whether that proves it: all of them, each for certain. Where
/// one of them was free, none of this kept them.
fn group<'a>(each: &'a [(Nanos, &ProcessWaits, Option<Found>)]) -> Option<(&'a Found, usize, bool)> {
    if each.iter().any(|(_, _, found)| found.is_none()) && each.len() > 1 {
        let stuck = each.iter().filter(|(_, _, found)| found.is_some()).count();
        // Some tell nothing, which is no freedom; but most must tell.
        if stuck * 2 <= each.len() {
            return None;
        }
    }
    let all = || each.iter().filter_map(|(_, _, found)| found.as_ref());
    let same = |one: &Found| all().filter(|other| other.is_like(one)).count();
    let first = all().max_by_key(|one| same(one))?;
    let count = same(first);
    let proven = count == each.len() && all().all(|one| one.doubt.is_none());
    Some((first, count, proven))
}

fn stuck(found: &Found, waits: Vec<Wait>, pool: Pool, queue: Option<AcceptQueue>) -> Stuck {
    Stuck { process: found.process.clone(), reason: found.reason.clone(), waits, pool, queue }
}

/// The chain goes on with what the process at the other end is stuck on itself.
fn go_on(
    world: &World,
    failure: &FailedAttempt,
    at: Nanos,
    first: &Found,
    mut result: Diagnosis,
) -> Diagnosis {
    let mut behind = first.behind.clone();
    let mut met = vec![first.process.pid];
    for _ in 1..DEPTH {
        let Some(process) = behind.take().filter(|process| !met.contains(&process.pid)) else { break };
        met.push(process.pid);
        let Some((_, waits)) = world.waits(process.pid, failure.at) else { break };
        let since = match &result.finding.facts {
            Facts::Stuck(stuck) => stuck.waits.first().and_then(|wait| wait.since_us).map(|since| since.0),
            _ => None,
        };
        let Some(next) = Found::of(world, waits, since, Some(failure.at), false).filter(Found::leads_on)
        else {
            break;
        };
        let finding = result.finding.clone();
        if result.hops.is_empty() {
            let process = result.process.clone();
            let address = failure.target();
            result.hops.push(Hop { process, relation: Relation::Listens, address, namespace: None, finding });
        }
        let address = address_of(&result).unwrap_or_default().into();
        let pool = Pool { workers: 1, waiting: 1 };
        let mut deeper = Diagnosis::new(stuck(&next, vec![next.wait.clone()], pool, None));
        deeper.finding.doubts.clone_from(&result.finding.doubts);
        deeper.finding.doubts.extend(next.doubt.clone());
        let place = Some(next.process.clone());
        result.hops.push(Hop {
            process: place,
            relation: Relation::WaitsFor,
            address,
            namespace: None,
            finding: deeper.finding.clone(),
        });
        result.finding = deeper.finding;
        result = result.with_evidence(at, Fact::Waits(next.wait.clone()));
        behind = next.behind;
    }
    result
}

/// Where the last wait leads.
fn address_of(found: &Diagnosis) -> Option<String> {
    let Facts::Stuck(stuck) = &found.finding.facts else { return None };
    match &stuck.reason {
        Reason::Dependency { on, .. } => on.address.clone(),
        Reason::Lock { path, .. } => path.clone(),
        Reason::Pipe { .. } => Some("its pipe".to_owned()),
        _ => None,
    }
}

impl Found {
    /// By what a look found; `waited` is how long nginx did.
    fn of(
        world: &World,
        waits: &ProcessWaits,
        waited: Option<u64>,
        failed_at: Option<Nanos>,
        unaccepted: bool,
    ) -> Option<Self> {
        let process = world.processes.facts(&waits.process);
        let case = Case { world, waits, process, waited, failed_at };
        case.halted()
            .or_else(|| case.out_of_descriptors().filter(|_| unaccepted))
            .or_else(|| case.memory())
            .or_else(|| case.throttled())
            .or_else(|| case.threads())
    }

    /// Whether it is this one's state that whoever waits for the process waits for: a process with several things to do may be
    /// kept by another.
    fn leads_on(&self) -> bool {
        matches!(self.doubt, None | Some(Doubt::EventLoop | Doubt::SlowedByHighMark))
    }

    fn is_like(&self, other: &Found) -> bool {
        match (&self.reason, &other.reason) {
            (Reason::Dependency { on: a, .. }, Reason::Dependency { on: b, .. }) => {
                a.address == b.address && (a.address.is_some() || a.process == b.process)
            }
            (Reason::Lock { path: a, .. }, Reason::Lock { path: b, .. }) => a == b,
            (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
        }
    }
}

/// A process, as it was found.
struct Case<'a> {
    world: &'a World,
    waits: &'a ProcessWaits,
    process: Rc<ProcessFacts>,
    waited: Option<u64>,
    /// When nginx gave up, where this is about its own upstream.
    failed_at: Option<Nanos>,
}

impl Case<'_> {
    fn found(&self, reason: Reason, kind: WaitKind, on: Option<String>) -> Found {
        let process = self.process.clone();
        let wait = Wait { process: process.clone(), thread: None, kind, on, since_us: None, peer: None };
        Found { process, reason, wait, doubt: None, behind: None }
    }

    /// Stopped, traced or frozen.
    fn halted(&self) -> Option<Found> {
        let facts = |process: &ProcessRef| self.world.processes.facts(process);
        let (how, by, words) = if self.waits.frozen {
            (Pause::Frozen, None, "frozen with its control group")
        } else if let Some(tracer) = &self.waits.tracer {
            (Pause::Traced, Some(facts(tracer)), "held by a tracer")
        } else if self.waits.stopped {
            let life = self.world.processes.find(&self.waits.process);
            let signals = life.map_or(&[][..], |life| &life.signals);
            let stop = signals.iter().rfind(|(_, sent)| STOPS.contains(&sent.signal) && sent.from_user);
            // It came when nginx had given up already.
            if stop.is_some_and(|(when, _)| self.failed_at.is_some_and(|failed| *when > failed)) {
                return None;
            }
            (Pause::Stopped, stop.map(|(_, sent)| facts(&sent.sender)), "stopped by a signal")
        } else {
            return None;
        };
        Some(self.found(Reason::Paused { how, by }, WaitKind::Pause, Some(words.to_owned())))
    }

    fn out_of_descriptors(&self) -> Option<Found> {
        let open = self.waits.files_full?;
        Some(self.found(Reason::Files { open }, WaitKind::Descriptors, Some(open.to_string())))
    }

    fn memory(&self) -> Option<Found> {
        let memory = self.waits.memory.as_ref()?;
        let reason = Reason::Memory {
            cgroup: memory.cgroup.clone(),
            usage_bytes: memory.usage_bytes,
            limit_bytes: memory.limit_bytes,
            under_oom: memory.under_oom,
        };
        let mut found = self.found(reason, WaitKind::Memory, Some(memory.cgroup.clone()));
        // The high mark slows down whoever asks for memory: that this one did is concluded.
        found.doubt = (!memory.under_oom).then_some(Doubt::SlowedByHighMark);
        let blocked = |thread: &ThreadWait| matches!(thread.doing, Doing::Socket(_) | Doing::FileLock { .. });
        (memory.under_oom || !self.waits.threads.iter().any(blocked)).then_some(found)
    }

    fn throttled(&self) -> Option<Found> {
        let quota = self.waits.throttled.as_ref()?;
        let works =
            |thread: &ThreadWait| matches!(thread.doing, Doing::Runs(_) | Doing::Starves | Doing::Call(-1));
        if !self.waits.threads.iter().any(works) {
            return None;
        }
        let reason = Reason::Throttled {
            cgroup: quota.cgroup.clone(),
            quota_us: Micros(quota.quota_us),
            period_us: Micros(quota.period_us),
        };
        let mut found = self.found(reason, WaitKind::CpuQuota, Some(format!("cgroup {}", quota.cgroup)));
        // The quota is the whole group's, and another process may have used it.
        let runs = |thread: &ThreadWait| matches!(thread.doing, Doing::Runs(_) | Doing::Starves);
        let always = quota.throttled >= quota.periods && self.waits.threads.iter().any(runs);
        found.doubt = (!always).then_some(Doubt::HeldNowAndThen);
        Some(found)
    }

    /// By what its threads do.
    fn threads(&self) -> Option<Found> {
        let threads = &self.waits.threads;
        let idle = |doing: &Doing| matches!(doing, Doing::Idle);
        let busy: Vec<_> = threads.iter().filter(|thread| !idle(&thread.doing)).collect();
        let blocked: Vec<_> = busy.iter().filter_map(|thread| self.blocked(thread)).collect();
        if let Some(first) =
            blocked.iter().max_by_key(|one| blocked.iter().filter(|other| other.is_like(one)).count())
        {
            let others = busy.iter().any(|thread| match self.blocked(thread) {
                Some(found) => !found.is_like(first),
                None => !matches!(thread.doing, Doing::Mutex(_)),
            });
            let mut first = (*first).clone();
            let unsure = || self.is_one_of_many(first.wait.thread).then_some(Doubt::WhichThread);
            first.doubt = first.doubt.or(others.then_some(Doubt::OneOfSeveral)).or_else(unsure);
            return Some(first);
        }
        let permille = |thread: &ThreadWait| match thread.doing {
            Doing::Runs(permille) => permille,
            _ => 0,
        };
        let cpu_permille: u32 = busy.iter().map(|thread| permille(thread)).sum();
        let most = busy.iter().max_by_key(|thread| permille(thread)).map(|thread| thread.tid);
        if cpu_permille >= COMPUTING {
            let on = Some(format!("{}%", cpu_permille / 10));
            let mut found = self.found(Reason::Computes { cpu_permille }, WaitKind::Cpu, on);
            let several = (busy.len() > 1).then_some(Doubt::OneOfSeveral);
            found.doubt = several.or_else(|| self.is_one_of_many(most).then_some(Doubt::WhichThread));
            return Some(found);
        }
        busy.iter().find_map(|thread| match &thread.doing {
            Doing::Events(sockets) => self.watched(sockets),
            Doing::Child(children) => {
                let looked = children.iter().find_map(|child| self.world.waits_of(child.pid));
                let mut found = Found::of(self.world, looked?, self.waited, self.failed_at, false)?;
                found.doubt = found.doubt.or(Some(Doubt::ItsChild));
                Some(found)
            }
            _ => None,
        })
    }

    /// Whether a thread may serve other requests than the one that failed: a process with several, and not its first one, which
    /// runs the event loop of those that have one.
    fn is_one_of_many(&self, tid: Option<u32>) -> bool {
        self.waits.thread_count > 1 && tid != Some(self.waits.pid().0)
    }

    /// What a thread is blocked on.
    fn blocked(&self, thread: &ThreadWait) -> Option<Found> {
        let mut found = match &thread.doing {
            Doing::Socket(socket) => self.on_socket(socket, false),
            Doing::FileLock { path, holder } => {
                let path = path.as_ref().map(ToString::to_string);
                let facts = holder.as_ref().map(|holder| self.world.processes.facts(holder));
                let mut found = self.found(
                    Reason::Lock { path: path.clone(), holder: facts.clone() },
                    WaitKind::FileLock,
                    path,
                );
                found.wait.peer = facts.map(|process| Peer { address: None, process: Some(process) });
                found.behind.clone_from(holder);
                found
            }
            Doing::Disk { call, path } => {
                let path = path.as_ref().map(ToString::to_string);
                let on = match call {
                    Some(call) => format!("{call}({})", path.as_deref().unwrap_or_default()),
                    None => "uninterruptible sleep".to_owned(),
                };
                self.found(Reason::Disk { call: call.clone(), path }, WaitKind::Disk, Some(on))
            }
            Doing::Pipe { writes: true, others } => {
                let reader = others.first().map(|reader| self.world.processes.facts(reader));
                let mut found = self.found(Reason::Pipe { reader }, WaitKind::Pipe, None);
                found.behind = others.first().cloned();
                found
            }
            // Whoever holds the mutex is the reason.
            Doing::Mutex(owner) => {
                let holder = self.waits.threads.iter().find(|other| other.tid == *owner)?;
                if matches!(holder.doing, Doing::Mutex(_)) {
                    return Some(self.found(
                        Reason::Lock { path: None, holder: None },
                        WaitKind::Mutex,
                        None,
                    ));
                }
                self.blocked(holder)?
            }
            _ => return None,
        };
        found.wait.thread = Some(thread.tid);
        Some(found)
    }

    /// An event loop's connections that owe an answer since the request came.
    fn watched(&self, sockets: &[SocketWait]) -> Option<Found> {
        // What it sent before it was asked itself was for another.
        let latest = self.waited.map(|waited| waited + SLACK);
        let since = |socket: &SocketWait| socket.sent_ms.map(|ms| u64::from(ms) * 1_000);
        let meant = sockets.iter().filter(|socket| {
            socket.connecting
                || since(socket).is_some_and(|since| latest.is_none_or(|latest| since <= latest))
        });
        let oldest = meant.max_by_key(|socket| since(socket))?;
        let mut found = self.on_socket(oldest, true);
        found.doubt = Some(Doubt::EventLoop);
        Some(found)
    }

    fn on_socket(&self, socket: &SocketWait, events: bool) -> Found {
        let address = socket.remote.as_ref().map(place);
        let process = socket.peers.first().map(|peer| self.world.processes.facts(peer));
        let on = Peer { address: address.clone(), process };
        let what = match socket {
            SocketWait { connecting: true, .. } => Awaits::Connection,
            SocketWait { sending: true, .. } => Awaits::Room,
            _ => Awaits::Answer,
        };
        let kind = match socket.kind {
            SocketKind::Tcp => WaitKind::Tcp,
            SocketKind::Udp => WaitKind::Udp,
            SocketKind::Unix => WaitKind::Unix,
        };
        let mut found = self.found(Reason::Dependency { on: on.clone(), what, events }, kind, address);
        let since = socket.sent_ms.filter(|_| what == Awaits::Answer).map(|ms| Micros(u64::from(ms) * 1_000));
        (found.wait.since_us, found.wait.peer) = (since, Some(on));
        found.behind = socket.peers.first().cloned();
        found
    }
}

/// What a process was found in that is stuck on nothing.
fn doing(world: &World, waits: &ProcessWaits) -> Wait {
    let kind = match waits.threads.first().map(|thread| &thread.doing) {
        Some(Doing::Sleeps) => WaitKind::Sleep,
        Some(Doing::Idle) => WaitKind::Idle,
        _ => WaitKind::Other,
    };
    let process = world.processes.facts(&waits.process);
    Wait { process, thread: None, kind, on: None, since_us: None, peer: None }
}

/// Whether a process merely passes on what comes: what it waits for is followed as a hop.
pub(super) fn is_forwarder(process: &ProcessFacts) -> bool {
    servers::only_forwards(process.comm.as_bytes().into())
}
