//! How a process ended, and by whose hand.

use std::rc::Rc;

use super::{DISORDER, Diagnosis};
use crate::attribute::finding::Doubt;
use crate::attribute::finding::death::{Asked, Death, How, OomKill, Relation, Role, Sender};
use crate::attribute::finding::evidence::Fact;
use crate::attribute::finding::listener::Near;
use crate::attribute::processes::{Life, same};
use crate::attribute::verdict::ProcessFacts;
use crate::attribute::world::World;
use crate::event::{Nanos, Oom, ProcessRef, Signal};
use crate::units::{Micros, SignalNumber};

/// SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGSYS: what a process brings upon itself.
const FAULTS: [i32; 7] = [4, 5, 6, 7, 8, 11, 31];
const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;
/// SIGINT, SIGQUIT, SIGTERM: what asks a process to end, and lets it tidy up first.
const ORDERLY: [i32; 3] = [2, 3, 15];
/// A signal counts as the reason of a death that follows within this time (nanoseconds) of it.
const PROMPT: u64 = 2_000_000_000;
/// A graceful stop may take this long.
const GRACE: u64 = 90_000_000_000;

/// Names of processes by which container runtimes signal a container's first process; names have 15 bytes.
const RUNTIMES: [&[u8]; 7] =
    [b"runc", b"crun", b"containerd-shim", b"conmon", b"dockerd", b"podman", b"kubelet"];

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
    let life = world.processes.find(dead.process);
    let exit = life.and_then(|life| life.exit.as_ref());
    let code = exit.map(|(_, exit)| exit.code).or(dead.code)?;
    let at = exit.map_or(dead.at, |(at, _)| *at);
    let oom_victim = exit.is_some_and(|(_, exit)| exit.oom_victim);
    let oom = life.and_then(|life| life.oom.as_ref());
    let case =
        Case { world, life, who: world.processes.facts(dead.process), role: dead.role, near: dead.near, at };
    let signal = code & 0x7f;
    Some(match (signal, oom) {
        (SIGKILL, Some((when, oom))) => case.oom(Some((*when, oom))),
        (SIGKILL, None) if oom_victim => case.oom(None),
        (0, _) => case.exited((code >> 8) & 0xff),
        _ => case.signalled(signal, code & 0x80 != 0),
    })
}

/// Explains a close by a process that was asked to end just before, and let go of its connections while it still lived:
/// Gunicorn's workers answer the SIGABRT of a timeout so.
pub(super) fn asked_to_exit(world: &World, dead: Dead<'_>) -> Option<Diagnosis> {
    let life = world.processes.find(dead.process)?;
    let who = world.processes.facts(dead.process);
    let case = Case { world, life: Some(life), who, role: Role::Server, near: dead.near, at: dead.at };
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
    role: Role,
    near: Vec<Near>,
    at: Nanos,
}

impl<'a> Case<'a> {
    fn found(self, how: How) -> Diagnosis {
        let Self { who, role, near, at, .. } = self;
        Diagnosis::new(Death { victim: who.clone(), role, how, at, near }).with_process(who)
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
        // A handler that tidies up raises the signal again: whoever sent it first is the sender.
        let raised = |sent: &Signal| sent.from_user && self.is_self(sent);
        let sent = self
            .last_signal(PROMPT, |sent| sent.signal == number && !raised(sent))
            .or_else(|| self.last_signal(PROMPT, |sent| sent.signal == number));
        let own = |sent: &Signal| !sent.from_user || self.is_self(sent);
        let (signal, at) = (SignalNumber(number), self.at);
        let ended = Fact::EndedBy(self.who.clone(), signal);
        let crashed = |address| How::Crashed { signal, address, core };
        let found = match sent {
            Some((_, sent)) if FAULTS.contains(&number) && own(sent) => {
                let address = sent.fault_address;
                self.found(crashed(address))
            }
            Some((when, sent)) if sent.from_user || sent.code == 0 => self.killed_by(when, sent),
            None if FAULTS.contains(&number) && number != SIGABRT => {
                self.found(crashed(None)).with_doubt(Doubt::FaultUnseen)
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
            return self.found(How::Exited { code, asked: None }).with_evidence(at, exit);
        };
        let (sender, signal) = (self.sender(sent), SignalNumber(sent.signal));
        let signalled = Fact::Signalled(self.who.clone(), signal, sender.clone());
        let abort = sent.signal == SIGABRT && code != 0 && at.0.saturating_sub(when.0) < PROMPT;
        let found = if abort || code == 128 + sent.signal {
            self.found(killed(signal, Some(sender), Some(code), None)).with_doubt(Doubt::ExitCode(code))
        } else {
            let after_us = Micros(at.micros_since(when));
            self.found(How::Exited { code, asked: Some(Asked { signal, sender, after_us }) })
        };
        found.with_evidence(when, signalled).with_evidence(at, exit)
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
        let (init, comm) = (sent.sender.pid.0 == 1, &sent.sender.comm);
        let runtime = || RUNTIMES.iter().any(|runtime| comm.starts_with(runtime));
        // What manages services is everybody's parent in the end: its rules are its own.
        let relation = match self.is_parent(sent) {
            _ if init && comm == "systemd" => Some(Relation::ServiceManager),
            _ if init => Some(Relation::Init),
            true => Some(Relation::Parent),
            false if self.who.container.is_some() && runtime() => Some(Relation::ContainerRuntime),
            false => None,
        };
        let pool = || self.world.processes.pool([&sent.target, &sent.sender]);
        let pool = (relation == Some(Relation::Parent)).then(pool).flatten();
        Sender { process: self.world.processes.facts(&sent.sender), relation, pool }
    }
}
