//! Nobody accepted a connect that the kernel refused.

use std::rc::Rc;

use bstr::{BString, ByteSlice};

use super::name_unit;
use crate::attribute::named::Named;
use crate::attribute::text::{Span, Text, text};
use crate::attribute::verdict::{ProcessFacts, Symptom};
use crate::event::{Endpoint, FailedUnit, NearListener, Nearness, PathKind};

pub(in crate::attribute) fn no_address() -> String {
    "the connection was refused, but the upstream's address could not be read".into()
}

pub(in crate::attribute) fn rejected(there: &str, (kind, code): (u8, u8)) -> String {
    format!("a filter rejected the connect to {there} with ICMP type {kind} code {code}, not a listener")
}

pub(in crate::attribute) fn refused_unconfirmed(there: &str, who: &str) -> String {
    format!(
        "{there} refused the connection; {who} listened there, and no look-up confirmed that it still does"
    )
}

pub(in crate::attribute) fn refused_by_filter(there: &str, who: &str) -> String {
    format!(
        "{there} refused the connection although {who} listens there: a filter answered (inferred: the listener lives)"
    )
}

pub(in crate::attribute) fn bound_aside(there: &str, who: &str) -> String {
    format!(
        "{who} listens on a socket bound to {there}, but nginx does not reach it by that path: the file was removed or \
         replaced, or nginx sees another file system there"
    )
}

pub(in crate::attribute) fn stopped(who: &Named, there: &Rc<str>, ago: Span) -> Text {
    text![who.full(), " closed its listening socket on ", there, " ", ago, " ago, and lives"]
}

pub(in crate::attribute) fn stopped_unseen(who: &ProcessFacts, there: &str) -> String {
    format!(
        "{} listened on {there}, lives, and no longer has that socket: it closed it (inferred: the close itself was not observed)",
        name_unit(who)
    )
}

pub(in crate::attribute) fn stopped_or_died(
    living: &ProcessFacts,
    dead: &ProcessFacts,
    there: &str,
) -> String {
    format!(
        "nobody listens on {there} any more: {} died, and {}, which shared the socket, lives without it; which of them \
         closed it last was not observed",
        name_unit(dead),
        name_unit(living)
    )
}

pub(in crate::attribute) fn vanished(who: &ProcessFacts, there: &str) -> String {
    format!(
        "{} listened on {there} before and no longer does; how that ended was not observed",
        name_unit(who)
    )
}

pub(in crate::attribute) fn shared() -> &'static str {
    " (inferred: other processes shared the socket and their end was not seen)"
}

pub(in crate::attribute) fn other_namespace() -> &'static str {
    " (inferred: it listened in another namespace than nginx's, where the same name can mean another socket)"
}

pub(in crate::attribute) fn gone(there: &Rc<str>) -> Text {
    text!["the last listening socket on ", there, " was gone"]
}

pub(in crate::attribute) fn lives(who: &ProcessFacts) -> String {
    format!("a look-up found {} alive", super::name(who))
}

pub(in crate::attribute) fn somewhere(there: &str) -> String {
    format!(
        "{there} refused the connection; whether that is another host or a container of this one was not observed"
    )
}

pub(in crate::attribute) fn elsewhere(there: &str) -> String {
    format!(
        "{there}, not an address of this host as far as ngx502 saw, refused the connection; whether no process listens \
         there or a filter answered cannot be told from here"
    )
}

pub(in crate::attribute) fn never_unconfirmed(there: &str) -> String {
    format!("the kernel refused the connection to {there}; no look-up confirmed that nobody listens there")
}

pub(in crate::attribute) fn listens_by_now(there: &str) -> String {
    format!(
        "{there} refused the connection and had a listener shortly after; who listened before was not observed"
    )
}

pub(in crate::attribute) fn relative(there: &str, path: &BString) -> String {
    format!(
        "nobody listens on {there}; a listener that was bound to the relative path {} ended, and whether that was this \
         socket was not observed",
        path.to_str_lossy()
    )
}

/// What is known of a place between the start and the failure.
#[derive(Clone, Copy, Debug)]
pub(in crate::attribute) enum History<'a> {
    /// Every listener that came or went would have been seen.
    Watched,
    /// The same, and one ended at this path, which may be another name of the same socket.
    Alike(&'a BString),
    /// A listener may have come and gone unseen.
    Unwatched,
}

/// Nobody listens there.
pub(in crate::attribute) fn never(
    there: &str,
    mechanism: Symptom,
    path: Option<PathKind>,
    history: History<'_>,
) -> String {
    let what = match (mechanism, path) {
        (_, Some(PathKind::Other)) => return format!("{there} is not a socket"),
        (Symptom::SocketMissing, _) => format!("{there} does not exist"),
        (_, Some(PathKind::Socket)) => {
            format!("{there} is a socket file left behind by a server that is gone")
        }
        _ => format!("nobody listens on {there}"),
    };
    match history {
        History::Watched => format!("{what}, and nobody listened there since tracing began"),
        History::Alike(path) => format!(
            "{what}, and nobody bound that name since tracing began (inferred: a listener on {} ended, and that this was \
             not the same socket by another name was not observed)",
            path.to_str_lossy()
        ),
        History::Unwatched => format!(
            "{what}; nobody listened there when tracing began, nor now (inferred: who came and went in between was not \
             observed)"
        ),
    }
}

pub(in crate::attribute) fn looked_up(there: &Rc<str>) -> Text {
    text!["a look-up found no listener on ", there]
}

pub(in crate::attribute) fn near(near: &NearListener) -> String {
    let why = match near.why {
        Nearness::SamePort => "same port, other address",
        Nearness::OtherNamespace => "same port, other network namespace",
        Nearness::SameDirectory => "same directory",
        Nearness::SameProgram => "same program",
    };
    let comm = near.process.comm.to_str_lossy();
    format!(
        "{comm}[{}] listens on {} ({why}); is that the upstream?",
        near.process.pid,
        super::place(&near.bound)
    )
}

/// Near misses beyond those that are named; `cut` when the look-up stopped counting.
pub(in crate::attribute) fn more_near(count: usize, cut: bool) -> String {
    let least = if cut { "at least " } else { "" };
    format!("and {least}{count} more such listeners: ss -lntxp")
}

/// Whether a unit's name begins with a word that the path contains: `php8.2-fpm.service` and `/run/php/php-fpm.sock`.
pub(in crate::attribute) fn resembles(unit: &str, endpoint: &Endpoint) -> bool {
    let Endpoint::Unix(path) = endpoint else { return false };
    let word: String = unit.chars().take_while(char::is_ascii_alphabetic).collect();
    word.len() >= 3 && path.contains_str(&word)
}

pub(in crate::attribute) fn unit_failed(unit: &FailedUnit) -> String {
    format!("systemd holds {} failed ({})", unit.unit, result(unit))
}

pub(in crate::attribute) fn failed_unit(unit: &FailedUnit) -> String {
    let name = super::quoted(&unit.unit);
    format!("systemctl status {name} (it failed: {}); is that the upstream?", result(unit))
}

fn result(unit: &FailedUnit) -> String {
    match unit.exit_status {
        Some(status) => format!("{}, status {status}", unit.result),
        None => unit.result.clone(),
    }
}

pub(in crate::attribute) fn check(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Tcp(address) => format!("ss -ltnp 'sport = :{}'", address.port()),
        Endpoint::Unix(_) => format!("ss -lxp | grep -F {}", super::quoted(&super::place(endpoint))),
    }
}

pub(in crate::attribute) fn filters() -> &'static str {
    "nft list ruleset; iptables-save"
}
