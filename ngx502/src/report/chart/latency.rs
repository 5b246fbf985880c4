//! How long upstream requests took: a histogram over a logarithmic axis, answered against failed.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::ChartError;
use super::axes::{Chart, Scale};
use super::frame::{ANSWERED, Area, Backend, FAILED, Pen};
use crate::latency::Quantiles;
use crate::report::Report;
use crate::report::model::Bin;
use crate::units::{Count, Micros};

/// One of the two distributions.
struct Series {
    name: &'static str,
    colour: RGBColor,
    quantiles: Quantiles,
    of: fn(&Bin) -> u64,
}

fn series(report: &Report) -> Vec<Series> {
    let series = |name, colour, total: Option<Quantiles>, of: fn(&Bin) -> u64| {
        Some(Series { name, colour, quantiles: total?, of })
    };
    let all = &report.latency.all;
    let answered = series("answered", ANSWERED, all.answered.total, |bin| bin.answered);
    let failed = series("failed attempts", FAILED, all.failed.total, |bin| bin.failed);
    answered.into_iter().chain(failed).collect()
}

pub(super) fn describe(report: &Report) -> String {
    let told = series(report).into_iter().map(|series| {
        let Quantiles { count: samples, p50_us, p99_us, .. } = series.quantiles;
        format!("{} {}, median {}, p99 {}", Count(samples), series.name, Micros(p50_us), Micros(p99_us))
    });
    format!("Histogram of upstream latency: {}.", told.collect::<Vec<_>>().join("; "))
}

pub(super) fn draw<DB: Backend>(area: &Area<DB>, report: &Report, pen: Pen) -> Result<(), ChartError> {
    let all = series(report);
    let legend: Vec<_> =
        all.iter().map(|s| (format!("{} ({})", s.name, Count(s.quantiles.count)), s.colour)).collect();
    let plot = pen.frame(area, "Latency of upstream requests", &legend)?;
    let bins = &report.latency.bins;
    let edge = |index: Option<u32>| f64::from(index.unwrap_or(0)) / 10.0;
    let first = edge(bins.first().map(|bin| bin.index)).floor();
    let last = edge(bins.last().map(|bin| bin.index + 1)).ceil().max(first + 1.0);
    let share =
        |series: &Series, bin: &Bin| 100.0 * (series.of)(bin) as f64 / series.quantiles.count.max(1) as f64;
    let highest = all.iter().flat_map(|s| bins.iter().map(move |bin| share(s, bin))).fold(1.0, f64::max);
    // What is above the highest bar is for the percentiles' names.
    let top = highest * 1.35;
    let x = Scale::durations(first..last, "total time (logarithmic)");
    let mut chart = pen.axes(&plot, x, Scale::shares(highest, top, "share of requests"))?;
    for series in &all {
        let bars = bins.iter().filter(|bin| (series.of)(bin) > 0).map(|bin| {
            let corners = [(edge(Some(bin.index)), 0.0), (edge(Some(bin.index + 1)), share(series, bin))];
            Rectangle::new(corners, series.colour.mix(0.75).filled())
        });
        chart.draw_series(bars)?;
    }
    mark(&mut chart, pen, &all)
}

/// Marks the percentiles. From left to right each name is a line lower and right of its stem, so that no later stem
/// crosses it; names near the right edge follow below from right to left, left of theirs.
fn mark<DB: Backend>(chart: &mut Chart<DB>, pen: Pen, all: &[Series]) -> Result<(), ChartError> {
    let (x_range, y_range) = (chart.x_range(), chart.y_range());
    let edge = x_range.start + 0.7 * (x_range.end - x_range.start);
    let (mut near, mut far): (Vec<_>, Vec<_>) = all
        .iter()
        .flat_map(|series| {
            let Quantiles { p50_us, p90_us, p99_us, .. } = series.quantiles;
            [("p50", p50_us), ("p90", p90_us), ("p99", p99_us)]
                .map(|(name, micros)| (name, micros, series.colour))
        })
        .map(|(name, micros, colour)| ((micros.max(1) as f64).log10().min(x_range.end), name, micros, colour))
        .partition(|mark| mark.0 <= edge);
    near.sort_by(|a, b| a.0.total_cmp(&b.0));
    far.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (line, (x, name, micros, colour)) in near.into_iter().chain(far).enumerate() {
        let level = y_range.end * (0.98 - 0.045 * line as f64);
        let stem = PathElement::new([(x, 0.0), (x, level)], colour.stroke_width(pen.stroke(2)));
        chart.draw_series([stem])?;
        // Space that SVG does not swallow.
        let (side, text) = if x > edge {
            (HPos::Right, format!("{name} {}\u{a0}", Micros(micros)))
        } else {
            (HPos::Left, format!("\u{a0}{name} {}", Micros(micros)))
        };
        let style = pen.text(12).pos(Pos::new(side, VPos::Center));
        chart.draw_series([Text::new(text, (x, level), style)])?;
    }
    Ok(())
}
