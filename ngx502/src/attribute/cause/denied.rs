//! The kernel answered EACCES or EPERM: permission bits, a prohibit route, or a policy. Each is told by a look-up of its
//! own; what is left over stays unknown.

use super::{Diagnosis, sole_listener};
use crate::attribute::attempt::Failure;
use crate::attribute::symptom::{EACCES, EPERM};
use crate::attribute::verdict::Cause;
use crate::attribute::wording::denied::{self as words, Suspect};
use crate::attribute::wording::{self, local};
use crate::attribute::world::World;
use crate::event::{Endpoint, Guards, PathWalk, RefusedAt};

/// Finds who said no.
pub(super) fn diagnose(world: &World, failure: &Failure) -> Diagnosis {
    let there = wording::target(failure);
    // No socket was made: neither a path nor a route had a say.
    if failure.text.starts_with(b"socket() failed") {
        return policy(world, failure, &words::no_socket(&there));
    }
    match failure.endpoint() {
        Some(Endpoint::Unix(path)) if path.first() != Some(&0) => {
            let walked = world.walk(failure.worker, &path).filter(|(_, walk)| walk.missing.is_none());
            let Some((when, walk)) = walked else { return Diagnosis::unknown(words::not_walked(&there)) };
            let found = match &walk.refused {
                Some(at) => Diagnosis::proven(Cause::FilePermissions, words::refusal(walk, at))
                    .fix(permission_fix(world, failure, walk, at)),
                None => policy(world, failure, &words::bits_allow(&there)),
            };
            found.seen(*when, "path", words::walked(walk))
        }
        Some(Endpoint::Unix(_)) => policy(world, failure, &words::no_bits(&there)),
        _ => by_route(world, failure, &there),
    }
}

/// By the program that listens there, if one does.
fn permission_fix(world: &World, failure: &Failure, walk: &PathWalk, at: &RefusedAt) -> Vec<String> {
    let comm = sole_listener(world, failure).map(|who| who.comm.clone()).unwrap_or_default();
    let endpoint = failure.endpoint();
    let living = endpoint.iter().flat_map(|endpoint| world.listeners.living(failure.netns(), endpoint));
    let pool = world.processes.pool(living.flat_map(|listener| &listener.holders));
    words::permission_fix((&comm, pool), walk, at)
}

/// TCP knows no permission bits, but the routing table may prohibit.
fn by_route(world: &World, failure: &Failure, there: &str) -> Diagnosis {
    let Some(remote) = failure.remote() else { return Diagnosis::unknown(words::route_not_asked(there)) };
    let Some((at, route)) = world.route(failure.worker, remote.ip()) else {
        return Diagnosis::unknown(words::route_not_asked(there));
    };
    let found = match route.errno {
        Some(EACCES) if failure.errno == Some(EACCES) => {
            Diagnosis::proven(Cause::Unreachable, words::prohibit_route(there))
                .fix([local::route(remote.ip())])
        }
        _ => policy(world, failure, &words::route_open(there)),
    };
    found.seen(*at, "route", local::route_found(route))
}

/// By elimination a policy's doing; which one, only their presence tells. Where none is present it is not known.
fn policy(world: &World, failure: &Failure, why: &str) -> Diagnosis {
    let Some((at, guards)) = world.guards(failure.worker) else {
        return Diagnosis::unknown(words::guards_not_asked(why));
    };
    let suspects = suspects(failure, guards);
    let found = match suspects.is_empty() {
        true => Diagnosis::unknown(words::nobody_to_suspect(why, guards)),
        false => Diagnosis::inferred(Cause::SecurityPolicy, words::policy(why, &suspects)),
    };
    let fixes: Vec<_> = suspects.iter().map(|suspect| words::policy_fix(suspect, failure.unix())).collect();
    found.seen(*at, "policy", words::guarded(guards)).fix(fixes)
}

/// The policies on the worker that answer with this errno: security modules EACCES, the others EPERM unless they are
/// written otherwise.
fn suspects<'a>(failure: &Failure, guards: &'a Guards) -> Vec<Suspect<'a>> {
    let module = guards.confinement.as_ref().filter(|one| one.enforced != Some(false));
    let programs = guards.cgroup_programs.filter(|count| *count > 0 && !failure.unix());
    match failure.errno {
        Some(EACCES) => module.map(Suspect::Module).into_iter().collect(),
        Some(EPERM) => {
            let filter = (guards.seccomp == Some(true)).then_some(Suspect::Seccomp);
            programs.map(Suspect::CgroupPrograms).into_iter().chain(filter).collect()
        }
        _ => Vec::new(),
    }
}
