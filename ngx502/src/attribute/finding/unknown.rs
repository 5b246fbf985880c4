//! No cause: each says what is missing, and why. Its details are empty, since details are for what is known.

use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;

use bstr::BString;
use serde::{Serialize, Serializer};

use super::connection::Close;
use super::denied::Allowed;
use super::listener::{Near, check};
use super::manager::ServiceManager;
use super::process::full_or;
use super::protocol::show_errors;
use super::route;
use super::{Fix, LogWords, On, Page};
use crate::attribute::verdict::{Cause, ProcessFacts};
use crate::event::Endpoint;
use crate::units::Micros;

/// What keeps the cause from being known.
#[derive(Clone, Debug, PartialEq)]
pub enum Unknown {
    /// Refused; the upstream's address could not be read.
    NoAddress,
    /// Refused; it listened there, and no look-up confirmed that it still does.
    ListenerNotConfirmed(Option<Rc<ProcessFacts>>),
    /// It listens on that path, but nginx does not reach it there. `true`: a restart would bind the path anew.
    ListenerNotReached(Option<Rc<ProcessFacts>>, bool),
    /// One holder of the listening socket died, another lives without it.
    StoppedOrDied {
        /// The one that lives.
        living: Rc<ProcessFacts>,
        /// The one that died.
        dead: Rc<ProcessFacts>,
        /// Listeners of the same program elsewhere.
        near: Vec<Near>,
    },
    /// It listened there; how that ended was not observed.
    ListenerVanished(Rc<ProcessFacts>, Vec<Near>),
    /// Refused by another host or a container of this one.
    RefusedElsewhere,
    /// Refused, with a listener shortly after.
    ListensByNow,
    /// A listener bound to this relative path ended; the place that was refused.
    RelativePath(BString, Endpoint),
    /// nginx's end of a connection that ended was not observed.
    SocketUnobserved,
    /// It died with the connection; how it died was not observed.
    DiedSomehow(Rc<ProcessFacts>, Close),
    /// A reused connection ended so soon after the request that a race and an early close are both possible.
    MaybeRace(Micros),
    /// A process on this host ended the connection; which one was not observed.
    CloserUnobserved,
    /// So many processes that share the listener died.
    SeveralDied(usize),
    /// Closed by another host or a container of this one.
    ClosedElsewhere,
    /// It read from the connection last and is gone.
    LastReaderGone(Rc<ProcessFacts>),
    /// nginx got no connection, and nothing shows with which error. `true`: the upstream has an address.
    NoConnection(bool),
    /// The response was cut, and nothing tells how.
    Cut,
    /// Connecting timed out; nginx's socket was not observed.
    ConnectUnobserved,
    /// A host that answered none of so many SYNs.
    SilentHost(u32),
    /// This host did not answer the SYN.
    SynUnanswered,
    /// No answer in time; nginx's socket was not observed.
    ReadUnobserved,
    /// No answer in time; whether a process had accepted the connection was not observed.
    AcceptUnobserved,
    /// Denied; the path could not be walked as nginx's user.
    PathNotWalked,
    /// Denied; the route was not looked up.
    RouteNotLookedUp,
    /// Denied; what confines the worker was not looked up.
    ConfinementNotLookedUp(Allowed),
    /// Denied; nothing that answers so is known to confine the worker. The active security modules, if known.
    NoSuspect(Allowed, Option<String>),
    /// The connect failed; its errno could not be read.
    NoErrno(Option<IpAddr>),
    /// bind(2) of `proxy_bind` to this address failed.
    Bind(Option<BString>),
    /// The kernel had no local port or no address to connect from; neither was looked up.
    PortsNotLookedUp,
    /// The upstream refused the TLS handshake with an alert, which is hidden.
    TlsAlert,
    /// The TLS handshake failed otherwise.
    TlsFailed,
    /// nginx abandoned a response of which it had read some.
    Abandoned,
    /// nginx found no live peer, and no failure of one was observed.
    NoLivePeer,
}

impl Serialize for Unknown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl Page for Unknown {
    fn cause(&self) -> Cause {
        Cause::Unknown
    }

    /// One arm a sentence: a page of words, in the order of the enum.
    fn sentence(&self, on: &On<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let there = on.target;
        let full = |who| full_or(who, "a process");
        let missed = on.nginx.words == LogWords::Missed;
        match self {
            Unknown::ListenerNotConfirmed(who) => write!(
                f,
                "{there} refused the connection; {} listened there, and no look-up confirmed that it still does",
                full(who.as_deref())
            ),
            Unknown::ListenerNotReached(who, _) => write!(
                f,
                "{} listens on a socket bound to {there}, but nginx does not reach it by that path: the file was removed \
                 or replaced, or nginx sees another file system there",
                full(who.as_deref())
            ),
            Unknown::StoppedOrDied { living, dead, .. } => write!(
                f,
                "nothing listens on {there} any more: {} died, and {}, which shared the socket, is still running without \
                 it; which of them closed it last was not observed",
                dead.full(),
                living.full()
            ),
            Unknown::ListenerVanished(who, _) => write!(
                f,
                "{} listened on {there} before and no longer does; how that ended was not observed",
                who.full()
            ),
            Unknown::RefusedElsewhere => write!(
                f,
                "{there} refused the connection; whether that is another host or a container of this one was not observed"
            ),
            Unknown::ListensByNow => write!(
                f,
                "{there} refused the connection and had a listener shortly after; what listened before was not observed"
            ),
            Unknown::RelativePath(path, _) => write!(
                f,
                "nothing listens on {there}; a listener bound to the relative path {path} ended, and whether that was this \
                 socket was not observed"
            ),
            Unknown::NoAddress => {
                f.write_str("the connection was refused, but the upstream's address could not be read")
            }
            Unknown::DiedSomehow(who, close) => {
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
            Unknown::ClosedElsewhere => write!(
                f,
                "the other end closed the connection to {there}; whether that is another host or a container of this one \
                 was not observed"
            ),
            Unknown::LastReaderGone(who) => write!(
                f,
                "the connection to {there} ended; {}, which read from it last, is gone, and how it ended was not observed",
                who.full()
            ),
            Unknown::SocketUnobserved => write!(
                f,
                "the connection to {there} ended early; nginx's socket was not observed, so who closed it is unknown"
            ),
            Unknown::PathNotWalked => write!(
                f,
                "connecting to {there} was denied; the path could not be walked as nginx's user, so permission bits and \
                 policy cannot be told apart"
            ),
            Unknown::ConfinementNotLookedUp(allowed) => {
                write!(f, "{}; what confines the worker was not looked up", allowed.sentence(there))
            }
            Unknown::NoSuspect(allowed, modules) => {
                let allowed = allowed.sentence(there);
                write!(
                    f,
                    "{allowed}; no policy that answers with this errno is known to confine the worker"
                )?;
                modules.as_ref().map_or(Ok(()), |modules| {
                    write!(f, " (active modules: {modules}; Landlock and BPF cannot be seen from outside)")
                })
            }
            Unknown::RouteNotLookedUp => write!(
                f,
                "the kernel refused the connect to {there}; the route was not looked up, so a prohibit route and a policy \
                 cannot be told apart"
            ),
            Unknown::NoConnection(addressed) => {
                let there = if *addressed { there } else { "an upstream whose name could not be read" };
                let words = if missed { "was not observed" } else { "is hidden by error_log's level" };
                write!(
                    f,
                    "nginx got no connection to {there}: its message {words}, and neither a socket nor a look-up shows \
                     whether the connect failed or the TLS handshake, and with which error"
                )
            }
            Unknown::ConnectUnobserved => {
                write!(f, "connecting to {there} timed out; nginx's socket was not observed")
            }
            Unknown::SilentHost(syns) => write!(
                f,
                "{there} did not answer {syns} SYNs: down, unreachable, filtered and overloaded look the \
                 same from here"
            ),
            Unknown::SynUnanswered => {
                write!(
                    f,
                    "{there} did not answer the SYN; whether its accept queue was full was not observed"
                )
            }
            Unknown::ReadUnobserved => {
                write!(f, "{there} did not answer in time; nginx's socket was not observed")
            }
            Unknown::AcceptUnobserved => write!(
                f,
                "{there} took the connection and did not answer in time; whether a process had accepted it was not \
                 observed"
            ),
            Unknown::NoErrno(_) => write!(f, "connecting to {there} failed; the errno could not be read"),
            Unknown::Bind(address) => {
                match address {
                    Some(address) => write!(f, "bind({address})")?,
                    None => f.write_str("bind()")?,
                }
                write!(f, " failed before nginx connected to {there}")
            }
            Unknown::PortsNotLookedUp => write!(
                f,
                "the kernel had no port or no address to connect to {there} from; which of the two was not looked up"
            ),
            Unknown::TlsAlert => {
                write!(f, "{there} refused the TLS handshake with an alert; error_log's level hides which")
            }
            Unknown::TlsFailed => {
                write!(f, "the TLS handshake with {there} failed: {}", on.nginx.detail_or_text())
            }
            Unknown::Abandoned => {
                let why = if missed {
                    "its message was not observed"
                } else {
                    "error_log's level hides the reason"
                };
                write!(
                    f,
                    "nginx abandoned the response of {there} after reading part of it; {why}, and its socket was not \
                     observed"
                )
            }
            Unknown::NoLivePeer => write!(
                f,
                "nginx found no live peer in {there}, and no failure of one was observed: max_conns, `down` in the \
                 configuration, or failures before tracing began"
            ),
            Unknown::Cut => f.write_str("the response was cut; nothing observed shows how"),
        }
    }

    fn fix(&self, on: &On<'_>, lines: &mut Vec<Fix>) {
        let missed = on.nginx.words == LogWords::Missed;
        match self {
            Unknown::ListenerNotReached(Some(process), true) => {
                lines.extend(ServiceManager::of(process).restart());
            }
            Unknown::StoppedOrDied { near, .. } | Unknown::ListenerVanished(_, near) => {
                Near::ask(near, lines)
            }
            Unknown::RelativePath(_, endpoint) => lines.push(check(endpoint)),
            Unknown::NoConnection(_) if !missed => {
                lines.push(Fix::directive("error_log /var/log/nginx/error.log error;"));
            }
            Unknown::NoErrno(to) => lines.extend(to.map(route)),
            Unknown::Bind(_) => {
                lines.push(Fix::command("ip -br address").remark("has one the address of proxy_bind?"))
            }
            Unknown::PortsNotLookedUp => lines.push(Fix::command("ip -br address; ss -s")),
            Unknown::Abandoned if !missed => lines.push(show_errors()),
            _ => {}
        }
    }
}
