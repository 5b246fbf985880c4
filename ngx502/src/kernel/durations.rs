//! Reads the kernel's latency histograms.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use anyhow::Result;
use aya::maps::{self, MapData, PerCpuArray};
use bstr::BString;
use ngx502_common::{
    connection::{Connection, Phases},
    latency::{BUCKETS, Durations, Series, bucket, durations_at, upper_bound},
    net::AF_UNIX,
};

use super::load::Kernel;
use crate::decode::address;
use crate::event::{Latency, LatencySeries, Nanos, Pid};

/// An AF_UNIX connection that was idle for so long is looked after.
const IDLE: Duration = Duration::from_secs(20);

/// One series' counts, all CPUs together.
#[derive(Clone)]
struct Counts([[u64; BUCKETS]; 3]);

impl Counts {
    const ZERO: Self = Self([[0; BUCKETS]; 3]);

    fn add_cpu(&mut self, cpu: &Durations) {
        for (sums, counts) in self.0.iter_mut().zip([&cpu.connect, &cpu.first_byte, &cpu.total]) {
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum += u64::from(*count);
            }
        }
    }

    fn add(&mut self, phases: Phases) {
        let durations = [phases.connect, Some(phases.first_byte), Some(phases.total)];
        for (histogram, micros) in self.0.iter_mut().zip(durations) {
            if let Some(micros) = micros {
                histogram[bucket(micros)] += 1;
            }
        }
    }
}

/// What is counted apart: an upstream, by its place in the kernel's table, and whether the attempts failed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    place: u32,
    failed: bool,
}

impl Key {
    fn of(connection: &Connection) -> Self {
        Self { place: connection.place, failed: connection.failed != 0 }
    }
}

/// The histograms, and what was read of them before.
pub struct DurationReader {
    series: maps::HashMap<MapData, u32, Series>,
    paths: maps::HashMap<MapData, u32, [u8; 112]>,
    durations: PerCpuArray<MapData, Durations>,
    connections: maps::HashMap<MapData, u64, Connection>,
    /// Counts at the last reading; boxed, since a series takes 12 KiB.
    before: HashMap<Key, Box<Counts>>,
    /// What [`DurationReader::forget_closed`] counted in place of the kernel.
    counted_here: HashMap<Key, Box<Counts>>,
    since: Nanos,
}

impl DurationReader {
    /// Takes the maps over; what was counted before `now` counts as new.
    ///
    /// # Errors
    /// When they were taken before.
    pub fn take(kernel: &mut Kernel, now: Nanos) -> Result<Self> {
        Ok(Self {
            series: kernel.take("SERIES")?,
            paths: kernel.take("PATHS")?,
            durations: kernel.take("DURATIONS")?,
            connections: kernel.take("CONNECTIONS")?,
            before: HashMap::new(),
            counted_here: HashMap::new(),
            since: now,
        })
    }

    /// What was counted since the last reading; `None` when nothing was.
    pub fn read(&mut self, now: Nanos) -> Option<Latency> {
        let since = std::mem::replace(&mut self.since, now);
        let mut series = Vec::new();
        for (key, counts) in self.counted() {
            let before = self.before.entry(key).or_insert_with(|| Box::new(Counts::ZERO));
            let grown = [0, 1, 2].map(|phase| grown(&before.0[phase], &counts.0[phase]));
            *before = counts;
            if grown.iter().any(|buckets| !buckets.is_empty()) {
                series.push(self.series(&key, grown));
            }
        }
        latency(since, series)
    }

    /// Responses that arrived, at least in part, but that the kernel has not counted: it counts a request when the next
    /// one follows on the connection or the connection ends, and on a kernel without kprobes the end of an AF_UNIX
    /// connection shows no earlier than its socket's memory is used again. Whatever is reported here is counted later: it
    /// is not part of any [`DurationReader::read`] before.
    pub fn uncounted(&self, now: Nanos) -> Option<Latency> {
        let mut pending: HashMap<Key, Box<Counts>> = HashMap::new();
        // The walk begins anew when the entry it stands at goes.
        let mut met = HashSet::new();
        for (sk, connection) in self.connections.iter().filter_map(Result::ok) {
            let Some(phases) = connection.uncounted().filter(|_| met.insert(sk)) else { continue };
            let counts = pending.entry(Key::of(&connection)).or_insert_with(|| Box::new(Counts::ZERO));
            counts.add(phases);
        }
        let series = pending.iter().map(|(key, counts)| {
            self.series(key, counts.0.each_ref().map(|histogram| grown(&[0; BUCKETS], histogram)))
        });
        latency(now, series.collect())
    }

    /// Drops AF_UNIX connections that no worker holds any more, and counts their last requests. Without kprobes nothing
    /// tells of their end, and one at a time would fill the map. `sockets` gives the inodes that a process holds.
    pub fn forget_closed(&mut self, now: Nanos, sockets: impl Fn(Pid) -> Vec<u64>) {
        let mut held: HashMap<u32, HashSet<u64>> = HashMap::new();
        let connections = self.connections.iter().filter_map(Result::ok);
        let idle: Vec<_> = connections.filter(|(_, connection)| is_idle(connection, now)).collect();
        for (sk, seen) in idle {
            let worker = seen.worker;
            let held = held.entry(worker).or_insert_with(|| sockets(Pid(worker)).into_iter().collect());
            if held.contains(&seen.inode) {
                continue;
            }
            // A connection that began at the same address since is another one.
            let same =
                |found: Connection| found.inode == seen.inode && found.facts.sent_at == seen.facts.sent_at;
            if !self.connections.get(&sk, 0).is_ok_and(same) {
                continue;
            }
            if self.connections.remove(&sk).is_ok()
                && let Some(phases) = seen.uncounted()
            {
                self.counted_here.entry(Key::of(&seen)).or_insert_with(|| Box::new(Counts::ZERO)).add(phases);
            }
        }
    }

    fn series(&self, key: &Key, [connect, first_byte, total]: [Vec<(u64, u64)>; 3]) -> LatencySeries {
        LatencySeries { upstream: self.name(key.place), ok: !key.failed, connect, first_byte, total }
    }

    fn counted(&self) -> HashMap<Key, Box<Counts>> {
        let mut totals = self.counted_here.clone();
        for place in self.series.keys().filter_map(Result::ok).chain([0]) {
            for failed in [false, true] {
                let Ok(cpus) = self.durations.get(&durations_at(place, failed), 0) else { continue };
                let sums = totals.entry(Key { place, failed }).or_insert_with(|| Box::new(Counts::ZERO));
                cpus.iter().for_each(|cpu| sums.add_cpu(cpu));
            }
        }
        totals
    }

    /// As nginx names it.
    fn name(&self, place: u32) -> BString {
        let series = self.series.get(&place, 0).unwrap_or(Series::OTHERS);
        match series.family {
            0 => BString::from("other upstreams"),
            AF_UNIX => {
                let text = match self.paths.get(&place, 0).unwrap_or([0; 112]) {
                    [0, rest @ ..] => [b"@", until_nul(&rest)].concat(),
                    path => until_nul(&path).to_vec(),
                };
                BString::from([b"unix:".as_slice(), &text].concat())
            }
            family => BString::from(address(family, series.address, series.port).to_string()),
        }
    }
}

/// Whether nothing has happened on an AF_UNIX connection for a while.
fn is_idle(connection: &Connection, now: Nanos) -> bool {
    let facts = &connection.facts;
    let last = facts.connect_at.max(facts.sent_at).max(connection.last_byte_at);
    facts.family == AF_UNIX && u128::from(now.0.saturating_sub(last)) > IDLE.as_nanos()
}

/// Series in a stable order; `None` when there are none.
fn latency(since: Nanos, mut series: Vec<LatencySeries>) -> Option<Latency> {
    series.sort_by(|a, b| (&a.upstream, !a.ok).cmp(&(&b.upstream, !b.ok)));
    (!series.is_empty()).then_some(Latency { since, series })
}

/// Buckets that grew, as (upper bound, growth). Counts wrap at 2^32 a CPU; a shrinking one is left out.
fn grown(before: &[u64; BUCKETS], now: &[u64; BUCKETS]) -> Vec<(u64, u64)> {
    let grown = before.iter().zip(now).enumerate();
    grown
        .filter(|(_, (before, now))| now > before)
        .map(|(at, (before, now))| (upper_bound(at), now - before))
        .collect()
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}
