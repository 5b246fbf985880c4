//! Nobody accepted a connect: what became of the listener, or what answered in its place.

use std::fmt;
use std::rc::Rc;

use bstr::{BString, ByteSlice};
use serde::{Serialize, Serializer};

use super::fix::{operand, quoted};
use super::manager::ServiceManager;
use super::{Fix, Moved, On, Page, lossy, place};
use crate::attribute::verdict::{Cause, ProcessFacts};
use crate::event::{
    ContainerNames, DownContainer, Endpoint, FailedUnit, Nanos, NearListener, Nearness, Pid, short_container,
};
use crate::time::Moment;

/// Why a connect met no listener.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Listener {
    /// A living process closed its listening socket.
    Stopped {
        /// Which.
        process: Rc<ProcessFacts>,
        /// When; null where the close was not observed.
        #[serde(skip)]
        at: Option<Nanos>,
        /// Whether it did so with this connection waiting to be accepted.
        while_waiting: bool,
        /// Listeners of the same program elsewhere.
        near: Vec<Near>,
    },
    /// Nobody listens there, nor did since tracing began.
    NotListening(NotListening),
    /// The listener lives, and its file does not lead to it.
    Replaced {
        /// The listener.
        process: Rc<ProcessFacts>,
        /// What nginx finds at the path: `missing` or `socket-left-behind`; null where that is not known.
        path: Option<PathIs>,
        /// Whether the listener's process sees other files than nginx: another mount namespace or root.
        other_files: bool,
    },
    /// A filter on the way answered with ICMP.
    Rejected {
        /// Type and code of the ICMP message.
        icmp: Icmp,
    },
    /// The listener lives, so that a filter answered.
    Filtered {
        /// The listener.
        process: Option<Rc<ProcessFacts>>,
    },
    /// The address is another host's.
    OnAnotherHost {
        /// Always true: a RST refused the connect.
        reset: bool,
    },
}

/// What is known of a place where nobody listens.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NotListening {
    /// The place.
    #[serde(skip)]
    pub endpoint: Endpoint,
    /// What the path is: `missing`, `socket-left-behind`, `not-a-socket`; null for TCP and where it is not known.
    pub path: Option<PathIs>,
    /// Whether every listener that came or went since the start of tracing would have been seen.
    pub watched: bool,
    /// The nearest listeners.
    pub near: Vec<Near>,
    /// Whether there may be more of them than were counted.
    pub near_cut: bool,
    /// Whose the address was before, where it was another namespace's; null otherwise.
    pub moved: Option<Moved>,
    /// Containers that publish this port and do not run, the latest first.
    pub containers_down: Vec<Down>,
    /// Services that systemd holds failed; those whose name is in the path come first.
    pub failed_units: Vec<Failed>,
}

/// What a path without a listener is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathIs {
    /// There is no such file.
    Missing,
    /// A socket file that a server left behind.
    SocketLeftBehind,
    /// Another kind of file.
    NotASocket,
}

/// An ICMP message's type and code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Icmp {
    /// 3 is "destination unreachable".
    #[serde(rename = "type")]
    pub kind: u8,
    /// Which of its kind.
    pub code: u8,
}

impl From<(u8, u8)> for Icmp {
    fn from((kind, code): (u8, u8)) -> Self {
        Self { kind, code }
    }
}

impl fmt::Display for Icmp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ICMP type {} code {}", self.kind, self.code)
    }
}

/// A listener that may be the one that was meant.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Near {
    /// Its process.
    pub pid: Pid,
    /// That one's name.
    #[serde(serialize_with = "lossy")]
    pub comm: BString,
    /// Where it listens.
    #[serde(serialize_with = "as_place")]
    pub address: Endpoint,
    /// In what it is near: `same-port`, `other-namespace`, `same-directory`, `same-program`, `same-path`, `other-files`.
    #[serde(serialize_with = "nearness")]
    pub why: Nearness,
}

/// A container that publishes a place and does not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Down {
    /// Its id.
    pub id: String,
    /// Its name; null where it has none.
    pub name: Option<String>,
    /// The exit code of its first process; null where that is not known.
    pub exit_code: Option<i32>,
    /// Whether its memory limit was hit.
    pub oom_killed: bool,
    /// Whether it is being started again and again.
    pub restarting: bool,
    /// When it ended; null where it never ran.
    pub finished: Option<Moment>,
    #[serde(skip)]
    names: ContainerNames,
}

impl From<&DownContainer> for Down {
    fn from(down: &DownContainer) -> Self {
        Self {
            id: down.id.clone(),
            name: down.names.label(),
            exit_code: down.exit_code,
            oom_killed: down.oom_killed,
            restarting: down.restarting,
            finished: down.finished_us.map(Moment::from_micros),
            names: down.names.clone(),
        }
    }
}

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_deref().unwrap_or_else(|| short_container(&self.id));
        write!(f, "container {name}, which publishes it, ")?;
        f.write_str(match (self.restarting, self.finished) {
            (true, _) => "keeps restarting",
            (false, Some(_)) => "is down",
            (false, None) => "never ran",
        })?;
        if let Some(at) = self.finished {
            write!(f, " since {at}")?;
        }
        f.write_str(if self.oom_killed { ": its memory limit was hit" } else { "" })?;
        let code = self.exit_code.filter(|_| self.finished.is_some());
        code.map_or(Ok(()), |code| write!(f, ", exit code {code}"))
    }
}

/// A service that systemd holds failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failed {
    /// Its name.
    pub unit: String,
    /// `exit-code`, `oom-kill`, …
    pub result: String,
    /// The main process's status.
    pub exit_status: Option<i32>,
}

impl Near {
    /// Near misses that a fix asks for one by one.
    const SHOWN: usize = 3;

    /// Appends a question for each of the nearest, and the number of others.
    pub(super) fn ask(near: &[Near], lines: &mut Vec<Fix>) {
        Self::ask_of(near, false, lines);
    }

    fn ask_of(near: &[Near], cut: bool, lines: &mut Vec<Fix>) {
        lines.extend(near.iter().take(Self::SHOWN).map(|near| {
            let why = match near.why {
                Nearness::SamePort => "same port, other address",
                Nearness::OtherNamespace => "same port, other network namespace",
                Nearness::SameDirectory => "same directory",
                Nearness::SameProgram => "same program",
                Nearness::SamePath => "same path",
                Nearness::OtherFiles => "same path, other mount namespace",
            };
            Fix::advice(format!(
                "{}[{}] listens on {} ({why}); is that the upstream?",
                near.comm,
                near.pid,
                place(&near.address)
            ))
        }));
        let more = near.len().saturating_sub(Self::SHOWN);
        if more > 0 {
            let least = if cut { "at least " } else { "" };
            lines.push(Fix::command("ss -lntxp").remark(format!("{least}{more} more such listeners")));
        }
    }
}

impl From<&NearListener> for Near {
    fn from(near: &NearListener) -> Self {
        let NearListener { bound, process, why, .. } = near;
        Self { pid: process.pid, comm: process.comm.clone(), address: bound.clone(), why: *why }
    }
}

impl Failed {
    /// Failed units that a fix asks for.
    const SHOWN: usize = 3;

    /// Whether the unit's name begins with a word that the path contains: `php8.2-fpm.service` and
    /// `/run/php/php-fpm.sock`. That says no more than that it may be the one that is missing.
    pub(in crate::attribute) fn resembles(unit: &FailedUnit, endpoint: &Endpoint) -> bool {
        let Endpoint::Unix(path) = endpoint else { return false };
        let word: String = unit.unit.chars().take_while(char::is_ascii_alphabetic).collect();
        word.len() >= 3 && path.contains_str(&word)
    }

    /// `exit-code, status 203`.
    pub(super) fn outcome(&self) -> impl fmt::Display {
        fmt::from_fn(|f| match self.exit_status {
            Some(status) => write!(f, "{}, status {status}", self.result),
            None => f.write_str(&self.result),
        })
    }
}

impl From<&FailedUnit> for Failed {
    fn from(unit: &FailedUnit) -> Self {
        let FailedUnit { unit, result, exit_status, .. } = unit;
        Self { unit: unit.clone(), result: result.clone(), exit_status: *exit_status }
    }
}

/// How to see who listens at a place.
pub(super) fn check(endpoint: &Endpoint) -> Fix {
    Fix::command(match endpoint {
        Endpoint::Tcp(address) => format!("ss -ltnp 'sport = :{}'", address.port()),
        Endpoint::Unix(_) => format!("ss -lxp | grep -F -e {}", quoted(place(endpoint))),
    })
}

/// How to see what filters on this host.
pub(super) fn filters() -> Fix {
    Fix::command("nft list ruleset; iptables-save")
}

impl NotListening {
    fn sentence(&self, on: &On<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let there = on.target;
        match self.path {
            Some(PathIs::NotASocket) => return write!(f, "{there} is not a socket"),
            Some(PathIs::Missing) => write!(f, "{there} does not exist")?,
            Some(PathIs::SocketLeftBehind) => {
                write!(f, "{there} is a socket file left behind by a server that is gone")?
            }
            None => write!(f, "nothing listens on {there}")?,
        }
        f.write_str(if self.watched { ", and nothing has listened there since tracing began" } else { "" })?;
        self.containers_down.first().map_or(Ok(()), |down| write!(f, "; {down}"))?;
        self.moved.as_ref().map_or(Ok(()), |moved| moved.sentence(on, f))
    }

    fn fix(&self, lines: &mut Vec<Fix>) {
        self.moved.iter().for_each(|moved| moved.fix(lines));
        for down in self.containers_down.iter().take(Failed::SHOWN) {
            let who = ProcessFacts {
                container: Some(down.id.clone()),
                container_names: Some(down.names.clone()),
                ..ProcessFacts::default()
            };
            lines.extend(ServiceManager::of(&who).restart());
        }
        Near::ask_of(&self.near, self.near_cut, lines);
        lines.extend(self.failed_units.iter().take(Failed::SHOWN).map(|unit| {
            Fix::command(format!("systemctl status {}", operand(&unit.unit)))
                .remark(format!("it failed: {}; is that the upstream?", unit.outcome()))
        }));
        lines.push(check(&self.endpoint));
    }
}

impl Page for Listener {
    fn cause(&self) -> Cause {
        match self {
            Listener::Stopped { .. } => Cause::StoppedListening,
            Listener::NotListening(_) => Cause::NotListening,
            Listener::Replaced { .. } => Cause::SocketReplaced,
            Listener::Rejected { .. } | Listener::Filtered { .. } => Cause::Firewall,
            Listener::OnAnotherHost { .. } => Cause::ClosedByRemote,
        }
    }

    fn sentence(&self, on: &On<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let there = on.target;
        match self {
            Listener::Stopped { process, while_waiting: true, .. } => write!(
                f,
                "{} closed its listening socket on {there} with the connection not yet accepted",
                process.full()
            ),
            Listener::Stopped { process, at: Some(at), .. } => {
                let (who, when) = (process.full(), on.when(*at));
                write!(f, "{who} closed its listening socket on {there}{when} and is still running")
            }
            Listener::Stopped { process, at: None, .. } => {
                let who = process.full();
                write!(f, "{who} closed its listening socket on {there} and is still running")
            }
            Listener::NotListening(place) => place.sentence(on, f),
            Listener::Replaced { process, path, other_files } => {
                write!(f, "{} listens on {there}, but ", process.full())?;
                f.write_str(match (other_files, path) {
                    (true, Some(PathIs::Missing)) => {
                        "in other mounts than nginx's, which has no such file (another container, PrivateTmp=)"
                    }
                    (true, _) => "in other mounts than nginx's, where that is another file (another container, PrivateTmp=)",
                    (false, Some(PathIs::Missing)) => "its socket file was removed",
                    (false, _) => "its socket file was replaced by another one, which nobody listens on",
                })
            }
            Listener::Rejected { icmp } => {
                write!(f, "a filter rejected the connect to {there} with {icmp}; the listener did not")
            }
            Listener::Filtered { process } => {
                let who = super::process::full_or(process.as_deref(), "a process");
                write!(f, "a filter refused the connect to {there}, where {who} listens")
            }
            Listener::OnAnotherHost { .. } => write!(
                f,
                "{there} refused the connection: either nothing listens there or a filter answered, which cannot be told \
                 from this host"
            ),
        }
    }

    fn fix(&self, _on: &On<'_>, lines: &mut Vec<Fix>) {
        match self {
            Listener::Stopped { process, near, .. } => {
                lines.extend(ServiceManager::of(process).restart());
                Near::ask(near, lines);
            }
            Listener::NotListening(place) => place.fix(lines),
            Listener::Replaced { other_files: true, .. } => lines.push(Fix::advice(
                "put the socket where both see it: a volume of both containers, or a directory below /run instead of /tmp \
                 (PrivateTmp=)",
            )),
            Listener::Replaced { process, .. } => lines.extend(ServiceManager::of(process).restart()),
            Listener::Rejected { .. } | Listener::Filtered { .. } => lines.push(filters()),
            Listener::OnAnotherHost { .. } => {}
        }
    }

    fn moment(&self) -> Option<Nanos> {
        match self {
            Listener::Stopped { at, .. } => *at,
            _ => None,
        }
    }
}

fn as_place<S: Serializer>(endpoint: &Endpoint, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&place(endpoint))
}

fn nearness<S: Serializer>(why: &Nearness, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match why {
        Nearness::SamePort => "same-port",
        Nearness::OtherNamespace => "other-namespace",
        Nearness::SameDirectory => "same-directory",
        Nearness::SameProgram => "same-program",
        Nearness::SamePath => "same-path",
        Nearness::OtherFiles => "other-files",
    })
}
