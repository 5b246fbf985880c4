//! The server's end of a worker's connection, where it is on this host.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;

use bstr::BString;
use netlink_packet_sock_diag::unix::UnixResponse;

use super::holders::SocketOwners;
use super::listeners;
use super::sockets::{self, Netns};
use crate::event::{Endpoint, Ends, PeerSocket, Pid, ProcessRef, Server};
use crate::proc::sockets_of;

/// Finds the other end of a worker's socket, which may have been seen as `server`; `None` when it is not on this host, gone,
/// or ambiguous.
pub(super) fn find(
    owners: &mut SocketOwners,
    worker: Pid,
    of: u64,
    ends: &Ends,
    server: Option<Server>,
) -> Option<PeerSocket> {
    let own = Netns::of(worker).ok()?;
    let others = owners.namespaces().iter().copied().filter(|netns| netns.inum != own.inum);
    let namespaces: Vec<_> = std::iter::once(own).chain(others).collect();
    let found = match ends {
        Ends::Tcp { local, remote } => tcp(owners, &namespaces, *local, *remote, server)?,
        Ends::Unix { path } => unix(owners, &namespaces, worker, path)?,
    };
    Some(PeerSocket { of, ..found })
}

/// By the reversed 4-tuple, which stands until the server closes, even after nginx did. Where addresses are translated in
/// between, the server sees others: then by the end that was seen.
fn tcp(
    owners: &mut SocketOwners,
    namespaces: &[Netns],
    local: SocketAddr,
    remote: SocketAddr,
    server: Option<Server>,
) -> Option<PeerSocket> {
    let reversed = namespaces.iter().find_map(|netns| {
        let found = quiet(netns.run(|| sockets::exact(remote, local)))?;
        Some((*netns, found?))
    });
    let Some((netns, socket)) = reversed else {
        let server = server?;
        let netns = namespaces.iter().copied().find(|netns| netns.inum == server.netns)?;
        let holders = holders(owners, netns, &Endpoint::Tcp(server.address), server.inode?);
        return Some(PeerSocket {
            accepted: Some(true),
            holders,
            unread: server.unread,
            ..PeerSocket::default()
        });
    };
    let found = PeerSocket {
        accepted: Some(socket.inode != 0),
        unread: Some(socket.unread),
        sent: socket.sent,
        received: socket.received,
        ..PeerSocket::default()
    };
    // Without a file it waits in the accept queue, or everyone closed it.
    let holders = match socket.inode {
        0 => Vec::new(),
        inode => holders(owners, netns, &Endpoint::Tcp(remote), inode),
    };
    Some(PeerSocket { holders, ..found })
}

/// Who holds a connection that was accepted at an address: moments ago, most likely, by one of those who hold the
/// listener, so that it is younger than the last walk.
fn holders(owners: &mut SocketOwners, netns: Netns, wanted: &Endpoint, inode: u64) -> Vec<ProcessRef> {
    let mut holders = Vec::new();
    if let Some(table) = quiet(listeners::table(netns)) {
        let at = table.iter().filter(|entry| listeners::reaches(wanted, entry));
        let servers: HashSet<_> = at.flat_map(|entry| owners.holders(entry.inode)).collect();
        holders = SocketOwners::holders_among(inode, servers.iter().map(|server| server.pid));
    }
    if holders.is_empty() { owners.holders(inode) } else { holders }
}

/// By the peer's inode. Once nginx has closed its end the inode is 0, and only a single such end is unmistakable.
fn unix(owners: &mut SocketOwners, namespaces: &[Netns], worker: Pid, path: &BString) -> Option<PeerSocket> {
    (!path.is_empty()).then_some(())?;
    let own: HashSet<u64> = sockets_of(worker).into_iter().collect();
    let connected = namespaces.iter().filter_map(|netns| {
        let ends = quiet(netns.run(|| sockets::unix_connected(path)))?;
        Some(ends.into_iter().map(|end| (*netns, end)))
    });
    let ends: Vec<_> = connected.flatten().collect();
    let ours = |end: &UnixResponse| end.peer().is_some_and(|peer| own.contains(&peer.into()));
    let alive: Vec<_> = ends.iter().filter(|(_, end)| ours(end)).collect();
    let dead: Vec<_> = ends.iter().filter(|(_, end)| end.peer() == Some(0)).collect();
    let (netns, end) = match (alive.as_slice(), dead.as_slice()) {
        ([], [only]) | ([only], []) => only,
        _ => return None,
    };
    let holders = holders(owners, *netns, &Endpoint::Unix(path.clone()), end.header.inode.into());
    let unread = Some(end.receive_queue_size().unwrap_or(0));
    Some(PeerSocket { accepted: Some(true), holders, unread, ..PeerSocket::default() })
}

fn quiet<T>(result: io::Result<T>) -> Option<T> {
    result
        .inspect_err(|error| log::debug!("a socket table cannot be read, so it names no peer: {error}"))
        .ok()
}
