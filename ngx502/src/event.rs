//! What was observed, in user space's own words.
//!
//! A [`Record`] is one observation: a failed attempt that nginx reported, a listener that opened, a process that
//! died, a fact that enrichment looked up. Records are the only input of attribution and the only content of a
//! capture, in exactly the order in which the live tracer saw them. They carry no kernel structs and no pointers
//! that need a live process: texts of nginx are resolved, addresses are parsed.
//!
//! Not here: verdicts (`attribute::verdict`), the wire layout (`ngx502_common`).

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use bstr::BString;
use serde::{Deserialize, Serialize};

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
        self.0.fmt(f)
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
    /// Records were lost before they reached user space.
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
    /// Enrichment: who listens at one place, from the start snapshot (`complete: false`, one endpoint found
    /// listening) or looked up because an attempt towards it failed (`complete: true`).
    Endpoint(Box<EndpointInfo>),
    /// Enrichment: the walk of a socket's path as the worker.
    PathWalk(Box<PathWalk>),
    /// Enrichment: a worker's descriptor limits.
    Limits(Limits),
    /// Enrichment: local ports towards one destination.
    Ports(Ports),
    /// Enrichment: a server's side of a connection, found by the reversed 4-tuple or the peer inode.
    PeerSocket(PeerSocket),
    /// Enrichment: the smallest memory limit above an OOM victim, where the kernel side did not tell it.
    MemoryLimit(MemoryLimit),
    /// Enrichment: symbolic links lead from the path that nginx was given to another, under which servers may have
    /// bound it (`/var/run/x.sock` and `/run/x.sock`), as far as it exists.
    PathAlias {
        /// As nginx was given it.
        path: BString,
        /// Without symbolic links, in the worker's root.
        resolved: BString,
    },
    /// Enrichment: what the routing table answers a worker.
    Route(RouteLookup),
    /// Enrichment: what may refuse a worker's connect besides permission bits and routes.
    Guards(Box<Guards>),
    /// Enrichment: the services that systemd holds failed, looked up because nobody listened at a place and nobody had.
    FailedUnits(Vec<FailedUnit>),
    /// A tracer's view of nginx processes changed: one was found or attached.
    Worker(WorkerInfo),
    /// Latency histograms of successful requests, per upstream, for one interval (reserved for `trace`'s
    /// latency block; see `Latency`).
    Latency(Box<Latency>),
    /// The live tracer's clock moved on without a record; makes replay release verdicts when live did.
    Tick,
}

/// What identifies a request while it lives. Request structs are reused, hence the connection number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RequestKey {
    /// The worker's pid.
    pub worker: Pid,
    /// Address of the *main* `ngx_http_request_t` in the worker (subrequests map to their main request).
    pub request: u64,
    /// `log->connection`, the `*N` of nginx's log; 0 when unknown.
    pub connection: u64,
}

/// Trouble with one attempt towards an upstream, from one call of nginx's error path.
///
/// One attempt can yield several (stderr, then a close); they share `key`, `subrequest` and `index`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// The client request it belongs to.
    pub key: RequestKey,
    /// Address of the subrequest, when it is one (auth_request, mirror, SSI); `None` for the main request.
    pub subrequest: Option<u64>,
    /// How many upstream states the request had by now: 1 for the first attempt. 0 when unknown.
    pub index: u32,
    /// Which function reported it.
    pub via: Via,
    /// nginx's log level of the call, 1 (emerg) to 8 (debug), where the function has one.
    pub level: Option<u8>,
    /// The errno that nginx passed; `None` for 0.
    pub errno: Option<i32>,
    /// The format string or text, resolved from the binary: `connect() to %V failed`.
    /// Empty when it could not be resolved.
    pub text: BString,
    /// The format's first string argument where it has one: the peer name of `connect() to %V failed`, the
    /// OpenSSL text of `%*s`, the host of `%V could not be resolved (%i: %s)`. Hostile; may be cut at 192 bytes.
    pub detail: Option<BString>,
    /// The format's first number argument where it has one (resolver state, certificate verify code).
    pub number: Option<i64>,
    /// `log->action`, resolved: `connecting to upstream`.
    pub action: Option<BString>,
    /// `u->peer.name` as nginx prints it: `127.0.0.1:9000`, `unix:/run/x.sock`.
    pub peer: Option<BString>,
    /// The request line as received, may be cut; present where the layout is known.
    pub request_line: Option<BString>,
    /// The Host header.
    #[serde(default)]
    pub host: Option<BString>,
    /// The client's address as text, without port.
    #[serde(default)]
    pub client: Option<BString>,
    /// The kernel's view of the upstream socket, where there is one.
    pub socket: Option<Box<Socket>>,
    /// `log->log_level`, as configured for this location.
    pub log_level: Option<u64>,
}

/// The nginx function that reported an attempt's trouble.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Via {
    /// `ngx_log_error_core`.
    #[default]
    Log,
    /// `ngx_connection_error`.
    ConnectionError,
    /// `ngx_ssl_error`.
    SslError,
}

/// nginx answers with its own error page: `ngx_http_special_response_handler(r, status)`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The client request.
    pub key: RequestKey,
    /// Address of the subrequest that got the status, when it is one: the client does not see this status.
    pub subrequest: Option<u64>,
    /// 500 to 599.
    pub status: u16,
    /// The request line as the client sent it (method, URI with query, protocol); may be cut at 1,024 bytes.
    pub request_line: Option<BString>,
    /// The Host header.
    pub host: Option<BString>,
    /// The client's address as text, without port.
    pub client: Option<BString>,
    /// `log->log_level` of the location: 4 is `error`; below 4 nginx says less, and so do attempts.
    pub log_level: Option<u64>,
    /// Whether the request had an upstream at all (`r->upstream`): false for `return 502`.
    pub has_upstream: bool,
    /// Whether it came with a cache entry (`r->cache`).
    pub has_cache: bool,
    /// `r->upstream_states`: one per attempt, in order; `None` when there is no array (cached error, resolver).
    /// A state with every field absent separates internal redirects.
    pub states: Option<Vec<State>>,
    /// `u->peer.name`: the last peer's name, or the upstream group's when no peer was live.
    pub peer: Option<BString>,
    /// The upstream socket that this worker closed last before it answered, where the kernel side saw it.
    pub closed: Option<Box<Socket>>,
    /// Whether an [`Answer`] will follow (the client's socket is watched).
    pub answer_follows: bool,
    /// Whether the tracer had ceased to read this nginx's log, for it says too much (see [`Body::Notice`]).
    #[serde(default)]
    pub log_unread: bool,
}

/// NGX_LOG_ERR, the least severe level at which nginx tells why an upstream failed.
const NGX_LOG_ERR: u64 = 4;

impl Request {
    /// Whether what nginx says of its attempts did not reach the tracer: hidden by the level of its log, or unread.
    pub fn is_muted(&self) -> bool {
        self.log_unread || self.log_level.is_some_and(|level| level < NGX_LOG_ERR)
    }
}

/// `ngx_http_upstream_state_t`: nginx's own account of one attempt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The status nginx gave the attempt; 0 when none.
    pub status: u16,
    /// `$upstream_connect_time` in milliseconds (includes TLS); `None` when not reached.
    pub connect_ms: Option<u32>,
    /// `$upstream_header_time` in milliseconds; `None` when no complete header came.
    pub header_ms: Option<u32>,
    /// `$upstream_response_time` in milliseconds; `None` when not finished.
    pub response_ms: Option<u32>,
    /// Bytes from the upstream; `None` when unknown.
    pub bytes_received: Option<u64>,
    /// Bytes to the upstream; `None` when unknown.
    pub bytes_sent: Option<u64>,
    /// The peer's name; `None` for a separator or where it was not read.
    pub peer: Option<BString>,
}

/// What became of a client request that had a failed attempt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The client request.
    pub key: RequestKey,
    /// The status the client gets (`r->headers_out.status`), or the last state's where that cannot be read.
    pub status: Option<u16>,
    /// How many upstream states there were when nginx wrote: larger than before means that a retry or a fallback ran.
    pub states: u32,
    /// The last upstream state by then.
    pub last_state: Option<State>,
    /// True when the client's connection was closed before anything was written.
    pub client_gone: bool,
}

/// One end of a connection on this host, as the kernel saw it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Socket {
    /// `struct sock *`: an identity, not to be followed.
    pub id: u64,
    /// Inode number of the network namespace; 0 when unknown.
    pub netns: u32,
    /// Addresses.
    pub ends: Ends,
    /// `TCP_*` state number at that moment (1 ESTABLISHED, 2 SYN_SENT, 7 CLOSE, 8 CLOSE_WAIT, 10 LISTEN).
    pub state: u8,
    /// When connect(2) began.
    pub connect_at: Option<Nanos>,
    /// When the connection was established.
    pub established_at: Option<Nanos>,
    /// When nginx last began to send a request on it.
    pub sent_at: Option<Nanos>,
    /// When the first byte of the current response arrived.
    pub first_byte_at: Option<Nanos>,
    /// When the peer's FIN arrived.
    pub fin_at: Option<Nanos>,
    /// When the peer's RST arrived.
    pub reset_at: Option<Nanos>,
    /// When the other end sent a RST, where that end is on this host.
    #[serde(default)]
    pub reset_sent_at: Option<Nanos>,
    /// The socket's error or connect(2)'s, as the kernel reported it first; `None` for none.
    pub errno: Option<i32>,
    /// ICMP (type, code) that ended the connect, where one did.
    pub icmp: Option<(u8, u8)>,
    /// Retransmitted segments seen, SYNs included.
    pub retransmits: u32,
    /// Bytes received and acknowledged over its life (`tcp_sock`).
    pub bytes_received: Option<u64>,
    /// Bytes that the peer acknowledged.
    pub bytes_acked: Option<u64>,
    /// Requests that nginx has sent on it, this one included; more than 1 means that a pooled connection was reused.
    /// 0 when not counted.
    pub requests: u32,
    /// The accept queue of the listener at the moment of a failed AF_UNIX connect.
    pub queue: Option<Queue>,
    /// Whether a process had accepted the server's end; `None` when unknown.
    pub accepted: Option<bool>,
    /// Who closed or reset the other end, where that end is on this host and was seen.
    pub closer: Option<Closer>,
    /// The process that last received on the other end, seen where no hook tells who closes it. That it closed or
    /// died afterwards is a match in time.
    #[serde(default)]
    pub owner: Option<ProcessRef>,
}

/// The two ends of a socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Ends {
    /// TCP.
    Tcp {
        /// nginx's end.
        local: SocketAddr,
        /// The upstream's end.
        remote: SocketAddr,
    },
    /// AF_UNIX stream; the path as bound by the server (starts with NUL when abstract, empty when unknown).
    Unix {
        /// The server's path.
        path: BString,
    },
}

/// An accept queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// Connections waiting for accept(2).
    pub length: u32,
    /// The backlog, as listen(2) and somaxconn made it. The queue is full when `length > limit`.
    pub limit: u32,
}

/// The process in whose context the other end of a connection was closed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Closer {
    /// The closing process.
    pub process: ProcessRef,
    /// When.
    pub at: Nanos,
    /// How.
    pub how: CloseKind,
    /// The task was exiting (PF_EXITING): the close is a consequence of its death.
    pub exiting: bool,
    /// `task->exit_code` at that moment: signal in the low 7 bits, status in bits 8–15.
    pub exit_code: i32,
    /// Cgroup v2 id of the task; 0 or 1 when the host has no unified hierarchy.
    pub cgroup: u64,
}

/// How the other end went away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CloseKind {
    /// FIN: close(2) or shutdown(2).
    #[default]
    Closed,
    /// RST, since data was unread, or by SO_LINGER 0.
    Aborted,
    /// It was still in the accept queue when its listener closed.
    NeverAccepted,
    /// `ss -K` or another administrator's abort.
    Destroyed,
}

/// A listening socket opened or closed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listen {
    /// True: 7 → 10; false: 10 → 7, the last holder let it go.
    pub open: bool,
    /// `struct sock *`.
    pub id: u64,
    /// Inode number of its network namespace; 0 when unknown.
    pub netns: u32,
    /// Where.
    pub endpoint: Endpoint,
    /// In whose context.
    pub process: ProcessRef,
    /// That task was exiting, so its death closed the socket.
    pub exiting: bool,
    /// Its exit code then.
    pub exit_code: i32,
    /// The backlog, for `open`.
    pub backlog: u32,
}

/// A place to listen.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Endpoint {
    /// TCP address; unspecified for a wildcard.
    Tcp(SocketAddr),
    /// AF_UNIX path; starts with NUL when abstract.
    Unix(BString),
}

impl Endpoint {
    /// Whether a connect to `self` would reach a listener bound to `bound` (wildcards, IPv4-mapped addresses).
    pub fn reaches(&self, bound: &Endpoint) -> bool {
        match (self, bound) {
            (Endpoint::Unix(a), Endpoint::Unix(b)) => a == b,
            (Endpoint::Tcp(a), Endpoint::Tcp(b)) => {
                let (want, have) = (a.ip().to_canonical(), b.ip().to_canonical());
                let wildcard = match b.ip() {
                    IpAddr::V4(ip) => ip.is_unspecified() && want.is_ipv4(),
                    // A dual-stack wildcard takes both families unless IPV6_V6ONLY was set, which is rare.
                    IpAddr::V6(ip) => ip.is_unspecified(),
                };
                a.port() == b.port() && (want == have || wildcard)
            }
            _ => false,
        }
    }
}

/// A process ended: all its threads are gone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Exit {
    /// Who.
    pub process: ProcessRef,
    /// Its parent.
    pub parent: Pid,
    /// `exit_code` as wait(2) tells it: signal in the low 7 bits, 0x80 core dumped, status in bits 8–15.
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
    /// The limiting cgroup's path below the hierarchy's root.
    pub limit_cgroup: Option<String>,
    /// Its limit in bytes.
    pub limit_bytes: Option<u64>,
    /// The victim's own cgroup.
    pub victim_cgroup: Option<String>,
    /// Victim's anonymous + file + shmem resident set in bytes.
    pub rss_bytes: Option<u64>,
}

/// What /proc knew of a living process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// Which.
    pub process: ProcessRef,
    /// Parent.
    pub parent: Pid,
    /// The executable's path in its own root.
    pub exe: Option<BString>,
    /// The command line, arguments joined by spaces, at most 256 bytes; hostile.
    pub command: BString,
    /// systemd unit, e.g. `php8.2-fpm.service`.
    pub unit: Option<String>,
    /// Container id (64 hexadecimal digits) or name.
    pub container: Option<String>,
    /// Cgroup path.
    pub cgroup: Option<String>,
    /// Effective uid.
    pub uid: u32,
}

/// Who listens at one place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointInfo {
    /// The place that was asked for.
    pub endpoint: Endpoint,
    /// In this network namespace.
    pub netns: u32,
    /// The listeners that a connect to it reaches, with every process that holds them. Empty: nobody listens.
    pub listeners: Vec<ListenerInfo>,
    /// Listeners a human would compare with; only filled when nobody listens.
    pub near: Vec<NearListener>,
    /// AF_UNIX: what is at the path. `None` for TCP.
    pub path: Option<PathKind>,
    /// Looked up because an attempt failed (true) or part of the start snapshot (false).
    pub asked: bool,
    /// When the descriptors that name the holders were read: who was born later may hold a listener unnamed. 0 when
    /// unknown.
    #[serde(default)]
    pub holders_at: Nanos,
}

/// One listening socket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListenerInfo {
    /// Where it is bound.
    pub bound: Endpoint,
    /// Socket inode; 0 when unknown.
    pub inode: u64,
    /// Its accept queue.
    pub queue: Option<Queue>,
    /// Every process that has it open.
    pub holders: Vec<ProcessRef>,
    /// Whether each holder was asleep in accept/epoll (false) or all were running or blocked elsewhere (true).
    pub all_busy: Option<bool>,
}

/// A listener near the place that nobody listens at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NearListener {
    /// Where it is bound.
    pub bound: Endpoint,
    /// In which network namespace.
    pub netns: u32,
    /// Who holds it.
    pub process: ProcessRef,
    /// Why it is near.
    pub why: Nearness,
}

/// Why a listener is worth comparing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Nearness {
    /// The same port on another address.
    SamePort,
    /// The same port in another network namespace.
    OtherNamespace,
    /// A socket in the same directory.
    SameDirectory,
    /// The same program that listened there before, elsewhere.
    SameProgram,
}

/// What a socket's path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathKind {
    /// Nothing there.
    Missing,
    /// A socket.
    Socket,
    /// Something else.
    Other,
    /// It could not be looked at.
    Unknown,
}

/// The walk of a path as a worker with its uid, gid and groups, in its mount namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathWalk {
    /// The worker it was walked for.
    pub worker: Pid,
    /// The whole path.
    pub path: BString,
    /// The worker's file-system uid, gid and supplementary groups, user name when known.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// The worker's user name.
    pub user: Option<String>,
    /// The first component that refuses the worker, if the permission bits refuse at all.
    pub refused: Option<RefusedAt>,
    /// The first component that does not exist.
    pub missing: Option<BString>,
    /// Active LSMs (`/sys/kernel/security/lsm`), and the worker's own label where it has one.
    pub lsm: Option<String>,
}

/// The path component that says no.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefusedAt {
    /// Absolute path up to and including the component.
    pub path: BString,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Owner's and group's names when known.
    pub owner: Option<String>,
    /// Group name.
    pub group: Option<String>,
    /// Permission bits, e.g. 0o660.
    pub mode: u32,
    /// True: search permission on a directory; false: write permission on the socket.
    pub search: bool,
}

/// The kernel's own route look-up (RTM_GETROUTE) towards an upstream, in a worker's network namespace and as its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteLookup {
    /// The worker.
    pub worker: Pid,
    /// Towards.
    pub to: IpAddr,
    /// In this network namespace.
    pub netns: u32,
    /// What it answered: EACCES is a prohibit route, EHOSTUNREACH an unreachable one, EINVAL a blackhole, ENETUNREACH
    /// none at all. `None`: there is a route.
    pub errno: Option<i32>,
}

/// What may refuse a worker's socket(2) or connect(2): security modules, seccomp, BPF programs of its cgroup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guards {
    /// The worker.
    pub worker: Pid,
    /// `/sys/kernel/security/lsm`: `capability,landlock,apparmor`; `None` where it cannot be read.
    pub modules: Option<String>,
    /// The mandatory policy that the worker runs under.
    pub confinement: Option<Confinement>,
    /// Whether a seccomp filter is loaded; `None` where the kernel does not say.
    pub seccomp: Option<bool>,
    /// BPF programs that decide about TCP connects in its cgroup and those above; `None` where the kernel does not say.
    pub cgroup_programs: Option<u32>,
}

/// A security module's hold on a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// `apparmor`, `selinux`, `smack`.
    pub module: String,
    /// The process's label (`/proc/PID/attr/current`); hostile.
    pub label: String,
    /// Whether the module refuses what the label forbids, or only reports it; `None` where it does not say.
    pub enforced: Option<bool>,
}

/// A service that failed and was not started again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedUnit {
    /// `php8.2-fpm.service`.
    pub unit: String,
    /// systemd's word: `exit-code`, `signal`, `core-dump`, `oom-kill`, `timeout`, `watchdog`, `start-limit-hit`, …
    pub result: String,
    /// The exit status of its main process; `None` when that did not exit by itself.
    pub exit_status: Option<i32>,
    /// When it failed.
    pub at: Option<Nanos>,
}

/// Descriptor limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The worker.
    pub worker: Pid,
    /// RLIMIT_NOFILE soft limit.
    pub nofile: u64,
    /// Open descriptors at that moment.
    pub open: u64,
    /// fs.file-max.
    pub file_max: u64,
    /// Files open on the system (`fs.file-nr`).
    pub file_used: u64,
}

/// Local ports towards one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// Towards.
    pub remote: SocketAddr,
    /// In this network namespace.
    pub netns: u32,
    /// `net.ipv4.ip_local_port_range`.
    pub low: u16,
    /// Its end, inclusive.
    pub high: u16,
    /// Sockets towards `remote` with a local port in the range, TIME_WAIT included.
    pub used: u32,
}

/// The server's side of a connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerSocket {
    /// nginx's socket ([`Socket::id`]).
    pub of: u64,
    /// False: it waits in the accept queue, or nobody holds it.
    pub accepted: Option<bool>,
    /// Who holds it.
    pub holders: Vec<ProcessRef>,
    /// Unread bytes in its receive queue.
    pub unread: Option<u32>,
}

/// The memory cgroup that limits an OOM victim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryLimit {
    /// The victim.
    pub victim: ProcessRef,
    /// The cgroup with the smallest limit on the way up, below the hierarchy's root.
    pub cgroup: String,
    /// Its limit in bytes.
    pub limit_bytes: u64,
    /// What it uses, after the kill.
    pub usage_bytes: Option<u64>,
}

/// An nginx process under trace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerInfo {
    /// Which.
    pub process: ProcessRef,
    /// Executable path in its root.
    pub exe: BString,
    /// `nginx/1.22.1`.
    pub version: Option<String>,
    /// Container id.
    pub container: Option<String>,
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
