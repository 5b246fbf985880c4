//! The demo's own words between the tracer's: headings and notes.

use std::io::IsTerminal as _;

/// Announces a scene.
pub(super) fn heading(number: usize, of: usize, title: &str) {
    println!("{}", bold(&format!("━━ {number}/{of} ━━ {title}")));
}

/// Announces the tracer's summary.
pub(super) fn heading_of_the_end() {
    println!("{}", bold("━━ Ctrl-C: the tracer sums up"));
}

/// A fact about the testbed.
pub(super) fn note(text: &str) {
    println!("{}", styled("2", &format!("   {text}")));
}

fn bold(text: &str) -> String {
    styled("1;36", text)
}

fn styled(code: &str, text: &str) -> String {
    if uses_color() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// As the tracer decides it.
fn uses_color() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
