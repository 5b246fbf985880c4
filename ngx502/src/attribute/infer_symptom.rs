//! The symptom of an attempt that nginx did not word, or whose words the level of its log hides (`error_log … crit`) or
//! keeps from being read (`debug`): from nginx's states and the socket that the worker closed last.

use bstr::ByteSlice;

use super::attempt::{FailedAttempt, parse_peer};
use super::destination::Destination;
use super::finding::{LogWords, NginxWords};
use super::symptom::{ECONNRESET, EPIPE, connect};
use super::verdict::Symptom;
use super::world::World;
use crate::event::{Endpoint, EndpointInfo, Ends, Nanos, PathKind, Pid, Queue, Request, Socket, State};

/// Header buffers are whole pages (or half ones).
const BUFFER: u64 = 4_096;
/// How long a look-up tells of the present (nanoseconds).
const LOOKUP: u64 = 1_000_000_000;

/// Infers how the request's last attempt failed; `None` when no upstream is to blame.
pub(super) fn infer(world: &World, at: Nanos, request: &Request, stderr: bool) -> Option<FailedAttempt> {
    if !matches!(request.status, 502 | 504) {
        return None;
    }
    let request = &with_own_socket(request);
    let muted = request.is_muted();
    let states = request.states.as_deref().unwrap_or_default();
    let Some(state) = states.last() else {
        let unresolved = request.has_upstream && !request.has_cache && request.peer.is_none() && muted;
        return unresolved.then(|| failure(request, at, Symptom::NameUnresolved, &State::default()));
    };
    if state.header_ms.is_some() && state.status == request.status {
        let mut found = failure(request, at, Symptom::UpstreamStatus, state);
        found.nginx = read("upstream answered with an error that error_page intercepts");
        found.socket = None;
        return Some(found);
    }
    if stderr {
        let mut found = failure(request, at, Symptom::HeaderInvalid, state);
        found.nginx = read("FastCGI sent in stderr what fastcgi_catch_stderr matches");
        return Some(found);
    }
    if state.peer.is_none() && state.status == 0 {
        return None;
    }
    let mut found = failure(request, at, symptom(world, request, state), state);
    if found.errno.is_none() && matches!(found.symptom, Symptom::ConnectUnreachable | Symptom::ConnectDenied)
    {
        found.errno = found.endpoint().and_then(|endpoint| routed(world, found.worker, &endpoint));
    }
    Some(found)
}

/// The request without the socket that its worker closed last, where that was another attempt's.
fn with_own_socket(request: &Request) -> Request {
    let mut request = request.clone();
    let state = request.states.as_ref().and_then(|states| states.last());
    let peer = state.and_then(|state| state.peer.as_ref()).or(request.peer.as_ref());
    let endpoint = peer.and_then(|peer| parse_peer(peer.as_bstr()));
    request.closed = request.closed.take().filter(|socket| match (&socket.ends, &endpoint) {
        (Ends::Tcp { remote, .. }, Some(Endpoint::Tcp(address))) => {
            (remote.ip().to_canonical(), remote.port()) == (address.ip().to_canonical(), address.port())
        }
        (Ends::Unix { path }, Some(Endpoint::Unix(wanted))) => path.is_empty() || path == wanted,
        _ => false,
    });
    request
}

/// An upstream's own error.
pub(super) fn upstream_status(worker: Pid, at: Nanos, state: State) -> FailedAttempt {
    let request =
        Request { key: crate::event::RequestKey { worker, ..Default::default() }, ..Request::default() };
    let mut found = failure(&request, at, Symptom::UpstreamStatus, &state);
    found.nginx = read("upstream answered with an error of its own");
    found
}

/// What happened in words of the same kind as nginx's, where nginx has none.
fn read(text: &str) -> NginxWords {
    NginxWords { text: text.into(), ..NginxWords::default() }
}

fn failure(request: &Request, at: Nanos, symptom: Symptom, state: &State) -> FailedAttempt {
    let peer = state.peer.clone().or_else(|| request.peer.clone());
    let socket = request.closed.clone().filter(|_| symptom != Symptom::NoLiveUpstreams);
    let observed = symptom.errno_of(socket.as_deref());
    let reset = socket.as_ref().is_some_and(|socket| socket.reset_at.is_some());
    let missed = request.log_level.is_some() && !request.is_muted();
    FailedAttempt {
        at,
        worker: request.key.worker,
        symptom,
        underlying: symptom,
        errno: observed.or(symptom.implied_errno()),
        concluded: observed.is_none() && !reset && symptom.is_of_connect(),
        nginx: NginxWords {
            words: if missed { LogWords::Missed } else { LogWords::Hidden },
            ..NginxWords::default()
        },
        peer,
        socket,
        state: Some(state.clone()),
    }
}

fn symptom(world: &World, request: &Request, state: &State) -> Symptom {
    let peer = state.peer.as_ref().or(request.peer.as_ref());
    let endpoint = peer.and_then(|peer| parse_peer(peer.as_bstr()));
    let socket = request.closed.as_deref();
    let established = socket.is_some_and(|socket| socket.established_at.is_some());
    match (state.status, state.connect_ms, state.bytes_received.unwrap_or(0)) {
        (_, None, _) if endpoint.is_none() && peer.is_some() && socket.is_none() => Symptom::NoLiveUpstreams,
        (504, None, _) if !established => Symptom::ConnectTimedOut,
        (504, ..) => Symptom::ReadTimedOut,
        (_, None, _) if established => Symptom::TlsFailed,
        (_, None, _) => unconnected(world, request.key.worker, endpoint.as_ref(), socket),
        (_, Some(_), 0) => ended(socket),
        (_, Some(_), received) => match socket {
            Some(socket) if broke_off(socket) => ended(Some(socket)),
            _ if received % BUFFER == 0 => Symptom::HeaderTooBig,
            Some(_) => Symptom::HeaderInvalid,
            // That the upstream ended the connection in the midst of its header is as likely.
            None => Symptom::ResponseFailed,
        },
    }
}

/// Whether the upstream ended a connection in the midst of its response, as far as its manner shows: a FIN by a
/// process that lives is how a response without keep-alive ends, so that what came before it must have been wrong.
fn broke_off(socket: &Socket) -> bool {
    let dying = socket.closer.as_ref().is_some_and(|closer| closer.exiting);
    socket.reset_at.is_some() || socket.fin_at.is_some() && dying
}

fn ended(socket: Option<&Socket>) -> Symptom {
    match socket {
        Some(socket) if socket.errno == Some(EPIPE) => Symptom::SendFailed,
        Some(socket) if socket.reset_at.is_some() || socket.errno == Some(ECONNRESET) => Symptom::Reset,
        _ => Symptom::ClosedEarly,
    }
}

/// No connection came about, and no timer ran out: what the socket or a look-up of this moment tells of it.
fn unconnected(world: &World, worker: Pid, endpoint: Option<&Endpoint>, socket: Option<&Socket>) -> Symptom {
    let Some(endpoint) = endpoint else { return Symptom::ConnectFailed };
    let unix = matches!(endpoint, Endpoint::Unix(_));
    if let Some(errno) = socket.and_then(|socket| socket.errno).or(routed(world, worker, endpoint)) {
        return connect(errno, unix);
    }
    if socket.is_some_and(|socket| socket.reset_at.is_some()) {
        return Symptom::ConnectRefused;
    }
    let anywhere = Destination::within(0, endpoint.clone());
    let asked = world.asked(&anywhere).filter(|(at, _)| is_fresh(world, *at)).map(|(_, info)| info);
    match asked {
        Some(info) if info.path == Some(PathKind::Missing) => Symptom::SocketMissing,
        // Only a full backlog keeps a connect from a listener, unless permissions do, which nginx says even then.
        Some(info) if unix && crowded(info) => Symptom::SocketBacklogFull,
        // What cannot be looked at may be anything; elsewhere nobody's place refuses.
        Some(info) if info.path == Some(PathKind::Unknown) || !info.listeners.is_empty() => {
            Symptom::ConnectFailed
        }
        Some(_) if unix => Symptom::SocketRefused,
        Some(_) => Symptom::ConnectRefused,
        None => Symptom::ConnectFailed,
    }
}

/// The errno of a connect(2) that fails for want of a route, so that no socket is seen to connect.
fn routed(world: &World, worker: Pid, endpoint: &Endpoint) -> Option<i32> {
    let Endpoint::Tcp(remote) = endpoint else { return None };
    world.route(worker, remote.ip()).filter(|(at, _)| is_fresh(world, *at))?.1.errno
}

fn is_fresh(world: &World, at: Nanos) -> bool {
    at.0 + LOOKUP >= world.now.0
}

fn crowded(info: &EndpointInfo) -> bool {
    let full = |queue: &Queue| queue.length > queue.limit;
    info.listeners.iter().any(|listener| listener.queue.as_ref().is_some_and(full))
}
