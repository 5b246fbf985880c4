//! What only time shows: processor time while nothing happens, and memory under a long mixed load.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::bed::Bed;
use super::scenario::Scenario;
use super::tool::{Cost, Tool, Tracer};
use super::usage;

/// One stretch of the long load; memory is looked at after each.
const STRETCH: Duration = Duration::from_secs(5);
/// Its loads, one a stretch: pooled, a connection a request, AF_UNIX, and half of them failures.
const LOADS: [Scenario; 4] = [Scenario::KeepAlive, Scenario::Short, Scenario::Unix, Scenario::Mix];

/// Memory at some point of the load.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Requests so far.
    pub(super) requests: u64,
    /// Resident KiB.
    pub(super) resident: u64,
}

/// The outcome of a long load.
pub(super) struct Soak {
    /// After each stretch.
    pub(super) samples: Vec<Sample>,
    /// 502s in nginx's log.
    pub(super) failures: u64,
    /// What the tracer said and used.
    pub(super) cost: Cost,
    /// How long it took.
    pub(super) time: Duration,
}

impl Soak {
    /// The first sample of the second half; `None` without samples.
    pub(super) fn middle(&self) -> Option<&Sample> {
        self.samples.get(self.samples.len() / 2)
    }

    /// KiB of growth a million requests from the middle of the run to its end: the first half fills tables that are
    /// bounded by design. `None` for a run too short to tell.
    pub(super) fn growth(&self) -> Option<f64> {
        let middle = self.middle()?;
        let last = self.samples.last()?;
        let requests = last.requests.checked_sub(middle.requests).filter(|requests| *requests > 0)?;
        Some((last.resident as f64 - middle.resident as f64) * 1e6 / requests as f64)
    }
}

/// Traces at least so many requests, of one load after the other.
///
/// # Errors
/// When a run fails, or the tracer does.
pub(super) fn soak(bed: &Bed, binary: &Path, wanted: u64) -> Result<Soak> {
    let tracer = Tracer::start(Tool::Ngx502, binary, bed)?;
    let start = Instant::now();
    let (mut samples, mut failures, mut requests) = (Vec::new(), 0, 0);
    for load in LOADS.into_iter().cycle() {
        if requests >= wanted {
            break;
        }
        let run = bed.run(load, STRETCH)?;
        requests += run.load.requests;
        failures += run.failures;
        let resident = usage::memory(tracer.pid())?.resident;
        eprintln!("soak · {load} · {requests} requests, {resident} KiB resident");
        samples.push(Sample { requests, resident });
    }
    let time = start.elapsed();
    Ok(Soak { samples, failures, cost: tracer.stop()?, time })
}

/// The share of one processor that the tracer uses while nginx has nothing to do.
///
/// # Errors
/// When the tracer fails.
pub(super) fn idle(bed: &Bed, binary: &Path, time: Duration) -> Result<f64> {
    let tracer = Tracer::start(Tool::Ngx502, binary, bed)?;
    // Its start has an end: what comes in while it attaches is dealt with in the first moments.
    std::thread::sleep(Duration::from_millis(500));
    let (before, start) = (tracer.cpu()?, Instant::now());
    std::thread::sleep(time);
    let share = (tracer.cpu()? - before).as_secs_f64() / start.elapsed().as_secs_f64();
    tracer.stop()?;
    Ok(share)
}

#[cfg(test)]
mod tests {
    use super::super::usage::Memory;
    use super::*;

    #[test]
    fn growth_is_that_of_the_second_half() {
        let zero = Duration::ZERO;
        let cost =
            Cost { ready: zero, detach: zero, cpu: zero, memory: Memory::default(), verdicts: 0, lost: 0 };
        let sample = |requests, resident| Sample { requests, resident };
        let samples = vec![sample(1_000_000, 5), sample(2_000_000, 1000), sample(4_000_000, 1100)];
        let soak = Soak { samples, failures: 0, cost, time: zero };
        assert_eq!(soak.growth(), Some(50.0));
        assert_eq!(Soak { samples: Vec::new(), ..soak }.growth(), None);
    }
}
