//! Colour, where it is allowed.

use std::fmt;

/// What a text means, which decides its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// A failure.
    Bad,
    /// Something to doubt.
    Doubt,
    /// A failure that was averted.
    Good,
    /// What to read first.
    Strong,
    /// What to read last.
    Dim,
}

/// A text in the colour of its tone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint<'a> {
    color: bool,
    tone: Tone,
    text: &'a str,
}

impl<'a> Paint<'a> {
    /// `text`, which is already safe for a terminal; plain where `color` is false.
    pub(crate) fn new(color: bool, tone: Tone, text: &'a str) -> Paint<'a> {
        Paint { color, tone, text }
    }
}

impl fmt::Display for Paint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.color {
            return f.write_str(self.text);
        }
        let code = match self.tone {
            Tone::Bad => "1;31",
            Tone::Doubt => "33",
            Tone::Good => "32",
            Tone::Strong => "1",
            Tone::Dim => "2",
        };
        write!(f, "\x1b[{code}m{}\x1b[0m", self.text)
    }
}
