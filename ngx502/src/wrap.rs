//! Laying text out in columns of a terminal.

use textwrap::{Options, WordSeparator, WordSplitter, WrapAlgorithm};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// How many columns a text takes.
pub fn columns(text: &str) -> usize {
    text.width()
}

/// Breaks a text at its spaces into lines of at most `width` columns; a longer word is broken where it must be.
///
/// Nothing but spaces at breaks is lost. A number stays with its unit. A text without words is one empty line.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let options = Options::new(width.max(1))
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation)
        .wrap_algorithm(WrapAlgorithm::FirstFit);
    textwrap::wrap(&glue_units(text, width), options).iter().map(|line| line.replace(GLUE, " ")).collect()
}

/// A space at which no line is broken.
const GLUE: char = '\u{a0}';
/// What follows a number and belongs to it.
const UNITS: [&str; 11] = ["µs", "ms", "s", "min", "h", "days", "B", "KiB", "MiB", "GiB", "%"];

/// The words of a text, one space apart; a number is glued to its unit where both fit into a line.
fn glue_units(text: &str, width: usize) -> String {
    let mut glued = String::with_capacity(text.len());
    let mut last = "";
    for word in text.split_ascii_whitespace() {
        if !glued.is_empty() {
            let is_unit = last.ends_with(|end: char| end.is_ascii_digit())
                && UNITS.contains(&word.trim_end_matches(['.', ',', ';', ':', ')']))
                && columns(last) + 1 + columns(word) <= width;
            glued.push(if is_unit { GLUE } else { ' ' });
        }
        glued.push_str(word);
        last = word;
    }
    glued
}

/// The beginning of a text in at most `width` columns, with `…` at its end where something was cut.
pub fn cut(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let mut used = 1;
    let too_wide = |&(_, character): &(usize, char)| {
        used += character.width().unwrap_or(0);
        used > width
    };
    let mut end = text.char_indices().find(too_wide).map_or(text.len(), |(at, _)| at);
    // Not in the middle of an escape such as `\x1b`: half of one would read as something else.
    if let Some(escape) = text[..end].rfind('\\').filter(|&escape| end - escape < 4) {
        end = escape;
    }
    format!("{}…", &text[..end])
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
