//! The inside of a record frame: values of one kind side by side.
//!
//! Records are shredded into columns by their serde structure, so that a new field needs no code here. Every frame
//! carries the names of its structs, fields and variants (the [`Schema`]), hence a reader finds by name what it knows
//! and steps over what it does not. One column holds the values of one position; integers are differences to the
//! column's previous value, texts that repeat are one byte. zstd does the rest.
//!
//! Sharing is by struct, not by path: the `RequestKey` of an `Answer` lies in the same columns as that of the
//! `Attempt` before it, and their difference is zero.

use std::borrow::Cow;
use std::fmt;

use serde::{de, ser};

/// Index of a [`Kind`] in [`Schema::nodes`]; each node has one column.
pub(super) type NodeId = u32;
/// Index of a [`Shape`] in [`Schema::shapes`].
pub(super) type ShapeId = u32;

/// What a position holds, and with it how its column is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// No value came by in this frame.
    Unseen,
    /// Nothing in the column.
    Unit,
    /// One byte, 0 or 1.
    Bool,
    /// Zigzag varint of the difference to the previous value.
    Unsigned,
    /// The same, of a two's complement number.
    Signed,
    /// Eight bytes, little endian.
    Float,
    /// Varint: 0 for the previous bytes again, else length + 1 and the bytes.
    Bytes,
    /// The same, UTF-8.
    Text,
    /// One byte, 0 or 1; a 1 has its value at the inner node.
    Option(NodeId),
    /// Varint length; the elements are at the inner node.
    Sequence(NodeId),
    /// Nothing in the column; the elements are at consecutive nodes.
    Tuple(NodeId, u32),
    /// Nothing in the column; the fields are at the shape's nodes.
    Struct(ShapeId),
    /// Varint index of the shape's variant; its payload is at the variant's node.
    Enum(ShapeId),
}

/// A struct with its fields or an enum with its variants, in the order of the writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// The type's name.
    pub(super) name: Cow<'static, str>,
    /// Names of fields or variants, and where their values are.
    pub(super) members: Vec<(Cow<'static, str>, NodeId)>,
}

/// Every name and position of one frame; node 0 is the record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Schema {
    /// Structs and enums.
    pub(super) shapes: Vec<Shape>,
    /// Positions.
    pub(super) nodes: Vec<Kind>,
}

/// Names, shapes and nodes that one frame may declare: far above what records have, far below what hurts.
const MAX_DECLARED: u64 = 16_384;

impl Schema {
    /// Appends the encoded schema: nodes, then shapes.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.nodes.len() as u64);
        for kind in &self.nodes {
            let (tag, arguments) = tag_of(*kind);
            out.push(tag);
            arguments.iter().flatten().for_each(|argument| put_varint(out, u64::from(*argument)));
        }
        put_varint(out, self.shapes.len() as u64);
        for shape in &self.shapes {
            put_name(out, &shape.name);
            put_varint(out, shape.members.len() as u64);
            for (name, node) in &shape.members {
                put_name(out, name);
                put_varint(out, u64::from(*node));
            }
        }
    }

    /// Reads a schema and checks that every reference is inside it.
    pub(super) fn decode(data: &[u8], position: &mut usize) -> Result<Schema, ColumnError> {
        let mut declared = 0;
        let mut nodes = Vec::new();
        for _ in 0..count(data, position, &mut declared)? {
            nodes.push(take_kind(data, position)?);
        }
        let mut shapes = Vec::new();
        for _ in 0..count(data, position, &mut declared)? {
            let name = Cow::Owned(take_name(data, position)?);
            let mut members = Vec::new();
            for _ in 0..count(data, position, &mut declared)? {
                members.push((Cow::Owned(take_name(data, position)?), take_id(data, position)?));
            }
            shapes.push(Shape { name, members });
        }
        let schema = Schema { shapes, nodes };
        schema.check().then_some(schema).ok_or(ColumnError::Malformed(&"a reference leads out of the schema"))
    }

    fn check(&self) -> bool {
        let node = |id: NodeId| (id as usize) < self.nodes.len();
        let shape = |id: ShapeId| (id as usize) < self.shapes.len();
        let kinds = self.nodes.iter().all(|kind| match *kind {
            Kind::Option(id) | Kind::Sequence(id) => node(id),
            Kind::Tuple(first, len) => first as usize + len as usize <= self.nodes.len(),
            Kind::Struct(id) | Kind::Enum(id) => shape(id),
            _ => true,
        });
        !self.nodes.is_empty()
            && kinds
            && self.shapes.iter().all(|s| s.members.iter().all(|(_, id)| node(*id)))
    }
}

fn tag_of(kind: Kind) -> (u8, [Option<u32>; 2]) {
    match kind {
        Kind::Unseen => (0, [None; 2]),
        Kind::Unit => (1, [None; 2]),
        Kind::Bool => (2, [None; 2]),
        Kind::Unsigned => (3, [None; 2]),
        Kind::Signed => (4, [None; 2]),
        Kind::Float => (5, [None; 2]),
        Kind::Bytes => (6, [None; 2]),
        Kind::Text => (7, [None; 2]),
        Kind::Option(node) => (8, [Some(node), None]),
        Kind::Sequence(node) => (9, [Some(node), None]),
        Kind::Tuple(first, len) => (10, [Some(first), Some(len)]),
        Kind::Struct(shape) => (11, [Some(shape), None]),
        Kind::Enum(shape) => (12, [Some(shape), None]),
    }
}

fn take_kind(data: &[u8], position: &mut usize) -> Result<Kind, ColumnError> {
    let tag = *data.get(*position).ok_or(ColumnError::Short)?;
    *position += 1;
    let mut id = || take_id(data, position);
    Ok(match tag {
        0 => Kind::Unseen,
        1 => Kind::Unit,
        2 => Kind::Bool,
        3 => Kind::Unsigned,
        4 => Kind::Signed,
        5 => Kind::Float,
        6 => Kind::Bytes,
        7 => Kind::Text,
        8 => Kind::Option(id()?),
        9 => Kind::Sequence(id()?),
        10 => Kind::Tuple(id()?, id()?),
        11 => Kind::Struct(id()?),
        12 => Kind::Enum(id()?),
        _ => return Err(ColumnError::Malformed(&"a kind of column that this version does not know")),
    })
}

/// Reads a count and charges it to what the schema has declared so far.
fn count(data: &[u8], position: &mut usize, declared: &mut u64) -> Result<u64, ColumnError> {
    let value = take_varint(data, position)?;
    *declared = declared.saturating_add(value);
    if *declared > MAX_DECLARED { Err(ColumnError::Malformed(&"the schema is too large")) } else { Ok(value) }
}

fn put_name(out: &mut Vec<u8>, name: &str) {
    put_varint(out, name.len() as u64);
    out.extend_from_slice(name.as_bytes());
}

fn take_name(data: &[u8], position: &mut usize) -> Result<String, ColumnError> {
    let len = usize::try_from(take_varint(data, position)?).map_err(|_| ColumnError::Short)?;
    let end = position.checked_add(len).ok_or(ColumnError::Short)?;
    let bytes = data.get(*position..end).ok_or(ColumnError::Short)?;
    *position = end;
    String::from_utf8(bytes.to_vec()).map_err(|_| ColumnError::Malformed(&"a name is not UTF-8"))
}

fn take_id(data: &[u8], position: &mut usize) -> Result<u32, ColumnError> {
    u32::try_from(take_varint(data, position)?).map_err(|_| ColumnError::Malformed(&"an index is too large"))
}

/// Appends a LEB128 number.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads a LEB128 number of at most 64 bits.
#[inline]
pub(super) fn take_varint(data: &[u8], position: &mut usize) -> Result<u64, ColumnError> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *data.get(*position).ok_or(ColumnError::Short)?;
        *position += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(ColumnError::Malformed(&"a number has more than 64 bits"))
}

/// Maps small negative differences to small numbers.
pub(super) fn zigzag(value: u64) -> u64 {
    let value = value.cast_signed();
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// The inverse of [`zigzag`].
#[inline]
pub(super) fn unzigzag(value: u64) -> u64 {
    (value >> 1) ^ (value & 1).wrapping_neg()
}

/// Why columns could not be written or read. Two words, so that every value's result comes in registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ColumnError {
    /// A column ends before its values do.
    Short,
    /// Values expand beyond what a frame may hold.
    TooLarge,
    /// Something that no writer writes.
    Malformed(&'static &'static str),
    /// What serde found.
    Found(Box<Found>),
}

/// Where the data and this version's types disagree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A variant of a later minor version.
    UnknownVariant(String),
    /// serde's own words.
    Mismatch(String),
}

const _: () = assert!(size_of::<Result<u64, ColumnError>>() == 16);

impl fmt::Display for ColumnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ColumnError::Short => f.write_str("a column ends before its values do"),
            ColumnError::TooLarge => f.write_str("its values expand beyond what a frame may hold"),
            ColumnError::Malformed(what) => f.write_str(what),
            ColumnError::Found(found) => match &**found {
                Found::UnknownVariant(name) => write!(f, "`{}` is not known", name.escape_debug()),
                Found::Mismatch(text) => f.write_str(text),
            },
        }
    }
}

impl std::error::Error for ColumnError {}

impl ser::Error for ColumnError {
    fn custom<T: fmt::Display>(text: T) -> Self {
        ColumnError::Found(Box::new(Found::Mismatch(text.to_string())))
    }
}

impl de::Error for ColumnError {
    fn custom<T: fmt::Display>(text: T) -> Self {
        ColumnError::Found(Box::new(Found::Mismatch(text.to_string())))
    }

    fn unknown_variant(variant: &str, _expected: &'static [&'static str]) -> Self {
        ColumnError::Found(Box::new(Found::UnknownVariant(variant.to_owned())))
    }
}
