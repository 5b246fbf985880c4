//! Failed requests by cause, one bar an upstream.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::frame::{Area, Backend, GRID, Pen, REST, cause_legend, colours, label};
use super::{ChartError, Size};
use crate::report::Report;
use crate::report::view::upstream;
use crate::units::{Count, Share};

/// Bars shown where there is room.
const MOST: usize = 8;
/// The height below which a bar and its name are no longer readable.
const LOWEST_ROW: u32 = 34;

/// The height that its bars need, at most that of `size`.
pub(super) fn height(report: &Report, size: Size) -> u32 {
    size.height.min(above(size.width) + 56 * shown(report, size) as u32)
}

/// What title and legend take at most: two rows of names, or four where it is narrow.
fn above(width: u32) -> u32 {
    if width < 600 { 140 } else { 100 }
}

/// How many bars there is room for.
fn shown(report: &Report, size: Size) -> usize {
    let room = size.height.saturating_sub(above(size.width)) / LOWEST_ROW;
    let failing = report.upstreams.iter().filter(|row| row.failed > 0).count();
    failing.min(MOST).min(room.max(1) as usize)
}

pub(super) fn describe(report: &Report) -> String {
    let worst = report.upstreams.first();
    let told = worst.map(|row| format!(", most at {} ({})", upstream(report, row), Count(row.failed)));
    format!("Failed requests by upstream{}.", told.unwrap_or_default())
}

pub(super) fn draw<DB: Backend>(area: &Area<DB>, report: &Report, pen: Pen) -> Result<(), ChartError> {
    let failing: Vec<_> = report.upstreams.iter().filter(|row| row.failed > 0).collect();
    let (width, height) = area.dim_in_pixel();
    let shown = shown(report, Size { width: pen.unscaled(width), height: pen.unscaled(height) });
    let title = match failing.len() {
        all if all == shown => "Failed requests by upstream".to_owned(),
        all => format!("Failed requests by upstream (first {shown} of {all})"),
    };
    let plot = pen.frame(area, &title, &cause_legend(report))?;
    let (width, height) = plot.area.dim_in_pixel();
    let rows = &failing[..shown];
    let gap = pen.px(8);
    let row_height = ((height as i32 - gap) / rows.len().max(1) as i32).min(pen.px(64));
    let (left, right) = (pen.px(12), width as i32 - pen.px(12));
    let largest = rows.iter().map(|row| row.failed).max().unwrap_or(1) as f64;
    let per_failure = f64::from(right - left) / largest;
    let colours = colours(report);
    let colour =
        |wanted| colours.iter().find(|(cause, _)| *cause == wanted).map_or(REST, |(_, colour)| *colour);
    for (index, row) in rows.iter().enumerate() {
        let top = gap + index as i32 * row_height;
        let characters = if plot.narrow { 26 } else { 70 };
        let text = pen.text(13);
        plot.area.draw_text(&label(&upstream(report, row), characters), &text, (left, top))?;
        let numbers = format!("{} ({})", Count(row.failed), Share(row.share));
        let text = text.pos(Pos::new(HPos::Right, VPos::Top));
        plot.area.draw_text(&numbers, &text, (right, top))?;
        let (top, bottom) = (top + pen.px(18), top + row_height - pen.px(8));
        plot.area.draw(&Rectangle::new([(left, bottom), (right, bottom)], GRID))?;
        let mut from = 0.0;
        for cause in &row.causes {
            let to = from + cause.count as f64 * per_failure;
            let corners = [(left + from as i32, top), (left + to as i32, bottom)];
            plot.area.draw(&Rectangle::new(corners, colour(cause.cause).filled()))?;
            from = to;
        }
    }
    Ok(())
}
