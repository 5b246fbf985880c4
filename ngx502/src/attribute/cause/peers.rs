//! No peer was left to try.

use super::Diagnosis;
use crate::attribute::attempt::Failure;
use crate::attribute::verdict::{Cause, Certainty};
use crate::attribute::wording::{self, peers as words};
use crate::attribute::world::World;
use crate::event::Nanos;

/// How far back a failure may have marked a peer down: several times the default `fail_timeout` (nanoseconds).
const RECENT: u64 = 60_000_000_000;

/// Finds what took the peers down.
pub(super) fn diagnose(world: &World, failure: &Failure) -> Diagnosis {
    let group = failure.peer.clone().unwrap_or_default();
    let since = Nanos(failure.at.0.saturating_sub(RECENT));
    let mut peers = world.group(failure.worker, &group);
    peers.retain(|(_, last)| last.at >= since);
    let known = !peers.is_empty();
    if !known {
        peers = world.failed_since(failure.worker, since);
    }
    let there = wording::target(failure);
    if peers.is_empty() {
        return Diagnosis::unknown(words::none_seen(&there));
    }
    let certainty = if known { Certainty::Proven } else { Certainty::Inferred };
    let found = Diagnosis::new(Cause::AllPeersDown, certainty, words::all_down(&there, &peers, known));
    let found = peers
        .iter()
        .fold(found, |found, (peer, last)| found.seen(last.at, "peer", words::failed(peer, last)));
    found.fix([words::repair()])
}
