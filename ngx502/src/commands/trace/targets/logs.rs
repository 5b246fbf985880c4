//! Error logs that say too little or too much. What they hide is told by other probes. Each message that is read costs a
//! trap, also one that tells of no failure: at `debug` nginx writes some 180 of them a request.

use std::path::Path;
use std::time::Duration;

use super::{Member, Targets};
use crate::{
    escape,
    event::{Body, Nanos, Pid, Record},
    kernel::{load::Kernel, providers::LOG},
    nginx::BinaryId,
};

/// Messages a second that are too many: as traps they take about one per cent of a CPU.
pub(in crate::commands) const LIMIT: f64 = 5_000.0;
/// A rate is taken over no less than this.
const INTERVAL: Duration = Duration::from_millis(400);

/// What one executable's processes have written, as of the last look.
pub(super) struct Chatter {
    messages: u64,
    at: Nanos,
}

impl Chatter {
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
        (rate > LIMIT).then_some(rate)
    }
}

impl Targets {
    /// A worker's `error_log` hides the text of its failures: what tells them all the same is attached from now on.
    pub(in crate::commands::trace) fn log_hides(&mut self, worker: Pid, kernel: &mut Kernel) {
        if let Some(Member { id, .. }) = self.members.get(&worker) {
            self.do_without_text(*id, kernel);
        }
    }

    /// Whether a worker's error log is no longer read.
    pub(in crate::commands::trace) fn leaves_log_unread(&self, worker: Pid) -> bool {
        let target = self.members.get(&worker).and_then(|member| self.binaries.get(&member.id));
        target.is_some_and(|target| target.log_unread)
    }

    /// Stops reading error logs that say too much; a record of each says so. They stay unread: how much they say shows
    /// only as long as they are read.
    pub(in crate::commands::trace) fn watch_logs(&mut self, kernel: &mut Kernel, now: Nanos) -> Vec<Record> {
        let mut excessive = Vec::new();
        for (id, target) in &mut self.binaries {
            let Some((_, chatter)) = &mut target.log else { continue };
            if let Some(rate) = chatter.excess(kernel.chatter(target.index), now) {
                excessive.push((*id, rate));
            }
        }
        let told = |(id, rate)| {
            let text = self.stop_reading(id, rate, kernel)?;
            log::warn!("{text}");
            Some(Record { at: now, body: Body::Notice { topic: "log-unread".to_owned(), text } })
        };
        excessive.into_iter().filter_map(told).collect()
    }

    fn stop_reading(&mut self, id: BinaryId, rate: f64, kernel: &mut Kernel) -> Option<String> {
        // First what replaces it, so that no failure falls between.
        self.do_without_text(id, kernel);
        let target = self.binaries.get_mut(&id)?;
        let (link, _) = target.log.take()?;
        if let Err(error) = kernel.detach_uprobe(LOG, link) {
            log::warn!("{}: its error log cannot be left unread: {error:#}", target.exe);
            return None;
        }
        target.log_unread = true;
        Some(format!(
            "{}: its error log takes {rate:.0} messages a second that tell of no failure, each at the cost of a trap; so \
             ngx502 does without it until this trace ends, and symptoms are inferred from nginx's states. With \
             `error_log … error` they would be read",
            escape::terminal(&target.exe)
        ))
    }

    /// Attaches what tells of failures without their text, and has more kept of each connection.
    fn do_without_text(&mut self, id: BinaryId, kernel: &mut Kernel) {
        let Some(target) = self.binaries.get_mut(&id).filter(|target| !target.log_hides) else { return };
        let members = || self.members.iter().filter(|(_, member)| member.id == id);
        let Some((first, _)) = members().next() else { return };
        target.log_hides = true;
        for (pid, member) in members() {
            if let Err(error) = kernel.trace(pid.0, target.traced(member.bias)) {
                log::debug!("nginx {pid}: {error:#}");
            }
        }
        // Where a process that is yet to come will have the executable is not known.
        kernel.know_binary(id.key(), target.traced(None), self.selected.is_empty());
        let path = format!("/proc/{first}/exe");
        for (program, offset) in target.deferred.drain(..) {
            if let Err(error) = kernel.attach_uprobe(program, Path::new(&path), offset) {
                target.probes.retain(|probe| *probe != program);
                log::warn!("{}: what its error log hides stays hidden: {error:#}", target.exe);
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
        let mut chatter = Chatter::new(Nanos(SECOND));
        assert_eq!(chatter.excess(1_000_000, Nanos(SECOND + 1)), None, "a moment is no measure");
        assert_eq!(chatter.excess(12_000, Nanos(3 * SECOND)), Some(6_000.0));
        assert_eq!(chatter.excess(12_000 + 5_000, Nanos(4 * SECOND)), None, "not more than the limit");
    }
}
