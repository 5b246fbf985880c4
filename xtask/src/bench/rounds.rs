//! A/B/A: runs without and with a tracer alternate, each traced run is compared with the mean of its two neighbours,
//! and the median over the rounds counts. Slow drifts of the machine cancel, single outliers do not matter.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::bed::{Bed, Run};
use super::scenario::Scenario;
use super::tool::{Cost, Tool, Tracer};

/// What one tool did to one scenario.
pub(super) struct Comparison {
    /// The load.
    pub(super) scenario: Scenario,
    /// The tracer.
    pub(super) tool: Tool,
    /// Runs without a tracer: one more than traced ones.
    pub(super) plain: Vec<Run>,
    /// Runs with it, and what it cost itself.
    pub(super) traced: Vec<(Run, Cost)>,
}

/// Median and quartiles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    /// The median.
    pub(super) median: f64,
    /// The first quartile.
    pub(super) low: f64,
    /// The third quartile.
    pub(super) high: f64,
}

impl Spread {
    /// Of at least one value, in any order.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Spread { median: quantile(&values, 0.5), low: quantile(&values, 0.25), high: quantile(&values, 0.75) }
    }
}

/// Interpolates between neighbours; NaN of nothing.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = share * last as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64)
}

impl Comparison {
    /// Traced divided by the mean of the two neighbours, over the rounds.
    pub(super) fn ratio(&self, of: impl Fn(&Run) -> f64) -> Spread {
        let rounds = self.traced.iter().zip(self.plain.windows(2));
        Spread::of(rounds.map(|((traced, _), around)| 2.0 * of(traced) / (of(&around[0]) + of(&around[1]))))
    }

    /// Untraced throughput divided by that of the next untraced run: what differs though nothing is traced.
    pub(super) fn noise(&self) -> Spread {
        Spread::of(self.plain.windows(2).map(|pair| pair[1].throughput() / pair[0].throughput()))
    }

    /// A figure of the untraced runs.
    pub(super) fn plain(&self, of: impl Fn(&Run) -> f64) -> Spread {
        Spread::of(self.plain.iter().map(of))
    }

    /// A figure of the tracer.
    pub(super) fn cost(&self, of: impl Fn(&Run, &Cost) -> f64) -> Spread {
        Spread::of(self.traced.iter().map(|(run, cost)| of(run, cost)))
    }

    /// (verdicts, 502s, lost events) of all traced rounds.
    pub(super) fn reported(&self) -> (u64, u64, u64) {
        self.traced.iter().fold((0, 0, 0), |sum, (run, cost)| {
            (sum.0 + cost.verdicts, sum.1 + run.failures, sum.2 + cost.lost)
        })
    }

    /// Whether every traced run had exactly one verdict for each 502.
    pub(super) fn is_complete(&self) -> bool {
        self.traced.iter().all(|(run, cost)| run.failures == cost.verdicts)
    }
}

/// Alternates runs of `time` each without and with `tool`.
///
/// # Errors
/// When a run fails, or the tracer does.
pub(super) fn compare(
    bed: &Bed,
    scenario: Scenario,
    (tool, binary): (Tool, &Path),
    rounds: u32,
    time: Duration,
) -> Result<Comparison> {
    let mut comparison = Comparison { scenario, tool, plain: Vec::new(), traced: Vec::new() };
    // Caches, pools and the frequency governor settle.
    bed.run(scenario, Duration::from_secs(1))?;
    comparison.plain.push(bed.run(scenario, time)?);
    for round in 1..=rounds {
        let tracer = Tracer::start(tool, binary, bed)?;
        let run = bed.run(scenario, time)?;
        comparison.traced.push((run, tracer.stop()?));
        comparison.plain.push(bed.run(scenario, time)?);
        eprintln!(
            "{scenario} · {} · round {round} of {rounds}: {:.0} → {:.0} requests/s",
            tool.name(),
            comparison.plain[comparison.plain.len() - 2].throughput(),
            run.throughput()
        );
    }
    Ok(comparison)
}

#[cfg(test)]
mod tests {
    use super::super::wrk::Load;
    use super::*;

    fn run(requests: u64) -> Run {
        let load = Load { requests, seconds: 1.0, p50: 1.0, p99: 2.0, errors: 0, broken: 0 };
        Run { load, cpu: Duration::from_micros(requests), failures: requests }
    }

    fn cost(verdicts: u64) -> Cost {
        let zero = Duration::ZERO;
        Cost { ready: zero, detach: zero, cpu: zero, memory: Default::default(), verdicts, lost: 0 }
    }

    fn comparison() -> Comparison {
        Comparison {
            scenario: Scenario::Storm,
            tool: Tool::Ngx502,
            plain: [1000, 2000, 3000, 1000].map(run).into(),
            traced: vec![(run(1500), cost(1500)), (run(1250), cost(1250)), (run(1000), cost(999))],
        }
    }

    #[test]
    fn a_traced_run_is_compared_with_its_neighbours_on_both_sides() {
        let ratio = comparison().ratio(Run::throughput);
        assert_eq!((ratio.low, ratio.median, ratio.high), (0.5, 0.5, 0.75));
    }

    #[test]
    fn a_single_missing_verdict_is_noticed() {
        assert!(!comparison().is_complete());
        assert_eq!(comparison().reported(), (3749, 3750, 0));
    }

    #[test]
    fn quartiles_interpolate() {
        let spread = Spread::of([4.0, 1.0, 2.0, 3.0]);
        assert_eq!((spread.low, spread.median, spread.high), (1.75, 2.5, 3.25));
        assert!(Spread::of([]).median.is_nan());
    }
}
