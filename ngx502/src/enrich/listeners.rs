//! Who listens at one place, as a given worker would reach it; and everyone who listens, for the start.

use std::io;
use std::net::IpAddr;

use bstr::{BString, ByteSlice as _};

use super::holders::SocketOwners;
use super::path::{self, Walked};
use super::sockets::{self, Listening, Netns};
use super::{busy, local, procnet};
use crate::event::{
    AddressOwner, Body, Endpoint, EndpointInfo, FileNumbers, ListenerInfo, NEAR_MAX, NearListener, Nearness,
    Owner, PathKind, Pid, ProcessRef, Queue,
};

/// The listeners of a namespace, from sock_diag, else from /proc.
pub(super) fn table(netns: Netns) -> io::Result<Vec<Listening>> {
    netns.run(sockets::listening).or_else(|error| {
        log::debug!("sock_diag does not answer, so accept queues stay unknown: {error}");
        procnet::listening(netns.via)
    })
}

/// Every listener of every namespace, one fact each.
pub(super) fn everywhere(owners: &mut SocketOwners) -> Vec<EndpointInfo> {
    let holders_at = owners.walked_from();
    let facts = tables(owners).into_iter().map(|(netns, listener)| EndpointInfo {
        endpoint: listener.bound.clone(),
        netns: netns.inum,
        listeners: vec![describe(owners, listener, |_, _| None)],
        near: Vec::new(),
        path: None,
        asked: false,
        holders_at,
        file: None,
    });
    facts.collect()
}

/// Who a connect by `worker` to `endpoint` reaches, in the namespace `delivered` where the kernel was seen to deliver it
/// there. For an address of no single namespace, whose it is; an alias first where symbolic links lead elsewhere.
/// `former` held what listened there before.
pub(super) fn at(
    owners: &mut SocketOwners,
    worker: Pid,
    endpoint: &Endpoint,
    delivered: Option<u32>,
    former: &[ProcessRef],
) -> io::Result<Vec<Body>> {
    owners.keep_fresh();
    let own = match delivered {
        Some(netns) => owners.namespace(netns).ok_or_else(|| io::Error::other("that namespace is gone"))?,
        None => Netns::of(worker)?,
    };
    let (netns, kind, walked) = match endpoint {
        Endpoint::Tcp(_) if delivered.is_some() => (own, None, None),
        Endpoint::Tcp(address) => match home(owners, address.ip(), own) {
            Ok(netns) => (netns, None, None),
            Err(owner) => {
                let found = AddressOwner { ip: address.ip(), from: own.inum, owner };
                return Ok(vec![Body::AddressOwner(found)]);
            }
        },
        Endpoint::Unix(name) if name.first() == Some(&0) => (own, None, None),
        Endpoint::Unix(name) => {
            let walked = path::walk(worker, name, None).ok();
            (own, Some(walked.as_ref().map_or(PathKind::Unknown, |walked| walked.kind)), walked)
        }
    };
    let reached = match &walked {
        Some(walked) => bound_to_file(owners, walked),
        None if kind.is_some() => Vec::new(),
        None => most_specific(endpoint, table(netns)?),
    };
    let holders_at = owners.walked_from();
    let is_socket = |walked: &&Walked| walked.kind == PathKind::Socket;
    let file = walked.as_ref().filter(is_socket).and_then(Walked::diag_identity);
    let file = file.map(|(device, inode)| FileNumbers { device, inode });
    let reached = reached.into_iter();
    let listeners: Vec<_> = reached.map(|listener| describe(owners, listener, busy::all_busy)).collect();
    let mut near = if listeners.is_empty() { near(owners, endpoint, netns, former) } else { Vec::new() };
    let names =
        [Some(endpoint.clone()), walked.as_ref().map(|walked| Endpoint::Unix(walked.resolved.clone()))];
    for found in near.iter_mut().filter(|found| kind.is_some() && names.contains(&Some(found.bound.clone())))
    {
        let same = path::sees_the_same_files(worker, found.process.pid);
        found.why = if same { Nearness::SamePath } else { Nearness::OtherFiles };
        found.bound.clone_from(endpoint);
    }
    let info = EndpointInfo {
        endpoint: endpoint.clone(),
        netns: netns.inum,
        listeners,
        near,
        path: kind,
        asked: true,
        holders_at,
        file,
    };
    let alias = walked.and_then(|walked| alias(endpoint, walked));
    Ok(alias.into_iter().chain([Body::Endpoint(Box::new(info))]).collect())
}

/// Where a connect from a namespace to `ip` ends; for an address of nobody's, namespaces that came just now are asked too.
fn home(owners: &mut SocketOwners, ip: IpAddr, from: Netns) -> Result<Netns, Owner> {
    let found = local::namespace_of(ip, from, owners.namespaces());
    if found == Err(Owner::Nobody) && owners.look_for_namespaces() {
        return local::namespace_of(ip, from, owners.namespaces());
    }
    found
}

/// A listener with its holders; `busy` says whether all of them are occupied.
fn describe(
    owners: &mut SocketOwners,
    Listening { bound, inode, queue, file, .. }: Listening,
    busy: impl Fn(&[ProcessRef], Option<Queue>) -> Option<bool>,
) -> ListenerInfo {
    let holders = owners.holders(inode);
    let file = file.map(|(device, inode)| FileNumbers { device, inode });
    ListenerInfo { all_busy: busy(&holders, queue), bound, inode, queue, holders, file }
}

fn alias(endpoint: &Endpoint, walked: Walked) -> Option<Body> {
    let Endpoint::Unix(path) = endpoint else { return None };
    let differs = walked.resolved != *path && walked.kind != PathKind::Unknown;
    differs.then(|| Body::PathAlias { path: path.clone(), resolved: walked.resolved })
}

/// Every listener of every namespace with its namespace.
fn tables(owners: &mut SocketOwners) -> Vec<(Netns, Listening)> {
    let mut found = Vec::new();
    for netns in owners.namespaces() {
        match table(*netns) {
            Ok(table) => found.extend(table.into_iter().map(|listener| (*netns, listener))),
            Err(error) => log::debug!("namespace {} is left out: {error}", netns.inum),
        }
    }
    found
}

/// The listeners that take the connection: those bound to the very address before wildcards, as the kernel chooses.
fn most_specific(endpoint: &Endpoint, table: Vec<Listening>) -> Vec<Listening> {
    let mut reached: Vec<_> = table.into_iter().filter(|entry| reaches(endpoint, entry)).collect();
    let wildcard =
        |bound: &Endpoint| matches!(bound, Endpoint::Tcp(address) if address.ip().is_unspecified());
    if reached.iter().any(|entry| !wildcard(&entry.bound)) {
        reached.retain(|entry| !wildcard(&entry.bound));
    }
    reached
}

/// As [`Endpoint::reaches`], but an IPv6 wildcard that refuses IPv4 does not reach it.
pub(super) fn reaches(endpoint: &Endpoint, listener: &Listening) -> bool {
    let ipv4 = matches!(endpoint, Endpoint::Tcp(address) if address.ip().to_canonical().is_ipv4());
    endpoint.reaches(&listener.bound) && !(ipv4 && listener.v6_only)
}

/// The listeners bound to the file at the end of a walk, whatever name or namespace they bound it in.
fn bound_to_file(owners: &mut SocketOwners, walked: &Walked) -> Vec<Listening> {
    let (PathKind::Socket, Some(wanted)) = (walked.kind, walked.diag_identity()) else { return Vec::new() };
    let all = tables(owners).into_iter().map(|(_, entry)| entry);
    let (direct, others): (Vec<_>, Vec<_>) = all.partition(|entry| entry.file == Some(wanted));
    if !direct.is_empty() {
        return direct;
    }
    // Some file systems (btrfs, overlay) show stat(2) other numbers than sock_diag; then look through the holder's
    // eyes at every listener with the same file name.
    let same_file = |entry: &Listening| {
        let Endpoint::Unix(bound) = &entry.bound else { return false };
        if bound.first() == Some(&0) || file_name(bound) != file_name(&walked.resolved) {
            return false;
        }
        // On the very file system it would have the same number, were it the same file.
        if entry.file.is_some_and(|(device, _)| device == wanted.0) {
            return false;
        }
        let holder = owners.holders(entry.inode).into_iter().next();
        let theirs = holder.and_then(|holder| path::walk(holder.pid, bound, None).ok());
        theirs.is_some_and(|theirs| theirs.identity() == walked.identity())
    };
    others.into_iter().filter(same_file).collect()
}

fn file_name(path: &BString) -> &[u8] {
    path.rsplit_once_str("/").map_or(path.as_slice(), |(_, name)| name)
}

/// The listeners a human would compare with: the same port elsewhere, a socket in the same directory, another place of
/// the program that listened there before. What is nearest comes first.
fn near(
    owners: &mut SocketOwners,
    endpoint: &Endpoint,
    netns: Netns,
    former: &[ProcessRef],
) -> Vec<NearListener> {
    let mut near = Vec::new();
    for (theirs, listener) in tables(owners) {
        let why = nearness(endpoint, &listener.bound, theirs.inum == netns.inum);
        if why.is_none() && former.is_empty() {
            continue;
        }
        let Some(process) = owners.holders(listener.inode).into_iter().next() else { continue };
        let program = || former.iter().any(|one| one.comm == process.comm && !one.comm.is_empty());
        let Some(why) = why.or_else(|| program().then_some(Nearness::SameProgram)) else { continue };
        near.push(NearListener { bound: listener.bound, netns: theirs.inum, process, why });
    }
    // A socket bound to the very path, which yet does not lead to it, is what a human would look at first.
    near.sort_by_key(|found| match (found.bound == *endpoint, found.why) {
        (true, _) => 0,
        (_, Nearness::SameProgram) => 1,
        _ => 2,
    });
    near.truncate(NEAR_MAX);
    near
}

fn nearness(wanted: &Endpoint, bound: &Endpoint, same_namespace: bool) -> Option<Nearness> {
    match (wanted, bound) {
        (Endpoint::Tcp(wanted), Endpoint::Tcp(bound)) if wanted.port() == bound.port() => {
            Some(if same_namespace { Nearness::SamePort } else { Nearness::OtherNamespace })
        }
        (Endpoint::Unix(wanted), Endpoint::Unix(bound)) => {
            let directory =
                |path: &BString| path.rsplit_once_str("/").map(|(directory, _)| directory.to_vec());
            let shared = directory(wanted).filter(|directory| directory.first() == Some(&b'/'));
            (shared.is_some() && shared == directory(bound)).then_some(Nearness::SameDirectory)
        }
        _ => None,
    }
}
