//! An established connection ended: who closed it.

use std::fmt::{self, Display as _};
use std::rc::Rc;

use serde::Serialize;

use super::manager::ServiceManager;
use super::process::full_or;
use super::{Page, Verdict};
use crate::attribute::verdict::{Cause, ProcessFacts};
use crate::event::CloseKind;

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
    },
    /// A reused idle connection that the upstream was closing.
    KeepaliveRace {
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
    /// Nothing of the response came.
    BeforeResponse,
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
            Progress::BeforeResponse => " before answering",
            Progress::WithinResponse => " before the response was complete",
        })
    }
}

impl Page for Connection {
    fn cause(&self) -> Cause {
        match self {
            Connection::ClosedByUpstream { .. } => Cause::ClosedByUpstream,
            Connection::KeepaliveRace { .. } => Cause::KeepaliveRace,
            Connection::ClosedByRemote { .. } => Cause::ClosedByRemote,
        }
    }

    fn sentence(&self, on: &Verdict, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let there = &*on.target;
        match self {
            // Whether such a tool still runs says nothing.
            Connection::ClosedByUpstream { process, how: Close::Destroyed, .. } => {
                write!(
                    f,
                    "{} destroyed the upstream's end of the connection to {there}, as ss -K does",
                    process.full()
                )
            }
            Connection::ClosedByUpstream { process, how, progress } => {
                write!(f, "{} (still running) {how} to {there}", process.full())?;
                progress.map_or(Ok(()), |progress| progress.fmt(f))
            }
            Connection::KeepaliveRace { process } => write!(
                f,
                "{} was closing an idle connection to {there} as nginx reused it for this request",
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

    fn fix(&self, _on: &Verdict, lines: &mut Vec<String>) {
        match self {
            Connection::ClosedByUpstream { how: Close::Destroyed, .. } => {}
            Connection::ClosedByUpstream { process, .. } => lines.extend(ServiceManager::of(process).log()),
            Connection::KeepaliveRace { .. } => lines.extend([
                "make the upstream's keep-alive timeout longer than nginx's keepalive_timeout in the upstream block"
                    .to_owned(),
                "proxy_next_upstream error timeout non_idempotent; (if repeating the request is safe)".to_owned(),
            ]),
            Connection::ClosedByRemote { .. } => {}
        }
    }
}
