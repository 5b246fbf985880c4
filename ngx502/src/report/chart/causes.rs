//! Failed requests by cause over time, stacked.

use plotters::prelude::*;

use super::ChartError;
use super::axes::Scale;
use super::frame::{Area, Backend, Pen, REST, cause_legend, colours};
use crate::report::Report;
use crate::units::Count;

pub(super) fn describe(report: &Report) -> String {
    let mut told = format!("Failed requests by cause over time: {} in all", Count(report.totals.failed));
    if let Some(peak) = report.timeline.buckets.iter().rev().max_by_key(|bucket| bucket.failed) {
        let width = report.timeline.bucket_seconds;
        told += &format!(", at most {} in {width} s, at {} UTC", Count(peak.failed), peak.time.clock());
    }
    told + "."
}

fn failed_per(seconds: u64) -> String {
    match seconds {
        1 => "failed per second".to_owned(),
        seconds => format!("failed per {seconds} s"),
    }
}

pub(super) fn draw<DB: Backend>(area: &Area<DB>, report: &Report, pen: Pen) -> Result<(), ChartError> {
    let plot = pen.frame(area, "Failed requests by cause", &cause_legend(report))?;
    let buckets = &report.timeline.buckets;
    let width = report.timeline.bucket_seconds as f64;
    let largest = buckets.iter().map(|bucket| bucket.failed).max().unwrap_or(0);
    let y = Scale::counts(largest, failed_per(report.timeline.bucket_seconds));
    let mut chart = pen.axes(&plot, Scale::time(report, plot.narrow), y)?;
    let colours = colours(report);
    for bucket in buckets.iter().filter(|bucket| bucket.failed > 0) {
        let left = bucket.time.micros() as f64 / 1e6;
        let mut from = 0.0;
        // In the legend's order, so that a cause keeps its place; the rest on top.
        let of = |cause| bucket.causes.iter().find(|row| row.cause == cause).map_or(0, |row| row.count);
        let named: Vec<_> = colours.iter().map(|(cause, colour)| (of(*cause), *colour)).collect();
        let rest = bucket.failed - named.iter().map(|(count, _)| count).sum::<u64>();
        for (count, colour) in named.into_iter().chain([(rest, REST)]).filter(|(count, _)| *count > 0) {
            let to = from + count as f64;
            let bar = Rectangle::new([(left, from), (left + width, to)], colour.filled());
            chart.draw_series([bar])?;
            from = to;
        }
    }
    Ok(())
}
