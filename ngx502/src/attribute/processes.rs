//! Life and death of processes: names, parents, signals received, how each one ended.
//!
//! Pids are reused. A life is known by pid and start time, and since the two sources of start times differ in
//! resolution (nanoseconds in the kernel, clock ticks in /proc), two times within [`START_TOLERANCE`] are one.

use std::cell::{OnceCell, RefCell};
use std::path::Path;
use std::rc::Rc;

use bstr::{BString, ByteSlice as _};

use super::bounded::Bounded;
use super::servers;
use super::verdict::ProcessFacts;
use crate::event::{Exit, FaultPlace, MemoryLimit, Nanos, Oom, Pid, ProcessInfo, ProcessRef, Signal};

/// Two clock ticks of 10 ms: no pid is reused that fast.
const START_TOLERANCE: u64 = 20_000_000;
/// Processes alive at once that are worth remembering.
const LIVING: usize = 16_384;
/// Pids with remembered deaths.
const DEAD: usize = 8_192;
/// Signals and earlier lives kept per process and pid.
const PER_PROCESS: usize = 8;

/// What is known of one process.
#[derive(Clone, Debug, Default)]
pub(super) struct Life {
    pub(super) process: ProcessRef,
    pub(super) parent: Option<ProcessRef>,
    pub(super) info: Option<ProcessInfo>,
    pub(super) signals: Vec<(Nanos, Signal)>,
    pub(super) oom: Option<(Nanos, Oom)>,
    /// Where it faulted last.
    pub(super) fault: Option<(BString, Option<u64>)>,
    pub(super) exit: Option<(Nanos, Exit)>,
    /// When /proc last showed it alive.
    alive_at: Option<Nanos>,
    /// Its names, once a verdict needed them; [`Processes::life_mut`] forgets them.
    facts: OnceCell<Rc<ProcessFacts>>,
}

/// Every process that records spoke of.
#[derive(Debug)]
pub(super) struct Processes {
    living: Bounded<Pid, Life>,
    dead: Bounded<Pid, Vec<Life>>,
    /// The process last spoken of that is not in either: mostly the sender of a signal, for verdict after verdict.
    stranger: RefCell<Option<(ProcessRef, Rc<ProcessFacts>)>>,
}

impl Processes {
    pub(super) fn new() -> Self {
        Self { living: Bounded::new(LIVING), dead: Bounded::new(DEAD), stranger: RefCell::default() }
    }

    /// How many lives were forgotten.
    pub(super) fn evicted(&self) -> u64 {
        self.living.evicted() + self.dead.evicted()
    }

    pub(super) fn learn(&mut self, at: Nanos, info: &ProcessInfo) {
        let parent = self.current(info.parent);
        let life = self.life_mut(&info.process);
        life.alive_at = life.alive_at.max(Some(at));
        life.parent = life.parent.take().or(parent);
        // A process that is about to end has lost its executable and command line by now, and shows the root of every
        // cgroup v1 hierarchy as its own group: what was known before is better.
        let ending = info.exe.is_none() && info.command.is_empty();
        if !ending || life.info.is_none() {
            life.info = Some(info.clone());
            complete_oom(&mut life.oom, info.cgroup.as_deref());
        }
    }

    pub(super) fn fork(&mut self, parent: &ProcessRef, child: &ProcessRef) {
        let inherited = self.find(parent).and_then(|life| life.info.clone());
        let life = self.life_mut(child);
        life.parent = Some(parent.clone());
        // Unit and container are the parent's until /proc says otherwise.
        life.info = life.info.take().or_else(|| {
            inherited.map(|info| ProcessInfo { process: child.clone(), parent: parent.pid, ..info })
        });
    }

    pub(super) fn signal(&mut self, at: Nanos, signal: &Signal) {
        let life = self.life_mut(&signal.target);
        if life.signals.len() == PER_PROCESS {
            life.signals.remove(0);
        }
        life.signals.push((at, signal.clone()));
    }

    pub(super) fn faulted(&mut self, place: &FaultPlace) {
        self.life_mut(&place.process).fault = Some((place.module.clone(), place.offset));
    }

    pub(super) fn oom(&mut self, at: Nanos, oom: &Oom) {
        let life = self.life_mut(&oom.victim);
        life.oom = Some((at, oom.clone()));
        complete_oom(&mut life.oom, life.info.as_ref().and_then(|info| info.cgroup.as_deref()));
    }

    /// The limiting cgroup's whole path, as a look-up from outside found it.
    pub(super) fn memory_limit(&mut self, limit: &MemoryLimit) {
        complete_oom(&mut self.life_mut(&limit.victim).oom, Some(&limit.cgroup));
    }

    pub(super) fn exit(&mut self, at: Nanos, exit: &Exit) {
        let parent = self.current(exit.parent);
        let life = self.life_mut(&exit.process);
        life.exit = Some((at, exit.clone()));
        life.parent = life.parent.take().or(parent);
        if let Some(life) = self.living.remove(&exit.process.pid) {
            self.bury(life);
        }
    }

    /// The life that `process` names.
    pub(super) fn find(&self, process: &ProcessRef) -> Option<&Life> {
        let dead = self.dead.get(&process.pid).into_iter().flatten().rev();
        self.living.get(&process.pid).into_iter().chain(dead).find(|life| same(&life.process, process))
    }

    /// Whether a look-up at `since` or later found the process alive.
    pub(super) fn alive_since(&self, process: &ProcessRef, since: Nanos) -> bool {
        let Some(life) = self.find(process) else { return false };
        let died = life.exit.as_ref().is_some_and(|(died, _)| *died <= since);
        life.alive_at.is_some_and(|at| at >= since) && !died
    }

    /// The parent of a living process.
    pub(super) fn parent_of(&self, pid: Pid) -> Option<Pid> {
        Some(self.living.get(&pid)?.parent.as_ref()?.pid)
    }

    /// Whether a process of this number is not known to have ended.
    pub(super) fn lives(&self, pid: Pid) -> bool {
        self.living.get(&pid).is_some() || self.dead.get(&pid).is_none()
    }

    /// Whether the process was seen to end by `at`.
    pub(super) fn died_by(&self, process: &ProcessRef, at: Nanos) -> bool {
        let exit = self.find(process).and_then(|life| life.exit.as_ref());
        exit.is_some_and(|(died, _)| *died <= at)
    }

    /// The names people use for a process.
    pub(super) fn facts(&self, process: &ProcessRef) -> Rc<ProcessFacts> {
        let Some(life) = self.find(process) else { return self.stranger(process) };
        // It may have had another name when it was spoken of.
        let as_ever = process.comm.is_empty() || process.comm == life.process.comm;
        match as_ever {
            true => life.facts.get_or_init(|| facts(&life.process, life.info.as_ref()).into()).clone(),
            false => facts(process, life.info.as_ref()).into(),
        }
    }

    /// The same of the process that has this number now.
    pub(super) fn facts_of(&self, pid: Pid) -> Option<Rc<ProcessFacts>> {
        Some(self.facts(&self.living.get(&pid)?.process))
    }

    /// The php-fpm pool that some processes serve, and the configuration that it is from, as far as their titles tell
    /// and agree: for a sentence.
    pub(super) fn pool<'a>(&self, processes: impl IntoIterator<Item = &'a ProcessRef>) -> Option<String> {
        let (mut pools, mut configurations) = (Vec::new(), Vec::new());
        for info in processes.into_iter().filter_map(|process| self.find(process)?.info.as_ref()) {
            pools.extend(servers::pool(&info.command));
            configurations.extend(servers::configuration(&info.command));
        }
        let agreed = |all: Vec<String>| {
            let first = all.first()?.clone();
            all.iter().all(|other| *other == first).then_some(first)
        };
        match (agreed(pools), agreed(configurations)) {
            (Some(name), Some(path)) => Some(format!("pool {name} of {path}")),
            (Some(name), None) => Some(format!("pool {name}")),
            (None, Some(path)) => Some(format!("its pool in {path}")),
            (None, None) => None,
        }
    }

    /// What the container of a living process is called.
    pub(super) fn container_name(&self, pid: Pid) -> Option<String> {
        self.living.get(&pid)?.info.as_ref()?.container_names.as_ref()?.label()
    }

    /// Whether a process was ended by a signal, and could not tidy up.
    pub(super) fn was_killed(&self, process: &ProcessRef) -> bool {
        let exit = self.find(process).and_then(|life| life.exit.as_ref());
        exit.is_some_and(|(_, exit)| exit.code & 0x7f != 0)
    }

    /// The mount namespace of the process that has a number.
    pub(super) fn mounts_of(&self, pid: Pid) -> Option<u32> {
        self.living.get(&pid)?.info.as_ref()?.mounts
    }

    fn stranger(&self, process: &ProcessRef) -> Rc<ProcessFacts> {
        let mut last = self.stranger.borrow_mut();
        match &*last {
            Some((known, facts)) if known == process => facts.clone(),
            _ => last.insert((process.clone(), facts(process, None).into())).1.clone(),
        }
    }

    fn current(&self, pid: Pid) -> Option<ProcessRef> {
        self.living.get(&pid).map(|life| life.process.clone())
    }

    /// The life to write to: the living one, a dead one when the record came late, or a new one.
    fn life_mut(&mut self, process: &ProcessRef) -> &mut Life {
        let pid = process.pid;
        let buried =
            self.dead.get(&pid).and_then(|lives| lives.iter().rposition(|life| same(&life.process, process)));
        let living = self.living.get(&pid).is_some_and(|life| same(&life.process, process));
        if let (false, Some(at)) = (living, buried) {
            let lives = self.dead.get_mut(&pid).and_then(|lives| lives.get_mut(at));
            let life = lives.expect("found one line above");
            life.facts.take();
            return life;
        }
        if !living {
            if let Some(earlier) = self.living.remove(&pid) {
                self.bury(earlier);
            }
            self.living.insert(pid, Life { process: process.clone(), ..Life::default() });
        }
        let life = self.living.get_mut(&pid).expect("inserted above or found alive");
        life.facts.take();
        if !process.comm.is_empty() {
            life.process.comm = process.comm.clone();
        }
        if life.process.start == Nanos(0) {
            life.process.start = process.start;
        }
        life
    }

    fn bury(&mut self, life: Life) {
        let pid = life.process.pid;
        let mut lives = self.dead.remove(&pid).unwrap_or_default();
        if lives.len() == PER_PROCESS {
            lives.remove(0);
        }
        lives.push(life);
        self.dead.insert(pid, lives);
    }
}

fn facts(process: &ProcessRef, info: Option<&ProcessInfo>) -> ProcessFacts {
    ProcessFacts {
        pid: process.pid,
        comm: process.comm.to_str_lossy().into_owned(),
        unit: info.and_then(|info| info.unit.as_deref().map(Rc::from)),
        unit_of_user: info.and_then(unit_of_user),
        container: info.and_then(|info| info.container.clone()),
        container_names: info.and_then(|info| info.container_names.clone()),
        pool: info.and_then(|info| servers::pool(&info.command)),
    }
}

/// The kernel's record of an OOM kill names only the last component of the limiting cgroup; `path` is that one's, or of a
/// group below it. Where it has no such component, it is of another group and proves nothing.
fn complete_oom(oom: &mut Option<(Nanos, Oom)>, path: Option<&str>) {
    let Some((_, oom)) = oom.as_mut().filter(|(_, oom)| oom.memcg == Some(true)) else { return };
    let (Some(path), Some(end)) = (path, oom.limit_cgroup.as_deref()) else { return };
    let whole = Path::new(path).ancestors().find(|level| level.file_name().is_some_and(|name| name == end));
    if let Some(whole) = whole.and_then(Path::to_str) {
        oom.limit_cgroup = Some(whole.trim_start_matches('/').to_owned());
    }
}

/// Whose service manager keeps the process's unit: below `user@1000.service` it is the user's own.
fn unit_of_user(info: &ProcessInfo) -> Option<u32> {
    let (manager, _unit) = info.cgroup.as_deref()?.split_once("/user@")?.1.split_once(".service/")?;
    manager.parse().ok()
}

/// Whether two references mean one process; an unknown start time matches any.
pub(super) fn same(a: &ProcessRef, b: &ProcessRef) -> bool {
    let unknown = a.start == Nanos(0) || b.start == Nanos(0);
    a.pid == b.pid && (unknown || a.start.0.abs_diff(b.start.0) <= START_TOLERANCE)
}
