//! Making hostile text safe for terminals and CSV. (HTML: maud escapes it, see `report::html`.)
//!
//! URIs, headers, process names and paths come from the network or from other users. Each output has its own way of
//! being attacked: a terminal obeys escape sequences, a spreadsheet formulas, and every reader can
//! be fooled by characters that reorder text. Text that needs no change is borrowed.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// Text for a terminal: one line, nothing a terminal obeys, nothing that reorders or hides what is written.
///
/// Control characters (C0, DEL, C1), line separators, bidirectional controls and invisible characters become visible
/// as `\x1b` or `\u{202e}`, bytes that are not UTF-8 as `\xff`. A backslash stays a backslash: the result is for
/// eyes, not for parsing.
pub fn terminal(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(is_deceptive) => Cow::Borrowed(text),
        _ => Cow::Owned(Terminal(bytes).to_string()),
    }
}

/// Displays bytes as [`terminal`] does, without an allocation; ignores width and fill.
#[derive(Clone, Copy, Debug)]
pub struct Terminal<'a>(pub &'a [u8]);

impl fmt::Display for Terminal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            write_visible(f, chunk.valid())?;
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

fn write_visible(out: &mut impl Write, text: &str) -> fmt::Result {
    let mut plain = 0;
    for (at, character) in text.char_indices().filter(|&(_, character)| is_deceptive(character)) {
        out.write_str(&text[plain..at])?;
        match u32::from(character) {
            code @ ..0x80 => write!(out, "\\x{code:02x}")?,
            code => write!(out, "\\u{{{code:x}}}")?,
        }
        plain = at + character.len_utf8();
    }
    out.write_str(&text[plain..])
}

/// Whether a character commands a terminal, reorders the text around it, or cannot be seen.
pub fn is_deceptive(character: char) -> bool {
    match character {
        ' '..='~' => false,
        '\0'..='\x1f' | '\x7f'..='\u{9f}' => true,
        // Soft hyphen, Arabic letter mark, zero-width space, LRM and RLM, line and paragraph separators, embeddings
        // and overrides, word joiner to the deprecated format characters, BOM, interlinear annotation, tags.
        '\u{ad}' | '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' => true,
        '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' => true,
        _ => false,
    }
}

/// A CSV cell that no spreadsheet computes and no terminal obeys: a leading `=`, `+`, `-`, `@` (their full-width forms
/// too), tab, CR or LF gets an apostrophe before it, and what [`is_deceptive`] becomes visible.
///
/// Not quoted: that is the `csv` crate's. Only for text: a number that is written as a number must not pass through here.
pub fn csv(text: &str) -> Cow<'_, str> {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠']);
    if !formula && !text.contains(is_deceptive) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::from(if formula { "'" } else { "" });
    // Writing to a String cannot fail.
    let _ = write_visible(&mut safe, text);
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_borrowed_everywhere() {
        let uri = format!("/{}", "ä0%20?x".repeat(8192 / 8));
        assert!(matches!(terminal(uri.as_bytes()), Cow::Borrowed(text) if text == uri));
        assert!(matches!(csv(&uri), Cow::Borrowed(_)));
    }

    #[test]
    fn terminal_shows_escape_sequences_instead_of_obeying_them() {
        assert_eq!(
            terminal(b"/\x1b]0;owned\x07\x1b[2J\r\n\t\x7f"),
            r"/\x1b]0;owned\x07\x1b[2J\x0d\x0a\x09\x7f"
        );
        assert_eq!(terminal("a\u{9b}31mb".as_bytes()), r"a\u{9b}31mb");
    }

    #[test]
    fn terminal_shows_what_reorders_or_hides() {
        assert_eq!(
            terminal("/\u{202e}gpj.exe\u{2066}\u{200b}".as_bytes()),
            r"/\u{202e}gpj.exe\u{2066}\u{200b}"
        );
        assert_eq!(terminal("a\u{2028}b\u{feff}\u{e0041}".as_bytes()), r"a\u{2028}b\u{feff}\u{e0041}");
    }

    #[test]
    fn terminal_shows_invalid_utf8_byte_by_byte() {
        assert_eq!(terminal(b"ok\xff\xc3(\xe2\x82"), r"ok\xff\xc3(\xe2\x82");
        assert_eq!(terminal("grüße 漢字".as_bytes()), "grüße 漢字");
    }

    #[test]
    fn long_hostile_uris_stay_one_safe_line() {
        let uri = b"\x1b[31m\xff".repeat(8192 / 6);
        let shown = terminal(&uri);
        assert!(!shown.chars().any(is_deceptive));
        assert_eq!(shown, Terminal(&uri).to_string());
        assert_eq!(shown.matches(r"\x1b[31m\xff").count(), 8192 / 6);
    }

    #[test]
    fn csv_disarms_formulas_and_controls() {
        for (hostile, safe) in [
            ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("＝1", "'＝1"),
            ("＠x", "'＠x"),
            ("\t=1", r"'\x09=1"),
            ("\r\n=1", r"'\x0d\x0a=1"),
            ("/a\u{1b}[31m\u{9b}", r"/a\x1b[31m\u{9b}"),
            ("/a\u{202e}b", r"/a\u{202e}b"),
            ("a,\"b\"=c", "a,\"b\"=c"),
            ("", ""),
        ] {
            assert_eq!(csv(hostile), safe);
        }
    }
}
