//! Why an attempt failed, as data; its sentence, its remedies and its JSON as views of that data.
//!
//! `cause` decides and returns a [`Finding`]; nothing is worded before somebody shows it. Each family of causes is one
//! page here: the facts as an enum whose fields are the JSON's `details` (`docs/json.md`), then the cause that each variant
//! means, its sentence and what to do about it; what proves no cause has a page of its own. What is concluded and not
//! observed is a [`Doubt`]: a finding without one is proven. [`evidence`] holds what was observed.
//!
//! Sentences are made of names that strangers chose (processes, units, paths): sinks escape them, commands quote them.

pub mod connection;
pub mod death;
pub mod denied;
mod doubt;
pub mod evidence;
mod fix;
pub mod hops;
pub mod listener;
pub mod local;
mod manager;
mod moved;
mod nginx_words;
pub mod peers;
mod process;
pub mod protocol;
pub mod tls;
mod unknown;
pub mod waiting;
pub mod waits;

use std::fmt::{self, Display as _};
use std::net::{IpAddr, SocketAddr};

use bstr::ByteSlice as _;
use serde::{Serialize, Serializer};

pub use self::connection::Connection;
pub use self::death::Death;
pub use self::denied::Denied;
pub use self::doubt::Doubt;
pub use self::fix::{Fix, FixKind};
use self::hops::On;
pub use self::listener::Listener;
pub use self::local::Local;
pub use self::moved::Moved;
pub use self::nginx_words::{LogWords, NginxWords};
pub use self::peers::PeersDown;
pub use self::protocol::Protocol;
pub use self::tls::Tls;
pub use self::unknown::Unknown;
pub use self::waiting::Waiting;
pub use self::waits::Stuck;
use super::verdict::{Cause, Certainty, Verdict};
use crate::event::{Endpoint, Nanos};
use crate::units::Micros;

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// What is known, by family of causes.
    pub facts: Facts,
    /// What of it is concluded, not observed; empty for a proven cause.
    pub doubts: Vec<Doubt>,
}

/// What is known of a failure. Serialises as the fields of the one variant.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Facts {
    /// A process ended.
    Death(Death),
    /// Nobody accepted a connect.
    Listener(Listener),
    /// An established connection ended.
    Connection(Connection),
    /// Waiting ended without an answer.
    Waiting(Waiting),
    /// The processes that could have answered were stuck.
    Stuck(Stuck),
    /// The kernel said EACCES or EPERM.
    Denied(Denied),
    /// This host lacks something, or cannot reach the upstream.
    Local(Local),
    /// The upstream's own bytes.
    Protocol(Protocol),
    /// A TLS handshake was refused.
    Tls(Tls),
    /// No peer was left.
    PeersDown(PeersDown),
    /// Nothing proves a cause.
    Unknown(Unknown),
}

/// One page: how the facts of a family read.
trait Page {
    /// The cause that these facts mean.
    fn cause(&self) -> Cause;

    /// Writes the sentence, without its doubts.
    fn sentence(&self, on: &On<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result;

    /// Appends what to do: a command or configuration line each, the best first.
    fn fix(&self, on: &On<'_>, lines: &mut Vec<Fix>);

    /// When what these facts tell of happened, where they have a moment of their own.
    fn moment(&self) -> Option<Nanos> {
        None
    }
}

macro_rules! families {
    ($($family:ident),+) => {
        $(impl From<$family> for Facts {
            fn from(facts: $family) -> Facts {
                Facts::$family(facts)
            }
        })+

        impl Facts {
            fn page(&self) -> &dyn Page {
                match self { $(Facts::$family(facts) => facts,)+ }
            }
        }
    };
}
families!(Death, Listener, Connection, Waiting, Stuck, Denied, Local, Protocol, Tls, PeersDown, Unknown);

impl Finding {
    /// Facts that prove a cause, or that prove none.
    pub(super) fn new(facts: impl Into<Facts>) -> Self {
        Self { facts: facts.into(), doubts: Vec::new() }
    }

    /// Facts of which one link is concluded.
    pub(super) fn inferred(facts: impl Into<Facts>, doubt: Doubt) -> Self {
        Self { facts: facts.into(), doubts: vec![doubt] }
    }

    /// The cause that the facts mean.
    pub fn cause(&self) -> Cause {
        self.facts.page().cause()
    }

    /// Whether it says that a process closed the connection which lives on; a tool that destroyed it may end as it likes.
    pub(super) fn closer_lives(&self) -> bool {
        let destroyed = connection::Close::Destroyed;
        matches!(&self.facts, Facts::Connection(Connection::ClosedByUpstream { how, .. }) if *how != destroyed)
    }

    /// Writes the sentence with its doubts.
    fn sentence(&self, on: &On<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.facts.page().sentence(on, f)?;
        for (number, doubt) in self.doubts.iter().enumerate() {
            f.write_str(if number == 0 { " (inferred: " } else { "; " })?;
            doubt.fmt(f)?;
        }
        f.write_str(if self.doubts.is_empty() { "" } else { ")" })
    }

    /// How sure that is.
    pub fn certainty(&self) -> Certainty {
        match (self.cause(), self.doubts.is_empty()) {
            (Cause::Unknown, _) => Certainty::Unknown,
            (_, true) => Certainty::Proven,
            (_, false) => Certainty::Inferred,
        }
    }
}

impl Verdict {
    /// One sentence a person can act on.
    pub fn summary(&self) -> impl fmt::Display {
        fmt::from_fn(|f| self.finding.sentence(&On::root(self), f))
    }

    /// What to do: a command or configuration line each, the best first.
    pub fn fix(&self) -> Vec<Fix> {
        let mut lines = Vec::new();
        self.finding.facts.page().fix(&On::root(self), &mut lines);
        lines
    }

    /// The finding's facts as JSON's `details`: see `docs/json.md`.
    pub fn details(&self) -> impl Serialize {
        Details {
            facts: &self.finding.facts,
            before_us: self.finding.facts.page().moment().map(|at| self.before(at)),
        }
    }

    /// How long before nginx answered something happened: the one zero of sentences, `before_us` and evidence.
    fn before(&self, at: Nanos) -> Micros {
        Micros(self.at.micros_since(at))
    }

    /// ` 12.3 s before this 502`.
    fn when(&self, at: Nanos) -> impl fmt::Display {
        let (before, status) = (self.before(at), self.status);
        fmt::from_fn(move |f| {
            f.write_str(" ")?;
            before.fmt(f)?;
            match status {
                400.. => write!(f, " before this {status}"),
                _ => f.write_str(" before nginx answered"),
            }
        })
    }
}

#[derive(Serialize)]
struct Details<'a> {
    #[serde(flatten)]
    facts: &'a Facts,
    #[serde(skip_serializing_if = "Option::is_none")]
    before_us: Option<Micros>,
}

/// Writes the parts of a sentence that a storm repeats: the formatter takes ten times as long for each.
fn say(f: &mut fmt::Formatter<'_>, parts: &[&str]) -> fmt::Result {
    parts.iter().try_for_each(|part| f.write_str(part))
}

/// An address or path as people write it; abstract paths start with `@`.
pub(super) fn place(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Tcp(SocketAddr::V4(address)) => {
            // In a storm each verdict has one, and the formatter takes ten times as long.
            let mut text = String::with_capacity("255.255.255.255:65535".len());
            let mut number = itoa::Buffer::new();
            for (octet, end) in address.ip().octets().into_iter().zip([".", ".", ".", ":"]) {
                text.push_str(number.format(octet));
                text.push_str(end);
            }
            text + number.format(address.port())
        }
        Endpoint::Tcp(address) => address.to_string(),
        Endpoint::Unix(path) if path.first() == Some(&0) => format!("@{}", path[1..].to_str_lossy()),
        Endpoint::Unix(path) => path.to_str_lossy().into_owned(),
    }
}

/// How to see which way this host sends packets to an address.
fn route(to: IpAddr) -> Fix {
    Fix::command(format!("ip route get {to}"))
}

/// Bytes as JSON's text, U+FFFD for what is not UTF-8.
pub(crate) fn lossy<S: Serializer>(bytes: &impl AsRef<[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&bytes.as_ref().to_str_lossy())
}

/// The same for bytes that may not be known.
pub(crate) fn lossy_or_null<S: Serializer>(
    bytes: &Option<bstr::BString>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match bytes {
        Some(bytes) => lossy(bytes, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_the_library_writes_them() {
        for text in
            ["0.0.0.0:1", "127.0.0.1:9000", "255.255.255.255:65535", "[::1]:80", "[::ffff:10.0.0.7]:0"]
        {
            let address: SocketAddr = text.parse().expect("an address");
            assert_eq!(place(&Endpoint::Tcp(address)), address.to_string());
        }
    }
}
