//! From a stream of outcomes to the figures of a report, in memory that does not grow with the stream.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::model::*;
use super::narrate;
use super::table::Table;
use super::tally::{self, LatencyTally, MOST_FACTS, ProcessTally, UpstreamTally};
use super::timeline::Buckets;
use crate::attribute::verdict::{Cause, Outcome, Symptom, Times, Verdict};
use crate::event::{self, LatencySeries, Nanos};
use crate::session::Session;
use crate::summary::descending;
use crate::time::Moment;
use crate::units::Share;

/// Rows of the bounded tables.
const HOSTS: usize = 100;
const UPSTREAMS: usize = 200;
const PROCESSES: usize = 200;
const LOSSES: usize = 100;
/// First and worst cases shown, each.
const CASES: usize = 3;
/// Sentences about damage kept.
const DAMAGE: usize = 100;

/// Aggregates outcomes and latency records as they pass. Several hosts' streams may be mixed.
#[derive(Debug, Default)]
pub struct Collector {
    /// What is known of it while outcomes pass: window, totals, first and worst cases, damage, what was not measured.
    report: Report,
    hosts: Table<HostRow, HOSTS>,
    by_status: BTreeMap<u16, u64>,
    causes: BTreeMap<Cause, CauseRow>,
    symptoms: BTreeMap<Symptom, u64>,
    buckets: Buckets,
    upstreams: Table<UpstreamTally, UPSTREAMS>,
    processes: Table<ProcessTally, PROCESSES>,
    latency: LatencyTally,
    lost: Table<LostRow, LOSSES>,
    damage_left_out: u64,
}

impl Collector {
    /// Takes one outcome of attribution.
    pub fn outcome(&mut self, session: &Session, outcome: &Outcome) {
        match outcome {
            Outcome::Verdict(verdict) => self.failure(session, verdict),
            Outcome::Rescued(verdict) => self.rescue(session, verdict),
            Outcome::Lost { events, reason } => {
                self.report.totals.lost_events = self.report.totals.lost_events.saturating_add(*events);
                let parts = [session.host.as_bytes(), reason.as_bytes()];
                let new =
                    || LostRow { host: tally::clip(parts[0]), reason: tally::clip(parts[1]), events: 0 };
                self.lost.add(&parts, *events, new).events += events;
            }
            // Each verdict says itself what was only inferred.
            Outcome::Notice { .. } => {}
            Outcome::NotUpstream { .. } => self.report.totals.not_upstream += 1,
        }
    }

    /// Takes one latency record, observed at `at`.
    pub fn latency(&mut self, session: &Session, at: Nanos, latency: &event::Latency) {
        let since = if latency.since == Nanos(0) { at } else { latency.since };
        let time = Moment::of(session, since);
        self.see(session, time);
        self.see(session, Moment::of(session, at));
        self.host(session, 0);
        for series in &latency.series {
            self.series(session, time, series);
        }
    }

    /// Takes a sentence about what could not be read of a capture.
    pub fn damage(&mut self, text: String) {
        if self.report.damage.len() < DAMAGE {
            self.report.damage.push(tally::clip(text.as_bytes()));
        } else {
            self.damage_left_out += 1;
        }
    }

    /// Draws up the report.
    pub fn finish(self) -> Report {
        let mut report = self.report;
        report.schema = SCHEMA;
        report.version = env!("CARGO_PKG_VERSION").to_owned();
        if self.damage_left_out > 0 {
            report.damage.push(format!("{} more of these are not listed", self.damage_left_out));
        }
        let failed = report.totals.failed;
        let by_status = self.by_status.into_iter().map(|(status, count)| StatusRow { status, count });
        report.totals.by_status = by_status.collect();
        report.causes = causes(self.causes, failed);
        report.symptoms = symptoms(&self.symptoms, failed);
        report.timeline = self.buckets.finish();
        report.hosts = ranked(self.hosts, |row| row).0;
        report.lost = ranked(self.lost, |row| row).0;
        (report.upstreams, report.upstreams_other) = ranked(self.upstreams, |tally| tally.row(failed));
        (report.processes, report.processes_other) = ranked(self.processes, |tally| tally.row(failed));
        report.latency.all = self.latency.latency();
        report.latency.bins = self.latency.bins();
        report.totals.answered = report.latency.all.answered.total.map(|total| total.count);
        report.summary = narrate::paragraph(&report);
        report
    }

    fn failure(&mut self, session: &Session, verdict: &Verdict) {
        let time = Moment::of(session, verdict.at);
        self.see(session, time);
        self.report.totals.failed += 1;
        self.host(session, 1).failed += 1;
        *self.by_status.entry(verdict.status).or_default() += 1;
        *self.symptoms.entry(verdict.symptom).or_default() += 1;
        self.buckets.at(time).fail(time, verdict.cause);
        self.causes
            .entry(verdict.cause)
            .or_insert_with(|| tally::cause(session, verdict, time))
            .add(session, verdict, time);
        self.culprit(session, verdict);
        let upstream = self.upstream(session, tally::address(verdict), 1);
        upstream.row.failed += 1;
        *upstream.causes.entry(verdict.cause).or_default() += 1;
        self.attempts(session, verdict, time);
        self.cases(session, verdict, time);
    }

    fn rescue(&mut self, session: &Session, verdict: &Verdict) {
        let time = Moment::of(session, verdict.at);
        self.see(session, time);
        self.report.totals.rescued += 1;
        self.host(session, 0).rescued += 1;
        self.buckets.at(time).rescued += 1;
        self.upstream(session, tally::address(verdict), 0).row.rescued += 1;
        self.attempts(session, verdict, time);
    }

    fn culprit(&mut self, session: &Session, verdict: &Verdict) {
        let Some(process) = verdict.upstream.as_ref().and_then(|upstream| upstream.process.as_ref()) else {
            return;
        };
        let unit = process.unit.as_deref().unwrap_or_default();
        let container = process.container.as_deref().unwrap_or_default();
        let parts = [session.host.as_bytes(), process.comm.as_bytes(), unit.as_bytes(), container.as_bytes()];
        let tally = self.processes.add(&parts, 1, || ProcessTally::new(session, process));
        tally.add(process.pid, verdict.cause);
    }

    /// Times of the failed attempts; of the deciding one where nginx's list of them is not known.
    fn attempts(&mut self, session: &Session, verdict: &Verdict, time: Moment) {
        if verdict.attempts.is_empty() {
            self.attempt(session, tally::address(verdict), time, &verdict.latency);
        }
        for attempt in verdict.attempts.iter().filter(|attempt| attempt.symptom.is_some()) {
            let address = attempt.upstream.as_ref().map_or(tally::address(verdict), |name| name);
            self.attempt(session, address, time, &attempt.times);
        }
    }

    fn attempt(&mut self, session: &Session, address: &[u8], time: Moment, times: &Times) {
        self.report.latency.unmeasured += u64::from(times.total_us == Some(0));
        // The kernel measures no zero; it is nginx's clock, and as microseconds would be the shortest time of all.
        let known = |micros: Option<u64>| micros.filter(|micros| *micros > 0);
        let times = Times {
            connect_us: known(times.connect_us),
            first_byte_us: known(times.first_byte_us),
            total_us: known(times.total_us),
        };
        self.latency.failed_exact.add(times);
        self.upstream(session, address, 0).latency.failed_exact.add(times);
        if let Some(micros) = times.total_us {
            self.buckets.at(time).failed_attempts.add(micros, 1);
        }
    }

    fn series(&mut self, session: &Session, time: Moment, series: &LatencySeries) {
        let add = |tally: &mut LatencyTally| {
            if series.ok { &mut tally.answered } else { &mut tally.failed_series }.add_series(series);
        };
        add(&mut self.latency);
        add(&mut self.upstream(session, &series.upstream, 0).latency);
        if series.ok {
            self.buckets.at(time).answered.add_buckets(&series.total);
        }
    }

    fn cases(&mut self, session: &Session, verdict: &Verdict, time: Moment) {
        keep(&mut self.report.first, |case| case.time <= time, || tally::case(session, verdict));
        let total = verdict.latency.total_us;
        if total.is_some() {
            keep(&mut self.report.worst, |case| case.total_us >= total, || tally::case(session, verdict));
        }
    }

    fn host(&mut self, session: &Session, count: u64) -> &mut HostRow {
        self.hosts.add(&[session.host.as_bytes()], count, || HostRow {
            host: tally::clip(session.host.as_bytes()),
            kernel: tally::clip(session.kernel.as_bytes()),
            traced_by: tally::clip(session.version.as_bytes()),
            nginx: session.nginx.iter().take(MOST_FACTS).map(|build| tally::clip(build.as_bytes())).collect(),
            ..HostRow::default()
        })
    }

    fn upstream(&mut self, session: &Session, address: &[u8], count: u64) -> &mut UpstreamTally {
        let parts = [session.host.as_bytes(), address];
        self.upstreams.add(&parts, count, || UpstreamTally::new(session, address))
    }

    fn see(&mut self, session: &Session, time: Moment) {
        let ready = Moment::of(session, session.ready_at).min(time);
        let window = self.report.window.get_or_insert(Window { since: ready, until: time });
        window.since = window.since.min(ready);
        window.until = window.until.max(time);
    }
}

/// Puts a case after those that are `before` it, if it is among the first few. Only then it is made: copies are costly.
fn keep(cases: &mut Vec<Case>, before: impl Fn(&Case) -> bool, case: impl FnOnce() -> Case) {
    let at = cases.partition_point(before);
    if at < CASES {
        cases.insert(at, case());
        cases.truncate(CASES);
    }
}

fn ranked<V, R, const LIMIT: usize>(table: Table<V, LIMIT>, row: impl Fn(V) -> R) -> (Vec<R>, Other) {
    let (rows, other) = table.ranking();
    (rows.into_iter().map(|entry| row(entry.value)).collect(), other)
}

fn causes(seen: BTreeMap<Cause, CauseRow>, failed: u64) -> Vec<CauseRow> {
    let row = |row: CauseRow| CauseRow { share: Share::of(row.count, failed).0, ..row };
    let mut rows: Vec<_> = seen.into_values().map(row).collect();
    rows.sort_by_key(|row| Reverse(row.count));
    rows
}

fn symptoms(counts: &BTreeMap<Symptom, u64>, failed: u64) -> Vec<SymptomRow> {
    let row = |(symptom, count)| SymptomRow { symptom, count, share: Share::of(count, failed).0 };
    descending(counts).into_iter().map(row).collect()
}
