//! What a whole trace or replay amounts to: how often what happened, and how long upstream requests took.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use bstr::BString;
use serde::{Serialize, Serializer};

use crate::attribute::finding::lossy;
use crate::attribute::verdict::{Cause, Outcome, Symptom, Verdict};
use crate::event::{Body, Latency, Record};
use crate::latency::{Distribution, Figures, Phases, Quantiles};

/// The tally as plain data. Serialises as the fields of JSON's `summary` line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Client requests that failed.
    pub verdicts: u64,
    /// Requests with a failed attempt that were answered nevertheless.
    pub rescued: u64,
    /// Verdicts by cause, most frequent first.
    #[serde(serialize_with = "counts")]
    pub by_cause: Vec<(Cause, u64)>,
    /// Verdicts by symptom, most frequent first. In JSON `unknown`, at the end, for those whose symptom is null there.
    #[serde(serialize_with = "symptoms")]
    pub by_symptom: Vec<(Symptom, u64)>,
    /// Statuses ≥ 500 that nginx gave without an upstream, most frequent first.
    #[serde(serialize_with = "counts")]
    pub not_upstream: Vec<(u16, u64)>,
    /// Records that were lost.
    pub lost_events: u64,
    /// Latency of all upstream requests where the kernel counted them, else of failed attempts.
    #[serde(serialize_with = "figures")]
    pub latency: Figures,
    /// The same per upstream and outcome; empty where the kernel did not count.
    pub upstreams: Vec<UpstreamLatency>,
}

/// Latency of the requests to one upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UpstreamLatency {
    /// As nginx names it: `127.0.0.1:9000`, `unix:/run/x.sock`.
    #[serde(rename = "address", serialize_with = "lossy")]
    pub upstream: BString,
    /// True for answered requests, false for attempts that nginx called failed.
    pub ok: bool,
    /// The durations.
    #[serde(flatten, serialize_with = "figures")]
    pub latency: Figures,
}

/// Counts outcomes, and adds up the latency that the kernel counted.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    verdicts: u64,
    rescued: u64,
    by_cause: BTreeMap<Cause, u64>,
    by_symptom: BTreeMap<Symptom, u64>,
    not_upstream: BTreeMap<u16, u64>,
    lost_events: u64,
    /// Times of failed attempts, as the verdicts have them.
    failed: Phases<Distribution>,
    latency: UpstreamTally,
}

/// What the kernel counted, by upstream and outcome, and all together.
#[derive(Clone, Debug, Default)]
struct UpstreamTally {
    each: BTreeMap<(BString, bool), Phases<Distribution>>,
    all: Phases<Distribution>,
}

impl Tally {
    /// Counts an outcome.
    pub fn outcome(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Verdict(verdict) => {
                self.verdicts += 1;
                *self.by_cause.entry(verdict.cause).or_default() += 1;
                *self.by_symptom.entry(verdict.symptom).or_default() += 1;
                self.time_failures(verdict);
            }
            Outcome::Rescued(verdict) => {
                self.rescued += 1;
                self.time_failures(verdict);
            }
            Outcome::Lost { events, .. } => self.lost_events += events,
            Outcome::Notice { .. } => {}
            Outcome::NotUpstream { status } => *self.not_upstream.entry(*status).or_default() += 1,
        }
    }

    /// Takes a record, of which only the kernel's histograms count.
    pub fn record(&mut self, record: &Record) {
        if let Body::Latency(latency) = &record.body {
            self.latency.add(latency);
        }
    }

    /// The tally so far.
    pub fn summary(&self) -> Summary {
        let counted = !self.latency.each.is_empty();
        Summary {
            verdicts: self.verdicts,
            rescued: self.rescued,
            by_cause: descending(&self.by_cause),
            by_symptom: descending(&self.by_symptom),
            not_upstream: descending(&self.not_upstream),
            lost_events: self.lost_events,
            latency: if counted { self.latency.all.figures() } else { self.failed.figures() },
            upstreams: self.latency.figures(),
        }
    }

    /// Latency so far, per upstream and outcome; `uncounted` is what the records will tell later.
    pub fn upstreams(&self, uncounted: Option<&Latency>) -> Vec<UpstreamLatency> {
        let mut latency = self.latency.clone();
        uncounted.into_iter().for_each(|uncounted| latency.add(uncounted));
        latency.figures()
    }

    fn time_failures(&mut self, verdict: &Verdict) {
        for attempt in verdict.attempts.iter().filter(|attempt| attempt.symptom.is_some()) {
            self.failed.add(attempt.times);
        }
    }
}

impl UpstreamTally {
    fn add(&mut self, latency: &Latency) {
        for series in &latency.series {
            self.each.entry((series.upstream.clone(), series.ok)).or_default().add_series(series);
            self.all.add_series(series);
        }
    }

    fn figures(&self) -> Vec<UpstreamLatency> {
        let each = self.each.iter().map(|((upstream, ok), durations)| UpstreamLatency {
            upstream: upstream.clone(),
            ok: *ok,
            latency: durations.figures(),
        });
        each.collect()
    }
}

/// Kinds and how often each was counted, most frequent first, equal ones in their order.
pub(crate) fn descending<K: Copy + Ord>(counts: &BTreeMap<K, u64>) -> Vec<(K, u64)> {
    let mut list: Vec<_> = counts.iter().map(|(key, count)| (*key, *count)).collect();
    list.sort_by_key(|(_, count)| Reverse(*count));
    list
}

fn counts<S: Serializer, K: Serialize>(counts: &[(K, u64)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(counts.iter().map(|(name, count)| (name, count)))
}

fn symptoms<S: Serializer>(counts: &[(Symptom, u64)], serializer: S) -> Result<S::Ok, S::Error> {
    let known = counts.iter().filter_map(|(symptom, count)| Some((symptom.fact()?, *count)));
    let unknown = counts.iter().filter(|(symptom, _)| symptom.fact().is_none()).map(|(_, count)| count).sum();
    serializer.collect_map(known.chain((unknown > 0).then_some(("unknown", unknown))))
}

/// The figures of each phase in the words of JSON's lines, which leave the 99.9th percentile out.
fn figures<S: Serializer>(figures: &Figures, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Percentiles {
        count: u64,
        p50: u64,
        p90: u64,
        p99: u64,
        max: u64,
    }
    let percentiles = |of: Quantiles| Percentiles {
        count: of.count,
        p50: of.p50_us,
        p90: of.p90_us,
        p99: of.p99_us,
        max: of.max_us,
    };
    let phases =
        [("connect_us", figures.connect), ("first_byte_us", figures.first_byte), ("total_us", figures.total)];
    serializer.collect_map(phases.map(|(name, figures)| (name, figures.map(percentiles))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{LatencySeries, Nanos};

    fn latency(total: Vec<(u64, u64)>) -> Latency {
        let upstream = BString::from("127.0.0.1:80");
        let series = LatencySeries { upstream, ok: true, connect: vec![], first_byte: vec![], total };
        Latency { since: Nanos(0), series: vec![series] }
    }

    #[test]
    fn intervals_add_up_and_what_is_uncounted_stays_so() {
        let mut tally = Tally::default();
        for total in [vec![(10, 1), (20, 1)], vec![(20, 97), (500, 1)]] {
            tally.record(&Record { at: Nanos(0), body: Body::Latency(Box::new(latency(total))) });
        }
        let expected =
            Quantiles { count: 100, p50_us: 20, p90_us: 20, p99_us: 20, p999_us: 500, max_us: 500 };
        let summary = tally.summary();
        assert_eq!(summary.latency, Phases { total: Some(expected), ..Phases::default() });
        assert_eq!(summary.upstreams.len(), 1);
        let count = |upstreams: Vec<UpstreamLatency>| upstreams[0].latency.total.map(|total| total.count);
        assert_eq!(count(tally.upstreams(Some(&latency(vec![(7, 2)])))), Some(102));
        assert_eq!(count(tally.upstreams(None)), Some(100));
    }
}
