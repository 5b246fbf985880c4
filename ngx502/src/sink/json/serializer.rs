//! Serialises values as compact JSON that is safe to `cat`: deceptive characters become `\u202e`.
//!
//! Why not `serde_json`'s: it looks at every byte of every name and text on its own. Here names of fields are copied as
//! they are, and texts are looked through sixteen bytes at a time; in a storm, and in the replay of one, that is a third of
//! the time.

use std::fmt::{self, Display, Write as _};

use serde::ser::{self, Serialize};

use crate::escape::is_deceptive;

/// Appends values to a buffer.
pub(super) struct JsonSerializer<'a>(pub(super) &'a mut Vec<u8>);

/// What a value itself fails with; memory takes every byte.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Error(String);

impl ser::Error for Error {
    fn custom<T: Display>(message: T) -> Self {
        Error(message.to_string())
    }
}

type Done = Result<(), Error>;

impl JsonSerializer<'_> {
    #[inline]
    fn put(&mut self, plain: &str) -> Done {
        self.0.extend_from_slice(plain.as_bytes());
        Ok(())
    }
}

macro_rules! integers {
    ($($method:ident: $of:ty),+) => {
        $(fn $method(self, value: $of) -> Done {
            self.put(itoa::Buffer::new().format(value))
        })+
    };
}

impl<'s, 'a> ser::Serializer for &'s mut JsonSerializer<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Compound<'s, 'a>;
    type SerializeTuple = Compound<'s, 'a>;
    type SerializeTupleStruct = Compound<'s, 'a>;
    type SerializeTupleVariant = ser::Impossible<(), Error>;
    type SerializeMap = Compound<'s, 'a>;
    type SerializeStruct = Compound<'s, 'a>;
    type SerializeStructVariant = ser::Impossible<(), Error>;

    integers!(
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64
    );

    fn serialize_bool(self, value: bool) -> Done {
        self.put(if value { "true" } else { "false" })
    }

    fn serialize_f32(self, value: f32) -> Done {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Done {
        match value.is_finite() {
            true => self.put(&value.to_string()),
            false => self.put("null"),
        }
    }

    fn serialize_char(self, value: char) -> Done {
        self.collect_str(&value)
    }

    #[inline]
    fn serialize_str(self, text: &str) -> Done {
        self.0.push(b'"');
        write_text(self.0, text);
        self.0.push(b'"');
        Ok(())
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Done {
        self.0.push(b'"');
        let begin = self.0.len();
        write!(Fragments(self.0), "{value}").map_err(ser::Error::custom)?;
        // Looked through at once, since there are many of them.
        if !is_plain(&self.0[begin..]) {
            let text = self.0.split_off(begin);
            write_escaped(self.0, &String::from_utf8_lossy(&text));
        }
        self.put("\"")
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Done {
        self.serialize_str(&String::from_utf8_lossy(bytes))
    }

    fn serialize_none(self) -> Done {
        self.put("null")
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Done {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Done {
        self.put("null")
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Done {
        self.put("null")
    }

    fn serialize_unit_variant(self, _name: &'static str, _index: u32, variant: &'static str) -> Done {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _name: &'static str, value: &T) -> Done {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Done {
        self.put("{\"")?;
        self.put(variant)?;
        self.put("\":")?;
        value.serialize(&mut *self)?;
        self.put("}")
    }

    fn serialize_seq(self, _len: Option<usize>) -> Result<Compound<'s, 'a>, Error> {
        Compound::begin(self, b'[', b']')
    }

    fn serialize_tuple(self, _len: usize) -> Result<Compound<'s, 'a>, Error> {
        Compound::begin(self, b'[', b']')
    }

    fn serialize_tuple_struct(self, _name: &'static str, _len: usize) -> Result<Compound<'s, 'a>, Error> {
        Compound::begin(self, b'[', b']')
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<Self::SerializeTupleVariant, Error> {
        Err(Error(format!("no line has a {name}::{variant} of several values")))
    }

    fn serialize_map(self, _len: Option<usize>) -> Result<Compound<'s, 'a>, Error> {
        Compound::begin(self, b'{', b'}')
    }

    fn serialize_struct(self, _name: &'static str, _len: usize) -> Result<Compound<'s, 'a>, Error> {
        Compound::begin(self, b'{', b'}')
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<Self::SerializeStructVariant, Error> {
        Err(Error(format!("no line has a tagged {name}::{variant}")))
    }
}

/// A list or an object under construction.
pub(super) struct Compound<'s, 'a> {
    to: &'s mut JsonSerializer<'a>,
    /// Whether it has an item.
    any: bool,
    end: u8,
}

impl<'s, 'a> Compound<'s, 'a> {
    fn begin(to: &'s mut JsonSerializer<'a>, begin: u8, end: u8) -> Result<Self, Error> {
        to.0.push(begin);
        Ok(Self { to, any: false, end })
    }

    #[inline]
    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
        self.separate();
        value.serialize(&mut *self.to)
    }

    #[inline]
    fn separate(&mut self) {
        if self.any {
            self.to.0.push(b',');
        }
        self.any = true;
    }

    fn close(self) -> Done {
        self.to.0.push(self.end);
        Ok(())
    }
}

macro_rules! lists {
    ($($of:ident: $method:ident),+) => {
        $(impl ser::$of for Compound<'_, '_> {
            type Ok = ();
            type Error = Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
                self.item(value)
            }

            fn end(self) -> Done {
                self.close()
            }
        })+
    };
}
lists!(SerializeSeq: serialize_element, SerializeTuple: serialize_element, SerializeTupleStruct: serialize_field);

impl ser::SerializeMap for Compound<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Done {
        self.separate();
        let begin = self.to.0.len();
        key.serialize(&mut *self.to)?;
        // A number as a key is a text.
        if self.to.0.get(begin) != Some(&b'"') {
            self.to.0.insert(begin, b'"');
            self.to.0.push(b'"');
        }
        self.to.0.push(b':');
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
        value.serialize(&mut *self.to)
    }

    fn end(self) -> Done {
        self.close()
    }
}

impl ser::SerializeStruct for Compound<'_, '_> {
    type Ok = ();
    type Error = Error;

    #[inline]
    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Done {
        self.separate();
        self.to.0.push(b'"');
        self.to.put(name)?;
        self.to.0.extend_from_slice(b"\":");
        value.serialize(&mut *self.to)
    }

    fn end(self) -> Done {
        self.close()
    }
}

/// Takes the fragments of a text as they are.
struct Fragments<'a>(&'a mut Vec<u8>);

impl fmt::Write for Fragments<'_> {
    #[inline]
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[inline]
fn write_text(out: &mut Vec<u8>, text: &str) {
    match is_plain(text.as_bytes()) {
        true => out.extend_from_slice(text.as_bytes()),
        false => write_escaped(out, text),
    }
}

#[cold]
fn write_escaped(out: &mut Vec<u8>, text: &str) {
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend_from_slice(&[b'\\', character as u8]),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            // No terminal obeys DEL.
            '\x7f' => out.push(0x7f),
            deceptive if is_deceptive(deceptive) => {
                for unit in deceptive.encode_utf16(&mut [0; 2]) {
                    out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
                }
            }
            plain => out.extend_from_slice(plain.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Printable ASCII without quote and backslash.
#[inline]
fn is_plain(bytes: &[u8]) -> bool {
    // Without a branch the compiler looks at all of a chunk at once.
    fn all<const N: usize>(chunk: &[u8; N]) -> bool {
        let plain = |byte: u8| (byte.wrapping_sub(b' ') < 0x5f) & (byte != b'"') & (byte != b'\\');
        chunk.iter().fold(true, |all, byte| all & plain(*byte))
    }
    // The last chunk overlaps the last whole one; a shorter text is filled up.
    match (bytes.last_chunk::<16>(), bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        (Some(last), ..) => bytes.as_chunks::<16>().0.iter().all(all) && all(last),
        (None, Some(first), Some(last)) => all(first) & all(last),
        _ => all(&bytes
            .iter()
            .fold(u64::from_ne_bytes([b' '; 8]), |word, byte| word << 8 | u64::from(*byte))
            .to_ne_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_that_is_not_plain_is_found_wherever_it_is() {
        for byte in 0..=u8::MAX {
            let plain = (b' '..0x7f).contains(&byte) && !matches!(byte, b'"' | b'\\');
            for len in 1..=40 {
                for at in 0..len {
                    for fill in [b' ', b'!', b'#', b'[', b']', b'~'] {
                        let mut text = vec![fill; len];
                        text[at] = byte;
                        assert_eq!(is_plain(&text), plain, "{byte:#x} at {at} of {len}");
                    }
                }
            }
        }
        assert!(is_plain(b""));
    }

    #[test]
    fn any_text_and_tree_reads_back_as_it_was() {
        let all: String =
            (0..0x3000).filter_map(char::from_u32).chain(['\u{202e}', '\u{e0041}', '😀']).collect();
        let value = serde_json::json!({
            "text": all, "a\"b": [1, -2, true, null, [], {}], "": {"x": u64::MAX, "y": i64::MIN, "z": 1.5},
        });
        let mut out = Vec::new();
        std::collections::BTreeMap::from([(502, 7)])
            .serialize(&mut JsonSerializer(&mut out))
            .expect("memory");
        assert_eq!(out, br#"{"502":7}"#);
        out.clear();
        value.serialize(&mut JsonSerializer(&mut out)).expect("memory");
        let line = String::from_utf8(out).expect("UTF-8");
        assert!(line.chars().all(|character| character == '\x7f' || !is_deceptive(character)));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).expect("JSON"), value);
    }
}
