//! What processes wait for, as a look at them found it while nginx's time-out was fresh.

use std::net::SocketAddr;

use bstr::BString;
use serde::{Deserialize, Serialize};

use super::{Endpoint, Pid, ProcessRef};

/// One look: processes that could have answered, and those that they wait for in turn.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Waits {
    /// Each process once.
    pub processes: Vec<ProcessWaits>,
}

/// What one process was found to do, by two looks a moment apart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessWaits {
    /// Which.
    pub process: ProcessRef,
    /// Stopped by a signal (state T).
    pub stopped: bool,
    /// Stopped by this tracer (state t).
    pub tracer: Option<ProcessRef>,
    /// Its cgroup is frozen.
    pub frozen: bool,
    /// Its cgroup's CPU quota held it between the looks.
    pub throttled: Option<Throttled>,
    /// Its memory cgroup is out of memory or over its high mark.
    pub memory: Option<MemoryState>,
    /// It has as many descriptors open as it may have: this many.
    pub files_full: Option<u64>,
    /// Its threads, the telling ones first, as far as they were looked at.
    pub threads: Vec<ThreadWait>,
    /// How many it has.
    pub thread_count: u32,
}

/// A CPU quota at work.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Throttled {
    /// Path of the cgroup.
    pub cgroup: String,
    /// Microseconds of CPU time a period.
    pub quota_us: u64,
    /// Length of a period.
    pub period_us: u64,
    /// Periods between the looks.
    pub periods: u64,
    /// Those of them in which it was held.
    pub throttled: u64,
}

/// A memory cgroup in distress.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MemoryState {
    /// Path of the cgroup.
    pub cgroup: String,
    /// What is in use, in bytes.
    pub usage_bytes: u64,
    /// Its limit or high mark.
    pub limit_bytes: u64,
    /// True: out of memory, with the OOM killer off; false: slowed down at its high mark.
    pub under_oom: bool,
}

/// A thread.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ThreadWait {
    /// Its id.
    pub tid: u32,
    /// What it does.
    pub doing: Doing,
}

/// What a thread does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Doing {
    /// It waits for work: in accept, or in an event loop with nothing outstanding.
    #[default]
    Idle,
    /// It ran, for so many thousandths of the time between the looks.
    Runs(u32),
    /// It could run and got no CPU.
    Starves,
    /// It is blocked on a connection of its own.
    Socket(Box<SocketWait>),
    /// An event loop, which watches connections of its own that owe an answer.
    Events(Vec<SocketWait>),
    /// It is blocked on a file lock.
    FileLock {
        /// The file; `None` where its name could not be read.
        path: Option<BString>,
        /// Who holds it.
        holder: Option<ProcessRef>,
    },
    /// It is blocked on a mutex that this thread of its process holds.
    Mutex(u32),
    /// It is in uninterruptible sleep.
    Disk {
        /// The system call's name, where it is one of files.
        call: Option<String>,
        /// The file; `None` where its name could not be read.
        path: Option<BString>,
    },
    /// It is blocked on a full pipe (true) or an empty one.
    Pipe {
        /// It writes.
        writes: bool,
        /// The processes at the other end.
        others: Vec<ProcessRef>,
    },
    /// It sleeps by its own wish.
    Sleeps,
    /// It waits for a child of its own.
    Child(Vec<ProcessRef>),
    /// Another system call, by its number; negative where that is not known.
    Call(i64),
}

/// What a socket's other end is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SocketKind {
    /// TCP.
    #[default]
    Tcp,
    /// UDP: mostly DNS.
    Udp,
    /// AF_UNIX.
    Unix,
}

/// A connection of a process's own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SocketWait {
    /// The descriptor.
    pub descriptor: u32,
    /// Of which kind.
    pub kind: SocketKind,
    /// Its own address; `None` for AF_UNIX.
    pub local: Option<SocketAddr>,
    /// Where it leads; `None` where that is not known.
    pub remote: Option<Endpoint>,
    /// It is not established yet.
    pub connecting: bool,
    /// It waits for room to send.
    pub sending: bool,
    /// Milliseconds since it sent last; `None` where that is not known, or never.
    pub sent_ms: Option<u32>,
    /// Milliseconds since it received last.
    pub received_ms: Option<u32>,
    /// Who has the other end, where that is on this host.
    pub peers: Vec<ProcessRef>,
    /// Bytes that the other end has not read.
    pub peer_unread: Option<u32>,
}

impl Waits {
    /// Every process that it names.
    pub fn named(&self) -> impl Iterator<Item = &ProcessRef> {
        self.processes.iter().flat_map(|one| {
            let threads = one.threads.iter().flat_map(|thread| thread.doing.named());
            [&one.process].into_iter().chain(&one.tracer).chain(threads)
        })
    }
}

impl Doing {
    /// The other processes that it names.
    pub fn named(&self) -> Vec<&ProcessRef> {
        match self {
            Doing::Socket(socket) => socket.peers.iter().collect(),
            Doing::Events(sockets) => sockets.iter().flat_map(|socket| &socket.peers).collect(),
            Doing::FileLock { holder, .. } => holder.iter().collect(),
            Doing::Pipe { others: processes, .. } | Doing::Child(processes) => processes.iter().collect(),
            _ => Vec::new(),
        }
    }
}

impl ProcessWaits {
    /// The pid.
    pub fn pid(&self) -> Pid {
        self.process.pid
    }
}
