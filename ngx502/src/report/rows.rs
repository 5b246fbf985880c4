//! The rows of a report: what is kept while collecting, and what becomes of it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::collect::Collector;
use super::model::*;
use super::narrate;
use super::table::{Ranking, Table};
use super::timeline::ByCause;
use crate::attribute::verdict::{Cause, ProcessFacts, Symptom, Verdict};
use crate::event::Pid;
use crate::latency::{Distribution, Phases};
use crate::session::Session;
use crate::time::Moment;

/// Texts are kept up to this many characters.
const LONGEST_TEXT: usize = 512;
/// Facts of evidence kept per case.
const MOST_FACTS: usize = 32;
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

/// A host while it is counted.
#[derive(Debug)]
pub(super) struct HostTally {
    pub(super) failed: u64,
    pub(super) rescued: u64,
    row: HostRow,
}

impl HostTally {
    pub(super) fn new(session: &Session) -> Self {
        let row = HostRow {
            host: clip(session.host.as_bytes()),
            kernel: clip(session.kernel.as_bytes()),
            traced_by: clip(session.version.as_bytes()),
            nginx: session.nginx.iter().take(MOST_FACTS).map(|build| clip(build.as_bytes())).collect(),
            failed: 0,
            rescued: 0,
        };
        HostTally { failed: 0, rescued: 0, row }
    }
}

/// An upstream while it is counted.
#[derive(Debug)]
pub(super) struct UpstreamTally {
    host: String,
    address: String,
    pub(super) failed: u64,
    pub(super) rescued: u64,
    pub(super) causes: ByCause,
    pub(super) latency: LatencyTally,
}

impl UpstreamTally {
    pub(super) fn new(session: &Session, address: &[u8]) -> Self {
        UpstreamTally {
            host: clip(session.host.as_bytes()),
            address: clip(address),
            failed: 0,
            rescued: 0,
            causes: ByCause::default(),
            latency: LatencyTally::default(),
        }
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
#[derive(Debug)]
pub(super) struct ProcessTally {
    host: String,
    comm: String,
    unit: Option<String>,
    container: Option<String>,
    pids: Vec<u32>,
    more_pids: bool,
    failed: u64,
    causes: ByCause,
}

impl ProcessTally {
    pub(super) fn new(session: &Session, process: &ProcessFacts) -> Self {
        ProcessTally {
            host: clip(session.host.as_bytes()),
            comm: clip(&process.comm),
            unit: process.unit.as_ref().map(|unit| clip(unit.as_bytes())),
            container: process.container_label().map(|container| clip(container.as_bytes())),
            pids: Vec::new(),
            more_pids: false,
            failed: 0,
            causes: ByCause::default(),
        }
    }

    pub(super) fn add(&mut self, pid: Pid, cause: Cause) {
        self.failed += 1;
        self.causes.add(cause);
        if !self.pids.contains(&pid.0) {
            if self.pids.len() < MOST_PIDS {
                self.pids.push(pid.0);
            } else {
                self.more_pids = true;
            }
        }
    }
}

/// A kind of loss while it is counted.
#[derive(Debug)]
pub(super) struct LostTally {
    host: String,
    reason: String,
}

impl LostTally {
    pub(super) fn new(session: &Session, reason: &str) -> Self {
        LostTally { host: clip(session.host.as_bytes()), reason: clip(reason.as_bytes()) }
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
        fix: verdict.fix().iter().take(MOST_FIXES).map(|line| clip(line.as_bytes())).collect(),
    }
}

/// Everything collected, as a report.
pub(super) fn report(mut collector: Collector) -> Report {
    if collector.damage_left_out > 0 {
        collector.damage.push(format!("{} more of these are not listed", collector.damage_left_out));
    }
    let failed = collector.failed;
    let (upstreams, upstreams_other) = ranked(collector.upstreams, |_, tally| upstream(tally, failed));
    let (processes, processes_other) = ranked(collector.processes, |_, tally| process(tally, failed));
    let lost = ranked(collector.lost, |count, tally| LostRow {
        host: tally.host,
        reason: tally.reason,
        events: count,
    });
    let hosts =
        ranked(collector.hosts, |_, HostTally { failed, rescued, row }| HostRow { failed, rescued, ..row });
    let all = collector.latency.latency();
    let by_status = collector.by_status.iter().map(|(&status, &count)| StatusRow { status, count });
    let mut report = Report {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        summary: String::new(),
        window: collector.window.map(|(since, until)| Window { since, until }),
        hosts: hosts.0,
        totals: Totals {
            failed,
            rescued: collector.rescued,
            answered: all.answered.total.map(|total| total.count),
            not_upstream: collector.not_upstream,
            lost_events: collector.lost_events,
            by_status: by_status.collect(),
        },
        causes: causes(&mut collector.causes, failed),
        symptoms: symptoms(&collector.symptoms, failed),
        timeline: collector.buckets.finish(),
        upstreams,
        upstreams_other,
        processes,
        processes_other,
        first: collector.first,
        worst: collector.worst,
        latency: LatencySummary { bins: collector.latency.bins(), all, unmeasured: collector.unmeasured },
        lost: lost.0,
        damage: collector.damage,
    };
    report.summary = narrate::paragraph(&report);
    report
}

fn share(count: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { count as f64 / of as f64 }
}

fn ranked<V, R>(table: Table<V>, row: impl Fn(u64, V) -> R) -> (Vec<R>, Other) {
    let Ranking { rows, other_rows, other_count } = table.ranking();
    let rows = rows.into_iter().map(|entry| row(entry.count, entry.value)).collect();
    (rows, Other { rows: other_rows, failed: other_count })
}

fn upstream(tally: UpstreamTally, failed: u64) -> UpstreamRow {
    UpstreamRow {
        share: share(tally.failed, failed),
        causes: tally.causes.ranking(),
        latency: tally.latency.latency(),
        host: tally.host,
        address: tally.address,
        failed: tally.failed,
        rescued: tally.rescued,
    }
}

fn process(tally: ProcessTally, failed: u64) -> ProcessRow {
    ProcessRow {
        share: share(tally.failed, failed),
        causes: tally.causes.ranking(),
        host: tally.host,
        comm: tally.comm,
        unit: tally.unit,
        container: tally.container,
        pids: tally.pids,
        more_pids: tally.more_pids,
        failed: tally.failed,
    }
}

fn causes(tallies: &mut [Option<super::collect::CauseTally>], failed: u64) -> Vec<CauseRow> {
    let seen = Cause::ALL.iter().zip(tallies).filter_map(|(&cause, tally)| Some((cause, tally.take()?)));
    let mut rows: Vec<_> = seen
        .map(|(cause, tally)| CauseRow {
            cause,
            count: tally.count,
            share: share(tally.count, failed),
            proven: tally.proven,
            inferred: tally.inferred,
            since: tally.since,
            until: tally.until,
            example: tally.example,
        })
        .collect();
    rows.sort_by_key(|row| Reverse(row.count));
    rows
}

fn symptoms(counts: &[u64], failed: u64) -> Vec<SymptomRow> {
    let seen = Symptom::ALL.iter().zip(counts).filter(|(_, count)| **count > 0);
    let mut rows: Vec<_> =
        seen.map(|(&symptom, &count)| SymptomRow { symptom, count, share: share(count, failed) }).collect();
    rows.sort_by_key(|row| Reverse(row.count));
    rows
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
