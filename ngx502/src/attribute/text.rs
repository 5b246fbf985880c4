//! Sentences of verdicts, put together where they are shown.
//!
//! In a storm thousands of verdicts a second say nearly the same, and most are never shown one by one. A [`Text`] is a
//! list of parts that are fixed, or shared with other verdicts; nothing is copied or formatted before somebody reads it.
//!
//! Not here: the sentences themselves (`wording`).

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::rc::Rc;

use serde::{Serialize, Serializer};
use smallvec::SmallVec;

/// Parts that a text holds without an allocation: most evidence has no more.
const FEW: usize = 3;

/// A sentence in parts. Compares and prints as the sentence.
#[derive(Clone, Default)]
pub struct Text(SmallVec<[Part; FEW]>);

#[derive(Clone, Debug)]
enum Part {
    Fixed(&'static str),
    Shared(Rc<str>),
    Own(String),
    Number(i64),
    Span(Span),
}

/// A number of microseconds, printed as people say it: `40 µs`, `350 ms`, `1.6 s`, `12 s`, `5 min`, `3 h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub u64);

/// What a [`Text`] is made of.
pub trait Piece {
    /// Appends this to a text.
    fn append(self, text: &mut Text);

    /// How many parts that adds.
    fn parts(&self) -> usize {
        1
    }
}

/// Makes a [`Text`] of pieces: `text!["nginx began to connect to ", there]`.
macro_rules! text {
    // All pieces are bound, each to a `piece` of its own expansion: the text gets its room at once.
    (@bound $($piece:ident)+) => {{
        let parts = 0 $(+ $crate::attribute::text::Piece::parts(&$piece))+;
        let mut text = $crate::attribute::text::Text::with_room(parts);
        $(text.push($piece);)+
        text
    }};
    (@bind [$($bound:ident)*] $next:expr $(, $rest:expr)+) => {{
        let piece = $next;
        $crate::attribute::text::text!(@bind [$($bound)* piece] $($rest),+)
    }};
    (@bind [$($bound:ident)*] $last:expr) => {{
        let piece = $last;
        $crate::attribute::text::text!(@bound $($bound)* piece)
    }};
    ($($piece:expr),+ $(,)?) => {
        $crate::attribute::text::text!(@bind [] $($piece),+)
    };
}
pub(super) use text;

impl Text {
    /// An empty text that will have so many parts.
    pub(super) fn with_room(parts: usize) -> Self {
        Self(SmallVec::with_capacity(parts))
    }

    /// Appends a piece.
    pub fn push(&mut self, piece: impl Piece) {
        piece.append(self);
    }

    /// Whether there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.to_str().is_empty()
    }

    /// The whole sentence; borrowed where it has one part only.
    pub fn to_str(&self) -> Cow<'_, str> {
        match self.0.as_slice() {
            [Part::Fixed(text)] => Cow::Borrowed(text),
            [Part::Shared(text)] => Cow::Borrowed(text),
            [Part::Own(text)] => Cow::Borrowed(text),
            _ => Cow::Owned(self.to_string()),
        }
    }

    /// Whether the sentence contains `words`.
    pub fn contains(&self, words: &str) -> bool {
        self.to_str().contains(words)
    }

    /// Whether the sentence begins with `words`.
    pub fn starts_with(&self, words: &str) -> bool {
        self.to_str().starts_with(words)
    }

    /// Writes the sentence part by part.
    ///
    /// # Errors
    /// Only those of `out`.
    pub fn write_to(&self, out: &mut impl Write) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Fixed(text) => out.write_str(text),
            Part::Shared(text) => out.write_str(text),
            Part::Own(text) => out.write_str(text),
            Part::Number(number) => out.write_str(itoa::Buffer::new().format(*number)),
            Part::Span(span) => span.write_to(out),
        })
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_to(f)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.to_str(), f)
    }
}

impl Span {
    fn write_to(self, out: &mut impl Write) -> fmt::Result {
        let micros = self.0;
        let (number, unit) = match micros {
            0..1_000 => (micros, " µs"),
            1_000..1_000_000 => (micros / 1_000, " ms"),
            1_000_000..10_000_000 => {
                return write!(out, "{}.{} s", micros / 1_000_000, micros / 100_000 % 10);
            }
            10_000_000..120_000_000 => (micros / 1_000_000, " s"),
            120_000_000..7_200_000_000 => (micros / 60_000_000, " min"),
            7_200_000_000..172_800_000_000 => (micros / 3_600_000_000, " h"),
            _ => (micros / 86_400_000_000, " days"),
        };
        out.write_str(itoa::Buffer::new().format(number))?;
        out.write_str(unit)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_to(f)
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_str())
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.to_str() == other.to_str()
    }
}

impl Eq for Text {}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.to_str() == *other
    }
}

impl Piece for &'static str {
    fn append(self, text: &mut Text) {
        text.0.push(Part::Fixed(self));
    }
}

impl Piece for String {
    fn append(self, text: &mut Text) {
        text.0.push(Part::Own(self));
    }
}

impl Piece for Cow<'static, str> {
    fn append(self, text: &mut Text) {
        match self {
            Cow::Borrowed(fixed) => text.push(fixed),
            Cow::Owned(own) => text.push(own),
        }
    }
}

impl Piece for Rc<str> {
    fn append(self, text: &mut Text) {
        text.0.push(Part::Shared(self));
    }
}

impl Piece for &Rc<str> {
    fn append(self, text: &mut Text) {
        text.push(Rc::clone(self));
    }
}

impl Piece for &Text {
    fn append(self, text: &mut Text) {
        text.0.extend(self.0.iter().cloned());
    }

    fn parts(&self) -> usize {
        self.0.len()
    }
}

impl Piece for i32 {
    fn append(self, text: &mut Text) {
        text.0.push(Part::Number(self.into()));
    }
}

impl Piece for Span {
    fn append(self, text: &mut Text) {
        text.0.push(Part::Span(self));
    }
}

impl<P: Piece> From<P> for Text {
    fn from(piece: P) -> Self {
        let mut text = Text::default();
        text.push(piece);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_read_as_one_sentence() {
        let there: Rc<str> = "127.0.0.1:9000".into();
        let subject = text!["php-fpm[", 812, "], the last listener on ", &there, ","];
        let whole = text![&subject, " was killed ", Span(1_625_000), " ago", String::from(" with SIGKILL")];
        assert_eq!(
            whole,
            "php-fpm[812], the last listener on 127.0.0.1:9000, was killed 1.6 s ago with SIGKILL"
        );
        assert_eq!(whole, Text::from(whole.to_string()));
        assert!(matches!(Text::from("as it is").to_str(), Cow::Borrowed("as it is")));
        assert!(Text::from("").is_empty() && Text::default().is_empty() && !whole.is_empty());
    }

    #[test]
    fn spans_are_said_as_people_do() {
        let said = [
            (0, "0 µs"),
            (350_999, "350 ms"),
            (1_625_000, "1.6 s"),
            (12_900_000, "12 s"),
            (300_000_000, "5 min"),
            (10_800_000_000, "3 h"),
            (400_000_000_000, "4 days"),
        ];
        for (micros, text) in said {
            assert_eq!(Span(micros).to_string(), text);
        }
    }
}
