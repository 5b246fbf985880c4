//! How often the machine is asked: each question once a second, and no more than a budget of them together.
//!
//! In a storm of failures every record asks the same few questions; the answer to all but the first is one hash
//! lookup. Time is the records' own.

use std::collections::HashMap;
use std::hash::Hash;

use crate::event::Nanos;

/// How long an answer stands.
const WINDOW_NANOS: u64 = 1_000_000_000;

/// The questions asked within the last second.
#[derive(Debug)]
pub(super) struct Recent<K> {
    asked: HashMap<K, Nanos>,
    window: Nanos,
    spent: u32,
    budget: u32,
}

impl<K: Clone + Eq + Hash> Recent<K> {
    /// Admits at most `budget` questions a second.
    pub(super) fn new(budget: u32) -> Self {
        Self { asked: HashMap::new(), window: Nanos(0), spent: 0, budget }
    }

    /// Whether `question` is to be asked at `at`; remembers that it was.
    pub(super) fn admit(&mut self, question: &K, at: Nanos) -> bool {
        if self.asked.get(question).is_some_and(|before| at.0.saturating_sub(before.0) < WINDOW_NANOS) {
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
        self.asked.insert(question.clone(), at);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = WINDOW_NANOS;

    #[test]
    fn a_question_is_asked_once_a_second() {
        let mut recent = Recent::new(10);
        assert!(recent.admit(&"a", Nanos(SECOND)));
        assert!(!recent.admit(&"a", Nanos(SECOND + 1)));
        assert!(!recent.admit(&"a", Nanos(SECOND - 1)), "records may arrive out of order");
        assert!(recent.admit(&"b", Nanos(SECOND + 1)));
        assert!(recent.admit(&"a", Nanos(2 * SECOND)));
    }

    #[test]
    fn many_different_questions_stay_within_the_budget_and_the_table_stays_small() {
        let mut recent = Recent::new(3);
        let admitted = (0..1000).filter(|n| recent.admit(n, Nanos(SECOND + n))).count();
        assert_eq!(admitted, 3);
        assert!((0..1000).all(|round| {
            recent.admit(&(round + 5000), Nanos((round + 2) * 2 * SECOND));
            recent.asked.len() <= 6
        }));
    }
}
