//! Percentiles of upstream latency over time.

use plotters::prelude::*;

use super::ChartError;
use super::axes::Scale;
use super::frame::{Area, Backend, PALETTE, Pen};
use crate::latency::Quantiles;
use crate::report::Report;
use crate::report::model::Bucket;
use crate::units::Micros;

type Percentile = (&'static str, RGBColor, fn(&Quantiles) -> u64);

const PERCENTILES: [Percentile; 3] = [
    ("p99", PALETTE[0], |quantiles| quantiles.p99_us),
    ("p90", PALETTE[3], |quantiles| quantiles.p90_us),
    ("p50", PALETTE[4], |quantiles| quantiles.p50_us),
];

/// Which requests are shown: the answered ones, or the failed attempts where latency was not traced.
fn subject(report: &Report) -> (&'static str, fn(&Bucket) -> Option<Quantiles>) {
    if report.timeline.buckets.iter().any(|bucket| bucket.answered.is_some()) {
        ("answered upstream requests", |bucket| bucket.answered)
    } else {
        ("failed upstream attempts", |bucket| bucket.failed_attempts)
    }
}

pub(super) fn has_data(report: &Report) -> bool {
    let (_, of) = subject(report);
    report.timeline.buckets.iter().any(|bucket| of(bucket).is_some())
}

pub(super) fn describe(report: &Report) -> String {
    let (name, of) = subject(report);
    let highest = report.timeline.buckets.iter().filter_map(|bucket| Some((of(bucket)?.p99_us, bucket.time)));
    let told = highest
        .max()
        .map(|(micros, time)| format!(", p99 highest at {} UTC with {}", time.clock(), Micros(micros)));
    format!("Percentiles of {name} over time{}.", told.unwrap_or_default())
}

pub(super) fn draw<DB: Backend>(area: &Area<DB>, report: &Report, pen: Pen) -> Result<(), ChartError> {
    let (name, of) = subject(report);
    let legend = PERCENTILES.map(|(name, colour, _)| (name.to_owned(), colour));
    let narrow = area.dim_in_pixel().0 < pen.stroke(600);
    let title = if narrow { format!("Latency, {name}") } else { format!("Latency over time, {name}") };
    let plot = pen.frame(area, &title, &legend)?;
    let points: Points =
        report.timeline.buckets.iter().filter_map(|bucket| Some((bucket, of(bucket)?))).collect();
    let logarithm = |micros: u64| (micros.max(1) as f64).log10();
    let lowest =
        points.iter().map(|(_, quantiles)| logarithm(quantiles.p50_us)).fold(f64::MAX, f64::min).floor();
    let highest = points.iter().map(|(_, quantiles)| logarithm(quantiles.p99_us)).fold(0.0, f64::max).ceil();
    let micros = lowest..highest.max(lowest + 1.0);
    let y = Scale::durations(micros, "total time (logarithmic)");
    let mut chart = pen.axes(&plot, Scale::time(report, plot.narrow), y)?;
    let width = report.timeline.bucket_seconds as f64;
    let gap = 2.5 * usual_distance(&points).max(width);
    for (_, colour, percentile) in PERCENTILES {
        let line: Vec<_> = points
            .iter()
            .map(|(bucket, quantiles)| {
                (bucket.time.micros() as f64 / 1e6 + width / 2.0, logarithm(percentile(quantiles)))
            })
            .collect();
        // A line across a gap would claim what nobody measured.
        for piece in line.chunk_by(|a, b| b.0 - a.0 < gap) {
            let style = colour.stroke_width(pen.stroke(2));
            chart.draw_series([PathElement::new(piece.to_vec(), style)])?;
            let lone = piece.iter().filter(|_| piece.len() == 1);
            chart.draw_series(lone.map(|point| Circle::new(*point, pen.px(3), colour.filled())))?;
        }
    }
    Ok(())
}

type Points<'a> = Vec<(&'a Bucket, Quantiles)>;

/// The median distance of neighbours in seconds: latency may be recorded less often than buckets are wide.
fn usual_distance(points: &Points) -> f64 {
    let distance =
        |pair: &[(&Bucket, Quantiles)]| (pair[1].0.time.micros() - pair[0].0.time.micros()) as f64 / 1e6;
    let mut distances: Vec<_> = points.windows(2).map(distance).collect();
    distances.sort_by(f64::total_cmp);
    distances.get(distances.len() / 2).copied().unwrap_or(0.0)
}
