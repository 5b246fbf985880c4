//! nginx's format strings: where their slots are, and what kind of argument fills each (`ngx_vslprintf`).

use std::ops::Range;

/// What fills a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// A string: `%V`, `%s`.
    Text,
    /// A length, then a string of that length: `%*s`.
    Counted,
    /// A number: `%ui`, `%l`, `%02Xd`.
    Number,
}

/// The first slot at or after `from`: its place and its kind.
pub(crate) fn next_slot(format: &[u8], from: usize) -> Option<(Range<usize>, Slot)> {
    let start = from + format.get(from..)?.iter().position(|byte| *byte == b'%')?;
    let end = start + slot_len(&format[start..]);
    let kind = match &format[start..end] {
        [.., b'V'] => Slot::Text,
        [.., b'*', b's'] => Slot::Counted,
        [.., b's'] => Slot::Text,
        _ => Slot::Number,
    };
    Some((start..end, kind))
}

/// The number among a call's first two arguments after the format, as the format reads them: the first, or the second
/// where the first is a string. `None` where it is neither.
pub(crate) fn number(format: &[u8], [first, second]: [i64; 2]) -> Option<i64> {
    let (place, kind) = next_slot(format, 0)?;
    match kind {
        Slot::Number | Slot::Counted => Some(first),
        Slot::Text => next_slot(format, place.end).filter(|(_, kind)| *kind == Slot::Number).map(|_| second),
    }
}

/// The length of the slot that a text begins with: `%V`, `%*s`, `%ui`, `%uz`, `%02Xd`. Width and the flags u, x, X and m
/// come before the letter of the type, and nothing after it belongs to the slot.
fn slot_len(text: &[u8]) -> usize {
    let is_flag = |byte: &u8| byte.is_ascii_digit() || b".*uxXm".contains(byte);
    let flags = text[1..].iter().take_while(|byte| is_flag(byte)).count();
    let of_type = text.get(1 + flags).is_some_and(u8::is_ascii_alphabetic);
    1 + flags + usize::from(of_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_end_at_the_letter_of_their_type() {
        let all = |format: &'static str| {
            let (mut found, mut from) = (Vec::new(), 0);
            while let Some((place, kind)) = next_slot(format.as_bytes(), from) {
                from = place.end;
                found.push((&format[place], kind));
            }
            found
        };
        assert_eq!(all("%ui worker_connections"), [("%ui", Slot::Number)]);
        assert_eq!(all("(%l:%s)"), [("%l", Slot::Number), ("%s", Slot::Text)]);
        assert_eq!(all("\"%*s\\x%02xd...\""), [("%*s", Slot::Counted), ("%02xd", Slot::Number)]);
        assert_eq!(all("frame: %uz"), [("%uz", Slot::Number)]);
        assert_eq!(all("100%"), [("%", Slot::Number)]);
        assert_eq!(all("nothing"), []);
    }

    #[test]
    fn the_number_is_where_the_format_says() {
        assert_eq!(number(b"too large http2 frame: %uz", [0x48_5454, -1]), Some(0x48_5454));
        assert_eq!(number(b"%V could not be resolved (%i: %s)", [1 << 40, 3]), Some(3));
        assert_eq!(number(b"(%l:%s)", [10, 1 << 40]), Some(10));
        assert_eq!(number(b"connect() to %V failed", [1 << 40, 7]), None);
        assert_eq!(number(b"recv() failed", [5, 7]), None);
    }
}
