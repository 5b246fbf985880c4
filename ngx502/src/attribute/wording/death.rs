//! How a process ended.

use super::{bytes, name, name_unit, signal};
use crate::attribute::verdict::{Certainty, ProcessFacts};
use crate::event::{Oom, Signal};

pub(in crate::attribute) fn last_listener(who: &ProcessFacts, there: &str) -> String {
    format!("{}, the last listener on {there},", name_unit(who))
}

pub(in crate::attribute) fn server(who: &ProcessFacts, there: &str) -> String {
    format!("{}, which served the connection to {there},", name_unit(who))
}

pub(in crate::attribute) fn oom_killed(subject: &str, when: &str, oom: Option<&Oom>) -> String {
    match oom {
        Some(oom) => format!("{subject} was OOM-killed{when}{}", oom_scope(oom)),
        None => format!("{subject} was OOM-killed{when}; which limit it hit was not observed"),
    }
}

/// ` in cgroup … (limit 512 MiB)`.
fn oom_scope(oom: &Oom) -> String {
    let cgroup = oom.limit_cgroup.as_ref().or(oom.victim_cgroup.as_ref());
    let limit = oom.limit_bytes.map_or(String::new(), |limit| format!(" (limit {})", bytes(limit)));
    match (oom.memcg, cgroup) {
        (Some(false), _) => " as the whole system ran out of memory".to_owned(),
        (_, Some(cgroup)) => format!(" in cgroup {cgroup}{limit}"),
        (Some(true), None) => format!(" at its memory cgroup's limit{limit}"),
        (None, None) => String::new(),
    }
}

pub(in crate::attribute) fn chosen(who: &ProcessFacts, oom: &Oom) -> String {
    let rss = oom.rss_bytes.map_or(String::new(), |rss| format!(" with {} resident", bytes(rss)));
    format!("the OOM killer chose {}{rss}{}", name(who), oom_scope(oom))
}

pub(in crate::attribute) fn oom_fix(who: &ProcessFacts, memcg: Option<bool>) -> String {
    match (&who.unit, memcg) {
        (_, Some(false)) => "add memory, or limit what uses most of it: ps aux --sort=-rss | head".into(),
        (Some(unit), _) => format!("systemctl set-property {unit} MemoryMax=… (or use less memory)"),
        (None, _) => "raise the cgroup's or container's memory limit, or run fewer workers".into(),
    }
}

pub(in crate::attribute) fn crashed(
    subject: &str,
    word: &str,
    when: &str,
    core: bool,
    certainty: Certainty,
) -> String {
    let dumped = if core { ", core dumped" } else { "" };
    let doubt = match certainty {
        Certainty::Proven => "",
        _ => " (inferred: the fault itself was not observed)",
    };
    format!("{subject} crashed with {word}{when}{dumped}{doubt}")
}

pub(in crate::attribute) fn core_dump(who: &ProcessFacts) -> String {
    format!("coredumpctl info {}", who.pid)
}

pub(in crate::attribute) fn killed(subject: &str, by: &str, when: &str) -> String {
    format!("{subject} was killed{when} with {by}")
}

pub(in crate::attribute) fn killed_by_nobody_seen(subject: &str, word: &str, when: &str) -> String {
    format!("{subject} was killed{when} with {word} (inferred: who sent it was not observed)")
}

pub(in crate::attribute) fn was_sent(who: &ProcessFacts, by: &str) -> String {
    format!("{} was sent {by}", name(who))
}

pub(in crate::attribute) fn ended_by(who: &ProcessFacts, word: &str) -> String {
    format!("{} ended by {word}", name(who))
}

pub(in crate::attribute) fn exited(subject: &str, status: i32, when: &str) -> String {
    format!("{subject} exited{when} with code {status}")
}

pub(in crate::attribute) fn exit_seen(who: &ProcessFacts, status: i32) -> String {
    format!("{} exited with code {status}", name(who))
}

pub(in crate::attribute) fn exited_after(
    subject: &str,
    status: i32,
    when: &str,
    after: &str,
    by: &str,
) -> String {
    format!("{subject} exited{when} with code {status}, {after} after {by}")
}

pub(in crate::attribute) fn exited_upon(subject: &str, status: i32, when: &str, by: &str) -> String {
    format!("{subject} ended{when} after {by} (inferred: its exit code {status} answers that signal)")
}

pub(in crate::attribute) fn closed_upon(subject: &str, after: &str, by: &str) -> String {
    format!("{subject} closed it {after} after {by} (inferred: the close answers that signal)")
}

/// ` 12 s ago`, for the end of something whose failure came later.
pub(in crate::attribute) fn ago(span: &str) -> String {
    format!(" {span} ago")
}

/// Who sent a deadly signal, with its relation to the victim.
pub(in crate::attribute) fn sender(sent: &Signal, by: &ProcessFacts, parent: bool) -> String {
    let relation = match (parent, sent.sender.pid.0) {
        (_, 1) => ", the init system",
        (true, _) => ", its own parent",
        _ => "",
    };
    format!("{} by {}{relation}", signal(sent.signal), name_unit(by))
}

/// The time limit that a supervising parent of this name enforces with signals.
pub(in crate::attribute) fn supervisor_limit(comm: &[u8]) -> Option<&'static str> {
    if comm.starts_with(b"php-fpm") {
        Some("raise request_terminate_timeout in the pool's configuration, or make the script faster")
    } else if comm.starts_with(b"gunicorn") {
        Some("raise gunicorn --timeout, or make the request faster")
    } else if comm.starts_with(b"uwsgi") {
        Some("raise uwsgi --harakiri, or make the request faster")
    } else {
        None
    }
}
