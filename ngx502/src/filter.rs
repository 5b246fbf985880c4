//! Which verdicts are of interest.

use std::borrow::Cow;

use clap::Args;
use jiff::Timestamp;

use crate::attribute::verdict::{Cause, Outcome, Symptom, Verdict};
use crate::event::{Latency, LatencySeries, Nanos};
use crate::session::Session;
use crate::values;

/// Which verdicts to show. Empty lists let everything through; within a list any entry suffices.
#[derive(Clone, Debug, Default, Args)]
pub struct Filter {
    /// Only these causes, e.g. oom-killed,queue-full.
    #[arg(long = "cause", value_delimiter = ',', value_name = "CAUSE")]
    pub causes: Vec<Cause>,
    /// Only these symptoms, e.g. connect-refused.
    #[arg(long = "symptom", value_delimiter = ',', value_name = "SYMPTOM")]
    pub symptoms: Vec<Symptom>,
    /// Only this upstream, as nginx names it, e.g. 127.0.0.1:9000 or unix:/run/x.sock; repeatable.
    #[arg(long = "upstream", value_name = "ADDRESS")]
    pub upstreams: Vec<String>,
    /// Only verdicts of this host; repeatable.
    #[arg(long = "host", value_name = "NAME")]
    pub hosts: Vec<String>,
    /// Only verdicts at or after this time, e.g. 2026-11-21T02:00:00Z (UTC if no offset is given).
    #[arg(long, value_parser = values::moment, value_name = "TIME")]
    pub since: Option<Timestamp>,
    /// Only verdicts before this time.
    #[arg(long, value_parser = values::moment, value_name = "TIME")]
    pub until: Option<Timestamp>,
}

impl Filter {
    /// Whether what happened on a host at a moment is to be shown.
    pub fn accepts_moment(&self, session: &Session, at: Nanos) -> bool {
        let wall = session.wall(at);
        self.accepts_host(session)
            && self.since.is_none_or(|since| wall >= since.as_nanosecond())
            && self.until.is_none_or(|until| wall < until.as_nanosecond())
    }

    /// The latency of the upstreams that are to be shown.
    pub fn narrowed<'a>(&self, latency: &'a Latency) -> Cow<'a, Latency> {
        if self.upstreams.is_empty() {
            return Cow::Borrowed(latency);
        }
        let wanted = |series: &&LatencySeries| self.accepts_upstream(&series.upstream);
        let series = latency.series.iter().filter(wanted).cloned().collect();
        Cow::Owned(Latency { since: latency.since, series })
    }

    /// Whether an outcome is to be shown. Losses and notices always are, for the filter's hosts; answers that nginx gave without
    /// an upstream have neither time nor cause, so that any filter but the host's hides them.
    pub fn accepts(&self, session: &Session, outcome: &Outcome) -> bool {
        self.accepts_host(session)
            && match outcome {
                Outcome::Verdict(verdict) | Outcome::Rescued(verdict) => {
                    self.accepts_verdict(session, verdict)
                }
                Outcome::Lost { .. } | Outcome::Notice { .. } => true,
                Outcome::NotUpstream { .. } => !self.looks_inside(),
            }
    }

    fn looks_inside(&self) -> bool {
        let Filter { causes, symptoms, upstreams, hosts: _, since, until } = self;
        !(causes.is_empty()
            && symptoms.is_empty()
            && upstreams.is_empty()
            && since.is_none()
            && until.is_none())
    }

    fn accepts_host(&self, session: &Session) -> bool {
        self.hosts.is_empty() || self.hosts.contains(&session.host)
    }

    fn accepts_upstream(&self, address: &[u8]) -> bool {
        self.upstreams.is_empty() || self.upstreams.iter().any(|name| name.as_bytes() == address)
    }

    fn accepts_verdict(&self, session: &Session, verdict: &Verdict) -> bool {
        let address = verdict.upstream.as_ref().map_or(&b""[..], |upstream| &upstream.address);
        (self.causes.is_empty() || self.causes.contains(&verdict.cause))
            && (self.symptoms.is_empty() || self.symptoms.contains(&verdict.symptom))
            && self.accepts_upstream(address)
            && self.accepts_moment(session, verdict.at)
    }
}
