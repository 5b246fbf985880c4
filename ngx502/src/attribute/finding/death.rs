//! A process ended: of what, and by whose hand.

use std::fmt::{self, Display as _};
use std::rc::Rc;

use bstr::BString;
use serde::{Serialize, Serializer};

use super::listener::Near;
use super::manager::ServiceManager;
use super::{Fix, On, Page, lossy_or_null, say};
use crate::attribute::servers::{self, SignalRule};
use crate::attribute::verdict::{Cause, ProcessFacts};
use crate::event::{Nanos, Oom};
use crate::units::{Bytes, Micros, SignalNumber};

/// The end of the upstream's process.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Death {
    /// Who ended.
    pub victim: Rc<ProcessFacts>,
    /// Its part in the failure.
    pub role: Role,
    /// Another process, where the victim ended because that one did: the rest is about that one's end. Null else.
    pub ended_with: Option<EndedWith>,
    /// Of what.
    #[serde(flatten)]
    pub how: How,
    /// When; JSON's `before_us` counts from it.
    #[serde(skip)]
    pub at: Nanos,
    /// Listeners of the same program elsewhere, one of which may be the upstream now.
    pub near: Vec<Near>,
}

/// A process whose end was another's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EndedWith {
    /// The one that ended first.
    #[serde(flatten)]
    pub process: Rc<ProcessFacts>,
    /// What ties them.
    pub tie: Tie,
}

/// What lets one process end with another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tie {
    /// The other was the first of its PID namespace: a container's.
    PidNamespace,
    /// The other was its parent, and it had asked for a signal then (`PR_SET_PDEATHSIG`).
    ParentDeathSignal,
}

/// The victim's part in the failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It was the last to listen; its death came before the failure.
    LastListener,
    /// It served the connection; its death was the failure.
    Server,
}

/// Of what a process ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum How {
    /// The OOM killer chose it.
    OomKilled(OomKill),
    /// It ended by a signal that was sent, or upon one.
    Killed {
        /// Which.
        signal: SignalNumber,
        /// By whom; null when that was not observed.
        sender: Option<Sender>,
        /// Whether the signal asks a process to end, and lets it tidy up.
        orderly: bool,
        /// The exit code, where it exited with that of a process that ends upon the signal.
        code: Option<i32>,
        /// From the signal to the close, where it closed the connection while it still lived.
        after_us: Option<Micros>,
    },
    /// A fault or abort of its own, or a signal that nobody else sent.
    Crashed {
        /// SIGSEGV and its kin.
        signal: SignalNumber,
        /// The faulting address in hexadecimal, `0x8`, where the signal tells one.
        #[serde(serialize_with = "hexadecimal")]
        address: Option<u64>,
        /// The file that holds the instruction, by its base name; null unless the kernel logged it.
        #[serde(serialize_with = "lossy_or_null")]
        module: Option<BString>,
        /// The instruction's offset in that file in hexadecimal, `0x5219`; null unless the kernel logged it (since 6.4).
        #[serde(serialize_with = "hexadecimal")]
        offset: Option<u64>,
        /// Whether a core was dumped.
        core: bool,
        /// What it had done.
        own: Own,
    },
    /// It exited by itself.
    Exited {
        /// The exit code.
        code: i32,
        /// The signal that asked it to before, if one did.
        asked: Option<Asked>,
        /// Its parent, where that had ended before; null else.
        orphaned: Option<Orphaned>,
    },
}

/// What a process did that it was ended for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Own {
    /// A fault of its code, or abort(3).
    Fault,
    /// It wrote to a connection or pipe that nobody reads.
    BrokenPipe,
    /// A timer of its own ran out.
    Timer,
    /// It reached its limit of CPU time.
    CpuLimit,
    /// A file reached its limit of size.
    FileSizeLimit,
    /// It sent itself the signal.
    Sent,
}

/// A parent that had ended before its child.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Orphaned {
    /// The parent.
    #[serde(flatten)]
    pub process: Rc<ProcessFacts>,
    /// The signal that ended it; null where it exited.
    pub signal: Option<SignalNumber>,
    /// Who sent that; null where nobody was seen to.
    pub sender: Option<Sender>,
    /// From its end to the child's.
    pub after_us: Micros,
}

/// An OOM kill, as far as the kernel's records tell of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct OomKill {
    /// True: the whole system ran out; false: a memory cgroup did; null: not observed.
    pub system_wide: Option<bool>,
    /// The cgroup at its limit, else the victim's.
    pub cgroup: Option<String>,
    /// That cgroup's limit, in bytes.
    pub limit_bytes: Option<u64>,
    /// The victim's resident memory, in bytes.
    pub rss_bytes: Option<u64>,
    /// Whose allocation was the last straw, unless the victim's own: neither the culprit nor, as a rule, the victim.
    pub trigger: Option<Rc<ProcessFacts>>,
}

/// Who sent a signal.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sender {
    /// The process.
    #[serde(flatten)]
    pub process: Rc<ProcessFacts>,
    /// What it is to the victim; null when nothing special.
    pub relation: Option<Relation>,
    /// What a parent had been told itself just before, where that was to stop or to reload; null else.
    pub upon: Option<Box<Asked>>,
    /// Where php-fpm keeps the time limit that such a signal enforces: `pool www of /etc/…`.
    #[serde(skip)]
    pub pool: Option<String>,
}

/// What the sender of a signal is to the one that got it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relation {
    /// Its parent: a pool's master, a shell.
    Parent,
    /// systemd as process 1.
    ServiceManager,
    /// Process 1 of another kind.
    Init,
    /// The runtime of the container that it is in.
    ContainerRuntime,
    /// A daemon that kills so that memory is left: systemd-oomd, earlyoom.
    MemoryDaemon,
}

/// A signal that asked a process to end.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Asked {
    /// Which.
    pub signal: SignalNumber,
    /// By whom.
    pub sender: Sender,
    /// From the signal to the exit.
    pub after_us: Micros,
}

impl Own {
    /// What the kernel ends a process for with such a signal.
    pub(in crate::attribute) fn of(signal: i32) -> Self {
        match signal {
            13 => Own::BrokenPipe,
            14 | 26 | 27 => Own::Timer,
            25 => Own::FileSizeLimit,
            9 | 24 => Own::CpuLimit,
            _ => Own::Fault,
        }
    }

    /// What stands after the signal's name.
    fn why(self) -> &'static str {
        match self {
            Own::Fault => "",
            Own::BrokenPipe => " (it wrote to a connection or pipe that nobody reads any more)",
            Own::Timer => " (a timer of its own ran out: alarm, setitimer)",
            Own::CpuLimit => " (its limit of CPU time, RLIMIT_CPU)",
            Own::FileSizeLimit => " (a file of its reached the limit of size, RLIMIT_FSIZE)",
            Own::Sent => " (which it sent itself)",
        }
    }

    fn fix(self) -> Option<&'static str> {
        Some(match self {
            Own::Fault | Own::Sent => return None,
            Own::BrokenPipe => {
                "have the program ignore SIGPIPE, so that such a write fails with EPIPE instead"
            }
            Own::Timer => "handle the timer's signal, or set no timer where a library needs it for itself",
            Own::CpuLimit => "raise its limit of CPU time: LimitCPU= in its unit, ulimit -t in its shell",
            Own::FileSizeLimit => {
                "raise its limit of file sizes (LimitFSIZE=, ulimit -f), or rotate the file that grew: its log?"
            }
        })
    }
}

impl Orphaned {
    /// `, 12 ms after its parent, gunicorn[811], was killed with SIGKILL by sh[60]`.
    fn said(&self) -> impl fmt::Display {
        fmt::from_fn(|f| {
            write!(f, ", {} after its parent, {}, ", self.after_us, self.process.full())?;
            match (&self.signal, &self.sender) {
                (None, _) => f.write_str("ended"),
                (Some(signal), None) => write!(f, "ended by {signal}"),
                (Some(signal), Some(sender)) => {
                    f.write_str("was killed with ")?;
                    sender.sent(*signal, &self.process).fmt(f)
                }
            }
        })
    }
}

impl OomKill {
    /// What the kernel's record says.
    pub(in crate::attribute) fn new(oom: &Oom, trigger: Option<Rc<ProcessFacts>>) -> Self {
        Self {
            system_wide: oom.memcg.map(|memcg| !memcg),
            cgroup: oom.limit_cgroup.clone().or_else(|| oom.victim_cgroup.clone()),
            limit_bytes: oom.limit_bytes,
            rss_bytes: oom.rss_bytes,
            trigger,
        }
    }

    /// ` in cgroup … (limit 512 MiB)`.
    pub(super) fn scope(&self) -> impl fmt::Display {
        fmt::from_fn(|f| {
            match (self.system_wide, &self.cgroup) {
                (Some(true), _) => return f.write_str(" as the whole system ran out of memory"),
                (_, Some(cgroup)) => write!(f, " in cgroup {cgroup}")?,
                (Some(false), None) => f.write_str(" at the limit of its memory cgroup")?,
                (None, None) => return Ok(()),
            }
            self.limit_bytes.map_or(Ok(()), |limit| write!(f, " (limit {})", Bytes(limit)))
        })
    }
}

impl Sender {
    /// `SIGTERM by php-fpm[11], its master, as …`; `victim` got it.
    pub(super) fn sent(&self, signal: SignalNumber, victim: &ProcessFacts) -> impl fmt::Display {
        fmt::from_fn(move |f| {
            signal.fmt(f)?;
            f.write_str(" by ")?;
            self.process.full().fmt(f)?;
            if let Some(upon) = &self.upon {
                let parent = self.rule(signal).map_or("own parent", |rule| rule.sender);
                write!(f, ", its {parent}, {} after that was sent ", upon.after_us)?;
                return upon.sender.sent(upon.signal, &self.process).fmt(f);
            }
            match (self.rule(signal), self.relation) {
                (Some(rule), _) => write!(f, ", its {}, as it does {}", rule.sender, rule.occasion),
                (None, None) => Ok(()),
                (None, Some(Relation::Parent)) => f.write_str(", its own parent"),
                (None, Some(Relation::Init)) => f.write_str(", the init system"),
                (None, Some(Relation::MemoryDaemon)) => f.write_str(", which kills so that memory is left"),
                (None, Some(Relation::ContainerRuntime)) => {
                    f.write_str(", its container's runtime, as it does when the container is stopped")
                }
                (None, Some(Relation::ServiceManager)) => {
                    let occasion = servers::systemd_occasion(signal.0);
                    write!(f, ", the service manager, as it does {occasion}")?;
                    victim.unit.as_ref().map_or(Ok(()), |unit| write!(f, " {unit}"))
                }
            }
        })
    }

    /// Why a master sends such a signal to its workers.
    fn rule(&self, signal: SignalNumber) -> Option<&'static SignalRule> {
        let parent = self.relation == Some(Relation::Parent);
        servers::signal_rule(self.process.comm.as_bytes(), signal.0).filter(|_| parent)
    }

    /// How to change the time limit that a supervising parent enforces with such a signal.
    fn time_limit(&self, signal: SignalNumber) -> Option<Fix> {
        let setting = self.rule(signal)?.setting.filter(|_| self.upon.is_none())?;
        let pool = self.pool.as_deref().unwrap_or("the pool's configuration");
        Some(Fix::advice(setting.replace(servers::POOL, pool)))
    }
}

impl Death {
    fn subject(&self, on: &On<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.victim.full().fmt(f)?;
        let role = match self.role {
            Role::LastListener => ", the last listener on ",
            Role::Server => ", which served the connection to ",
        };
        say(f, &[role, on.target, ","])?;
        let Some(EndedWith { process, tie }) = &self.ended_with else { return Ok(()) };
        let contained = self.victim.container.is_some() && self.victim.container == process.container;
        let name = process.name();
        match tie {
            Tie::PidNamespace if contained => {
                write!(f, " ended with {name}, the first process of its container, which")
            }
            Tie::PidNamespace => {
                write!(f, " ended with {name}, the first process of its PID namespace, which")
            }
            Tie::ParentDeathSignal => write!(f, " ended with its parent, {name} (PR_SET_PDEATHSIG), which"),
        }
    }

    /// How long before the failure it ended, where it did not end with it.
    fn when(&self, on: &On<'_>) -> impl fmt::Display {
        let when = (self.role == Role::LastListener).then(|| on.when(self.at));
        fmt::from_fn(move |f| when.as_ref().map_or(Ok(()), |when| when.fmt(f)))
    }
}

impl Page for Death {
    fn cause(&self) -> Cause {
        match self.how {
            How::OomKilled(_) => Cause::OomKilled,
            How::Killed { .. } => Cause::Killed,
            How::Crashed { .. } => Cause::Crashed,
            How::Exited { .. } => Cause::Exited,
        }
    }

    fn sentence(&self, on: &On<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.subject(on, f)?;
        let when = self.when(on);
        match &self.how {
            How::OomKilled(kill) if *kill == OomKill::default() => {
                write!(f, " was OOM-killed{when}; which limit it hit was not observed")
            }
            How::OomKilled(kill) => write!(f, " was OOM-killed{when}{}", kill.scope()),
            How::Killed { signal, sender: None, .. } => write!(f, " was killed with {signal}{when}"),
            How::Killed { signal, sender: Some(sender), code, after_us, .. } => {
                match (code, after_us) {
                    (_, Some(after)) => write!(f, " closed it {after} after ")?,
                    (Some(_), None) => write!(f, " ended{when} after ")?,
                    (None, None) => {
                        f.write_str(" was killed")?;
                        when.fmt(f)?;
                        f.write_str(" with ")?;
                    }
                }
                sender.sent(*signal, &self.victim).fmt(f)
            }
            How::Crashed { signal, address, module, offset, core, own } => {
                write!(f, " crashed with {signal}{}", own.why())?;
                if let Some(module) = module {
                    write!(f, " in {module}")?;
                    offset.map_or(Ok(()), |offset| write!(f, "+{offset:#x}"))?;
                    address.map_or(Ok(()), |address| write!(f, " accessing {address:#x}"))?;
                }
                when.fmt(f)?;
                f.write_str(if *core { ", core dumped" } else { "" })
            }
            How::Exited { code, asked: None, orphaned } => {
                write!(f, " exited{when} with code {code}")?;
                orphaned.as_ref().map_or(Ok(()), |parent| parent.said().fmt(f))
            }
            How::Exited { code, asked: Some(Asked { signal, sender, after_us }), .. } => {
                let sent = sender.sent(*signal, &self.victim);
                write!(f, " exited{when} with code {code}, {after_us} after {sent}")
            }
        }
    }

    fn fix(&self, _on: &On<'_>, lines: &mut Vec<Fix>) {
        let manager = ServiceManager::of(&self.victim);
        match &self.how {
            How::OomKilled(OomKill { system_wide: Some(true), .. }) => {
                lines.push(
                    Fix::command("ps aux --sort=-rss | head")
                        .remark("add memory, or limit what uses most of it"),
                );
            }
            How::OomKilled(OomKill { system_wide: Some(false), .. }) => lines.push(manager.more_memory()),
            How::Killed { sender: Some(Sender { relation: Some(Relation::MemoryDaemon), .. }), .. } => {
                lines.push(manager.more_memory());
            }
            How::Killed { signal, sender: Some(sender), .. } => lines.extend(sender.time_limit(*signal)),
            How::Crashed { core: true, .. } => {
                let crashed = self.ended_with.as_ref().map_or(self.victim.pid, |with| with.process.pid);
                lines.push(Fix::command(format!("coredumpctl info {crashed}")));
            }
            How::Crashed { own, .. } => lines.extend(own.fix().map(Fix::advice)),
            How::OomKilled(_) | How::Killed { .. } | How::Exited { .. } => {}
        }
        let lives = matches!(self.how, How::Killed { after_us: Some(_), .. });
        if !lives {
            lines.extend(manager.restart());
        }
        Near::ask(&self.near, lines);
    }

    fn moment(&self) -> Option<Nanos> {
        Some(self.at)
    }
}

fn hexadecimal<S: Serializer>(address: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    address.map(|address| format!("{address:#x}")).serialize(serializer)
}
