//! What processes were stuck on that did not answer or accept in time.

use ngx502::event::*;

use super::Case;
use super::waiting::{other_end, unanswered};
use crate::synthetic::scene::Scene;

/// A process with these threads.
fn found(process: ProcessRef, threads: Vec<Doing>) -> ProcessWaits {
    let thread_count = threads.len() as u32;
    let tid = process.pid.0;
    let threads = threads.into_iter().zip(tid..).map(|(doing, tid)| ThreadWait { tid, doing });
    ProcessWaits { process, threads: threads.collect(), thread_count, ..ProcessWaits::default() }
}

/// php-fpm's worker has the request and does not answer; a moment later a look finds this.
fn accepted(s: &mut Scene, processes: Vec<ProcessWaits>) {
    s.php_fpm();
    s.after(60);
    s.feed(other_end(s, Some(true), vec![s.app()], 0));
    unanswered(s, s.socket());
    s.feed(Body::Waits(Box::new(Waits { processes })));
}

fn worker(s: &mut Scene, doing: Doing) {
    let one = found(s.app(), vec![doing]);
    accepted(s, vec![one]);
}

/// What else is known of the worker.
fn worker_is(s: &mut Scene, change: impl FnOnce(&mut ProcessWaits)) {
    let mut one = found(s.app(), vec![Doing::Runs(400)]);
    change(&mut one);
    accepted(s, vec![one]);
}

/// Both workers are in this as a third request waits in their queue.
fn pool(s: &mut Scene, each: [Doing; 2]) {
    s.php_fpm();
    s.after(60);
    s.feed(s.queued(s.tcp(), (5, 511), vec![s.app(), s.second()], Some(true)));
    s.feed(other_end(s, Some(false), vec![], 78));
    unanswered(s, Socket { accepted: Some(false), ..s.socket() });
    let processes =
        [s.app(), s.second()].into_iter().zip(each).map(|(process, doing)| found(process, vec![doing]));
    s.feed(Body::Waits(Box::new(Waits { processes: processes.collect() })));
}

/// A connection to a database on another host, over which nothing came for so long.
fn database(seconds: u32) -> SocketWait {
    let remote = Some(Endpoint::Tcp(([10, 0, 0, 5], 3_306).into()));
    SocketWait {
        remote,
        sent_ms: Some(seconds * 1_000),
        received_ms: Some(seconds * 1_000 + 40),
        ..SocketWait::default()
    }
}

fn on(socket: SocketWait) -> Doing {
    Doing::Socket(Box::new(socket))
}

/// A connection to Redis on this host.
fn redis(s: &Scene) -> SocketWait {
    let remote = Some(Endpoint::Tcp(([127, 0, 0, 1], 6_379).into()));
    SocketWait { remote, peers: vec![s.process(77, "redis-server")], ..database(59) }
}

pub(super) const CASES: &[Case] = &[
    ("a database on another host", |s| worker(s, on(database(59)))),
    ("a database that accepts no connection", |s| {
        worker(s, on(SocketWait { connecting: true, ..database(0) }))
    }),
    ("a log server that reads nothing, of a process known by its socket", |s| {
        let remote = Some(Endpoint::Unix("/run/log.sock".into()));
        let peers = vec![s.process(77, "vector")];
        let kind = SocketKind::Unix;
        worker(s, on(SocketWait { sending: true, kind, remote, peers, ..SocketWait::default() }));
    }),
    ("a resolver", |s| {
        let remote = Some(Endpoint::Tcp(([10, 0, 0, 2], 53).into()));
        worker(s, on(SocketWait { kind: SocketKind::Udp, remote, ..SocketWait::default() }));
    }),
    ("an event loop with a question of its own", |s| {
        worker(s, Doing::Events(vec![database(59), database(58)]))
    }),
    ("an event loop whose question is older than the request", |s| {
        worker(s, Doing::Events(vec![database(600)]))
    }),
    ("a thread among others", |s| {
        let one = found(s.app(), vec![on(database(59)), Doing::Runs(500), Doing::Idle]);
        accepted(s, vec![one]);
    }),
    ("a thread of a pool of threads", |s| {
        let one = found(s.app(), vec![Doing::Idle, on(database(59)), Doing::Idle]);
        accepted(s, vec![one]);
    }),
    ("a thread that computes beside an idle one", |s| {
        let one = found(s.app(), vec![Doing::Idle, Doing::Runs(990)]);
        accepted(s, vec![one]);
    }),
    ("a CPU quota that holds now and then", |s| {
        worker_is(s, |one| {
            let cgroup = "system.slice/php8.2-fpm.service".to_owned();
            let (quota_us, period_us, periods, throttled) = (50_000, 100_000, 2, 1);
            one.throttled = Some(Throttled { cgroup, quota_us, period_us, periods, throttled });
        });
    }),
    ("a connection pool's lock, whose holder waits", |s| {
        let one = found(s.app(), vec![on(database(59)), Doing::Mutex(s.app().pid.0)]);
        accepted(s, vec![one]);
    }),
    ("all of a pool", |s| pool(s, [on(database(58)), on(database(12))])),
    ("most of a pool", |s| pool(s, [on(database(58)), Doing::Sleeps])),
    ("a full queue, since all of a pool wait", |s| {
        s.php_fpm();
        s.feed(s.queued(s.unix(), (129, 128), vec![s.app(), s.second()], Some(true)));
        s.fails(s.unix_failed(11));
        let processes = [s.app(), s.second()].map(|process| found(process, vec![on(database(30))]));
        s.feed(Body::Waits(Box::new(Waits { processes: processes.into() })));
    }),
    ("a database that is stopped itself", |s| {
        let stopped = ProcessWaits { stopped: true, ..found(s.process(77, "redis-server"), vec![]) };
        s.feed(s.sent(19, s.process(77, "redis-server"), s.deploy()));
        let asking = found(s.app(), vec![on(redis(s))]);
        accepted(s, vec![asking, stopped]);
    }),
    ("a child that computes", |s| {
        let child = found(s.process(78, "convert"), vec![Doing::Runs(990)]);
        let parent = found(s.app(), vec![Doing::Child(vec![s.process(78, "convert")])]);
        accepted(s, vec![parent, child]);
    }),
    ("a worker that computes", |s| worker(s, Doing::Runs(980))),
    ("a pool that computes", |s| pool(s, [Doing::Runs(980), Doing::Runs(990)])),
    ("a CPU quota", |s| {
        worker_is(s, |one| {
            let cgroup = "system.slice/php8.2-fpm.service".to_owned();
            let (quota_us, period_us, periods, throttled) = (50_000, 100_000, 2, 2);
            one.throttled = Some(Throttled { cgroup, quota_us, period_us, periods, throttled });
        });
    }),
    ("a frozen container", |s| {
        s.feed(
            s.known(s.app(), |info| (info.unit, info.container) = (None, Some("3f4a1b2c3d4e5f60".repeat(4)))),
        );
        let frozen = ProcessWaits { frozen: true, ..found(s.app(), vec![]) };
        s.after(60);
        s.feed(other_end(s, Some(true), vec![s.app()], 0));
        unanswered(s, s.socket());
        s.feed(Body::Waits(Box::new(Waits { processes: vec![frozen] })));
    }),
    ("a debugger", |s| {
        let tracer = Some(s.process(90, "gdb"));
        worker_is(s, |one| one.tracer = tracer);
    }),
    ("a signal that nobody was seen to send", |s| worker_is(s, |one| one.stopped = true)),
    ("a lock that another process holds", |s| {
        let (path, holder) = (Some("/var/lib/php/sessions/sess_7f".into()), Some(s.second()));
        worker(s, Doing::FileLock { path, holder });
    }),
    ("a lock of which nothing more is known", |s| worker(s, Doing::FileLock { path: None, holder: None })),
    ("a file of a file system that hangs", |s| {
        worker(s, Doing::Disk { call: Some("openat".into()), path: Some("/mnt/nfs/a".into()) });
    }),
    ("uninterruptible sleep", |s| worker(s, Doing::Disk { call: None, path: None })),
    ("a full pipe", |s| worker(s, Doing::Pipe { writes: true, others: vec![s.process(79, "rotatelogs")] })),
    ("a full pipe without a reader", |s| worker(s, Doing::Pipe { writes: true, others: vec![] })),
    ("a memory cgroup without an OOM killer", |s| {
        worker_is(s, |one| {
            let cgroup = "system.slice/php8.2-fpm.service".to_owned();
            one.memory =
                Some(MemoryState { cgroup, usage_bytes: 64 << 20, limit_bytes: 64 << 20, under_oom: true });
        });
    }),
    ("a memory cgroup over its high mark", |s| {
        worker_is(s, |one| {
            let cgroup = "system.slice/php8.2-fpm.service".to_owned();
            one.memory =
                Some(MemoryState { cgroup, usage_bytes: 65 << 20, limit_bytes: 64 << 20, under_oom: false });
        });
    }),
    ("processes without a descriptor left", |s| {
        s.php_fpm();
        s.after(60);
        s.feed(s.queued(s.tcp(), (5, 511), vec![s.app()], Some(true)));
        s.feed(other_end(s, Some(false), vec![], 78));
        unanswered(s, Socket { accepted: Some(false), ..s.socket() });
        let full = ProcessWaits { files_full: Some(1_024), ..found(s.app(), vec![Doing::Idle]) };
        s.feed(Body::Waits(Box::new(Waits { processes: vec![full] })));
    }),
    ("a sleep of its own", |s| worker(s, Doing::Sleeps)),
    ("a system call that tells nothing", |s| worker(s, Doing::Call(999))),
];
