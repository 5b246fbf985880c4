//! What this host lacks or cannot reach: routes, ports, descriptors, names.

use super::{Diagnosis, listener, moved};
use crate::attribute::attempt::FailedAttempt;
use crate::attribute::destination::Destination;
use crate::attribute::finding::evidence::Fact;
use crate::attribute::finding::local::{Descriptors, Dns, Local, PortRange};
use crate::attribute::finding::{Doubt, Facts, Unknown};
use crate::attribute::symptom::ENFILE;
use crate::attribute::world::World;
use crate::units::Errno;

/// ICMP codes of type 3 by which a filter prohibits: network, host, administratively.
const PROHIBITED: [u8; 3] = [9, 10, 13];

/// connect(2) gave EHOSTUNREACH and its kin.
pub(super) fn unreachable(world: &World, failure: &FailedAttempt) -> Diagnosis {
    if let Some(found) = listener::left_with_namespace(world, failure) {
        return found;
    }
    let to = failure.remote().map(|remote| remote.ip());
    let errno = failure.errno.map(Errno);
    let found = match (failure.socket.as_ref().and_then(|socket| socket.icmp), errno) {
        (Some(icmp @ (3, code)), _) if PROHIBITED.contains(&code) => {
            Local::Prohibited { icmp: icmp.into(), to }.into()
        }
        (None, None) => Facts::from(Unknown::NoErrno(to)),
        (icmp, errno) => {
            let moved = Destination::of(world, failure).and_then(|there| moved::of(world, failure, &there));
            Local::Unreachable { errno, icmp: icmp.map(Into::into), to, moved }.into()
        }
    };
    let found = Diagnosis::new(found);
    match to.and_then(|to| world.route(failure.worker, to)) {
        Some((at, route)) => found.with_evidence(*at, Fact::Route(route.to, route.errno.map(Errno))),
        None => found,
    }
}

/// No local address or port.
pub(super) fn address_exhausted(world: &World, failure: &FailedAttempt) -> Diagnosis {
    if failure.nginx.text.starts_with(b"bind(") {
        return Diagnosis::new(Unknown::Bind(failure.nginx.detail.clone()));
    }
    let Some((at, ports)) = failure.remote().and_then(|remote| world.ports(&remote)) else {
        let unknown = Local::PortExhaustion(PortRange::default());
        return Diagnosis::inferred(unknown, Doubt::RangeNotLookedUp);
    };
    // Some are always between two states when they are counted.
    let enough = u64::from(ports.used) * 10 >= u64::from(PortRange::size(ports.low, ports.high)) * 9;
    Diagnosis::new(Local::PortExhaustion(ports.into()))
        .unless_proven_by(|| (!enough).then_some(Doubt::CountedLater))
        .with_evidence(*at, Fact::Ports(*ports))
}

/// No descriptor, or no connection slot.
pub(super) fn descriptors(world: &World, failure: &FailedAttempt) -> Diagnosis {
    if failure.nginx.text.starts_with(b"%ui worker_connections") {
        return Diagnosis::new(Local::WorkerConnections { worker_connections: failure.nginx.number });
    }
    let system = failure.errno == Some(ENFILE);
    let limits = world.limits(failure.worker);
    let found = Descriptors::new(limits.map(|(_, limits)| limits), system);
    let found = Diagnosis::new(Local::Descriptors(found));
    match limits {
        Some((at, limits)) => found.with_evidence(*at, Fact::Descriptors(*limits)),
        None => found,
    }
}

/// The resolver gave no address.
pub(super) fn dns(failure: &FailedAttempt) -> Diagnosis {
    let name = failure.nginx.detail.clone();
    if failure.nginx.text.starts_with(b"no resolver defined") {
        return Diagnosis::new(Local::Dns(Dns { name, code: None, resolver: Some(false) }));
    }
    match failure.nginx.number {
        None => Diagnosis::inferred(
            Local::Dns(Dns { name: None, code: None, resolver: None }),
            Doubt::ResolverHidden,
        ),
        code => Diagnosis::new(Local::Dns(Dns { name, code, resolver: Some(true) })),
    }
}
