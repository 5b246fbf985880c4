//! Every cause, with the evidence that proves it and without.

use super::*;

fn app() -> ProcessRef {
    process(12, "php-fpm")
}

fn master() -> ProcessRef {
    process(11, "php-fpm")
}

#[test]
fn a_listener_killed_by_another_process() {
    let found = after_death(vec![sent(9, 0, app(), process(50, "bash")), exit(app(), 9), shut(app(), true)]);
    is(&found, Symptom::ConnectRefused, Cause::Killed, Certainty::Proven);
    says(&found, "SIGKILL by bash[50]");
    begins(&found, "php-fpm[12], the last listener on 127.0.0.1:9000,");
}

#[test]
fn a_kill_without_a_seen_sender_is_inferred() {
    is(&after_death(vec![exit(app(), 9)]), Symptom::ConnectRefused, Cause::Killed, Certainty::Inferred);
}

#[test]
fn an_oom_victim_is_not_killed_by_the_trigger() {
    let oom = Oom {
        victim: app(),
        trigger: process(60, "cron"),
        memcg: Some(true),
        limit_cgroup: Some("php8.2-fpm.service".into()),
        limit_bytes: Some(512 << 20),
        ..Oom::default()
    };
    let trigger = sent(9, 128, app(), process(60, "cron"));
    let found = after_death(vec![trigger.clone(), Body::Oom(oom), exit(app(), 9)]);
    is(&found, Symptom::ConnectRefused, Cause::OomKilled, Certainty::Proven);
    says(&found, "in cgroup php8.2-fpm.service (limit 512 MiB)");
    assert!(!summary(&found).contains("cron"));
    let marked = Exit { process: app(), parent: Pid(1), code: 9, cgroup: 0, oom_victim: true };
    let found = after_death(vec![trigger, Body::Exit(marked)]);
    is(&found, Symptom::ConnectRefused, Cause::OomKilled, Certainty::Proven);
}

#[test]
fn a_fault_of_its_own_is_a_crash() {
    let fault = sent(11, 1, app(), app());
    let found = after_death(vec![fault, exit(app(), 11 | 0x80)]);
    is(&found, Symptom::ConnectRefused, Cause::Crashed, Certainty::Proven);
    let abort = sent(6, -6, app(), app());
    is(&after_death(vec![abort, exit(app(), 6)]), Symptom::ConnectRefused, Cause::Crashed, Certainty::Proven);
    let sent_by_other = sent(11, 0, app(), process(50, "bash"));
    is(
        &after_death(vec![sent_by_other, exit(app(), 11)]),
        Symptom::ConnectRefused,
        Cause::Killed,
        Certainty::Proven,
    );
}

#[test]
fn an_exit_names_its_code_and_who_asked_for_it() {
    let found = after_death(vec![exit(app(), 3 << 8)]);
    is(&found, Symptom::ConnectRefused, Cause::Exited, Certainty::Proven);
    says(&found, "exited 3 ms before this 502 with code 3");
    let found = after_death(vec![sent(15, 0, app(), process(1, "systemd")), exit(app(), 0)]);
    is(&found, Symptom::ConnectRefused, Cause::Exited, Certainty::Proven);
    says(&found, "after SIGTERM by systemd[1], the service manager, as it does to stop or restart");
    let found = after_death(vec![sent(6, 0, app(), process(11, "gunicorn")), exit(app(), 1 << 8)]);
    is(&found, Symptom::ConnectRefused, Cause::Killed, Certainty::Inferred);
}

#[test]
fn a_living_process_that_closed_its_socket_stopped_listening() {
    let found = after_death(vec![shut(app(), false)]);
    is(&found, Symptom::ConnectRefused, Cause::StoppedListening, Certainty::Proven);
}

#[test]
fn a_listener_that_closed_as_it_shut_down_has_exited() {
    let verdict = after_death(vec![shut(app(), false), exit(app(), 0)]);
    is(&verdict, Symptom::ConnectRefused, Cause::Exited, Certainty::Proven);
}

#[test]
fn a_worker_that_closes_upon_its_masters_signal_was_killed() {
    let cut = |told: Option<ProcessRef>| {
        let socket = Socket { closer: Some(closer(app(), false, 0)), ..socket(PEER) };
        let trace = Trace::new().feed(listening(tcp(PEER), vec![app()], false));
        let trace = match told {
            Some(sender) => trace.feed(sent(6, 0, app(), sender)),
            None => trace,
        };
        trace.attempt(closed(socket)).page(502).verdict()
    };
    is(&cut(Some(master())), Symptom::ClosedEarly, Cause::Killed, Certainty::Inferred);
    is(&cut(Some(app())), Symptom::ClosedEarly, Cause::ClosedByUpstream, Certainty::Proven);
    is(&cut(None), Symptom::ClosedEarly, Cause::ClosedByUpstream, Certainty::Proven);
}

#[test]
fn a_listener_lives_as_long_as_its_last_holder() {
    let child = process(13, "php-fpm");
    let found = after_death(vec![
        Body::Fork { parent: app(), child: child.clone() },
        exit(app(), 0),
        sent(9, 0, child.clone(), process(50, "bash")),
        exit(child.clone(), 9),
        shut(child, true),
    ]);
    is(&found, Symptom::ConnectRefused, Cause::Killed, Certainty::Proven);
    begins(&found, "php-fpm[13]");
}

#[test]
fn a_look_at_a_dying_process_does_not_take_its_container_away() {
    let told = |command: &str, container: Option<&str>| {
        Body::Process(Box::new(ProcessInfo {
            process: app(),
            command: command.into(),
            unit: Some("init.scope".into()),
            container: container.map(str::to_owned),
            ..ProcessInfo::default()
        }))
    };
    let found =
        after_death(vec![told("php-fpm: pool www", Some("0123")), told("", None), exit(app(), 3 << 8)]);
    let process = found.upstream.and_then(|upstream| upstream.process).expect("the process is named");
    assert_eq!(process.container.as_deref(), Some("0123"));
}

#[test]
fn a_reused_pid_is_another_process() {
    let later = ProcessRef { start: Nanos(900_000_000_000), ..process(12, "cron") };
    let found = after_death(vec![
        exit(app(), 3 << 8),
        sent(9, 0, later.clone(), process(50, "bash")),
        exit(later, 9),
    ]);
    is(&found, Symptom::ConnectRefused, Cause::Exited, Certainty::Proven);
}

#[test]
fn a_signal_record_that_comes_after_the_exit_still_counts() {
    let found = after_death(vec![exit(app(), 9), sent(9, 0, app(), process(50, "bash"))]);
    is(&found, Symptom::ConnectRefused, Cause::Killed, Certainty::Proven);
}

#[test]
fn nobody_ever_listened() {
    let near = NearListener {
        bound: tcp("127.0.0.1:9001"),
        netns: NETNS,
        process: app(),
        why: Nearness::SameProgram,
    };
    let asked = EndpointInfo {
        endpoint: tcp(PEER),
        netns: NETNS,
        listeners: vec![],
        near: vec![near],
        path: None,
        asked: true,
        holders_at: Nanos(0),
        file: None,
    };
    let found = Trace::new().feed(Body::Endpoint(Box::new(asked))).attempt(refused()).page(502).verdict();
    is(&found, Symptom::ConnectRefused, Cause::NotListening, Certainty::Proven);
    assert!(fixes(&found)[0].starts_with("# php-fpm[12] listens on 127.0.0.1:9001"), "{:?}", fixes(&found));
    let unasked = Trace::new().attempt(refused()).page(502).verdict();
    is(&unasked, Symptom::ConnectRefused, Cause::NotListening, Certainty::Inferred);
}

#[test]
fn a_refusal_is_a_filters_when_icmp_says_so_or_a_listener_lives() {
    let rejected = Socket { established_at: None, icmp: Some((3, 3)), ..socket(PEER) };
    let found =
        Trace::new().attempt(Attempt { socket: Some(Box::new(rejected)), ..refused() }).page(502).verdict();
    is(&found, Symptom::ConnectRefused, Cause::Firewall, Certainty::Proven);
    let trace = Trace::new().feed(listening(tcp(PEER), vec![app()], false)).feed(listening(
        tcp(PEER),
        vec![app()],
        true,
    ));
    is(
        &trace.attempt(refused()).page(502).verdict(),
        Symptom::ConnectRefused,
        Cause::Firewall,
        Certainty::Inferred,
    );
}

#[test]
fn a_refusal_by_a_listener_that_no_lookup_confirmed_is_unknown() {
    let trace = Trace::new().feed(listening(tcp(PEER), vec![app()], false));
    is(
        &trace.attempt(refused()).page(502).verdict(),
        Symptom::ConnectRefused,
        Cause::Unknown,
        Certainty::Unknown,
    );
}

#[test]
fn a_containers_address_is_not_taken_for_another_hosts() {
    let away = Socket { unacked: None, fin_at: Some(Nanos(1_000_900_000)), ..socket("172.17.0.2:80") };
    let wildcard = ListenerInfo {
        bound: tcp("0.0.0.0:80"),
        inode: 5,
        queue: None,
        holders: vec![app()],
        all_busy: None,
        file: None,
    };
    let inside = EndpointInfo {
        endpoint: tcp("0.0.0.0:80"),
        netns: 2,
        listeners: vec![wildcard],
        near: vec![],
        path: None,
        asked: false,
        holders_at: Nanos(0),
        file: None,
    };
    let found = Trace::new().feed(Body::Endpoint(Box::new(inside))).attempt(closed(away)).page(502).verdict();
    is(&found, Symptom::ClosedEarly, Cause::Unknown, Certainty::Unknown);
}

fn nobodys(address: &str) -> Body {
    Scene::new(0).owned(address.parse().expect("an address"), Owner::Nobody)
}

#[test]
fn another_hosts_refusal_is_not_this_hosts() {
    let remote = said("198.51.100.7:80", "connect() failed", 111, CONNECTING);
    let found = Trace::new().feed(nobodys("198.51.100.7:80")).attempt(remote).page(502).verdict();
    is(&found, Symptom::ConnectRefused, Cause::ClosedByRemote, Certainty::Inferred);
}

#[test]
fn who_closed_a_connection() {
    let by = |closer| closed(Socket { closer: Some(closer), ..socket(PEER) });
    let alive = Trace::new().attempt(by(closer(app(), false, 0))).page(502).verdict();
    is(&alive, Symptom::ClosedEarly, Cause::ClosedByUpstream, Certainty::Proven);
    assert_eq!(
        alive.upstream.and_then(|upstream| upstream.process).map(|process| process.pid),
        Some(Pid(12))
    );
    let child = Exit { process: app(), parent: Pid(11), code: 15, cgroup: 0, oom_victim: false };
    let trace = Trace::new().feed(sent(15, 0, app(), master())).feed(Body::Exit(child));
    let killed = trace.attempt(by(closer(app(), true, 15))).page(502).verdict();
    is(&killed, Symptom::ClosedEarly, Cause::Killed, Certainty::Proven);
    says(&killed, "SIGTERM by php-fpm[11], its master");
    assert!(fixes(&killed).iter().any(|line| line.contains("request_terminate_timeout")));
    let crashed = Trace::new().attempt(by(closer(app(), true, 11))).page(502).verdict();
    is(&crashed, Symptom::ClosedEarly, Cause::Crashed, Certainty::Inferred);
    let exited = Trace::new().attempt(by(closer(app(), true, 1 << 8))).page(502).verdict();
    is(&exited, Symptom::ClosedEarly, Cause::Exited, Certainty::Proven);
    let queue = Closer { how: CloseKind::NeverAccepted, ..closer(app(), false, 0) };
    let stopped = Trace::new().attempt(by(queue)).page(502).verdict();
    is(&stopped, Symptom::ClosedEarly, Cause::StoppedListening, Certainty::Proven);
}

#[test]
fn an_unseen_closer_is_inferred_from_one_death_and_unknown_from_two() {
    let holders = vec![master(), app(), process(13, "php-fpm")];
    let start = || Trace::new().feed(listening(tcp(PEER), holders.clone(), false));
    let one = start().feed(exit(app(), 11)).attempt(closed(socket(PEER))).page(502).verdict();
    is(&one, Symptom::ClosedEarly, Cause::Crashed, Certainty::Inferred);
    let trace = start().feed(exit(app(), 11)).feed(exit(process(13, "php-fpm"), 11));
    let two = trace.attempt(closed(socket(PEER))).page(502).verdict();
    is(&two, Symptom::ClosedEarly, Cause::Unknown, Certainty::Unknown);
    let none = start().attempt(closed(socket(PEER))).page(502).verdict();
    is(&none, Symptom::ClosedEarly, Cause::Unknown, Certainty::Unknown);
}

#[test]
fn a_reused_connection_that_was_closing_is_a_race() {
    let fin = |at| Socket { requests: 9, fin_at: Some(Nanos(at)), ..socket(PEER) };
    let before = Trace::new().attempt(closed(fin(1_000_000_250))).page(502).verdict();
    is(&before, Symptom::ClosedEarly, Cause::KeepaliveRace, Certainty::Proven);
    let crossing = Trace::new().attempt(closed(fin(1_000_400_000))).page(502).verdict();
    is(&crossing, Symptom::ClosedEarly, Cause::KeepaliveRace, Certainty::Inferred);
    let fresh = Socket { requests: 1, ..fin(1_000_000_250) };
    let fresh = Trace::new().attempt(closed(fresh)).page(502).verdict();
    is(&fresh, Symptom::ClosedEarly, Cause::Unknown, Certainty::Unknown);
}

#[test]
fn another_host_closed_the_connection() {
    let away = Socket { fin_at: Some(Nanos(1_000_900_000)), ..socket("198.51.100.7:80") };
    let found = Trace::new().attempt(closed(away)).page(502).verdict();
    is(&found, Symptom::ClosedEarly, Cause::ClosedByRemote, Certainty::Proven);
    let unjoined = Socket { unacked: None, fin_at: Some(Nanos(1_000_900_000)), ..socket("198.51.100.7:80") };
    let trace = Trace::new().feed(nobodys("198.51.100.7:80"));
    let found = trace.attempt(closed(unjoined)).page(502).verdict();
    is(&found, Symptom::ClosedEarly, Cause::ClosedByRemote, Certainty::Inferred);
}

fn timed_out(socket: Socket, action: &str) -> Attempt {
    Attempt { socket: Some(Box::new(socket)), ..said(PEER, "upstream timed out", 110, action) }
}

#[test]
fn queues_and_slowness_are_told_apart() {
    let syn = Socket { established_at: None, sent_at: None, retransmits: 2, ..socket(PEER) };
    let full = Trace::new()
        .feed(queued(tcp(PEER), 129, 128))
        .attempt(timed_out(syn.clone(), CONNECTING))
        .page(504)
        .verdict();
    is(&full, Symptom::ConnectTimedOut, Cause::QueueFull, Certainty::Proven);
    says(&full, "129 waiting, limit 128");
    let empty =
        Trace::new().feed(queued(tcp(PEER), 0, 128)).attempt(timed_out(syn, CONNECTING)).page(504).verdict();
    is(&empty, Symptom::ConnectTimedOut, Cause::Firewall, Certainty::Inferred);
    let read = |accepted| timed_out(Socket { accepted, ..socket(PEER) }, READING);
    let slow = Trace::new().attempt(read(Some(true))).page(504).verdict();
    is(&slow, Symptom::ReadTimedOut, Cause::UpstreamSlow, Certainty::Proven);
    let waiting = Trace::new().attempt(read(Some(false))).page(504).verdict();
    is(&waiting, Symptom::ReadTimedOut, Cause::NotAccepted, Certainty::Proven);
    let unknown = Trace::new().attempt(read(None)).page(504).verdict();
    is(&unknown, Symptom::ReadTimedOut, Cause::Unknown, Certainty::Unknown);
    let peer = PeerSocket {
        of: 0xabc,
        accepted: Some(true),
        holders: vec![app()],
        unread: Some(0),
        ..PeerSocket::default()
    };
    let named = Trace::new().feed(Body::PeerSocket(peer)).attempt(read(None)).page(504).verdict();
    is(&named, Symptom::ReadTimedOut, Cause::UpstreamSlow, Certainty::Proven);
    begins(&named, "php-fpm[12] accepted");
    let backlog =
        Trace::new().attempt(said(SOCK, "connect() to %V failed", 11, CONNECTING)).page(502).verdict();
    is(&backlog, Symptom::SocketBacklogFull, Cause::QueueFull, Certainty::Proven);
}

#[test]
fn limits_of_this_host() {
    let ports =
        Ports { remote: PEER.parse().expect("an address"), netns: 1, low: 40_000, high: 40_009, used: 10 };
    let exhausted = said(PEER, "connect() to %V failed", 99, CONNECTING);
    let found = Trace::new().feed(Body::Ports(ports)).attempt(exhausted).page(502).verdict();
    is(&found, Symptom::AddressExhausted, Cause::PortExhaustion, Certainty::Proven);
    let limits = Limits { worker: WORKER, nofile: 64, open: 64, file_max: 1000, file_used: 500 };
    let found = Trace::new()
        .feed(Body::Limits(limits))
        .attempt(said(PEER, "socket() failed", 24, CONNECTING))
        .page(500)
        .verdict();
    is(&found, Symptom::FdExhausted, Cause::FdLimit, Certainty::Proven);
    says(&found, "64 descriptors open of its limit 64");
    let found = Trace::new().attempt(said(PEER, "connect() failed", 113, CONNECTING)).page(502).verdict();
    is(&found, Symptom::ConnectUnreachable, Cause::Unreachable, Certainty::Proven);
    let name = Attempt {
        detail: Some("app.internal".into()),
        number: Some(3),
        ..said("", "%V could not be resolved (%i: %s)", 0, "")
    };
    let found = Trace::new().attempt(name).page(502).verdict();
    is(&found, Symptom::NameUnresolved, Cause::Dns, Certainty::Proven);
    says(&found, "NXDOMAIN");
}

#[test]
fn the_upstreams_bytes() {
    let version = "upstream sent unsupported FastCGI protocol version: %d";
    let http = Attempt { number: Some(72), ..said(PEER, version, 0, READING) };
    is(
        &Trace::new().attempt(http).page(502).verdict(),
        Symptom::HeaderInvalid,
        Cause::ProtocolMismatch,
        Certainty::Proven,
    );
    let bad = said(PEER, "upstream sent invalid header", 0, READING);
    is(
        &Trace::new().attempt(bad).page(502).verdict(),
        Symptom::HeaderInvalid,
        Cause::BadResponse,
        Certainty::Proven,
    );
    let big = said(PEER, "upstream sent too big header", 0, READING);
    is(
        &Trace::new().attempt(big).page(502).verdict(),
        Symptom::HeaderTooBig,
        Cause::HeaderBufferSmall,
        Certainty::Proven,
    );
}

#[test]
fn all_peers_down_names_each_peers_last_failure() {
    let none = || Attempt { index: 2, ..said("app", "no live upstreams", 0, CONNECTING) };
    let found = Trace::new().attempt(refused()).attempt(none()).page(502).verdict();
    is(&found, Symptom::NoLiveUpstreams, Cause::AllPeersDown, Certainty::Proven);
    says(&found, "127.0.0.1:9000 connect-refused (not-listening)");
    let later = RequestKey { connection: 9, ..KEY };
    let out =
        Trace::new().attempt(refused()).attempt(none()).page(502).attempt(Attempt { key: later, ..none() });
    let again = out.feed(Body::Request(Box::new(Request { key: later, ..page(502) }))).end();
    assert!(matches!(&again[1], Outcome::Verdict(verdict) if verdict.cause == Cause::AllPeersDown));
    let alone = Trace::new().attempt(none()).page(502).verdict();
    is(&alone, Symptom::NoLiveUpstreams, Cause::Unknown, Certainty::Unknown);
}
