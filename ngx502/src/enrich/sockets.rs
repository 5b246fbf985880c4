//! The kernel, asked through netlink in any network namespace; above all for its socket tables, by sock_diag.
//!
//! A netlink socket belongs to the namespace of the thread that made it and keeps that namespace alive. So each
//! question opens its own socket, on a thread that ends with the question: no thread of the tracer ever changes
//! its namespace, and no container's network outlives the container on our account.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::thread;

use bstr::BString;
use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable, Nla as _,
};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP};
use netlink_packet_sock_diag::inet::{self, ExtensionFlags, InetRequest, InetResponse, SocketId};
use netlink_packet_sock_diag::unix::nlas::{Nla, UnixDiagName};
use netlink_packet_sock_diag::unix::{self, ShowFlags, UnixRequest, UnixResponse};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr as NetlinkAddr};
use ngx502_common::net::LISTEN;
use nix::sched::{CloneFlags, setns};

use crate::event::{Endpoint, Pid, Queue};

/// Larger than any single answer (NLMSG_GOODSIZE is at most 32 KiB for dumps).
const RECEIVE_BYTES: usize = 64 * 1024;

/// A network namespace, by its inode number in nsfs, and a process through which it can be entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Netns {
    pub(super) inum: u32,
    pub(super) via: Pid,
}

impl Netns {
    /// The namespace of a process.
    pub(super) fn of(pid: Pid) -> io::Result<Netns> {
        let inum = std::fs::metadata(format!("/proc/{pid}/ns/net"))?.ino();
        Ok(Netns { inum: u32::try_from(inum).map_err(io::Error::other)?, via: pid })
    }

    /// Runs `work` in this namespace: directly where it is the caller's own, else on a thread of its own.
    pub(super) fn run<T: Send>(self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        if std::fs::metadata("/proc/thread-self/ns/net")?.ino() == u64::from(self.inum) {
            return work();
        }
        let namespace = File::open(format!("/proc/{}/ns/net", self.via))?;
        if namespace.metadata()?.ino() != u64::from(self.inum) {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the process left the namespace"));
        }
        thread::scope(|scope| {
            let enter = move || {
                setns(&namespace, CloneFlags::CLONE_NEWNET)?;
                work()
            };
            let thread = thread::Builder::new().name("ngx502-netns".into()).spawn_scoped(scope, enter)?;
            thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace panicked")))
        })
    }
}

/// A socket that listens, by its inode in sockfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listening {
    pub(super) bound: Endpoint,
    pub(super) inode: u64,
    /// `None` when only /proc was readable.
    pub(super) queue: Option<Queue>,
    /// AF_UNIX: the bound file as (kernel device number, inode's low 32 bits).
    pub(super) file: Option<(u32, u32)>,
    /// An IPv6 socket that takes no IPv4; only sock_diag shows that.
    pub(super) v6_only: bool,
}

impl Listening {
    /// Of which nothing but its place is known.
    pub(super) fn at(bound: Endpoint, inode: u64) -> Self {
        Self { bound, inode, queue: None, file: None, v6_only: false }
    }
}

/// Every TCP and AF_UNIX stream listener of the calling thread's namespace.
pub(super) fn listening() -> io::Result<Vec<Listening>> {
    let mut found = Vec::new();
    for any in [SocketId::new_v4(), SocketId::new_v6()] {
        ask_tcp(inet::StateFlags::LISTEN, any, true, |response| found.push(tcp_listener(&response)))?;
    }
    let show = ShowFlags::NAME | ShowFlags::VFS | ShowFlags::RQLEN;
    dump_unix(unix::StateFlags::LISTEN, show, |response| found.extend(unix_listener(&response)))?;
    Ok(found)
}

/// The local ports of the calling thread's namespace with a TCP socket towards `remote`, TIME_WAIT included.
pub(super) fn ports_towards(remote: SocketAddr) -> io::Result<HashSet<u16>> {
    let mut ports = HashSet::new();
    let states = inet::StateFlags::all().difference(inet::StateFlags::LISTEN);
    // A socket of IPv6 may lead to an IPv4 address.
    let families = [remote.is_ipv4().then(SocketId::new_v4), Some(SocketId::new_v6())];
    for mut towards in families.into_iter().flatten() {
        towards.destination_port = remote.port();
        ask_tcp(states.clone(), towards, true, |response| {
            let SocketId { source_port, destination_address, .. } = response.header.socket_id;
            if destination_address.to_canonical() == remote.ip().to_canonical() {
                ports.insert(source_port);
            }
        })?;
    }
    Ok(ports)
}

/// Where fields of `struct tcp_info` (linux/tcp.h) are.
const LAST_DATA_SENT: usize = 44;
const LAST_DATA_RECEIVED: usize = 52;
const BYTES_ACKED: usize = 120;
const BYTES_RECEIVED: usize = 128;
const DATA_SEGMENTS_SENT: usize = 156;

/// The bytes of `struct tcp_info`, as many as the kernel has.
fn tcp_info(response: &InetResponse) -> Option<&[u8]> {
    response.nlas.iter().find_map(|attribute| match attribute {
        inet::nlas::Nla::TcpInfo(info) => Some(info.as_slice()),
        _ => None,
    })
}

/// A TCP or UDP socket of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InetSocket {
    pub(super) inode: u64,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    /// As the kernel numbers TCP's.
    pub(super) state: u8,
    /// Milliseconds since data was last sent and received; `None` for UDP, and where none ever was.
    pub(super) sent_ms: Option<u32>,
    pub(super) received_ms: Option<u32>,
    /// How many segments of data were sent.
    pub(super) sends: Option<u32>,
}

impl InetSocket {
    fn of(response: &InetResponse) -> Self {
        let info = tcp_info(response);
        let field = |at: usize| Some(u32::from_ne_bytes(info?.get(at..at + 4)?.try_into().ok()?));
        let long = |at: usize| Some(u64::from_ne_bytes(info?.get(at..at + 8)?.try_into().ok()?));
        let SocketId { source_port, source_address, destination_port, destination_address, .. } =
            response.header.socket_id;
        let sends = field(DATA_SEGMENTS_SENT);
        Self {
            inode: response.header.inode.into(),
            local: (source_address.to_canonical(), source_port).into(),
            remote: (destination_address.to_canonical(), destination_port).into(),
            state: response.header.state,
            sent_ms: field(LAST_DATA_SENT).filter(|_| sends.is_some_and(|sends| sends > 0)),
            // Of a connection that received nothing this is its age.
            received_ms: field(LAST_DATA_RECEIVED)
                .filter(|_| long(BYTES_RECEIVED).is_some_and(|bytes| bytes > 0)),
            sends,
        }
    }
}

/// Every TCP socket of the calling thread's namespace, listeners included, with what it sent and received last.
pub(super) fn tcp_table() -> io::Result<Vec<InetSocket>> {
    let mut found = Vec::new();
    for any in [SocketId::new_v4(), SocketId::new_v6()] {
        ask_inet(IPPROTO_TCP, inet::StateFlags::all(), any, true, ExtensionFlags::INFO, |response| {
            found.push(InetSocket::of(&response));
        })?;
    }
    Ok(found)
}

/// Every UDP socket of the calling thread's namespace.
pub(super) fn udp_table() -> io::Result<Vec<InetSocket>> {
    let mut found = Vec::new();
    for any in [SocketId::new_v4(), SocketId::new_v6()] {
        ask_inet(IPPROTO_UDP, inet::StateFlags::all(), any, true, ExtensionFlags::empty(), |response| {
            found.push(InetSocket::of(&response));
        })?;
    }
    Ok(found)
}

/// An AF_UNIX socket of a table: its inode, its name, and its peer's inode.
pub(super) type UnixSocket = (u64, Option<BString>, Option<u64>);

/// Every connected AF_UNIX socket of the calling thread's namespace.
pub(super) fn unix_table() -> io::Result<Vec<UnixSocket>> {
    let mut found = Vec::new();
    dump_unix(unix::StateFlags::ESTABLISHED, ShowFlags::NAME | ShowFlags::PEER, |response| {
        let peer = response.peer().map(u64::from).filter(|inode| *inode != 0);
        found.push((response.header.inode.into(), name_of(&response), peer));
    })?;
    Ok(found)
}

/// TCP_TIME_WAIT, TCP_CLOSE_WAIT, TCP_LAST_ACK, TCP_CLOSING: the other end's FIN has come.
const HAD_FIN: [u8; 4] = [6, 8, 9, 11];

/// A connected TCP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Connected {
    /// 0 while it waits in an accept queue, and in TIME_WAIT.
    pub(super) inode: u64,
    /// Bytes that arrived and were not read.
    pub(super) unread: u32,
    /// Bytes of its own that the other end acknowledged, over its life.
    pub(super) sent: Option<u64>,
    /// Bytes that arrived over its life.
    pub(super) received: Option<u64>,
}

impl Connected {
    fn of(response: &InetResponse) -> Self {
        let info = tcp_info(response);
        // These two since 4.1.
        let number = |offset: usize| {
            let bytes = info?.get(offset..offset + 8)?;
            Some(u64::from_ne_bytes(bytes.try_into().ok()?))
        };
        Self {
            inode: response.header.inode.into(),
            // A FIN that came counts as a byte there.
            unread: response
                .header
                .recv_queue
                .saturating_sub(u32::from(HAD_FIN.contains(&response.header.state))),
            sent: number(BYTES_ACKED),
            received: number(BYTES_RECEIVED),
        }
    }
}

/// The connected TCP socket with exactly these ends in the calling thread's namespace; `None` when there is none.
pub(super) fn exact(local: SocketAddr, remote: SocketAddr) -> io::Result<Option<Connected>> {
    let mut ends = if local.is_ipv4() { SocketId::new_v4() } else { SocketId::new_v6() };
    (ends.source_address, ends.source_port) = (local.ip(), local.port());
    (ends.destination_address, ends.destination_port) = (remote.ip(), remote.port());
    ends.cookie = [0xff; 8];
    let mut found = None;
    // The kernel falls back to a listener when no connection has these ends.
    let outcome = ask_tcp(inet::StateFlags::all(), ends, false, |response| {
        found = Some(Connected::of(&response)).filter(|_| response.header.state != LISTEN);
    });
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        outcome => outcome.map(|()| found),
    }
}

/// The connected AF_UNIX sockets of the calling thread's namespace with this name, which a server's end inherits from its
/// listener. The inode of their peer is 0 when that end has been closed.
pub(super) fn unix_connected(name: &BString) -> io::Result<Vec<UnixResponse>> {
    let mut found = Vec::new();
    let show = ShowFlags::NAME | ShowFlags::PEER | ShowFlags::RQLEN;
    dump_unix(unix::StateFlags::ESTABLISHED, show, |response| {
        found.extend(Some(response).filter(|response| name_of(response).as_ref() == Some(name)));
    })?;
    Ok(found)
}

fn tcp_listener(response: &InetResponse) -> Listening {
    let header = &response.header;
    let SocketId { source_address, source_port, .. } = header.socket_id;
    Listening {
        queue: Some(Queue { length: header.recv_queue, limit: header.send_queue }),
        v6_only: response.nlas.iter().any(|attribute| matches!(attribute, inet::nlas::Nla::SkV6Only(true))),
        ..Listening::at(Endpoint::Tcp((source_address, source_port).into()), header.inode.into())
    }
}

fn unix_listener(response: &UnixResponse) -> Option<Listening> {
    // 1 is SOCK_STREAM; nginx connects to nothing else.
    if response.header.kind != 1 {
        return None;
    }
    let queue = response.number_of_pending_connection().zip(response.max_number_of_pending_connection());
    let file = response.nlas.iter().find_map(|attribute| match attribute {
        Nla::Vfs(_) if attribute.value_len() == 8 => {
            // The crate keeps the fields to itself, but writes them as the kernel does: inode, then device.
            let mut raw = [0; 8];
            attribute.emit_value(&mut raw);
            let (inode, device) = raw.split_at(4);
            let number = |bytes: &[u8]| bytes.try_into().map(u32::from_ne_bytes).ok();
            number(device).zip(number(inode))
        }
        _ => None,
    });
    let place = Listening::at(Endpoint::Unix(name_of(response)?), response.header.inode.into());
    Some(Listening { queue: queue.map(|(length, limit)| Queue { length, limit }), file, ..place })
}

/// The bound name, with the leading NUL of an abstract one; `None` for an unnamed socket.
fn name_of(response: &UnixResponse) -> Option<BString> {
    match response.name()? {
        UnixDiagName::Pathname(path) => Some(path.as_bytes().into()),
        UnixDiagName::Abstract(name) => Some([b"\0", name.as_slice()].concat().into()),
    }
}

/// Asks about TCP sockets of the family of `ends`: with `dump` about all in these states.
fn ask_tcp(
    states: inet::StateFlags,
    ends: SocketId,
    dump: bool,
    each: impl FnMut(InetResponse),
) -> io::Result<()> {
    // Listeners have none to give, and dumps would grow by it.
    let extensions = if dump { ExtensionFlags::empty() } else { ExtensionFlags::INFO };
    ask_inet(IPPROTO_TCP, states, ends, dump, extensions, each)
}

/// The same of any protocol, and with these extensions.
fn ask_inet(
    protocol: u8,
    states: inet::StateFlags,
    ends: SocketId,
    dump: bool,
    extensions: ExtensionFlags,
    mut each: impl FnMut(InetResponse),
) -> io::Result<()> {
    let family = if ends.source_address.is_ipv4() { AF_INET } else { AF_INET6 };
    let request = InetRequest { family, protocol, extensions, states, socket_id: ends };
    exchange(NETLINK_SOCK_DIAG, SockDiagMessage::InetRequest(request), dump, |message| {
        if let SockDiagMessage::InetResponse(response) = message {
            each(*response);
        }
    })?
}

fn dump_unix(
    states: unix::StateFlags,
    show: ShowFlags,
    mut each: impl FnMut(UnixResponse),
) -> io::Result<()> {
    let request = UnixRequest { state_flags: states, inode: 0, show_flags: show, cookie: [0xff; 8] };
    exchange(NETLINK_SOCK_DIAG, SockDiagMessage::UnixRequest(request), true, |message| {
        if let SockDiagMessage::UnixResponse(response) = message {
            each(*response);
        }
    })?
}

/// Sends one request and hands over each answer, until the dump is done or, without `dump`, the first one came.
///
/// The inner result is the kernel's own answer. What the decoder does not understand is left out.
pub(super) fn exchange<M: NetlinkSerializable + NetlinkDeserializable>(
    protocol: isize,
    request: M,
    dump: bool,
    mut each: impl FnMut(M),
) -> io::Result<io::Result<()>> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&NetlinkAddr::new(0, 0))?;
    // The kernel answers within send and recv themselves: waiting would only ever wait for nothing.
    socket.set_non_blocking(true)?;
    let mut header = NetlinkHeader::default();
    header.flags = if dump { NLM_F_REQUEST | NLM_F_DUMP } else { NLM_F_REQUEST };
    let mut packet = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request));
    packet.finalize();
    let mut bytes = vec![0; packet.buffer_len()];
    packet.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut buffer = vec![0; RECEIVE_BYTES];
    loop {
        let size = socket.recv(&mut &mut buffer[..], 0)?;
        match take_messages(buffer.get(..size).unwrap_or(&[]), &mut each) {
            Ok(false) if dump => {}
            outcome => return Ok(outcome.map(|_| ())),
        }
    }
}

/// Decodes one datagram; true when it ended the dump.
fn take_messages<M: NetlinkDeserializable>(mut bytes: &[u8], each: &mut impl FnMut(M)) -> io::Result<bool> {
    while let Some((length, _)) = bytes.split_first_chunk::<4>() {
        let length = u32::from_ne_bytes(*length) as usize;
        let Some(message) = bytes.get(..length).filter(|message| message.len() >= 16) else { break };
        match NetlinkMessage::<M>::deserialize(message).map(|message| message.payload) {
            Ok(NetlinkPayload::InnerMessage(answer)) => each(answer),
            Ok(NetlinkPayload::Done(_)) => return Ok(true),
            Ok(NetlinkPayload::Error(error)) => return Err(error.to_io()),
            Ok(_) => {}
            Err(error) => log::debug!("one answer of netlink is left out: {error}"),
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    Ok(false)
}
