//! Colour, where it is allowed.

/// What a text means, which decides its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
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

/// `text`, which is already safe for a terminal, in the colour of its tone; plain where `color` is false.
pub(super) fn paint(color: bool, tone: Tone, text: &str) -> String {
    let code = match tone {
        _ if !color => return text.to_owned(),
        Tone::Bad => "1;31",
        Tone::Doubt => "33",
        Tone::Good => "32",
        Tone::Strong => "1",
        Tone::Dim => "2",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}
