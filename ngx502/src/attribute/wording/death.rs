//! How a process ended.

use std::borrow::Cow;
use std::rc::Rc;

use super::bytes;
use crate::attribute::named::Named;
use crate::attribute::text::{Span, Text, text};
use crate::attribute::verdict::{Certainty, ProcessFacts};
use crate::event::Oom;

pub(in crate::attribute) fn last_listener(who: &Named, there: &Rc<str>) -> Text {
    text![who.full(), ", the last listener on ", there, ","]
}

pub(in crate::attribute) fn server(who: &Named, there: &Rc<str>) -> Text {
    text![who.full(), ", which served the connection to ", there, ","]
}

pub(in crate::attribute) fn oom_killed(subject: &Text, when: &Text, oom: Option<&Oom>) -> Text {
    match oom {
        Some(oom) => text![subject, " was OOM-killed", when, oom_scope(oom)],
        None => text![subject, " was OOM-killed", when, "; which limit it hit was not observed"],
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

pub(in crate::attribute) fn chosen(who: &Named, oom: &Oom) -> Text {
    let rss = oom.rss_bytes.map_or(String::new(), |rss| format!(" with {} resident", bytes(rss)));
    text!["the OOM killer chose ", who.name(), rss, oom_scope(oom)]
}

/// Whose allocation was the last straw; neither the culprit nor, as a rule, the victim.
pub(in crate::attribute) fn last_straw(trigger: &Named) -> Text {
    text!["memory ran out as ", trigger.full(), " asked for more"]
}

pub(in crate::attribute) fn oom_fix(who: &ProcessFacts, memcg: Option<bool>) -> Text {
    match memcg {
        Some(false) => "add memory, or limit what uses most of it: ps aux --sort=-rss | head".into(),
        _ => super::more_memory(who),
    }
}

pub(in crate::attribute) fn crashed(
    subject: &Text,
    word: Cow<'static, str>,
    when: &Text,
    core: bool,
    certainty: Certainty,
) -> Text {
    let dumped = if core { ", core dumped" } else { "" };
    let doubt = match certainty {
        Certainty::Proven => "",
        _ => " (inferred: the fault itself was not observed)",
    };
    text![subject, " crashed with ", word, when, dumped, doubt]
}

pub(in crate::attribute) fn core_dump(who: &ProcessFacts) -> String {
    format!("coredumpctl info {}", who.pid)
}

pub(in crate::attribute) fn killed(subject: &Text, by: &Text, when: &Text) -> Text {
    text![subject, " was killed", when, " with ", by]
}

pub(in crate::attribute) fn killed_by_nobody_seen(
    subject: &Text,
    word: Cow<'static, str>,
    when: &Text,
) -> Text {
    text![subject, " was killed", when, " with ", word, " (inferred: who sent it was not observed)"]
}

pub(in crate::attribute) fn was_sent(who: &Named, by: &Text) -> Text {
    text![who.name(), " was sent ", by]
}

pub(in crate::attribute) fn ended_by(who: &Named, word: Cow<'static, str>) -> Text {
    text![who.name(), " ended by ", word]
}

pub(in crate::attribute) fn exited(subject: &Text, status: i32, when: &Text) -> Text {
    text![subject, " exited", when, " with code ", status]
}

pub(in crate::attribute) fn exit_seen(who: &Named, status: i32) -> Text {
    text![who.name(), " exited with code ", status]
}

pub(in crate::attribute) fn exited_after(
    subject: &Text,
    status: i32,
    when: &Text,
    after: Span,
    by: &Text,
) -> Text {
    text![subject, " exited", when, " with code ", status, ", ", after, " after ", by]
}

pub(in crate::attribute) fn exited_upon(subject: &Text, status: i32, when: &Text, by: &Text) -> Text {
    text![
        subject,
        " ended",
        when,
        " after ",
        by,
        " (inferred: its exit code ",
        status,
        " answers that signal)"
    ]
}

pub(in crate::attribute) fn closed_upon(subject: &Text, after: Span, by: &Text) -> Text {
    text![subject, " closed it ", after, " after ", by, " (inferred: the close answers that signal)"]
}

/// ` 12 s ago`, for the end of something whose failure came later.
pub(in crate::attribute) fn ago(span: Span) -> Text {
    text![" ", span, " ago"]
}
