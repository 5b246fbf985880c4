//! No peer was left to try.

use super::Diagnosis;
use crate::attribute::attempt::FailedAttempt;
use crate::attribute::finding::evidence::Fact;
use crate::attribute::finding::peers::{DownPeer, PeersDown};
use crate::attribute::finding::{Doubt, Unknown};
use crate::attribute::world::World;
use crate::event::Nanos;

/// How far back a failure may have marked a peer down: several times the default `fail_timeout` (nanoseconds).
const RECENT: u64 = 60_000_000_000;

/// Finds what took the peers down.
pub(super) fn diagnose(world: &World, failure: &FailedAttempt) -> Diagnosis {
    let group = failure.peer.clone().unwrap_or_default();
    let since = Nanos(failure.at.0.saturating_sub(RECENT));
    let mut peers = world.group(failure.worker, &group);
    peers.retain(|(_, last)| last.at >= since);
    let known = !peers.is_empty();
    if !known {
        peers = world.failed_since(failure.worker, &group, since);
    }
    if peers.is_empty() {
        return Diagnosis::new(Unknown::NoLivePeer);
    }
    let down = peers.iter().map(|(address, last)| DownPeer {
        address: (*address).clone(),
        symptom: last.symptom,
        cause: last.cause,
    });
    let found = Diagnosis::new(PeersDown { peers: down.collect() })
        .unless_proven_by(|| (!known).then_some(Doubt::FailedLately));
    peers.iter().fold(found, |found, (peer, last)| {
        found.with_evidence(last.at, Fact::PeerFailed((*peer).clone(), last.symptom, last.cause))
    })
}
