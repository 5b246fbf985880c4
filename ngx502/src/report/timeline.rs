//! What happened when, in a bounded number of buckets.

use std::collections::BTreeMap;
use std::mem;

use super::model::{self, CauseCount, Episode};
use crate::attribute::verdict::Cause;
use crate::latency::Distribution;
use crate::summary::descending;
use crate::time::Moment;

/// Buckets between the first and the last; with more, all double in width.
const MOST_BUCKETS: i64 = 240;
/// Episodes shown; more become one with their predecessor.
const MOST_EPISODES: usize = 20;
const MICROS: i64 = 1_000_000;

/// Failures by cause.
pub(super) type ByCause = BTreeMap<Cause, u64>;

/// The causes, most frequent first, equal ones in the contract's order.
pub(super) fn ranking(counts: &ByCause) -> Vec<CauseCount> {
    descending(counts).into_iter().map(|(cause, count)| CauseCount { cause, count }).collect()
}

fn merge(ours: &mut ByCause, theirs: &ByCause) {
    for (cause, count) in theirs {
        *ours.entry(*cause).or_default() += count;
    }
}

/// One bucket while it fills.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    failed: u64,
    /// First and last failure.
    ends: Option<(Moment, Moment)>,
    /// Rescued client requests.
    pub(super) rescued: u64,
    causes: ByCause,
    /// Total time of answered upstream requests.
    pub(super) answered: Distribution,
    /// Total time of failed attempts.
    pub(super) failed_attempts: Distribution,
}

impl Bucket {
    /// Counts a failed client request.
    pub(super) fn fail(&mut self, time: Moment, cause: Cause) {
        self.failed += 1;
        *self.causes.entry(cause).or_default() += 1;
        self.ends = join(self.ends, Some((time, time)));
    }

    fn merge(&mut self, other: Bucket) {
        // Destructured, so that a new field is not forgotten.
        let Bucket { failed, ends, rescued, causes, answered, failed_attempts } = other;
        self.failed += failed;
        self.ends = join(self.ends, ends);
        self.rescued += rescued;
        merge(&mut self.causes, &causes);
        self.answered.merge(answered);
        self.failed_attempts.merge(failed_attempts);
    }
}

fn join(a: Option<(Moment, Moment)>, b: Option<(Moment, Moment)>) -> Option<(Moment, Moment)> {
    match (a, b) {
        (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
        (a, b) => a.or(b),
    }
}

/// Buckets by time. They begin a second wide; when the first and the last are more than 240 apart, pairs are merged until
/// they are not. Times may come in any order.
#[derive(Debug, Default)]
pub(super) struct Buckets {
    /// How often they doubled.
    doubled: u32,
    /// By start divided by width.
    by_index: BTreeMap<i64, Bucket>,
}

impl Buckets {
    /// Seconds, a power of two.
    fn width(&self) -> i64 {
        1 << self.doubled
    }

    /// When a bucket begins.
    fn start(&self, index: i64) -> Moment {
        Moment::from_micros(index * self.width() * MICROS)
    }

    /// The bucket of a moment.
    pub(super) fn at(&mut self, time: Moment) -> &mut Bucket {
        let mut index = self.index(time);
        while self.span_with(index) > MOST_BUCKETS {
            self.double();
            index = self.index(time);
        }
        self.by_index.entry(index).or_default()
    }

    fn index(&self, time: Moment) -> i64 {
        time.micros().div_euclid(self.width() * MICROS)
    }

    fn span_with(&self, index: i64) -> i64 {
        let first = self.by_index.first_key_value().map_or(index, |(first, _)| *first);
        let last = self.by_index.last_key_value().map_or(index, |(last, _)| *last);
        last.max(index) - first.min(index) + 1
    }

    fn double(&mut self) {
        self.doubled += 1;
        for (index, bucket) in mem::take(&mut self.by_index) {
            self.by_index.entry(index.div_euclid(2)).or_default().merge(bucket);
        }
    }

    /// The timeline as data.
    pub(super) fn finish(&self) -> model::Timeline {
        let buckets = self.by_index.iter().map(|(index, bucket)| model::Bucket {
            time: self.start(*index),
            failed: bucket.failed,
            rescued: bucket.rescued,
            causes: ranking(&bucket.causes),
            answered: bucket.answered.quantiles(),
            failed_attempts: bucket.failed_attempts.quantiles(),
        });
        model::Timeline {
            bucket_seconds: self.width().unsigned_abs(),
            buckets: buckets.collect(),
            episodes: self.episodes(),
        }
    }

    fn episodes(&self) -> Vec<Episode> {
        let quiet = (5 * self.width()).max(60) * MICROS;
        let mut episodes: Vec<(Episode, ByCause)> = Vec::new();
        for (index, bucket) in &self.by_index {
            let Some((onset, end)) = bucket.ends else { continue };
            let full = episodes.len() == MOST_EPISODES;
            match episodes.last_mut() {
                Some((last, causes)) if full || onset.micros() - last.end.micros() < quiet => {
                    last.end = end;
                    last.failed += bucket.failed;
                    merge(causes, &bucket.causes);
                    if bucket.failed > last.peak_failed {
                        last.peak_failed = bucket.failed;
                        last.peak = self.start(*index);
                    }
                }
                _ => {
                    let (peak, failed) = (self.start(*index), bucket.failed);
                    let peak_failed = failed;
                    let episode = Episode { onset, peak, end, failed, peak_failed, cause: Cause::Unknown };
                    episodes.push((episode, bucket.causes.clone()));
                }
            }
        }
        let named = episodes.into_iter().map(|(episode, causes)| {
            let cause = ranking(&causes).first().map_or(Cause::Unknown, |row| row.cause);
            Episode { cause, ..episode }
        });
        named.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(buckets: &mut Buckets, second: i64, cause: Cause) {
        let time = Moment::from_micros(second * MICROS);
        buckets.at(time).fail(time, cause);
    }

    #[test]
    fn a_long_trace_widens_buckets_and_keeps_every_count() {
        let mut buckets = Buckets::default();
        for second in (0..100_000).rev() {
            fail(&mut buckets, second, Cause::Killed);
            assert!(buckets.by_index.len() <= 240);
        }
        let timeline = buckets.finish();
        assert_eq!(timeline.bucket_seconds, 512);
        assert_eq!(timeline.buckets.iter().map(|bucket| bucket.failed).sum::<u64>(), 100_000);
    }

    #[test]
    fn a_time_beyond_all_bounds_costs_no_memory() {
        let mut buckets = Buckets::default();
        for micros in [i64::MIN, 0, i64::MAX] {
            let time = Moment::from_micros(micros);
            buckets.at(time).fail(time, Cause::Dns);
        }
        assert!(buckets.finish().buckets.len() <= 240);
    }

    #[test]
    fn quiet_separates_episodes_and_each_names_its_peak() {
        let mut buckets = Buckets::default();
        for (second, cause) in
            [(0, Cause::Killed), (5, Cause::Dns), (5, Cause::Dns), (9, Cause::Killed), (80, Cause::Exited)]
        {
            fail(&mut buckets, second, cause);
        }
        let episodes = buckets.finish().episodes;
        let seconds = |time: Moment| time.micros() / MICROS;
        let told: Vec<_> = episodes
            .iter()
            .map(|e| (seconds(e.onset), seconds(e.peak), seconds(e.end), e.failed, e.peak_failed, e.cause))
            .collect();
        assert_eq!(told, [(0, 5, 9, 4, 2, Cause::Killed), (80, 80, 80, 1, 1, Cause::Exited)]);
    }
}
