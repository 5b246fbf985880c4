//! Columns being written: each value goes to the end of its node's column.

mod value;

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use serde::ser::Serialize;

use self::value::ValueEncoder;
use super::schema::{ColumnType, Composite, CompositeId, NodeId, Schema};
use super::{ColumnError, Result, put_varint, zigzag};

/// The columns of the frame under construction.
pub(in crate::capture) struct ColumnEncoder {
    schema: Schema,
    columns: Vec<Column>,
    structs: HashMap<&'static str, CompositeId>,
    size: usize,
    text: usize,
}

#[derive(Clone, Default)]
struct Column {
    bytes: Vec<u8>,
    previous: u64,
    /// Where in `bytes` the latest bytes or text are.
    repeated: Range<usize>,
}

impl ColumnEncoder {
    /// An empty frame.
    pub(in crate::capture) fn new() -> Self {
        ColumnEncoder {
            schema: Schema { nodes: vec![ColumnType::Unseen], composites: Vec::new() },
            columns: vec![Column::default()],
            structs: HashMap::new(),
            size: 0,
            text: 0,
        }
    }

    /// Adds one row.
    ///
    /// # Errors
    /// When the row's type is not made for columns. The frame is of no use then: the row may be half in it.
    pub(in crate::capture) fn push<T: Serialize>(&mut self, row: &T) -> Result {
        row.serialize(ValueEncoder { encoder: self, node: 0 })
    }

    /// Bytes in all columns.
    pub(in crate::capture) fn size(&self) -> usize {
        self.size
    }

    /// Bytes of text that a reader gets, repetitions included.
    pub(in crate::capture) fn text(&self) -> usize {
        self.text
    }

    /// The frame's payload; leaves an empty frame.
    pub(in crate::capture) fn take(&mut self) -> Vec<u8> {
        let mut out = self.schema.encode(Vec::with_capacity(self.size + 8192));
        self.columns.iter().for_each(|column| put_varint(&mut out, column.bytes.len() as u64));
        self.columns.iter().for_each(|column| out.extend_from_slice(&column.bytes));
        *self = ColumnEncoder::new();
        out
    }

    /// Makes so many new nodes; returns the first.
    fn allocate(&mut self, count: usize) -> NodeId {
        let first = self.schema.nodes.len();
        self.schema.nodes.resize(first + count, ColumnType::Unseen);
        self.columns.resize(first + count, Column::default());
        first as NodeId
    }

    fn composite(&mut self, name: &'static str) -> CompositeId {
        self.schema.composites.push(Composite { name: Cow::Borrowed(name), members: Vec::new() });
        (self.schema.composites.len() - 1) as CompositeId
    }

    /// The node's type, decided by `first` when the first value comes by.
    fn type_of(&mut self, node: NodeId, first: impl FnOnce(&mut Self) -> ColumnType) -> ColumnType {
        if self.schema.nodes[node as usize] == ColumnType::Unseen {
            self.schema.nodes[node as usize] = first(self);
        }
        self.schema.nodes[node as usize]
    }

    /// Checks that a node is of the one type that its values have.
    fn expect(&mut self, node: NodeId, expected: ColumnType) -> Result {
        if self.type_of(node, |_| expected) == expected { Ok(()) } else { Err(CHANGED) }
    }

    /// The node of a struct's field or an enum's variant, by its index where it is known.
    fn member(&mut self, id: CompositeId, index: usize, name: &'static str) -> Result<NodeId> {
        match self.schema.composites[id as usize].members.get(index) {
            Some((known, node)) if known == name => Ok(*node),
            Some(_) => Err(ColumnError::Malformed(&"two structs share a name")),
            None => {
                let node = self.allocate(1);
                self.schema.composites[id as usize].members.push((Cow::Borrowed(name), node));
                Ok(node)
            }
        }
    }

    /// Writes which variant of the enum `of` it is; returns the node of its payload.
    fn variant(&mut self, node: NodeId, of: &'static str, name: &'static str) -> Result<NodeId> {
        let found = self.type_of(node, |encoder| ColumnType::Enum(encoder.composite(of)));
        let ColumnType::Enum(id) = found else { return Err(CHANGED) };
        let members = &self.schema.composites[id as usize].members;
        let index = members.iter().position(|(known, _)| known == name).unwrap_or(members.len());
        self.put(node, index as u64);
        self.member(id, index, name)
    }

    /// The fields of a struct; those without a name are of an enum's variant, and not shared.
    fn fields(&mut self, node: NodeId, name: Option<&'static str>) -> Result<CompositeId> {
        let found = self.type_of(node, |encoder| {
            let known = name.and_then(|name| encoder.structs.get(name).copied());
            let id = known.unwrap_or_else(|| encoder.composite(name.unwrap_or("")));
            encoder.structs.extend(name.map(|name| (name, id)));
            ColumnType::Struct(id)
        });
        if let ColumnType::Struct(id) = found { Ok(id) } else { Err(CHANGED) }
    }

    /// The first of the nodes of a tuple's elements.
    fn tuple(&mut self, node: NodeId, len: usize) -> Result<NodeId> {
        match self.type_of(node, |encoder| ColumnType::Tuple(encoder.allocate(len), len as u32)) {
            ColumnType::Tuple(first, known) if known as usize == len => Ok(first),
            _ => Err(CHANGED),
        }
    }

    fn put(&mut self, node: NodeId, value: u64) {
        let column = &mut self.columns[node as usize].bytes;
        let before = column.len();
        put_varint(column, value);
        self.size += column.len() - before;
    }

    fn integer(&mut self, node: NodeId, column_type: ColumnType, value: u64) -> Result {
        self.expect(node, column_type)?;
        let previous = std::mem::replace(&mut self.columns[node as usize].previous, value);
        self.put(node, zigzag(value.wrapping_sub(previous)));
        Ok(())
    }

    fn float(&mut self, node: NodeId, value: f64) -> Result {
        self.expect(node, ColumnType::Float)?;
        self.columns[node as usize].bytes.extend_from_slice(&value.to_le_bytes());
        self.size += 8;
        Ok(())
    }

    fn bytes(&mut self, node: NodeId, column_type: ColumnType, value: &[u8]) -> Result {
        self.expect(node, column_type)?;
        self.text += value.len();
        let column = &self.columns[node as usize];
        if column.bytes[column.repeated.clone()] == *value {
            self.put(node, 0);
            return Ok(());
        }
        self.put(node, value.len() as u64 + 1);
        let column = &mut self.columns[node as usize];
        let start = column.bytes.len();
        column.bytes.extend_from_slice(value);
        column.repeated = start..column.bytes.len();
        self.size += value.len();
        Ok(())
    }
}

/// A type that serializes itself now one way, now another: records have none.
const CHANGED: ColumnError = ColumnError::Malformed(&"a value changed its type within a frame");
