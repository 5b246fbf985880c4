//! The kernel's socket tables, asked through sock_diag in any network namespace.
//!
//! A netlink socket belongs to the namespace of the thread that made it and keeps that namespace alive. So each
//! question opens its own socket, on a thread that ends with the question: no thread of the tracer ever changes
//! its namespace, and no container's network outlives the container on our account.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::thread;

use bstr::BString;
use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload, Nla as _,
};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{self, ExtensionFlags, InetRequest, InetResponse, SocketId};
use netlink_packet_sock_diag::unix::nlas::{Nla, UnixDiagName};
use netlink_packet_sock_diag::unix::{self, ShowFlags, UnixRequest, UnixResponse};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr as NetlinkAddr};
use ngx502_common::net::LISTEN;
use nix::sched::{CloneFlags, setns};

use crate::event::{Endpoint, Pid, Queue};

/// Larger than any single answer of sock_diag (NLMSG_GOODSIZE is at most 32 KiB for dumps).
const RECEIVE_BYTES: usize = 64 * 1024;

/// A network namespace and a process that lives in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Netns {
    /// Its inode number in nsfs.
    pub(super) inum: u32,
    /// A process through which it can be entered.
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

/// A socket that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listening {
    /// Where, as it was bound.
    pub(super) bound: Endpoint,
    /// Its inode in sockfs.
    pub(super) inode: u64,
    /// Its accept queue; `None` when only /proc was readable.
    pub(super) queue: Option<Queue>,
    /// AF_UNIX: the bound file as (kernel device number, inode's low 32 bits).
    pub(super) file: Option<(u32, u32)>,
    /// An IPv6 socket that takes no IPv4; only sock_diag shows that.
    pub(super) v6_only: bool,
}

/// A TCP socket that does not listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TcpSocket {
    /// Its own address.
    pub(super) local: SocketAddr,
    /// Its peer's.
    pub(super) remote: SocketAddr,
    /// Inode in sockfs; 0 while it waits in an accept queue, and in TIME_WAIT.
    pub(super) inode: u64,
    /// Unread bytes.
    pub(super) unread: u32,
}

/// A connected AF_UNIX socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UnixSocket {
    /// The name, which a server's end inherits from its listener; empty for the client's end.
    pub(super) name: BString,
    /// Inode in sockfs.
    pub(super) inode: u64,
    /// The other end's inode: 0 when that end has been closed; `None` when there is none.
    pub(super) peer: Option<u64>,
    /// Unread bytes, as charged by the kernel.
    pub(super) unread: u32,
}

/// Every TCP and AF_UNIX stream listener of the calling thread's namespace.
pub(super) fn listening() -> io::Result<Vec<Listening>> {
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6] {
        dump_tcp(family, inet::StateFlags::LISTEN, 0, |response| found.push(tcp_listener(&response)))?;
    }
    let show = ShowFlags::NAME | ShowFlags::VFS | ShowFlags::RQLEN;
    dump_unix(unix::StateFlags::LISTEN, show, |response| found.extend(unix_listener(&response)))?;
    Ok(found)
}

/// Every TCP socket of the calling thread's namespace whose remote port is `port`, TIME_WAIT included.
pub(super) fn towards_port(family: u8, port: u16, mut each: impl FnMut(TcpSocket)) -> io::Result<()> {
    let states = inet::StateFlags::all().difference(inet::StateFlags::LISTEN);
    dump_tcp(family, states, port, |response| each(tcp_socket(&response)))
}

/// The connected TCP socket with exactly these ends in the calling thread's namespace; `None` when there is none.
pub(super) fn exact(local: SocketAddr, remote: SocketAddr) -> io::Result<Option<TcpSocket>> {
    let family = if local.is_ipv4() { AF_INET } else { AF_INET6 };
    let mut socket_id = if local.is_ipv4() { SocketId::new_v4() } else { SocketId::new_v6() };
    (socket_id.source_address, socket_id.source_port) = (local.ip(), local.port());
    (socket_id.destination_address, socket_id.destination_port) = (remote.ip(), remote.port());
    socket_id.cookie = [0xff; 8];
    let request = tcp_request(family, inet::StateFlags::all(), socket_id);
    let mut found = None;
    let outcome = exchange(request, false, |message| {
        if let SockDiagMessage::InetResponse(response) = message {
            // The kernel falls back to a listener when no connection has these ends.
            found = (response.header.state != LISTEN).then(|| tcp_socket(&response));
        }
    });
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(()) => Ok(found),
    }
}

/// Every connected AF_UNIX socket of the calling thread's namespace.
pub(super) fn unix_connected() -> io::Result<Vec<UnixSocket>> {
    let mut found = Vec::new();
    let show = ShowFlags::NAME | ShowFlags::PEER | ShowFlags::RQLEN;
    dump_unix(unix::StateFlags::ESTABLISHED, show, |response| {
        found.push(UnixSocket {
            name: name_of(&response).unwrap_or_default(),
            inode: u64::from(response.header.inode),
            peer: response.peer().map(u64::from),
            unread: response.receive_queue_size().unwrap_or(0),
        });
    })?;
    Ok(found)
}

fn tcp_listener(response: &InetResponse) -> Listening {
    let header = &response.header;
    Listening {
        bound: Endpoint::Tcp(SocketAddr::new(header.socket_id.source_address, header.socket_id.source_port)),
        inode: u64::from(header.inode),
        queue: Some(Queue { length: header.recv_queue, limit: header.send_queue }),
        file: None,
        v6_only: response.nlas.iter().any(|attribute| matches!(attribute, inet::nlas::Nla::SkV6Only(true))),
    }
}

fn tcp_socket(response: &InetResponse) -> TcpSocket {
    let InetResponse { header, .. } = response;
    let id = &header.socket_id;
    TcpSocket {
        local: SocketAddr::new(id.source_address, id.source_port),
        remote: SocketAddr::new(id.destination_address, id.destination_port),
        inode: u64::from(header.inode),
        unread: header.recv_queue,
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
    Some(Listening {
        bound: Endpoint::Unix(name_of(response)?),
        inode: u64::from(response.header.inode),
        queue: queue.map(|(length, limit)| Queue { length, limit }),
        file,
        v6_only: false,
    })
}

/// The bound name, with the leading NUL of an abstract one; `None` for an unnamed socket.
fn name_of(response: &UnixResponse) -> Option<BString> {
    match response.name()? {
        UnixDiagName::Pathname(path) => Some(path.as_bytes().into()),
        UnixDiagName::Abstract(name) => {
            let mut bytes = vec![0];
            bytes.extend_from_slice(name);
            Some(bytes.into())
        }
    }
}

fn tcp_request(family: u8, states: inet::StateFlags, socket_id: SocketId) -> SockDiagMessage {
    let extensions = ExtensionFlags::empty();
    SockDiagMessage::InetRequest(InetRequest { family, protocol: IPPROTO_TCP, extensions, states, socket_id })
}

fn dump_tcp(
    family: u8,
    states: inet::StateFlags,
    remote_port: u16,
    mut each: impl FnMut(InetResponse),
) -> io::Result<()> {
    let mut socket_id = if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() };
    socket_id.destination_port = remote_port;
    exchange(tcp_request(family, states, socket_id), true, |message| {
        if let SockDiagMessage::InetResponse(response) = message {
            each(*response);
        }
    })
}

fn dump_unix(
    states: unix::StateFlags,
    show: ShowFlags,
    mut each: impl FnMut(UnixResponse),
) -> io::Result<()> {
    let request = UnixRequest { state_flags: states, inode: 0, show_flags: show, cookie: [0xff; 8] };
    exchange(SockDiagMessage::UnixRequest(request), true, |message| {
        if let SockDiagMessage::UnixResponse(response) = message {
            each(*response);
        }
    })
}

/// Sends one request and hands over each answer, until the dump is done or, without `dump`, the first one came.
///
/// Answers that the decoder does not understand are left out; the kernel's errors are returned.
fn exchange(request: SockDiagMessage, dump: bool, mut each: impl FnMut(SockDiagMessage)) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&NetlinkAddr::new(0, 0))?;
    // The kernel answers within send and recv themselves: waiting would only ever wait for nothing.
    socket.set_non_blocking(true)?;
    let mut header = NetlinkHeader::default();
    header.flags = if dump { NLM_F_REQUEST | NLM_F_DUMP } else { NLM_F_REQUEST };
    let mut packet = NetlinkMessage::new(header, request.into());
    packet.finalize();
    let mut bytes = vec![0; packet.buffer_len()];
    packet.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut buffer = vec![0; RECEIVE_BYTES];
    loop {
        let size = socket.recv(&mut &mut buffer[..], 0)?;
        if take_messages(buffer.get(..size).unwrap_or(&[]), &mut each)? || !dump {
            return Ok(());
        }
    }
}

/// Decodes one datagram; true when it ended the dump.
fn take_messages(mut bytes: &[u8], each: &mut impl FnMut(SockDiagMessage)) -> io::Result<bool> {
    while let Some((length, _)) = bytes.split_first_chunk::<4>() {
        let length = u32::from_ne_bytes(*length) as usize;
        let Some(message) = bytes.get(..length).filter(|message| message.len() >= 16) else { break };
        match NetlinkMessage::<SockDiagMessage>::deserialize(message).map(|message| message.payload) {
            Ok(NetlinkPayload::InnerMessage(answer)) => each(answer),
            Ok(NetlinkPayload::Done(_)) => return Ok(true),
            Ok(NetlinkPayload::Error(error)) => return Err(error.to_io()),
            Ok(_) => {}
            Err(error) => log::debug!("one socket of sock_diag is left out: {error}"),
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    Ok(false)
}
