//! One request under way: its attempts, nginx's error page, and what explains what the client got.

use bstr::BString;

use super::attempt::FailedAttempt;
use super::cause::{Diagnosis, complete, diagnose};
use super::infer_symptom;
use super::verdict::{Certainty, Symptom};
use super::world::{PeerFailure, World};
use crate::event::{Answer, Attempt, Nanos, Pid, Request, Socket, State};

/// Attempts kept per request; nginx's own limit is the number of peers.
const TRIES: usize = 64;
/// Messages about one attempt whose number is unknown come in one go.
const ONE_GO: u64 = 5_000_000;

/// One attempt as nginx made it.
#[derive(Clone, Debug)]
pub(super) struct TrackedAttempt {
    pub(super) index: u32,
    subrequest: Option<u64>,
    pub(super) failure: Option<FailedAttempt>,
    pub(super) diagnosis: Option<Diagnosis>,
    pub(super) stderr: bool,
}

/// A request under way.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) first_at: Nanos,
    pub(super) tries: Vec<TrackedAttempt>,
    pub(super) request_line: Option<BString>,
    pub(super) host: Option<BString>,
    pub(super) client: Option<BString>,
    /// nginx's error page, waiting for the answer.
    pub(super) page: Option<(Nanos, Box<Request>)>,
    /// The status that auth_request did not know.
    pub(super) auth: Option<u16>,
    /// A subrequest got an error page of its own.
    pub(super) sub_failed: bool,
    /// The response was cut after its header: when, and the status that the client had most likely got.
    pub(super) cut: Option<(Nanos, u16)>,
    /// nginx's last state as it answered, with its number: an attempt that did not fail, if no message was about it.
    pub(super) answered: Option<(u32, State)>,
}

impl Pending {
    /// A request of which one attempt is all that is known.
    pub(super) fn only(one: TrackedAttempt) -> Self {
        Self { tries: vec![one], ..Self::default() }
    }

    /// The attempt that a message is about.
    pub(super) fn find(&mut self, attempt: &Attempt, at: Nanos) -> &mut TrackedAttempt {
        let (index, subrequest) = (attempt.index, attempt.subrequest);
        let known = self.tries.iter().rposition(|one| {
            let moment = |failure: &FailedAttempt| at.0.saturating_sub(failure.at.0) < ONE_GO;
            one.subrequest == subrequest
                && if index > 0 { one.index == index } else { one.failure.as_ref().is_none_or(moment) }
        });
        let at = known.unwrap_or_else(|| {
            if self.tries.len() == TRIES {
                self.tries.remove(0);
            }
            // Most requests are tried once, and tries are large.
            self.tries.reserve_exact(usize::from(self.tries.is_empty()));
            self.tries.push(TrackedAttempt {
                index,
                subrequest,
                failure: None,
                diagnosis: None,
                stderr: false,
            });
            self.tries.len() - 1
        });
        &mut self.tries[at]
    }

    pub(super) fn fail(
        &mut self,
        world: &mut World,
        at: Nanos,
        mut attempt: Attempt,
        (symptom, underlying): (Symptom, Symptom),
    ) {
        self.name(&mut attempt);
        if underlying == Symptom::NoLiveUpstreams {
            self.remember_group(world, &attempt);
        }
        let one = self.find(&attempt, at);
        match &mut one.failure {
            Some(known) => known.complete(attempt),
            None => one.failure = Some(FailedAttempt::reported(attempt, at, symptom, underlying)),
        }
        one.judge(world);
    }

    /// auth_request got a status that it does not know.
    pub(super) fn auth_failed(&mut self, mut attempt: Attempt, status: u16) {
        self.name(&mut attempt);
        self.auth = Some(status);
    }

    /// Takes what a message says of the request, where that is not known yet.
    fn name(&mut self, attempt: &mut Attempt) {
        let first = |known: &mut Option<BString>, told: &mut Option<BString>| {
            if known.is_none() {
                *known = told.take();
            }
        };
        first(&mut self.request_line, &mut attempt.request_line);
        first(&mut self.host, &mut attempt.host);
        first(&mut self.client, &mut attempt.client);
    }

    /// The peers that were tried before an attempt found none alive.
    fn remember_group(&self, world: &mut World, attempt: &Attempt) {
        let Some(group) = &attempt.peer else { return };
        let tried = self.tries.iter().filter_map(|one| one.failure.as_ref());
        let peers =
            tried.filter(|one| one.symptom != Symptom::NoLiveUpstreams).filter_map(|one| one.peer.clone());
        world.group_tried(attempt.key.worker, group.clone(), peers.collect());
    }

    /// Whether an attempt belongs to a later request that has the same struct and client connection: the answer to
    /// this one was not observed. nginx numbers a request's attempts upwards and says each thing once.
    pub(super) fn is_over(&self, attempt: &Attempt, at: Nanos) -> bool {
        if attempt.subrequest.is_some() || attempt.index == 0 {
            return false;
        }
        if let (Some(known), Some(now)) = (&self.request_line, &attempt.request_line)
            && !known.starts_with(now)
            && !now.starts_with(known)
        {
            return true;
        }
        let own = || self.tries.iter().filter(|one| one.subrequest.is_none());
        let last = own().map(|one| one.index).max().unwrap_or(0);
        if attempt.index < last || self.page.is_some() && attempt.index <= last {
            return true;
        }
        let said = own().filter(|one| one.index == attempt.index).find_map(|one| one.failure.as_ref());
        said.is_some_and(|failure| {
            let later = at.0.saturating_sub(failure.at.0) >= ONE_GO;
            let began = |socket: &Option<Box<Socket>>| socket.as_ref().and_then(|socket| socket.connect_at);
            let other =
                matches!((began(&failure.socket), began(&attempt.socket)), (Some(a), Some(b)) if a != b);
            later && (failure.nginx.text == attempt.text || other)
        })
    }

    /// Whether this is another request in the same struct on the same client connection.
    pub(super) fn is_other(&self, request: &Request) -> bool {
        let Some((_, page)) = &self.page else { return false };
        matches!((&page.request_line, &request.request_line), (Some(a), Some(b)) if a != b)
    }

    /// Adds what nginx's states tell beyond its messages.
    pub(super) fn complete(&mut self, world: &mut World, at: Nanos, request: &Request) {
        let states = request.states.as_deref().unwrap_or_default();
        for one in self.tries.iter_mut().filter(|one| one.subrequest.is_none()) {
            let state = one.index.checked_sub(1).and_then(|index| states.get(index as usize));
            if let (Some(failure), Some(state)) = (&mut one.failure, state) {
                failure.state = Some(state.clone());
            }
        }
        let last = u32::try_from(states.len()).unwrap_or(u32::MAX);
        let mut own = self.tries.iter().filter(|one| one.subrequest.is_none());
        let explained = own.any(|one| one.failure.is_some() && (one.index >= last || one.index == 0));
        let stderr = self.tries.iter().any(|one| one.subrequest.is_none() && one.index == last && one.stderr);
        if !explained && let Some(failure) = infer_symptom::infer(world, at, request, stderr) {
            self.add(world, last, failure);
        }
    }

    fn add(&mut self, world: &mut World, index: u32, failure: FailedAttempt) {
        self.tries.retain(|one| one.subrequest.is_some() || one.index != index || one.failure.is_some());
        let mut one = TrackedAttempt {
            index,
            subrequest: None,
            failure: Some(failure),
            diagnosis: None,
            stderr: false,
        };
        one.judge(world);
        self.tries.push(one);
    }

    /// After failed attempts the last peer's own error was passed to the client.
    pub(super) fn passed_on(&mut self, world: &mut World, worker: Pid, at: Nanos, answer: &Answer) {
        let state = answer.last_state.clone().unwrap_or_else(|| State { status: 502, ..State::default() });
        self.add(world, answer.states, infer_symptom::upstream_status(worker, at, state));
    }

    pub(super) fn failed_main(&self) -> bool {
        self.tries.iter().any(|one| one.subrequest.is_none() && one.failure.is_some())
    }

    /// Takes the attempts that explain what the client got: the request's own, or those of its auth_request.
    pub(super) fn deciding(&mut self) -> Vec<TrackedAttempt> {
        let tries = std::mem::take(&mut self.tries);
        if tries.iter().all(TrackedAttempt::is_main) && tries.iter().any(|one| one.failure.is_some()) {
            return tries;
        }
        let (own, others): (Vec<_>, Vec<_>) = tries.into_iter().partition(TrackedAttempt::is_main);
        if own.iter().any(|one| one.failure.is_some()) {
            return own;
        }
        let by_auth = self.page.as_ref().is_some_and(|(_, page)| {
            let muted = page.is_muted() && self.sub_failed;
            page.status == 500 && (self.auth.is_some() || muted)
        });
        if by_auth { others } else { Vec::new() }
    }

    /// It ended: a record of the reason may have come after the attempt's.
    pub(super) fn reconsider(&mut self, world: &mut World) {
        let doubtful = |one: &&mut TrackedAttempt| {
            one.diagnosis.as_ref().is_some_and(|found| found.certainty() != Certainty::Proven)
        };
        self.tries.iter_mut().filter(doubtful).for_each(|one| one.judge(world));
    }

    /// What was awaited has had time to come.
    pub(super) fn look_again(&mut self, world: &mut World) {
        self.tries.iter_mut().filter(|one| one.awaits() > 0).for_each(|one| one.complete(world));
    }

    /// How much longer records may tell more of its attempts (nanoseconds).
    pub(super) fn awaits(&self) -> u64 {
        self.tries.iter().map(TrackedAttempt::awaits).max().unwrap_or(0)
    }

    /// The upstream's own error that an auth_request met.
    pub(super) fn auth_status(&self) -> Option<u16> {
        self.auth.filter(|status| *status >= 500)
    }
}

impl TrackedAttempt {
    /// An upstream's own error as an attempt.
    pub(super) fn upstream_status(failure: FailedAttempt, world: &mut World) -> Self {
        let mut one =
            Self { index: 0, subrequest: None, failure: Some(failure), diagnosis: None, stderr: false };
        one.judge(world);
        one
    }

    /// How much longer records may tell more of it (nanoseconds).
    pub(super) fn awaits(&self) -> u64 {
        self.diagnosis.as_ref().map_or(0, |found| found.awaits)
    }

    /// Whether it belongs to the client's own request, not to a subrequest.
    pub(super) fn is_main(&self) -> bool {
        self.subrequest.is_none()
    }

    /// Finds the cause, and keeps the better of two when records came late.
    pub(super) fn judge(&mut self, world: &mut World) {
        let Some(failure) = &self.failure else { return };
        let found = diagnose(world, failure);
        self.keep(world, found);
    }

    /// The same by what was awaited alone.
    fn complete(&mut self, world: &mut World) {
        let Some((failure, known)) = self.failure.as_ref().zip(self.diagnosis.as_ref()) else { return };
        let found = complete(world, failure, known);
        self.keep(world, found);
    }

    fn keep(&mut self, world: &mut World, found: Diagnosis) {
        let Some(failure) = &self.failure else { return };
        let rank = |one: &Diagnosis| match one.certainty() {
            Certainty::Proven => 2,
            Certainty::Inferred => 1,
            Certainty::Unknown => 0,
        };
        // What was awaited outdoes what was concluded without, if it explains anything.
        let better =
            |known: &Diagnosis| rank(known) > rank(&found) && (known.awaits == 0 || rank(&found) == 0);
        if self.diagnosis.as_ref().is_some_and(better) {
            return;
        }
        if let (Some(peer), true) = (&failure.peer, failure.underlying != Symptom::NoLiveUpstreams) {
            let last = PeerFailure { at: failure.at, symptom: failure.symptom, cause: found.finding.cause() };
            world.peer_failed(failure.worker, peer.clone(), last);
        }
        self.diagnosis = Some(found);
    }
}
