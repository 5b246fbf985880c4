//! Requests under way: from attempts, error pages and answers to one outcome each.
//!
//! nginx reports attempts first, then perhaps its error page ([`Request`]), then what the client got ([`Answer`]). A
//! verdict waits for the answer where one will follow, since `error_page` may still save the client.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Included};

use super::attempt::concerns_unix;
use super::pending::Pending;
use super::symptom::{LogMeaning, classify};
use super::verdict::Symptom;
use super::verdicts::{Context, RequestEnd};
use crate::event::{Answer, Attempt, Nanos, Pid, Request, RequestKey};

/// Requests with a failed attempt that are under way at once.
const PENDING: usize = 16_384;
/// How long a verdict waits for the client's answer.
const HOLD: u64 = 90_000_000_000;
/// How long a failed attempt waits for any word about its request.
const FORGET: u64 = 3_600_000_000_000;
/// How long a cut response waits for word of its status.
const CUT: u64 = 1_000_000_000;
/// Messages about one truncated response come in one go.
const TRUNCATION: u64 = 50_000_000;

/// All requests under way.
#[derive(Debug)]
pub(super) struct Requests {
    /// Boxed, since entries move as others come and go.
    pending: BTreeMap<RequestKey, Box<Pending>>,
    /// The same, oldest first.
    ages: BTreeSet<(Nanos, RequestKey)>,
    /// Those that ended and of which records may tell more yet: by when they are due, and their number.
    held: BTreeMap<(Nanos, u64), (RequestKey, Box<Pending>, RequestEnd)>,
    count: u64,
    truncated: Option<(RequestKey, u32, Nanos)>,
    next_sweep: Nanos,
    evicted: u64,
}

impl Requests {
    pub(super) fn new() -> Self {
        Self {
            pending: BTreeMap::new(),
            ages: BTreeSet::new(),
            held: BTreeMap::new(),
            count: 0,
            truncated: None,
            next_sweep: Nanos(0),
            evicted: 0,
        }
    }

    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// nginx reported trouble with an attempt.
    pub(super) fn attempt(&mut self, context: &mut Context<'_>, at: Nanos, attempt: Box<Attempt>) {
        let refuses = context.world.refuses_http09(attempt.key.worker);
        let meaning = classify(&attempt, concerns_unix(&attempt), refuses);
        let key = self.settle(context, attempt.key);
        let speaks = !matches!(meaning, LogMeaning::Ignore | LogMeaning::MarkedDown | LogMeaning::AuthStatus);
        if speaks && self.pending.get(&key).is_some_and(|pending| pending.is_over(&attempt, at)) {
            self.release(context, key);
        }
        match meaning {
            LogMeaning::Ignore | LogMeaning::MarkedDown => {}
            LogMeaning::AuthStatus => {
                let status = attempt.number.and_then(|number| u16::try_from(number).ok());
                self.entry(context, key, at).auth_failed(*attempt, status.unwrap_or(0));
            }
            LogMeaning::Stderr => self.entry(context, key, at).find(&attempt, at).stderr = true,
            LogMeaning::Failed(symptom) => {
                let pending = self.entry(context, key, at);
                pending.fail(context.world, at, *attempt, (symptom, symptom));
            }
            LogMeaning::Truncated(_) if attempt.subrequest.is_some() => {}
            LogMeaning::Truncated(underlying) => self.truncate(context, at, key, *attempt, underlying),
        }
    }

    /// The header was out: no error page follows, the cut response is the verdict.
    fn truncate(
        &mut self,
        context: &mut Context<'_>,
        at: Nanos,
        key: RequestKey,
        attempt: Attempt,
        underlying: Symptom,
    ) {
        let last = self.truncated.replace((key, attempt.index, at));
        if last.is_some_and(|(known, index, then)| {
            known == key && index == attempt.index && at.0.saturating_sub(then.0) <= TRUNCATION
        }) {
            return;
        }
        let upgraded = attempt.action.as_ref().is_some_and(|action| action == "proxying upgraded connection");
        let pending = self.entry(context, key, at);
        pending.fail(context.world, at, attempt, (Symptom::ResponseTruncated, underlying));
        // nginx closes the client's connection next, and tells the status with it where that can be read.
        pending.cut = Some((at, if upgraded { 101 } else { 200 }));
    }

    /// nginx answers with its own error page.
    pub(super) fn request(&mut self, context: &mut Context<'_>, at: Nanos, mut request: Box<Request>) {
        let key = self.settle(context, request.key);
        let another =
            self.pending.get(&key).is_some_and(|pending| pending.cut.is_some() || pending.is_other(&request));
        if another {
            self.release(context, key);
        }
        if request.subrequest.is_some() {
            self.entry(context, key, at).sub_failed = true;
            return;
        }
        let pending = self.entry(context, key, at);
        if let Some((_, earlier)) = pending.page.take() {
            request.request_line = request.request_line.take().or(earlier.request_line);
            request.host = request.host.take().or(earlier.host);
            request.client = request.client.take().or(earlier.client);
        }
        pending.complete(context.world, at, &request);
        let follows = request.answer_follows;
        pending.page = Some((at, request));
        if !follows {
            self.release(context, key);
        }
    }

    /// nginx wrote to the client, or gave it up.
    pub(super) fn answer(&mut self, context: &mut Context<'_>, at: Nanos, answer: Answer) {
        let key = self.settle(context, answer.key);
        let Some(mut pending) = self.take(key) else {
            return context.passed_on(key, at, &answer);
        };
        let said = answer.status.filter(|status| *status >= 100);
        let ended = match (&pending.cut, &pending.page) {
            (Some((at, status)), _) => {
                RequestEnd { at: *at, status: said.unwrap_or(*status), rescued: false, cut: true }
            }
            (None, Some((_, page))) if answer.client_gone => {
                RequestEnd { at, status: page.status, rescued: false, cut: false }
            }
            (None, Some((_, page))) => {
                let status = said.unwrap_or_else(|| fallback_status(page, &answer));
                RequestEnd { at, status, rescued: status < 500, cut: false }
            }
            (None, None) if answer.client_gone => return,
            (None, None) => {
                let last = answer.last_state.as_ref();
                let status = said.or(last.map(|state| state.status)).unwrap_or(200);
                let passed = context.options.passthrough && matches!(status, 502 | 504);
                if passed && pending.failed_main() {
                    pending.passed_on(context.world, key.worker, at, &answer);
                }
                RequestEnd { at, status, rescued: !passed, cut: false }
            }
        };
        pending.answered = answer.last_state.map(|state| (answer.states, state));
        self.conclude(context, key, pending, ended);
    }

    /// Time has moved on: releases what waited too long.
    pub(super) fn sweep(&mut self, context: &mut Context<'_>, now: Nanos) {
        self.settle_until(context, now);
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = Nanos(now.0 + 1_000_000_000);
        let aged = |at: Nanos, limit: u64| now.0.saturating_sub(at.0) > limit;
        let mut due: Vec<_> = self
            .pending
            .iter()
            .filter_map(|(key, pending)| {
                let (at, limit) = match (&pending.cut, &pending.page) {
                    (Some((at, _)), _) => (*at, CUT),
                    (None, Some((at, _))) => (*at, HOLD),
                    (None, None) => (pending.first_at, FORGET),
                };
                aged(at, limit).then_some((at, *key))
            })
            .collect();
        due.sort_unstable();
        due.into_iter().for_each(|(_, key)| self.release(context, key));
    }

    /// A worker died: nobody will answer its requests.
    pub(super) fn worker_gone(&mut self, context: &mut Context<'_>, worker: Pid) {
        let of = |connection| RequestKey { worker, request: connection, connection };
        let keys: Vec<_> = self.pending.range(of(0)..=of(u64::MAX)).map(|(key, _)| *key).collect();
        keys.into_iter().for_each(|key| self.release(context, key));
    }

    /// The trace ends: every verdict that waited is due.
    pub(super) fn finish(&mut self, context: &mut Context<'_>) {
        std::mem::take(&mut self.ages).into_iter().for_each(|(_, key)| self.release(context, key));
        self.settle_until(context, Nanos(u64::MAX));
    }

    /// Concludes a request, at once or when all that is awaited has had time to come.
    fn conclude(
        &mut self,
        context: &mut Context<'_>,
        key: RequestKey,
        mut pending: Box<Pending>,
        ended: RequestEnd,
    ) {
        pending.reconsider(context.world);
        let awaits = pending.awaits();
        if awaits == 0 {
            return context.conclude(key, pending, &ended);
        }
        if self.held.len() >= PENDING
            && let Some((_, (key, mut pending, ended))) = self.held.pop_first()
        {
            self.evicted += 1;
            pending.look_again(context.world);
            context.conclude(key, pending, &ended);
        }
        self.count += 1;
        self.held.insert((Nanos(context.world.now.0 + awaits), self.count), (key, pending, ended));
    }

    /// Concludes what was held until then.
    fn settle_until(&mut self, context: &mut Context<'_>, now: Nanos) {
        while let Some(first) = self.held.first_entry().filter(|first| first.key().0 <= now) {
            let (key, mut pending, ended) = first.remove();
            pending.look_again(context.world);
            context.conclude(key, pending, &ended);
        }
    }

    /// Ends a request with what is known; without an error page there is nothing to tell.
    fn release(&mut self, context: &mut Context<'_>, key: RequestKey) {
        let Some(pending) = self.take(key) else { return };
        if let Some((at, status)) = pending.cut {
            self.conclude(context, key, pending, RequestEnd { at, status, rescued: false, cut: true });
        } else if let Some((at, page)) = &pending.page {
            let ended = RequestEnd { at: *at, status: page.status, rescued: false, cut: false };
            self.conclude(context, key, pending, ended);
        }
    }

    /// The key to file under: a request struct that serves a newer connection has ended its former request. Connections
    /// are numbered in order (`ngx_connection_counter`). Word of the former one may still come: its client's socket can
    /// outlast it, and ends the newer request no more than it is about it.
    fn settle(&mut self, context: &mut Context<'_>, key: RequestKey) -> RequestKey {
        let of = |connection| RequestKey { connection, ..key };
        let (mut from, to) = (Included(of(0)), Included(of(u64::MAX)));
        while let Some((&known, _)) = self.pending.range((from, to)).next() {
            if known.connection == 0 || key.connection == 0 {
                return known;
            }
            if known.connection < key.connection {
                self.release(context, known);
            }
            from = Excluded(known);
        }
        key
    }

    fn entry(&mut self, context: &mut Context<'_>, key: RequestKey, at: Nanos) -> &mut Pending {
        if self.pending.len() >= PENDING && !self.pending.contains_key(&key) {
            let oldest = self.ages.first().map(|(_, key)| *key);
            self.evicted += 1;
            oldest.into_iter().for_each(|oldest| self.release(context, oldest));
        }
        self.pending.entry(key).or_insert_with(|| {
            self.ages.insert((at, key));
            Box::new(Pending { first_at: at, ..Pending::default() })
        })
    }

    fn take(&mut self, key: RequestKey) -> Option<Box<Pending>> {
        let pending = self.pending.remove(&key)?;
        self.ages.remove(&(pending.first_at, key));
        Some(pending)
    }
}

/// What the client got when its status could not be read: a fallback that ran and succeeded saved it.
fn fallback_status(page: &Request, answer: &Answer) -> u16 {
    let before = page.states.as_ref().map_or(0, Vec::len);
    let grew = answer.states as usize > before;
    let last = answer.last_state.as_ref().map(|state| state.status);
    last.filter(|status| grew && (100..500).contains(status)).unwrap_or(page.status)
}
