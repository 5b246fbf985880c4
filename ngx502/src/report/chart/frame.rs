//! What charts share: pen, colours, title and legend above the plot.

use std::fmt::Debug;
use std::sync::OnceLock;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};

use super::ChartError;
use crate::attribute::verdict::Cause;
use crate::escape;
use crate::report::Report;
use crate::wrap::cut;

/// Text and axes.
pub(super) const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
/// Lines behind the data.
pub(super) const GRID: RGBColor = RGBColor(0xD0, 0xD0, 0xD0);
/// What has no colour of its own.
pub(super) const REST: RGBColor = RGBColor(0x8C, 0x8C, 0x8C);
/// Okabe and Ito's palette without its yellow, which white paper swallows, and its black, which a dark page does.
pub(super) const PALETTE: [RGBColor; 6] = [
    RGBColor(0xD5, 0x5E, 0x00),
    RGBColor(0x56, 0xB4, 0xE9),
    RGBColor(0x00, 0x9E, 0x73),
    RGBColor(0xE6, 0x9F, 0x00),
    RGBColor(0x00, 0x72, 0xB2),
    RGBColor(0xCC, 0x79, 0xA7),
];
/// Answered requests.
pub(super) const ANSWERED: RGBColor = PALETTE[4];
/// Failed ones.
pub(super) const FAILED: RGBColor = PALETTE[0];

/// A drawing area in pixels.
pub(super) type Area<DB> = DrawingArea<DB, Shift>;

/// Any of plotters' backends.
pub(super) trait Backend: DrawingBackend<ErrorType: Debug + 'static> {}
impl<DB: DrawingBackend<ErrorType: Debug + 'static>> Backend for DB {}

/// How large to draw, and on what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pen {
    scale: u32,
    /// Whether the picture is filled with white.
    pub(super) background: bool,
}

/// A plot: its area and its measures in pixels.
pub(super) struct Plot<DB: DrawingBackend> {
    /// Below title and legend.
    pub(super) area: Area<DB>,
    /// Whether it is too narrow for many labels.
    pub(super) narrow: bool,
}

impl Pen {
    /// Draws everything `scale` times as large.
    pub(super) fn new(scale: u32, background: bool) -> Result<Self, ChartError> {
        static REGISTERED: OnceLock<bool> = OnceLock::new();
        let register = || register_font("sans-serif", FontStyle::Normal, dejavu::sans::regular()).is_ok();
        if !REGISTERED.get_or_init(register) {
            return Err(ChartError::Drawing("the built-in font is damaged".to_owned()));
        }
        Ok(Pen { scale, background })
    }

    /// Pixels of the picture.
    pub(super) fn px(self, pixels: u32) -> i32 {
        (pixels * self.scale) as i32
    }

    /// The inverse of [`Pen::px`].
    pub(super) fn unscaled(self, pixels: u32) -> u32 {
        pixels / self.scale
    }

    /// A line's width.
    pub(super) fn stroke(self, pixels: u32) -> u32 {
        pixels * self.scale
    }

    /// A style of text.
    pub(super) fn text(self, size: u32) -> TextStyle<'static> {
        ("sans-serif", self.px(size)).into_font().color(&INK)
    }

    /// Draws title and legend and returns what is left below.
    pub(super) fn frame<DB: Backend>(
        self,
        area: &Area<DB>,
        title: &str,
        legend: &[(String, RGBColor)],
    ) -> Result<Plot<DB>, ChartError> {
        let width = area.dim_in_pixel().0 as i32;
        let margin = self.px(12);
        let title_style = self.text(17);
        area.draw_text(title, &title_style, (margin, self.px(10)))?;
        let (mut x, mut y) = (margin, self.px(40));
        let (side, gap) = (self.px(11), self.px(6));
        let style = self.text(13).pos(Pos::new(HPos::Left, VPos::Center));
        for (name, colour) in legend {
            let name = label(name, 40);
            let text = area.estimate_text_size(&name, &style)?.0 as i32;
            if x > margin && x + side + gap + text > width - margin {
                (x, y) = (margin, y + self.px(20));
            }
            let square = Rectangle::new([(x, y), (x + side, y + side)], colour.filled());
            area.draw(&square)?;
            area.draw_text(&name, &style, (x + side + gap, y + side / 2))?;
            x += side + gap + text + self.px(18);
        }
        let below = if legend.is_empty() { self.px(36) } else { y + self.px(22) };
        let (_, plot) = area.split_vertically(below);
        Ok(Plot { area: plot, narrow: width < self.px(600) })
    }
}

/// Hostile text as a label: visible, one line, at most `longest` columns.
pub(super) fn label(text: &str, longest: usize) -> String {
    cut(&escape::terminal(text.as_bytes()), longest)
}

/// The causes that have a colour of their own, most frequent first; all others are [`REST`].
pub(super) fn colours(report: &Report) -> Vec<(Cause, RGBColor)> {
    report.causes.iter().map(|row| row.cause).zip(PALETTE).collect()
}

/// The legend of [`colours`].
pub(super) fn cause_legend(report: &Report) -> Vec<(String, RGBColor)> {
    let mut legend: Vec<_> =
        colours(report).into_iter().map(|(cause, colour)| (cause.to_string(), colour)).collect();
    if report.causes.len() > legend.len() {
        legend.push((format!("{} others", report.causes.len() - legend.len()), REST));
    }
    legend
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_short_and_inert() {
        assert_eq!(label("a\x1b[31mb", 40), "a\\x1b[31mb");
        assert_eq!(label("abcdef", 4), "abc…");
    }
}
