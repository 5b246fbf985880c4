//! Latency distributions in bounded memory: hdrhistogram with two significant digits, made when first used.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::model::{Bin, Latency, Measures, Quantiles};

/// Longer times are recorded as this: an hour.
const LONGEST_US: u64 = 3_600_000_000;

/// Times in microseconds.
#[derive(Debug, Default)]
pub(super) struct Distribution {
    count: u64,
    max: u64,
    counts: Option<Box<Histogram<u32>>>,
}

impl Distribution {
    /// Adds `count` times of `micros`.
    pub(super) fn add(&mut self, micros: u64, count: u64) {
        if count == 0 {
            return;
        }
        self.count = self.count.saturating_add(count);
        self.max = self.max.max(micros);
        let counts = self.counts.get_or_insert_with(|| {
            Box::new(Histogram::new(2).expect("two significant digits are within hdrhistogram's 0 to 5"))
        });
        counts
            .record_n(micros.min(LONGEST_US), u32::try_from(count).unwrap_or(u32::MAX))
            .expect("a resizing histogram takes every value up to an hour");
    }

    /// Adds a histogram of (upper bound, count).
    pub(super) fn add_buckets(&mut self, buckets: &[(u64, u64)]) {
        for &(upper, count) in buckets {
            self.add(upper, count);
        }
    }

    /// Adds all of `other`.
    pub(super) fn merge(&mut self, other: Distribution) {
        let Some(theirs) = other.counts else { return };
        self.count = self.count.saturating_add(other.count);
        self.max = self.max.max(other.max);
        match &mut self.counts {
            Some(ours) => ours.add(*theirs).expect("both resize and share their precision"),
            None => self.counts = Some(theirs),
        }
    }

    /// How many times were added.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The percentiles; `None` without samples.
    pub(super) fn quantiles(&self) -> Option<Quantiles> {
        let counts = self.counts.as_ref()?;
        // The histogram rounds up to its bucket's end, which may lie above the largest time that there was.
        let at = |quantile| counts.value_at_quantile(quantile).min(self.max);
        Some(Quantiles {
            count: self.count,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: self.max,
        })
    }

    fn bins(&self) -> BTreeMap<u32, u64> {
        let mut bins = BTreeMap::new();
        for value in self.counts.iter().flat_map(|counts| counts.iter_recorded()) {
            // 0 µs joins 1 µs: a logarithmic axis has no place for it.
            let index = ((value.value_iterated_to().max(1) as f64).log10() * 10.0).floor() as u32;
            *bins.entry(index).or_default() += u64::from(value.count_at_value());
        }
        bins
    }
}

/// The three times of one outcome.
#[derive(Debug, Default)]
pub(super) struct Trio {
    pub(super) connect: Distribution,
    pub(super) first_byte: Distribution,
    pub(super) total: Distribution,
}

impl Trio {
    fn measures(&self) -> Measures {
        Measures {
            connect: self.connect.quantiles(),
            first_byte: self.first_byte.quantiles(),
            total: self.total.quantiles(),
        }
    }
}

/// Answered requests, and failed attempts from both of their sources.
///
/// Failed attempts reach a report exactly, with each verdict, and again in the kernel's histograms. Both describe the same
/// attempts; the one that saw more of them is shown (records may be lost, or latency not traced).
#[derive(Debug, Default)]
pub(super) struct Latencies {
    pub(super) answered: Trio,
    pub(super) failed_exact: Trio,
    pub(super) failed_series: Trio,
}

impl Latencies {
    fn failed(&self) -> &Trio {
        if self.failed_series.total.count() > self.failed_exact.total.count() {
            &self.failed_series
        } else {
            &self.failed_exact
        }
    }

    /// The percentiles.
    pub(super) fn latency(&self) -> Latency {
        Latency { answered: self.answered.measures(), failed: self.failed().measures() }
    }

    /// The distribution of total times.
    pub(super) fn bins(&self) -> Vec<Bin> {
        let mut bins: BTreeMap<u32, Bin> = BTreeMap::new();
        let empty = |index| Bin { index, answered: 0, failed: 0 };
        for (index, count) in self.answered.total.bins() {
            bins.entry(index).or_insert_with(|| empty(index)).answered = count;
        }
        for (index, count) in self.failed().total.bins() {
            bins.entry(index).or_insert_with(|| empty(index)).failed = count;
        }
        bins.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_samples() {
        let mut times = Distribution::default();
        assert_eq!(times.quantiles(), None);
        for micros in 1..=1_000 {
            times.add(micros * 1_000, 1);
        }
        let quantiles = times.quantiles().unwrap();
        assert_eq!(quantiles.count, 1_000);
        for (got, wanted) in [
            (quantiles.p50_us, 500_000.0),
            (quantiles.p90_us, 900_000.0),
            (quantiles.p99_us, 990_000.0),
            (quantiles.p999_us, 999_000.0),
        ] {
            assert!((got as f64 / wanted - 1.0).abs() < 0.01, "{got} is not {wanted}");
        }
        assert_eq!(quantiles.max_us, 1_000_000);
    }

    #[test]
    fn absurd_values_and_counts_are_taken() {
        let mut times = Distribution::default();
        times.add(u64::MAX, u64::MAX);
        times.add(0, u64::MAX);
        times.merge(Distribution::default());
        let mut other = Distribution::default();
        other.add(5, 1);
        times.merge(other);
        assert_eq!(times.quantiles().unwrap().count, u64::MAX);
    }

    #[test]
    fn failed_attempts_come_from_the_source_that_saw_more() {
        let mut latencies = Latencies::default();
        latencies.failed_exact.total.add(10, 3);
        latencies.failed_series.total.add(99, 2);
        assert_eq!(latencies.latency().failed.total.unwrap().max_us, 10);
        latencies.failed_series.total.add(99, 2);
        assert_eq!(latencies.latency().failed.total.unwrap().max_us, 99);
        assert_eq!(latencies.bins(), [Bin { index: 19, answered: 0, failed: 4 }]);
    }
}
