//! From the bytes of the ring buffer to [`Record`]s: a total function, that never trusts a length or a number.

use std::mem::offset_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bstr::BString;
use ngx502_common::{
    event as wire,
    net::{AF_INET, AF_INET6, AF_UNIX},
};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::event::{
    Answer, Attempt, Body, CloseKind, Closer, Endpoint, Ends, Exit, Listen, Nanos, Oom, Pid, ProcessRef,
    Queue, Record, Refusal, Request, RequestKey, Server, Signal, Socket, State, Via,
};
use crate::nginx_format::{self, Slot};

/// Bytes in a page on every kernel that the BPF side supports.
const PAGE: u64 = 4096;

/// What a piece of the ring buffer is.
#[derive(Clone, Debug, PartialEq)]
pub enum Decoded {
    /// An observation.
    Record(Record),
    /// A process runs another program now; it may be an nginx.
    Exec(ProcessRef),
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Fewer bytes than the kind needs.
    #[error("record of kind {kind} has {got} bytes, needs {needs}")]
    TooShort {
        /// `KIND_` constant, 0 when not even the header is there.
        kind: u16,
        /// Bytes there.
        got: usize,
        /// Bytes needed.
        needs: usize,
    },
    /// A kind that this version does not know.
    #[error("record of unknown kind {0}")]
    UnknownKind(u16),
}

/// What records leave to user space: nginx's texts, of which they have the address, and whether they had any.
pub trait ResolveText {
    /// The text at `address` in the executable of `worker`; `None` when it is not there.
    fn text(&self, worker: Pid, address: u64) -> Option<BString>;

    /// What the `ngx_str_t` at `address` in the memory of `worker` says; `None` when it cannot be read.
    fn string(&self, worker: Pid, address: u64) -> Option<BString>;

    /// Whether the error log of `worker` is no longer read, since it says too much.
    fn log_unread(&self, worker: Pid) -> bool;
}

/// Decodes one record.
///
/// # Errors
/// When the bytes are too few or of an unknown kind.
pub fn decode(bytes: &[u8], texts: &impl ResolveText) -> Result<Decoded, DecodeError> {
    let header: wire::Header = whole(bytes)?;
    let body = match header.kind {
        wire::KIND_ATTEMPT => {
            Body::Attempt(Box::new(attempt(&*cut(bytes, offset_of!(wire::Attempt, line))?, texts)))
        }
        wire::KIND_REQUEST => {
            Body::Request(Box::new(request(&*cut(bytes, offset_of!(wire::Request, states))?, texts)))
        }
        wire::KIND_ANSWER => Body::Answer(answer(&*cut(bytes, size_of::<wire::Answered>())?, texts)),
        wire::KIND_LISTEN => Body::Listen(listen(&whole(bytes)?)),
        wire::KIND_LISTEN_UNIX => Body::Listen(listen_unix(&whole(bytes)?)),
        wire::KIND_FORK => {
            let fork: wire::Fork = whole(bytes)?;
            Body::Fork { parent: process(&fork.parent), child: process(&fork.child) }
        }
        wire::KIND_EXEC => return Ok(Decoded::Exec(process(&whole::<wire::Exec>(bytes)?.process))),
        wire::KIND_EXIT => Body::Exit(exit(&whole(bytes)?)),
        wire::KIND_SIGNAL => Body::Signal(signal(&whole(bytes)?)),
        wire::KIND_OOM => Body::Oom(oom(&whole(bytes)?)),
        kind => return Err(DecodeError::UnknownKind(kind)),
    };
    Ok(Decoded::Record(Record { at: Nanos(header.at), body }))
}

/// A record that is always sent whole.
fn whole<T: FromBytes>(bytes: &[u8]) -> Result<T, DecodeError> {
    T::read_from_prefix(bytes).map(|(value, _)| value).map_err(|_| too_short(bytes, size_of::<T>()))
}

/// A record that is sent without the unused end of its last string; at least `fixed` bytes.
fn cut<T: FromZeros + IntoBytes + FromBytes + Immutable + KnownLayout>(
    bytes: &[u8],
    fixed: usize,
) -> Result<Box<T>, DecodeError> {
    if bytes.len() < fixed {
        return Err(too_short(bytes, fixed));
    }
    let mut value = Box::new(T::new_zeroed());
    let len = bytes.len().min(size_of::<T>());
    value.as_mut_bytes()[..len].copy_from_slice(&bytes[..len]);
    Ok(value)
}

fn too_short(bytes: &[u8], needs: usize) -> DecodeError {
    let kind = wire::Header::read_from_prefix(bytes).map_or(0, |(header, _)| header.kind);
    DecodeError::TooShort { kind, got: bytes.len(), needs }
}

fn attempt(wire: &wire::Attempt, texts: &impl ResolveText) -> Attempt {
    let worker = Pid(wire.header.pid);
    let resolve = |address, copy: &[u8], len| texts.text(worker, address).or_else(|| text(copy, len));
    let format = resolve(wire.text, &wire.text_copy, wire.text_len).unwrap_or_default();
    Attempt {
        key: key(worker, wire.request, wire.main, wire.connection),
        subrequest: subrequest(wire.request, wire.main),
        index: wire.index,
        via: match wire.via {
            wire::VIA_CONNECTION_ERROR => Via::ConnectionError,
            wire::VIA_SSL_ERROR => Via::SslError,
            _ => Via::Log,
        },
        level: (wire.level != 0).then_some(wire.level),
        errno: (wire.errno != 0).then_some(wire.errno),
        detail: text(&wire.detail, wire.detail_len).map(|detail| within(detail, &format, wire.arguments[0])),
        number: nginx_format::number(&format, wire.arguments),
        text: format,
        action: match wire.action {
            0 => None,
            address => resolve(address, &wire.action_copy, wire.action_len),
        },
        peer: name(&wire.peer, wire.peer_len, wire.peer_unread, worker, texts),
        request_line: text(&wire.line, wire.line_len),
        host: text(&wire.host, wire.host_len),
        client: text(&wire.client, wire.client_len),
        socket: socket(&wire.socket).map(Box::new),
        log_level: Some(wire.log_level),
    }
}

fn request(wire: &wire::Request, texts: &impl ResolveText) -> Request {
    let worker = Pid(wire.header.pid);
    let sent = wire.states.iter().take(wire.states_len as usize);
    let states = sent.map(|wire| state(wire, worker, texts)).collect();
    Request {
        key: key(worker, wire.request, wire.main, wire.connection),
        subrequest: subrequest(wire.request, wire.main),
        status: wire.status,
        request_line: text(&wire.line, wire.line_len),
        host: text(&wire.host, wire.host_len),
        client: text(&wire.client, wire.client_len),
        log_level: Some(wire.log_level),
        has_upstream: wire.has_upstream != 0,
        has_cache: wire.has_cache != 0,
        states: (wire.states_total > 0).then_some(states),
        peer: name(&wire.peer, wire.peer_len, wire.peer_unread, worker, texts),
        closed: socket(&wire.closed).map(Box::new),
        answer_follows: wire.answer_follows != 0,
        log_unread: texts.log_unread(worker),
    }
}

fn answer(wire: &wire::Answer, texts: &impl ResolveText) -> Answer {
    let wire::Answer { answered, last } = wire;
    let worker = Pid(answered.header.pid);
    Answer {
        key: key(worker, answered.main, answered.main, answered.connection),
        status: (answered.status != 0).then_some(answered.status),
        states: answered.states_total,
        last_state: (answered.has_last != 0).then(|| state(last, worker, texts)),
        client_gone: answered.client_gone != 0,
    }
}

/// A text of `%*s` is as long as the number before it says; what BPF took for a C string may be longer.
fn within(mut detail: BString, format: &BString, number: i64) -> BString {
    let counted = matches!(nginx_format::next_slot(format, 0), Some((_, Slot::Counted)));
    if let Some(length) = usize::try_from(number).ok().filter(|_| counted) {
        detail.truncate(length);
    }
    detail
}

/// Where the layout does not give the main request, every request counts as its own.
fn key(worker: Pid, request: u64, main: u64, connection: u64) -> RequestKey {
    RequestKey { worker, request: if main == 0 { request } else { main }, connection }
}

fn subrequest(request: u64, main: u64) -> Option<u64> {
    (main != 0 && main != request).then_some(request)
}

fn state(wire: &wire::State, worker: Pid, texts: &impl ResolveText) -> State {
    let milliseconds = |value: i64| u32::try_from(value).ok();
    let bytes = |value: i64| u64::try_from(value).ok();
    State {
        status: wire.status,
        connect_ms: milliseconds(wire.connect_ms),
        header_ms: milliseconds(wire.header_ms),
        response_ms: milliseconds(wire.response_ms),
        bytes_received: bytes(wire.bytes_received),
        bytes_sent: bytes(wire.bytes_sent),
        peer: name(&wire.peer, wire.peer_len, wire.peer_unread, worker, texts),
    }
}

/// A socket of nginx's, or of a process that serves it.
pub fn socket(wire: &wire::SocketFacts) -> Option<Socket> {
    if wire.id == 0 {
        return None;
    }
    let ends = match wire.family {
        AF_UNIX => Ends::Unix { path: unix_path(&wire.path, wire.path_len) },
        _ => Ends::Tcp {
            local: address(wire.family, wire.local, wire.local_port),
            remote: address(wire.family, wire.remote, wire.remote_port),
        },
    };
    Some(Socket {
        id: wire.id,
        netns: wire.netns,
        ends,
        state: wire.state,
        connect_at: time(wire.connect_at),
        established_at: time(wire.established_at),
        sent_at: time(wire.sent_at),
        first_byte_at: time(wire.first_byte_at),
        fin_at: time(wire.fin_at),
        reset_at: time(wire.reset_at),
        reset_sent_at: time(wire.reset_sent_at),
        errno: (wire.errno != 0).then_some(wire.errno),
        icmp: (wire.icmp != 0).then_some((wire.icmp_type, wire.icmp_code)),
        retransmits: wire.retransmits,
        bytes_received: (wire.bytes_received != u64::MAX).then_some(wire.bytes_received),
        bytes_acked: (wire.bytes_acked != u64::MAX).then_some(wire.bytes_acked),
        requests: wire.requests,
        queue: (wire.queue_limit != 0 || wire.queue_length != 0)
            .then_some(Queue { length: wire.queue_length, limit: wire.queue_limit }),
        accepted: match wire.accepted {
            wire::ACCEPTED_NO => Some(false),
            wire::ACCEPTED_YES => Some(true),
            _ => None,
        },
        closer: closer(&wire.closer),
        owner: (wire.owner.pid != 0).then(|| process(&wire.owner)),
        request_bytes: (wire.request_bytes != 0).then_some(wire.request_bytes),
        unacked_at_fin: (wire.fin_at != 0).then(|| known(wire.unacked_at_fin)).flatten(),
        unacked: known(wire.unacked),
        window: known(wire.window),
        refusal: refusal(&wire.refusal),
        server: server(&wire.server),
    })
}

fn known(number: u32) -> Option<u32> {
    (number != wire::UNKNOWN).then_some(number)
}

/// Where a segment met no connection.
pub fn refusal(wire: &wire::RefusalFacts) -> Option<Refusal> {
    let queue = Queue { length: wire.queue_length, limit: wire.queue_limit };
    Some(Refusal {
        at: time(wire.at)?,
        address: address(wire.family, wire.address, wire.port),
        netns: wire.netns,
        queue: (queue != Queue::default()).then_some(queue),
    })
}

fn server(wire: &wire::ServerFacts) -> Option<Server> {
    (wire.netns != 0).then(|| Server {
        address: address(wire.family, wire.address, wire.port),
        netns: wire.netns,
        inode: (wire.inode != 0).then_some(wire.inode),
        unread: (wire.inode != 0).then(|| known(wire.unread)).flatten(),
    })
}

fn closer(wire: &wire::CloserFacts) -> Option<Closer> {
    let how = match wire.how {
        wire::CLOSE_FIN => CloseKind::Closed,
        wire::CLOSE_ABORT => CloseKind::Aborted,
        wire::CLOSE_NEVER_ACCEPTED => CloseKind::NeverAccepted,
        wire::CLOSE_DESTROYED => CloseKind::Destroyed,
        _ => return None,
    };
    Some(Closer {
        process: process(&wire.process),
        at: Nanos(wire.at),
        how,
        exiting: wire.exiting != 0,
        exit_code: wire.exit_code,
        cgroup: wire.cgroup,
        unread: known(wire.unread),
        received: known(wire.received),
        written: known(wire.written),
    })
}

fn listen(wire: &wire::Listen) -> Listen {
    Listen {
        open: wire.open != 0,
        id: wire.id,
        netns: wire.netns,
        endpoint: Endpoint::Tcp(address(wire.family, wire.local, wire.port)),
        process: process(&wire.process),
        exiting: wire.exiting != 0,
        exit_code: wire.exit_code,
        backlog: wire.backlog,
        mounts: Some(wire.mounts).filter(|mounts| *mounts != 0),
    }
}

fn listen_unix(wire: &wire::ListenUnix) -> Listen {
    Listen { endpoint: Endpoint::Unix(unix_path(&wire.path, wire.path_len)), ..listen(&wire.listen) }
}

fn exit(wire: &wire::Exit) -> Exit {
    Exit {
        process: process(&wire.process),
        parent: Pid(wire.parent),
        code: wire.code,
        cgroup: wire.cgroup,
        oom_victim: wire.oom_victim != 0,
    }
}

fn signal(wire: &wire::Signal) -> Signal {
    Signal {
        signal: wire.signal,
        code: wire.code,
        target: process(&wire.target),
        sender: process(&wire.sender),
        sender_cgroup: wire.sender_cgroup,
        from_user: wire.from_user != 0,
        fault_address: (wire.has_fault_address != 0).then_some(wire.fault_address),
    }
}

fn oom(wire: &wire::Oom) -> Oom {
    let pages = |count: u64| (count != u64::MAX).then(|| count.saturating_mul(PAGE));
    let name = |bytes: &[u8], len| text(bytes, len).map(|name| name.to_string());
    Oom {
        victim: process(&wire.victim),
        trigger: process(&wire.trigger),
        memcg: match wire.scope {
            1 => Some(true),
            2 => Some(false),
            _ => None,
        },
        limit_cgroup: name(&wire.cgroup, wire.cgroup_len),
        limit_bytes: pages(wire.limit_pages),
        victim_cgroup: name(&wire.victim_cgroup, wire.victim_cgroup_len),
        rss_bytes: pages(wire.rss_pages),
    }
}

/// A process as BPF names it.
pub fn process(wire: &wire::Process) -> ProcessRef {
    let len = wire.comm.iter().position(|byte| *byte == 0).unwrap_or(wire.comm.len());
    ProcessRef { pid: Pid(wire.pid), start: Nanos(wire.start), comm: BString::from(&wire.comm[..len]) }
}

/// The first `len` bytes; `None` for a length of 0, which says that nothing could be read.
fn text(bytes: &[u8], len: u16) -> Option<BString> {
    let len = usize::from(len).min(bytes.len());
    (len > 0).then(|| BString::from(&bytes[..len]))
}

/// A peer's name, of which the probe may have left no more than the address.
fn name(bytes: &[u8], len: u16, unread: u32, worker: Pid, texts: &impl ResolveText) -> Option<BString> {
    match bytes.first_chunk() {
        Some(address) if unread == 1 => texts.string(worker, u64::from_ne_bytes(*address)),
        _ => text(bytes, len),
    }
}

/// A path ends at its NUL; an abstract one begins with it and has a length.
fn unix_path(bytes: &[u8], len: u16) -> BString {
    let bytes = &bytes[..usize::from(len).min(bytes.len())];
    match bytes {
        [0, ..] => BString::from(bytes),
        _ => BString::from(bytes.split(|byte| *byte == 0).next().unwrap_or_default()),
    }
}

/// A moment; BPF writes 0 for none.
pub fn time(at: u64) -> Option<Nanos> {
    (at != 0).then_some(Nanos(at))
}

/// IPv4 stands in the first four bytes, also for an IPv4-mapped peer of an IPv6 socket.
pub(crate) fn address(family: u16, bytes: [u8; 16], port: u16) -> SocketAddr {
    let [a, b, c, d, rest @ ..] = bytes;
    let v4 = Ipv4Addr::new(a, b, c, d);
    let ip = match family {
        AF_INET => IpAddr::V4(v4),
        AF_INET6 if rest == [0; 12] && !v4.is_unspecified() => IpAddr::V4(v4),
        _ => IpAddr::V6(Ipv6Addr::from(bytes)),
    };
    SocketAddr::new(ip, port)
}

#[cfg(test)]
mod tests;
