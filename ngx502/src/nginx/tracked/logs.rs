//! Error logs that say too little, or too much to be read: other probes take their place. Each message that is read costs a
//! trap, also one that reports no failure; at `debug` nginx writes some 180 of them a request.

use std::time::Duration;

use super::{Tracked, TrackedBinary, TrackedProcess};
use crate::escape;
use crate::event::{Body, Nanos, Pid, Record};
use crate::kernel::{load::Kernel, providers::LOG};
use crate::nginx::BinaryId;

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

impl Tracked {
    /// A worker's `error_log` hides the text of its failures: the probes that see them all the same are attached from now on.
    pub fn log_hides(&mut self, worker: Pid, kernel: &mut Kernel) {
        if let Some(TrackedProcess { id, .. }) = self.processes.get(&worker) {
            self.do_without_text(*id, kernel);
        }
    }

    /// Stops reading error logs that say too much; a record of each says so. They stay unread: how much they say shows
    /// only as long as they are read.
    pub fn watch_logs(&mut self, kernel: &mut Kernel, now: Nanos) -> Vec<Record> {
        let excess = |(id, target): (&BinaryId, &mut TrackedBinary)| {
            let rate = target.log.as_mut()?;
            Some((*id, rate.excess(kernel.log_calls(target.index), now)?))
        };
        let excessive: Vec<_> = self.binaries.iter_mut().filter_map(excess).collect();
        let report = |(id, rate)| {
            let text = self.stop_reading(id, rate, kernel)?;
            log::warn!("{text}");
            Some(Record { at: now, body: Body::Notice { topic: "log-unread".to_owned(), text } })
        };
        excessive.into_iter().filter_map(report).collect()
    }

    fn stop_reading(&mut self, id: BinaryId, rate: f64, kernel: &mut Kernel) -> Option<String> {
        // First what replaces it, so that no failure falls between.
        self.do_without_text(id, kernel);
        let target = self.binaries.get_mut(&id)?;
        target.log.take()?;
        if let Err(error) = target.detach_one(LOG, kernel) {
            log::warn!("{}: ngx502 cannot stop reading its error_log: {error:#}", target.exe);
            return None;
        }
        target.log_unread = true;
        Some(format!(
            "{}: error_log takes {rate:.0} messages per second that report no failure, and reading each one costs a trap; \
             ngx502 stops reading it until this trace ends and infers symptoms from nginx's states. With \
             `error_log … error` they are read",
            escape::terminal(&target.exe)
        ))
    }

    /// Attaches the probes that see failures without their text, and has more saved of each connection.
    fn do_without_text(&mut self, id: BinaryId, kernel: &mut Kernel) {
        let Some(target) = self.binaries.get_mut(&id).filter(|target| !target.log_hides) else { return };
        target.log_hides = true;
        for (pid, process) in self.processes.iter().filter(|(_, process)| process.id == id) {
            if let Err(error) = kernel.trace(pid.0, target.traced(process.bias)) {
                log::debug!("nginx {pid}: {error:#}");
            }
        }
        // Where a process that is yet to come will have the executable is not known.
        kernel.know_binary(id.key(), target.traced(None), self.selected.is_empty());
        for (program, offset) in std::mem::take(&mut target.deferred) {
            if let Err(error) = target.attach_one(program, offset, kernel) {
                target.probes.retain(|probe| *probe != program);
                log::warn!(
                    "{}: failures that its error_log level hides cannot be explained: {error:#}",
                    target.exe
                );
            }
        }
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
