//! The kernel said EACCES or EPERM.

use ngx502::event::*;

use super::Case;
use crate::synthetic::scene::{CONNECTING, Scene};

const EPERM: i32 = 1;
const EACCES: i32 = 13;

/// The component that refuses, with or without the names of its owners.
fn refusing(path: String, mode: u32, search: bool, named: bool) -> RefusedAt {
    let name = |name: &str| named.then(|| name.to_owned());
    RefusedAt {
        path: path.into(),
        uid: 0,
        gid: 33,
        owner: name("root"),
        group: name("www-data"),
        mode,
        search,
    }
}

fn walk(s: &Scene, refused: Option<RefusedAt>, user: Option<&str>) -> Body {
    Body::PathWalk(Box::new(PathWalk {
        worker: s.worker(),
        path: s.path().into(),
        uid: 101,
        gid: 101,
        groups: user.map(|_| vec![101, 44]).unwrap_or_default(),
        user: user.map(str::to_owned),
        refused,
        missing: None,
    }))
}

/// The socket refuses; this program made it.
fn unwritable(s: &mut Scene, comm: &str) {
    s.feed(s.listening(s.unix(), vec![s.process(812, comm)], false));
    s.feed(walk(s, Some(refusing(s.path(), 0o660, false, true)), Some("nginx")));
    s.fails(s.unix_failed(EACCES));
}

/// What guards the worker: a security module's label, a seccomp filter, BPF programs.
fn guards(s: &Scene, label: Option<(&str, &str, Option<bool>)>, seccomp: bool, programs: u32) -> Body {
    let confinement = label.map(|(module, label, enforced)| Confinement {
        module: module.into(),
        label: label.into(),
        enforced,
    });
    Body::Guards(Box::new(Guards {
        worker: s.worker(),
        modules: Some("capability,landlock,apparmor".into()),
        confinement,
        seccomp: Some(seccomp),
        cgroup_programs: Some(programs),
    }))
}

/// The bits of the path allow it.
fn allowed(s: &mut Scene, guards: Body) {
    s.feed(walk(s, None, Some("nginx")));
    s.feed(guards);
    s.fails(s.unix_failed(EACCES));
}

/// A TCP connect was refused so; the routing table answered, and this guards the worker.
fn denied(s: &mut Scene, errno: i32, route: Option<i32>, guards: Option<Body>) {
    s.feed(Body::Route(RouteLookup { worker: s.worker(), to: s.remote().ip(), netns: 1, errno: route }));
    s.feed_all(guards);
    s.fails(s.tcp_failed(s.remote(), errno));
}

pub(super) const CASES: &[Case] = &[
    ("a socket of php-fpm", |s| {
        s.php_fpm();
        unwritable(s, "php-fpm8.2");
    }),
    ("a socket of php-fpm, its pool not known", |s| unwritable(s, "php-fpm8.2")),
    ("a socket of gunicorn", |s| unwritable(s, "gunicorn")),
    ("a socket of uwsgi", |s| unwritable(s, "uwsgi")),
    ("a socket of another program", |s| unwritable(s, "node")),
    ("a directory", |s| {
        s.feed(walk(s, Some(refusing("/run/php".into(), 0o750, true, true)), Some("nginx")));
        s.fails(s.unix_failed(EACCES));
    }),
    ("a directory, and users without names", |s| {
        s.feed(walk(s, Some(refusing("/run/a b".into(), 0o750, true, false)), None));
        s.fails(s.unix_failed(EACCES));
    }),
    ("a path that was not walked", |s| s.fails(s.unix_failed(EACCES))),
    ("AppArmor", |s| allowed(s, guards(s, Some(("apparmor", "nginx (enforce)", Some(true))), false, 0))),
    ("SELinux, on a socket file", |s| {
        allowed(s, guards(s, Some(("selinux", "system_u:system_r:httpd_t:s0", Some(true))), false, 0));
    }),
    ("SELinux, on a TCP connect", |s| {
        let label = Some(("selinux", "system_u:system_r:httpd_t:s0", None));
        denied(s, EACCES, None, Some(guards(s, label, false, 0)));
    }),
    ("Smack", |s| allowed(s, guards(s, Some(("smack", "_", Some(true))), true, 2))),
    ("a BPF program", |s| denied(s, EPERM, None, Some(guards(s, None, false, 2)))),
    ("a BPF program or seccomp", |s| denied(s, EPERM, None, Some(guards(s, None, true, 1)))),
    ("a socket(2) that was refused", |s| {
        s.feed(guards(s, Some(("apparmor", "nginx (enforce)", Some(true))), false, 0));
        s.attempt(s.said(&s.peer(), "socket() failed", EACCES, CONNECTING));
        s.page(500);
    }),
    ("an abstract socket", |s| {
        s.feed(guards(s, Some(("apparmor", "nginx (enforce)", Some(true))), false, 0));
        let socket = s.unix_unconnected("\0php-fpm");
        let attempt = s.said("", "connect() failed", EACCES, CONNECTING);
        s.fails(Attempt { socket: Some(Box::new(socket)), ..attempt });
    }),
    ("a policy that only reports", |s| {
        allowed(s, guards(s, Some(("apparmor", "nginx (complain)", Some(false))), false, 0));
    }),
    ("no policy known", |s| allowed(s, guards(s, None, false, 0))),
    ("no policy known, nor what modules there are", |s| {
        let none = Guards { worker: s.worker(), ..Guards::default() };
        allowed(s, Body::Guards(Box::new(none)));
    }),
    ("policies that were not looked up", |s| denied(s, EACCES, None, None)),
    ("a route that was not looked up", |s| s.fails(s.tcp_failed(s.remote(), EACCES))),
    ("a prohibit route", |s| denied(s, EACCES, Some(EACCES), None)),
];
