//! The server's end of a worker's connection, where it is on this host.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;

use bstr::BString;

use super::holders::SocketOwners;
use super::listeners;
use super::sockets::{self, Netns};
use crate::event::{Endpoint, Ends, PeerSocket, Pid};
use crate::proc::sockets_of;

/// Finds the other end of a worker's socket; `None` when it is not on this host, gone, or ambiguous.
pub(super) fn find(owners: &mut SocketOwners, worker: Pid, of: u64, ends: &Ends) -> Option<PeerSocket> {
    let own = Netns::of(worker).ok()?;
    let others: Vec<_> = owners.namespaces().iter().copied().filter(|netns| netns.inum != own.inum).collect();
    let namespaces = std::iter::once(own).chain(others);
    match ends {
        Ends::Tcp { local, remote } => tcp(owners, namespaces, of, (*local, *remote)),
        Ends::Unix { path } => unix(owners, namespaces, of, (worker, path)),
    }
}

/// By the reversed 4-tuple, which stands until the server closes, even after nginx did.
fn tcp(
    owners: &mut SocketOwners,
    mut namespaces: impl Iterator<Item = Netns>,
    of: u64,
    (local, remote): (SocketAddr, SocketAddr),
) -> Option<PeerSocket> {
    let (netns, socket) = namespaces.find_map(|netns| {
        let found = quiet(netns.run(|| sockets::exact(remote, local)))?;
        Some((netns, found?))
    })?;
    if socket.inode == 0 {
        // No process has a file for it: it waits in the accept queue, or everyone closed it.
        return Some(PeerSocket { of, accepted: Some(false), holders: vec![], unread: Some(socket.unread) });
    }
    let mut holders = Vec::new();
    if let Some(table) = quiet(listeners::table(netns)) {
        // Accepted moments ago, most likely, by one of those who hold the listener: younger than the last walk.
        let wanted = Endpoint::Tcp(socket.local);
        let at: Vec<_> = table.iter().filter(|entry| listeners::reaches(&wanted, entry)).collect();
        let servers: HashSet<_> = at.iter().flat_map(|entry| owners.holders(entry.inode)).collect();
        holders = SocketOwners::holders_among(socket.inode, servers.iter().map(|server| server.pid));
    }
    if holders.is_empty() {
        holders = owners.holders(socket.inode);
    }
    Some(PeerSocket { of, accepted: Some(true), holders, unread: Some(socket.unread) })
}

/// By the peer's inode. Once nginx has closed its end the inode is 0, and only a single such end is unmistakable.
fn unix(
    owners: &mut SocketOwners,
    namespaces: impl Iterator<Item = Netns>,
    of: u64,
    (worker, path): (Pid, &BString),
) -> Option<PeerSocket> {
    (!path.is_empty()).then_some(())?;
    let own: HashSet<u64> = sockets_of(worker).into_iter().collect();
    let connected = namespaces.filter_map(|netns| quiet(netns.run(sockets::unix_connected))).flatten();
    let candidates: Vec<_> = connected.filter(|socket| socket.name == *path).collect();
    let alive: Vec<_> =
        candidates.iter().filter(|end| end.peer.is_some_and(|peer| own.contains(&peer))).collect();
    let dead: Vec<_> = candidates.iter().filter(|socket| socket.peer == Some(0)).collect();
    let socket = match (alive.as_slice(), dead.as_slice()) {
        ([], [only]) | ([only], []) => only,
        _ => return None,
    };
    let holders = owners.holders(socket.inode);
    Some(PeerSocket { of, accepted: Some(true), holders, unread: Some(socket.unread) })
}

fn quiet<T>(result: io::Result<T>) -> Option<T> {
    result
        .inspect_err(|error| log::debug!("a socket table cannot be read, so it names no peer: {error}"))
        .ok()
}
