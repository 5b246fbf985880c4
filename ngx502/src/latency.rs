//! How long upstream requests took: distributions in bounded memory, and the figures that describe one.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::attribute::verdict::Times;
use crate::event::LatencySeries;
use crate::units::Micros;

/// Longer times are recorded as this: an hour.
const LONGEST_US: u64 = 3_600_000_000;

/// What there is for each phase of an upstream request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phases<T> {
    /// connect(2) to established.
    pub connect: T,
    /// Request sent to first byte.
    pub first_byte: T,
    /// Start of the attempt to its last byte, or to its failure.
    pub total: T,
}

/// The figures of each phase; `None` where nothing was measured.
pub type Figures = Phases<Option<Quantiles>>;

impl Figures {
    /// The measured phases with their names, in order.
    pub fn measured(self) -> impl Iterator<Item = (&'static str, Quantiles)> {
        let named = [("connect", self.connect), ("first byte", self.first_byte), ("total", self.total)];
        named.into_iter().filter_map(|(phase, quantiles)| Some((phase, quantiles?)))
    }
}

/// A distribution of durations in microseconds. What the kernel counted is at most 6.25 % above the true value (its
/// histogram's buckets), other durations at most 0.8 %; the largest is as it was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantiles {
    /// How many durations.
    pub count: u64,
    /// Median.
    pub p50_us: u64,
    /// 90th percentile.
    pub p90_us: u64,
    /// 99th percentile.
    pub p99_us: u64,
    /// 99.9th percentile.
    #[serde(rename = "p99_9_us")]
    pub p999_us: u64,
    /// The longest.
    pub max_us: u64,
}

/// An attempt's total time as text. nginx's own clock, which is all there is where the kernel's was not to be had, has
/// milliseconds: its zero is `less than 1 ms`.
pub fn took(total_us: u64) -> String {
    if total_us == 0 { "less than 1 ms".to_owned() } else { Micros(total_us).to_string() }
}

/// Durations in microseconds: hdrhistogram with two significant digits, made when first used.
#[derive(Clone, Debug, Default)]
pub struct Distribution {
    count: u64,
    max: u64,
    counts: Option<Box<Histogram<u32>>>,
}

impl Distribution {
    /// Adds `count` times of `micros`.
    pub fn add(&mut self, micros: u64, count: u64) {
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
    pub fn add_buckets(&mut self, buckets: &[(u64, u64)]) {
        for &(upper, count) in buckets {
            self.add(upper, count);
        }
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: Distribution) {
        let Some(theirs) = other.counts else { return };
        self.count = self.count.saturating_add(other.count);
        self.max = self.max.max(other.max);
        match &mut self.counts {
            Some(ours) => ours.add(*theirs).expect("both resize and share their precision"),
            None => self.counts = Some(theirs),
        }
    }

    /// How many durations were added.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The figures; `None` without durations.
    pub fn quantiles(&self) -> Option<Quantiles> {
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

    /// (end of the bucket in microseconds, count), ascending.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        let recorded = self.counts.iter().flat_map(|counts| counts.iter_recorded());
        recorded.map(|value| (value.value_iterated_to(), value.count_at_value().into()))
    }
}

impl Phases<Distribution> {
    /// Adds one attempt's durations.
    pub fn add(&mut self, times: Times) {
        for (distribution, micros) in [
            (&mut self.connect, times.connect_us),
            (&mut self.first_byte, times.first_byte_us),
            (&mut self.total, times.total_us),
        ] {
            micros.into_iter().for_each(|micros| distribution.add(micros, 1));
        }
    }

    /// Adds what the kernel counted.
    pub fn add_series(&mut self, series: &LatencySeries) {
        self.connect.add_buckets(&series.connect);
        self.first_byte.add_buckets(&series.first_byte);
        self.total.add_buckets(&series.total);
    }

    /// The figures.
    pub fn figures(&self) -> Figures {
        Phases {
            connect: self.connect.quantiles(),
            first_byte: self.first_byte.quantiles(),
            total: self.total.quantiles(),
        }
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
    fn the_kernels_buckets_stay_as_they_are() {
        let mut times = Distribution::default();
        let ends: Vec<_> = (0..400).map(ngx502_common::latency::upper_bound).collect();
        times.add_buckets(
            &ends.iter().filter(|end| **end <= LONGEST_US).map(|end| (*end, 1)).collect::<Vec<_>>(),
        );
        assert!(times.buckets().all(|(end, count)| count == 1 && ends.contains(&end)));
    }
}
