//! The last line of a trace: how often what happened.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::verdict::{Cause, Outcome, Symptom, Times, Verdict};

/// One hour in microseconds: longer times are counted as this.
const HIGHEST: u64 = 3_600_000_000;

/// Counts of outcomes, and the times of failed attempts.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Failed client requests.
    pub verdicts: u64,
    /// Requests that a retry, a fallback or a stale answer saved.
    pub rescued: u64,
    /// Verdicts by cause.
    pub by_cause: BTreeMap<Cause, u64>,
    /// Verdicts by symptom.
    pub by_symptom: BTreeMap<Symptom, u64>,
    /// Errors that nginx answered without an upstream, by status.
    pub not_upstream: BTreeMap<u16, u64>,
    /// Records lost before they reached attribution.
    pub lost_events: u64,
    connect: Histogram<u64>,
    first_byte: Histogram<u64>,
    total: Histogram<u64>,
}

/// Percentiles of one kind of time, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percentiles {
    /// How many attempts had this time.
    pub count: u64,
    /// Median.
    pub p50_us: u64,
    /// 90th percentile.
    pub p90_us: u64,
    /// 99th percentile.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
}

/// Times of failed attempts; `None` where none was observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedLatency {
    /// connect(2) to established.
    pub connect: Option<Percentiles>,
    /// Request sent to first byte.
    pub first_byte: Option<Percentiles>,
    /// Start of the attempt to its end.
    pub total: Option<Percentiles>,
}

impl Default for Summary {
    fn default() -> Self {
        let histogram =
            || Histogram::new_with_bounds(1, HIGHEST, 3).expect("bounds and precision are in range");
        Self {
            verdicts: 0,
            rescued: 0,
            by_cause: BTreeMap::new(),
            by_symptom: BTreeMap::new(),
            not_upstream: BTreeMap::new(),
            lost_events: 0,
            connect: histogram(),
            first_byte: histogram(),
            total: histogram(),
        }
    }
}

impl Summary {
    /// An empty tally.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one outcome.
    pub fn add(&mut self, outcome: &Outcome) {
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

    /// Percentiles of the failed attempts' times.
    pub fn latency(&self) -> FailedLatency {
        FailedLatency {
            connect: percentiles(&self.connect),
            first_byte: percentiles(&self.first_byte),
            total: percentiles(&self.total),
        }
    }

    fn time_failures(&mut self, verdict: &Verdict) {
        for attempt in verdict.attempts.iter().filter(|attempt| attempt.symptom.is_some()) {
            let Times { connect_us, first_byte_us, total_us } = attempt.times;
            let times = [
                (&mut self.connect, connect_us),
                (&mut self.first_byte, first_byte_us),
                (&mut self.total, total_us),
            ];
            for (histogram, time) in times {
                time.into_iter().for_each(|time| histogram.saturating_record(time));
            }
        }
    }
}

fn percentiles(histogram: &Histogram<u64>) -> Option<Percentiles> {
    (!histogram.is_empty()).then(|| Percentiles {
        count: histogram.len(),
        p50_us: histogram.value_at_quantile(0.5),
        p90_us: histogram.value_at_quantile(0.9),
        p99_us: histogram.value_at_quantile(0.99),
        max_us: histogram.max(),
    })
}
