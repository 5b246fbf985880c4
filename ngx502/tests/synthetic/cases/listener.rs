//! No process answered at the address or path that nginx connected to.

use std::net::SocketAddr;

use ngx502::event::*;

use super::Case;
use super::death::fallen;
use crate::synthetic::scene::{CONNECTING, Scene, near};

/// A container's network namespace.
const CONTAINER: u32 = 4_026_532_300;

/// An AF_UNIX listener of these holders; a later look-up finds no listener.
fn emptied(s: &mut Scene, holders: Vec<ProcessRef>, between: Vec<Body>, after: Vec<Body>) {
    s.php_fpm();
    s.feed(s.listening(s.unix(), holders, false));
    s.feed_all(between);
    s.feed(s.listening(s.unix(), vec![], true));
    s.feed_all(after);
    s.fails(s.unix_failed(111));
}

/// There was never a listener; a look-up found these near misses, and this at the path.
fn never(s: &mut Scene, near: Vec<NearListener>, path: Option<PathKind>, errno: i32) {
    s.feed(s.near(s.unix(), near, path));
    s.fails(s.unix_failed(errno));
}

/// The same of a TCP port.
fn never_tcp(s: &mut Scene, near: Vec<NearListener>) {
    s.feed(s.near(s.tcp(), near, None));
    s.fails(s.refused());
}

/// Records are lost first, so that a listener may have come and gone.
fn unwatched(s: &mut Scene) {
    s.feed(Body::Lost { events: 3, reason: "ring buffer full".into() });
}

/// A listener at `path` ended, and there is none at nginx's path.
fn ended_at(s: &mut Scene, path: &str) {
    let open = Listen {
        open: true,
        id: 9,
        netns: 4_026_531_840,
        endpoint: Endpoint::Unix(path.into()),
        process: s.app(),
        exiting: false,
        exit_code: 0,
        backlog: 511,
        mounts: None,
    };
    s.feed(Body::Listen(open));
    s.feed(s.exit(s.app(), 9));
    never(s, vec![], Some(PathKind::Socket), 111);
}

fn failed(unit: &str, result: &str, exit_status: Option<i32>) -> FailedUnit {
    FailedUnit { unit: unit.into(), result: result.into(), exit_status, at: Some(Nanos(900_000_000_000)) }
}

fn many_near(s: &mut Scene, count: u16) {
    let address = |n| SocketAddr::from(([127, 0, 0, 1], 9_101 + n));
    let one = |n| near(Endpoint::Tcp(address(n)), s.process(940, "app"), Nearness::SameProgram);
    never_tcp(s, (0..count).map(one).collect());
}

/// The listener of this place is in a container's namespace.
fn elsewhere(s: &Scene) -> Body {
    s.listening_in(CONTAINER, anywhere(s), s.app())
}

fn anywhere(s: &Scene) -> Endpoint {
    Endpoint::Tcp(([0, 0, 0, 0], s.remote().port()).into())
}

/// A connect to the address that is not nginx's own fails, and this is found of the address.
fn remote_fails(s: &mut Scene, owner: Owner, errno: i32, change: impl FnOnce(&mut Socket)) {
    let mut socket = s.unconnected(s.remote());
    change(&mut socket);
    s.feed(s.owned(s.remote(), owner));
    s.fails(s.on(socket, "connect() failed", errno, CONNECTING));
}

/// The listener in a container's namespace is killed.
fn killed_in_container(s: &mut Scene) {
    let remote = s.remote().ip();
    s.feed_all([s.inside(CONTAINER, s.app(), vec![remote]), elsewhere(s)]);
    s.feed_all([s.sent(9, s.app(), s.deploy()), s.exit(s.app(), 9)]);
    if let Body::Listen(closed) = s.shut(anywhere(s), s.app(), true) {
        s.feed(Body::Listen(Listen { netns: CONTAINER, ..closed }));
    }
}

/// A container that publishes the upstream's port and does not run.
fn down(s: &Scene, code: i32, oom_killed: bool, finished_us: Option<i64>) -> Body {
    let names = ContainerNames { runtime: Some(Runtime::Docker), name: Some("api".into()), pod: None };
    Body::DownContainers(vec![DownContainer {
        id: "3f4a1b2c3d4e5f60".repeat(4),
        names,
        exit_code: Some(code),
        oom_killed,
        finished_us,
        publishes: vec![(None, s.address().port())],
        ..DownContainer::default()
    }])
}

pub(super) const CASES: &[Case] = &[
    ("closed by a process that lives", |s| fallen(s, vec![s.shut(s.tcp(), s.app(), false)])),
    ("closed unseen by a process that lives", |s| {
        emptied(s, vec![s.app()], vec![], vec![s.known(s.app(), |_| ())]);
    }),
    ("one of two holders died, the other lives without the socket", |s| {
        let between = vec![s.exit(s.second(), 9)];
        emptied(s, vec![s.app(), s.second()], between, vec![s.known(s.app(), |_| ())]);
    }),
    ("one of two holders died, and of the other nothing is known", |s| {
        let between = vec![s.sent(9, s.second(), s.deploy()), s.exit(s.second(), 9)];
        emptied(s, vec![s.app(), s.second()], between, vec![]);
    }),
    ("a listener that disappeared between two look-ups", |s| emptied(s, vec![s.app()], vec![], vec![])),
    ("it was another namespace's", |s| {
        s.php_fpm();
        let Body::Endpoint(info) = s.listening(s.unix(), vec![s.app()], false) else { unreachable!() };
        s.feed(Body::Endpoint(Box::new(EndpointInfo { netns: 2, ..*info })));
        s.feed_all([s.sent(9, s.app(), s.deploy()), s.exit(s.app(), 9)]);
        s.feed(s.listening(s.unix(), vec![], true));
        s.fails(s.unix_failed(111));
    }),
    ("the program that died came back elsewhere", |s| {
        s.php_fpm();
        s.feed(s.listening(s.tcp(), vec![s.app()], false));
        s.feed(s.exit(s.app(), 1 << 8));
        let there = Endpoint::Tcp(([127, 0, 0, 1], 9_100).into());
        never_tcp(s, vec![near(there, s.process(840, "php-fpm8.2"), Nearness::SameProgram)]);
    }),
    ("a filter's ICMP error", |s| {
        let socket = Socket { icmp: Some((3, 3)), ..s.unconnected(s.address()) };
        s.fails(s.on(socket, "connect() failed", 111, CONNECTING));
    }),
    ("a refusal where a look-up found the listener alive", |s| {
        s.feed(s.listening(s.tcp(), vec![s.app()], false));
        s.feed(s.listening(s.tcp(), vec![s.app()], true));
        s.fails(s.refused());
    }),
    ("a refusal by a listener that no look-up confirmed", |s| {
        s.feed(s.listening(s.tcp(), vec![s.app()], false));
        s.fails(s.refused());
    }),
    ("a socket whose file was replaced", |s| {
        s.feed(s.known(s.app(), |_| ()));
        never(s, vec![near(s.unix(), s.app(), Nearness::SameDirectory)], Some(PathKind::Missing), 2);
    }),
    ("a listener that nginx's path does not reach", |s| {
        s.feed(s.listening(s.unix(), vec![s.app()], false));
        s.fails(s.unix_failed(111));
    }),
    ("an address that could not be read", |s| s.fails(s.said("", "connect() failed", 111, CONNECTING))),
    ("another host refused", |s| remote_fails(s, Owner::Nobody, 111, |_| ())),
    ("another host refused the port of a process here that was killed", |s| {
        s.feed(s.listening(anywhere(s), vec![s.app()], false));
        s.feed_all([s.sent(9, s.app(), s.deploy()), s.exit(s.app(), 9), s.shut(anywhere(s), s.app(), true)]);
        remote_fails(s, Owner::Nobody, 111, |_| ());
    }),
    ("killed in a container whose address nginx connects to", |s| {
        killed_in_container(s);
        remote_fails(s, Owner::Namespace(CONTAINER), 111, |_| ());
    }),
    ("an address that is another container's now", |s| {
        let named = |process: ProcessRef, name: &str| {
            s.known(process, |info| {
                (info.unit, info.container) = (None, Some("3f4a1b2c3d4e5f60".repeat(4)));
                info.container_names = Some(ContainerNames {
                    runtime: Some(Runtime::Docker),
                    name: Some(name.into()),
                    pod: None,
                });
            })
        };
        let (old, new, worker) = (s.process(901, "node"), s.process(902, "node"), s.process(903, "celery"));
        let bodies = [named(old.clone(), "api"), named(new.clone(), "api"), named(worker.clone(), "worker")];
        s.feed_all(bodies);
        let (ip, other) = (s.remote().ip(), SocketAddr::from(([172, 18, 0, 5], 80)).ip());
        s.feed_all([s.inside(CONTAINER, old.clone(), vec![ip]), s.exit(old, 0)]);
        s.feed_all([s.inside(CONTAINER + 1, worker, vec![ip]), s.inside(CONTAINER + 2, new, vec![other])]);
        let Body::Endpoint(info) = s.near(Endpoint::Tcp(s.remote()), vec![], None) else { unreachable!() };
        s.feed(Body::Endpoint(Box::new(EndpointInfo { netns: CONTAINER + 1, ..*info })));
        s.fails(s.on(s.unconnected(s.remote()), "connect() failed", 111, CONNECTING));
    }),
    ("an address that was a container's, which did not listen", |s| {
        let remote = s.remote().ip();
        s.feed_all([s.inside(CONTAINER, s.app(), vec![remote]), s.exit(s.app(), 0)]);
        remote_fails(s, Owner::Nobody, 113, |_| ());
    }),
    ("killed in a container to which the connect is translated", |s| {
        killed_in_container(s);
        let address = SocketAddr::from(([172, 18, 0, 4], s.remote().port()));
        let refusal = Refusal { at: s.before(50), address, netns: CONTAINER, queue: None };
        remote_fails(s, Owner::Nobody, 111, |socket| socket.refusal = Some(refusal));
    }),
    ("killed with its container, whose address is nobody's now", |s| {
        killed_in_container(s);
        remote_fails(s, Owner::Nobody, 113, |_| ());
    }),
    ("silence where a container was", |s| {
        killed_in_container(s);
        s.feed(s.owned(s.remote(), Owner::Nobody));
        let socket = Socket { retransmits: 5, ..s.unconnected(s.remote()) };
        s.fails(s.on(socket, "upstream timed out", 110, CONNECTING));
    }),
    ("another host or a container refused", |s| {
        s.feed(elsewhere(s));
        let socket = s.unconnected(s.remote());
        s.fails(s.on(socket, "connect() failed", 111, CONNECTING));
    }),
    ("no listener since tracing began", |s| never_tcp(s, vec![])),
    ("no listener, but records were lost", |s| {
        unwatched(s);
        never_tcp(s, vec![]);
    }),
    ("no look-up was made", |s| s.fails(s.refused())),
    ("a listener by the time of the look-up", |s| {
        s.feed(s.listening(s.tcp(), vec![s.app()], true));
        let socket = Socket { connect_at: Some(s.before(1_500)), ..s.unconnected(s.address()) };
        s.fails(s.on(socket, "connect() failed", 111, CONNECTING));
    }),
    ("a path that does not exist", |s| never(s, vec![], Some(PathKind::Missing), 2)),
    ("a path that does not exist, but records were lost", |s| {
        unwatched(s);
        never(s, vec![], Some(PathKind::Missing), 2);
    }),
    ("a socket file without a server", |s| never(s, vec![], Some(PathKind::Socket), 111)),
    ("a path that is not a socket", |s| never(s, vec![], Some(PathKind::Other), 111)),
    ("a listener ended at another path to the same file name", |s| {
        ended_at(s, "/srv/run/php8.2-fpm.sock");
    }),
    ("a listener ended at a relative path to the same file name", |s| ended_at(s, "php8.2-fpm.sock")),
    ("the same port on another address", |s| {
        let bound = Endpoint::Tcp(([10, 0, 0, 5], s.address().port()).into());
        never_tcp(s, vec![near(bound, s.app(), Nearness::SamePort)]);
    }),
    ("the same port in another network namespace", |s| {
        never_tcp(s, vec![near(s.tcp(), s.app(), Nearness::OtherNamespace)]);
    }),
    ("a listener whose file was removed", |s| {
        s.php_fpm();
        never(s, vec![near(s.unix(), s.app(), Nearness::SamePath)], Some(PathKind::Missing), 2);
    }),
    ("a listener whose file was replaced", |s| {
        s.php_fpm();
        never(s, vec![near(s.unix(), s.app(), Nearness::SamePath)], Some(PathKind::Socket), 111);
    }),
    ("systemd's listener, whose file was removed", |s| {
        let systemd = s.systemd();
        s.feed(s.known(systemd.clone(), |info| info.unit = Some("init.scope".into())));
        never(s, vec![near(s.unix(), systemd, Nearness::SamePath)], Some(PathKind::Missing), 2);
    }),
    ("a listener in other mounts", |s| {
        s.php_fpm();
        never(s, vec![near(s.unix(), s.app(), Nearness::OtherFiles)], Some(PathKind::Missing), 2);
    }),
    ("a listener in other mounts, and another file here", |s| {
        s.php_fpm();
        never(s, vec![near(s.unix(), s.app(), Nearness::OtherFiles)], Some(PathKind::Socket), 111);
    }),
    ("a socket in the same directory", |s| {
        let bound = Endpoint::Unix("/run/php/www.sock".into());
        never(s, vec![near(bound, s.app(), Nearness::SameDirectory)], Some(PathKind::Missing), 2);
    }),
    ("five listeners of the same program", |s| many_near(s, 5)),
    ("more than a look-up counts", |s| many_near(s, 8)),
    ("a container that published the port and ran out of memory", |s| {
        s.feed(down(s, 137, true, Some(1_795_227_400_500_000)));
        never_tcp(s, vec![]);
    }),
    ("a container that never ran", |s| {
        s.feed(down(s, 127, false, None));
        never_tcp(s, vec![]);
    }),
    ("services that failed, one of them by a like name", |s| {
        let units = vec![
            failed("cron.service", "exit-code", Some(1)),
            failed("php8.2-fpm.service", "oom-kill", None),
            failed("a;reboot.service", "timeout", None),
        ];
        s.feed(Body::FailedUnits(units));
        never(s, vec![], Some(PathKind::Missing), 2);
    }),
    ("an abstract socket", |s| {
        s.feed(s.near(Endpoint::Unix("\0php-fpm".into()), vec![], None));
        let socket = s.unix_unconnected("\0php-fpm");
        let attempt = s.said("", "connect() failed", 111, CONNECTING);
        s.fails(Attempt { socket: Some(Box::new(socket)), ..attempt });
    }),
];
