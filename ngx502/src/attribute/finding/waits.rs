//! What kept the processes that could have answered.

use std::fmt::{self, Display as _};
use std::rc::Rc;

use serde::Serialize;

use super::fix::quoted;
use super::manager::ServiceManager;
use super::process::full_or;
use super::waiting::AcceptQueue;
use super::{Fix, On, Page};
use crate::attribute::servers;
use crate::attribute::verdict::{Cause, ProcessFacts};
use crate::units::{Bytes, Micros};

/// Processes that were stuck, and on what.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stuck {
    /// The first of them.
    #[serde(skip)]
    pub process: Rc<ProcessFacts>,
    /// On what.
    #[serde(flatten)]
    pub reason: Reason,
    /// What each of them was found in, the longest first.
    pub waits: Vec<Wait>,
    /// How many processes could have answered, and how many of them were stuck so.
    pub pool: Pool,
    /// The accept queue, where none of them had accepted the connection.
    #[serde(skip)]
    pub queue: Option<AcceptQueue>,
}

/// Processes that could have answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Pool {
    /// All of them.
    pub workers: usize,
    /// Those that were stuck on the same.
    pub waiting: usize,
}

/// What a process is stuck on.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Reason {
    /// Another socket's answer.
    Dependency {
        /// Which.
        #[serde(skip)]
        on: Peer,
        /// What it waits for there.
        #[serde(skip)]
        what: Awaits,
        /// Whether an event loop watches it, rather than a thread being blocked on it.
        #[serde(skip)]
        events: bool,
    },
    /// It does not run at all.
    Paused {
        /// Why.
        how: Pause,
        /// Who stopped or traces it; null where that is not known.
        by: Option<Rc<ProcessFacts>>,
    },
    /// It computes.
    Computes {
        /// Thousandths of a CPU that it used as it was looked at.
        cpu_permille: u32,
    },
    /// Its cgroup's quota holds it.
    Throttled {
        /// Path of the cgroup.
        cgroup: String,
        /// CPU time a period.
        quota_us: Micros,
        /// Length of a period.
        period_us: Micros,
    },
    /// A lock that another one holds.
    Lock {
        /// The file; null for a mutex of the process's own.
        path: Option<String>,
        /// Who holds it; null where that is not known, and for a mutex.
        holder: Option<Rc<ProcessFacts>>,
    },
    /// The disk, or a file system of a network or of a process.
    Disk {
        /// The system call; null where that is not known.
        call: Option<String>,
        /// The file; null where that is not known.
        path: Option<String>,
    },
    /// A pipe that nobody empties.
    Pipe {
        /// Who reads it; null where nobody was found.
        reader: Option<Rc<ProcessFacts>>,
    },
    /// Its memory cgroup is at its limit.
    Memory {
        /// Path of the cgroup.
        cgroup: String,
        /// In use.
        usage_bytes: u64,
        /// The limit, or the high mark.
        limit_bytes: u64,
        /// True: out of memory, with the OOM killer off; false: slowed down at the high mark.
        under_oom: bool,
    },
    /// It has no descriptor for another connection.
    Files {
        /// Open ones, as many as it may have.
        open: u64,
    },
}

/// Why a process does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pause {
    /// By a signal.
    Stopped,
    /// By a debugger or tracer.
    Traced,
    /// With its cgroup.
    Frozen,
}

/// What is awaited on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaits {
    /// An answer.
    Answer,
    /// The connection itself.
    Connection,
    /// Room to send.
    Room,
}

/// The other end of a socket.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Peer {
    /// Its address or path; null where that is not known.
    pub address: Option<String>,
    /// The process there; null where that is not known, and on other hosts.
    pub process: Option<Rc<ProcessFacts>>,
}

/// What one process was found in.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Wait {
    /// Which.
    pub process: Rc<ProcessFacts>,
    /// The thread; null where all of them are meant.
    pub thread: Option<u32>,
    /// Of which kind.
    pub kind: WaitKind,
    /// The address or file; null where there is none, or it is not known.
    pub on: Option<String>,
    /// For how long; null where that is not known.
    pub since_us: Option<Micros>,
    /// The other end of a socket or pipe, or who holds a lock; null for other kinds.
    pub peer: Option<Peer>,
}

/// The kind of a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WaitKind {
    /// A TCP connection.
    Tcp,
    /// A UDP socket.
    Udp,
    /// An AF_UNIX connection.
    Unix,
    /// A lock on a file.
    FileLock,
    /// A mutex.
    Mutex,
    /// Uninterruptible sleep, or a call of files.
    Disk,
    /// A pipe.
    Pipe,
    /// The CPU: it computes.
    Cpu,
    /// Its CPU quota.
    CpuQuota,
    /// It is stopped, traced or frozen.
    Pause,
    /// Memory.
    Memory,
    /// Descriptors.
    Descriptors,
    /// A sleep of its own.
    Sleep,
    /// Work.
    Idle,
    /// Another system call.
    Other,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.process.name();
        let on = self.on.as_deref().unwrap_or("what could not be read");
        match self.kind {
            WaitKind::Tcp | WaitKind::Udp | WaitKind::Unix => write!(f, "{name} waiting for {on}")?,
            WaitKind::FileLock => write!(f, "{name} waiting for a lock on {on}")?,
            WaitKind::Mutex => write!(f, "{name} waiting for a mutex of its own")?,
            WaitKind::Disk => write!(f, "{name} in {on}, which does not return")?,
            WaitKind::Pipe => write!(f, "{name} writing to a full pipe")?,
            WaitKind::Cpu => write!(f, "{name} computing ({on} of a CPU)")?,
            WaitKind::CpuQuota => write!(f, "{name} held by the CPU quota of {on}")?,
            WaitKind::Pause => write!(f, "{name} {on}")?,
            WaitKind::Memory => write!(f, "{name} waiting for memory in {on}")?,
            WaitKind::Descriptors => write!(f, "{name} out of descriptors ({on} open)")?,
            WaitKind::Sleep => write!(f, "{name} sleeping by its own wish")?,
            WaitKind::Idle => write!(f, "{name} waiting for work")?,
            WaitKind::Other => write!(f, "{name} in a system call that tells nothing")?,
        }
        if let Some(since) = self.since_us {
            write!(f, ", sent {since} before and not answered")?;
        }
        match self.peer.as_ref().and_then(|peer| peer.process.as_ref()) {
            Some(peer) => write!(f, " ({})", peer.name()),
            None => Ok(()),
        }
    }
}

impl Peer {
    /// `127.0.0.1:3306 (mysqld[77], mysql.service)`.
    fn said(&self) -> impl fmt::Display {
        fmt::from_fn(|f| match (&self.address, &self.process) {
            (Some(address), None) => f.write_str(address),
            (Some(address), Some(process)) => write!(f, "{address}, {}", process.full()),
            (None, process) => full_or(process.as_deref(), "a connection of its own").fmt(f),
        })
    }

    /// What tells more about the service of that port.
    fn ask(&self) -> Option<Fix> {
        let (_, port) = self.address.as_ref()?.rsplit_once(':')?;
        Some(match port {
            "3306" => Fix::directive("SHOW FULL PROCESSLIST;")
                .remark("on that database: what runs, and what waits for a lock"),
            "5432" => Fix::directive("SELECT pid, state, wait_event_type, query FROM pg_stat_activity;")
                .remark("on that database"),
            "6379" => Fix::command("redis-cli -h HOST SLOWLOG GET; redis-cli -h HOST CLIENT LIST"),
            "53" => Fix::command("dig NAME @RESOLVER").remark("is the resolver of /etc/resolv.conf up?"),
            _ => return None,
        })
    }
}

impl Stuck {
    /// `all 5 php-fpm workers of pool www`, or the process; and whether that is several.
    fn who(&self) -> (String, bool) {
        let Pool { workers, waiting } = self.pool;
        if workers < 2 {
            return (self.process.full().to_string(), false);
        }
        let all =
            if waiting == workers { format!("all {workers}") } else { format!("{waiting} of {workers}") };
        let pool = self.process.pool.as_ref().map_or(String::new(), |pool| format!(" of pool {pool}"));
        let unit = self.process.unit.as_ref().map_or(String::new(), |unit| format!(" ({unit})"));
        (format!("{all} {} processes{pool}{unit}", self.process.comm), true)
    }

    /// The shortest and the longest wait.
    fn since(&self) -> Option<(Micros, Micros)> {
        let all = || self.waits.iter().filter_map(|wait| wait.since_us);
        Some((all().min_by_key(|since| since.0)?, all().max_by_key(|since| since.0)?))
    }
}

impl Page for Stuck {
    fn cause(&self) -> Cause {
        match self.reason {
            Reason::Dependency { .. } => Cause::DependencySlow,
            Reason::Paused { .. } => Cause::Paused,
            Reason::Computes { .. } => Cause::CpuBound,
            Reason::Throttled { .. } => Cause::CpuThrottled,
            Reason::Lock { .. } => Cause::LockWait,
            Reason::Disk { .. } | Reason::Pipe { .. } => Cause::IoWait,
            Reason::Memory { .. } => Cause::MemoryPressure,
            Reason::Files { .. } => Cause::FdLimit,
        }
    }

    fn sentence(&self, on: &On<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (who, several) = self.who();
        f.write_str(&who)?;
        let verb = |one: &'static str, many: &'static str| if several { many } else { one };
        match &self.reason {
            Reason::Dependency { on, what, .. } => {
                match what {
                    Awaits::Answer => {
                        write!(f, " {} for an answer from {}", verb("waits", "wait"), on.said())?
                    }
                    Awaits::Connection => {
                        write!(f, " {} for a connection to {}", verb("waits", "wait"), on.said())?;
                    }
                    Awaits::Room => {
                        write!(f, " {} to {}, which reads nothing", verb("sends", "send"), on.said())?;
                    }
                }
                match self.since() {
                    Some((shortest, longest)) if shortest != longest => {
                        write!(f, ", for {shortest} to {longest} by now")?
                    }
                    Some((since, _)) => write!(f, ", for {since} by now")?,
                    None => {}
                }
            }
            Reason::Paused { how: Pause::Stopped, by } => {
                write!(f, " {} stopped by a signal (state T)", verb("is", "are"))?;
                by.as_ref().map_or(Ok(()), |by| write!(f, ", which {} sent", by.full()))?;
            }
            Reason::Paused { how: Pause::Traced, by } => {
                write!(f, " {} held by {}", verb("is", "are"), full_or(by.as_deref(), "a tracer"))?;
                f.write_str(", which traces it")?;
            }
            Reason::Paused { how: Pause::Frozen, .. } => {
                write!(f, " {} frozen with its control group, as docker pause does", verb("is", "are"))?;
            }
            Reason::Computes { cpu_permille } => {
                write!(f, " {}: {}% of a CPU", verb("computes", "compute"), cpu_permille / 10)?;
            }
            Reason::Throttled { cgroup, quota_us, period_us } => write!(
                f,
                " {} held by the CPU quota of cgroup {cgroup}: {quota_us} in every {period_us}",
                verb("is", "are")
            )?,
            Reason::Lock { path: Some(path), holder } => {
                write!(f, " {} for a lock on {path}", verb("waits", "wait"))?;
                holder.as_ref().map_or(Ok(()), |holder| write!(f, ", which {} holds", holder.full()))?;
            }
            Reason::Lock { path: None, holder } => {
                write!(f, " {} for a lock", verb("waits", "wait"))?;
                holder.as_ref().map_or(Ok(()), |holder| write!(f, " that {} holds", holder.full()))?;
            }
            Reason::Disk { call, path } => {
                write!(f, " {} for a file system", verb("waits", "wait"))?;
                match (call, path) {
                    (Some(call), Some(path)) => write!(f, ": {call}({path}) does not return")?,
                    (Some(call), None) => write!(f, ": {call}() does not return")?,
                    (None, _) => f.write_str(" (uninterruptible sleep)")?,
                }
            }
            Reason::Pipe { reader } => {
                let reader = full_or(reader.as_deref(), "nobody that was found");
                write!(f, " {} to a full pipe, which {reader} reads", verb("writes", "write"))?;
            }
            Reason::Memory { cgroup, usage_bytes, limit_bytes, under_oom } => {
                let (usage, limit) = (Bytes(*usage_bytes), Bytes(*limit_bytes));
                write!(f, " {} for memory: cgroup {cgroup} uses {usage} of {limit}", verb("waits", "wait"))?;
                f.write_str(if *under_oom { ", and its OOM killer is off" } else { ", its high mark" })?;
            }
            Reason::Files { open } => {
                write!(
                    f,
                    " {} no descriptor left for another connection: {open} are open",
                    verb("has", "have")
                )?;
            }
        }
        match &self.queue {
            Some(_) => write!(f, "; the connection to {} waits in its accept queue", (**on).target),
            None => Ok(()),
        }
    }

    fn fix(&self, _on: &On<'_>, lines: &mut Vec<Fix>) {
        let (who, manager) = (&self.process, ServiceManager::of(&self.process));
        match &self.reason {
            Reason::Dependency { on, .. } => {
                lines.extend(on.ask());
                lines.extend(on.process.as_ref().and_then(|peer| ServiceManager::of(peer).log()));
                lines.push(Fix::advice(
                    "give that call a time-out below nginx's read timeout, so that workers come free and the log says why",
                ));
            }
            Reason::Paused { how: Pause::Stopped, .. } => {
                lines.push(Fix::command(format!("kill -CONT {}", who.pid)))
            }
            Reason::Paused { how: Pause::Traced, by } => {
                lines.push(Fix::advice(by.as_ref().map_or("detach the tracer".to_owned(), |by| {
                    format!("detach or end the tracer, pid {}", by.pid)
                })));
            }
            Reason::Paused { how: Pause::Frozen, .. } => lines.push(manager.thaw()),
            Reason::Computes { .. } => {
                lines.push(
                    Fix::command(format!("perf top -p {}", who.pid))
                        .remark("or py-spy, rbspy, node --cpu-prof: what does it compute?"),
                );
                lines.push(Fix::advice(
                    "make that faster, or move it out of the request; more processes help only while there are CPUs",
                ));
            }
            Reason::Throttled { .. } => lines.push(manager.more_cpu()),
            Reason::Lock { path, holder } => {
                lines.push(Fix::command("lslocks").remark("who holds it"));
                if path.as_ref().is_some_and(|path| path.contains("sess_")) {
                    lines.push(Fix::advice(
                        "call session_write_close() before slow work, or keep sessions in Redis: a session is locked for its \
                         whole request",
                    ));
                }
                lines.extend(holder.as_ref().map(|holder| {
                    Fix::command(format!("cat /proc/{}/stack; ls -l /proc/{}/fd", holder.pid, holder.pid))
                        .remark("what its holder does")
                }));
            }
            Reason::Disk { path, .. } => {
                let path = path.as_ref().filter(|path| path.starts_with('/'));
                lines.extend(path.map(|path| Fix::command(format!("findmnt -T {}", quoted(path)))));
                lines.push(
                    Fix::command("iostat -x 1 3; cat /proc/pressure/io; dmesg | tail")
                        .remark("a slow disk, or an NFS or FUSE server that is gone"),
                );
            }
            Reason::Pipe { reader } => {
                lines.push(reader.as_ref().map_or(Fix::advice("start what reads it again"), |reader| {
                    Fix::command(format!("cat /proc/{}/stack", reader.pid))
                        .remark(format!("why {} does not read", reader.comm))
                }));
            }
            Reason::Memory { .. } => lines.push(manager.more_memory()),
            Reason::Files { .. } => {
                lines.push(
                    Fix::command(format!(
                        "ls -l /proc/{}/fd | awk '{{print $NF}}' | sort | uniq -c | sort -n | tail",
                        who.pid
                    ))
                    .remark("what it holds"),
                );
                lines.push(Fix::advice(
                    "raise LimitNOFILE= of its unit (--ulimit nofile= of its container), or find the leak",
                ));
            }
        }
        if let Some(queue) = self.queue.as_ref().filter(|_| matches!(self.reason, Reason::Computes { .. })) {
            lines.push(servers::backlog(who.comm.as_bytes(), queue.limit, queue.pool.as_deref()));
        }
    }
}
