//! All prose of verdicts: summaries, evidence, fixes. One file a family of causes, as in `cause`; here what they share.
//!
//! Summaries say when something happened relative to the failure ("12 s ago"), evidence carries its own time and says
//! none. What is not observed but concluded is marked "(inferred: …)". Names from the host are hostile; sinks escape
//! them.

pub(super) mod connection;
pub(super) mod death;
pub(super) mod listener;
pub(super) mod local;
pub(super) mod peers;
pub(super) mod protocol;
pub(super) mod timeout;

use bstr::{BString, ByteSlice};

use super::attempt::Failure;
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
    let home = match (&process.unit, &process.container) {
        (Some(unit), _) => Some(unit.clone()),
        (None, Some(container)) => Some(format!("container {}", container.get(..12).unwrap_or(container))),
        (None, None) => None,
    };
    let known: Vec<_> = pool.into_iter().chain(home).collect();
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
pub(super) fn target(failure: &Failure) -> String {
    match failure.endpoint() {
        Some(endpoint) => place(&endpoint),
        None => failure.peer.as_ref().map_or("the upstream".into(), |peer| peer.to_str_lossy().into_owned()),
    }
}

/// `12 s`, `1.6 s`, `350 ms`, `40 µs`, `5 min`, `3 h`.
pub(super) fn span(from: Nanos, to: Nanos) -> String {
    duration(to.micros_since(from))
}

/// A number of microseconds as people say it.
pub(super) fn duration(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{} ms", micros / 1_000),
        1_000_000..10_000_000 => {
            format!("{}.{} s", micros / 1_000_000, micros / 100_000 % 10)
        }
        10_000_000..120_000_000 => format!("{} s", micros / 1_000_000),
        120_000_000..7_200_000_000 => format!("{} min", micros / 60_000_000),
        7_200_000_000..172_800_000_000 => format!("{} h", micros / 3_600_000_000),
        _ => format!("{} days", micros / 86_400_000_000),
    }
}

/// `512 MiB`.
pub(super) fn bytes(count: u64) -> String {
    match count {
        0..1_048_576 => format!("{} KiB", count / 1_024),
        _ => format!("{} MiB", count / 1_048_576),
    }
}

/// `SIGKILL`, or the number.
pub(super) fn signal(number: i32) -> String {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
        "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    let index = usize::try_from(number - 1).ok();
    index.and_then(|index| NAMES.get(index)).map_or(format!("signal {number}"), |name| format!("SIG{name}"))
}

/// An errno's name as the JSON schema shows it, or its number.
pub(super) fn errno(number: i32) -> String {
    nix::errno::Errno::from_raw(number).to_string().split(':').next().unwrap_or_default().to_owned()
}

/// What nginx reported, as evidence.
pub(super) fn nginx_said(failure: &Failure) -> String {
    let errno = failure.errno.map_or(String::new(), |number| format!(" ({})", errno(number)));
    let action =
        failure.action.as_ref().map_or(String::new(), |action| format!(" while {}", action.to_str_lossy()));
    let upstream = match (failure.endpoint(), &failure.peer) {
        (None, None) => String::new(),
        _ => format!(", upstream {}", target(failure)),
    };
    format!("{}{errno}{action}{upstream}", nginx_words(failure))
}

/// nginx's text with what is known of its arguments.
pub(super) fn nginx_words(failure: &Failure) -> String {
    match (&failure.detail, failure.text.is_empty()) {
        (_, true) => {
            format!("nginx's text is not visible; its states and the socket say {}", failure.symptom)
        }
        (Some(detail), _) if failure.text.starts_with(b"%*s") => detail.to_str_lossy().into_owned(),
        (detail, _) => fill(&failure.text, detail.as_ref(), failure.number),
    }
}

/// Fills a format's first string and number; further slots go, with the punctuation that joins them.
fn fill(text: &BString, detail: Option<&BString>, number: Option<i64>) -> String {
    let (mut rest, mut out) = (text.to_str_lossy().into_owned(), String::new());
    let mut detail = detail.map(|detail| detail.to_str_lossy().into_owned());
    let mut number = number.map(|number| number.to_string());
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let slot =
            rest[at + 1..].find(|c: char| c.is_ascii_alphabetic()).map_or(rest.len(), |end| at + 1 + end + 1);
        let value = match rest[at..slot].ends_with(['V', 's']) {
            true => detail.take(),
            false => number.take(),
        };
        match value {
            Some(value) => out.push_str(&value),
            None => out.truncate(out.trim_end_matches([':', ' ']).len()),
        }
        rest = rest.split_off(slot);
    }
    out + &rest
}

/// A queue's fill.
pub(super) fn queue(queue: &Queue) -> String {
    format!("{} waiting, limit {}", queue.length, queue.limit)
}

/// How to restart a process that is gone, and where its own words are.
pub(super) fn restart(who: &ProcessFacts) -> Vec<String> {
    match (&who.unit, &who.container) {
        (Some(unit), _) => vec![format!("journalctl -u {unit} -n 50"), format!("systemctl restart {unit}")],
        (None, Some(container)) => vec![format!("docker logs --tail 50 {container}")],
        (None, None) => Vec::new(),
    }
}

/// Where a living process's own words are.
pub(super) fn journal(who: &ProcessFacts) -> Vec<String> {
    restart(who).into_iter().take(1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_said_as_people_do() {
        let said = [
            (0, "0 µs"),
            (350_999, "350 ms"),
            (1_625_000, "1.6 s"),
            (12_900_000, "12 s"),
            (300_000_000, "5 min"),
            (10_800_000_000, "3 h"),
            (400_000_000_000, "4 days"),
        ];
        for (micros, text) in said {
            assert_eq!(duration(micros), text);
        }
    }

    #[test]
    fn formats_are_filled_with_what_is_known() {
        let filled = |text: &str, detail: Option<&str>, number| {
            fill(&text.into(), detail.map(BString::from).as_ref(), number)
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
}
