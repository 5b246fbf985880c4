//! Charts of a report, drawn by plotters as SVG or PNG.
//!
//! Colours are Okabe and Ito's, which colour-blind readers tell apart. The font comes with the binary, so that a PNG needs
//! no font of the system; an SVG asks its reader for any sans-serif.

mod axes;
mod causes;
mod frame;
mod latency;
mod percentiles;
mod upstreams;

use std::error::Error;

use clap::ValueEnum;
use maud::{PreEscaped, html};
use plotters::backend::{BitMapBackend, SVGBackend};
use plotters::drawing::{DrawingAreaErrorKind, IntoDrawingArea};
use plotters::style::WHITE;
use thiserror::Error;

use self::frame::{Area, Pen};
use super::Report;
use crate::escape;

/// What to draw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Kind {
    /// All of the others that have data, one below the other.
    #[default]
    All,
    /// How long upstream requests took: a histogram over a logarithmic axis with percentiles marked.
    Latency,
    /// Latency percentiles over time.
    Percentiles,
    /// Failed requests by cause over time, stacked.
    Causes,
    /// Failed requests by cause, one bar per upstream.
    Upstreams,
}

impl Kind {
    /// Every single chart, in the order in which `All` stacks them.
    pub const SINGLE: [Kind; 4] = [Kind::Causes, Kind::Upstreams, Kind::Latency, Kind::Percentiles];

    /// The name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::All => "all",
            Kind::Latency => "latency",
            Kind::Percentiles => "percentiles",
            Kind::Causes => "causes",
            Kind::Upstreams => "upstreams",
        }
    }

    /// Why it cannot be drawn; `None` when it can.
    fn missing(self, report: &Report) -> Option<&'static str> {
        let (has, what) = match self {
            Kind::All => {
                let any = Kind::SINGLE.iter().any(|kind| kind.missing(report).is_none());
                (any, "no failed request and no latency")
            }
            Kind::Latency => (!report.latency.bins.is_empty(), NO_LATENCY),
            Kind::Percentiles => (percentiles::has_data(report), NO_LATENCY),
            Kind::Causes | Kind::Upstreams => (report.totals.failed > 0, "no failed request"),
        };
        (!has).then_some(what)
    }
}

/// A picture's measures in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Its width.
    pub width: u32,
    /// Its height; of each chart when several are stacked.
    pub height: u32,
}

/// For a page of desktop width.
pub const WIDE: Size = Size { width: 900, height: 380 };
/// For a phone.
pub const NARROW: Size = Size { width: 350, height: 340 };
const NO_LATENCY: &str = "no latency (was it traced with --no-latency?)";
/// PNG pixels per pixel of [`Size`].
const PNG_SCALE: u32 = 2;

/// A chart that could not be drawn.
#[derive(Debug, Error)]
pub enum ChartError {
    /// The report lacks what it shows.
    #[error("nothing to draw in the chart `{chart}`: the captures contain {missing}")]
    NoData {
        /// The chart's name.
        chart: &'static str,
        /// What there is not.
        missing: &'static str,
    },
    /// The picture is too small or too large.
    #[error("unsupported image size {0}×{1}: use 300 to 8000 by 200 to 8000 pixels")]
    Size(u32, u32),
    /// The drawing library failed.
    #[error("drawing failed: {0}")]
    Drawing(String),
    /// The PNG could not be encoded.
    #[error("cannot encode the PNG")]
    Png(#[from] png::EncodingError),
}

impl<E: Error + Send + Sync> From<DrawingAreaErrorKind<E>> for ChartError {
    fn from(error: DrawingAreaErrorKind<E>) -> Self {
        ChartError::Drawing(error.to_string())
    }
}

/// The chart as an SVG document with an accessible title, on white. With a `class` it is for a page that brings its own
/// colours: it has no background, text is `#222222`, lines of the grid `#D0D0D0`.
///
/// # Errors
/// See [`ChartError`].
pub fn svg(report: &Report, kind: Kind, size: Size, class: Option<&str>) -> Result<String, ChartError> {
    let (kinds, size) = plan(report, kind, size)?;
    let mut drawn = String::new();
    {
        let area = SVGBackend::with_string(&mut drawn, (size.width, size.height)).into_drawing_area();
        draw(&area, report, &kinds, Pen::new(1, class.is_none())?)?;
        area.present()?;
    }
    let told: Vec<_> = kinds.iter().map(|(kind, _)| describe(report, *kind)).collect();
    Ok(accessible(&drawn, &told.join(" "), size, class))
}

/// The chart as a PNG file at twice the pixels of `size`.
///
/// # Errors
/// See [`ChartError`].
pub fn png(report: &Report, kind: Kind, size: Size) -> Result<Vec<u8>, ChartError> {
    let (kinds, size) = plan(report, kind, size)?;
    let (width, height) = (size.width * PNG_SCALE, size.height * PNG_SCALE);
    let mut pixels = vec![0; width as usize * height as usize * 3];
    {
        let area = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
        draw(&area, report, &kinds, Pen::new(PNG_SCALE, true)?)?;
        area.present()?;
    }
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header()?.write_image_data(&pixels)?;
    Ok(file)
}

/// Replaces plotters' opening tag by one that scales and that a screen reader can announce. Bars that touch show no seams
/// at any scale.
fn accessible(svg: &str, label: &str, Size { width, height }: Size, class: Option<&str>) -> String {
    let (_, content) = svg.split_once('>').unwrap_or(("", svg));
    let label = escape::terminal(label.as_bytes());
    let picture = html! {
        svg xmlns="http://www.w3.org/2000/svg" class=[class] viewBox={ "0 0 " (width) " " (height) }
            width=(width) height=(height) role="img" aria-label=(label)
        {
            title { (label) }
            style { "rect{shape-rendering:crispEdges}" }
            (PreEscaped(content.trim_end().trim_end_matches("</svg>")))
        }
    };
    picture.into_string() + "\n"
}

/// A chart in a sentence, for those who do not see it.
fn describe(report: &Report, kind: Kind) -> String {
    match kind {
        Kind::Causes => causes::describe(report),
        Kind::Upstreams => upstreams::describe(report),
        Kind::Latency => latency::describe(report),
        Kind::Percentiles => percentiles::describe(report),
        Kind::All => String::new(),
    }
}

/// Which charts to draw, and the size of them all together.
fn plan(report: &Report, kind: Kind, size: Size) -> Result<(Vec<(Kind, u32)>, Size), ChartError> {
    if let Some(missing) = kind.missing(report) {
        return Err(ChartError::NoData { chart: kind.as_str(), missing });
    }
    if !(300..=8_000).contains(&size.width) || !(200..=8_000).contains(&size.height) {
        return Err(ChartError::Size(size.width, size.height));
    }
    let wanted = |single: &Kind| match kind {
        Kind::All => single.missing(report).is_none(),
        one => *single == one,
    };
    let height = |single| match single {
        Kind::Upstreams => upstreams::height(report, size),
        _ => size.height,
    };
    let kinds: Vec<_> =
        Kind::SINGLE.into_iter().filter(wanted).map(|single| (single, height(single))).collect();
    let height = kinds.iter().map(|(_, height)| height).sum();
    Ok((kinds, Size { height, ..size }))
}

fn draw<DB: frame::Backend>(
    area: &Area<DB>,
    report: &Report,
    kinds: &[(Kind, u32)],
    pen: Pen,
) -> Result<(), ChartError> {
    if pen.background {
        area.fill(&WHITE)?;
    }
    let mut rest = area.clone();
    for (kind, height) in kinds {
        let (part, below) = rest.split_vertically(pen.px(*height));
        match kind {
            Kind::Causes => causes::draw(&part, report, pen)?,
            Kind::Upstreams => upstreams::draw(&part, report, pen)?,
            Kind::Latency => latency::draw(&part, report, pen)?,
            Kind::Percentiles => percentiles::draw(&part, report, pen)?,
            Kind::All => {}
        }
        rest = below;
    }
    Ok(())
}
