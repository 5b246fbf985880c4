//! An established connection ended: who closed it.

use std::fmt::{self, Display as _};
use std::rc::Rc;

use serde::Serialize;

use super::manager::ServiceManager;
use super::process::full_or;
use super::{Fix, On, Page};
use crate::attribute::verdict::{Cause, ProcessFacts};
use crate::event::CloseKind;
use crate::units::Micros;

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Connection {
    /// A process on this host ended it that did not die of it.
    ClosedByUpstream {
        /// Which: the server, or the tool that destroyed the server's end.
        process: Rc<ProcessFacts>,
        /// How.
        how: Close,
        /// How far the response had come; null where that is not known.
        progress: Option<Progress>,
        /// From the close to the process's own end, where that came within a moment; null else.
        ended_us: Option<Micros>,
    },
    /// A reused idle connection that the upstream was closing.
    KeepaliveRace {
        /// The upstream's process; null where it was not observed.
        process: Option<Rc<ProcessFacts>>,
    },
    /// HTTP/2: the upstream closed gracefully, and did not serve what came after.
    Goaway {
        /// The upstream's process; null where it was not observed.
        process: Option<Rc<ProcessFacts>>,
    },
    /// Another host ended it.
    ClosedByRemote {
        /// True for a RST, false for a FIN, null where neither was observed.
        reset: Option<bool>,
    },
}

/// How one end ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Close {
    /// FIN: by close(2) or shutdown(2).
    Closed,
    /// RST.
    Reset,
    /// The listening socket was closed with the connection not yet accepted.
    NeverAccepted,
    /// `ss -K` and its like.
    Destroyed,
}

/// How far a response had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// The request was not sent.
    BeforeRequest,
    /// It was sent, and the closed end had read nothing of it.
    Unread,
    /// Nothing of the response came.
    BeforeResponse,
    /// The closed end had answered, and nginx got to read none of it.
    Answered,
    /// A part of it came.
    WithinResponse,
}

impl From<CloseKind> for Close {
    fn from(kind: CloseKind) -> Self {
        match kind {
            CloseKind::Closed => Close::Closed,
            CloseKind::Aborted => Close::Reset,
            CloseKind::NeverAccepted => Close::NeverAccepted,
            CloseKind::Destroyed => Close::Destroyed,
        }
    }
}

/// What the end did: "… the connection".
impl fmt::Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Close::Closed => "closed the connection",
            Close::Reset => "reset the connection",
            Close::NeverAccepted => "closed its listening socket with the connection not yet accepted",
            Close::Destroyed => "destroyed the upstream's end, as ss -K does",
        })
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Progress::BeforeRequest => " before the request was sent",
            Progress::Unread => " without reading the request",
            Progress::BeforeResponse => " before answering",
            Progress::Answered => " after answering, with the request not yet read to its end",
            Progress::WithinResponse => " before the response was complete",
        })
    }
}

impl Page for Connection {
    fn cause(&self) -> Cause {
        match self {
            Connection::ClosedByUpstream { .. } => Cause::ClosedByUpstream,
            Connection::KeepaliveRace { .. } | Connection::Goaway { .. } => Cause::KeepaliveRace,
            Connection::ClosedByRemote { .. } => Cause::ClosedByRemote,
        }
    }

    fn sentence(&self, on: &On<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let there = on.target;
        match self {
            // Whether such a tool still runs says nothing.
            Connection::ClosedByUpstream { process, how: Close::Destroyed, .. } => {
                write!(
                    f,
                    "{} destroyed the upstream's end of the connection to {there}, as ss -K does",
                    process.full()
                )
            }
            Connection::ClosedByUpstream { process, how, progress, ended_us } => {
                match ended_us {
                    None => write!(f, "{} (still running) {how} to {there}", process.full())?,
                    Some(after) => {
                        write!(f, "{}, which ended {after} later, {how} to {there}", process.full())?
                    }
                }
                progress.map_or(Ok(()), |progress| progress.fmt(f))
            }
            Connection::KeepaliveRace { process } => write!(
                f,
                "{} was closing an idle connection to {there} as nginx reused it for this request",
                full_or(process.as_deref(), "the upstream")
            ),
            Connection::Goaway { process } => write!(
                f,
                "{} was closing the HTTP/2 connection to {there} gracefully (GOAWAY without an error) as nginx sent this \
                 request on it, and did not process it",
                full_or(process.as_deref(), "the upstream")
            ),
            Connection::ClosedByRemote { reset } => {
                let how = match reset {
                    Some(true) => "was reset by another host",
                    Some(false) => "was closed by another host",
                    None => "on another host ended",
                };
                write!(f, "the connection to {there} {how}")
            }
        }
    }

    fn fix(&self, _on: &On<'_>, lines: &mut Vec<Fix>) {
        match self {
            Connection::ClosedByUpstream { how: Close::Destroyed, .. } => {}
            Connection::ClosedByUpstream { process, progress, .. } => {
                match progress {
                    Some(Progress::Unread) => lines.push(
                        Fix::command(format!(
                            "ls /proc/{pid}/fd | wc -l; grep 'open files' /proc/{pid}/limits",
                            pid = process.pid
                        ))
                        .remark("is it out of descriptors, or does it not allow this client?"),
                    ),
                    Some(Progress::Answered) => {
                        lines.push(Fix::advice("does it limit the size of a request? its answer may say so (413)"));
                    }
                    _ => {}
                }
                lines.extend(ServiceManager::of(process).log());
            }
            Connection::KeepaliveRace { .. } => lines.extend([
                Fix::advice(
                    "make the upstream's keep-alive timeout longer than nginx's keepalive_timeout in the upstream block",
                ),
                Fix::directive("proxy_next_upstream error timeout non_idempotent;")
                    .remark("if repeating the request is safe"),
            ]),
            Connection::Goaway { .. } => lines.extend([
                Fix::directive("grpc_next_upstream error timeout invalid_header non_idempotent;")
                    .remark("it was not processed: repeating is safe"),
                Fix::advice("let the upstream keep connections longer (maximum age, maximum number of requests)"),
            ]),
            Connection::ClosedByRemote { .. } => {}
        }
    }
}
