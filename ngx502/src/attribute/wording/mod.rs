//! All prose of verdicts: summaries, evidence, fixes. One file a family of causes, as in `cause`; here what they share.
//!
//! Summaries say when something happened relative to the failure ("12 s ago"), evidence carries its own time and says
//! none. What is not observed but concluded is marked "(inferred: …)". Names from the host are hostile; sinks escape
//! them.

pub(super) mod connection;
pub(super) mod death;
pub(super) mod denied;
pub(super) mod listener;
pub(super) mod local;
pub(super) mod peers;
pub(super) mod protocol;
pub(super) mod supervisor;
pub(super) mod timeout;

use std::borrow::Cow;
use std::fmt::Write;
use std::rc::Rc;

use bstr::{BString, ByteSlice};

use super::attempt::Failure;
use super::text::{Span, Text, text};
use super::verdict::ProcessFacts;
use crate::event::{Endpoint, Nanos, Queue};

/// `php-fpm[812]`.
pub(super) fn name(process: &ProcessFacts) -> String {
    match process.comm.is_empty() {
        true => format!("process {}", process.pid),
        false => format!("{}[{}]", process.comm.to_str_lossy(), process.pid),
    }
}

/// `php-fpm[812] (pool www, php8.2-fpm.service)`.
pub(super) fn name_unit(process: &ProcessFacts) -> String {
    let pool = process.pool.as_ref().map(|pool| format!("pool {pool}"));
    let unit = process.unit.as_ref().map(|unit| unit.to_string());
    let container = process.container.as_ref();
    let container = container.map(|id| format!("container {}", id.get(..12).unwrap_or(id)));
    let known: Vec<_> = pool.into_iter().chain(unit).chain(container).collect();
    match known.is_empty() {
        true => name(process),
        false => format!("{} ({})", name(process), known.join(", ")),
    }
}

/// The same for a process that may not be known.
pub(super) fn name_or(process: Option<&ProcessFacts>, otherwise: &str) -> String {
    process.map_or_else(|| otherwise.to_owned(), name_unit)
}

/// An address or path as people write it; abstract paths start with `@`.
pub(super) fn place(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Tcp(address) => address.to_string(),
        Endpoint::Unix(path) if path.first() == Some(&0) => format!("@{}", path[1..].to_str_lossy()),
        Endpoint::Unix(path) => path.to_str_lossy().into_owned(),
    }
}

/// A word of a shell command: what the host or a client named may hold anything.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._/:@%+-".contains(c);
    match !word.is_empty() && word.chars().all(plain) && !word.starts_with('-') {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// The upstream of a failure, for a sentence.
pub(super) fn target(failure: &Failure) -> Rc<str> {
    failure
        .there
        .get_or_init(|| match failure.endpoint() {
            Some(endpoint) => place(&endpoint).into(),
            None => failure.peer.as_ref().map_or("the upstream".into(), |peer| peer.to_str_lossy().into()),
        })
        .clone()
}

/// How long from one moment to the next; 0 when their order is reversed.
pub(super) fn span(from: Nanos, to: Nanos) -> Span {
    Span(to.micros_since(from))
}

/// `512 MiB`.
pub(super) fn bytes(count: u64) -> String {
    match count {
        0..1_048_576 => format!("{} KiB", count / 1_024),
        _ => format!("{} MiB", count / 1_048_576),
    }
}

/// `SIGKILL`, or the number.
pub(super) fn signal(number: i32) -> Cow<'static, str> {
    #[rustfmt::skip]
    const NAMES: [&str; 31] = [
        "SIGHUP", "SIGINT", "SIGQUIT", "SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGKILL", "SIGUSR1",
        "SIGSEGV", "SIGUSR2", "SIGPIPE", "SIGALRM", "SIGTERM", "SIGSTKFLT", "SIGCHLD", "SIGCONT", "SIGSTOP", "SIGTSTP",
        "SIGTTIN", "SIGTTOU", "SIGURG", "SIGXCPU", "SIGXFSZ", "SIGVTALRM", "SIGPROF", "SIGWINCH", "SIGIO", "SIGPWR",
        "SIGSYS",
    ];
    let name = usize::try_from(number - 1).ok().and_then(|index| NAMES.get(index).copied());
    name.map_or_else(|| format!("signal {number}").into(), Cow::Borrowed)
}

/// An errno's name as the JSON schema shows it.
pub(super) fn errno(number: i32) -> String {
    format!("{:?}", nix::errno::Errno::from_raw(number))
}

/// What nginx reported, as evidence.
pub(super) fn nginx_said(failure: &Failure) -> String {
    let mut said = String::with_capacity(128);
    say_nginx_words(failure, &mut said);
    if let Some(number) = failure.errno {
        // Writing to a String cannot fail; neither below.
        let _ = write!(said, " ({:?})", nix::errno::Errno::from_raw(number));
    }
    if let Some(action) = &failure.action {
        said.push_str(" while ");
        said.push_str(&action.to_str_lossy());
    }
    if failure.endpoint().is_some() || failure.peer.is_some() {
        said.push_str(", upstream ");
        said.push_str(&target(failure));
    }
    said
}

/// nginx's text with what is known of its arguments.
pub(super) fn nginx_words(failure: &Failure) -> String {
    let mut words = String::new();
    say_nginx_words(failure, &mut words);
    words
}

fn say_nginx_words(failure: &Failure, out: &mut String) {
    match (&failure.detail, failure.text.is_empty()) {
        (_, true) => {
            out.push_str("nginx's text is not visible; its states and the socket say ");
            out.push_str(failure.symptom.as_str());
        }
        (Some(detail), _) if failure.text.starts_with(b"%*s") => out.push_str(&detail.to_str_lossy()),
        (detail, _) => fill(&failure.text, detail.as_ref(), failure.number, out),
    }
}

/// Fills a format's first string and number; further slots go, with the punctuation that joins them.
fn fill(text: &BString, mut detail: Option<&BString>, mut number: Option<i64>, out: &mut String) {
    let (text, begin) = (text.to_str_lossy(), out.len());
    let mut rest = &*text;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let slot =
            rest[at + 1..].find(|c: char| c.is_ascii_alphabetic()).map_or(rest.len(), |end| at + 1 + end + 1);
        let value = match rest[at..slot].ends_with(['V', 's']) {
            true => detail.take().map(|detail| detail.to_str_lossy()),
            false => number.take().map(|number| number.to_string().into()),
        };
        match value {
            Some(value) => out.push_str(&value),
            None => out.truncate(begin + out[begin..].trim_end_matches([':', ' ']).len()),
        }
        rest = &rest[slot..];
    }
    out.push_str(rest);
}

/// A queue's fill.
pub(super) fn queue(queue: &Queue) -> String {
    format!("{} waiting, limit {}", queue.length, queue.limit)
}

/// What keeps a process: whoever restarts it, and has its words.
enum Keeper<'a> {
    /// A systemd service.
    Service(&'a Rc<str>),
    /// A unit that systemd did not start, and cannot start again: a session's or `init.scope`.
    Scope(&'a Rc<str>),
    /// A container; a unit that is known as well is one inside.
    Container(&'a str),
    Nobody,
}

fn keeper(who: &ProcessFacts) -> Keeper<'_> {
    match (&who.container, &who.unit) {
        (Some(container), _) => Keeper::Container(container),
        (None, Some(unit)) if is_service(unit) => Keeper::Service(unit),
        (None, Some(unit)) => Keeper::Scope(unit),
        (None, None) => Keeper::Nobody,
    }
}

/// Whether a unit is one that systemctl restarts.
fn is_service(unit: &str) -> bool {
    unit.ends_with(".service")
}

/// A unit as a word of a command: its name comes from a control group's, and those can be anybody's.
fn unit_word(unit: &Rc<str>) -> Text {
    match quoted(unit) {
        plain if *plain == **unit => text![unit],
        quoted => quoted.into(),
    }
}

/// How to restart a process that is gone, and where its own words are.
pub(super) fn restart(who: &ProcessFacts) -> Vec<Text> {
    let again = match keeper(who) {
        Keeper::Service(unit) => Some(text!["systemctl restart ", &unit_word(unit)]),
        Keeper::Scope(unit) => {
            let comm = who.comm.to_str_lossy().into_owned();
            Some(text![
                "start ",
                comm,
                " again as it was started: ",
                unit,
                " is no service that systemctl restarts"
            ])
        }
        Keeper::Container(_) | Keeper::Nobody => None,
    };
    journal(who).into_iter().chain(again).collect()
}

/// Where a process's own words are.
pub(super) fn journal(who: &ProcessFacts) -> Option<Text> {
    match keeper(who) {
        Keeper::Service(unit) => Some(text!["journalctl -u ", &unit_word(unit), " -n 50"]),
        Keeper::Scope(_) => Some(format!("journalctl _PID={} -n 50", who.pid).into()),
        Keeper::Container(id) => Some(format!("docker logs --tail 50 {id}").into()),
        Keeper::Nobody => None,
    }
}

/// How to give a process more memory.
pub(super) fn more_memory(who: &ProcessFacts) -> Text {
    match keeper(who) {
        Keeper::Service(unit) => {
            text!["systemctl set-property ", &unit_word(unit), " MemoryMax=… (or use less memory)"]
        }
        _ => "raise the cgroup's or container's memory limit, or run fewer workers".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_filled_with_what_is_known() {
        let filled = |text: &str, detail: Option<&str>, number| {
            let mut out = String::from("x: ");
            fill(&text.into(), detail.map(BString::from).as_ref(), number, &mut out);
            out[3..].to_owned()
        };
        assert_eq!(
            filled("%V could not be resolved (%i: %s)", Some("gone.test"), Some(3)),
            "gone.test could not be resolved (3)"
        );
        assert_eq!(
            filled("connect() to %V failed", Some("unix:/run/x"), None),
            "connect() to unix:/run/x failed"
        );
        assert_eq!(
            filled("upstream sent too big header", Some("junk"), Some(7)),
            "upstream sent too big header"
        );
        assert_eq!(filled("100%", None, None), "100");
    }

    #[test]
    fn commands_quote_what_is_hostile() {
        assert_eq!(quoted("/run/app.sock"), "/run/app.sock");
        assert_eq!(quoted("x;reboot"), "'x;reboot'");
        assert_eq!(quoted("a'b"), r"'a'\''b'");
    }

    #[test]
    fn a_process_has_the_names_people_use() {
        let who = ProcessFacts {
            pid: crate::event::Pid(812),
            comm: "php-fpm".into(),
            unit: Some("php8.2-fpm.service".into()),
            container: None,
            pool: Some("www".into()),
        };
        assert_eq!(name_unit(&who), "php-fpm[812] (pool www, php8.2-fpm.service)");
        assert_eq!(name_unit(&ProcessFacts { unit: None, pool: None, ..who }), "php-fpm[812]");
        assert_eq!(name(&ProcessFacts::default()), "process 0");
    }

    #[test]
    fn only_a_service_is_restarted_by_systemctl() {
        let lines = |unit: Option<&str>, container: Option<&str>| {
            let who = ProcessFacts {
                pid: crate::event::Pid(812),
                comm: "app".into(),
                unit: unit.map(Rc::from),
                container: container.map(str::to_owned),
                pool: None,
            };
            restart(&who).iter().map(Text::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            lines(Some("app.service"), None),
            ["journalctl -u app.service -n 50", "systemctl restart app.service"]
        );
        let hostile = lines(Some("a;reboot.service"), None);
        assert_eq!(hostile[1], "systemctl restart 'a;reboot.service'");
        for scope in ["init.scope", "session-3.scope"] {
            let found = lines(Some(scope), None);
            assert_eq!(found[0], "journalctl _PID=812 -n 50");
            assert!(found.len() == 2 && !found[1].starts_with("systemctl"), "{found:?}");
        }
        let inside = lines(Some("app.service"), Some("0123456789abcdef"));
        assert_eq!(inside, ["docker logs --tail 50 0123456789abcdef"]);
        assert_eq!(lines(None, None), [""; 0]);
    }
}
