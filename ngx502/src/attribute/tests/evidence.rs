//! What a summary claims stands among the evidence, with the time of its look-up.

use super::*;

#[test]
fn a_full_queue_shows_length_limit_and_whether_its_workers_were_busy() {
    let full = said(SOCK, "connect() to %V failed", 11, CONNECTING);
    let found = Trace::new()
        .feed(queued(Endpoint::Unix("/run/app.sock".into()), 129, 128))
        .attempt(full.clone())
        .page(502)
        .verdict();
    is(&found, Symptom::SocketBacklogFull, Cause::QueueFull, Certainty::Proven);
    assert_eq!(
        observed(&found, "queue"),
        ["a look-up found 129 waiting, limit 128; 1 process on that listener, all busy"]
    );
    let ends = Ends::Unix { path: "/run/app.sock".into() };
    let seen = Socket { ends, queue: Some(Queue { length: 3, limit: 2 }), ..socket(PEER) };
    let found = Trace::new().attempt(Attempt { socket: Some(Box::new(seen)), ..full }).page(502).verdict();
    assert_eq!(observed(&found, "queue"), ["the connect found 3 waiting, limit 2"]);
}

#[test]
fn a_connection_that_nobody_took_shows_where_it_was() {
    let timed_out = said(PEER, "upstream timed out", 110, READING);
    let timed_out = Attempt { socket: Some(Box::new(socket(PEER))), ..timed_out };
    let waiting = PeerSocket {
        of: 0xabc,
        accepted: Some(false),
        holders: vec![],
        unread: Some(78),
        ..PeerSocket::default()
    };
    let found = Trace::new()
        .feed(queued(tcp(PEER), 5, 128))
        .feed(Body::PeerSocket(waiting))
        .attempt(timed_out.clone())
        .page(504)
        .verdict();
    is(&found, Symptom::ReadTimedOut, Cause::NotAccepted, Certainty::Proven);
    assert_eq!(
        observed(&found, "accept"),
        ["a look-up found the server's end, not accepted by any process, 78 bytes unread"]
    );
    assert_eq!(observed(&found, "queue").len(), 1);
    let taken = PeerSocket {
        of: 0xabc,
        accepted: Some(true),
        holders: vec![process(12, "node")],
        unread: Some(0),
        ..PeerSocket::default()
    };
    let found = Trace::new().feed(Body::PeerSocket(taken)).attempt(timed_out).page(504).verdict();
    is(&found, Symptom::ReadTimedOut, Cause::UpstreamSlow, Certainty::Proven);
    assert_eq!(observed(&found, "accept"), ["a look-up found the server's end held by node[12]"]);
}

#[test]
fn what_ran_out_is_counted() {
    let ports =
        Ports { remote: PEER.parse().expect("an address"), netns: 1, low: 40_000, high: 40_009, used: 10 };
    let exhausted = said(PEER, "connect() to %V failed", 99, CONNECTING);
    let found = Trace::new().feed(Body::Ports(ports)).attempt(exhausted).page(502).verdict();
    assert_eq!(observed(&found, "ports"), ["10 of 10 local ports (40000-40009) led to 127.0.0.1:9000"]);
    let limits = Limits { worker: WORKER, nofile: 64, open: 64, file_max: 1000, file_used: 500 };
    let none_left = |errno| said(PEER, "socket() failed", errno, CONNECTING);
    let found = Trace::new().feed(Body::Limits(limits)).attempt(none_left(24)).page(500).verdict();
    assert_eq!(
        observed(&found, "descriptors"),
        ["worker 410 had 64 of 64 descriptors open, the system 500 of 1000 files"]
    );
    assert_eq!(
        fixes(&found),
        ["# raise worker_rlimit_nofile (now 64) in nginx.conf, and LimitNOFILE= of its unit"]
    );
    let found = Trace::new().feed(Body::Limits(limits)).attempt(none_left(23)).page(500).verdict();
    begins(&found, "the system-wide file limit is reached: 500 of fs.file-max 1000");
    assert!(fixes(&found)[0].contains("fs.file-max"), "{:?}", fixes(&found));
}

#[test]
fn a_refusing_component_is_in_the_evidence_and_the_fix() {
    let at = RefusedAt {
        path: "/run/app".into(),
        uid: 0,
        gid: 0,
        owner: Some("root".into()),
        group: Some("app".into()),
        mode: 0o750,
        search: true,
    };
    let walk = PathWalk {
        worker: WORKER,
        path: "/run/app/x.sock".into(),
        uid: 33,
        gid: 33,
        groups: vec![33, 44],
        user: Some("www-data".into()),
        refused: Some(at),
        missing: None,
    };
    let denied = said("unix:/run/app/x.sock", "connect() to %V failed", 13, CONNECTING);
    let found = Trace::new().feed(Body::PathWalk(Box::new(walk))).attempt(denied).page(502).verdict();
    is(&found, Symptom::SocketDenied, Cause::FilePermissions, Certainty::Proven);
    assert_eq!(
        observed(&found, "path"),
        [
            "a walk of /run/app/x.sock with nginx's uid 33, gid 33, groups 33,44 ends at /run/app (root:app 0750)"
        ]
    );
    assert_eq!(fixes(&found), ["setfacl -m u:33:x -- /run/app", "namei -l -- /run/app/x.sock"]);
}

#[test]
fn an_oom_kill_names_the_last_straw_apart_from_the_victim() {
    let app = process(12, "php-fpm");
    let oom = Oom {
        victim: app.clone(),
        trigger: process(60, "cron"),
        memcg: Some(true),
        limit_cgroup: Some("php8.2-fpm.service".into()),
        limit_bytes: Some(512 << 20),
        rss_bytes: Some(400 << 20),
        ..Oom::default()
    };
    let found = after_death(vec![Body::Oom(oom.clone()), exit(app.clone(), 9)]);
    let chosen =
        "the OOM killer chose php-fpm[12] with 400 MiB resident in cgroup php8.2-fpm.service (limit 512 MiB)";
    assert_eq!(observed(&found, "oom"), ["memory ran out as cron[60] asked for more", chosen]);
    let own = after_death(vec![Body::Oom(Oom { trigger: app.clone(), ..oom }), exit(app, 9)]);
    assert_eq!(observed(&own, "oom").len(), 1);
}

/// The kernel names the end of the limiting cgroup's path; the rest is known from the process, or looked up.
#[test]
fn an_oom_victims_cgroup_has_its_whole_path() {
    let app = || process(12, "php-fpm");
    let oom = |end: &str| {
        let (memcg, limit_cgroup) = (Some(true), Some(end.to_owned()));
        Body::Oom(Oom { victim: app(), memcg, limit_cgroup, ..Oom::default() })
    };
    let cgroup = |path: &str| {
        let cgroup = Some(path.to_owned());
        Body::Process(Box::new(ProcessInfo { process: app(), cgroup, ..ProcessInfo::default() }))
    };
    let limit = |path: &str| {
        let cgroup = path.to_owned();
        Body::MemoryLimit(MemoryLimit { victim: app(), cgroup, limit_bytes: 1, usage_bytes: None })
    };
    let own = "/system.slice/php.service/pool";
    for (records, named) in [
        (vec![cgroup(own), oom("pool")], "system.slice/php.service/pool"),
        (vec![oom("php.service"), cgroup(own)], "system.slice/php.service"),
        (vec![oom("php.service"), limit("/system.slice/php.service")], "system.slice/php.service"),
        // Of another group, or of one whose name only ends alike.
        (vec![oom("php.service"), limit("/system.slice"), cgroup("/x/my-php.service")], "php.service"),
    ] {
        let found = after_death([records, vec![exit(app(), 9)]].concat());
        assert!(summary(&found).ends_with(&format!(" in cgroup {named}")), "{}", summary(&found));
    }
}

#[test]
fn a_users_own_service_is_told_from_the_systems() {
    let app = || process(12, "php-fpm");
    let restarted = |cgroup: &str| {
        let (unit, cgroup) = (Some("app.service".to_owned()), Some(cgroup.to_owned()));
        let info = ProcessInfo { process: app(), unit, cgroup, ..ProcessInfo::default() };
        let found = after_death(vec![Body::Process(Box::new(info)), exit(app(), 9)]);
        fixes(&found).iter().map(ToString::to_string).find(|fix| fix.ends_with("restart app.service"))
    };
    assert_eq!(restarted("/system.slice/app.service").as_deref(), Some("systemctl restart app.service"));
    let own = restarted("/user.slice/user-1000.slice/user@1000.service/app.slice/app.service");
    let command = "sudo -u '#1000' XDG_RUNTIME_DIR=/run/user/1000 systemctl --user restart app.service";
    assert_eq!(own.as_deref(), Some(command));
}

#[test]
fn three_near_misses_are_named_and_the_rest_counted() {
    let fixes = |count: u16| {
        let Body::Endpoint(empty) = listening(tcp(PEER), vec![], true) else { unreachable!() };
        let near = (0..count).map(|n| NearListener {
            bound: tcp(&format!("127.0.0.1:{}", 9001 + n)),
            netns: NETNS,
            process: process(40, "app"),
            why: Nearness::SameProgram,
        });
        let asked = EndpointInfo { near: near.collect(), ..*empty };
        let found = Trace::new().feed(Body::Endpoint(Box::new(asked))).attempt(refused()).page(502).verdict();
        let named = fixes(&found).iter().filter(|fix| fix.contains("is that the upstream?")).count();
        (named, fixes(&found).iter().find(|fix| fix.contains("more such listeners")).map(ToString::to_string))
    };
    assert_eq!(fixes(3), (3, None));
    assert_eq!(fixes(5), (3, Some("ss -lntxp  # 2 more such listeners".to_owned())));
    let most = u16::try_from(NEAR_MAX).expect("a small number");
    assert_eq!(fixes(most), (3, Some("ss -lntxp  # at least 5 more such listeners".to_owned())));
}
