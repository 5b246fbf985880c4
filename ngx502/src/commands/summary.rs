//! What a whole trace or replay amounts to, for sinks to show.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::{self, Write as _};

use crate::attribute::verdict::Outcome;
use crate::attribute::{self, Summary};
use crate::event::{Body, Latency, Record};
use crate::latency::{self, Totals};
use crate::sink::{LatencyFacts, Quantiles, SummaryFacts, UpstreamLatency};

/// Counts outcomes, and adds up the latency that the kernel counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    outcomes: Summary,
    latency: Totals,
}

impl Tally {
    /// An outcome that was shown.
    pub(super) fn outcome(&mut self, outcome: &Outcome) {
        self.outcomes.add(outcome);
    }

    /// A record, of which only the kernel's histograms count.
    pub(super) fn record(&mut self, record: &Record) {
        if let Body::Latency(latency) = &record.body {
            self.latency.add(latency);
        }
    }

    /// The tally as plain data, most frequent first. Latency is that of all upstream requests where the kernel counted
    /// them, else that of failed attempts.
    pub(super) fn facts(&self) -> SummaryFacts {
        let Self { outcomes, latency } = self;
        SummaryFacts {
            verdicts: outcomes.verdicts,
            rescued: outcomes.rescued,
            by_cause: descending(&outcomes.by_cause),
            by_symptom: descending(&outcomes.by_symptom),
            not_upstream: descending(&outcomes.not_upstream),
            lost_events: outcomes.lost_events,
            latency: if latency.is_empty() { failed(outcomes) } else { phases(latency.all()) },
            upstreams: upstreams(latency),
        }
    }

    /// Latency so far, per upstream and outcome; `uncounted` is what the records will tell later.
    pub(super) fn upstreams(&self, uncounted: Option<&Latency>) -> Vec<UpstreamLatency> {
        match uncounted {
            Some(uncounted) => {
                let mut latency = self.latency.clone();
                latency.add(uncounted);
                upstreams(&latency)
            }
            None => upstreams(&self.latency),
        }
    }
}

fn upstreams(latency: &Totals) -> Vec<UpstreamLatency> {
    let series = latency.series();
    series
        .map(|(upstream, ok, durations)| UpstreamLatency {
            upstream: upstream.clone(),
            ok,
            latency: phases(durations),
        })
        .collect()
}

fn phases(durations: &latency::Durations) -> LatencyFacts {
    LatencyFacts {
        connect: durations.connect().map(quantiles),
        first_byte: durations.first_byte().map(quantiles),
        total: durations.total().map(quantiles),
    }
}

fn failed(outcomes: &Summary) -> LatencyFacts {
    let attribute::FailedLatency { connect, first_byte, total } = outcomes.latency();
    let quantiles = |percentiles: attribute::Percentiles| {
        let attribute::Percentiles { count, p50_us, p90_us, p99_us, max_us } = percentiles;
        Quantiles { count, p50: p50_us, p90: p90_us, p99: p99_us, max: max_us }
    };
    LatencyFacts {
        connect: connect.map(quantiles),
        first_byte: first_byte.map(quantiles),
        total: total.map(quantiles),
    }
}

fn descending<K: Copy + Ord>(counts: &BTreeMap<K, u64>) -> Vec<(K, u64)> {
    let mut list: Vec<_> = counts.iter().map(|(key, count)| (*key, *count)).collect();
    list.sort_by_key(|(_, count)| Reverse(*count));
    list
}

fn quantiles(percentiles: latency::Percentiles) -> Quantiles {
    let latency::Percentiles { count, p50, p90, p99, max } = percentiles;
    Quantiles { count, p50, p90, p99, max }
}

/// Says that attribution had too little room to remember everything, if so: the verdicts themselves do not tell.
pub(super) fn tell_forgotten(evicted: u64) {
    if evicted > 0 {
        // Whoever closed standard error does not want to know.
        let _ = writeln!(
            io::stderr(),
            "ngx502: {evicted} facts about listeners, processes or look-ups were evicted (table full); causes that \
             needed them are inferred or unknown"
        );
    }
}
