//! One module a command: each describes its options and wires the stages together.

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};

use crate::sink::options::{Format, OutputOptions};
use crate::sink::terminal::Detail;

pub mod chart;
pub mod doctor;
pub mod driver;
pub mod explain;
pub mod export;
pub mod replay;
pub mod report;
pub mod trace;

/// The format asked for; else text for a terminal and JSON for anything else.
fn format_or_default(format: Option<Format>) -> Format {
    format.unwrap_or(if io::stdout().is_terminal() { Format::Human } else { Format::Json })
}

/// Whether text may have colours.
pub fn use_color() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// How to show outcomes, by the options of `trace` and `replay`.
fn output(format: Option<Format>, quiet: bool, verbose: u8) -> OutputOptions {
    let detail = match (quiet, verbose) {
        (true, _) => Detail::Quiet,
        (false, 0) => Detail::Normal,
        (false, _) => Detail::Verbose,
    };
    OutputOptions { format: format_or_default(format), color: use_color(), detail }
}

/// Says something on standard error.
fn say(text: impl fmt::Display) {
    // Whoever closed it does not want to know.
    let _ = writeln!(io::stderr(), "ngx502: {text}");
}
