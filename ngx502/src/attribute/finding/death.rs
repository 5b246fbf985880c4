//! A process ended: of what, and by whose hand.

use std::fmt::{self, Display as _};
use std::rc::Rc;

use serde::{Serialize, Serializer};

use super::listener::Near;
use super::manager::ServiceManager;
use super::{On, Page, say};
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
    /// Of what.
    #[serde(flatten)]
    pub how: How,
    /// When; JSON's `before_us` counts from it.
    #[serde(skip)]
    pub at: Nanos,
    /// Listeners of the same program elsewhere, one of which may be the upstream now.
    pub near: Vec<Near>,
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
    /// A fault or abort of its own.
    Crashed {
        /// SIGSEGV and its kin.
        signal: SignalNumber,
        /// The faulting address in hexadecimal, `0x8`, where the signal tells one.
        #[serde(serialize_with = "hexadecimal")]
        address: Option<u64>,
        /// Whether a core was dumped.
        core: bool,
    },
    /// It exited by itself.
    Exited {
        /// The exit code.
        code: i32,
        /// The signal that asked it to before, if one did.
        asked: Option<Asked>,
    },
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
            match (self.rule(signal), self.relation) {
                (Some(rule), _) => write!(f, ", its {}, as it does {}", rule.sender, rule.occasion),
                (None, None) => Ok(()),
                (None, Some(Relation::Parent)) => f.write_str(", its own parent"),
                (None, Some(Relation::Init)) => f.write_str(", the init system"),
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
    fn time_limit(&self, signal: SignalNumber) -> Option<String> {
        let setting = self.rule(signal)?.setting?;
        let pool = self.pool.as_deref().unwrap_or("the pool's configuration");
        Some(setting.replace(servers::POOL, pool))
    }
}

impl Death {
    fn subject(&self, on: &On<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.victim.full().fmt(f)?;
        let role = match self.role {
            Role::LastListener => ", the last listener on ",
            Role::Server => ", which served the connection to ",
        };
        say(f, &[role, on.target, ","])
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
            How::Crashed { signal, core, .. } => {
                write!(f, " crashed with {signal}{when}{}", if *core { ", core dumped" } else { "" })
            }
            How::Exited { code, asked: None } => write!(f, " exited{when} with code {code}"),
            How::Exited { code, asked: Some(Asked { signal, sender, after_us }) } => {
                let sent = sender.sent(*signal, &self.victim);
                write!(f, " exited{when} with code {code}, {after_us} after {sent}")
            }
        }
    }

    fn fix(&self, _on: &On<'_>, lines: &mut Vec<String>) {
        let manager = ServiceManager::of(&self.victim);
        match &self.how {
            How::OomKilled(OomKill { system_wide: Some(true), .. }) => {
                lines.push("add memory, or limit what uses most of it: ps aux --sort=-rss | head".into());
            }
            How::OomKilled(OomKill { system_wide: Some(false), .. }) => lines.push(manager.more_memory()),
            How::Killed { signal, sender: Some(sender), .. } => lines.extend(sender.time_limit(*signal)),
            How::Crashed { core: true, .. } => lines.push(format!("coredumpctl info {}", self.victim.pid)),
            How::OomKilled(_) | How::Killed { .. } | How::Crashed { .. } | How::Exited { .. } => {}
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
