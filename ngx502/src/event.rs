//! What was observed, in user space's own words.
//!
//! A [`Record`] is one observation: a failed attempt that nginx reported, a listener that opened, a process that
//! died, a fact that enrichment looked up. Records are the only input of attribution and the only content of a
//! capture, in exactly the order in which the live tracer saw them. They carry no kernel structs and no pointers
//! that need a live process: texts of nginx are resolved, addresses are parsed.
//!
//! Not here: verdicts (`attribute::verdict`), the wire layout (`ngx502_common`).

mod lookups;
mod requests;
mod sockets;
mod waits;

use std::fmt;

use bstr::BString;
use serde::{Deserialize, Serialize};

pub use lookups::*;
pub use requests::*;
pub use sockets::*;
pub use waits::*;

/// Nanoseconds on CLOCK_BOOTTIME of the traced host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nanos(pub u64);

impl Nanos {
    /// Whole microseconds from `earlier` to `self`; 0 when the order is reversed.
    pub fn micros_since(self, earlier: Nanos) -> u64 {
        self.0.saturating_sub(earlier.0) / 1_000
    }
}

/// A process (thread group), as the initial pid namespace numbers it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pid(pub u32);

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(itoa::Buffer::new().format(self.0))
    }
}

/// A process with what distinguishes it from a later one of the same number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessRef {
    /// Thread-group id in the initial pid namespace.
    pub pid: Pid,
    /// `task->start_boottime` of the thread-group leader; 0 when unknown.
    pub start: Nanos,
    /// The name at that moment, at most 15 bytes; hostile.
    pub comm: BString,
}

/// One observation and its time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// When it was observed.
    pub at: Nanos,
    /// What was observed.
    pub body: Body,
}

/// The reason of [`Body::Lost`] for events that the kernel kept from the probes of traffic: some of no process that is
/// traced, and none of who listens.
pub const LOST_TRAFFIC: &str = "probe of traffic still at work on that CPU, events of any process";

/// The kinds of observation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Body {
    /// nginx reported trouble with an upstream attempt (uprobes on its error path).
    Attempt(Box<Attempt>),
    /// nginx answers a request with an error page of its own, status ≥ 500.
    Request(Box<Request>),
    /// nginx wrote to the client of a request with a failed attempt, or gave the client up.
    Answer(Answer),
    /// A socket began or ceased to listen.
    Listen(Listen),
    /// A process that may hold listening sockets, or an nginx process, forked.
    Fork {
        /// The forking process.
        parent: ProcessRef,
        /// Its new child, which shares the parent's sockets.
        child: ProcessRef,
    },
    /// A whole process ended.
    Exit(Exit),
    /// A signal that may kill was sent.
    Signal(Signal),
    /// The OOM killer chose a victim.
    Oom(Oom),
    /// Records were lost before they reached user space, or never made.
    Lost {
        /// How many.
        events: u64,
        /// Why, e.g. `ring buffer full`.
        reason: String,
    },
    /// The tracer observes less from here on than it did, by its own decision.
    Notice {
        /// What it is about, as a name for programs: `log-unread`.
        topic: String,
        /// What and why, as a sentence.
        text: String,
    },
    /// Enrichment: what /proc knew of a process (the start snapshot, or looked up while it lived).
    Process(Box<ProcessInfo>),
    /// Enrichment: who listens at one place, from the start snapshot (`asked: false`, one endpoint found
    /// listening) or looked up because an attempt towards it failed (`asked: true`).
    Endpoint(Box<EndpointInfo>),
    /// Enrichment: the walk of a socket's path as the worker.
    PathWalk(Box<PathWalk>),
    /// Enrichment: a worker's descriptor limits.
    Limits(Limits),
    /// Enrichment: local ports towards one destination.
    Ports(Ports),
    /// Enrichment: a server's side of a connection, found by the reversed 4-tuple or the peer inode.
    PeerSocket(PeerSocket),
    /// Enrichment: the smallest memory limit above an OOM victim, where the kernel side did not report it.
    MemoryLimit(MemoryLimit),
    /// Enrichment: symbolic links lead from the path that nginx was given to another, under which servers may have
    /// bound it (`/var/run/x.sock` and `/run/x.sock`), as far as it exists.
    PathAlias {
        /// As nginx was given it.
        path: BString,
        /// Without symbolic links, in the worker's root.
        resolved: BString,
    },
    /// Enrichment: what a process that serves nginx connected to itself.
    Onward(Box<Onward>),
    /// Enrichment: whose an upstream's address is.
    AddressOwner(AddressOwner),
    /// Enrichment: the addresses of a network namespace, at the start, when something begins to listen in a new one, and
    /// when one of them is looked up.
    NamespaceAddresses(NamespaceAddresses),
    /// Enrichment: where a process faulted, before the signal that it got.
    FaultPlace(Box<FaultPlace>),
    /// Enrichment: what the routing table answers a worker.
    Route(RouteLookup),
    /// Enrichment: what may refuse a worker's connect besides permission bits and routes.
    Guards(Box<Guards>),
    /// Enrichment: the services that systemd holds failed, looked up because a place has no listener and none was seen there before.
    FailedUnits(Vec<FailedUnit>),
    /// Enrichment: what processes wait for that did not answer in time, a moment after nginx gave up.
    Waits(Box<Waits>),
    /// Enrichment: containers that publish a port and do not run, looked up as the failed units are.
    DownContainers(Vec<DownContainer>),
    /// A tracer's view of nginx processes changed: one was found or attached.
    Worker(WorkerInfo),
    /// Latency histograms of successful requests, per upstream, for one interval (reserved for `trace`'s
    /// latency block; see `Latency`).
    Latency(Box<Latency>),
    /// The live tracer's clock moved on without a record; makes replay release verdicts when live did.
    Tick,
}

/// A process ended: all its threads are gone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Exit {
    /// Who.
    pub process: ProcessRef,
    /// Its parent.
    pub parent: Pid,
    /// `exit_code` as wait(2) returns it: signal in the low 7 bits, 0x80 core dumped, status in bits 8–15.
    pub code: i32,
    /// Cgroup v2 id; 0 or 1 when the host has no unified hierarchy.
    pub cgroup: u64,
    /// It was marked as an OOM victim.
    pub oom_victim: bool,
}

/// A signal was generated for a process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Signal {
    /// 1 to 64.
    pub signal: i32,
    /// `si_code`: 0 SI_USER, -6 SI_TKILL, 0x80 SI_KERNEL, > 0 a fault's own code.
    pub code: i32,
    /// To whom.
    pub target: ProcessRef,
    /// In whose context; the sender when `from_user`, else merely who ran (a fault's own process, an OOM's trigger).
    pub sender: ProcessRef,
    /// Cgroup v2 id of the sender.
    pub sender_cgroup: u64,
    /// kill(2), tgkill(2), sigqueue(2): a process sent it.
    pub from_user: bool,
    /// `si_addr` of a fault.
    pub fault_address: Option<u64>,
}

/// The OOM killer chose a victim.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Oom {
    /// Who must die.
    pub victim: ProcessRef,
    /// In whose context memory ran out; not the culprit, not the victim.
    pub trigger: ProcessRef,
    /// True: a memory cgroup's limit; false: the whole system; `None`: not known.
    pub memcg: Option<bool>,
    /// The last component of the limiting cgroup's path.
    pub limit_cgroup: Option<String>,
    /// Its limit in bytes.
    pub limit_bytes: Option<u64>,
    /// The same of the victim's own.
    pub victim_cgroup: Option<String>,
    /// Victim's anonymous + file + shmem resident set in bytes.
    pub rss_bytes: Option<u64>,
}

/// Latency of one interval, per upstream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Start of the interval.
    pub since: Nanos,
    /// One entry per upstream and outcome.
    pub series: Vec<LatencySeries>,
}

/// Histograms of one upstream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencySeries {
    /// `127.0.0.1:9000` or `unix:/run/x.sock`.
    pub upstream: BString,
    /// True for answered requests, false for failed attempts.
    pub ok: bool,
    /// connect(2) to established, as (bucket's upper bound in µs, count), ascending, empty buckets left out.
    pub connect: Vec<(u64, u64)>,
    /// Request sent to first byte.
    pub first_byte: Vec<(u64, u64)>,
    /// Request sent to last byte.
    pub total: Vec<(u64, u64)>,
}
