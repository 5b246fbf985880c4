//! Who sent a deadly signal, and on which rule supervisors send such a one to what they supervise.
//!
//! A rule is named only where the sender has the right to it: the process's own parent, the init system, or a
//! container's runtime. Where two rules give the same signal, both are named.

use super::signal;
use crate::attribute::named::Named;
use crate::attribute::text::{Text, text};
use crate::event::Signal;

const SIGQUIT: i32 = 3;
const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// Names of processes by which container runtimes signal a container's first process; names have 15 bytes.
const RUNTIMES: [&[u8]; 7] =
    [b"runc", b"crun", b"containerd-shim", b"conmon", b"dockerd", b"podman", b"kubelet"];

/// A master's rule: its name, its signal, what it means, and the setting behind it.
type Rule = (&'static [u8], i32, &'static str, Option<&'static str>);

const RULES: &[Rule] = &[
    (
        b"php-fpm",
        SIGTERM,
        ", its master, as it does when request_terminate_timeout is over, or on a reload",
        Some("raise request_terminate_timeout in the pool's configuration, or make the script faster"),
    ),
    (b"php-fpm", SIGQUIT, ", its master, as it does on a reload or stop", None),
    (
        b"php-fpm",
        SIGKILL,
        ", its master, as it does when process_control_timeout is over on a reload or stop",
        None,
    ),
    (
        b"gunicorn",
        SIGABRT,
        ", its arbiter, as it does to a worker that was silent for longer than --timeout",
        Some("raise gunicorn --timeout, or make the request faster"),
    ),
    (
        b"gunicorn",
        SIGKILL,
        ", its arbiter, as it does to a worker that outlives --timeout or, on a stop, --graceful-timeout",
        Some("raise gunicorn --timeout, or make the request faster"),
    ),
    (b"gunicorn", SIGTERM, ", its arbiter, as it does on a reload or stop", None),
    (
        b"uwsgi",
        SIGKILL,
        ", its master, as it does when harakiri is over, or a reload's mercy",
        Some("raise uwsgi --harakiri, or make the request faster"),
    ),
    (
        b"puma",
        SIGKILL,
        ", its master, as it does to a worker that has not checked in for worker_timeout",
        None,
    ),
    (b"puma", SIGTERM, ", its master, as it does on a restart or stop", None),
];

/// `SIGTERM by php-fpm[11], its master, as …`; `victim` got it, and `parent` says whether the sender is its parent.
pub(in crate::attribute) fn sender(sent: &Signal, by: &Named, victim: &Named, parent: bool) -> Text {
    let mut text = text![signal(sent.signal), " by ", by.full()];
    match rule(sent).filter(|_| parent) {
        Some((_, _, meaning, _)) => text.push(*meaning),
        None if sent.sender.pid.0 == 1 && sent.sender.comm == "systemd" => {
            text.push(service_manager(sent.signal));
            if let Some(unit) = &victim.unit {
                text.push(" ");
                text.push(unit);
            }
        }
        None if sent.sender.pid.0 == 1 => text.push(", the init system"),
        None if parent => text.push(", its own parent"),
        None if victim.container.is_some() && is_runtime(&sent.sender.comm) => {
            text.push(", its container's runtime, as it does when the container is stopped");
        }
        None => {}
    }
    text
}

fn service_manager(number: i32) -> &'static str {
    match number {
        SIGABRT => ", the service manager, as it does when WatchdogSec= is over for",
        SIGKILL => {
            ", the service manager, as it does when TimeoutStopSec= is over, or where KillSignal= or KillMode= says so, for"
        }
        _ => ", the service manager, as it does to stop or restart",
    }
}

fn is_runtime(comm: &[u8]) -> bool {
    RUNTIMES.iter().any(|runtime| comm.starts_with(runtime))
}

fn rule(sent: &Signal) -> Option<&'static Rule> {
    RULES.iter().find(|(name, number, ..)| sent.sender.comm.starts_with(name) && sent.signal == *number)
}

/// How to change the time limit that a supervising parent enforces with such a signal; in php-fpm it is a `pool`'s.
pub(in crate::attribute) fn limit(sent: &Signal, pool: Option<String>) -> Option<String> {
    let fix = rule(sent).and_then(|(.., fix)| *fix)?;
    Some(pool.map_or(fix.to_owned(), |pool| fix.replace("the pool's configuration", &pool)))
}
