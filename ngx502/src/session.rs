//! What holds for a whole trace, live or captured: the first thing in a capture, and what turns boot time into wall
//! time.

use serde::{Deserialize, Serialize};

use crate::event::Nanos;

/// What a trace may observe, by the name in [`Session::providers`]: those that something depends on. All of them are in
/// the table `kernel::providers`.
pub mod observation {
    /// A process runs another program.
    pub const EXEC: &str = "exec";
    /// The life of TCP sockets, listeners included.
    pub const TCP_STATE: &str = "tcp-state";
    /// RSTs that this host sends, also to segments that met no connection.
    pub const RESET_SENT: &str = "tcp-reset-sent";
    /// Bytes sent on any socket.
    pub const SENT: &str = "sent";
    /// Bytes received on any socket.
    pub const RECEIVED: &str = "received";
    /// AF_UNIX listeners that open.
    pub const UNIX_LISTEN: &str = "unix-listen";
}

/// Stands for the provider of an observation that has none.
pub const NO_PROVIDER: &str = "none";

/// Metadata of one trace on one host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Session {
    /// ngx502's version.
    pub version: String,
    /// The host's name.
    pub host: String,
    /// `uname -r`.
    pub kernel: String,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// The tracer's command line.
    pub command: Vec<String>,
    /// Which hook serves each observation: (name, provider); [`NO_PROVIDER`] where it is missing.
    pub providers: Vec<(String, String)>,
    /// nginx builds found at the start, as `nginx -v` would name them with their executable.
    pub nginx: Vec<String>,
    /// Pids of the nginx workers found at the start.
    pub workers: Vec<u32>,
    /// CLOCK_REALTIME minus CLOCK_BOOTTIME at the start, in nanoseconds.
    pub wall_offset: i64,
    /// Boot time when everything was attached: from here on nothing is missed.
    pub ready_at: Nanos,
    /// Whether URIs may be shown with their query string.
    pub with_query: bool,
    /// Statuses that the trace reported; `None` for every failed upstream request. The records hold all of them.
    pub statuses: Option<Vec<u16>>,
    /// Whether the trace also reported errors that the upstream itself answered.
    pub passthrough: bool,
}

impl Session {
    /// Nanoseconds since the Unix epoch for a boot time of this host.
    pub fn wall(&self, at: Nanos) -> i128 {
        i128::from(at.0) + i128::from(self.wall_offset)
    }

    /// The observations that have no provider.
    pub fn missing(&self) -> impl Iterator<Item = &str> {
        let missing = self.providers.iter().filter(|(_, provider)| provider == NO_PROVIDER);
        missing.map(|(observation, _)| observation.as_str())
    }

    /// The provider of an observation; `None` when it has none.
    pub fn provider(&self, observation: &str) -> Option<&str> {
        let (_, provider) = self.providers.iter().find(|(name, _)| name == observation)?;
        (provider != NO_PROVIDER).then_some(provider)
    }
}
