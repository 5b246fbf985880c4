//! The kernel answered EACCES or EPERM: permission bits, a prohibit route, or a policy. Each is told by a look-up of its
//! own; what is left over stays unknown.

use super::{Diagnosis, sole_listener};
use crate::attribute::attempt::FailedAttempt;
use crate::attribute::destination::Destination;
use crate::attribute::finding::denied::{Allowed, Denied, Suspect};
use crate::attribute::finding::evidence::Fact;
use crate::attribute::finding::{Doubt, Unknown};
use crate::attribute::symptom::{EACCES, EAFNOSUPPORT, EOPNOTSUPP, EPERM};
use crate::attribute::world::World;
use crate::event::{Endpoint, Guards};
use crate::units::Errno;

/// Finds who said no.
pub(super) fn diagnose(world: &World, failure: &FailedAttempt) -> Diagnosis {
    // No socket was made: neither a path nor a route had a say.
    if failure.nginx.text.starts_with(b"socket() failed") {
        return policy(world, failure, Allowed::NoSocket);
    }
    match &failure.endpoint() {
        Some(here @ Endpoint::Unix(path)) if path.first() != Some(&0) => {
            let walked = world.walk(failure.worker, path).filter(|(_, walk)| walk.missing.is_none());
            let Some((when, walk)) = walked else { return Diagnosis::new(Unknown::PathNotWalked) };
            let found = match &walk.refused {
                Some(_) => {
                    // By the program that listens there, if one does.
                    let server =
                        sole_listener(world, failure).map(|who| who.comm.clone()).unwrap_or_default();
                    let there = Destination::within(failure.netns(), here.clone());
                    let living = world.listeners.living(&there);
                    let pool = world.processes.pool(living.flat_map(|listener| &listener.holders));
                    Diagnosis::new(Denied::FilePermissions { walk: walk.clone(), server, pool })
                }
                None => policy(world, failure, Allowed::Bits),
            };
            found.with_evidence(*when, Fact::Walked(walk.clone()))
        }
        Some(Endpoint::Unix(_)) => policy(world, failure, Allowed::NoBits),
        _ => by_route(world, failure),
    }
}

/// socket(2) gave EAFNOSUPPORT: a filter of system calls forbids a family that the kernel has, as systemd's
/// `RestrictAddressFamilies=` does. `None` where the kernel may be without it, or nothing guards the worker.
pub(super) fn family_forbidden(world: &World, failure: &FailedAttempt) -> Option<Diagnosis> {
    let (at, guards) = world.guards(failure.worker)?;
    let v6 = failure.remote().map(|remote| remote.ip()).filter(|to| to.is_ipv6());
    let route = v6.map(|to| world.route(failure.worker, to));
    let present = match route {
        None => true,
        Some(route) => route.is_some_and(|(_, route)| !lacks_family(route.errno)),
    };
    let suspects = suspects(failure, guards);
    if suspects.is_empty() || !present {
        return None;
    }
    let found =
        Diagnosis::inferred(Denied::Policy { allowed: Allowed::NoSocket, suspects }, Doubt::OnlySuspect);
    let found = found.with_evidence(*at, Fact::Confined(guards.clone()));
    let route = route.flatten().into_iter();
    Some(route.fold(found, |found, (at, route)| {
        found.with_evidence(*at, Fact::Route(route.to, route.errno.map(Errno)))
    }))
}

/// Whether the routing table's answer says that the kernel does not know the address family at all.
pub(super) fn lacks_family(errno: Option<i32>) -> bool {
    matches!(errno, Some(EAFNOSUPPORT | EOPNOTSUPP))
}

/// TCP knows no permission bits, but the routing table may prohibit.
fn by_route(world: &World, failure: &FailedAttempt) -> Diagnosis {
    let Some(to) = failure.remote().map(|remote| remote.ip()) else {
        return Diagnosis::new(Unknown::RouteNotLookedUp);
    };
    let Some((at, route)) = world.route(failure.worker, to) else {
        return Diagnosis::new(Unknown::RouteNotLookedUp);
    };
    let found = match route.errno {
        Some(EACCES) if failure.errno == Some(EACCES) => Diagnosis::new(Denied::ProhibitRoute { to }),
        _ => policy(world, failure, Allowed::Route),
    };
    found.with_evidence(*at, Fact::Route(route.to, route.errno.map(Errno)))
}

/// By elimination a policy's doing; which one, only their presence tells. Where none is present it is not known.
fn policy(world: &World, failure: &FailedAttempt, allowed: Allowed) -> Diagnosis {
    let Some((at, guards)) = world.guards(failure.worker) else {
        return Diagnosis::new(Unknown::ConfinementNotLookedUp(allowed));
    };
    let suspects = suspects(failure, guards);
    let found = match suspects.is_empty() {
        true => Diagnosis::new(Unknown::NoSuspect(allowed, guards.modules.clone())),
        false => Diagnosis::inferred(Denied::Policy { allowed, suspects }, Doubt::OnlySuspect),
    };
    found.with_evidence(*at, Fact::Confined(guards.clone()))
}

/// The policies on the worker that answer with this errno: security modules EACCES, the others EPERM unless they are
/// written otherwise.
fn suspects(failure: &FailedAttempt, guards: &Guards) -> Vec<Suspect> {
    let module = guards.confinement.as_ref().filter(|one| one.enforced != Some(false));
    let programs = guards.cgroup_programs.filter(|count| *count > 0 && !failure.unix());
    let filter = (guards.seccomp == Some(true)).then_some(Suspect::Seccomp);
    match failure.errno {
        Some(EACCES) => module.map(Suspect::module).into_iter().collect(),
        Some(EPERM) => {
            programs.map(|attached| Suspect::CgroupPrograms { attached }).into_iter().chain(filter).collect()
        }
        Some(EAFNOSUPPORT) => filter.into_iter().collect(),
        _ => Vec::new(),
    }
}
