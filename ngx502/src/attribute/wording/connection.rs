//! An established connection ended.

use std::rc::Rc;

use super::{name_unit, target};
use crate::attribute::attempt::Failure;
use crate::attribute::named::Named;
use crate::attribute::text::{Span, Text, text};
use crate::attribute::verdict::{Certainty, ProcessFacts};
use crate::event::{CloseKind, Closer, Socket};

/// What nginx saw, for a sentence with "the connection to …".
fn how(how: CloseKind) -> &'static str {
    match how {
        CloseKind::Closed => "closed the connection",
        CloseKind::Aborted => "reset the connection",
        CloseKind::NeverAccepted => "closed its listening socket with the connection not yet accepted",
        CloseKind::Destroyed => "destroyed the connection (as ss -K does)",
    }
}

/// What a moment in a socket's life was, by its kind of evidence.
pub(in crate::attribute) fn step(event: &str, there: &Rc<str>) -> Text {
    match event {
        "connect" => text!["nginx began to connect to ", there],
        "established" => text!["the connection to ", there, " was established"],
        "send" => "nginx began to send the request".into(),
        "first-byte" => "the first byte of the response arrived".into(),
        "fin" => "the upstream's FIN arrived".into(),
        "reset-sent" => "the upstream's end sent a RST".into(),
        _ => "a RST arrived".into(),
    }
}

pub(in crate::attribute) fn cut() -> String {
    "the response was cut, and nothing tells how".into()
}

pub(in crate::attribute) fn unobserved_socket(there: &str) -> String {
    format!(
        "the connection to {there} ended early; its socket was not observed, so who closed it is not known"
    )
}

pub(in crate::attribute) fn close_seen(who: &Named, closer: &Closer) -> Text {
    let dying = if closer.exiting { " as it died" } else { "" };
    text![who.name(), " ", how(closer.how), dying]
}

pub(in crate::attribute) fn died_somehow(who: &ProcessFacts, closer: &Closer) -> String {
    format!("{} {} as it died; how it died was not observed", name_unit(who), how(closer.how))
}

pub(in crate::attribute) fn never_accepted(who: &ProcessFacts, there: &str) -> String {
    format!("{} {} ({there})", name_unit(who), how(CloseKind::NeverAccepted))
}

pub(in crate::attribute) fn closed_alive(
    who: &Named,
    closer: &Closer,
    there: &Rc<str>,
    socket: &Socket,
) -> Text {
    text![who.full(), ", which lives, ", how(closer.how), " to ", there, " ", progress(socket)]
}

/// How far the response had come.
fn progress(socket: &Socket) -> &'static str {
    let answered = socket.first_byte_at.filter(|first| Some(*first) >= socket.sent_at);
    match (answered, socket.sent_at) {
        (Some(_), _) => "before its response was complete",
        (None, Some(_)) => "without an answer",
        (None, None) => "before it had the request",
    }
}

pub(in crate::attribute) fn reader_closed(who: &ProcessFacts, there: &str, socket: &Socket) -> String {
    format!(
        "{}, which lives, closed the connection to {there} {} (inferred: it read from it last; no probe sees who closes)",
        name_unit(who),
        progress(socket)
    )
}

pub(in crate::attribute) fn only_server_closed(who: &ProcessFacts, there: &str) -> String {
    format!(
        "{}, the only process that listens on {there}, closed the connection (inferred: no probe sees who closes)",
        name_unit(who)
    )
}

pub(in crate::attribute) fn maybe_invalid() -> &'static str {
    " (inferred: error_log's level hides whether nginx had rejected the response before)"
}

pub(in crate::attribute) fn reader_gone(who: &ProcessFacts, there: &str) -> String {
    format!(
        "the connection to {there} ended; {}, which read from it last, is gone, and how it ended was not observed",
        name_unit(who)
    )
}

pub(in crate::attribute) fn reader_died() -> &'static str {
    " (inferred: it read from the connection last and died before it ended)"
}

pub(in crate::attribute) fn died_meanwhile() -> &'static str {
    " (inferred: it died as the connection ended)"
}

pub(in crate::attribute) fn keepalive_race(who: &str, there: &str, certainty: Certainty) -> String {
    let doubt = if certainty == Certainty::Proven { "" } else { " (inferred from their times)" };
    format!("{who} was closing an idle connection to {there} as nginx reused it for this request{doubt}")
}

pub(in crate::attribute) fn maybe_race(there: &str, micros: u64) -> String {
    format!(
        "a reused connection to {there} ended {} after the request was sent; whether the upstream was closing it as idle or \
         gave up on the request was not observed",
        Span(micros)
    )
}

pub(in crate::attribute) fn keepalive_fix() -> [&'static str; 2] {
    [
        "make the upstream's keep-alive timeout longer than nginx's keepalive_timeout in the upstream block",
        "proxy_next_upstream error timeout non_idempotent; (if repeating the request is safe)",
    ]
}

pub(in crate::attribute) fn somewhere(there: &str) -> String {
    format!(
        "the connection to {there} was ended by its other end; whether that is another host or a container of this one was \
         not observed"
    )
}

pub(in crate::attribute) fn remote(there: &str, reset: bool) -> String {
    format!("{there} {} the connection from another host", if reset { "reset" } else { "closed" })
}

pub(in crate::attribute) fn remote_unseen(there: &str) -> String {
    format!("the connection to {there} on another host ended (inferred: neither FIN nor RST was observed)")
}

pub(in crate::attribute) fn not_seen(there: &str) -> String {
    format!(
        "the connection to {there} was ended by a process on this host, but no probe saw which one (see ngx502 doctor)"
    )
}

pub(in crate::attribute) fn several_died(there: &str, count: usize) -> String {
    format!(
        "{count} processes that share the listener on {there} died as the connection ended; which one served it was not \
         observed"
    )
}

pub(in crate::attribute) fn untold(failure: &Failure) -> String {
    let there = match failure.endpoint() {
        Some(_) => target(failure).to_string(),
        None => "an upstream whose name could not be read".to_owned(),
    };
    let words = if failure.missed { "were not observed" } else { "are hidden" };
    format!(
        "nginx got no connection to {there}: its own words {words}, and neither a socket nor a look-up shows whether \
         the connect failed or the TLS handshake, and with which error"
    )
}

pub(in crate::attribute) fn let_nginx_tell() -> &'static str {
    "error_log /var/log/nginx/error.log error;"
}

pub(in crate::attribute) fn concluded(missed: bool) -> &'static str {
    match missed {
        false => " (inferred: nginx's words are hidden, and the connect's error follows from a look-up)",
        true => {
            " (inferred: nginx's words were not observed, and the connect's error follows from a look-up)"
        }
    }
}
