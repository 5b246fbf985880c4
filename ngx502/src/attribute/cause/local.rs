//! What this host lacks or cannot reach: routes, ports, descriptors, names.

use bstr::ByteSlice as _;

use super::{Diagnosis, denied, listener, moved};
use crate::attribute::attempt::FailedAttempt;
use crate::attribute::destination::Destination;
use crate::attribute::finding::evidence::Fact;
use crate::attribute::finding::local::{Descriptors, Dns, Lack, Local, PortRange};
use crate::attribute::finding::{Doubt, Facts, Unknown};
use crate::attribute::symptom::{EADDRNOTAVAIL, EAFNOSUPPORT, ENFILE};
use crate::attribute::world::World;
use crate::event::{Ports, RouteLookup};
use crate::units::Errno;

/// ICMP codes of type 3 by which a filter prohibits: network, host, administratively.
const PROHIBITED: [u8; 3] = [9, 10, 13];

/// connect(2) gave EHOSTUNREACH and its kin.
pub(super) fn unreachable(world: &World, failure: &FailedAttempt) -> Diagnosis {
    if let Some(found) = listener::left_with_namespace(world, failure) {
        return found;
    }
    if failure.errno == Some(EAFNOSUPPORT)
        && let Some(found) = denied::family_forbidden(world, failure)
    {
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
            let route = to.and_then(|to| world.route(failure.worker, to));
            let family = failure.errno == Some(EAFNOSUPPORT)
                && route.is_some_and(|(_, route)| denied::lacks_family(route.errno));
            let lacks = family.then_some(Lack::Family);
            Local::Unreachable { errno, icmp: icmp.map(Into::into), to, lacks, moved }.into()
        }
    };
    let found = Diagnosis::new(found);
    match to.and_then(|to| world.route(failure.worker, to)) {
        Some((at, route)) => found.with_evidence(*at, Fact::Route(route.to, route.errno.map(Errno))),
        None => found,
    }
}

/// nginx could not keep what it buffers.
pub(super) fn storage(failure: &FailedAttempt) -> Diagnosis {
    let nginx = &failure.nginx;
    let Some(end) = nginx.text.find("() \"") else { return Diagnosis::new(Unknown::Cut) };
    let (call, path) = (nginx.text[..end].to_str_lossy().into_owned(), nginx.detail.clone());
    Diagnosis::new(Local::Storage { call, path, errno: failure.errno.map(Errno) })
}

/// No local address or port. The kernel has one errno for no port that is free and for no address to connect from.
pub(super) fn address_exhausted(world: &World, failure: &FailedAttempt) -> Diagnosis {
    if failure.nginx.text.starts_with(b"bind(") {
        return match failure.errno {
            Some(EADDRNOTAVAIL) => lacking(failure, Lack::Bind { address: failure.nginx.detail.clone() }),
            _ => Diagnosis::new(Unknown::Bind(failure.nginx.detail.clone())),
        };
    }
    let remote = failure.remote();
    let route = remote.and_then(|remote| world.route(failure.worker, remote.ip()));
    let ports = remote.and_then(|remote| world.ports(&remote));
    let v4 = remote.is_none_or(|remote| remote.is_ipv4());
    let found = match (ports, route) {
        // Some are always between two states when they are counted.
        (Some((_, ports)), _) if in_use(ports, 90) => Diagnosis::new(Local::PortExhaustion(ports.into())),
        (_, Some((_, RouteLookup { errno: Some(_), .. }))) => lacking(failure, Lack::Source),
        // With a route there is an address of IPv4 as well; of IPv6 there may be none of the scope.
        (Some((_, ports)), _) if in_use(ports, 50) || v4 && ports.used > 0 => {
            Diagnosis::inferred(Local::PortExhaustion(ports.into()), Doubt::CountedLater)
        }
        (Some(_), _) => lacking(failure, Lack::Source).with_doubt(Doubt::PortsFree),
        (None, _) if !v4 => Diagnosis::new(Unknown::PortsNotLookedUp),
        (None, _) => {
            Diagnosis::inferred(Local::PortExhaustion(PortRange::default()), Doubt::RangeNotLookedUp)
        }
    };
    let found = match ports {
        Some((at, ports)) => found.with_evidence(*at, Fact::Ports(*ports)),
        None => found,
    };
    match route.filter(|(_, route)| route.errno.is_some()) {
        Some((at, route)) => found.with_evidence(*at, Fact::Route(route.to, route.errno.map(Errno))),
        None => found,
    }
}

/// Whether so many of a hundred ports lead to the destination.
fn in_use(ports: &Ports, percent: u64) -> bool {
    u64::from(ports.used) * 100 >= u64::from(PortRange::size(ports.low, ports.high)) * percent
}

/// nginx's namespace has nothing that it could connect from.
fn lacking(failure: &FailedAttempt, lacks: Lack) -> Diagnosis {
    let to = failure.remote().map(|remote| remote.ip());
    let (errno, lacks) = (failure.errno.map(Errno), Some(lacks));
    Diagnosis::new(Local::Unreachable { errno, icmp: None, to, lacks, moved: None })
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
