//! Latency of upstream requests: what the kernel counted, added up per upstream.

use std::collections::BTreeMap;

use bstr::BString;

use crate::event::{Latency, LatencySeries};

/// Counts by a bucket's upper bound in microseconds.
type Buckets = BTreeMap<u64, u64>;

/// Percentiles of one kind of duration, in microseconds, within 6.25 % above the true ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percentiles {
    /// How many durations.
    pub count: u64,
    /// Median.
    pub p50: u64,
    /// 90th percentile.
    pub p90: u64,
    /// 99th percentile.
    pub p99: u64,
    /// Upper bound of the longest.
    pub max: u64,
}

/// The durations of one upstream and outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    connect: Buckets,
    first_byte: Buckets,
    total: Buckets,
}

impl Durations {
    /// connect(2) to established.
    pub fn connect(&self) -> Option<Percentiles> {
        percentiles(&self.connect)
    }

    /// Request sent to first byte.
    pub fn first_byte(&self) -> Option<Percentiles> {
        percentiles(&self.first_byte)
    }

    /// Start of the attempt to its last byte.
    pub fn total(&self) -> Option<Percentiles> {
        percentiles(&self.total)
    }

    fn add(&mut self, series: &LatencySeries) {
        for (sum, part) in [
            (&mut self.connect, &series.connect),
            (&mut self.first_byte, &series.first_byte),
            (&mut self.total, &series.total),
        ] {
            for (end, count) in part {
                *sum.entry(*end).or_default() += count;
            }
        }
    }
}

/// Everything counted so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    series: BTreeMap<(BString, bool), Durations>,
    all: Durations,
}

impl Totals {
    /// Adds an interval's counts.
    pub fn add(&mut self, latency: &Latency) {
        for series in &latency.series {
            self.series.entry((series.upstream.clone(), series.ok)).or_default().add(series);
            self.all.add(series);
        }
    }

    /// (upstream, whether nginx was content with it, durations), by upstream.
    pub fn series(&self) -> impl Iterator<Item = (&BString, bool, &Durations)> {
        self.series.iter().map(|((upstream, ok), durations)| (upstream, *ok, durations))
    }

    /// All upstreams and outcomes together.
    pub fn all(&self) -> &Durations {
        &self.all
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }
}

fn percentiles(buckets: &Buckets) -> Option<Percentiles> {
    let count: u64 = buckets.values().sum();
    let max = *buckets.keys().next_back()?;
    let at = |percent: u64| {
        let rank = (count * percent).div_ceil(100);
        let mut seen = 0;
        let reached = buckets.iter().find(|(_, count)| {
            seen += **count;
            seen >= rank
        });
        reached.map_or(max, |(end, _)| *end)
    };
    Some(Percentiles { count, p50: at(50), p90: at(90), p99: at(99), max })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Nanos;

    fn latency(total: Vec<(u64, u64)>) -> Latency {
        let upstream = BString::from("127.0.0.1:80");
        let series = LatencySeries { upstream, ok: true, connect: vec![], first_byte: vec![], total };
        Latency { since: Nanos(0), series: vec![series] }
    }

    #[test]
    fn intervals_add_up() {
        let mut totals = Totals::default();
        totals.add(&latency(vec![(10, 1), (20, 1)]));
        totals.add(&latency(vec![(20, 97), (500, 1)]));
        let all = totals.all().total();
        assert_eq!(all, Some(Percentiles { count: 100, p50: 20, p90: 20, p99: 20, max: 500 }));
        assert_eq!(totals.all().connect(), None);
        assert_eq!(totals.series().count(), 1);
    }
}
