//! How often the machine is asked: each look-up once a second, and no more than a budget of them together.
//!
//! In a storm of failures every record asks the same few things; the answer to all but the first is one hash
//! lookup. Time is the records' own.

use std::collections::HashMap;
use std::hash::Hash;

use crate::event::Nanos;

/// How long an answer stands.
const WINDOW_NANOS: u64 = 1_000_000_000;

/// What was looked up within the last second.
#[derive(Debug)]
pub(super) struct RateLimit<K> {
    asked: HashMap<K, Nanos>,
    window: Nanos,
    spent: u32,
    budget: u32,
}

impl<K: Clone + Eq + Hash> RateLimit<K> {
    /// Allows at most `budget` look-ups a second.
    pub(super) fn new(budget: u32) -> Self {
        Self { asked: HashMap::new(), window: Nanos(0), spent: 0, budget }
    }

    /// Whether to look `lookup` up at `at`; remembers that it was.
    pub(super) fn allow(&mut self, lookup: &K, at: Nanos) -> bool {
        if self.asked.get(lookup).is_some_and(|before| at.0.saturating_sub(before.0) < WINDOW_NANOS) {
            return false;
        }
        if at.0.saturating_sub(self.window.0) >= WINDOW_NANOS {
            // What is older than a window would be asked anew, so nothing is lost; this bounds the table.
            self.asked.retain(|_, before| at.0.saturating_sub(before.0) < WINDOW_NANOS);
            (self.window, self.spent) = (at, 0);
        }
        if self.spent >= self.budget {
            return false;
        }
        self.spent += 1;
        self.asked.insert(lookup.clone(), at);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = WINDOW_NANOS;

    #[test]
    fn a_lookup_is_made_once_a_second() {
        let mut limit = RateLimit::new(10);
        assert!(limit.allow(&"a", Nanos(SECOND)));
        assert!(!limit.allow(&"a", Nanos(SECOND + 1)));
        assert!(!limit.allow(&"a", Nanos(SECOND - 1)), "records may arrive out of order");
        assert!(limit.allow(&"b", Nanos(SECOND + 1)));
        assert!(limit.allow(&"a", Nanos(2 * SECOND)));
    }

    #[test]
    fn many_different_lookups_stay_within_the_budget_and_the_table_stays_small() {
        let mut limit = RateLimit::new(3);
        let allowed = (0..1000).filter(|n| limit.allow(n, Nanos(SECOND + n))).count();
        assert_eq!(allowed, 3);
        assert!((0..1000).all(|round| {
            limit.allow(&(round + 5000), Nanos((round + 2) * 2 * SECOND));
            limit.asked.len() <= 6
        }));
    }
}
