//! What the flags about output amount to, live and in a replay alike.

use std::io::Write;

use clap::ValueEnum;

use super::Sink;
use super::json::JsonSink;
use super::terminal::{Detail, TerminalOptions, TerminalSink};

/// Width of text on anything but a terminal.
pub(crate) const DEFAULT_WIDTH: usize = 100;

/// The form of what is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Text for people.
    #[default]
    Human,
    /// One JSON object per line.
    Json,
}

/// How outcomes are shown on standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputOptions {
    /// Text or JSON lines.
    pub format: Format,
    /// Colour in text.
    pub color: bool,
    /// How much text.
    pub detail: Detail,
}

impl OutputOptions {
    /// The sink that shows outcomes this way; `show_host` names each verdict's host in text.
    pub(crate) fn sink(self, out: impl Write + 'static, show_host: bool) -> Box<dyn Sink> {
        let OutputOptions { format, color, detail } = self;
        let width = terminal_width().unwrap_or(DEFAULT_WIDTH);
        match format {
            Format::Json => Box::new(JsonSink::new(out)),
            Format::Human => {
                Box::new(TerminalSink::new(out, TerminalOptions { color, width, detail, show_host }))
            }
        }
    }
}

/// The terminal's columns; `None` when standard output is none: a file does not depend on where it was written.
pub(crate) fn terminal_width() -> Option<usize> {
    terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| usize::from(width.0))
}
