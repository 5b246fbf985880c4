//! What was observed: the facts that stand beside a verdict, in time order.

use std::fmt::{self, Display as _};
use std::net::IpAddr;
use std::rc::Rc;

use bstr::BString;

use super::connection::Close;
use super::death::{OomKill, Sender};
use super::denied::{WithMode, module_name};
use super::hops::{Leg, On};
use super::listener::Failed;
use super::local::PortRange;
use super::say;
use super::waiting::QueueFill;
use super::waits::Wait;
use crate::attribute::verdict::{Cause, ProcessFacts, Symptom, Verdict, named_enum};
use crate::event::{Guards, Limits, Nanos, PathWalk, Pid, Ports, Queue};
use crate::units::{Bytes, Errno, SignalNumber};

/// One observed fact.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// When it was observed.
    pub at: Nanos,
    /// What.
    pub fact: Fact,
    /// The connection that it is of; `None`: nginx's own.
    pub leg: Option<Rc<Leg>>,
}

named_enum! {
    /// The kind of an observed fact.
    Event {
        /// nginx started connecting.
        Connect = "connect",
        /// The connection was established.
        Established = "established",
        /// nginx started sending.
        Send = "send",
        /// nginx read the first byte of the response.
        FirstByte = "first-byte",
        /// A FIN came.
        Fin = "fin",
        /// A RST came.
        Reset = "reset",
        /// The upstream's end sent a RST.
        ResetSent = "reset-sent",
        /// nginx's own message.
        Nginx = "nginx",
        /// A signal was sent.
        Signal = "signal",
        /// A process ended.
        Exit = "exit",
        /// The OOM killer at work.
        Oom = "oom",
        /// A process closed the connection.
        Close = "close",
        /// A listener, or that there is none.
        Listen = "listen",
        /// A process was found alive.
        Process = "process",
        /// A unit failed.
        Unit = "unit",
        /// The accept queue.
        Queue = "queue",
        /// The server's end of the connection.
        Accept = "accept",
        /// What a process was found in.
        Wait = "wait",
        /// The walk of a socket's path.
        Path = "path",
        /// A look-up of a route.
        Route = "route",
        /// What confines the worker.
        Policy = "policy",
        /// Local ports.
        Ports = "ports",
        /// Descriptors.
        Descriptors = "descriptors",
        /// A peer's own failure.
        Peer = "peer",
    }
}

impl Event {
    /// What happens to every connection; the first facts to leave out where there is no room.
    pub fn is_routine(self) -> bool {
        matches!(self, Event::Connect | Event::Established | Event::Send | Event::FirstByte)
    }
}

/// What was observed.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// A moment in the life of nginx's socket: one of the first seven events.
    Socket(Event),
    /// nginx reported the failure: [`Verdict::nginx`].
    Nginx,
    /// A process was sent a signal.
    Signalled(Rc<ProcessFacts>, SignalNumber, Sender),
    /// A process ended by a signal.
    EndedBy(Rc<ProcessFacts>, SignalNumber),
    /// A process ended, of what is said elsewhere.
    Ended(Rc<ProcessFacts>),
    /// A process exited with a code.
    Exited(Rc<ProcessFacts>, i32),
    /// The OOM killer chose a process.
    OomChosen(Rc<ProcessFacts>, OomKill),
    /// Memory ran out as this process asked for more.
    OomTrigger(Rc<ProcessFacts>),
    /// A process ended the connection, perhaps as it died.
    Closed(Rc<ProcessFacts>, Close, bool),
    /// The last listening socket closed.
    ListenerGone,
    /// A look-up found no listener.
    NoListener,
    /// A look-up found a process alive.
    Alive(Rc<ProcessFacts>),
    /// systemd holds a unit failed.
    UnitFailed(Failed),
    /// The queue that the connect met in the kernel.
    QueueMet(Queue),
    /// The queue that a look-up found, the number of processes on that listener, and whether all were busy.
    QueueFound(Queue, usize, Option<bool>),
    /// A look-up found the server's end.
    ServerEnd(ServerEnd),
    /// A look found a process stuck, or not.
    Waits(Wait),
    /// A walk of the socket's path as nginx's user.
    Walked(Rc<PathWalk>),
    /// What the routing table answered for an address.
    Route(IpAddr, Option<Errno>),
    /// What confines the worker.
    Confined(Rc<Guards>),
    /// The local ports that lead to the upstream.
    Ports(Ports),
    /// The descriptors of the worker and of the system.
    Descriptors(Limits),
    /// A peer failed.
    PeerFailed(BString, Symptom, Cause),
}

/// The server's end of a connection, as a look-up found it.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerEnd {
    /// Whether a process had accepted it.
    pub accepted: Option<bool>,
    /// One that holds it.
    pub holder: Option<(BString, Pid)>,
    /// Bytes that it had not read.
    pub unread: Option<u32>,
}

impl Evidence {
    /// Its kind.
    pub fn event(&self) -> Event {
        match self.fact {
            Fact::Socket(event) => event,
            Fact::Nginx => Event::Nginx,
            Fact::Signalled(..) => Event::Signal,
            Fact::EndedBy(..) | Fact::Ended(_) | Fact::Exited(..) => Event::Exit,
            Fact::OomChosen(..) | Fact::OomTrigger(_) => Event::Oom,
            Fact::Closed(..) => Event::Close,
            Fact::ListenerGone | Fact::NoListener => Event::Listen,
            Fact::Alive(_) => Event::Process,
            Fact::UnitFailed(_) => Event::Unit,
            Fact::QueueMet(_) | Fact::QueueFound(..) => Event::Queue,
            Fact::ServerEnd(_) => Event::Accept,
            Fact::Waits(_) => Event::Wait,
            Fact::Walked(_) => Event::Path,
            Fact::Route(..) => Event::Route,
            Fact::Confined(_) => Event::Policy,
            Fact::Ports(_) => Event::Ports,
            Fact::Descriptors(_) => Event::Descriptors,
            Fact::PeerFailed(..) => Event::Peer,
        }
    }

    /// The fact as a sentence; `on` is the verdict that it stands beside.
    pub fn text(&self, on: &Verdict) -> impl fmt::Display {
        fmt::from_fn(|f| self.fact.sentence(&On::leg(on, self.leg.as_deref()), f))
    }
}

impl Fact {
    fn sentence(&self, on: &On<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let there = on.target;
        match self {
            Fact::Socket(event) => socket(*event, on, f),
            Fact::Nginx => on.nginx.said(on).fmt(f),
            Fact::Signalled(who, signal, sender) => {
                who.name().fmt(f)?;
                f.write_str(" was sent ")?;
                sender.sent(*signal, who).fmt(f)
            }
            Fact::EndedBy(who, signal) => {
                who.name().fmt(f)?;
                f.write_str(" was terminated by ")?;
                signal.fmt(f)
            }
            Fact::Ended(who) => write!(f, "{} ended", who.name()),
            Fact::Exited(who, code) => write!(f, "{} exited with code {code}", who.name()),
            Fact::OomChosen(who, kill) => {
                write!(f, "the OOM killer chose {}", who.name())?;
                kill.rss_bytes.map_or(Ok(()), |rss| write!(f, " with {} resident", Bytes(rss)))?;
                kill.scope().fmt(f)
            }
            Fact::OomTrigger(who) => write!(f, "memory ran out as {} asked for more", who.full()),
            Fact::Closed(who, how, dying) => {
                write!(f, "{} {how}", who.name())?;
                on.from.map_or(Ok(()), |client| write!(f, " of {}", client.name()))?;
                f.write_str(if *dying { " as it died" } else { "" })
            }
            Fact::ListenerGone => say(f, &["last listening socket on ", there, " closed"]),
            Fact::NoListener => say(f, &["a look-up found no listener on ", there]),
            Fact::Alive(who) => write!(f, "a look-up found {} running", who.name()),
            Fact::UnitFailed(unit) => write!(f, "{} is in state failed ({})", unit.unit, unit.outcome()),
            Fact::QueueMet(queue) => write!(f, "the connect found {}", QueueFill(*queue)),
            Fact::QueueFound(queue, holders, busy) => queue_found(*queue, *holders, *busy, f),
            Fact::ServerEnd(end) => end.sentence(f),
            Fact::Waits(wait) => write!(f, "a look found {wait}"),
            Fact::Walked(walk) => walked(walk, f),
            Fact::Route(to, None) => write!(f, "the routing table has a route to {to}"),
            Fact::Route(to, Some(errno)) => write!(f, "the routing table answered {errno} for {to}"),
            Fact::Confined(guards) => confined(guards, f),
            Fact::Ports(ports) => {
                let Ports { low, high, used, .. } = ports;
                let size = PortRange::size(*low, *high);
                write!(f, "{used} of {size} local ports ({low}-{high}) led to {there}")
            }
            Fact::Descriptors(Limits { worker, nofile, open, file_max, file_used }) => write!(
                f,
                "worker {worker} had {open} of {nofile} descriptors open, the system {file_used} of {file_max} files"
            ),
            Fact::PeerFailed(peer, symptom, cause) => write!(f, "{peer} failed: {symptom}, {cause}"),
        }
    }
}

fn socket(event: Event, on: &On<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let there = on.target;
    if let Some(client) = on.from {
        let client = client.name();
        match event {
            Event::Connect => return write!(f, "{client} started connecting to {there}"),
            Event::Fin => return write!(f, "{client} received a FIN from {there}"),
            Event::Reset => return write!(f, "{client} received a RST from {there}"),
            _ => {}
        }
    }
    say(
        f,
        &match event {
            Event::Connect => ["nginx started connecting to ", there, ""],
            Event::Established => ["connection to ", there, " established"],
            Event::Send => ["nginx started sending the request", "", ""],
            Event::FirstByte => ["nginx read the first byte of the response", "", ""],
            Event::Fin => ["FIN received from the upstream", "", ""],
            Event::Reset => ["RST received", "", ""],
            Event::ResetSent => ["the upstream's end sent a RST", "", ""],
            other => [other.as_str(), "", ""],
        },
    )
}

fn queue_found(queue: Queue, holders: usize, busy: Option<bool>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let workers = match busy {
        Some(true) => "all busy",
        Some(false) => "at least one idle",
        None => "worker state unknown",
    };
    let processes = if holders == 1 { "process" } else { "processes" };
    write!(f, "a look-up found {}; {holders} {processes} on that listener, {workers}", QueueFill(queue))
}

impl ServerEnd {
    fn sentence(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.accepted, &self.holder) {
            (Some(true), Some((comm, pid))) => {
                write!(f, "a look-up found the server's end held by {comm}[{pid}]")?
            }
            (Some(false), _) => {
                f.write_str("a look-up found the server's end, not accepted by any process")?
            }
            _ => f.write_str("a look-up found the server's end, not its holder")?,
        }
        match self.unread {
            Some(bytes) if bytes > 0 => write!(f, ", {bytes} bytes unread"),
            _ => Ok(()),
        }
    }
}

fn walked(walk: &PathWalk, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let groups: Vec<_> = walk.groups.iter().map(u32::to_string).collect();
    let groups = if groups.is_empty() { "none".to_owned() } else { groups.join(",") };
    write!(f, "a walk of {} with nginx's uid {}, gid {}, groups {groups} ", walk.path, walk.uid, walk.gid)?;
    match &walk.refused {
        Some(at) => write!(f, "ends at {}", WithMode(at)),
        None => f.write_str("meets no refusal"),
    }
}

fn confined(guards: &Guards, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "nginx's worker {} runs with ", guards.worker)?;
    match &guards.confinement {
        Some(one) => {
            let mode = match one.enforced {
                Some(true) => ", enforced",
                Some(false) => ", not enforced",
                None => "",
            };
            write!(f, "{} label {}{mode}", module_name(&one.module), one.label)?;
        }
        None => f.write_str("no security label")?,
    }
    match guards.seccomp {
        Some(true) => f.write_str(", a seccomp filter")?,
        Some(false) => f.write_str(", no seccomp filter")?,
        None => {}
    }
    match guards.cgroup_programs {
        Some(0) => f.write_str(", no BPF program on connects of its cgroup"),
        Some(count) => write!(f, ", {count} BPF programs on connects of its cgroup"),
        None => Ok(()),
    }
}
