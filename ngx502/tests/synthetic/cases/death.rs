//! How a listener, or the server of a connection, ended.

use ngx502::event::*;

use super::Case;
use crate::synthetic::scene::Scene;

/// php-fpm's worker is the last that listens, and ends by `deaths`; 12 s later a connect is refused.
pub(super) fn fallen(s: &mut Scene, deaths: Vec<Body>) {
    s.php_fpm();
    fallen_as(s, deaths);
}

/// The same of a process of which something else is known, or nothing.
pub(super) fn fallen_as(s: &mut Scene, deaths: Vec<Body>) {
    last_listener_falls(s, s.app(), deaths);
}

fn last_listener_falls(s: &mut Scene, listener: ProcessRef, deaths: Vec<Body>) {
    s.feed(s.listening(s.tcp(), vec![listener], false));
    s.feed_all(deaths);
    s.after(12);
    s.feed(s.listening(s.tcp(), vec![], true));
    s.fails(s.refused());
}

/// A worker of that program dies of a signal that its master sent it.
fn killed_by(s: &mut Scene, signal: i32, comm: &str) {
    let (master, worker) = (s.process(811, comm), s.process(812, comm));
    s.feed(s.known(worker.clone(), |info| {
        (info.command, info.unit) = (format!("{comm} worker").into(), Some("shop.service".into()));
    }));
    last_listener_falls(
        s,
        worker.clone(),
        vec![s.sent(signal, worker.clone(), master), s.exit(worker, signal)],
    );
}

/// php-fpm's worker dies of a signal that another process sent it.
fn killed_with(s: &mut Scene, signal: i32, sender: ProcessRef) {
    fallen(s, vec![s.sent(signal, s.app(), sender), s.exit(s.app(), signal)]);
}

/// The service manager does it.
fn stopped_by_systemd(s: &mut Scene, signal: i32, unit: Option<&str>) {
    s.feed(s.known(s.app(), |info| info.unit = unit.map(str::to_owned)));
    fallen_as(s, vec![s.sent(signal, s.app(), s.systemd()), s.exit(s.app(), signal)]);
}

/// php-fpm's master gets a signal, and sends its worker one.
fn told_first(s: &mut Scene, signal: i32, sender: ProcessRef) {
    let told = s.sent(signal, s.master(), sender);
    fallen(s, vec![told, s.sent(15, s.app(), s.master()), s.exit(s.app(), 15)]);
}

/// php-fpm's worker dies of a signal that nobody else sent.
fn by_itself(s: &mut Scene, signal: i32, code: i32, context: ProcessRef) {
    fallen(s, vec![s.signal(signal, code, s.app(), context), s.exit(s.app(), signal)]);
}

/// The first process of a container ends, and the kernel kills the worker in it.
fn first_of_container_falls(s: &mut Scene, deaths: impl FnOnce(&Scene, ProcessRef) -> Vec<Body>) {
    let (init, worker) = (s.process(811, "sh"), s.app());
    for process in [&init, &worker] {
        s.feed(s.known(process.clone(), |info| {
            (info.unit, info.container) = (None, Some("3f4a1b2c3d4e5f60".repeat(4)));
        }));
    }
    let mut all = deaths(s, init.clone());
    all.extend([s.signal(9, 0x80, worker.clone(), init), s.exit(worker, 9)]);
    fallen_as(s, all);
}

/// Out of memory: what the kernel says of the limit.
fn out_of_memory(s: &mut Scene, scope: impl FnOnce(&mut Oom)) {
    let mut oom =
        Oom { victim: s.app(), trigger: s.process(60, "cron"), rss_bytes: Some(498 << 20), ..Oom::default() };
    scope(&mut oom);
    fallen(s, vec![Body::Oom(oom), s.exit(s.app(), 9)]);
}

/// The server of a connection ends while nginx waits for its answer.
fn serving(s: &mut Scene, before: Vec<Body>, code: i32) {
    s.php_fpm();
    s.feed(s.listening(s.tcp(), vec![s.master(), s.app()], false));
    s.feed_all(before);
    let socket = Socket { closer: s.dying(s.app(), code), fin_at: Some(s.before(300)), ..s.socket() };
    s.fails(s.closed(socket));
}

/// gunicorn's worker lives, is told to end, and closes.
fn closes_upon(s: &mut Scene, signal: i32) {
    let (master, worker) = (s.process(811, "gunicorn"), s.process(812, "gunicorn"));
    s.feed(s.known(worker.clone(), |info| info.unit = Some("shop.service".into())));
    s.feed(s.sent(signal, worker.clone(), master));
    s.fails(s.closed(Socket { closer: s.closer(worker, CloseKind::Closed), ..s.socket() }));
}

pub(super) const CASES: &[Case] = &[
    ("the limit of its cgroup", |s| {
        out_of_memory(s, |oom| {
            oom.memcg = Some(true);
            oom.limit_cgroup = Some("php8.2-fpm.service".into());
            oom.limit_bytes = Some(512 << 20);
        });
    }),
    ("the whole system", |s| out_of_memory(s, |oom| oom.memcg = Some(false))),
    ("a limit of which only the victim's group is known", |s| {
        out_of_memory(s, |oom| oom.victim_cgroup = Some("php8.2-fpm.service".into()));
    }),
    ("a limit of a group without a name", |s| {
        out_of_memory(s, |oom| (oom.memcg, oom.limit_bytes) = (Some(true), Some(900 << 10)));
    }),
    ("nothing known of the limit, and the victim itself asked for memory", |s| {
        out_of_memory(s, |oom| (oom.trigger, oom.rss_bytes) = (oom.victim.clone(), None));
    }),
    ("only the victim's own mark is known", |s| {
        let exit = Exit { process: s.app(), parent: s.master().pid, code: 9, cgroup: 0, oom_victim: true };
        fallen(s, vec![Body::Exit(exit)]);
    }),
    ("while it served the connection", |s| {
        let oom = Oom { victim: s.app(), memcg: Some(false), ..Oom::default() };
        serving(s, vec![Body::Oom(oom), s.exit(s.app(), 9)], 9);
    }),
    ("by another process", |s| {
        s.feed(s.known(s.deploy(), |info| {
            (info.command, info.unit) = ("/bin/sh deploy.sh".into(), Some("session-3.scope".into()));
        }));
        killed_with(s, 9, s.deploy());
    }),
    ("the sender was not observed", |s| fallen(s, vec![s.exit(s.app(), 9)])),
    ("by a real-time signal", |s| killed_with(s, 34, s.deploy())),
    ("a namesake that is not the master follows no rule", |s| {
        killed_with(s, 15, s.process(2_000, "php-fpm8.2"))
    }),
    ("php-fpm's time limit", |s| killed_with(s, 15, s.master())),
    ("php-fpm's time limit, of a pool whose name is not known", |s| {
        s.feed(s.known(s.master(), |info| {
            info.command = "php-fpm: master process (/etc/php/8.2/fpm/php-fpm.conf)".into();
        }));
        fallen_as(s, vec![s.sent(15, s.app(), s.master()), s.exit(s.app(), 15)]);
    }),
    ("php-fpm's time limit, no process looked up", |s| killed_by(s, 15, "php-fpm8.2")),
    ("php-fpm's reload", |s| killed_by(s, 3, "php-fpm8.2")),
    ("php-fpm's process_control_timeout", |s| killed_by(s, 9, "php-fpm8.2")),
    ("gunicorn's time limit", |s| killed_by(s, 6, "gunicorn")),
    ("gunicorn's --graceful-timeout", |s| killed_by(s, 9, "gunicorn")),
    ("gunicorn's reload", |s| killed_by(s, 15, "gunicorn")),
    ("uwsgi's harakiri", |s| killed_by(s, 9, "uwsgi")),
    ("puma's time limit", |s| killed_by(s, 9, "puma")),
    ("puma's restart", |s| killed_by(s, 15, "puma")),
    ("another parent", |s| killed_by(s, 9, "supervise")),
    ("systemd's stop", |s| stopped_by_systemd(s, 15, Some("php8.2-fpm.service"))),
    ("systemd's watchdog", |s| stopped_by_systemd(s, 6, Some("php8.2-fpm.service"))),
    ("systemd's TimeoutStopSec=", |s| stopped_by_systemd(s, 9, Some("php8.2-fpm.service"))),
    ("systemd, of a process without a unit", |s| stopped_by_systemd(s, 15, None)),
    ("another init system", |s| {
        fallen(s, vec![s.sent(15, s.app(), s.process(1, "busybox")), s.exit(s.app(), 15)]);
    }),
    ("a container's runtime", |s| {
        s.feed(
            s.known(s.app(), |info| (info.unit, info.container) = (None, Some("3f4a1b2c3d4e5f60".repeat(4)))),
        );
        fallen_as(s, vec![s.sent(15, s.app(), s.process(50, "runc")), s.exit(s.app(), 15)]);
    }),
    ("a container's first process, which its runtime ended", |s| {
        first_of_container_falls(s, |s, init| {
            vec![s.sent(9, init.clone(), s.process(50, "containerd-shim")), s.exit(init, 9)]
        });
    }),
    ("a daemon that keeps memory free", |s| killed_with(s, 9, s.process(60, "earlyoom"))),
    ("php-fpm's reload, as a person asked for it", |s| told_first(s, 12, s.deploy())),
    ("php-fpm's stop by systemd", |s| told_first(s, 15, s.systemd())),
    ("an exit that answers a signal by its code", |s| {
        fallen(s, vec![s.sent(15, s.app(), s.deploy()), s.exit(s.app(), 143 << 8)]);
    }),
    ("an exit that answers gunicorn's time limit", |s| {
        let (master, worker) = (s.process(811, "gunicorn"), s.process(812, "gunicorn"));
        let deaths = vec![s.sent(6, worker.clone(), master), s.exit(worker.clone(), 1 << 8)];
        last_listener_falls(s, worker, deaths);
    }),
    ("while it served the connection", |s| {
        serving(s, vec![s.sent(9, s.app(), s.deploy()), s.exit(s.app(), 9)], 9);
    }),
    ("a worker that closes as its master tells it to end", |s| closes_upon(s, 6)),
    ("a fault", |s| fallen(s, vec![s.fault(11, 1, s.app()), s.exit(s.app(), 11)])),
    ("a fault with a core dump", |s| fallen(s, vec![s.fault(7, 2, s.app()), s.exit(s.app(), 7 | 0x80)])),
    ("an abort of its own", |s| fallen(s, vec![s.fault(6, -6, s.app()), s.exit(s.app(), 6)])),
    ("a pipe that nobody reads", |s| by_itself(s, 13, 0, s.app())),
    ("a limit of CPU time", |s| by_itself(s, 24, 0x80, s.app())),
    ("a limit of file sizes", |s| by_itself(s, 25, 0, s.app())),
    ("a timer of its own, in whose context ever", |s| by_itself(s, 14, 0x80, s.deploy())),
    ("a profiler's timer, which the probe leaves out", |s| fallen(s, vec![s.exit(s.app(), 27)])),
    ("a kill by its own hand", |s| by_itself(s, 15, 0, s.app())),
    ("the hard limit of CPU time, most likely", |s| by_itself(s, 9, 0x80, s.app())),
    ("a fault in a module, logged by the kernel", |s| {
        let place = s.fault_place(s.app(), "opcache.so", Some(0x5219));
        fallen(s, vec![place, s.fault(11, 1, s.app()), s.exit(s.app(), 11)]);
    }),
    ("a fault in a module, logged by an old kernel", |s| {
        let place = s.fault_place(s.app(), "opcache.so", None);
        fallen(s, vec![place, s.fault(11, 1, s.app()), s.exit(s.app(), 11)]);
    }),
    ("a fault that was not seen", |s| fallen(s, vec![s.exit(s.app(), 11)])),
    ("while it served the connection", |s| {
        serving(s, vec![s.fault(11, 1, s.app()), s.exit(s.app(), 11)], 11);
    }),
    ("with a code", |s| fallen(s, vec![s.exit(s.app(), 3 << 8)])),
    ("with its container's first process", |s| {
        first_of_container_falls(s, |s, init| vec![s.exit(init, 1 << 8)]);
    }),
    ("as its master was killed", |s| {
        s.php_fpm();
        let killed = vec![s.sent(9, s.master(), s.deploy()), s.exit(s.master(), 9), s.exit(s.app(), 0)];
        fallen_as(s, killed);
    }),
    ("as systemd asked", |s| fallen(s, vec![s.sent(15, s.app(), s.systemd()), s.exit(s.app(), 0)])),
    ("having closed its socket first", |s| {
        fallen(s, vec![s.shut(s.tcp(), s.app(), false), s.exit(s.app(), 0)]);
    }),
    ("while it served the connection", |s| serving(s, vec![], 255 << 8)),
];
