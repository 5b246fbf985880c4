//! How outcomes are shown on standard output, live and in a replay alike.

use std::io::Write;

use crate::sink::Sink;
use crate::sink::json::JsonSink;
use crate::sink::terminal::{Detail, TerminalOptions, TerminalSink};

/// Width of text on anything but a terminal.
pub(super) const DEFAULT_WIDTH: usize = 100;

/// What the flags about the output amount to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// JSON lines instead of text.
    pub json: bool,
    /// Colour in text.
    pub color: bool,
    /// How much text.
    pub detail: Detail,
}

impl View {
    /// The sink that shows outcomes this way; `show_host` names each verdict's host in text.
    pub(super) fn sink(self, out: impl Write + 'static, show_host: bool) -> Box<dyn Sink> {
        let View { json, color, detail } = self;
        if json {
            return Box::new(JsonSink::new(out));
        }
        let width = terminal_width().unwrap_or(DEFAULT_WIDTH);
        Box::new(TerminalSink::new(out, TerminalOptions { color, width, detail, show_host }))
    }
}

/// The terminal's columns; `None` when standard output is none: a file does not depend on where it was written.
pub(super) fn terminal_width() -> Option<usize> {
    terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| usize::from(width.0))
}
