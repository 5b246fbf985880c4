//! Serialises values as compact JSON that is safe to `cat`: deceptive characters become `\u202e`.
//!
//! Why not `serde_json`'s: it looks at every byte of every name and text on its own. Here a value is written as if nothing
//! in it had to be escaped, and looked through once; in a storm, and in the replay of one, that is a third of the time.

use std::fmt::{self, Display, Write as _};

use serde::ser::{self, Serialize};

use crate::escape::is_deceptive;

/// Appends `value` to `out`. Where more than plain text is found, the value is written again, text by text.
///
/// # Errors
/// If the value fails itself.
pub(super) fn append<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> Result<(), Error> {
    let begin = out.len();
    let mut hopeful = JsonSerializer { out, quotes: 0, escaping: false };
    value.serialize(&mut hopeful)?;
    let quotes = hopeful.quotes;
    if is_plain(&out[begin..], quotes) {
        return Ok(());
    }
    out.truncate(begin);
    value.serialize(&mut JsonSerializer { out, quotes: 0, escaping: true })
}

/// Appends values to a buffer.
struct JsonSerializer<'a> {
    out: &'a mut Vec<u8>,
    /// Quotes that enclose a name or a text.
    quotes: usize,
    /// Whether texts are escaped. Without, they must turn out to be plain.
    escaping: bool,
}

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
        self.out.extend_from_slice(plain.as_bytes());
        Ok(())
    }

    #[inline]
    fn quote(&mut self) {
        self.out.push(b'"');
        self.quotes += 1;
    }

    /// The name of a field or variant, which is plain.
    #[inline(always)]
    fn name(&mut self, name: &'static str) -> Done {
        self.quote();
        self.put(name)?;
        self.quote();
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
        self.quote();
        match self.escaping {
            true => write_escaped(self.out, text),
            false => self.put(text)?,
        }
        self.quote();
        Ok(())
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Done {
        self.quote();
        write!(self, "{value}").map_err(ser::Error::custom)?;
        self.quote();
        Ok(())
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
        self.name(variant)
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
        self.put("{")?;
        self.name(variant)?;
        self.put(":")?;
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
        to.out.push(begin);
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
            self.to.out.push(b',');
        }
        self.any = true;
    }

    fn close(self) -> Done {
        self.to.out.push(self.end);
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
        let begin = self.to.out.len();
        key.serialize(&mut *self.to)?;
        // A number as a key is a text.
        if self.to.out.get(begin) != Some(&b'"') {
            self.to.out.insert(begin, b'"');
            self.to.out.push(b'"');
            self.to.quotes += 2;
        }
        self.to.out.push(b':');
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

    // So that the length of the name is known where it is copied.
    #[inline(always)]
    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Done {
        self.separate();
        self.to.name(name)?;
        self.to.out.push(b':');
        value.serialize(&mut *self.to)
    }

    fn end(self) -> Done {
        self.close()
    }
}

/// Takes the fragments of a text.
impl fmt::Write for JsonSerializer<'_> {
    #[inline]
    fn write_str(&mut self, text: &str) -> fmt::Result {
        match self.escaping {
            true => write_escaped(self.out, text),
            false => self.out.extend_from_slice(text.as_bytes()),
        }
        Ok(())
    }
}

#[cold]
fn write_escaped(out: &mut Vec<u8>, text: &str) {
    if is_plain(text.as_bytes(), 0) {
        return out.extend_from_slice(text.as_bytes());
    }
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

/// Printable ASCII without a backslash, and with no other quotes than so many.
fn is_plain(bytes: &[u8], quotes: usize) -> bool {
    // Without a branch, and with a short count, the compiler looks at sixteen bytes at once.
    let look = |chunk: &[u8]| {
        chunk.iter().fold((true, 0_u8), |(plain, quotes), byte| {
            let printable = (byte.wrapping_sub(b' ') < 0x5f) & (*byte != b'\\');
            (plain & printable, quotes + u8::from(*byte == b'"'))
        })
    };
    let (chunks, rest) = bytes.as_chunks::<128>();
    let mut found = 0;
    chunks.iter().map(<[u8; 128]>::as_slice).chain([rest]).map(look).all(|(plain, quotes)| {
        found += usize::from(quotes);
        plain
    }) && found == quotes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_that_is_not_plain_is_found_wherever_it_is() {
        for byte in 0..=u8::MAX {
            let plain = (b' '..0x7f).contains(&byte) && !matches!(byte, b'"' | b'\\');
            for len in [1, 2, 15, 16, 17, 40, 127, 128, 129, 260] {
                for at in 0..len {
                    for fill in [b' ', b'!', b'#', b'[', b']', b'~'] {
                        let mut text = vec![fill; len];
                        text[at] = byte;
                        assert_eq!(is_plain(&text, 0), plain, "{byte:#x} at {at} of {len}");
                    }
                }
            }
        }
        assert!(is_plain(b"", 0));
        assert!(is_plain(&[b'"'; 300], 300) && !is_plain(&[b'"'; 300], 299));
    }

    #[test]
    fn any_text_and_tree_reads_back_as_it_was() {
        let all: String =
            (0..0x3000).filter_map(char::from_u32).chain(['\u{202e}', '\u{e0041}', '😀']).collect();
        let value = serde_json::json!({
            "text": all, "a\"b": [1, -2, true, null, [], {}], "": {"x": u64::MAX, "y": i64::MIN, "z": 1.5},
        });
        let mut out = Vec::new();
        append(&mut out, &std::collections::BTreeMap::from([(502, 7)])).expect("memory");
        assert_eq!(out, br#"{"502":7}"#);
        out.clear();
        append(&mut out, &value).expect("memory");
        let line = String::from_utf8(out).expect("UTF-8");
        assert!(line.chars().all(|character| character == '\x7f' || !is_deceptive(character)));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).expect("JSON"), value);
    }
}
