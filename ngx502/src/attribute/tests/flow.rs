//! From attempts, error pages and answers to one outcome a request.

use super::*;
use crate::summary::Tally;

#[test]
fn a_retry_that_answers_rescues_the_client() {
    let verdict = Trace::new().attempt(refused()).answer(200).rescued();
    assert_eq!((verdict.symptom, verdict.status), (Symptom::ConnectRefused, 200));
}

#[test]
fn attempts_are_in_order_and_the_last_one_decides() {
    let second = Attempt { index: 2, ..said("127.0.0.1:9001", "recv() failed", 104, READING) };
    let verdict = Trace::new().attempt(refused()).attempt(second).page(502).verdict();
    let symptoms: Vec<_> = verdict.attempts.iter().map(|attempt| attempt.symptom).collect();
    assert_eq!(symptoms, [Some(Symptom::ConnectRefused), Some(Symptom::Reset)]);
    assert_eq!((verdict.symptom, verdict.errno), (Symptom::Reset, Some(104)));
    let facts = verdict.request.expect("the error page names the request");
    assert_eq!((facts.method, facts.uri), (Some("GET".into()), Some("/index.php?token=secret".into())));
}

/// `localhost` means both families; the one that had a listener decides, whichever nginx tried last.
#[test]
fn the_loopback_address_that_had_a_listener_decides() {
    let app = || process(12, "app");
    let start = || {
        Trace::new()
            .feed(listening(tcp("127.0.0.1:9000"), vec![app()], false))
            .feed(sent(9, 0, app(), process(60, "sh")))
            .feed(shut(app(), true))
            .feed(exit(app(), 9))
            .feed(listening(tcp("127.0.0.1:9000"), vec![], true))
            .attempt(refused())
    };
    let second = |peer: &str| Attempt { index: 2, ..said(peer, "connect() failed", 111, CONNECTING) };
    let both = start()
        .feed(listening(tcp("[::1]:9000"), vec![], true))
        .attempt(second("[::1]:9000"))
        .page(502)
        .verdict();
    is(&both, Symptom::ConnectRefused, Cause::Killed, Certainty::Proven);
    assert_eq!(both.attempts.len(), 2);
    let other = start()
        .feed(listening(tcp("[::1]:9001"), vec![], true))
        .attempt(second("[::1]:9001"))
        .page(502)
        .verdict();
    is(&other, Symptom::ConnectRefused, Cause::NotListening, Certainty::Proven);
}

/// With a `zone` all workers of a master share which peers are down: another one may have seen them fail.
#[test]
fn peers_that_failed_in_another_worker_of_the_master_are_told() {
    let known = |pid, parent| {
        let info =
            ProcessInfo { process: process(pid, "nginx"), parent: Pid(parent), ..ProcessInfo::default() };
        Body::Process(Box::new(info))
    };
    let worker = |pid| {
        Body::Worker(WorkerInfo {
            process: process(pid, "nginx"),
            exe: "/usr/sbin/nginx".into(),
            version: None,
            container: None,
        })
    };
    let own = KEY.worker.0;
    let found = |other_master: u32| {
        let key = RequestKey { worker: Pid(own + 1), ..KEY };
        Trace::new()
            .feed(known(400, 1))
            .feed(known(401, 1))
            .feed(known(own, 400))
            .feed(known(own + 1, other_master))
            .feed(worker(own))
            .feed(worker(own + 1))
            .feed(listening(tcp("127.0.0.1:9000"), vec![], true))
            .attempt(Attempt { key, ..refused() })
            .attempt(said("app", "no live upstreams", 0, CONNECTING))
            .page(502)
            .verdict()
    };
    is(&found(400), Symptom::NoLiveUpstreams, Cause::AllPeersDown, Certainty::Inferred);
    is(&found(401), Symptom::NoLiveUpstreams, Cause::Unknown, Certainty::Unknown);
}

#[test]
fn a_verdict_waits_for_the_answer_and_error_page_may_turn_it() {
    let failed = || Trace::new().attempt(refused()).feed(held(502));
    assert!(failed().out.is_empty(), "held back until the answer");
    assert_eq!(failed().answer(502).verdict().status, 502);
    assert_eq!(failed().answer(200).rescued().status, 200);
    assert_eq!(failed().answer(302).rescued().status, 302);
    assert_eq!(failed().verdict().status, 502);
    assert_eq!(failed().after(91).out.len(), 1, "90 s without an answer");
    let gone = Answer { key: KEY, client_gone: true, ..Answer::default() };
    assert_eq!(failed().feed(Body::Answer(gone)).verdict().status, 502);
}

#[test]
fn an_unreadable_status_is_told_by_the_states() {
    let states = Some(vec![State { status: 502, ..State::default() }]);
    let held = Request { answer_follows: true, states, ..page(502) };
    let answer = |states, status| Answer {
        key: KEY,
        states,
        last_state: Some(State { status, ..State::default() }),
        ..Answer::default()
    };
    let failed = || Trace::new().attempt(refused()).feed(Body::Request(Box::new(held.clone())));
    assert_eq!(failed().feed(Body::Answer(answer(3, 200))).rescued().status, 200);
    assert_eq!(failed().feed(Body::Answer(answer(1, 502))).verdict().status, 502);
}

#[test]
fn a_failing_fallback_is_one_verdict() {
    let fallback = Attempt { index: 3, ..said("127.0.0.1:9001", "recv() failed", 104, READING) };
    let verdict = Trace::new()
        .attempt(refused())
        .feed(held(502))
        .attempt(fallback)
        .feed(held(502))
        .answer(502)
        .verdict();
    assert_eq!((verdict.symptom, verdict.attempts.len()), (Symptom::Reset, 2));
}

#[test]
fn a_reused_request_struct_releases_the_former_verdict() {
    let next = RequestKey { connection: 8, ..KEY };
    let trace = Trace::new().attempt(refused()).feed(held(502)).attempt(Attempt { key: next, ..refused() });
    assert_eq!(trace.out.len(), 1);
    assert_eq!(trace.end().len(), 1, "the newer request has no page and no answer");
}

#[test]
fn the_late_end_of_a_former_client_leaves_the_newer_request_alone() {
    let former = RequestKey { connection: KEY.connection - 1, ..KEY };
    let gone = Answer { key: former, client_gone: true, ..Answer::default() };
    let verdict = Trace::new().attempt(refused()).feed(Body::Answer(gone)).page(502).verdict();
    assert_eq!((verdict.symptom, verdict.errno), (Symptom::ConnectRefused, Some(111)));
}

#[test]
fn a_client_that_left_is_no_failure() {
    let gone = Answer { key: KEY, client_gone: true, ..Answer::default() };
    assert_eq!(Trace::new().attempt(refused()).feed(Body::Answer(gone)).end(), []);
}

#[test]
fn errors_without_an_upstream_are_counted_not_explained() {
    let own = Request { has_upstream: false, ..page(502) };
    assert_eq!(Trace::new().feed(Body::Request(Box::new(own))).end(), [Outcome::NotUpstream { status: 502 }]);
    let cached = Request { has_cache: true, log_level: Some(3), ..page(502) };
    assert_eq!(
        Trace::new().feed(Body::Request(Box::new(cached))).end(),
        [Outcome::NotUpstream { status: 502 }]
    );
    assert_eq!(Trace::new().page(500).end(), [Outcome::NotUpstream { status: 500 }]);
}

#[test]
fn auth_request_explains_the_500_and_a_mirror_does_not_show() {
    let sub = || Attempt { subrequest: Some(0x2000), ..refused() };
    let sub_page = || Body::Request(Box::new(Request { subrequest: Some(0x2000), ..page(502) }));
    let auth = |status| Attempt {
        index: 0,
        number: Some(status),
        ..said("", "auth request unexpected status: %ui", 0, "")
    };
    let verdict = Trace::new().attempt(sub()).feed(sub_page()).attempt(auth(502)).page(500).verdict();
    assert_eq!((verdict.symptom, verdict.status, verdict.attempts.len()), (Symptom::ConnectRefused, 500, 1));
    let own = Trace::new().attempt(auth(502)).page(500).verdict();
    is(&own, Symptom::UpstreamStatus, Cause::UpstreamError, Certainty::Proven);
    assert_eq!(Trace::new().attempt(auth(404)).page(500).end(), [Outcome::NotUpstream { status: 500 }]);
    assert_eq!(Trace::new().attempt(sub()).feed(sub_page()).answer(200).end(), []);
}

#[test]
fn an_intercepted_or_passed_on_error_is_the_upstreams_own() {
    let state = State {
        status: 502,
        connect_ms: Some(0),
        header_ms: Some(3),
        peer: Some(PEER.into()),
        ..State::default()
    };
    let intercepted = Request { states: Some(vec![state.clone()]), ..page(502) };
    let verdict = Trace::new().feed(Body::Request(Box::new(intercepted))).verdict();
    is(&verdict, Symptom::UpstreamStatus, Cause::UpstreamError, Certainty::Proven);
    let answer = Body::Answer(Answer {
        key: KEY,
        status: Some(502),
        states: 1,
        last_state: Some(state),
        client_gone: false,
    });
    let options = Options { passthrough: true, ..Options::default() };
    let passed = Trace::with(options).feed(answer.clone()).verdict();
    is(&passed, Symptom::UpstreamStatus, Cause::UpstreamError, Certainty::Proven);
    assert_eq!(Trace::new().feed(answer).end(), []);
}

#[test]
fn a_cut_response_is_one_verdict_however_often_nginx_speaks() {
    let cut = || said(PEER, "upstream prematurely closed connection", 0, "reading upstream");
    let verdict = Trace::new().attempt(cut()).attempt(cut()).verdict();
    assert_eq!((verdict.symptom, verdict.status), (Symptom::ResponseTruncated, 200));
}

#[test]
fn statuses_filter_verdicts() {
    let options = Options { statuses: Some(vec![504]), ..Options::default() };
    assert_eq!(Trace::with(options).attempt(refused()).page(502).end(), []);
}

#[test]
fn a_summary_counts_outcomes() {
    let lost = Body::Lost { events: 3, reason: "ring buffer full".into() };
    let timed = Attempt { socket: Some(Box::new(socket(PEER))), ..said(PEER, "recv() failed", 104, READING) };
    let out = Trace::new().feed(lost).attempt(timed).page(502).attempt(refused()).answer(200).page(503).end();
    let mut tally = Tally::default();
    out.iter().for_each(|outcome| tally.outcome(outcome));
    let summary = tally.summary();
    assert_eq!((summary.verdicts, summary.rescued, summary.lost_events), (1, 1, 3));
    assert_eq!(summary.by_symptom, [(Symptom::Reset, 1)]);
    assert_eq!(summary.not_upstream, [(503, 1)]);
    let total = summary.latency.total.expect("one attempt had a socket");
    assert_eq!(total.count, 1);
}

#[test]
fn the_same_records_give_the_same_outcomes() {
    let run = || Trace::new().attempt(refused()).feed(held(502)).after(1).answer(502).end();
    assert_eq!(run(), run());
}

#[test]
fn the_attempt_that_rescued_is_listed_too() {
    let state =
        State { status: 200, header_ms: Some(4), peer: Some("127.0.0.1:9001".into()), ..State::default() };
    let answer = |states| {
        let last_state = Some(state.clone());
        Body::Answer(Answer { key: KEY, status: Some(200), states, last_state, client_gone: false })
    };
    let retried = Trace::new().attempt(refused()).feed(answer(2)).rescued();
    let facts: Vec<_> = retried.attempts.iter().map(|one| (one.upstream.clone(), one.symptom)).collect();
    let expected =
        [(Some(PEER.into()), Some(Symptom::ConnectRefused)), (Some("127.0.0.1:9001".into()), None)];
    assert_eq!(facts, expected);
    assert_eq!(Trace::new().attempt(refused()).feed(answer(1)).rescued().attempts.len(), 1);
}
