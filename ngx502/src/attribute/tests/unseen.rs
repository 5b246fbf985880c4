//! Where no hook tells: AF_UNIX listeners and closes, holders that were never watched.

use super::*;

const PATH: &str = "/run/app.sock";

pub(super) fn app() -> ProcessRef {
    process(12, "php-fpm")
}

fn worker() -> ProcessRef {
    process(13, "php-fpm")
}

pub(super) fn unix() -> Endpoint {
    Endpoint::Unix(PATH.into())
}

fn alive(process: ProcessRef) -> Body {
    Body::Process(Box::new(ProcessInfo {
        process,
        command: "php-fpm: pool www".into(),
        ..ProcessInfo::default()
    }))
}

fn socket_refused() -> Attempt {
    said(SOCK, "connect() to %V failed", 111, CONNECTING)
}

fn unix_socket(owner: Option<ProcessRef>) -> Socket {
    Socket {
        ends: Ends::Unix { path: PATH.into() },
        connect_at: None,
        established_at: None,
        owner,
        ..socket(PEER)
    }
}

fn unix_closed(socket: Socket) -> Attempt {
    Attempt {
        socket: Some(Box::new(socket)),
        ..said(SOCK, "upstream prematurely closed connection", 0, READING)
    }
}

/// A path that some processes were found to hold, and later nobody.
fn emptied(holders: Vec<ProcessRef>, between: Vec<Body>) -> Trace {
    let start = Trace::new().feed(listening(unix(), holders, false));
    between.into_iter().fold(start, Trace::feed)
}

fn found_empty(trace: Trace) -> Trace {
    trace.feed(listening(unix(), vec![], true))
}

#[test]
fn a_unix_listener_that_a_living_process_closed_is_inferred() {
    let trace = emptied(vec![app()], vec![]).feed(alive(app()));
    // The look-up that finds the socket gone and the process alive has one time.
    let trace = found_empty(trace).feed(alive(app()));
    let found = trace.attempt(socket_refused()).page(502).verdict();
    is(&found, Symptom::SocketRefused, Cause::StoppedListening, Certainty::Inferred);
    begins(
        &found,
        "php-fpm[12] (pool www) closed its listening socket on /run/app.sock and is still running",
    );
    let unseen = found_empty(emptied(vec![app()], vec![])).attempt(socket_refused()).page(502).verdict();
    is(&unseen, Symptom::SocketRefused, Cause::Unknown, Certainty::Unknown);
}

#[test]
fn a_death_and_a_close_of_a_shared_unix_listener_cannot_be_told_apart() {
    let shared = vec![app(), worker()];
    let trace = found_empty(emptied(shared.clone(), vec![exit(worker(), 11)])).feed(alive(app()));
    let found = trace.attempt(socket_refused()).page(502).verdict();
    is(&found, Symptom::SocketRefused, Cause::Unknown, Certainty::Unknown);
    // A death that a later look-up saw the listener survive did not end it.
    let survived = emptied(shared, vec![exit(worker(), 11), listening(unix(), vec![app()], true)]);
    let found = found_empty(survived).feed(alive(app())).attempt(socket_refused()).page(502).verdict();
    is(&found, Symptom::SocketRefused, Cause::StoppedListening, Certainty::Inferred);
}

/// A child that forked after the descriptors were read, though before the look-up's answer came.
fn young() -> ProcessRef {
    ProcessRef { pid: Pid(77), start: Nanos(1_001_500_000), comm: "app".into() }
}

/// A look-up that lists only the master, from descriptors read at `holders_at`.
fn stale_answer(holders_at: u64) -> Body {
    let Body::Endpoint(info) = listening(unix(), vec![app()], true) else { unreachable!() };
    Body::Endpoint(Box::new(EndpointInfo { holders_at: Nanos(holders_at), ..*info }))
}

/// The master ends after an answer that did not name its child: whose end is the listener's?
fn after_stale_answer(holders_at: u64) -> Verdict {
    let fork = Body::Fork { parent: app(), child: young() };
    let between = vec![
        fork,
        stale_answer(holders_at),
        exit(app(), 0),
        sent(9, 0, young(), process(50, "bash")),
        exit(young(), 9),
    ];
    emptied(vec![app()], between).attempt(socket_refused()).page(502).verdict()
}

#[test]
fn an_answer_older_than_a_fork_does_not_lose_the_child() {
    let found = after_stale_answer(1_001_000_000);
    is(&found, Symptom::SocketRefused, Cause::Killed, Certainty::Proven);
    begins(&found, "app[77], the last listener");
    let untold = after_stale_answer(0);
    begins(&untold, "app[77], the last listener");
}

#[test]
fn a_child_that_let_go_of_the_socket_is_no_holder_any_more() {
    // The descriptors were read after the fork: the child closed its copy.
    let found = after_stale_answer(1_200_000_000);
    is(&found, Symptom::SocketRefused, Cause::Exited, Certainty::Proven);
    says(&found, "[12], the last listener");
}

#[test]
fn a_unit_that_failed_before_the_trace_is_in_the_fix_and_proves_nothing() {
    let unit = |unit: &str, result: &str| FailedUnit {
        unit: unit.into(),
        result: result.into(),
        exit_status: None,
        at: Some(Nanos(900_000_000)),
    };
    let units = vec![unit("cron.service", "timeout"), unit("php8.2-fpm.service", "oom-kill")];
    let at = |endpoint: Endpoint, attempt: Attempt| {
        let trace = Trace::new().feed(Body::FailedUnits(units.clone()));
        trace.feed(listening(endpoint, vec![], true)).attempt(attempt).page(502).verdict()
    };
    let missing = said("unix:/run/php/fpm.sock", "connect() to %V failed", 2, CONNECTING);
    let found = at(Endpoint::Unix("/run/php/fpm.sock".into()), missing);
    is(&found, Symptom::SocketMissing, Cause::NotListening, Certainty::Inferred);
    assert_eq!(
        fixes(&found)[0],
        "systemctl status php8.2-fpm.service  # it failed: oom-kill; is that the upstream?"
    );
    assert_eq!(observed(&found, "unit").len(), 1, "cron.service does not look like it");
    let tcp_found = at(tcp(PEER), refused());
    assert!(observed(&tcp_found, "unit").is_empty(), "{:?}", facts(&tcp_found));
    assert!(fixes(&tcp_found)[0].starts_with("systemctl status cron.service"), "{:?}", fixes(&tcp_found));
}

#[test]
fn a_socket_that_outlives_its_last_holder_for_a_moment_is_no_new_listener() {
    for listed in [vec![app()], vec![]] {
        let info = ListenerInfo {
            bound: unix(),
            inode: 5,
            queue: None,
            holders: listed,
            all_busy: None,
            file: None,
        };
        let closing = endpoint_info(unix(), vec![info], true);
        let trace = emptied(vec![app()], vec![exit(app(), 3 << 8), closing]);
        let found = found_empty(trace).attempt(socket_refused()).page(502).verdict();
        is(&found, Symptom::SocketRefused, Cause::Exited, Certainty::Proven);
    }
}

#[test]
fn a_program_that_came_back_elsewhere_is_in_the_fix() {
    let Body::Endpoint(empty) = listening(tcp(PEER), vec![], true) else { unreachable!() };
    let near = NearListener {
        bound: tcp("127.0.0.1:9001"),
        netns: NETNS,
        process: process(40, "php-fpm"),
        why: Nearness::SameProgram,
    };
    let asked = EndpointInfo { near: vec![near], ..*empty };
    let found = Trace::new()
        .feed(listening(tcp(PEER), vec![app()], false))
        .feed(exit(app(), 1 << 8))
        .feed(Body::Endpoint(Box::new(asked)))
        .attempt(refused())
        .page(502)
        .verdict();
    is(&found, Symptom::ConnectRefused, Cause::Exited, Certainty::Proven);
    let line = "# php-fpm[40] listens on 127.0.0.1:9001 (same program); is that the upstream?";
    assert!(fixes(&found).iter().any(|fix| *fix == line), "{:?}", fixes(&found));
}

#[test]
fn an_answer_that_names_the_dead_does_not_revive_them() {
    let child = young();
    let Body::Endpoint(info) = listening(unix(), vec![app(), child.clone()], true) else { unreachable!() };
    let between = vec![
        Body::Fork { parent: app(), child: child.clone() },
        exit(child, 9),
        Body::Endpoint(info),
        exit(app(), 3 << 8),
    ];
    let found = emptied(vec![app()], between).attempt(socket_refused()).page(502).verdict();
    is(&found, Symptom::SocketRefused, Cause::Exited, Certainty::Proven);
    says(&found, "exited");
    says(&found, "with code 3");
}

#[test]
fn a_socket_bound_to_the_path_that_nginx_does_not_reach_ends_no_listener() {
    let near = NearListener { bound: unix(), netns: NETNS, process: app(), why: Nearness::SameDirectory };
    let asked = EndpointInfo {
        endpoint: unix(),
        netns: NETNS,
        listeners: vec![],
        near: vec![near],
        path: Some(PathKind::Missing),
        asked: true,
        holders_at: Nanos(0),
        file: None,
    };
    let trace = emptied(vec![app()], vec![Body::Endpoint(Box::new(asked)), alive(app())]);
    let missing = said(SOCK, "connect() to %V failed", 2, CONNECTING);
    let found = trace.attempt(missing).page(502).verdict();
    is(&found, Symptom::SocketMissing, Cause::Unknown, Certainty::Unknown);
    says(&found, "the file was removed or replaced");
}

#[test]
fn a_listener_of_another_namespace_proves_nothing() {
    let elsewhere = EndpointInfo {
        endpoint: unix(),
        netns: 2,
        listeners: vec![ListenerInfo {
            bound: unix(),
            inode: 5,
            queue: None,
            holders: vec![app()],
            all_busy: None,
            file: None,
        }],
        near: vec![],
        path: None,
        asked: false,
        holders_at: Nanos(0),
        file: None,
    };
    let trace = Trace::new()
        .feed(Body::Endpoint(Box::new(elsewhere)))
        .feed(sent(9, 0, app(), process(50, "bash")))
        .feed(exit(app(), 9));
    let found = found_empty(trace).attempt(socket_refused()).page(502).verdict();
    is(&found, Symptom::SocketRefused, Cause::Killed, Certainty::Inferred);
}

#[test]
fn the_last_reader_of_a_unix_connection_closed_it_or_died() {
    let start = || Trace::new().feed(listening(unix(), vec![app(), worker()], false));
    let by_reader = || unix_closed(unix_socket(Some(worker())));
    let lives = start().attempt(by_reader()).page(502).verdict();
    is(&lives, Symptom::ClosedEarly, Cause::ClosedByUpstream, Certainty::Inferred);
    assert_eq!(
        lives.upstream.and_then(|upstream| upstream.process).map(|process| process.pid),
        Some(Pid(13))
    );
    let fault = sent(11, 1, worker(), worker());
    let died = start().feed(fault).feed(exit(worker(), 11)).attempt(by_reader()).page(502).verdict();
    is(&died, Symptom::ClosedEarly, Cause::Crashed, Certainty::Inferred);
    // Its death comes too late to be the reason.
    let later = start().attempt(by_reader()).feed(exit(worker(), 0)).page(502).verdict();
    is(&later, Symptom::ClosedEarly, Cause::ClosedByUpstream, Certainty::Inferred);
    let stranger = unix_closed(unix_socket(Some(process(77, "cgi"))));
    let gone = start().attempt(stranger.clone()).page(502).verdict();
    is(&gone, Symptom::ClosedEarly, Cause::Unknown, Certainty::Unknown);
    let found =
        start().feed(Body::Tick).attempt(stranger).feed(alive(process(77, "cgi"))).page(502).verdict();
    is(&found, Symptom::ClosedEarly, Cause::ClosedByUpstream, Certainty::Inferred);
}

#[test]
fn an_unread_unix_connection_was_closed_by_the_only_server_there() {
    let unread = || unix_closed(unix_socket(None));
    let alone =
        Trace::new().feed(listening(unix(), vec![app()], false)).attempt(unread()).page(502).verdict();
    is(&alone, Symptom::ClosedEarly, Cause::ClosedByUpstream, Certainty::Inferred);
    let two = Trace::new().feed(listening(unix(), vec![app(), worker()], false));
    is(&two.attempt(unread()).page(502).verdict(), Symptom::ClosedEarly, Cause::Unknown, Certainty::Unknown);
    let nobody = Trace::new().attempt(unread()).page(502).verdict();
    is(&nobody, Symptom::ClosedEarly, Cause::Unknown, Certainty::Unknown);
}

#[test]
fn a_master_whose_workers_die_is_not_blamed_for_what_they_served() {
    let before = vec![Body::Fork { parent: app(), child: young() }, exit(young(), 9)];
    let later = Socket { sent_at: Some(Nanos(1_900_000_000)), ..unix_socket(None) };
    let found = emptied(vec![app()], before).after(1).attempt(unix_closed(later)).page(502).verdict();
    is(&found, Symptom::ClosedEarly, Cause::Unknown, Certainty::Unknown);
}

#[test]
fn a_reused_unix_connection_is_not_blamed_on_the_request() {
    let reused = || Socket { requests: 2, ..unix_socket(Some(app())) };
    let start = || Trace::new().feed(listening(unix(), vec![app()], false));
    let write = Attempt {
        socket: Some(Box::new(reused())),
        ..said(SOCK, "writev() failed", 32, "sending request to upstream")
    };
    let raced = start().attempt(write).page(502).verdict();
    is(&raced, Symptom::SendFailed, Cause::KeepaliveRace, Certainty::Inferred);
    let at_once = Socket { sent_at: Some(Nanos(1_001_500_000)), ..reused() };
    let unsure = start().attempt(unix_closed(at_once)).page(502).verdict();
    is(&unsure, Symptom::ClosedEarly, Cause::Unknown, Certainty::Unknown);
}

#[test]
fn not_listening_is_proven_only_where_every_listener_would_have_been_seen() {
    let asked = || listening(tcp(PEER), vec![], true);
    let certainty = |trace: Trace| {
        let found = trace.feed(asked()).attempt(refused()).page(502).verdict();
        assert_eq!(found.cause, Cause::NotListening);
        found.certainty
    };
    assert_eq!(certainty(Trace::new()), Certainty::Proven);
    assert_eq!(certainty(Trace::watching(Options::default(), &["exit"])), Certainty::Inferred);
    let stale = found_empty(Trace::new()).attempt(socket_refused()).page(502).verdict();
    is(&stale, Symptom::SocketRefused, Cause::NotListening, Certainty::Inferred);
    for (reason, certainty) in [("ring buffer full", Certainty::Inferred), (LOST_TRAFFIC, Certainty::Proven)]
    {
        let lost = Body::Lost { events: 1, reason: reason.into() };
        let out = Trace::new().feed(lost).feed(asked()).attempt(refused()).page(502).end();
        assert!(matches!(&out[1], Outcome::Verdict(verdict) if verdict.certainty == certainty), "{reason}");
    }
}
