//! Which processes hold a socket, and which network namespaces there are: one walk over `/proc/*/fd`.
//!
//! The walk costs about 2 µs a descriptor, so its result is remembered. A socket that it does not know
//! makes it walk again, at most every two seconds; holders are checked to be alive whenever they are named.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::sockets::Netns;
use crate::event::{Nanos, Pid, ProcessRef};
use crate::proc::{self, clock, sockets_of};

/// How long a walk's result serves when a socket is missing in it.
const RETRY: Duration = Duration::from_secs(2);
/// Looking for new namespaces takes at most one part in so many of the time.
const NAMESPACES_SHARE: u32 = 20;
/// How long it serves at all.
const FRESH: Duration = Duration::from_secs(10);
/// More holders of one socket are not named.
pub(super) const MAX_HOLDERS: usize = 1024;
/// More namespaces are not searched.
const MAX_NAMESPACES: usize = 256;

/// Sockets and namespaces, with the processes that have them.
#[derive(Debug, Default)]
pub(super) struct SocketOwners {
    sockets: HashMap<u64, Vec<Pid>>,
    namespaces: Vec<Netns>,
    taken: Option<Instant>,
    /// From when on namespaces may be looked for again.
    namespaces_due: Option<Instant>,
    /// Boot time before the last walk: it may have missed a process that was born later.
    walked_from: Nanos,
    /// Boot time after the last walk: a process that started later has the number of one that it saw, no more.
    walked_until: Nanos,
}

impl SocketOwners {
    /// Walks /proc now.
    pub(super) fn refresh(&mut self) {
        self.sockets.clear();
        self.namespaces.clear();
        self.taken = Some(Instant::now());
        self.walked_from = clock::now();
        match proc::pids() {
            Ok(pids) => pids.for_each(|pid| self.add(pid)),
            Err(error) => log::debug!("/proc cannot be listed, so no socket has a holder: {error}"),
        }
        self.walked_until = clock::now();
    }

    /// Walks again if the last walk is too old to serve.
    pub(super) fn keep_fresh(&mut self) {
        if self.older_than(FRESH) {
            self.refresh();
        }
    }

    /// The living processes that hold the socket with this inode, by pid.
    pub(super) fn holders(&mut self, inode: u64) -> Vec<ProcessRef> {
        let mut alive = self.alive(inode);
        if alive.is_empty() && self.older_than(RETRY) {
            self.refresh();
            alive = self.alive(inode);
        }
        alive
    }

    /// A network namespace by its number, if a process lives in it.
    pub(super) fn namespace(&mut self, inum: u32) -> Option<Netns> {
        let known = |owners: &Self| {
            let mut found = owners.namespaces.iter().filter(|netns| netns.inum == inum);
            found.find(|netns| Netns::of(netns.via).is_ok_and(|now| now.inum == inum)).copied()
        };
        known(self).or_else(|| self.look_for_namespaces().then(|| known(self))?)
    }

    /// Looks for namespaces that came since the last walk, unless it did so a moment ago; true if it did.
    pub(super) fn look_for_namespaces(&mut self) -> bool {
        let from = Instant::now();
        if self.namespaces_due.is_some_and(|due| from < due) {
            return false;
        }
        self.namespaces.clear();
        match proc::pids() {
            Ok(pids) => pids.for_each(|pid| self.add_namespace(pid)),
            Err(error) => log::debug!("/proc cannot be listed, so no namespace is found: {error}"),
        }
        self.namespaces_due = Some(Instant::now() + from.elapsed() * NAMESPACES_SHARE);
        true
    }

    /// The holders among some processes, read from their descriptors now. For sockets too young for the last walk.
    pub(super) fn holders_among(inode: u64, pids: impl Iterator<Item = Pid>) -> Vec<ProcessRef> {
        let holds = |pid: &Pid| sockets_of(*pid).contains(&inode);
        pids.take(MAX_HOLDERS).filter(holds).filter_map(|pid| proc::process_ref(pid).ok()).collect()
    }

    /// Since when processes may have been born that the last walk did not see.
    pub(super) fn walked_from(&self) -> Nanos {
        self.walked_from
    }

    /// Every network namespace that had a process at the last walk.
    pub(super) fn namespaces(&self) -> &[Netns] {
        &self.namespaces
    }

    fn alive(&self, inode: u64) -> Vec<ProcessRef> {
        let pids = self.sockets.get(&inode).map_or(&[][..], Vec::as_slice);
        let seen = |process: &ProcessRef| process.start <= self.walked_until;
        pids.iter().filter_map(|pid| proc::living(*pid).ok()?).filter(seen).collect()
    }

    fn older_than(&self, age: Duration) -> bool {
        self.taken.is_none_or(|taken| taken.elapsed() > age)
    }

    fn add_namespace(&mut self, pid: Pid) {
        if let Ok(netns) = Netns::of(pid)
            && self.namespaces.len() < MAX_NAMESPACES
            && !self.namespaces.iter().any(|known| known.inum == netns.inum)
        {
            self.namespaces.push(netns);
        }
    }

    fn add(&mut self, pid: Pid) {
        self.add_namespace(pid);
        for inode in sockets_of(pid) {
            let holders = self.sockets.entry(inode).or_default();
            if holders.len() < MAX_HOLDERS && holders.last() != Some(&pid) {
                holders.push(pid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_walk_names_the_holder_of_an_open_socket_only() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let inode = nix::sys::stat::fstat(&listener).expect("its file").st_ino;
        let mut owners = SocketOwners::default();
        owners.refresh();
        let own = Pid(std::process::id());
        assert!(owners.holders(inode).iter().any(|holder| holder.pid == own));
        assert_eq!(SocketOwners::holders_among(inode, [own].into_iter())[0].pid, own);
        assert!(owners.holders(u64::MAX).is_empty());
        let netns = Netns::of(own).expect("own namespace");
        assert!(owners.namespaces().iter().any(|known| known.inum == netns.inum));
    }
}
