//! How a process ended, and by whose hand.

use std::rc::Rc;

use super::{DISORDER, Diagnosis};
use crate::attribute::finding::Doubt;
use crate::attribute::finding::death::{
    Asked, Death, EndedWith, How, OomKill, Orphaned, Own, Relation, Role, Sender, Tie,
};
use crate::attribute::finding::evidence::Fact;
use crate::attribute::finding::listener::Near;
use crate::attribute::processes::{Life, same};
use crate::attribute::verdict::ProcessFacts;
use crate::attribute::world::World;
use crate::event::{Nanos, Oom, ProcessRef, Signal};
use crate::units::{Micros, SignalNumber};

/// SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGSYS: what a process brings upon itself.
const FAULTS: [i32; 7] = [4, 5, 6, 7, 8, 11, 31];
/// SIGPIPE, SIGALRM, SIGXCPU, SIGXFSZ, SIGVTALRM, SIGPROF: what the kernel says to a process about its own deeds.
const OWN_DEEDS: [i32; 6] = [13, 14, 24, 25, 26, 27];
/// SIGVTALRM, SIGPROF: profilers set off hundreds a second, so that the probe passes on only those that a process sent.
const PROFILERS: [i32; 2] = [26, 27];
const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;
/// SIGINT, SIGQUIT, SIGTERM: what asks a process to end, and lets it tidy up first.
const ORDERLY: [i32; 3] = [2, 3, 15];
/// SIGHUP, SIGUSR2: what asks a master to start its workers anew.
const RELOADS: [i32; 2] = [1, 12];
/// `si_code` of a signal that the kernel sends.
const SI_KERNEL: i32 = 0x80;
/// A signal counts as the reason of a death that follows within this time (nanoseconds) of it.
const PROMPT: u64 = 2_000_000_000;
/// A graceful stop may take this long.
const GRACE: u64 = 90_000_000_000;

/// Names of processes by which container runtimes signal a container's first process; names have 15 bytes.
const RUNTIMES: [&[u8]; 7] =
    [b"runc", b"crun", b"containerd-shim", b"conmon", b"dockerd", b"podman", b"kubelet"];

/// Names of daemons that kill so that memory is left.
const MEMORY_DAEMONS: [&[u8]; 4] = [b"systemd-oomd", b"earlyoom", b"nohang", b"oomd"];

/// A death to be explained.
pub(super) struct Dead<'a> {
    pub(super) process: &'a ProcessRef,
    pub(super) role: Role,
    /// When it let go of the socket.
    pub(super) at: Nanos,
    /// The exit code of the dying task, where the socket's end told it.
    pub(super) code: Option<i32>,
    /// Listeners of the same program elsewhere.
    pub(super) near: Vec<Near>,
}

/// Explains a death; `None` when no record says how the process ended.
pub(super) fn explain(world: &World, dead: Dead<'_>) -> Option<Diagnosis> {
    with_another(world, &dead).or_else(|| alone(world, dead, None))
}

/// The death of a process that got its signal of one that had ended itself: it ended of what that one did. The kernel kills
/// all of a PID namespace as its first process ends (`zap_pid_ns_processes`), and sends what `PR_SET_PDEATHSIG` asked for as a
/// parent ends, both in the context of the one that ends.
fn with_another(world: &World, dead: &Dead<'_>) -> Option<Diagnosis> {
    let life = world.processes.find(dead.process)?;
    let (exit_at, exit) = life.exit.as_ref().filter(|(_, exit)| !exit.oom_victim)?;
    let number = exit.code & 0x7f;
    let (ended_at, other, tie) =
        life.signals.iter().filter(|(_, sent)| sent.signal == number).find_map(|(at, sent)| {
            let other =
                world.processes.find(&sent.sender).filter(|other| !same(&other.process, &exit.process))?;
            let ended = ending(other, *at)?;
            let tie = if sent.code == SI_KERNEL { Tie::PidNamespace } else { Tie::ParentDeathSignal };
            Some((ended, other, tie))
        })?;
    let first = Dead { process: &other.process, at: ended_at, code: None, near: Vec::new(), role: dead.role };
    let found = alone(world, first, Some((dead, tie)))?;
    let member = world.processes.facts(dead.process);
    Some(found.with_evidence(*exit_at, Fact::EndedBy(member, SignalNumber(number))))
}

/// When a process ended that could send no signal of its own at a time any more: it had ended, or was being killed. The
/// threads of one process end one after the other.
fn ending(life: &Life, at: Nanos) -> Option<Nanos> {
    let (ended, exit) = life.exit.as_ref()?;
    let killed = || life.signals.iter().any(|(when, sent)| sent.signal == SIGKILL && *when <= at);
    (*ended <= at || exit.code & 0x7f == SIGKILL && killed()).then_some(*ended)
}

/// Explains the death of a process, or, for a `member` that ended with it, that one's.
fn alone(world: &World, dead: Dead<'_>, member: Option<(&Dead<'_>, Tie)>) -> Option<Diagnosis> {
    let life = world.processes.find(dead.process);
    let exit = life.and_then(|life| life.exit.as_ref());
    let code = exit.map(|(_, exit)| exit.code).or(dead.code)?;
    let at = exit.map_or(dead.at, |(at, _)| *at);
    let oom_victim = exit.is_some_and(|(_, exit)| exit.oom_victim);
    let oom = life.and_then(|life| life.oom.as_ref());
    let who = world.processes.facts(dead.process);
    let near = member.map_or(dead.near, |(member, _)| member.near.clone());
    let member = member.map(|(member, tie)| (world.processes.facts(member.process), tie));
    let case = Case { world, life, who, member, role: dead.role, near, at };
    let signal = code & 0x7f;
    Some(match (signal, oom) {
        (SIGKILL, Some((when, oom))) => case.oom(Some((*when, oom))),
        (SIGKILL, None) if oom_victim => case.oom(None),
        (0, _) => case.exited((code >> 8) & 0xff),
        _ => case.signalled(signal, code & 0x80 != 0),
    })
}

/// When a process exited, where nothing that came after `since` made it: not killed, and sent no signal in between.
pub(super) fn exited_by_itself(world: &World, process: &ProcessRef, since: Nanos) -> Option<Nanos> {
    let life = world.processes.find(process)?;
    let (at, exit) = life.exit.as_ref().filter(|(at, exit)| *at >= since && exit.code & 0x7f == 0)?;
    let foreign = |sent: &Signal| sent.from_user && !same(&sent.sender, &exit.process);
    let asked = life.signals.iter().any(|(when, sent)| *when >= since && when <= at && foreign(sent));
    (!asked).then_some(*at)
}

/// Explains a close by a process that was asked to end just before, and let go of its connections while it still lived:
/// Gunicorn's workers answer the SIGABRT of a timeout so.
pub(super) fn asked_to_exit(world: &World, dead: Dead<'_>) -> Option<Diagnosis> {
    let life = world.processes.find(dead.process)?;
    let who = world.processes.facts(dead.process);
    let case =
        Case { world, life: Some(life), who, member: None, role: Role::Server, near: dead.near, at: dead.at };
    let asks = |sent: &Signal| sent.signal == SIGABRT || ORDERLY.contains(&sent.signal);
    let (at, sent) = case.last_signal(PROMPT, |sent| asks(sent) && sent.from_user && !case.is_self(sent))?;
    let (sender, signal) = (case.sender(sent), SignalNumber(sent.signal));
    let fact = Fact::Signalled(case.who.clone(), signal, sender.clone());
    let after_us = Some(Micros(case.at.micros_since(at)));
    let how = killed(signal, Some(sender), None, after_us);
    Some(case.found(how).with_doubt(Doubt::ClosedUponSignal).with_evidence(at, fact))
}

fn killed(signal: SignalNumber, sender: Option<Sender>, code: Option<i32>, after_us: Option<Micros>) -> How {
    How::Killed { signal, sender, orderly: ORDERLY.contains(&signal.0), code, after_us }
}

struct Case<'a> {
    world: &'a World,
    life: Option<&'a Life>,
    who: Rc<ProcessFacts>,
    /// The one that is asked about, where it ended with `who`.
    member: Option<(Rc<ProcessFacts>, Tie)>,
    role: Role,
    near: Vec<Near>,
    at: Nanos,
}

impl<'a> Case<'a> {
    fn found(self, how: How) -> Diagnosis {
        let Self { who, member, role, near, at, .. } = self;
        let (victim, ended_with) = match member {
            Some((member, tie)) => (member, Some(EndedWith { process: who, tie })),
            None => (who, None),
        };
        Diagnosis::new(Death { victim: victim.clone(), role, ended_with, how, at, near }).with_process(victim)
    }

    fn oom(self, oom: Option<(Nanos, &Oom)>) -> Diagnosis {
        let Some((when, oom)) = oom else { return self.found(How::OomKilled(OomKill::default())) };
        let trigger = Some(&oom.trigger).filter(|trigger| trigger.pid.0 > 0 && !same(trigger, &oom.victim));
        let trigger = trigger.map(|trigger| self.world.processes.facts(trigger));
        let kill = OomKill::new(oom, trigger.clone());
        let chosen = Fact::OomChosen(self.who.clone(), kill.clone());
        let found = self.found(How::OomKilled(kill));
        let straw = trigger.map(Fact::OomTrigger);
        straw.into_iter().chain([chosen]).fold(found, |found, fact| found.with_evidence(when, fact))
    }

    fn signalled(self, number: i32, core: bool) -> Diagnosis {
        let raised = |sent: &Signal| sent.from_user && self.is_self(sent);
        let last = self.last_signal(PROMPT, |sent| sent.signal == number);
        // A handler that tidies up raises the signal again: whoever sent it first is the sender. Servers end their requests
        // before (uvicorn raises what it caught when the last one is served).
        let answers = !FAULTS.contains(&number) && last.is_some_and(|(_, sent)| raised(sent));
        let within = if answers { GRACE } else { PROMPT };
        let sent = self.last_signal(within, |sent| sent.signal == number && !raised(sent)).or(last);
        let (signal, at) = (SignalNumber(number), self.at);
        let ended = Fact::EndedBy(self.who.clone(), signal);
        // Whoever handles a fault may end of something else.
        let place = self.life.and_then(|life| life.fault.clone()).filter(|_| FAULTS.contains(&number));
        let (module, offset) = place.map_or((None, None), |(module, offset)| (Some(module), offset));
        let crashed = |address, own| How::Crashed { signal, address, module, offset, core, own };
        let found = match sent {
            Some((_, sent)) if FAULTS.contains(&number) && (!sent.from_user || self.is_self(sent)) => {
                self.found(crashed(sent.fault_address, Own::Fault))
            }
            Some((_, sent)) if OWN_DEEDS.contains(&number) && (!sent.from_user || self.is_self(sent)) => {
                self.found(crashed(None, Own::of(number)))
            }
            // The hard limit of CPU time, or a signal frame that has no room. An OOM kill is marked as such.
            Some((_, sent)) if number == SIGKILL && !sent.from_user && self.is_self(sent) => {
                self.found(crashed(None, Own::of(number))).with_doubt(Doubt::FaultUnseen)
            }
            Some((_, sent)) if raised(sent) => self.found(crashed(None, Own::Sent)),
            Some((when, sent)) if sent.from_user || sent.code == 0 => self.killed_by(when, sent),
            None if FAULTS.contains(&number) && number != SIGABRT => {
                self.found(crashed(None, Own::Fault)).with_doubt(Doubt::FaultUnseen)
            }
            None if PROFILERS.contains(&number) => {
                self.found(crashed(None, Own::of(number))).with_doubt(Doubt::FaultUnseen)
            }
            _ => self.found(killed(signal, None, None, None)).with_doubt(Doubt::SenderUnseen),
        };
        found.with_evidence(at, ended)
    }

    fn killed_by(self, at: Nanos, sent: &Signal) -> Diagnosis {
        let (sender, signal) = (self.sender(sent), SignalNumber(sent.signal));
        let fact = Fact::Signalled(self.who.clone(), signal, sender.clone());
        self.found(killed(signal, Some(sender), None, None)).with_evidence(at, fact)
    }

    fn exited(self, code: i32) -> Diagnosis {
        let (at, exit) = (self.at, Fact::Exited(self.who.clone(), code));
        let asked = self.last_signal(GRACE, |sent| sent.from_user && !self.is_self(sent));
        let Some((when, sent)) = asked else {
            let orphaned = self.orphaned();
            let ended = orphaned.as_ref().map(|(parent, when)| (*when, Fact::Ended(parent.process.clone())));
            let orphaned = orphaned.map(|(parent, _)| parent);
            let found = self.found(How::Exited { code, asked: None, orphaned }).with_evidence(at, exit);
            return ended.into_iter().fold(found, |found, (when, fact)| found.with_evidence(when, fact));
        };
        let (sender, signal) = (self.sender(sent), SignalNumber(sent.signal));
        let signalled = Fact::Signalled(self.who.clone(), signal, sender.clone());
        let abort = sent.signal == SIGABRT && code != 0 && at.0.saturating_sub(when.0) < PROMPT;
        let found = if abort || code == 128 + sent.signal {
            self.found(killed(signal, Some(sender), Some(code), None)).with_doubt(Doubt::ExitCode(code))
        } else {
            let after_us = Micros(at.micros_since(when));
            self.found(How::Exited { code, asked: Some(Asked { signal, sender, after_us }), orphaned: None })
        };
        found.with_evidence(when, signalled).with_evidence(at, exit)
    }

    /// The parent that it had from the start, where that ended before it: masters' workers end then by themselves.
    fn orphaned(&self) -> Option<(Orphaned, Nanos)> {
        let life = self.life?;
        let parent =
            life.parent.as_ref().filter(|parent| parent.pid.0 > 1 && !same(parent, &life.process))?;
        let life = self.world.processes.find(parent)?;
        let (when, exit) = life.exit.as_ref().filter(|(when, _)| *when <= self.at)?;
        let after_us = Micros(self.at.micros_since(*when));
        if after_us.0 > GRACE / 1_000 {
            return None;
        }
        let process = self.world.processes.facts(parent);
        let of_parent = Case {
            life: Some(life),
            who: process.clone(),
            member: None,
            near: Vec::new(),
            at: *when,
            ..*self
        };
        let number = exit.code & 0x7f;
        let ended_by = |sent: &Signal| sent.signal == number && sent.from_user && !of_parent.is_self(sent);
        let sent = of_parent.last_signal(PROMPT, |sent| number != 0 && ended_by(sent));
        let signal = (number != 0).then_some(SignalNumber(number));
        let sender = sent.map(|(_, sent)| of_parent.named(sent));
        Some((Orphaned { process, signal, sender, after_us }, *when))
    }

    /// The latest matching signal before the death. Signals that the kernel sends on an OOM are not a sender's.
    fn last_signal(&self, within: u64, fits: impl Fn(&Signal) -> bool) -> Option<(Nanos, &'a Signal)> {
        let all = self.life.into_iter().flat_map(|life| &life.signals);
        all.filter(|(at, sent)| {
            fits(sent) && at.0 <= self.at.0 + DISORDER && self.at.0.saturating_sub(at.0) <= within
        })
        .max_by_key(|(at, _)| *at)
        .map(|(at, sent)| (*at, sent))
    }

    fn is_self(&self, sent: &Signal) -> bool {
        same(&sent.sender, &sent.target)
    }

    fn is_parent(&self, sent: &Signal) -> bool {
        let parent = self.life.and_then(|life| life.parent.as_ref());
        parent.is_some_and(|parent| same(parent, &sent.sender))
            || self
                .life
                .and_then(|life| life.exit.as_ref())
                .is_some_and(|(_, exit)| exit.parent == sent.sender.pid)
    }

    fn sender(&self, sent: &Signal) -> Sender {
        let mut sender = self.named(sent);
        if sender.relation == Some(Relation::Parent) {
            sender.upon = self.told_before(sent);
        }
        sender
    }

    /// The sender by what it is to the one that got the signal.
    fn named(&self, sent: &Signal) -> Sender {
        let (init, comm) = (sent.sender.pid.0 == 1, &sent.sender.comm);
        let runtime = || RUNTIMES.iter().any(|runtime| comm.starts_with(runtime));
        // What manages services is everybody's parent in the end: its rules are its own.
        let relation = match self.is_parent(sent) {
            _ if MEMORY_DAEMONS.iter().any(|daemon| comm == daemon) => Some(Relation::MemoryDaemon),
            _ if init && comm == "systemd" => Some(Relation::ServiceManager),
            _ if init => Some(Relation::Init),
            true => Some(Relation::Parent),
            false if self.who.container.is_some() && runtime() => Some(Relation::ContainerRuntime),
            false => None,
        };
        let pool = || self.world.processes.pool([&sent.target, &sent.sender]);
        let pool = (relation == Some(Relation::Parent)).then(pool).flatten();
        Sender { process: self.world.processes.facts(&sent.sender), relation, upon: None, pool }
    }

    /// What the sender had been told itself: a master that is asked to end or to reload tells its workers so, and what it
    /// sends them then enforces no time limit.
    fn told_before(&self, sent: &Signal) -> Option<Box<Asked>> {
        let at = self.life?.signals.iter().rfind(|(_, one)| one == sent)?.0;
        let master = self.world.processes.find(&sent.sender)?;
        let who = self.world.processes.facts(&sent.sender);
        let of_master = Case { life: Some(master), who, member: None, near: Vec::new(), at, ..*self };
        let foreign =
            |told: &Signal| told.from_user && !of_master.is_self(told) && !same(&told.sender, &sent.target);
        let stop = of_master.last_signal(GRACE, |told| ORDERLY.contains(&told.signal) && foreign(told));
        let reload = || of_master.last_signal(PROMPT, |told| RELOADS.contains(&told.signal) && foreign(told));
        let (when, told) = stop.or_else(reload).filter(|(when, _)| *when <= at)?;
        let after_us = Micros(at.micros_since(when));
        let sender = of_master.named(told);
        Some(Box::new(Asked { signal: SignalNumber(told.signal), sender, after_us }))
    }
}
