//! The inside of a record frame: values of one kind side by side. `docs/capture-format.md` has every byte.
//!
//! serde shows each record as a tree of structs, enums and values. Every position in that tree is a node of the
//! [`schema`] with a column of its own; [`ColumnEncoder`] appends each value to its node's column, [`ColumnDecoder`]
//! takes it from there. Nodes belong to struct types, not to paths: the `RequestKey` of an `Answer` lies in the same
//! columns as that of the `Attempt` before it, and their difference is zero. Since names come with each frame, a new
//! field needs no code here.
//!
//! Not here: the frames themselves (`capture::format`).

mod decoder;
mod encoder;
mod schema;

use std::fmt;

use serde::{de, ser};
use thiserror::Error;

pub(super) use self::decoder::ColumnDecoder;
pub(super) use self::encoder::ColumnEncoder;

type Result<T = (), E = ColumnError> = std::result::Result<T, E>;

/// Why columns could not be written or read.
///
/// Boxes of strings keep it at two words, so that every value's result comes in registers.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(clippy::box_collection, reason = "thin, see above")]
pub(super) enum ColumnError {
    /// A column ends before its values do.
    #[error("a column ends before its values do")]
    Short,
    /// Values expand beyond what a frame may hold.
    #[error("its values expand beyond what a frame may hold")]
    TooLarge,
    /// Something that no writer writes.
    #[error("{0}")]
    Malformed(&'static &'static str),
    /// A variant of a later minor version.
    #[error("`{}` is not known", .0.escape_debug())]
    UnknownVariant(Box<String>),
    /// The data and this version's types disagree, in serde's own words.
    #[error("{0}")]
    Mismatch(Box<String>),
}

const _: () = assert!(size_of::<Result<u64>>() == 16);

impl ser::Error for ColumnError {
    fn custom<T: fmt::Display>(text: T) -> Self {
        ColumnError::Mismatch(Box::new(text.to_string()))
    }
}

impl de::Error for ColumnError {
    fn custom<T: fmt::Display>(text: T) -> Self {
        ColumnError::Mismatch(Box::new(text.to_string()))
    }

    fn unknown_variant(variant: &str, _expected: &'static [&'static str]) -> Self {
        ColumnError::UnknownVariant(Box::new(variant.to_owned()))
    }
}

/// Appends a LEB128 number.
fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads a LEB128 number of at most 64 bits from the front of `data`; returns it with its length.
fn take_varint(data: &[u8]) -> Result<(u64, usize)> {
    match postcard::take_from_bytes(data) {
        Ok((value, rest)) => Ok((value, data.len() - rest.len())),
        Err(postcard::Error::DeserializeUnexpectedEnd) => Err(ColumnError::Short),
        Err(_) => Err(ColumnError::Malformed(&"a number has more than 64 bits")),
    }
}

/// Maps small negative differences to small numbers.
fn zigzag(value: u64) -> u64 {
    let value = value.cast_signed();
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// The inverse of [`zigzag`].
#[inline]
fn unzigzag(value: u64) -> u64 {
    (value >> 1) ^ (value & 1).wrapping_neg()
}
