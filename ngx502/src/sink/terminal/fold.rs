//! Folding repeats, so that a storm of one failure neither hides another nor fills the screen.
//!
//! Verdicts are of one kind when upstream, symptom, cause and culprit agree ([`Key`]). The first few of a kind are shown
//! in full; while more keep coming, one in full each window; the others are counted, and the counts of all kinds are
//! reported at most once a second. Everything is bounded: blocks a second, count lines a second, kinds remembered.
//! The clock is that of the verdicts, so that a replay folds as the live trace did.

use std::collections::HashMap;
use std::rc::Rc;

use bstr::BString;

use crate::attribute::verdict::{Cause, Symptom, Verdict};
use crate::event::Pid;
use crate::time::Moment;
use crate::units::Micros;

/// A second.
pub(super) const SECOND: Micros = Micros(1_000_000);

/// A kind starts anew when its window has passed.
const WINDOW: Micros = Micros(10 * SECOND.0);

/// Shown in full of a kind that was calm before.
const FIRST_SHOWN: u32 = 3;

/// Shown in full in each later window of a kind that did not calm down.
const LATER_SHOWN: u32 = 1;

/// Blocks in full a second, over all kinds.
const BLOCKS_PER_SECOND: u32 = 20;

/// Count lines in one report; what is beyond is summed up in one more.
const COUNT_LINES: usize = 8;

/// Kinds remembered; a storm with more of them (upstreams named by the request) is counted without its kinds.
const MAX_KINDS: usize = 1_024;

/// What makes two verdicts repeats of each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) status: u16,
    pub(super) rescued: bool,
    pub(super) symptom: Symptom,
    pub(super) cause: Cause,
    pub(super) upstream: Option<BString>,
    pub(super) culprit: Option<Pid>,
    pub(super) host: Rc<str>,
}

impl Key {
    pub(super) fn of(verdict: &Verdict, rescued: bool) -> Key {
        let upstream = verdict.upstream.as_ref();
        Key {
            status: verdict.status,
            rescued,
            symptom: verdict.symptom,
            cause: verdict.cause,
            upstream: upstream.map(|upstream| upstream.address.clone()),
            culprit: upstream.and_then(|upstream| Some(upstream.process.as_ref()?.pid)),
            host: verdict.host.clone(),
        }
    }
}

/// How many verdicts were not shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Folded {
    pub(super) count: u64,
    /// Over how many seconds, at least 1.
    pub(super) seconds: u64,
    /// Their kind; `None` for the sum of the less frequent kinds.
    pub(super) key: Option<Key>,
}

/// Decides what is shown and counts the rest.
#[derive(Debug, Default)]
pub(super) struct Fold {
    now: Moment,
    kinds: HashMap<Key, Kind>,
    /// Folded verdicts of kinds that are not remembered.
    nameless: u64,
    /// When the first verdict since the last report was folded.
    folding_since: Option<Moment>,
    /// When the last one was.
    folded_at: Moment,
    /// The second in which blocks are being counted, and how many were shown in it.
    blocks: (Moment, u32),
}

#[derive(Debug)]
struct Kind {
    window: Moment,
    /// How many may still be shown in this window.
    left: u32,
    /// Whether any was folded in this window.
    folded: bool,
    /// Folded since the last report.
    pending: u64,
}

impl Fold {
    /// The latest time it was told.
    pub(super) fn now(&self) -> Moment {
        self.now
    }

    /// The clock moved on; returns the counts that have become due, most frequent first.
    ///
    /// Verdicts arrive a little out of order; the clock never goes back.
    pub(super) fn advance(&mut self, now: Moment) -> Vec<Folded> {
        self.now = self.now.max(now);
        match self.folding_since {
            Some(since) if self.now.since(since) >= SECOND => self.drain(),
            _ => Vec::new(),
        }
    }

    /// Whether a verdict of this kind is to be shown in full now; otherwise it is counted.
    pub(super) fn admit(&mut self, key: Key) -> bool {
        let now = self.now;
        if !self.kinds.contains_key(&key) && self.kinds.len() >= MAX_KINDS {
            self.forget_the_calm();
        }
        let room = self.kinds.len() < MAX_KINDS;
        let kind = match self.kinds.get_mut(&key) {
            Some(kind) => kind,
            None if room => {
                let kind = Kind { window: now, left: FIRST_SHOWN, folded: false, pending: 0 };
                self.kinds.entry(key).or_insert(kind)
            }
            None => {
                self.nameless += 1;
                self.note_folded();
                return false;
            }
        };
        kind.roll(now);
        if kind.left > 0 && take_block(&mut self.blocks, now) {
            kind.left -= 1;
            return true;
        }
        kind.folded = true;
        kind.pending += 1;
        self.note_folded();
        false
    }

    /// Every count that has not been reported.
    pub(super) fn drain(&mut self) -> Vec<Folded> {
        let Some(since) = self.folding_since.take() else { return Vec::new() };
        let seconds = self.folded_at.since(since).0.div_ceil(SECOND.0).max(1);
        let mut pending: Vec<_> = self.kinds.iter_mut().filter(|(_, kind)| kind.pending > 0).collect();
        pending.sort_by(|(a, x), (b, y)| y.pending.cmp(&x.pending).then_with(|| a.cmp(b)));
        let mut rest = std::mem::take(&mut self.nameless);
        let mut lines = Vec::new();
        for (key, kind) in pending {
            let count = std::mem::take(&mut kind.pending);
            if lines.len() < COUNT_LINES {
                lines.push(Folded { count, seconds, key: Some(key.clone()) });
            } else {
                rest += count;
            }
        }
        if rest > 0 {
            lines.push(Folded { count: rest, seconds, key: None });
        }
        lines
    }

    fn note_folded(&mut self) {
        self.folding_since.get_or_insert(self.now);
        self.folded_at = self.now;
    }

    fn forget_the_calm(&mut self) {
        let now = self.now;
        self.kinds.retain(|_, kind| kind.pending > 0 || now.since(kind.window) < WINDOW);
    }
}

impl Kind {
    fn roll(&mut self, now: Moment) {
        let age = now.since(self.window);
        if age < WINDOW {
            return;
        }
        // A whole window without one: calm again.
        let stormy = self.folded && age.0 < 2 * WINDOW.0;
        self.left = if stormy { LATER_SHOWN } else { FIRST_SHOWN };
        self.folded = false;
        self.window = now;
    }
}

fn take_block(blocks: &mut (Moment, u32), now: Moment) -> bool {
    if now.since(blocks.0) >= SECOND {
        *blocks = (now, 0);
    }
    blocks.1 += 1;
    blocks.1 <= BLOCKS_PER_SECOND
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::sample;

    fn key(culprit: u32) -> Key {
        Key { culprit: Some(Pid(culprit)), ..Key::of(&sample::oom_killed(), false) }
    }

    /// Milliseconds after the beginning of time.
    fn millis_after(millis: i64) -> Moment {
        Moment::from_micros(millis * 1_000)
    }

    #[test]
    fn the_first_are_shown_and_the_rest_counted_once_a_second() {
        let mut fold = Fold::default();
        let mut shown = 0;
        let mut reports = Vec::new();
        for millis in 0..5_000 {
            reports.extend(fold.advance(millis_after(1_000 + millis)));
            shown += u32::from(fold.admit(key(1)));
        }
        assert_eq!(shown, FIRST_SHOWN);
        assert!(reports.len() <= 5, "{reports:?}");
        assert_eq!(reports[0], Folded { count: 1_000, seconds: 1, key: Some(key(1)) });
        reports.extend(fold.drain());
        assert_eq!(reports.iter().map(|line| line.count).sum::<u64>() + u64::from(shown), 5_000);
        assert_eq!(fold.drain(), []);
    }

    #[test]
    fn a_long_storm_shows_one_a_window_and_a_calm_kind_starts_anew() {
        let mut fold = Fold::default();
        let mut shown = Vec::new();
        for tenth in 0..300 {
            fold.advance(millis_after(tenth * 100));
            if fold.admit(key(1)) {
                shown.push(tenth);
            }
        }
        assert_eq!(shown, [0, 1, 2, 100, 200]);
        fold.advance(millis_after(60_000));
        assert!(fold.admit(key(1)) && fold.admit(key(1)) && fold.admit(key(1)));
        assert!(!fold.admit(key(1)));
    }

    #[test]
    fn a_lone_kind_is_shown_during_anothers_storm() {
        let mut fold = Fold::default();
        let shown = (0..10_000).filter(|_| fold.admit(key(1))).count();
        assert_eq!(shown, 3);
        assert!(fold.admit(key(2)));
    }

    #[test]
    fn a_storm_of_kinds_is_bounded_and_counted() {
        let mut fold = Fold::default();
        let kinds = 5_000;
        let shown = (0..kinds).filter(|&culprit| fold.admit(key(culprit))).count() as u64;
        assert_eq!(shown, u64::from(BLOCKS_PER_SECOND));
        assert_eq!(fold.kinds.len(), MAX_KINDS);
        let lines = fold.advance(millis_after(1_000));
        assert_eq!(lines.len(), COUNT_LINES + 1);
        assert_eq!(lines.iter().map(|line| line.count).sum::<u64>() + shown, u64::from(kinds));
        fold.advance(millis_after(10_000));
        assert!(fold.admit(key(kinds + 1)), "calm kinds make room");
    }

    #[test]
    fn a_gap_does_not_lengthen_the_reported_span() {
        let mut fold = Fold::default();
        let shown = (0..5).filter(|_| fold.admit(key(1))).count();
        assert_eq!(shown, 3);
        assert_eq!(
            fold.advance(millis_after(3_600_000)),
            [Folded { count: 2, seconds: 1, key: Some(key(1)) }]
        );
    }

    #[test]
    fn the_clock_never_goes_back() {
        let mut fold = Fold::default();
        fold.advance(millis_after(5_000));
        fold.advance(millis_after(1_000));
        assert_eq!(fold.now(), millis_after(5_000));
    }
}
