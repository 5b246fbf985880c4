//! Why an attempt failed. Each family of causes has its file; each rule states the evidence that it needs, and without
//! it the answer is `unknown` with what is missing.

mod connection;
mod death;
mod denied;
mod hops;
mod listener;
mod local;
mod moved;
mod peers;
mod protocol;
mod waiting;
mod waits;

use std::rc::Rc;

use super::attempt::FailedAttempt;
use super::destination::Destination;
use super::finding::evidence::{Event, Evidence, Fact};
use super::finding::hops::Hop;
use super::finding::{Doubt, Facts, Finding, LogWords, Unknown};
use super::verdict::{Certainty, ProcessFacts, Symptom};
use super::world::World;
use crate::event::{Nanos, ProcessRef};

/// Records of different CPUs may be out of order by this much (nanoseconds): what made a failure may carry a later time.
const DISORDER: u64 = 50_000_000;
/// How long the end of a process is awaited that closed a connection alive: many close first and exit then.
pub(super) const SETTLE: u64 = 150_000_000;
/// How long a look at what processes wait for is awaited: it takes up to half a second.
pub(super) const LOOK: u64 = 800_000_000;
/// Pieces of evidence that most verdicts have room for at once.
const EVIDENCE: usize = 8;

/// A cause with what supports it.
#[derive(Clone, Debug)]
pub(super) struct Diagnosis {
    pub(super) finding: Finding,
    pub(super) evidence: Vec<Evidence>,
    /// The upstream's process.
    pub(super) process: Option<Rc<ProcessFacts>>,
    /// The way from nginx to where the cause is; empty where nginx's own socket leads there.
    pub(super) hops: Vec<Hop>,
    /// How much longer records may tell more (nanoseconds); 0 where nothing is awaited.
    pub(super) awaits: u64,
    /// What nginx's own socket told, where a look at processes may tell more.
    base: Option<Rc<Diagnosis>>,
}

impl Diagnosis {
    /// A cause that the facts prove, or none.
    fn new(facts: impl Into<Facts>) -> Self {
        Self::of_finding(Finding::new(facts))
    }

    /// A cause of which one link is concluded.
    fn inferred(facts: impl Into<Facts>, doubt: Doubt) -> Self {
        Self::of_finding(Finding::inferred(facts, doubt))
    }

    fn of_finding(finding: Finding) -> Self {
        let evidence = Vec::with_capacity(EVIDENCE);
        Self { finding, evidence, process: None, hops: Vec::new(), awaits: 0, base: None }
    }

    pub(super) fn certainty(&self) -> Certainty {
        self.finding.certainty()
    }

    fn is_proven(&self) -> bool {
        self.certainty() == Certainty::Proven
    }

    fn with_evidence(mut self, at: Nanos, fact: Fact) -> Self {
        self.evidence.push(Evidence { at, fact, leg: None });
        self
    }

    fn with_process(mut self, process: impl Into<Option<Rc<ProcessFacts>>>) -> Self {
        self.process = process.into();
        self
    }

    /// One more link is concluded, not observed.
    fn with_doubt(mut self, doubt: Doubt) -> Self {
        self.finding.doubts.push(doubt);
        self
    }

    /// The same where the cause would be proven else.
    fn unless_proven_by(self, doubt: impl FnOnce() -> Option<Doubt>) -> Self {
        match self.is_proven().then(doubt).flatten() {
            Some(doubt) => self.with_doubt(doubt),
            None => self,
        }
    }
}

/// Finds the cause of a failure in what is known by now.
pub(super) fn diagnose(world: &World, failure: &FailedAttempt) -> Diagnosis {
    let missed = failure.nginx.words == LogWords::Missed;
    let found = explain(world, failure);
    let mut found = found.unless_proven_by(|| failure.concluded.then_some(Doubt::ErrnoFromLookup(missed)));
    kernel_view(failure, &mut found.evidence);
    found.evidence.push(Evidence { at: failure.at, fact: Fact::Nginx, leg: None });
    lead_on(world, failure, found, None)
}

/// Adds what a look at the processes behind a failure has told meanwhile, and nothing else that was learned since.
pub(super) fn complete(world: &World, failure: &FailedAttempt, known: &Diagnosis) -> Diagnosis {
    match &known.base {
        Some(base) => lead_on(world, failure, (**base).clone(), Some(known.clone())),
        None => diagnose(world, failure),
    }
}

/// From what nginx's own socket tells to where the cause is: by what processes wait for, and by what forwarders did, unless
/// that is known.
fn lead_on(
    world: &World,
    failure: &FailedAttempt,
    found: Diagnosis,
    followed: Option<Diagnosis>,
) -> Diagnosis {
    let mut asked = waits::candidates(world, failure, &found);
    let base = (!asked.is_empty()).then(|| Rc::new(found.clone()));
    let candidate = || world.processes.facts_of(*asked.first()?);
    let process = found.process.clone().or_else(candidate);
    let passes_on = process.is_some_and(|process| waits::is_forwarder(&process));
    // Who was seen to have the connection and to wait for none of its own is not led on by one.
    let tells =
        |looked: &Diagnosis| matches!(looked.finding.facts, Facts::Stuck(_)) || found.process.is_some();
    let looked = waits::explain(world, failure, &found).filter(|looked| !passes_on && tells(looked));
    let mut found = looked.unwrap_or_else(|| {
        let followed = followed.unwrap_or_else(|| hops::follow(world, failure, found));
        asked.extend(waits::candidates(world, failure, &followed));
        let deeper = if followed.hops.is_empty() { None } else { waits::explain(world, failure, &followed) };
        deeper.unwrap_or(followed)
    });
    let looked = waits::are_looked_at(world, failure, &asked);
    found.awaits = match found.finding.closer_lives() {
        true => SETTLE,
        false if asked.is_empty() || looked => 0,
        false => LOOK,
    };
    found.base = base;
    found.evidence.sort_by_key(|evidence| evidence.at);
    if found.process.is_none() {
        found.process = sole_listener(world, failure);
    }
    found
}

/// What the socket itself leads to.
fn explain(world: &World, failure: &FailedAttempt) -> Diagnosis {
    match failure.underlying {
        Symptom::ConnectRefused | Symptom::SocketRefused | Symptom::SocketMissing => {
            listener::diagnose(world, failure)
        }
        Symptom::ConnectFailed => Diagnosis::new(Unknown::NoConnection(failure.endpoint().is_some())),
        Symptom::ConnectUnreachable => local::unreachable(world, failure),
        Symptom::ConnectDenied | Symptom::SocketDenied => denied::diagnose(world, failure),
        Symptom::AddressExhausted => local::address_exhausted(world, failure),
        Symptom::FdExhausted => local::descriptors(world, failure),
        Symptom::NameUnresolved => local::dns(failure),
        Symptom::SocketBacklogFull => waiting::backlog_full(world, failure),
        Symptom::ConnectTimedOut => waiting::connecting(world, failure),
        Symptom::ReadTimedOut => waiting::reading(world, failure),
        Symptom::TlsFailed => protocol::tls(world, failure),
        // With TLS 1.3 an alert may come when nginx has already sent the request.
        Symptom::SendFailed | Symptom::Reset | Symptom::ClosedEarly => {
            protocol::alert(failure).unwrap_or_else(|| connection::diagnose(world, failure))
        }
        Symptom::HeaderInvalid => protocol::header_invalid(world, failure),
        Symptom::ResponseFailed => protocol::response_failed(),
        Symptom::HeaderTooBig => protocol::header_too_big(failure),
        Symptom::NoLiveUpstreams => peers::diagnose(world, failure),
        Symptom::UpstreamStatus => protocol::upstream_status(failure),
        Symptom::ResponseTruncated => local::storage(failure),
    }
}

/// What the upstream socket itself went through.
fn kernel_view(failure: &FailedAttempt, evidence: &mut Vec<Evidence>) {
    let Some(socket) = &failure.socket else { return };
    let moments = [
        (socket.connect_at, Event::Connect),
        (socket.established_at, Event::Established),
        (socket.sent_at, Event::Send),
        (socket.first_byte_at, Event::FirstByte),
        (socket.fin_at, Event::Fin),
        (socket.reset_at, Event::Reset),
        (socket.reset_sent_at, Event::ResetSent),
    ];
    for (at, event) in moments {
        evidence.extend(at.map(|at| Evidence { at, fact: Fact::Socket(event), leg: None }));
    }
}

/// The process that listens there, when all holders have one name (a master and its workers).
fn sole_listener(world: &World, failure: &FailedAttempt) -> Option<Rc<ProcessFacts>> {
    let there = Destination::of(world, failure)?;
    let mut listeners = world.listeners.living(&there);
    let first = listeners.next()?;
    let facts = world.processes.facts(first.holders.first()?);
    let same = |one: &ProcessRef| world.processes.facts(one).comm == facts.comm;
    (first.holders.iter().all(same) && listeners.all(|other| other.holders.iter().all(same))).then_some(facts)
}

/// The one process that holds the listeners there.
fn only_holder<'a>(world: &'a World, there: &'a Destination) -> Option<&'a ProcessRef> {
    let mut holders = world.listeners.living(there).flat_map(|one| &one.holders);
    match (holders.next(), holders.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}

/// Whether the upstream is on this host, as far as records can tell.
fn on_this_host(world: &World, failure: &FailedAttempt) -> bool {
    let closer = failure.socket.as_ref().is_some_and(|socket| socket.closer.is_some());
    closer || Destination::of(world, failure).is_some_and(|there| there.is_here(world))
}
