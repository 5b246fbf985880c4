//! What only the live machine knows, looked up at the start or when a request failed.

use std::net::{IpAddr, SocketAddr};

use bstr::BString;
use serde::{Deserialize, Serialize};

use super::{Endpoint, Nanos, Pid, ProcessRef, Queue};

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
    /// Container: its whole id, mostly 64 hexadecimal digits, or the name of one without an id (LXC, systemd-nspawn).
    pub container: Option<String>,
    /// What that container is called, as far as the machine's files say.
    #[serde(default)]
    pub container_names: Option<ContainerNames>,
    /// Cgroup path.
    pub cgroup: Option<String>,
    /// Effective uid.
    pub uid: u32,
    /// Inode number of its mount namespace.
    #[serde(default)]
    pub mounts: Option<u32>,
}

/// The shortest run of hexadecimal digits that is taken for a container's id; runtimes use 64, some tools 32.
const MIN_CONTAINER_ID: usize = 32;
/// How much of a container's id is shown, as Docker does it.
const SHORT_CONTAINER_ID: usize = 12;

/// Whether this is a container's id, rather than its name.
pub fn is_container_id(text: &str) -> bool {
    text.len() >= MIN_CONTAINER_ID && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A container as it is shown to people: an id by its first 12 digits, a name whole.
pub fn short_container(container: &str) -> &str {
    if is_container_id(container) { &container[..SHORT_CONTAINER_ID] } else { container }
}

/// What people call a container; every name is hostile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerNames {
    /// Who made it, where its control group or that one's state says so.
    pub runtime: Option<Runtime>,
    /// Its name: in its pod, where it is in one, else in its runtime.
    pub name: Option<String>,
    /// Its pod.
    pub pod: Option<PodName>,
}

/// A pod of Kubernetes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Who makes containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Runtime {
    /// dockerd.
    Docker,
    /// podman.
    Podman,
    /// containerd for the kubelet.
    Containerd,
    /// CRI-O for the kubelet.
    Crio,
    /// nerdctl with containerd.
    Nerdctl,
}

impl ContainerNames {
    /// `web`, or `shop/web-7d9f/php` in a pod; `None` without a name.
    pub fn label(&self) -> Option<String> {
        let name = self.name.as_deref();
        match &self.pod {
            Some(PodName { namespace, name: pod }) => {
                let inside = name.map_or(String::new(), |name| format!("/{name}"));
                Some(format!("{namespace}/{pod}{inside}"))
            }
            None => name.map(str::to_owned),
        }
    }
}

/// Who listens at one place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointInfo {
    /// The place that was asked for.
    pub endpoint: Endpoint,
    /// In this network namespace.
    pub netns: u32,
    /// The listeners that a connect to it reaches, with every process that holds them. Empty: nothing listens.
    pub listeners: Vec<ListenerInfo>,
    /// Listeners a human would compare with, the nearest first and at most [`NEAR_MAX`]; only filled when nothing listens.
    pub near: Vec<NearListener>,
    /// AF_UNIX: what is at the path. `None` for TCP.
    pub path: Option<PathKind>,
    /// Looked up because an attempt failed (true) or part of the start snapshot (false).
    pub asked: bool,
    /// When the descriptors that name the holders were read: who was born later may hold a listener unnamed. 0 when
    /// unknown.
    #[serde(default)]
    pub holders_at: Nanos,
    /// AF_UNIX: the socket file that the path leads to, if there is one.
    #[serde(default)]
    pub file: Option<FileNumbers>,
}

/// A file, as the kernel itself numbers it; stat(2) shows others on some file systems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileNumbers {
    /// `dev_t`.
    pub device: u32,
    /// The inode's low 32 bits.
    pub inode: u32,
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
    /// AF_UNIX: the file that it is bound to.
    #[serde(default)]
    pub file: Option<FileNumbers>,
}

/// Near misses that a look-up reports at most: more would not help.
pub const NEAR_MAX: usize = 8;

/// A listener near the place where nothing listens.
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
    /// A socket of this very name, by a process that sees the same files: its file is gone, or another one.
    SamePath,
    /// A socket of this very name, by a process that sees other files.
    OtherFiles,
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

/// A container that does not run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownContainer {
    /// Its id.
    pub id: String,
    /// What it is called.
    pub names: ContainerNames,
    /// The exit code of its first process.
    pub exit_code: Option<i32>,
    /// Its memory limit was hit.
    pub oom_killed: bool,
    /// It is being started again and again.
    pub restarting: bool,
    /// When it ended, in microseconds since the Unix epoch.
    pub finished_us: Option<i64>,
    /// What its runtime says of why it did not start; hostile.
    pub error: Option<String>,
    /// Where its ports are published; no address means all.
    pub publishes: Vec<(Option<IpAddr>, u16)>,
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PeerSocket {
    /// nginx's socket ([`super::Socket::id`]).
    pub of: u64,
    /// False: it waits in the accept queue, or no process holds it.
    pub accepted: Option<bool>,
    /// Who holds it.
    pub holders: Vec<ProcessRef>,
    /// Unread bytes in its receive queue.
    pub unread: Option<u32>,
    /// Bytes that it has sent and that were acknowledged, over the connection's life; `None` for AF_UNIX.
    #[serde(default)]
    pub sent: Option<u64>,
    /// Bytes that it has received over the connection's life; `None` for AF_UNIX.
    #[serde(default)]
    pub received: Option<u64>,
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

/// Whose an address is, as seen from one network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressOwner {
    /// The address.
    pub ip: IpAddr,
    /// From here.
    pub from: u32,
    /// Whose.
    pub owner: Owner,
}

/// Who calls an address its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Owner {
    /// This network namespace of the host: the asking one, or else the only one.
    Namespace(u32),
    /// None of this host's.
    Nobody,
    /// Several others.
    Several,
}

/// The addresses that a network namespace calls its own, loopback left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceAddresses {
    /// Its inode number.
    pub netns: u32,
    /// A process that lives in it.
    pub process: ProcessRef,
    /// At most [`ADDRESSES_MAX`].
    pub addresses: Vec<IpAddr>,
    /// What leads out of it; `None` where that is not known.
    #[serde(default)]
    pub links: Option<Links>,
}

/// Where a process faulted, by the kernel's log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultPlace {
    /// Whose fault.
    pub process: ProcessRef,
    /// The base name of the file that holds the instruction; hostile.
    pub module: BString,
    /// The instruction's offset in that file; `None` where the kernel does not log it (before 6.4).
    pub offset: Option<u64>,
}

/// What leads out of a network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Links {
    /// The namespaces of this host at the other ends of its interfaces, by inode number.
    pub to: Vec<u32>,
    /// Whether one of its interfaces is not made by software, so that it may lead to other hosts.
    pub outside: bool,
}

/// Addresses of one namespace that are reported at most.
pub const ADDRESSES_MAX: usize = 64;

/// An nginx process under trace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerInfo {
    /// Which.
    pub process: ProcessRef,
    /// Executable path in its root.
    pub exe: BString,
    /// `nginx/1.22.1`.
    pub version: Option<String>,
    /// Container, in the form of [`ProcessInfo::container`].
    pub container: Option<String>,
}
