//! From records to verdicts: pure, no clock, no I/O.
//!
//! [`Attributor`] takes [`Record`]s in their order and appends [`Outcome`]s. The order of the flow: `symptom` reads
//! nginx's words, `requests` gathers the attempts of each request (`pending`) until its end is known, `cause` explains each failed
//! attempt from the `world` (`listeners`, `processes`, look-ups), `verdicts` writes the outcome. A cause is a `finding`:
//! data, whose sentences are made when they are shown. The same records give the same outcomes, live and in a replay.

mod attempt;
mod bounded;
mod cause;
mod closed_paths;
mod destination;
pub mod finding;
mod homes;
mod infer_symptom;
mod listeners;
mod pending;
mod processes;
mod requests;
mod servers;
mod symptom;
#[cfg(test)]
mod tests;
pub mod verdict;
mod verdicts;
mod world;

use std::rc::Rc;

use self::requests::Requests;
use self::verdict::Outcome;
use self::verdicts::Context;
use self::world::World;
use crate::event::{Body, Nanos, Record};
use crate::session::Session;

/// How long after its end a request may be told (nanoseconds), the disorder of records included.
pub const LATE: u64 = cause::LOOK + 100_000_000;

/// What the user wants to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Only verdicts with one of these statuses; `None`: all.
    pub statuses: Option<Vec<u16>>,
    /// Also verdicts about errors that the upstream itself answered and nginx passed on.
    pub passthrough: bool,
}

impl Options {
    /// What the user of a trace wanted to see.
    pub fn of(session: &Session) -> Self {
        Self { statuses: session.statuses.clone(), passthrough: session.passthrough }
    }

    /// Whether the user wants to see an outcome.
    fn wants(&self, outcome: &Outcome) -> bool {
        let Some(statuses) = &self.statuses else { return true };
        match outcome {
            Outcome::Verdict(verdict) => statuses.contains(&verdict.status),
            Outcome::NotUpstream { status } => statuses.contains(status),
            Outcome::Rescued(_) | Outcome::Lost { .. } | Outcome::Notice { .. } => true,
        }
    }
}

/// The attribution engine.
#[derive(Debug)]
pub struct Attributor {
    world: World,
    requests: Requests,
    options: Options,
    host: Rc<str>,
}

impl Attributor {
    /// An engine for the records of one host's trace.
    pub fn new(session: &Session, options: Options) -> Self {
        Self {
            world: World::new(session),
            requests: Requests::new(),
            options,
            host: session.host.as_str().into(),
        }
    }

    /// Takes the next record and appends the outcomes that it decides.
    pub fn feed(&mut self, record: Record, out: &mut Vec<Outcome>) {
        let Record { at, body } = record;
        let now = self.world.now.max(at);
        self.world.now = now;
        self.world.learn(at, &body);
        let (requests, mut context) = self.parts(out);
        match body {
            Body::Attempt(attempt) => requests.attempt(&mut context, at, attempt),
            Body::Request(request) => requests.request(&mut context, at, request),
            Body::Answer(answer) => requests.answer(&mut context, at, answer),
            Body::Exit(exit) => requests.worker_gone(&mut context, exit.process.pid),
            Body::Lost { events, reason } => context.emit(Outcome::Lost { events, reason }),
            Body::Notice { topic, text } => context.emit(Outcome::Notice { at, topic, text }),
            _ => {}
        }
        requests.sweep(&mut context, now);
    }

    /// The trace ends: appends every verdict that was still waiting for its answer.
    pub fn finish(&mut self, out: &mut Vec<Outcome>) {
        let (requests, mut context) = self.parts(out);
        requests.finish(&mut context);
    }

    /// Entries of bounded tables that were forgotten for lack of room: each may have cost a cause.
    pub fn evicted(&self) -> u64 {
        self.world.evicted() + self.requests.evicted()
    }

    /// The latest record's time.
    pub fn now(&self) -> Nanos {
        self.world.now
    }

    fn parts<'a>(&'a mut self, out: &'a mut Vec<Outcome>) -> (&'a mut Requests, Context<'a>) {
        let context = Context { world: &mut self.world, options: &self.options, host: &self.host, out };
        (&mut self.requests, context)
    }
}
