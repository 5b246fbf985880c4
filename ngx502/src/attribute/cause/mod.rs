//! Why an attempt failed. Each family of causes has its file; each rule states the evidence that it needs, and without
//! it the answer is `unknown` with what is missing.

mod connection;
mod death;
mod denied;
mod listener;
mod local;
mod peers;
mod protocol;
mod timeout;

use super::attempt::Failure;
use super::named::Named;
use super::text::Text;
use super::verdict::{Cause, Certainty, Evidence, Symptom};
use super::wording;
use super::world::World;
use crate::event::{Endpoint, Nanos};

/// Pieces of evidence that most verdicts have room for at once.
const EVIDENCE: usize = 8;

/// A cause with what supports it.
#[derive(Clone, Debug)]
pub(super) struct Diagnosis {
    pub(super) cause: Cause,
    pub(super) certainty: Certainty,
    pub(super) summary: Text,
    pub(super) evidence: Vec<Evidence>,
    pub(super) fix: Vec<Text>,
    /// The upstream's process.
    pub(super) process: Option<Named>,
}

impl Diagnosis {
    fn new(cause: Cause, certainty: Certainty, summary: impl Into<Text>) -> Self {
        let evidence = Vec::with_capacity(EVIDENCE);
        Self { cause, certainty, summary: summary.into(), evidence, fix: Vec::new(), process: None }
    }

    fn proven(cause: Cause, summary: impl Into<Text>) -> Self {
        Self::new(cause, Certainty::Proven, summary)
    }

    fn inferred(cause: Cause, summary: impl Into<Text>) -> Self {
        Self::new(cause, Certainty::Inferred, summary)
    }

    fn unknown(summary: impl Into<Text>) -> Self {
        Self::new(Cause::Unknown, Certainty::Unknown, summary)
    }

    fn seen(mut self, at: Nanos, event: &'static str, text: impl Into<Text>) -> Self {
        self.evidence.push(Evidence { at, event, text: text.into() });
        self
    }

    fn of(mut self, process: Named) -> Self {
        self.process = Some(process);
        self
    }

    /// One link of the chain is concluded, not observed; the summary says which.
    fn doubt(&mut self, which: &'static str) {
        self.certainty = Certainty::Inferred;
        self.summary.push(which);
    }

    fn fix(mut self, lines: impl IntoIterator<Item: Into<Text>>) -> Self {
        self.fix.extend(lines.into_iter().map(Into::into));
        self
    }
}

/// Finds the cause of a failure in what is known by now.
pub(super) fn diagnose(world: &World, failure: &Failure) -> Diagnosis {
    let mut found = match failure.mechanism {
        Symptom::ConnectRefused | Symptom::SocketRefused | Symptom::SocketMissing => {
            listener::diagnose(world, failure)
        }
        Symptom::ConnectFailed => Diagnosis::unknown(wording::connection::untold(failure))
            .fix((!failure.missed).then(wording::connection::let_nginx_tell)),
        Symptom::ConnectUnreachable => local::unreachable(world, failure),
        Symptom::ConnectDenied | Symptom::SocketDenied => denied::diagnose(world, failure),
        Symptom::AddressExhausted => local::address_exhausted(world, failure),
        Symptom::FdExhausted => local::descriptors(world, failure),
        Symptom::NameUnresolved => local::dns(failure),
        Symptom::SocketBacklogFull => timeout::backlog_full(world, failure),
        Symptom::ConnectTimedOut => timeout::connecting(world, failure),
        Symptom::ReadTimedOut => timeout::reading(world, failure),
        Symptom::TlsFailed => protocol::tls(world, failure),
        Symptom::SendFailed | Symptom::Reset | Symptom::ClosedEarly => connection::diagnose(world, failure),
        Symptom::HeaderInvalid => protocol::header_invalid(failure),
        Symptom::ResponseFailed => protocol::response_failed(failure),
        Symptom::HeaderTooBig => protocol::header_too_big(failure),
        Symptom::NoLiveUpstreams => peers::diagnose(world, failure),
        Symptom::UpstreamStatus => protocol::upstream_status(failure),
        Symptom::ResponseTruncated => Diagnosis::unknown(wording::connection::cut()),
    };
    if failure.concluded && found.certainty == Certainty::Proven {
        found.doubt(wording::connection::concluded(failure.missed));
    }
    let text = wording::nginx_said(failure).into();
    found.evidence.push(Evidence { at: failure.at, event: "nginx", text });
    kernel_view(failure, &mut found.evidence);
    found.evidence.sort_by_key(|evidence| evidence.at);
    if found.process.is_none() {
        found.process = sole_listener(world, failure);
    }
    found
}

/// What the upstream socket itself went through.
fn kernel_view(failure: &Failure, evidence: &mut Vec<Evidence>) {
    let Some(socket) = &failure.socket else { return };
    let steps = [
        (socket.connect_at, "connect"),
        (socket.established_at, "established"),
        (socket.sent_at, "send"),
        (socket.first_byte_at, "first-byte"),
        (socket.fin_at, "fin"),
        (socket.reset_at, "reset"),
        (socket.reset_sent_at, "reset-sent"),
    ];
    let there = wording::target(failure);
    for (at, event) in steps {
        evidence.extend(at.map(|at| Evidence { at, event, text: wording::connection::step(event, &there) }));
    }
}

/// The process that listens there, when all holders have one name (a master and its workers).
fn sole_listener(world: &World, failure: &Failure) -> Option<Named> {
    let endpoint = failure.endpoint()?;
    let mut listeners = world.listeners.living(failure.netns(), &endpoint);
    let first = listeners.next()?;
    let facts = world.processes.facts(first.holders.first()?);
    let same = |one: &crate::event::ProcessRef| world.processes.facts(one).comm == facts.comm;
    (first.holders.iter().all(same) && listeners.all(|other| other.holders.iter().all(same))).then_some(facts)
}

/// Whether the upstream is on this host, as far as records can tell.
fn on_this_host(world: &World, failure: &Failure) -> bool {
    let closer = failure.socket.as_ref().is_some_and(|socket| socket.closer.is_some());
    let bound_here = |endpoint: &Endpoint| {
        let exact = |bound: &Endpoint| bound == endpoint;
        world.listeners.living(failure.netns(), endpoint).any(|one| exact(&one.bound))
            || world.listeners.gone(failure.netns(), endpoint).any(|one| exact(&one.bound))
    };
    failure.own_address() || closer || failure.endpoint().is_some_and(|endpoint| bound_here(&endpoint))
}

/// Whether another network namespace of this host has or had a listener that the address could mean: a container's
/// address looks like another host's.
fn maybe_container(world: &World, failure: &Failure) -> bool {
    const ANY: u32 = 0;
    failure.endpoint().is_some_and(|endpoint| {
        world.listeners.living(ANY, &endpoint).next().is_some()
            || world.listeners.gone(ANY, &endpoint).next().is_some()
    })
}
