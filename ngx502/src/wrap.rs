//! Laying text out in columns of a terminal.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// How many columns a text takes.
pub fn columns(text: &str) -> usize {
    text.width()
}

/// Breaks a text at its spaces into lines of at most `width` columns; a longer word is broken where it must be.
///
/// Nothing but spaces at breaks is lost. A number stays with its unit. A text without words is one empty line.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in words(text, width) {
        let gap = usize::from(used > 0);
        if used + gap + columns(word) > width && used > 0 {
            lines.push(String::new());
            used = 0;
        } else if gap == 1 {
            push(&mut lines, " ");
            used += 1;
        }
        for piece in pieces(word, width) {
            if used + columns(piece) > width && used > 0 {
                lines.push(String::new());
                used = 0;
            }
            push(&mut lines, piece);
            used += columns(piece);
        }
    }
    lines
}

/// What follows a number and belongs to it.
const UNITS: [&str; 11] = ["µs", "ms", "s", "min", "h", "days", "B", "KiB", "MiB", "GiB", "%"];

/// The words of a text; a number and its unit are one, with the space between them, where that fits into a line.
fn words(text: &str, width: usize) -> impl Iterator<Item = &str> {
    let mut rest = text.trim_ascii();
    std::iter::from_fn(move || {
        let mut end = end_of_word(rest);
        if rest[..end].ends_with(|last: char| last.is_ascii_digit()) && rest[end..].starts_with(' ') {
            let unit = &rest[end + 1..][..end_of_word(&rest[end + 1..])];
            let both = end + 1 + unit.len();
            if UNITS.contains(&unit.trim_end_matches(['.', ',', ';', ':', ')']))
                && columns(&rest[..both]) <= width
            {
                end = both;
            }
        }
        let word = &rest[..end];
        rest = rest[end..].trim_ascii_start();
        (!word.is_empty()).then_some(word)
    })
}

fn end_of_word(text: &str) -> usize {
    text.find(|c: char| c.is_ascii_whitespace()).unwrap_or(text.len())
}

/// The beginning of a text in at most `width` columns, with `…` at its end where something was cut.
pub fn cut(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let mut end = prefix(text, width.saturating_sub(1));
    // Not in the middle of an escape such as `\x1b`: half of one would read as something else.
    if let Some(escape) = text[..end].rfind('\\').filter(|&escape| end - escape < 4) {
        end = escape;
    }
    format!("{}…", &text[..end])
}

fn push(lines: &mut [String], text: &str) {
    lines.last_mut().expect("starts with one line").push_str(text);
}

/// A word in pieces of at most `width` columns.
fn pieces(mut word: &str, width: usize) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let first = word.chars().next()?;
        let (piece, rest) = word.split_at(prefix(word, width).max(first.len_utf8()));
        word = rest;
        Some(piece)
    })
}

/// The length in bytes of the longest prefix that fits into `width` columns.
fn prefix(text: &str, width: usize) -> usize {
    let mut used = 0;
    for (at, character) in text.char_indices() {
        used += character.width().unwrap_or(0);
        if used > width {
            return at;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breaks_at_spaces() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("  one   two ", 100), ["one two"]);
        assert_eq!(wrap("", 10), [""]);
    }

    #[test]
    fn a_number_stays_with_its_unit() {
        assert_eq!(wrap("refused after 540 µs, then", 18), ["refused after", "540 µs, then"]);
        assert_eq!(wrap("rows (7.6 %) of", 9), ["rows", "(7.6 %)", "of"]);
        assert_eq!(wrap("11 more lines", 7), ["11 more", "lines"]);
        assert_eq!(wrap("12", 7), ["12"]);
        assert_eq!(wrap("123456 ms", 4), ["1234", "56", "ms"]);
    }

    #[test]
    fn a_long_word_is_broken_and_loses_nothing() {
        assert_eq!(wrap("a bcdefgh ij", 3), ["a", "bcd", "efg", "h", "ij"]);
        let uri = "x".repeat(8192);
        let lines = wrap(&uri, 95);
        assert!(lines.iter().all(|line| columns(line) <= 95));
        assert_eq!(lines.concat(), uri);
    }

    #[test]
    fn wide_characters_take_two_columns() {
        assert_eq!(wrap("漢字漢字", 5), ["漢字", "漢字"]);
        assert_eq!(wrap("漢字", 1), ["漢", "字"]);
        assert_eq!(cut("漢字漢字", 5), "漢字…");
    }

    #[test]
    fn cut_marks_what_is_missing() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut(r"abc\x1bdef", 7), "abc…");
    }
}
