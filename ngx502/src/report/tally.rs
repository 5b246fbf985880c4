//! What is kept of hosts, upstreams and the like while a report is collected, and the rows that become of it.

use std::collections::BTreeMap;

use super::model::*;
use super::timeline::{ByCause, ranking};
use crate::attribute::verdict::{Cause, Certainty, ProcessFacts, Verdict};
use crate::event::Pid;
use crate::latency::{Distribution, Phases};
use crate::session::Session;
use crate::time::Moment;
use crate::units::Share;

/// Texts are kept up to this many characters.
const LONGEST_TEXT: usize = 512;
/// Facts of evidence kept per case, and nginx builds per host.
pub(super) const MOST_FACTS: usize = 32;
/// Lines of `fix` kept per case.
const MOST_FIXES: usize = 8;
/// Process ids kept per row.
const MOST_PIDS: usize = 8;

/// Hostile bytes as text of bounded length.
pub(super) fn clip(bytes: &[u8]) -> String {
    // Four bytes a character at most: what lies behind cannot matter.
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * LONGEST_TEXT)]);
    match text.char_indices().nth(LONGEST_TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into_owned(),
    }
}

/// The upstream's name; empty when unknown.
pub(super) fn address(verdict: &Verdict) -> &[u8] {
    verdict.upstream.as_ref().map_or(b"", |upstream| &upstream.address)
}

/// A cause of which nothing was counted yet; `time` is that of its first verdict.
pub(super) fn cause(session: &Session, verdict: &Verdict, time: Moment) -> CauseRow {
    CauseRow {
        cause: verdict.cause,
        count: 0,
        share: 0.0,
        proven: 0,
        inferred: 0,
        since: time,
        until: time,
        example: case(session, verdict),
    }
}

impl CauseRow {
    /// Counts a verdict.
    pub(super) fn add(&mut self, session: &Session, verdict: &Verdict, time: Moment) {
        self.count += 1;
        self.since = self.since.min(time);
        self.until = self.until.max(time);
        match verdict.certainty {
            Certainty::Proven => self.proven += 1,
            Certainty::Inferred => self.inferred += 1,
            Certainty::Unknown => {}
        }
        // `Certainty` orders from proven to unknown.
        if (verdict.certainty, time) < (self.example.certainty, self.example.time) {
            self.example = case(session, verdict);
        }
    }
}

/// An upstream while it is counted.
#[derive(Debug, Default)]
pub(super) struct UpstreamTally {
    /// As it will be, but for its share, causes and latency.
    pub(super) row: UpstreamRow,
    pub(super) causes: ByCause,
    pub(super) latency: LatencyTally,
}

impl UpstreamTally {
    pub(super) fn new(session: &Session, address: &[u8]) -> Self {
        let (host, address) = (clip(session.host.as_bytes()), clip(address));
        UpstreamTally { row: UpstreamRow { host, address, ..Default::default() }, ..Default::default() }
    }

    /// Its row; `all` requests failed.
    pub(super) fn row(self, all: u64) -> UpstreamRow {
        let share = Share::of(self.row.failed, all).0;
        UpstreamRow { share, causes: ranking(&self.causes), latency: self.latency.latency(), ..self.row }
    }
}

/// Latency while it is counted: answered requests, and failed attempts from both of their sources.
///
/// Failed attempts reach a report exactly, with each verdict, and again in the kernel's histograms. Both describe the same
/// attempts; the one that saw more of them is shown (records may be lost, or latency not traced).
#[derive(Debug, Default)]
pub(super) struct LatencyTally {
    pub(super) answered: Phases<Distribution>,
    pub(super) failed_exact: Phases<Distribution>,
    pub(super) failed_series: Phases<Distribution>,
}

impl LatencyTally {
    fn failed(&self) -> &Phases<Distribution> {
        if self.failed_series.total.count() > self.failed_exact.total.count() {
            &self.failed_series
        } else {
            &self.failed_exact
        }
    }

    /// The percentiles.
    pub(super) fn latency(&self) -> Latency {
        Latency { answered: self.answered.figures(), failed: self.failed().figures() }
    }

    /// The distribution of total times.
    pub(super) fn bins(&self) -> Vec<Bin> {
        let mut bins: BTreeMap<u32, Bin> = BTreeMap::new();
        let mut bin = |micros: u64, answered: u64, failed: u64| {
            // 0 µs joins 1 µs: a logarithmic axis has no place for it.
            let index = ((micros.max(1) as f64).log10() * 10.0).floor() as u32;
            let bin = bins.entry(index).or_insert(Bin { index, answered: 0, failed: 0 });
            bin.answered += answered;
            bin.failed += failed;
        };
        self.answered.total.buckets().for_each(|(micros, count)| bin(micros, count, 0));
        self.failed().total.buckets().for_each(|(micros, count)| bin(micros, 0, count));
        bins.into_values().collect()
    }
}

/// Processes of one name while they are counted.
#[derive(Debug, Default)]
pub(super) struct ProcessTally {
    /// As it will be, but for its share and causes.
    row: ProcessRow,
    causes: ByCause,
}

impl ProcessTally {
    pub(super) fn new(session: &Session, process: &ProcessFacts) -> Self {
        let row = ProcessRow {
            host: clip(session.host.as_bytes()),
            comm: clip(process.comm.as_bytes()),
            unit: process.unit.as_ref().map(|unit| clip(unit.as_bytes())),
            container: process.container_label().map(|container| clip(container.as_bytes())),
            ..ProcessRow::default()
        };
        ProcessTally { row, causes: ByCause::default() }
    }

    pub(super) fn add(&mut self, pid: Pid, cause: Cause) {
        let row = &mut self.row;
        row.failed += 1;
        *self.causes.entry(cause).or_default() += 1;
        match row.pids.contains(&pid.0) {
            true => {}
            false if row.pids.len() < MOST_PIDS => row.pids.push(pid.0),
            false => row.more_pids = true,
        }
    }

    /// Its row; `all` requests failed.
    pub(super) fn row(self, all: u64) -> ProcessRow {
        ProcessRow { share: Share::of(self.row.failed, all).0, causes: ranking(&self.causes), ..self.row }
    }
}

/// A verdict as a case.
pub(super) fn case(session: &Session, verdict: &Verdict) -> Case {
    let request = verdict.request.as_ref();
    let text = |bytes: Option<&bstr::BString>| bytes.map(|bytes| clip(bytes));
    let evidence = verdict.evidence.iter().take(MOST_FACTS).map(|fact| Fact {
        time: Moment::of(session, fact.at),
        event: fact.event().to_string(),
        text: clip(fact.text(verdict).to_string().as_bytes()),
    });
    Case {
        time: Moment::of(session, verdict.at),
        host: clip(verdict.host.as_bytes()),
        status: verdict.status,
        method: text(request.and_then(|request| request.method.as_ref())),
        uri: text(request.and_then(|request| request.uri.as_ref())),
        request_host: text(request.and_then(|request| request.host.as_ref())),
        client: text(request.and_then(|request| request.client.as_ref())),
        upstream: text(verdict.upstream.as_ref().map(|upstream| &upstream.address)),
        symptom: verdict.symptom,
        cause: verdict.cause,
        certainty: verdict.certainty,
        summary: clip(verdict.summary().to_string().as_bytes()),
        attempts: verdict.attempts.len() as u64,
        total_us: verdict.latency.total_us,
        evidence: evidence.collect(),
        fix: verdict.fix().into_iter().take(MOST_FIXES).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_attempts_come_from_the_source_that_saw_more() {
        let mut tally = LatencyTally::default();
        tally.failed_exact.total.add(10, 3);
        tally.failed_series.total.add(99, 2);
        assert_eq!(tally.latency().failed.total.unwrap().max_us, 10);
        tally.failed_series.total.add(99, 2);
        assert_eq!(tally.latency().failed.total.unwrap().max_us, 99);
        assert_eq!(tally.bins(), [Bin { index: 19, answered: 0, failed: 4 }]);
    }
}
