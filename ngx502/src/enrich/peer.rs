//! The server's end of a worker's connection, where it is on this host.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;

use bstr::BString;
use netlink_packet_sock_diag::unix::UnixResponse;

use super::holders::SocketOwners;
use super::listeners;
use super::sockets::{self, Netns};
use crate::event::{Endpoint, Ends, PeerSocket, Pid, ProcessRef};
use crate::proc::sockets_of;

/// Finds the other end of a worker's socket; `None` when it is not on this host, gone, or ambiguous.
pub(super) fn find(owners: &mut SocketOwners, worker: Pid, of: u64, ends: &Ends) -> Option<PeerSocket> {
    let own = Netns::of(worker).ok()?;
    let others = owners.namespaces().iter().copied().filter(|netns| netns.inum != own.inum);
    let namespaces: Vec<_> = std::iter::once(own).chain(others).collect();
    let (accepted, holders, unread) = match ends {
        Ends::Tcp { local, remote } => tcp(owners, &namespaces, *local, *remote)?,
        Ends::Unix { path } => unix(owners, &namespaces, worker, path)?,
    };
    Some(PeerSocket { of, accepted: Some(accepted), holders, unread: Some(unread) })
}

/// Whether it was accepted, who holds it, and how many bytes are unread there.
type Found = (bool, Vec<ProcessRef>, u32);

/// By the reversed 4-tuple, which stands until the server closes, even after nginx did.
fn tcp(
    owners: &mut SocketOwners,
    namespaces: &[Netns],
    local: SocketAddr,
    remote: SocketAddr,
) -> Option<Found> {
    let (netns, socket) = namespaces.iter().find_map(|netns| {
        let found = quiet(netns.run(|| sockets::exact(remote, local)))?;
        Some((*netns, found?))
    })?;
    if socket.inode == 0 {
        // No process has a file for it: it waits in the accept queue, or everyone closed it.
        return Some((false, Vec::new(), socket.recv_queue));
    }
    let inode = u64::from(socket.inode);
    let mut holders = Vec::new();
    if let Some(table) = quiet(listeners::table(netns)) {
        // Accepted moments ago, most likely, by one of those who hold the listener: younger than the last walk.
        let wanted = Endpoint::Tcp(remote);
        let at = table.iter().filter(|entry| listeners::reaches(&wanted, entry));
        let servers: HashSet<_> = at.flat_map(|entry| owners.holders(entry.inode)).collect();
        holders = SocketOwners::holders_among(inode, servers.iter().map(|server| server.pid));
    }
    if holders.is_empty() {
        holders = owners.holders(inode);
    }
    Some((true, holders, socket.recv_queue))
}

/// By the peer's inode. Once nginx has closed its end the inode is 0, and only a single such end is unmistakable.
fn unix(owners: &mut SocketOwners, namespaces: &[Netns], worker: Pid, path: &BString) -> Option<Found> {
    (!path.is_empty()).then_some(())?;
    let own: HashSet<u64> = sockets_of(worker).into_iter().collect();
    let connected = namespaces.iter().filter_map(|netns| quiet(netns.run(|| sockets::unix_connected(path))));
    let ends: Vec<_> = connected.flatten().collect();
    let ours = |end: &&UnixResponse| end.peer().is_some_and(|peer| own.contains(&peer.into()));
    let alive: Vec<_> = ends.iter().filter(ours).collect();
    let dead: Vec<_> = ends.iter().filter(|end| end.peer() == Some(0)).collect();
    let end = match (alive.as_slice(), dead.as_slice()) {
        ([], [only]) | ([only], []) => only,
        _ => return None,
    };
    let holders = owners.holders(end.header.inode.into());
    Some((true, holders, end.receive_queue_size().unwrap_or(0)))
}

fn quiet<T>(result: io::Result<T>) -> Option<T> {
    result
        .inspect_err(|error| log::debug!("a socket table cannot be read, so it names no peer: {error}"))
        .ok()
}
