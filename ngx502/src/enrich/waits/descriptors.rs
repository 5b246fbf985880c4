//! What a descriptor is: a connection of the process's own, one that it accepted, a pipe, a file.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt as _;

use bstr::{BString, ByteSlice as _};
use ngx502_common::net::LISTEN;

use super::super::holders::SocketOwners;
use super::super::peer;
use super::super::sockets::{self, InetSocket, Netns};
use crate::event::{Endpoint, Ends, Pid, ProcessRef, SocketKind, SocketWait};
use crate::proc;

/// TCP_SYN_SENT.
const SYN_SENT: u8 = 2;
/// Segments of data that one request may take before its connection has received anything.
const FIRST_REQUEST: u32 = 4;
/// Processes at the other end that are told.
const HOLDERS: usize = 4;

/// What a descriptor leads to.
#[derive(Clone, Debug)]
pub(super) enum On {
    /// A connection that the process made.
    Outward(SocketWait),
    /// One that it accepted, or a listener.
    Inward,
    /// A pipe, by its inode.
    Pipe(u64),
    /// A file or a device.
    File,
    /// Something else.
    Other,
}

/// The socket tables of one look, each read once.
pub(super) struct Tables<'a> {
    owners: &'a mut SocketOwners,
    networks: HashMap<u32, Network>,
}

/// The sockets of one network namespace, by inode.
#[derive(Default)]
struct Network {
    tcp: HashMap<u64, InetSocket>,
    udp: HashMap<u64, InetSocket>,
    unix: HashMap<u64, (Option<BString>, Option<u64>)>,
    /// Local ports that are listened on.
    listening: HashSet<u16>,
}

impl Network {
    fn read() -> io::Result<Self> {
        let by_inode =
            |table: Vec<InetSocket>| table.into_iter().map(|socket| (socket.inode, socket)).collect();
        let tcp = sockets::tcp_table()?;
        let listening =
            tcp.iter().filter(|socket| socket.state == LISTEN).map(|socket| socket.local.port()).collect();
        let unix =
            sockets::unix_table()?.into_iter().map(|(inode, name, peer)| (inode, (name, peer))).collect();
        Ok(Self {
            tcp: by_inode(tcp),
            udp: by_inode(sockets::udp_table().unwrap_or_default()),
            unix,
            listening,
        })
    }
}

impl<'a> Tables<'a> {
    pub(super) fn new(owners: &'a mut SocketOwners) -> Self {
        owners.keep_fresh();
        Self { owners, networks: HashMap::new() }
    }

    /// What a descriptor of a process leads to.
    pub(super) fn on(&mut self, pid: Pid, descriptor: u32) -> On {
        let Ok(link) = std::fs::read_link(format!("/proc/{pid}/fd/{descriptor}")) else { return On::Other };
        let link = link.as_os_str().as_bytes();
        let number = |kind: &str| {
            link.strip_prefix(kind.as_bytes())?.strip_suffix(b"]")?.to_str().ok()?.parse::<u64>().ok()
        };
        match (number("socket:["), number("pipe:[")) {
            (Some(inode), _) => self.socket(pid, descriptor, inode),
            (_, Some(inode)) => On::Pipe(inode),
            _ if link.starts_with(b"/") => On::File,
            _ => On::Other,
        }
    }

    fn socket(&mut self, pid: Pid, descriptor: u32, inode: u64) -> On {
        let Ok(netns) = Netns::of(pid) else { return On::Other };
        let network = self.networks.entry(netns.inum).or_insert_with(|| {
            netns.run(Network::read).unwrap_or_else(|error| {
                log::debug!("the sockets of process {pid} cannot be listed: {error}");
                Network::default()
            })
        });
        let of = |kind, socket: &InetSocket| SocketWait {
            descriptor,
            kind,
            local: Some(socket.local),
            remote: Some(Endpoint::Tcp(socket.remote)).filter(|_| socket.remote.port() != 0),
            connecting: kind == SocketKind::Tcp && socket.state == SYN_SENT,
            sent_ms: socket.sent_ms,
            received_ms: socket.received_ms,
            ..SocketWait::default()
        };
        if let Some(socket) = network.tcp.get(&inode) {
            if socket.state == LISTEN || network.listening.contains(&socket.local.port()) {
                return On::Inward;
            }
            // Earlier sends went unanswered as well: nobody expects an answer.
            let expects =
                socket.received_ms.is_some() || socket.sends.is_none_or(|sends| sends <= FIRST_REQUEST);
            let mut wait = of(SocketKind::Tcp, socket);
            if !expects {
                wait.sent_ms = None;
            }
            self.complete(pid, &mut wait);
            return On::Outward(wait);
        }
        if let Some(socket) = network.udp.get(&inode) {
            return On::Outward(of(SocketKind::Udp, socket));
        }
        match network.unix.get(&inode) {
            // A server's end has the name of its listener, a client's none.
            Some((None, Some(peer))) => {
                let name = network.unix.get(peer).and_then(|(name, _)| name.clone());
                let Some(name) = name else { return On::Other };
                let peer = *peer;
                let mut peers = self.owners.holders(peer);
                peers.truncate(HOLDERS);
                let remote = Some(Endpoint::Unix(name));
                On::Outward(SocketWait {
                    descriptor,
                    kind: SocketKind::Unix,
                    remote,
                    peers,
                    ..SocketWait::default()
                })
            }
            Some((Some(_), _)) => On::Inward,
            _ => On::Other,
        }
    }

    /// Adds who has the other end.
    fn complete(&mut self, pid: Pid, wait: &mut SocketWait) {
        let (Some(local), Some(Endpoint::Tcp(remote))) = (wait.local, &wait.remote) else { return };
        let ends = Ends::Tcp { local, remote: *remote };
        let Some(found) = peer::find(self.owners, pid, 0, &ends, None) else { return };
        (wait.peers, wait.peer_unread) = (found.holders, found.unread);
        // Nobody has accepted it: those who could have.
        if wait.peers.is_empty() && found.accepted == Some(false) {
            wait.peers = self.listening_at(pid, *remote);
        }
        wait.peers.truncate(HOLDERS);
    }

    /// Who listens at an address of a process's namespace.
    fn listening_at(&mut self, pid: Pid, address: SocketAddr) -> Vec<ProcessRef> {
        let network = Netns::of(pid).ok().and_then(|netns| self.networks.get(&netns.inum));
        let there = |socket: &&InetSocket| {
            let ip = socket.local.ip();
            socket.state == LISTEN
                && socket.local.port() == address.port()
                && (ip == address.ip() || ip.is_unspecified())
        };
        let listener =
            network.and_then(|network| network.tcp.values().find(there)).map(|socket| socket.inode);
        listener.map_or_else(Vec::new, |inode| self.owners.holders(inode))
    }

    /// Whether an answer is owed on a connection: it is not there yet, or data was sent and none received since. Of UDP and
    /// AF_UNIX nothing is known but that somebody waits.
    pub(super) fn owes(&self, socket: &SocketWait) -> bool {
        match socket.kind {
            SocketKind::Udp => socket.remote.is_some(),
            SocketKind::Unix => true,
            SocketKind::Tcp if socket.connecting => true,
            SocketKind::Tcp => match (socket.sent_ms, socket.received_ms) {
                (Some(sent), Some(received)) => sent <= received,
                (Some(_), None) => true,
                (None, _) => false,
            },
        }
    }

    /// The processes at the other end of a pipe: those that read it where this one writes.
    pub(super) fn pipe_holders(&self, pid: Pid, inode: u64, writes: bool) -> Vec<ProcessRef> {
        let wanted = format!("pipe:[{inode}]");
        let Ok(pids) = proc::pids() else { return Vec::new() };
        let holds = |other: &Pid| {
            let entries = std::fs::read_dir(format!("/proc/{other}/fd")).into_iter().flatten().flatten();
            entries
                .filter(|entry| {
                    std::fs::read_link(entry.path())
                        .is_ok_and(|link| link.as_os_str().as_bytes() == wanted.as_bytes())
                })
                .any(|entry| opened_to(*other, entry.file_name().to_str(), !writes))
        };
        pids.filter(|other| *other != pid && holds(other))
            .take(HOLDERS)
            .filter_map(|other| proc::living(other).ok()?)
            .collect()
    }
}

/// Whether a descriptor is open for writing, or for reading: the last octal digit of its flags.
fn opened_to(pid: Pid, descriptor: Option<&str>, write: bool) -> bool {
    let Some(descriptor) = descriptor else { return false };
    let text = proc::read(&format!("/proc/{pid}/fdinfo/{descriptor}")).unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix(b"flags:"));
    let access = flags.and_then(|flags| flags.trim_ascii_end().last().copied()).map(|digit| digit & 3);
    match write {
        true => matches!(access, Some(1 | 2)),
        false => matches!(access, Some(0 | 2)),
    }
}
