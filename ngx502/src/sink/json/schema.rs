//! The lines but a verdict's (`line`), their fields in the order in which they are written.

use serde::{Serialize, Serializer};

use crate::session::Session;
use crate::summary::{Summary, UpstreamLatency};
use crate::time::Moment;

/// A line. Its variant's name in lower case is its `type`.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum Plain<'a> {
    Ready {
        schema: u32,
        version: &'a str,
        kernel: &'a str,
        /// Pids of the nginx workers.
        workers: &'a [u32],
        /// Signal to provider; `null` where a signal has none.
        #[serde(serialize_with = "provider_of_each")]
        providers: &'a Session,
        host: &'a str,
        time: Moment,
    },
    Lost {
        events: u64,
        /// Where they were lost.
        reason: &'a str,
    },
    Notice {
        time: Moment,
        host: &'a str,
        topic: &'a str,
        text: &'a str,
    },
    Summary(&'a Summary),
    /// All upstream requests since the trace began, on SIGUSR1 and with `--interval`.
    Latency {
        time: Moment,
        host: &'a str,
        upstreams: &'a [UpstreamLatency],
    },
}

fn provider_of_each<S: Serializer>(session: &&Session, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(session.providers.iter().map(|(signal, _)| (signal, session.provider(signal))))
}
