//! From a request that ended to its [`Outcome`].

use std::rc::Rc;

use bstr::{BString, ByteSlice};

use super::Options;
use super::attempt::or_nginx;
use super::infer_symptom;
use super::pending::{Pending, TrackedAttempt};
use super::verdict::{AttemptFacts, Cause, Outcome, RequestFacts, Symptom, Times, UpstreamFacts, Verdict};
use super::world::World;
use crate::event::{Answer, Nanos, RequestKey, State};

/// Evidence kept per verdict.
const EVIDENCE: usize = 64;

/// Where requests end: the world that explains them, and the list that outcomes go to.
pub(super) struct Context<'a> {
    pub(super) world: &'a mut World,
    pub(super) options: &'a Options,
    pub(super) host: &'a Rc<str>,
    pub(super) out: &'a mut Vec<Outcome>,
}

/// How a request ended.
#[derive(Debug)]
pub(super) struct RequestEnd {
    pub(super) at: Nanos,
    pub(super) status: u16,
    /// The client got an answer all the same.
    pub(super) rescued: bool,
    /// The client got a part of the body only.
    pub(super) cut: bool,
}

impl Context<'_> {
    pub(super) fn emit(&mut self, outcome: Outcome) {
        if self.options.wants(&outcome) {
            self.out.push(outcome);
        }
    }

    /// Says what became of a request.
    pub(super) fn conclude(&mut self, key: RequestKey, mut pending: Box<Pending>, ended: &RequestEnd) {
        let mut tries = pending.deciding();
        if let (true, Some(status)) = (tries.iter().all(|one| one.failure.is_none()), pending.auth_status()) {
            let state = State { status, ..State::default() };
            tries.push(TrackedAttempt::upstream_status(
                infer_symptom::upstream_status(key.worker, ended.at, state),
                self.world,
            ));
        }
        match tries.iter().rposition(|one| one.failure.is_some()).map(|last| other_family(&tries, last)) {
            Some(last) => {
                let verdict = Box::new(self.verdict(key, &mut pending, (tries, last), ended));
                let rescued = ended.rescued && !ended.cut;
                self.emit(if rescued { Outcome::Rescued(verdict) } else { Outcome::Verdict(verdict) });
            }
            None if pending.page.is_some() && ended.status >= 500 => {
                self.emit(Outcome::NotUpstream { status: ended.status });
            }
            None => {}
        }
    }

    /// An answer without a failed attempt: with `--passthrough`, the upstream's own 502 or 504.
    pub(super) fn passed_on(&mut self, key: RequestKey, at: Nanos, answer: &Answer) {
        let Some(state) = answer.last_state.clone().filter(|state| state.header_ms.is_some()) else { return };
        let status = answer.status.unwrap_or(state.status);
        if self.options.passthrough
            && matches!(status, 502 | 504)
            && state.status == status
            && !answer.client_gone
        {
            let one = TrackedAttempt::upstream_status(
                infer_symptom::upstream_status(key.worker, at, state),
                self.world,
            );
            let pending = Box::new(Pending::only(one));
            self.conclude(key, pending, &RequestEnd { at, status, rescued: false, cut: false });
        }
    }

    fn verdict(
        &self,
        key: RequestKey,
        pending: &mut Pending,
        (mut tries, last): (Vec<TrackedAttempt>, usize),
        ended: &RequestEnd,
    ) -> Verdict {
        let attempts = attempts(pending, &tries);
        let last = tries.swap_remove(last);
        let mut failure = last.failure.expect("the deciding attempt failed");
        let mut found = last.diagnosis.expect("a failed attempt is judged as it is filed");
        found.evidence.truncate(EVIDENCE);
        let (unix, latency, target) = (failure.unix(), failure.times(), failure.target());
        failure.nginx.socket_seen = failure.socket.is_some();
        failure.nginx.named = failure.peer.is_some() || failure.endpoint().is_some();
        Verdict {
            at: ended.at,
            status: ended.status,
            host: Rc::clone(self.host),
            request: request_facts(pending),
            worker: self.world.worker_facts(key.worker),
            upstream: failure.peer.map(|address| UpstreamFacts { address, unix, process: found.process }),
            symptom: failure.symptom,
            cause: found.finding.cause(),
            certainty: found.finding.certainty(),
            finding: found.finding,
            target,
            nginx: failure.nginx,
            hops: found.hops,
            evidence: found.evidence,
            attempts,
            errno: failure.errno,
            latency,
        }
    }
}

/// The attempt that decides: the last one, unless that went to the other loopback address of a name that means both
/// (`localhost`), where nobody ever listened, and the one before tells what became of the listener.
fn other_family(tries: &[TrackedAttempt], last: usize) -> usize {
    let cause = |one: &TrackedAttempt| one.diagnosis.as_ref().map(|found| found.finding.cause());
    let place =
        |one: &TrackedAttempt| one.failure.as_ref()?.remote().filter(|remote| remote.ip().is_loopback());
    let Some(there) = place(&tries[last]) else { return last };
    if cause(&tries[last]) != Some(Cause::NotListening) {
        return last;
    }
    let same_name = |one: &TrackedAttempt| {
        let told = !matches!(cause(one), None | Some(Cause::NotListening | Cause::Unknown));
        told && place(one)
            .is_some_and(|other| other.port() == there.port() && other.is_ipv4() != there.is_ipv4())
    };
    tries[..last].iter().rposition(same_name).unwrap_or(last)
}

/// Every attempt, those that nginx did not word included.
fn attempts(pending: &Pending, tries: &[TrackedAttempt]) -> Vec<AttemptFacts> {
    let states = pending.page.as_ref().and_then(|(_, page)| page.states.as_deref()).unwrap_or_default();
    let own = tries.iter().all(|one| one.is_main());
    let mut all: Vec<(u32, AttemptFacts)> =
        tries.iter().filter_map(|one| Some((one.index, worded(one)?))).collect();
    let answered = pending.answered.iter().map(|(index, state)| (*index, state));
    let silent = (1..).zip(states).chain(answered).filter(|(_, state)| own && **state != State::default());
    for (index, state) in silent {
        if !all.iter().any(|(known, _)| *known == index) {
            let times = or_nginx(Times::default(), state);
            let facts =
                AttemptFacts { upstream: state.peer.clone(), symptom: None, cause: None, errno: None, times };
            all.push((index, facts));
        }
    }
    if all.iter().all(|(index, _)| *index > 0) && own {
        all.sort_by_key(|(index, _)| *index);
    }
    all.into_iter().map(|(_, facts)| facts).collect()
}

fn worded(one: &TrackedAttempt) -> Option<AttemptFacts> {
    // Without an address nginx made no attempt.
    let failure = one.failure.as_ref().filter(|failure| failure.symptom != Symptom::NameUnresolved)?;
    Some(AttemptFacts {
        upstream: failure.peer.clone(),
        symptom: Some(failure.symptom),
        cause: one.diagnosis.as_ref().map(|found| found.finding.cause()),
        errno: failure.errno,
        times: failure.times(),
    })
}

/// Takes what is known of the request; nobody asks the pending one again.
fn request_facts(pending: &mut Pending) -> Option<RequestFacts> {
    let Pending { page, request_line, host, client, .. } = pending;
    let mut page = page.as_mut().map(|(_, page)| page);
    let line = page.as_mut().and_then(|page| page.request_line.take()).or(request_line.take());
    let (method, uri) = line.map_or((None, None), split_line);
    let facts = RequestFacts {
        method,
        uri,
        host: page.as_mut().and_then(|page| page.host.take()).or(host.take()),
        client: page.and_then(|page| page.client.take()).or(client.take()),
    };
    let known =
        facts.method.is_some() || facts.uri.is_some() || facts.host.is_some() || facts.client.is_some();
    known.then_some(facts)
}

/// Method and URI of a request line; HTTP/0.9 lines and cut ones have no protocol.
fn split_line(mut line: BString) -> (Option<BString>, Option<BString>) {
    let end = line.find_byte(b' ');
    let method = BString::from(&line[..end.unwrap_or(line.len())]);
    // The URI stays where it is allocated.
    let begin = end.map_or(line.len(), |end| end + 1);
    line.drain(..begin);
    let uri_end = line.find_byte(b' ').unwrap_or(line.len());
    line.truncate(uri_end);
    let known = |word: BString| (!word.is_empty()).then_some(word);
    (known(method), known(line))
}
