//! What attribution says: one [`Verdict`] per failed client request, in the terms of the JSON schema.
//!
//! Why it failed is a [`Finding`], and its sentences are made when somebody reads them: see `attribute::finding`.

use std::rc::Rc;

use bstr::BString;
use serde::{Serialize, Serializer};

use super::finding::evidence::Evidence;
use super::finding::hops::Hop;
use super::finding::{Finding, NginxWords, lossy, lossy_or_null};
use crate::event::{ContainerNames, Nanos, Pid, Socket};
use crate::units::Errno;

/// A line of output.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The client got an error (or a cut body).
    Verdict(Box<Verdict>),
    /// An attempt failed, but the client got an answer.
    Rescued(Box<Verdict>),
    /// Records were lost.
    Lost {
        /// How many.
        events: u64,
        /// Why.
        reason: String,
    },
    /// The tracer observes less from here on.
    Notice {
        /// Since when.
        at: Nanos,
        /// What it is about, as a name for programs.
        topic: String,
        /// What and why, as a sentence.
        text: String,
    },
    /// nginx answered ≥ 500 on its own, without an upstream (`return 502`, a cached error): counted, not explained.
    NotUpstream {
        /// The status.
        status: u16,
    },
}

/// Why one client request failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// When nginx answered.
    pub at: Nanos,
    /// What the client saw.
    pub status: u16,
    /// Host that was traced.
    pub host: Rc<str>,
    /// The request's own facts; `None` where they could not be read.
    pub request: Option<RequestFacts>,
    /// Which nginx worker.
    pub worker: WorkerFacts,
    /// The upstream of the last attempt.
    pub upstream: Option<UpstreamFacts>,
    /// What nginx saw.
    pub symptom: Symptom,
    /// Why: the finding's.
    pub cause: Cause,
    /// How sure: the finding's.
    pub certainty: Certainty,
    /// Why, with its facts.
    pub finding: Finding,
    /// The upstream as sentences name it: its address, else nginx's name for it.
    pub target: Rc<str>,
    /// What nginx said.
    pub nginx: NginxWords,
    /// The way from nginx to where the cause is; empty where nginx's own socket leads there.
    pub hops: Vec<Hop>,
    /// Observed facts in time order.
    pub evidence: Vec<Evidence>,
    /// Attempts in the order nginx made them.
    pub attempts: Vec<AttemptFacts>,
    /// The deciding errno.
    pub errno: Option<i32>,
    /// Times of the deciding attempt.
    pub latency: Times,
}

/// Facts of the client's request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RequestFacts {
    /// GET, POST, …
    #[serde(serialize_with = "lossy_or_null")]
    pub method: Option<BString>,
    /// URI as sent, query included (sinks cut it off unless asked).
    #[serde(serialize_with = "lossy_or_null")]
    pub uri: Option<BString>,
    /// Host header.
    #[serde(serialize_with = "lossy_or_null")]
    pub host: Option<BString>,
    /// Client address.
    #[serde(serialize_with = "lossy_or_null")]
    pub client: Option<BString>,
}

/// The nginx worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WorkerFacts {
    /// Host pid.
    pub pid: Pid,
    /// Executable.
    #[serde(serialize_with = "lossy_or_null")]
    pub exe: Option<BString>,
    /// Container: its whole id, or its name where there is no id.
    pub container: Option<String>,
    /// What that is called: see [`ContainerNames::label`].
    pub container_name: Option<String>,
}

/// The upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UpstreamFacts {
    /// As nginx names it: `127.0.0.1:9000`, `unix:/run/x.sock`, or a group's name.
    #[serde(serialize_with = "lossy")]
    pub address: BString,
    /// True for AF_UNIX. In JSON `kind`, `unix` or `tcp`.
    #[serde(rename = "kind", serialize_with = "family")]
    pub unix: bool,
    /// The process that listens or listened there.
    pub process: Option<Rc<ProcessFacts>>,
}

/// A process with the names people use for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessFacts {
    /// Host pid.
    pub pid: Pid,
    /// Name; U+FFFD for what is not UTF-8.
    pub comm: String,
    /// systemd unit.
    pub unit: Option<Rc<str>>,
    /// The user whose own service manager keeps the unit; `None` for the system's.
    pub unit_of_user: Option<u32>,
    /// Container, in the same form.
    pub container: Option<String>,
    /// What that is called.
    pub container_names: Option<ContainerNames>,
    /// php-fpm's pool, where the process names it in its title.
    pub pool: Option<String>,
}

impl ProcessFacts {
    /// The container's name, else its id.
    pub fn container_label(&self) -> Option<String> {
        self.container_names.as_ref().and_then(ContainerNames::label).or_else(|| self.container.clone())
    }
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AttemptFacts {
    /// The peer.
    #[serde(serialize_with = "lossy_or_null")]
    pub upstream: Option<BString>,
    /// What nginx saw; `None` for an attempt that did not fail.
    #[serde(serialize_with = "contracted")]
    pub symptom: Option<Symptom>,
    /// Why.
    pub cause: Option<Cause>,
    /// errno.
    #[serde(serialize_with = "errno")]
    pub errno: Option<i32>,
    /// Its times.
    #[serde(flatten)]
    pub times: Times,
}

/// Durations in microseconds; `None` when not reached or not observed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Times {
    /// connect(2) to established.
    pub connect_us: Option<u64>,
    /// Request sent to first response byte.
    pub first_byte_us: Option<u64>,
    /// Start of the attempt to its end.
    pub total_us: Option<u64>,
}

fn family<S: Serializer>(unix: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if *unix { "unix" } else { "tcp" })
}

fn contracted<S: Serializer>(symptom: &Option<Symptom>, serializer: S) -> Result<S::Ok, S::Error> {
    symptom.and_then(Symptom::fact).serialize(serializer)
}

fn errno<S: Serializer>(number: &Option<i32>, serializer: S) -> Result<S::Ok, S::Error> {
    number.map(Errno).serialize(serializer)
}

macro_rules! named_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every value, in the contract's order.
            pub const ALL: &[$name] = &[$($name::$variant,)+];

            /// The name in JSON and on the command line.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text,)+ }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                Self::ALL.iter().copied().find(|value| value.as_str() == text).ok_or_else(|| {
                    let names: Vec<_> = Self::ALL.iter().map(|value| value.as_str()).collect();
                    format!("unknown {} `{text}`: expected one of {}", stringify!($name).to_lowercase(), names.join(", "))
                })
            }
        }
    };
}

pub(super) use named_enum;

named_enum! {
    /// What nginx saw.
    Symptom {
        /// ECONNREFUSED from a TCP connect.
        ConnectRefused = "connect-refused",
        /// EHOSTUNREACH, ENETUNREACH, EHOSTDOWN, ENETDOWN.
        ConnectUnreachable = "connect-unreachable",
        /// EACCES or EPERM from a TCP connect.
        ConnectDenied = "connect-denied",
        /// The connect timer ran out, or the kernel's ETIMEDOUT.
        ConnectTimedOut = "connect-timed-out",
        /// EADDRNOTAVAIL.
        AddressExhausted = "address-exhausted",
        /// ENOENT from a unix connect.
        SocketMissing = "socket-missing",
        /// ECONNREFUSED from a unix connect.
        SocketRefused = "socket-refused",
        /// EACCES or EPERM from a unix connect.
        SocketDenied = "socket-denied",
        /// EAGAIN from a unix connect.
        SocketBacklogFull = "socket-backlog-full",
        /// Connecting or the TLS handshake failed, and with which error is not known: nginx's text is hidden. For people
        /// only; see [`Symptom::fact`].
        ConnectFailed = "connect-failed",
        /// EMFILE, ENFILE, or no worker_connections left.
        FdExhausted = "fd-exhausted",
        /// The TLS handshake failed.
        TlsFailed = "tls-failed",
        /// The request could not be written.
        SendFailed = "send-failed",
        /// RST while reading the response header.
        Reset = "reset",
        /// FIN before a complete response header.
        ClosedEarly = "closed-early",
        /// The header is not one.
        HeaderInvalid = "header-invalid",
        /// nginx gave a response up of which it had read some, and why is not known. For people only; see
        /// [`Symptom::fact`].
        ResponseFailed = "response-failed",
        /// The header exceeds the buffer.
        HeaderTooBig = "header-too-big",
        /// The read, send or handshake timer ran out.
        ReadTimedOut = "read-timed-out",
        /// Every peer is marked down.
        NoLiveUpstreams = "no-live-upstreams",
        /// The resolver gave no address.
        NameUnresolved = "name-unresolved",
        /// The upstream itself answered 502 or 504.
        UpstreamStatus = "upstream-status",
        /// The failure came after the header was sent.
        ResponseTruncated = "response-truncated",
    }
}

/// What holds for a symptom whatever its cause.
struct Properties {
    /// Whether it is an errno of connect(2) that makes it, rather than nginx's timer or status.
    of_connect: bool,
    /// Whether it is a call that failed: an errno of its socket is then its own, and no error beside it.
    of_a_call: bool,
    /// The errno that it always comes with.
    implies: Option<i32>,
    /// Whether the contract has a word for it.
    worded: bool,
}

impl Symptom {
    /// The one table of them: a new symptom is a row here.
    fn properties(self) -> Properties {
        use nix::errno::Errno::{EAGAIN, ECONNREFUSED, ENOENT, ETIMEDOUT};
        let row = |of_connect, of_a_call, implies: Option<nix::errno::Errno>| Properties {
            of_connect,
            of_a_call,
            implies: implies.map(|errno| errno as i32),
            worded: true,
        };
        match self {
            Symptom::ConnectRefused | Symptom::SocketRefused => row(true, true, Some(ECONNREFUSED)),
            Symptom::SocketMissing => row(true, true, Some(ENOENT)),
            Symptom::SocketBacklogFull => row(true, true, Some(EAGAIN)),
            Symptom::ConnectUnreachable
            | Symptom::ConnectDenied
            | Symptom::AddressExhausted
            | Symptom::SocketDenied => row(true, true, None),
            Symptom::ConnectTimedOut | Symptom::ReadTimedOut => row(false, true, Some(ETIMEDOUT)),
            Symptom::FdExhausted | Symptom::SendFailed | Symptom::Reset | Symptom::ResponseTruncated => {
                row(false, true, None)
            }
            Symptom::TlsFailed
            | Symptom::ClosedEarly
            | Symptom::HeaderInvalid
            | Symptom::HeaderTooBig
            | Symptom::NoLiveUpstreams
            | Symptom::NameUnresolved
            | Symptom::UpstreamStatus => row(false, false, None),
            Symptom::ConnectFailed | Symptom::ResponseFailed => {
                Properties { worded: false, ..row(false, true, None) }
            }
        }
    }

    /// The fact as data formats hold it: `None` where no word of the contract says what was seen, and an absent fact is
    /// null there.
    pub fn fact(self) -> Option<&'static str> {
        self.properties().worded.then_some(self.as_str())
    }

    /// Whether it is an errno of connect(2) that makes the symptom.
    pub(super) fn is_of_connect(self) -> bool {
        self.properties().of_connect
    }

    /// The errno that the symptom always comes with.
    pub(super) fn implied_errno(self) -> Option<i32> {
        self.properties().implies
    }

    /// The socket's errno as this symptom's: an error that came to the socket beside the failure is not its reason.
    pub(super) fn errno_of(self, socket: Option<&Socket>) -> Option<i32> {
        socket?.errno.filter(|_| self.properties().of_a_call)
    }
}

named_enum! {
    /// Why, in the kernel.
    Cause {
        /// The listener, or the connection's holder, was an OOM victim.
        OomKilled = "oom-killed",
        /// It died of a signal that another process sent.
        Killed = "killed",
        /// It died of a fault or abort of its own.
        Crashed = "crashed",
        /// It exited.
        Exited = "exited",
        /// It lives but closed its listening socket.
        StoppedListening = "stopped-listening",
        /// Nobody has listened there since tracing began.
        NotListening = "not-listening",
        /// A living AF_UNIX listener, whose file does not lead to it.
        SocketReplaced = "socket-replaced",
        /// The accept queue was full.
        QueueFull = "queue-full",
        /// Established by the kernel, accepted by nobody.
        NotAccepted = "not-accepted",
        /// Accepted, not answered in time.
        UpstreamSlow = "upstream-slow",
        /// It, or all that could have accepted, waits for another socket's answer.
        DependencySlow = "dependency-slow",
        /// It computes.
        CpuBound = "cpu-bound",
        /// Its cgroup's CPU quota holds it.
        CpuThrottled = "cpu-throttled",
        /// It is stopped, traced or frozen.
        Paused = "paused",
        /// It waits for a file system or a full pipe.
        IoWait = "io-wait",
        /// It waits for a lock.
        LockWait = "lock-wait",
        /// Its memory cgroup is at its limit.
        MemoryPressure = "memory-pressure",
        /// An upgraded connection was silent for the read timeout.
        IdleTimeout = "idle-timeout",
        /// A living process on this host closed or reset the connection.
        ClosedByUpstream = "closed-by-upstream",
        /// A reused idle connection that the upstream was closing.
        KeepaliveRace = "keepalive-race",
        /// FIN or RST from another host.
        ClosedByRemote = "closed-by-remote",
        /// A filter rejected it, not the listener.
        Firewall = "firewall",
        /// No route, or the host or network is down.
        Unreachable = "unreachable",
        /// The permission bits on the socket's path.
        FilePermissions = "file-permissions",
        /// An LSM, seccomp or a cgroup program.
        SecurityPolicy = "security-policy",
        /// No free local port.
        PortExhaustion = "port-exhaustion",
        /// Descriptor limit.
        FdLimit = "fd-limit",
        /// nginx could not write or open its own temporary file.
        NginxStorage = "nginx-storage",
        /// The two ends speak different protocols.
        ProtocolMismatch = "protocol-mismatch",
        /// The upstream refused the TLS handshake with an alert.
        TlsRejected = "tls-rejected",
        /// nginx does not accept the upstream's certificate.
        CertificateInvalid = "certificate-invalid",
        /// The upstream's own bytes are malformed.
        BadResponse = "bad-response",
        /// HTTP/2: the stream was refused or reset.
        StreamReset = "stream-reset",
        /// Valid header, larger than the buffer.
        HeaderBufferSmall = "header-buffer-small",
        /// Every peer is marked down.
        AllPeersDown = "all-peers-down",
        /// The resolver failed.
        Dns = "dns",
        /// The upstream answered 502/504 itself.
        UpstreamError = "upstream-error",
        /// Nothing proves more.
        Unknown = "unknown",
    }
}

named_enum! {
    /// How sure a cause is.
    Certainty {
        /// The chain of observed events is complete.
        Proven = "proven",
        /// One link is a match in time or name.
        Inferred = "inferred",
        /// Nothing proves more.
        Unknown = "unknown",
    }
}
