//! How a process ended, and by whose hand.

use std::borrow::Cow;
use std::rc::Rc;

use super::Diagnosis;
use crate::attribute::named::Named;
use crate::attribute::processes::{Life, same};
use crate::attribute::text::Text;
use crate::attribute::verdict::{Cause, Certainty};
use crate::attribute::wording::{self, death as words, supervisor};
use crate::attribute::world::World;
use crate::event::{Nanos, Oom, ProcessRef, Signal};

/// SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGSYS: what a process brings upon itself.
const FAULTS: [i32; 7] = [4, 5, 6, 7, 8, 11, 31];
const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;
/// SIGINT, SIGQUIT, SIGABRT, SIGTERM: what tells a process to end, and lets it tidy up first.
const TELLING: [i32; 4] = [2, 3, 6, 15];
/// A signal counts as the reason of a death that follows within this time (nanoseconds) of it.
const PROMPT: u64 = 2_000_000_000;
/// A graceful stop may take this long.
const GRACE: u64 = 90_000_000_000;
/// Records of different CPUs may be out of order by this much.
const DISORDER: u64 = 50_000_000;

/// The victim's part in the failure.
#[derive(Clone, Copy, Debug)]
pub(super) enum Role {
    /// It was the last to listen; its death came before the failure.
    LastListener,
    /// It served the connection; its death was the failure.
    Server,
}

/// A death to be explained.
pub(super) struct Dead<'a> {
    pub(super) process: &'a ProcessRef,
    pub(super) role: Role,
    /// Where it listened or served.
    pub(super) there: Rc<str>,
    /// When it let go of the socket.
    pub(super) at: Nanos,
    /// The exit code of the dying task, where the socket's end told it.
    pub(super) code: Option<i32>,
    /// The failure's time, for "12 s ago".
    pub(super) failed_at: Nanos,
}

/// Explains a death; `None` when no record says how the process ended.
pub(super) fn explain(world: &World, dead: &Dead<'_>) -> Option<Diagnosis> {
    let life = world.processes.find(dead.process);
    let exit = life.and_then(|life| life.exit.as_ref());
    let code = exit.map(|(_, exit)| exit.code).or(dead.code)?;
    let at = exit.map_or(dead.at, |(at, _)| *at);
    let who = world.processes.facts(dead.process);
    let (subject, when) = match dead.role {
        Role::LastListener => {
            (words::last_listener(&who, &dead.there), words::ago(wording::span(at, dead.failed_at)))
        }
        Role::Server => (words::server(&who, &dead.there), Text::default()),
    };
    let case = Case { world, life, who: &who, subject, when, at };
    let victim = exit.is_some_and(|(_, exit)| exit.oom_victim);
    let oom = life.and_then(|life| life.oom.as_ref());
    let signal = code & 0x7f;
    let found = match (signal, oom) {
        (SIGKILL, Some((when, oom))) => case.oom(Some((*when, oom))),
        (SIGKILL, None) if victim => case.oom(None),
        (0, _) => case.exited((code >> 8) & 0xff),
        _ => case.signalled(signal, code & 0x80 != 0),
    };
    Some(found.of(who.clone()).fix(who.restart()))
}

/// Explains a close by a process that was told to end just before, and let go of its connections while it still lived:
/// Gunicorn's workers answer the SIGABRT of a timeout so.
pub(super) fn told_to_end(world: &World, dead: &Dead<'_>) -> Option<Diagnosis> {
    let life = world.processes.find(dead.process)?;
    let who = world.processes.facts(dead.process);
    let subject = words::server(&who, &dead.there);
    let case = Case { world, life: Some(life), who: &who, subject, when: Text::default(), at: dead.at };
    let deadly = |sent: &Signal| TELLING.contains(&sent.signal) && sent.from_user && !case.is_self(sent);
    let (at, sent) = case.last_signal(PROMPT, deadly)?;
    let by = case.sender(sent);
    let summary = words::closed_upon(&case.subject, wording::span(at, dead.at), &by);
    let found = Diagnosis::inferred(Cause::Killed, summary)
        .seen(at, "signal", words::was_sent(&who, &by))
        .fix(case.supervisor_limit(sent));
    Some(found.of(who.clone()))
}

struct Case<'a> {
    world: &'a World,
    life: Option<&'a Life>,
    who: &'a Named,
    subject: Text,
    /// ` 12 s ago`, or nothing.
    when: Text,
    at: Nanos,
}

impl Case<'_> {
    fn oom(&self, oom: Option<(Nanos, &Oom)>) -> Diagnosis {
        let summary = words::oom_killed(&self.subject, &self.when, oom.map(|(_, oom)| oom));
        let found = Diagnosis::proven(Cause::OomKilled, summary);
        let Some((when, oom)) = oom else { return found };
        let straw = Some(&oom.trigger).filter(|trigger| trigger.pid.0 > 0 && !same(trigger, &oom.victim));
        let straw = straw.map(|trigger| words::last_straw(&self.world.processes.facts(trigger)));
        let found = straw.into_iter().fold(found, |found, text| found.seen(when, "oom", text));
        found.seen(when, "oom", words::chosen(self.who, oom)).fix([words::oom_fix(self.who, oom.memcg)])
    }

    fn signalled(&self, signal: i32, core: bool) -> Diagnosis {
        let word = wording::signal(signal);
        // A handler that tidies up raises the signal again: whoever sent it first is the sender.
        let raised = |sent: &Signal| sent.from_user && self.is_self(sent);
        let sent = self
            .last_signal(PROMPT, |sent| sent.signal == signal && !raised(sent))
            .or_else(|| self.last_signal(PROMPT, |sent| sent.signal == signal));
        let own = |sent: &Signal| !sent.from_user || self.is_self(sent);
        let found = match sent {
            Some((_, sent)) if FAULTS.contains(&signal) && own(sent) => {
                self.crashed(word.clone(), core, Certainty::Proven)
            }
            Some((at, sent)) if sent.from_user || sent.code == 0 => self.killed(at, sent),
            None if FAULTS.contains(&signal) && signal != SIGABRT => {
                self.crashed(word.clone(), core, Certainty::Inferred)
            }
            _ => {
                let summary = words::killed_by_nobody_seen(&self.subject, word.clone(), &self.when);
                Diagnosis::inferred(Cause::Killed, summary)
            }
        };
        found.seen(self.at, "exit", words::ended_by(self.who, word))
    }

    fn crashed(&self, word: Cow<'static, str>, core: bool, certainty: Certainty) -> Diagnosis {
        let summary = words::crashed(&self.subject, word, &self.when, core, certainty);
        let dump = core.then(|| words::core_dump(self.who));
        Diagnosis::new(Cause::Crashed, certainty, summary).fix(dump)
    }

    fn killed(&self, at: Nanos, sent: &Signal) -> Diagnosis {
        let by = self.sender(sent);
        Diagnosis::proven(Cause::Killed, words::killed(&self.subject, &by, &self.when))
            .seen(at, "signal", words::was_sent(self.who, &by))
            .fix(self.supervisor_limit(sent))
    }

    fn exited(&self, status: i32) -> Diagnosis {
        let (subject, ended) = (&self.subject, &self.when);
        let exit = words::exit_seen(self.who, status);
        let asked = self.last_signal(GRACE, |sent| sent.from_user && !self.is_self(sent));
        let Some((when, sent)) = asked else {
            return Diagnosis::proven(Cause::Exited, words::exited(subject, status, ended))
                .seen(self.at, "exit", exit);
        };
        let by = self.sender(sent);
        let abort = sent.signal == SIGABRT && status != 0 && self.at.0.saturating_sub(when.0) < PROMPT;
        let found = if abort || status == 128 + sent.signal {
            Diagnosis::inferred(Cause::Killed, words::exited_upon(subject, status, ended, &by))
                .fix(self.supervisor_limit(sent))
        } else {
            let after = wording::span(when, self.at);
            Diagnosis::proven(Cause::Exited, words::exited_after(subject, status, ended, after, &by))
        };
        found.seen(when, "signal", words::was_sent(self.who, &by)).seen(self.at, "exit", exit)
    }

    /// The latest matching signal before the death. Signals that the kernel sends on an OOM are not a sender's.
    fn last_signal(&self, within: u64, fits: impl Fn(&Signal) -> bool) -> Option<(Nanos, &Signal)> {
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

    fn sender(&self, sent: &Signal) -> Text {
        let by = self.world.processes.facts(&sent.sender);
        supervisor::sender(sent, &by, self.who, self.is_parent(sent))
    }

    /// The time limit that a supervising parent enforces with such a signal.
    fn supervisor_limit(&self, sent: &Signal) -> Option<String> {
        let pool = || self.world.processes.pool([&sent.target, &sent.sender]);
        self.is_parent(sent).then(|| supervisor::limit(sent, pool())).flatten()
    }
}
