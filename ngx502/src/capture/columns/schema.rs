//! The names and types in front of a frame's columns, in postcard's wire format.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{ColumnError, Result};

/// Index of a node in [`Schema::nodes`], and of its column.
pub(super) type NodeId = u32;
/// Index of a [`Composite`] in [`Schema::composites`].
pub(super) type CompositeId = u32;

/// What a node holds, and with it how its column is read. The order of the variants is part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ColumnType {
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
    /// Nothing in the column; the elements are at so many consecutive nodes.
    Tuple(NodeId, u32),
    /// Nothing in the column; the fields are at the nodes of the composite's members.
    Struct(CompositeId),
    /// Varint index of the variant among the composite's members; its payload is at the member's node.
    Enum(CompositeId),
}

/// A struct with its fields or an enum with its variants, in the order of the writer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Composite {
    /// The type's name.
    pub(super) name: Cow<'static, str>,
    /// Names of fields or variants, and where their values are.
    pub(super) members: Vec<(Cow<'static, str>, NodeId)>,
}

/// Every name and type of one frame; node 0 is the record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Schema {
    /// One for each column.
    pub(super) nodes: Vec<ColumnType>,
    /// Structs and enums.
    pub(super) composites: Vec<Composite>,
}

/// Bytes and nodes of one schema: far above what records have, far below what hurts.
const MAX_SIZE: usize = 256 << 10;
const MAX_NODES: usize = 16_384;

impl Schema {
    /// Appends the encoded schema.
    pub(super) fn encode(&self, out: Vec<u8>) -> Vec<u8> {
        postcard::to_extend(self, out).expect("memory takes what the schema holds")
    }

    /// Reads the schema at the beginning of `payload`; returns it with its size in bytes.
    ///
    /// # Errors
    /// When it is malformed or a reference leads out of it.
    pub(super) fn decode(payload: &[u8]) -> Result<(Schema, usize)> {
        let window = &payload[..payload.len().min(MAX_SIZE)];
        let (schema, rest) = postcard::take_from_bytes::<Schema>(window)
            .map_err(|_| ColumnError::Malformed(&"the schema is unreadable"))?;
        if !schema.is_closed() {
            return Err(ColumnError::Malformed(&"a reference leads out of the schema"));
        }
        Ok((schema, window.len() - rest.len()))
    }

    fn is_closed(&self) -> bool {
        let node = |id: NodeId| (id as usize) < self.nodes.len();
        let composite = |id: CompositeId| (id as usize) < self.composites.len();
        let nodes = self.nodes.iter().all(|node_type| match *node_type {
            ColumnType::Option(id) | ColumnType::Sequence(id) => node(id),
            ColumnType::Tuple(first, len) => first as usize + len as usize <= self.nodes.len(),
            ColumnType::Struct(id) | ColumnType::Enum(id) => composite(id),
            _ => true,
        });
        let mut members = self.composites.iter().flat_map(|composite| &composite.members);
        (1..=MAX_NODES).contains(&self.nodes.len()) && nodes && members.all(|(_, id)| node(*id))
    }
}
