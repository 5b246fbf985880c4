//! No peer was left to try.

use bstr::BString;

use crate::attribute::world::PeerFailure;

pub(in crate::attribute) fn none_seen(there: &str) -> String {
    format!(
        "nginx found no live peer in {there}, and no failure of one was observed: max_conns, `down` in the configuration, or \
         failures before tracing began"
    )
}

pub(in crate::attribute) fn all_down(there: &str, peers: &[(&BString, &PeerFailure)], known: bool) -> String {
    let list: Vec<_> =
        peers.iter().map(|(peer, last)| format!("{peer} {} ({})", last.symptom, last.cause)).collect();
    let doubt = if known { "" } else { " (inferred: peers that failed lately)" };
    format!("every peer of {there} is marked down: {}{doubt}", list.join(", "))
}

pub(in crate::attribute) fn failed(peer: &BString, last: &PeerFailure) -> String {
    format!("{peer} failed: {}, {}", last.symptom, last.cause)
}

pub(in crate::attribute) fn repair() -> String {
    "repair the peers; fail_timeout and max_fails in the upstream block decide how long they stay out".into()
}
