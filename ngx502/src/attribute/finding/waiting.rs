//! Waiting that ended without an answer: in the network, in the accept queue, or in a worker.

use std::fmt::{self, Display as _};
use std::rc::Rc;

use serde::Serialize;

use super::listener::{Icmp, filters};
use super::process::full_or;
use super::{Fix, On, Page, Stuck};
use crate::attribute::servers;
use crate::attribute::verdict::{Cause, ProcessFacts};
use crate::event::{Pid, Queue};
use crate::units::Micros;

/// What nginx waited for.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Waiting {
    /// The accept queue was full.
    QueueFull(AcceptQueue),
    /// Established by the kernel, accepted by no process.
    NotAccepted(AcceptQueue),
    /// Accepted, not answered in time.
    UpstreamSlow {
        /// The process that holds the connection; null where that is not known.
        process: Option<Rc<ProcessFacts>>,
        /// From the start of the attempt until nginx gave up; null where that is not known.
        waited_us: Option<Micros>,
        /// False: its receive window was shut, so that it has stopped reading; null where that is not known.
        reads: Option<bool>,
        /// False: all that is known is that its host has the request.
        #[serde(skip)]
        accepted: bool,
    },
    /// An upgraded connection on which nothing came.
    Idle {
        /// The upstream's process; null where that is not known.
        process: Option<Rc<ProcessFacts>>,
    },
    /// A filter on this host drops the SYN.
    SynDropped {},
    /// Nothing was acknowledged any more.
    PathDown {
        /// Retransmissions that went unanswered.
        retransmissions: u32,
    },
    /// Something on this host drops what nginx sends on an established connection.
    SegmentsDropped {
        /// Retransmissions that went unanswered.
        retransmissions: u32,
    },
    /// ICMP said why the connect timed out.
    Icmp {
        /// Its type and code.
        icmp: Icmp,
    },
}

/// A listener's accept queue, and who serves it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct AcceptQueue {
    /// The first process that holds the listener; null where that is not known.
    pub process: Option<Rc<ProcessFacts>>,
    /// Connections that waited; null where that is not known.
    pub waiting: Option<u32>,
    /// The backlog, beyond which none may wait.
    pub limit: Option<u32>,
    /// Pids of the processes that could accept.
    pub workers: Vec<Pid>,
    /// Whether all of them were busy.
    pub all_busy: Option<bool>,
    /// What they were stuck on; null where that is not known.
    pub stuck: Option<Box<Stuck>>,
    /// Where php-fpm's pool is configured.
    #[serde(skip)]
    pub pool: Option<String>,
}

impl AcceptQueue {
    /// ` (129 waiting, limit 128)`.
    fn fill(&self) -> impl fmt::Display {
        fmt::from_fn(|f| match (self.waiting, self.limit) {
            (Some(length), Some(limit)) => write!(f, " ({})", QueueFill(Queue { length, limit })),
            _ => Ok(()),
        })
    }

    fn comm(&self) -> &[u8] {
        self.process.as_ref().map_or(b"", |process| process.comm.as_bytes())
    }
}

/// How full a queue is: `129 waiting, limit 128`.
pub(super) struct QueueFill(pub(super) Queue);

impl fmt::Display for QueueFill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} waiting, limit {}", self.0.length, self.0.limit)
    }
}

impl Page for Waiting {
    fn cause(&self) -> Cause {
        match self {
            Waiting::QueueFull(_) => Cause::QueueFull,
            Waiting::NotAccepted(_) => Cause::NotAccepted,
            Waiting::UpstreamSlow { .. } => Cause::UpstreamSlow,
            Waiting::Idle { .. } => Cause::IdleTimeout,
            Waiting::SynDropped {} | Waiting::SegmentsDropped { .. } => Cause::Firewall,
            Waiting::PathDown { .. } | Waiting::Icmp { .. } => Cause::Unreachable,
        }
    }

    fn sentence(&self, on: &On<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let there = on.target;
        match self {
            Waiting::QueueFull(queue) => {
                f.write_str("the accept queue")?;
                queue.process.as_ref().map_or(Ok(()), |who| write!(f, " of {}", who.full()))?;
                write!(f, " on {there} was full{}", queue.fill())?;
                if let Some(stuck) = &queue.stuck {
                    f.write_str("; ")?;
                    return stuck.sentence(on, f);
                }
                f.write_str(match queue.all_busy {
                    Some(true) => "; every process that could accept was busy",
                    Some(false) => "; at least one process that could accept was idle",
                    None => "",
                })
            }
            Waiting::NotAccepted(queue) => write!(
                f,
                "the connection waited in the accept queue of {there}{}, and {} did not accept it in time{}",
                queue.fill(),
                full_or(queue.process.as_deref(), "the upstream"),
                if queue.all_busy == Some(true) { "; all its processes were busy" } else { "" }
            ),
            Waiting::UpstreamSlow { process, waited_us, reads, accepted } => {
                let who = full_or(process.as_deref(), "the upstream");
                match accepted {
                    true => write!(f, "{who} accepted the connection to {there} and ")?,
                    false => write!(f, "the host of {there} acknowledged the request, and {who} ")?,
                }
                f.write_str(match reads {
                    Some(false) => "stopped reading: its receive window was shut after ",
                    _ => "did not answer within ",
                })?;
                match waited_us {
                    Some(waited) => waited.fmt(f),
                    None => f.write_str("the time allowed"),
                }
            }
            Waiting::Idle { process } => {
                write!(
                    f,
                    "the upgraded connection (WebSocket) to {there} was silent for nginx's read timeout"
                )?;
                process.as_ref().map_or(Ok(()), |process| write!(f, "; {} still held it", process.full()))
            }
            Waiting::SynDropped {} => write!(f, "a filter on this host drops the SYN to {there}"),
            Waiting::PathDown { retransmissions } => {
                write!(f, "{there} stopped acknowledging: {retransmissions} retransmissions")
            }
            Waiting::SegmentsDropped { retransmissions } => write!(
                f,
                "what nginx sent to {there} never arrived: {retransmissions} retransmissions were not acknowledged, and the \
                 server's end is on this host"
            ),
            Waiting::Icmp { icmp } => write!(f, "connecting to {there} timed out after {icmp}"),
        }
    }

    fn fix(&self, on: &On<'_>, lines: &mut Vec<Fix>) {
        match self {
            // More of them would be stuck as well.
            Waiting::QueueFull(AcceptQueue { stuck: Some(stuck), .. }) => stuck.fix(on, lines),
            Waiting::QueueFull(queue) => lines.extend([
                servers::backlog(queue.comm(), queue.limit, queue.pool.as_deref()),
                Fix::command("sysctl net.core.somaxconn").remark("it caps every backlog"),
            ]),
            Waiting::NotAccepted(queue) => {
                lines.push(servers::backlog(queue.comm(), None, queue.pool.as_deref()));
            }
            Waiting::UpstreamSlow { process, .. } => {
                let look = |who: &Rc<ProcessFacts>| {
                    Fix::command(format!("cat /proc/{}/stack; strace -p {}", who.pid, who.pid))
                        .remark("what it waits for")
                };
                lines.extend(process.as_ref().map(look));
                lines.push(Fix::advice(
                    "make the request faster, or raise the read timeout of its location (proxy_read_timeout or the \
                     matching *_read_timeout)",
                ));
            }
            Waiting::Idle { .. } => lines.extend([
                Fix::advice(
                    "have the application send a ping more often than proxy_read_timeout (60 s unless set)",
                ),
                Fix::directive("proxy_read_timeout 1h;")
                    .remark("in the location of the upgraded connections"),
            ]),
            Waiting::SynDropped {} => lines.push(filters()),
            Waiting::SegmentsDropped { .. } => lines.extend([
                filters(),
                Fix::command("conntrack -S; ip -s link").remark("dropped, full or down?"),
                Fix::advice("is the path's MTU smaller? ping -M do -s 1472 ADDRESS"),
            ]),
            Waiting::PathDown { .. } | Waiting::Icmp { .. } => {}
        }
    }
}
