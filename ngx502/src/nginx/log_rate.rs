//! How many messages an error log takes: each one that is read costs a trap, also one that reports no failure. At `debug`
//! nginx writes some 180 of them a request.

use std::time::Duration;

use crate::event::Nanos;

/// Messages a second that are too many: as traps they take about one per cent of a CPU.
pub const LOG_LIMIT: f64 = 5_000.0;
/// A rate is taken over no less than this.
const INTERVAL: Duration = Duration::from_millis(400);

/// What one executable's processes had written at the last look.
pub(super) struct LogRate {
    messages: u64,
    at: Nanos,
}

impl LogRate {
    /// Nothing, up to `now`.
    pub(super) fn new(now: Nanos) -> Self {
        Self { messages: 0, at: now }
    }

    /// Messages a second since the last look, if there are too many; `messages` counts from the beginning.
    pub(super) fn excess(&mut self, messages: u64, now: Nanos) -> Option<f64> {
        let elapsed = Duration::from_nanos(now.0.saturating_sub(self.at.0));
        if elapsed < INTERVAL {
            return None;
        }
        let rate = messages.saturating_sub(self.messages) as f64 / elapsed.as_secs_f64();
        *self = Self { messages, at: now };
        (rate > LOG_LIMIT).then_some(rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn only_the_rate_since_the_last_look_counts() {
        let mut log = LogRate::new(Nanos(SECOND));
        assert_eq!(log.excess(1_000_000, Nanos(SECOND + 1)), None, "a moment is no measure");
        assert_eq!(log.excess(12_000, Nanos(3 * SECOND)), Some(6_000.0));
        assert_eq!(log.excess(12_000 + 5_000, Nanos(4 * SECOND)), None, "not more than the limit");
    }
}
