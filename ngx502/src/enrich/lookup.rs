//! What to look up on the machine because of a record. Pure: the looking happens elsewhere.

use std::net::{IpAddr, SocketAddr};

use bstr::{BStr, BString, ByteSlice as _};
use nix::libc::{
    EACCES, EADDRNOTAVAIL, EAFNOSUPPORT, EAGAIN, ECONNRESET, EHOSTUNREACH, EINVAL, EMFILE, ENETUNREACH,
    ENFILE, ENOENT, EPERM, ETIMEDOUT,
};

use crate::event::{Attempt, Endpoint, Ends, Nanos, OnwardAttempt, Pid, ProcessRef, Request, Server, Socket};

/// One look-up; equal ones within a second are made once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Lookup {
    /// Who listens there, as this worker would reach it, or in the network namespace where the kernel delivered it?
    Listeners(Pid, Endpoint, Option<u32>),
    /// What refuses this worker on the way to that path?
    Walk(Pid, BString),
    /// How many descriptors does this worker have and may it have?
    Limits(Pid),
    /// How many local ports are left towards there?
    Ports(Pid, SocketAddr),
    /// Does the routing table lead this worker there?
    Route(Pid, IpAddr),
    /// Which policies guard this worker?
    Guards(Pid),
    /// Does this process still run?
    Lives(ProcessRef),
    /// Who has the other end of this worker's socket, which may have been seen?
    Peer(Pid, u64, Ends, Option<Server>),
}

/// The look-ups that a failed attempt calls for.
pub(super) fn of_attempt(attempt: &Attempt, at: Nanos) -> Vec<Lookup> {
    let names = [attempt.peer.as_ref(), attempt.detail.as_ref()];
    let named = names.into_iter().flatten().find_map(|name| peer_endpoint(name.as_bstr()));
    let socket = attempt.socket.as_deref();
    let errno = attempt.errno.or_else(|| socket?.errno);
    // An errno says it all; searching the text in a storm of refusals would cost more than everything else here.
    let says = |words| errno.is_none() && attempt.text.contains_str(words);
    let timed_out = errno == Some(ETIMEDOUT) || says("timed out");
    let crowded = says("worker_connections are not enough");
    let mut lookups = ask(attempt.key.worker, named, errno, socket, timed_out, at);
    if crowded {
        lookups.push(Lookup::Limits(attempt.key.worker));
    }
    lookups
}

/// Whether an attempt failed since nobody came to it: it timed out, or its queue was full.
pub(super) fn is_kept_waiting(attempt: &Attempt) -> bool {
    let errno = attempt.errno.or_else(|| attempt.socket.as_deref()?.errno);
    matches!(errno, Some(ETIMEDOUT | EAGAIN)) || errno.is_none() && attempt.text.contains_str("timed out")
}

/// The look-ups that an error page calls for: none where nginx reported the attempts themselves.
pub(super) fn of_request(request: &Request, at: Nanos) -> Vec<Lookup> {
    if !request.has_upstream || !request.is_muted() {
        return Vec::new();
    }
    let last = request.states.as_ref().and_then(|states| states.last()?.peer.as_ref());
    let names = [last, request.peer.as_ref()];
    let named = names.into_iter().flatten().find_map(|name| peer_endpoint(name.as_bstr()));
    let socket = request.closed.as_deref();
    let worker = request.key.worker;
    let mut lookups =
        ask(worker, named.clone(), socket.and_then(|socket| socket.errno), socket, request.status == 504, at);
    // A connect that fails for want of a route leaves no socket behind.
    if let (Some(Endpoint::Tcp(remote)), 502, None) = (named, request.status, socket) {
        lookups.push(Lookup::Route(worker, remote.ip()));
    }
    lookups
}

/// The look-ups that a connection of a process that serves nginx calls for, as `viewer` sees the network.
pub(super) fn of_onward(viewer: Pid, attempt: &OnwardAttempt, at: Nanos) -> Vec<Lookup> {
    let OnwardAttempt { socket, ended_at, closed_at } = attempt;
    let reset = socket.established_at.is_some() && socket.reset_at.is_some();
    let errno = socket.errno.or(reset.then_some(ECONNRESET));
    // What the process closed itself it may have waited for.
    ask(viewer, None, errno, Some(socket), ended_at.is_none() || closed_at.is_some(), at)
}

fn ask(
    worker: Pid,
    named: Option<Endpoint>,
    errno: Option<i32>,
    socket: Option<&Socket>,
    timed_out: bool,
    at: Nanos,
) -> Vec<Lookup> {
    let mut lookups = Vec::new();
    let endpoint = named.or_else(|| socket_endpoint(socket?));
    match (errno, &endpoint) {
        (Some(EACCES | EPERM | ENOENT), Some(Endpoint::Unix(path))) if path.first() != Some(&0) => {
            lookups.push(Lookup::Walk(worker, path.clone()));
        }
        (Some(EMFILE | ENFILE), _) => lookups.push(Lookup::Limits(worker)),
        (Some(EADDRNOTAVAIL), Some(Endpoint::Tcp(remote))) => {
            lookups.extend([Lookup::Ports(worker, *remote), Lookup::Route(worker, remote.ip())]);
        }
        (
            Some(EACCES | EPERM | EAFNOSUPPORT | EHOSTUNREACH | ENETUNREACH | EINVAL),
            Some(Endpoint::Tcp(remote)),
        ) => {
            lookups.push(Lookup::Route(worker, remote.ip()));
        }
        _ => {}
    }
    if let Some(EACCES | EPERM | EAFNOSUPPORT) = errno {
        lookups.push(Lookup::Guards(worker));
    }
    let connected = socket.filter(|socket| socket.established_at.is_some() || socket.requests > 0);
    if let Some(socket) = connected.filter(|_| timed_out || errno == Some(ECONNRESET)) {
        lookups.push(Lookup::Peer(worker, socket.id, socket.ends.clone(), socket.server));
    }
    // The closer was not seen: the last reader is looked up, since it may have died.
    let reader = socket.filter(|socket| socket.closer.is_none()).and_then(|socket| socket.owner.clone());
    lookups.extend(reader.map(Lookup::Lives));
    lookups.extend(match socket.and_then(|socket| socket.delivered(at)) {
        Some((address, netns)) => Some(Lookup::Listeners(worker, Endpoint::Tcp(address), Some(netns))),
        None => endpoint.map(|endpoint| Lookup::Listeners(worker, endpoint, None)),
    });
    lookups
}

/// The endpoint of a peer's name as nginx prints it; `None` for a group's name.
fn peer_endpoint(name: &BStr) -> Option<Endpoint> {
    if let Some(path) = name.strip_prefix(b"unix:") {
        return (!path.is_empty()).then(|| Endpoint::Unix(path.into()));
    }
    Some(Endpoint::Tcp(name.to_str().ok()?.parse().ok()?))
}

fn socket_endpoint(socket: &Socket) -> Option<Endpoint> {
    match &socket.ends {
        Ends::Tcp { remote, .. } => Some(Endpoint::Tcp(*remote)),
        Ends::Unix { path } => (!path.is_empty()).then(|| Endpoint::Unix(path.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::RequestKey;

    const AT: Nanos = Nanos(1);

    fn attempt(errno: i32, peer: &str) -> Attempt {
        let key = RequestKey { worker: Pid(7), ..RequestKey::default() };
        Attempt { key, errno: Some(errno), peer: Some(peer.into()), ..Attempt::default() }
    }

    #[test]
    fn a_refused_connect_asks_who_listens() {
        let remote: SocketAddr = "127.0.0.1:9000".parse().expect("an address");
        let listeners = Lookup::Listeners(Pid(7), Endpoint::Tcp(remote), None);
        assert_eq!(
            of_attempt(&attempt(nix::libc::ECONNREFUSED, "127.0.0.1:9000"), AT),
            vec![listeners.clone()]
        );
        let (ports, route) = (Lookup::Ports(Pid(7), remote), Lookup::Route(Pid(7), remote.ip()));
        assert_eq!(of_attempt(&attempt(EADDRNOTAVAIL, "127.0.0.1:9000"), AT), vec![ports, route, listeners]);
    }

    #[test]
    fn a_denied_unix_connect_asks_for_the_walk_too() {
        let path = BString::from("/run/x.sock");
        let expected = vec![
            Lookup::Walk(Pid(7), path.clone()),
            Lookup::Guards(Pid(7)),
            Lookup::Listeners(Pid(7), Endpoint::Unix(path), None),
        ];
        assert_eq!(of_attempt(&attempt(EACCES, "unix:/run/x.sock"), AT), expected);
    }

    #[test]
    fn a_denied_tcp_connect_asks_for_the_route_and_what_guards_the_worker() {
        let remote: SocketAddr = "192.0.2.1:80".parse().expect("an address");
        let route = Lookup::Route(Pid(7), remote.ip());
        let listeners = Lookup::Listeners(Pid(7), Endpoint::Tcp(remote), None);
        let denied = vec![route.clone(), Lookup::Guards(Pid(7)), listeners.clone()];
        assert_eq!(of_attempt(&attempt(EPERM, "192.0.2.1:80"), AT), denied);
        assert_eq!(of_attempt(&attempt(ENETUNREACH, "192.0.2.1:80"), AT), vec![route, listeners]);
    }

    #[test]
    fn groups_and_hostile_names_ask_nothing() {
        for name in ["backend", "unix:", "", "127.0.0.1", "999.0.0.1:80", "127.0.0.1:99999"] {
            assert_eq!(of_attempt(&attempt(ENOENT, name), AT), vec![], "{name}");
        }
        assert_eq!(of_attempt(&attempt(EMFILE, "backend"), AT), vec![Lookup::Limits(Pid(7))]);
    }

    #[test]
    fn a_request_asks_only_where_attempts_were_not_reported() {
        let quiet = Request {
            has_upstream: true,
            peer: Some("unix:/run/x.sock".into()),
            log_level: Some(3),
            ..Request::default()
        };
        assert_eq!(of_request(&quiet, AT).len(), 1);
        assert_eq!(of_request(&Request { log_level: Some(4), ..quiet }, AT), vec![]);
    }
}
