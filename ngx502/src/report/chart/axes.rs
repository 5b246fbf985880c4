//! Axes: a range with the points that get a label, chosen to be round.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::prelude::*;

use super::ChartError;
use super::frame::{Backend, GRID, INK, Pen, Plot};
use crate::report::Report;
use crate::time::Moment;
use crate::units::Micros;

/// A linear axis that labels exactly the points it was given.
pub(super) struct Axis {
    range: Range<f64>,
    points: Vec<f64>,
}

/// An axis with its words.
pub(super) struct Scale {
    axis: Axis,
    title: String,
    label: Box<dyn Fn(&f64) -> String>,
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (low, high): (i32, i32)) -> i32 {
        let part = (value - self.range.start) / (self.range.end - self.range.start);
        low + (part * f64::from(high - low)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.points.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl Scale {
    /// Time over all buckets, with clock times at round distances.
    pub(super) fn time(report: &Report, narrow: bool) -> Scale {
        let range = time_range(report);
        let points = clock_points(&range, if narrow { 4 } else { 9 });
        Scale {
            title: time_title(&range),
            label: Box::new(clock_label(&range, &points)),
            axis: Axis { range, points },
        }
    }

    /// Counts from 0 to at least `largest`.
    pub(super) fn counts(largest: u64, title: String) -> Scale {
        let (top, points) = count_points(largest);
        Scale { axis: Axis { range: 0.0..top, points }, title, label: Box::new(short) }
    }

    /// Logarithms of microseconds.
    pub(super) fn durations(range: Range<f64>, title: &str) -> Scale {
        let points = decades(&range);
        let label = |logarithm: &f64| Micros(10_f64.powf(*logarithm).round() as u64).to_string();
        Scale { axis: Axis { range, points }, title: title.to_owned(), label: Box::new(label) }
    }

    /// Percentages from 0 to `top`, with about five labels up to `highest`.
    pub(super) fn shares(highest: f64, top: f64, title: &str) -> Scale {
        let step = round_step(highest);
        let points =
            (0..=5).map(|index| f64::from(index) * step).take_while(|value| *value <= top.min(100.0));
        let axis = Axis { range: 0.0..top, points: points.collect() };
        Scale { axis, title: title.to_owned(), label: Box::new(|share| format!("{share} %")) }
    }
}

/// A chart whose axes are drawn.
pub(super) type Chart<'a, DB> = ChartContext<'a, DB, Cartesian2d<Axis, Axis>>;

impl Pen {
    /// Draws the axes of a plot.
    pub(super) fn axes<'a, DB: Backend + 'a>(
        self,
        plot: &Plot<DB>,
        x: Scale,
        y: Scale,
    ) -> Result<Chart<'a, DB>, ChartError> {
        let mut chart = ChartBuilder::on(&plot.area)
            .margin(self.px(10))
            .margin_right(self.px(34))
            .x_label_area_size(self.px(46))
            .y_label_area_size(self.px(70))
            .build_cartesian_2d(x.axis, y.axis)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID.stroke_width(self.stroke(1)))
            .axis_style(INK.stroke_width(self.stroke(1)))
            .label_style(self.text(13))
            .x_label_formatter(&x.label)
            .y_label_formatter(&y.label)
            .x_desc(x.title)
            .y_desc(y.title)
            .draw()?;
        Ok(chart)
    }
}

/// Powers of ten within a range of logarithms, as points of an axis.
fn decades(range: &Range<f64>) -> Vec<f64> {
    (range.start.ceil() as i32..=range.end.floor() as i32).map(f64::from).collect()
}

/// Seconds since the epoch, from the first to the end of the last bucket; at least three, with those in the middle.
fn time_range(report: &Report) -> Range<f64> {
    let seconds = |time: Moment| time.micros() as f64 / 1e6;
    let width = report.timeline.bucket_seconds as f64;
    let first = report.timeline.buckets.first().map_or(0.0, |bucket| seconds(bucket.time));
    let last = report.timeline.buckets.last().map_or(0.0, |bucket| seconds(bucket.time)) + width;
    let missing = (3.0 - (last - first)).max(0.0) / 2.0;
    first - missing..last + missing
}

/// Round clock times within a range, at most `most` of them.
fn clock_points(range: &Range<f64>, most: usize) -> Vec<f64> {
    const STEPS: [f64; 19] = [
        1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0, 3_600.0, 7_200.0,
        14_400.0, 21_600.0, 43_200.0, 86_400.0, 604_800.0,
    ];
    let span = range.end - range.start;
    // Without seconds labels are shorter, and one more fits.
    let fits = |step: &f64| span / step <= if *step < 60.0 { most } else { most + 1 } as f64;
    // Beyond weeks there is no round step: the span is divided evenly.
    let step = STEPS.into_iter().find(fits).unwrap_or(span / most as f64);
    let first = (range.start / step).ceil();
    (0..=most + 1)
        .map(|index| (first + index as f64) * step)
        .take_while(|point| *point <= range.end)
        .collect()
}

/// The label of a point in time: the clock as precise as the points ask for, or the date when the range spans days.
fn clock_label(range: &Range<f64>, points: &[f64]) -> impl Fn(&f64) -> String + use<> {
    let days = range.end - range.start > 172_800.0;
    let minutes = points.iter().all(|point| point % 60.0 == 0.0);
    move |seconds| {
        let time = Moment::from_micros((seconds * 1e6).round() as i64);
        match (days, minutes) {
            (true, _) => time.date(),
            (_, true) => time.minute(),
            (_, false) => time.clock(),
        }
    }
}

/// `Time (UTC), 2026-11-21`.
fn time_title(range: &Range<f64>) -> String {
    let date = |seconds: f64| Moment::from_micros((seconds * 1e6) as i64).date();
    let (first, last) = (date(range.start), date(range.end));
    if first == last { format!("time (UTC), {first}") } else { format!("time (UTC), {first} to {last}") }
}

/// Whole numbers from 0 to above `largest` in about five round steps.
fn count_points(largest: u64) -> (f64, Vec<f64>) {
    let largest = largest.max(1) as f64;
    let step = round_step(largest);
    let steps = (largest / step).ceil();
    (steps * step, (0..=steps as u32).map(|index| f64::from(index) * step).collect())
}

/// The least of 1, 2, 5, 10, 20, … of which five reach `largest`.
fn round_step(largest: f64) -> f64 {
    let magnitude = 10_f64.powf((largest / 5.0).log10().floor());
    let steps = [1.0, 2.0, 5.0].map(|factor| factor * magnitude);
    steps.into_iter().find(|step| largest / step <= 5.0).unwrap_or(10.0 * magnitude).max(1.0)
}

/// `950`, `1.5k`, `20M`.
fn short(value: &f64) -> String {
    let (value, unit) = match *value {
        value if value >= 1e9 => (value / 1e9, "G"),
        value if value >= 1e6 => (value / 1e6, "M"),
        value if value >= 1e4 => (value / 1e3, "k"),
        value => (value, ""),
    };
    format!("{}{unit}", (value * 100.0).round() / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_points_within_their_range() {
        assert_eq!(count_points(0).1, [0.0, 1.0]);
        assert_eq!(count_points(7).1, [0.0, 2.0, 4.0, 6.0, 8.0]);
        assert_eq!(count_points(12_345).1, [0.0, 5_000.0, 10_000.0, 15_000.0]);
        assert_eq!(clock_points(&(3.0..33.0), 6), [5.0, 10.0, 15.0, 20.0, 25.0, 30.0]);
        assert!(clock_points(&(-3e11..2e11), 6).len() <= 8);
        assert_eq!(clock_points(&(-0.5..2.5), 9), [0.0, 1.0, 2.0]);
        assert_eq!(decades(&(1.5..4.0)), [2.0, 3.0, 4.0]);
        assert_eq!([950.0, 20_000.0, 1_500_000.0].map(|value| short(&value)), ["950", "20k", "1.5M"]);
    }
}
