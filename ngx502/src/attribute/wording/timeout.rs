//! Waiting that ended without an answer.

use bstr::ByteSlice;

use super::{name_or, name_unit, queue as fill_of};
use crate::attribute::text::Span;
use crate::attribute::verdict::ProcessFacts;
use crate::event::{PeerSocket, Queue};

fn fill(queue: Option<Queue>) -> String {
    queue.map_or(String::new(), |queue| format!(" ({})", fill_of(&queue)))
}

pub(in crate::attribute) fn full(
    there: &str,
    who: Option<&ProcessFacts>,
    queue: Option<Queue>,
    busy: Option<bool>,
) -> String {
    let workers = match busy {
        Some(true) => "; every process that could accept was busy",
        Some(false) => "; a process that could accept was idle",
        None => "",
    };
    let holder = who.map_or(String::new(), |who| format!(" of {}", name_unit(who)));
    format!("the accept queue of {there}{holder} was full{}{workers}", fill(queue))
}

pub(in crate::attribute) fn never_acknowledged() -> &'static str {
    " (inferred: the server never acknowledged the request)"
}

pub(in crate::attribute) fn connect_unobserved(there: &str) -> String {
    format!("connecting to {there} timed out; its socket was not observed")
}

pub(in crate::attribute) fn icmp(there: &str, (kind, code): (u8, u8)) -> String {
    format!("connecting to {there} timed out after ICMP type {kind} code {code}")
}

pub(in crate::attribute) fn silent_host(there: &str, syns: u32) -> String {
    format!(
        "{there} on another host did not answer {syns} SYNs: down, unreachable, filtered or overloaded look the same from \
         here"
    )
}

pub(in crate::attribute) fn filtered(there: &str, why: &str) -> String {
    format!("a filter on this host seems to drop the SYN to {there} (inferred: {why})")
}

pub(in crate::attribute) const QUEUE_EMPTY: &str = "its listener's queue was empty";
pub(in crate::attribute) const NOBODY_THERE: &str =
    "nobody listens there, and a closed port would have answered at once";

pub(in crate::attribute) fn syn_unanswered(there: &str) -> String {
    format!("{there} did not answer the SYN; whether its accept queue was full then was not observed")
}

pub(in crate::attribute) fn read_unobserved(there: &str) -> String {
    format!("{there} did not answer in time; its socket was not observed")
}

pub(in crate::attribute) fn queue_was_empty() -> &'static str {
    " (inferred: nothing waited in its accept queue)"
}

pub(in crate::attribute) fn path_down(there: &str, retransmits: u32) -> String {
    format!("{there} stopped acknowledging: {retransmits} retransmissions (inferred: host or path down)")
}

pub(in crate::attribute) fn accepted_unknown(there: &str) -> String {
    format!(
        "{there} took the connection and did not answer in time; whether a process had accepted it was not observed"
    )
}

pub(in crate::attribute) fn slow(there: &str, who: Option<&ProcessFacts>, waited: Option<u64>) -> String {
    let waited = waited.map_or("the time allowed".to_owned(), |micros| Span(micros).to_string());
    format!(
        "{} accepted the connection to {there} and did not answer within {waited}",
        name_or(who, "the upstream")
    )
}

pub(in crate::attribute) fn look_inside(who: &ProcessFacts) -> String {
    format!("see what it waits for: cat /proc/{}/stack; strace -p {}", who.pid, who.pid)
}

pub(in crate::attribute) fn allow_more_time() -> String {
    "make the request faster, or raise the read timeout of its location (proxy_read_timeout and its kin)"
        .into()
}

pub(in crate::attribute) fn not_accepted(
    there: &str,
    who: Option<&ProcessFacts>,
    queue: Option<Queue>,
    busy: bool,
) -> String {
    let workers = if busy { "; all its processes were busy" } else { "" };
    format!(
        "the connection waited in the accept queue of {there}{}, and {} did not accept it in time{workers}",
        fill(queue),
        name_or(who, "the upstream")
    )
}

/// The queue that a connect met in the kernel, as evidence.
pub(in crate::attribute) fn queue_met(queue: &Queue) -> String {
    format!("the connect found {}", fill_of(queue))
}

/// The queue that a look-up found, as evidence.
pub(in crate::attribute) fn queue_seen(queue: &Queue, holders: usize, busy: Option<bool>) -> String {
    let workers = match busy {
        Some(true) => "all busy",
        Some(false) => "one idle at least",
        None => "busy or not could not be seen",
    };
    let processes = if holders == 1 { "process" } else { "processes" };
    format!("a look-up found {}; {holders} {processes} on that listener, {workers}", fill_of(queue))
}

/// The server's end of the connection, as evidence.
pub(in crate::attribute) fn other_end(peer: &PeerSocket) -> String {
    let unread = peer.unread.filter(|bytes| *bytes > 0);
    let unread = unread.map_or(String::new(), |bytes| format!(", {bytes} bytes unread"));
    match (peer.accepted, peer.holders.first()) {
        (Some(true), Some(holder)) => {
            format!(
                "a look-up found the server's end with {}[{}]{unread}",
                holder.comm.to_str_lossy(),
                holder.pid
            )
        }
        (Some(false), _) => format!("a look-up found the server's end in nobody's hands{unread}"),
        _ => format!("a look-up found the server's end, not its holder{unread}"),
    }
}

/// How to give the backlog more room.
pub(in crate::attribute) fn more_backlog(
    pool: Option<String>,
    comm: &[u8],
    limit: Option<u32>,
) -> Vec<String> {
    let over = limit.map_or(String::new(), |limit| format!(" (now {limit})"));
    let own = if comm.starts_with(b"php-fpm") {
        let place = pool.unwrap_or("the pool's configuration".into());
        format!("raise pm.max_children, then listen.backlog{over} in {place}")
    } else if comm.starts_with(b"gunicorn") {
        format!("gunicorn --workers N --backlog N{over}")
    } else if comm.starts_with(b"uwsgi") {
        format!("uwsgi --processes N --listen N{over}")
    } else {
        format!("add workers, then raise the backlog that the upstream passes to listen(2){over}")
    };
    vec![own, "sysctl net.core.somaxconn caps every backlog".into()]
}
