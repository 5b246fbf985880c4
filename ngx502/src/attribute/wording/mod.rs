//! All prose of verdicts: summaries, evidence, fixes. One file a family of causes, as in `cause`; here what they share.
//!
//! Summaries say when something happened relative to the failure ("12 s ago"), evidence carries its own time and says
//! none. What is not observed but concluded is marked "(inferred: …)". Names from the host are hostile; sinks escape
//! them.

pub(super) mod connection;
pub(super) mod death;
pub(super) mod denied;
mod keeper;
pub(super) mod listener;
pub(super) mod local;
pub(super) mod peers;
pub(super) mod protocol;
pub(super) mod supervisor;
pub(super) mod timeout;

use std::borrow::Cow;
use std::fmt::Write;
use std::net::{SocketAddr, SocketAddrV4};
use std::rc::Rc;

use bstr::{BString, ByteSlice};

use super::attempt::Failure;
use super::text::Span;
use super::verdict::ProcessFacts;
use crate::event::{Endpoint, Nanos, Queue, short_container};
pub(super) use keeper::{journal, more_memory, restart};

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
    let known: Vec<_> = pool.into_iter().chain(unit).chain(container(process)).collect();
    match known.is_empty() {
        true => name(process),
        false => format!("{} ({})", name(process), known.join(", ")),
    }
}

/// `container web`, `container php of pod shop/web-7d9f`, `container 3f4a1b2c3d4e`.
fn container(process: &ProcessFacts) -> Option<String> {
    let id = process.container.as_deref().map(short_container);
    let names = process.container_names.as_ref();
    let name = names.and_then(|names| names.name.as_deref()).or(id)?;
    let pod = names.and_then(|names| names.pod.as_ref());
    let of_pod = pod.map_or(String::new(), |pod| format!(" of pod {}/{}", pod.namespace, pod.name));
    Some(format!("container {name}{of_pod}"))
}

/// `pool www of /etc/php/8.2/fpm/php-fpm.conf`, or what is known of it.
pub(super) fn pool(name: Option<String>, configuration: Option<String>) -> Option<String> {
    match (name, configuration) {
        (Some(name), Some(path)) => Some(format!("pool {name} of {path}")),
        (Some(name), None) => Some(format!("pool {name}")),
        (None, Some(path)) => Some(format!("its pool in {path}")),
        (None, None) => None,
    }
}

/// The same for a process that may not be known.
pub(super) fn name_or(process: Option<&ProcessFacts>, otherwise: &str) -> String {
    process.map_or_else(|| otherwise.to_owned(), name_unit)
}

/// An address or path as people write it; abstract paths start with `@`.
pub(super) fn place(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Tcp(SocketAddr::V4(address)) => dotted(address),
        Endpoint::Tcp(address) => address.to_string(),
        Endpoint::Unix(path) if path.first() == Some(&0) => format!("@{}", path[1..].to_str_lossy()),
        Endpoint::Unix(path) => path.to_str_lossy().into_owned(),
    }
}

/// An IPv4 address and port; in a storm each verdict has one, and the formatter takes ten times as long.
fn dotted(address: &SocketAddrV4) -> String {
    let mut text = String::with_capacity("255.255.255.255:65535".len());
    let mut number = itoa::Buffer::new();
    for (octet, end) in address.ip().octets().into_iter().zip([".", ".", ".", ":"]) {
        text.push_str(number.format(octet));
        text.push_str(end);
    }
    text.push_str(number.format(address.port()));
    text
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
            let text = if failure.missed { "was not observed" } else { "is not visible" };
            let rest =
                if failure.socket.is_some() { "its states and the socket say" } else { "its states say" };
            for part in ["nginx's text ", text, "; ", rest, " ", failure.symptom.as_str()] {
                out.push_str(part);
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{ContainerNames, PodName};

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
    fn addresses_are_written_as_the_library_writes_them() {
        for text in
            ["0.0.0.0:1", "127.0.0.1:9000", "255.255.255.255:65535", "[::1]:80", "[::ffff:10.0.0.7]:0"]
        {
            let address: SocketAddr = text.parse().expect("an address");
            assert_eq!(place(&Endpoint::Tcp(address)), address.to_string());
        }
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
            unit_of_user: None,
            container: None,
            container_names: None,
            pool: Some("www".into()),
        };
        assert_eq!(name_unit(&who), "php-fpm[812] (pool www, php8.2-fpm.service)");
        assert_eq!(name_unit(&ProcessFacts { unit: None, pool: None, ..who }), "php-fpm[812]");
        assert_eq!(name(&ProcessFacts::default()), "process 0");
        let inside =
            ProcessFacts { container: Some("0123456789abcdef".repeat(4)), ..ProcessFacts::default() };
        assert_eq!(name_unit(&inside), "process 0 (container 0123456789ab)");
        let names = ContainerNames { runtime: None, name: Some("php".into()), pod: None };
        let named = ProcessFacts { container_names: Some(names.clone()), ..inside.clone() };
        assert_eq!(name_unit(&named), "process 0 (container php)");
        let pod = PodName { namespace: "shop".into(), name: "web-7d9f".into() };
        let of_pod =
            ProcessFacts { container_names: Some(ContainerNames { pod: Some(pod), ..names }), ..inside };
        assert_eq!(name_unit(&of_pod), "process 0 (container php of pod shop/web-7d9f)");
    }
}
