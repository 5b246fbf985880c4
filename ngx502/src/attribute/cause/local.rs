//! What this host lacks or cannot reach: routes, ports, descriptors, names.

use bstr::{BStr, ByteSlice};

use super::Diagnosis;
use crate::attribute::attempt::Failure;
use crate::attribute::symptom::ENFILE;
use crate::attribute::verdict::{Cause, Certainty};
use crate::attribute::wording::{self, local as words};
use crate::attribute::world::World;

/// ICMP codes of type 3 by which a filter prohibits: network, host, administratively.
const PROHIBITED: [u8; 3] = [9, 10, 13];

/// connect(2) gave EHOSTUNREACH and its kin.
pub(super) fn unreachable(world: &World, failure: &Failure) -> Diagnosis {
    let there = wording::target(failure);
    let mut found = match (failure.socket.as_ref().and_then(|socket| socket.icmp), failure.errno) {
        (Some((3, code)), _) if PROHIBITED.contains(&code) => {
            Diagnosis::proven(Cause::Firewall, words::prohibited(&there, code))
        }
        (Some(icmp), errno) => {
            Diagnosis::proven(Cause::Unreachable, words::unreachable_icmp(&there, icmp, errno))
        }
        (None, Some(errno)) => Diagnosis::proven(Cause::Unreachable, words::unreachable(&there, errno)),
        (None, None) => Diagnosis::unknown(words::no_errno(&there)),
    };
    if let Some((at, route)) = failure.remote().and_then(|remote| world.route(failure.worker, remote.ip())) {
        found = found.seen(*at, "route", words::route_found(route));
    }
    found.fix(failure.remote().map(|remote| words::route(remote.ip())))
}

/// No local address or port.
pub(super) fn address_exhausted(world: &World, failure: &Failure) -> Diagnosis {
    let there = wording::target(failure);
    if failure.text.starts_with(b"bind(") {
        let summary = words::bind_failed(&there, detail(failure));
        return Diagnosis::unknown(summary).fix([words::bind_fix()]);
    }
    let Some((at, ports)) = failure.remote().and_then(|remote| world.ports(&remote)) else {
        return Diagnosis::inferred(Cause::PortExhaustion, words::no_port(&there)).fix(words::ports_fix());
    };
    let range = u32::from(ports.high).saturating_sub(u32::from(ports.low)) + 1;
    // Some are always between two states when they are counted.
    let enough = u64::from(ports.used) * 10 >= u64::from(range) * 9;
    let certainty = if enough { Certainty::Proven } else { Certainty::Inferred };
    Diagnosis::new(Cause::PortExhaustion, certainty, words::ports_used(&there, ports, range, enough))
        .seen(*at, "ports", words::ports_counted(&there, ports, range))
        .fix(words::ports_fix())
}

/// No descriptor, or no connection slot.
pub(super) fn descriptors(world: &World, failure: &Failure) -> Diagnosis {
    if failure.text.starts_with(b"%ui worker_connections") {
        let found = Diagnosis::proven(Cause::FdLimit, words::connections_used(failure.number));
        return found.fix([words::more_connections(failure.number)]);
    }
    let system = failure.errno == Some(ENFILE);
    let Some((at, limits)) = world.limits(failure.worker) else {
        return Diagnosis::proven(Cause::FdLimit, words::descriptors_gone(system))
            .fix([words::more_descriptors(None)]);
    };
    Diagnosis::proven(Cause::FdLimit, words::descriptors_used(limits, system))
        .seen(*at, "descriptors", words::descriptors_counted(limits))
        .fix([words::more_descriptors((!system).then_some(limits))])
}

/// The resolver gave no address.
pub(super) fn dns(failure: &Failure) -> Diagnosis {
    let name = detail(failure);
    if failure.text.starts_with(b"no resolver defined") {
        return Diagnosis::proven(Cause::Dns, words::no_resolver(name)).fix([words::resolver_fix()]);
    }
    match failure.number {
        None => Diagnosis::inferred(Cause::Dns, words::unresolved_hidden()),
        Some(code) => Diagnosis::proven(Cause::Dns, words::unresolved(name, code)).fix([words::dig(name)]),
    }
}

fn detail(failure: &Failure) -> Option<&BStr> {
    failure.detail.as_ref().map(|detail| detail.as_bstr())
}
