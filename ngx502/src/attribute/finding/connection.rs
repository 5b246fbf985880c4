//! An established connection ended: who closed it.

use std::fmt::{self, Display as _};
use std::rc::Rc;

use serde::Serialize;

use super::listener::nothing;
use super::manager::ServiceManager;
use super::process::full_or;
use super::{LogWords, Page, Verdict};
use crate::attribute::verdict::{Cause, ProcessFacts};
use crate::event::CloseKind;
use crate::units::Micros;

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Connection {
    /// A living process on this host ended it.
    ClosedByUpstream {
        /// Which.
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
    /// No cause.
    #[serde(serialize_with = "nothing")]
    Unknown(Unknown),
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

/// What keeps the cause from being known.
#[derive(Clone, Debug, PartialEq)]
pub enum Unknown {
    /// nginx's socket was not observed.
    SocketUnobserved,
    /// It died with the connection; how it died was not observed.
    Died(Rc<ProcessFacts>, Close),
    /// A reused connection ended so soon that both are possible.
    MaybeRace(Micros),
    /// A process on this host ended it; which one was not observed.
    CloserUnobserved,
    /// So many processes that share the listener died.
    SeveralDied(usize),
    /// Another host or a container of this one.
    Elsewhere,
    /// It read from the connection last and is gone.
    LastReaderGone(Rc<ProcessFacts>),
    /// nginx got no connection, and nothing shows with which error; whether its address is known.
    NoConnection {
        /// Whether the upstream's address could be read.
        addressed: bool,
    },
    /// The response was cut, and nothing tells how.
    Cut,
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
            Close::Destroyed => "destroyed the connection (as ss -K does)",
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

impl Unknown {
    fn sentence(&self, on: &Verdict, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let there = &*on.target;
        match self {
            Unknown::SocketUnobserved => write!(
                f,
                "the connection to {there} ended early; nginx's socket was not observed, so who closed it is unknown"
            ),
            Unknown::Died(who, close) => {
                write!(f, "{} {close} to {there} as it died; how it died was not observed", who.full())
            }
            Unknown::MaybeRace(after) => write!(
                f,
                "a reused connection to {there} ended {after} after the request was sent; whether the upstream closed it \
                 as idle or gave up on the request was not observed"
            ),
            Unknown::CloserUnobserved => write!(
                f,
                "a process on this host ended the connection to {there}; which one was not observed (see ngx502 doctor)"
            ),
            Unknown::SeveralDied(count) => write!(
                f,
                "{count} processes that share the listener on {there} died as the connection ended; which of them served \
                 it was not observed"
            ),
            Unknown::Elsewhere => write!(
                f,
                "the other end closed the connection to {there}; whether that is another host or a container of this one \
                 was not observed"
            ),
            Unknown::LastReaderGone(who) => write!(
                f,
                "the connection to {there} ended; {}, which read from it last, is gone, and how it ended was not observed",
                who.full()
            ),
            Unknown::NoConnection { addressed } => {
                let there = if *addressed { there } else { "an upstream whose name could not be read" };
                let words = match on.nginx.words {
                    LogWords::Missed => "was not observed",
                    _ => "is hidden by error_log's level",
                };
                write!(
                    f,
                    "nginx got no connection to {there}: its message {words}, and neither a socket nor a look-up shows \
                     whether the connect failed or the TLS handshake, and with which error"
                )
            }
            Unknown::Cut => f.write_str("the response was cut; nothing observed shows how"),
        }
    }
}

impl Page for Connection {
    fn cause(&self) -> Cause {
        match self {
            Connection::ClosedByUpstream { .. } => Cause::ClosedByUpstream,
            Connection::KeepaliveRace { .. } => Cause::KeepaliveRace,
            Connection::ClosedByRemote { .. } => Cause::ClosedByRemote,
            Connection::Unknown(_) => Cause::Unknown,
        }
    }

    fn sentence(&self, on: &Verdict, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let there = &*on.target;
        match self {
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
            Connection::Unknown(unknown) => unknown.sentence(on, f),
        }
    }

    fn fix(&self, on: &Verdict, lines: &mut Vec<String>) {
        match self {
            Connection::ClosedByUpstream { process, .. } => lines.extend(ServiceManager::of(process).log()),
            Connection::KeepaliveRace { .. } => lines.extend([
                "make the upstream's keep-alive timeout longer than nginx's keepalive_timeout in the upstream block"
                    .to_owned(),
                "proxy_next_upstream error timeout non_idempotent; (if repeating the request is safe)".to_owned(),
            ]),
            Connection::Unknown(Unknown::NoConnection { .. }) if on.nginx.words != LogWords::Missed => {
                lines.push("error_log /var/log/nginx/error.log error;".into());
            }
            Connection::ClosedByRemote { .. } | Connection::Unknown(_) => {}
        }
    }
}
