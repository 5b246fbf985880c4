//! Writing columns: a serde serializer that deals each value into the column of its position.

mod cell;

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use serde::ser::Serialize;

use self::cell::Cell;
use super::columns::{ColumnError, Kind, NodeId, Schema, Shape, ShapeId, put_varint, zigzag};

/// The columns of the frame under construction.
pub(super) struct Shredder {
    schema: Schema,
    columns: Vec<Column>,
    structs: HashMap<&'static str, ShapeId>,
    size: usize,
    text: usize,
}

#[derive(Default)]
struct Column {
    bytes: Vec<u8>,
    previous: u64,
    repeated: Range<usize>,
}

impl Shredder {
    /// An empty frame.
    pub(super) fn new() -> Self {
        let mut shredder = Shredder {
            schema: Schema::default(),
            columns: Vec::new(),
            structs: HashMap::new(),
            size: 0,
            text: 0,
        };
        shredder.allocate(1);
        shredder
    }

    /// Adds one row. After an error the frame is of no use any more: the row may be half in it.
    pub(super) fn push<T: Serialize>(&mut self, row: &T) -> Result<(), ColumnError> {
        row.serialize(Cell { shredder: self, node: 0 })
    }

    /// Bytes in all columns.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Bytes of text that a reader gets, repetitions included.
    pub(super) fn text(&self) -> usize {
        self.text
    }

    /// The frame's payload; leaves an empty frame.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.size + 8192);
        self.schema.encode(&mut out);
        self.columns.iter().for_each(|column| put_varint(&mut out, column.bytes.len() as u64));
        self.columns.iter().for_each(|column| out.extend_from_slice(&column.bytes));
        *self = Shredder::new();
        out
    }

    fn allocate(&mut self, count: usize) -> NodeId {
        let first = self.schema.nodes.len();
        self.schema.nodes.resize(first + count, Kind::Unseen);
        self.columns.resize_with(first + count, Column::default);
        first as NodeId
    }

    fn shape(&mut self, name: &'static str) -> ShapeId {
        self.schema.shapes.push(Shape { name: Cow::Borrowed(name), members: Vec::new() });
        (self.schema.shapes.len() - 1) as ShapeId
    }

    /// The node's kind, decided by `first` when the first value comes by.
    fn kind(&mut self, node: NodeId, first: impl FnOnce(&mut Self) -> Kind) -> Kind {
        if self.schema.nodes[node as usize] == Kind::Unseen {
            self.schema.nodes[node as usize] = first(self);
        }
        self.schema.nodes[node as usize]
    }

    /// The node of a struct's field or an enum's variant, by position where it is known.
    fn member(&mut self, shape: ShapeId, at: usize, name: &'static str) -> Result<NodeId, ColumnError> {
        match self.schema.shapes[shape as usize].members.get(at) {
            Some((known, node)) if known == name => Ok(*node),
            Some(_) => Err(ColumnError::Malformed(&"two structs share a name")),
            None => {
                let node = self.allocate(1);
                self.schema.shapes[shape as usize].members.push((Cow::Borrowed(name), node));
                Ok(node)
            }
        }
    }

    fn variant(&mut self, node: NodeId, of: &'static str, name: &'static str) -> Result<NodeId, ColumnError> {
        let kind = self.kind(node, |shredder| Kind::Enum(shredder.shape(of)));
        let Kind::Enum(shape) = kind else { return Err(CHANGED) };
        let members = &self.schema.shapes[shape as usize].members;
        let index = members.iter().position(|(known, _)| known == name).unwrap_or(members.len());
        self.put(node, index as u64);
        self.member(shape, index, name)
    }

    fn put(&mut self, node: NodeId, value: u64) {
        let column = &mut self.columns[node as usize].bytes;
        let before = column.len();
        put_varint(column, value);
        self.size += column.len() - before;
    }

    fn integer(&mut self, node: NodeId, kind: Kind, value: u64) -> Result<(), ColumnError> {
        if self.kind(node, |_| kind) != kind {
            return Err(CHANGED);
        }
        let previous = std::mem::replace(&mut self.columns[node as usize].previous, value);
        self.put(node, zigzag(value.wrapping_sub(previous)));
        Ok(())
    }

    fn bytes(&mut self, node: NodeId, kind: Kind, value: &[u8]) -> Result<(), ColumnError> {
        if self.kind(node, |_| kind) != kind {
            return Err(CHANGED);
        }
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

    fn fields(&mut self, node: NodeId, name: Option<&'static str>) -> Result<ShapeId, ColumnError> {
        let kind = self.kind(node, |shredder| {
            let known = name.and_then(|name| shredder.structs.get(name).copied());
            Kind::Struct(known.unwrap_or_else(|| {
                let shape = shredder.shape(name.unwrap_or(""));
                if let Some(name) = name {
                    shredder.structs.insert(name, shape);
                }
                shape
            }))
        });
        let Kind::Struct(shape) = kind else { return Err(CHANGED) };
        Ok(shape)
    }

    fn tuple(&mut self, node: NodeId, len: usize) -> Result<NodeId, ColumnError> {
        match self.kind(node, |shredder| Kind::Tuple(shredder.allocate(len), len as u32)) {
            Kind::Tuple(first, known) if known as usize == len => Ok(first),
            _ => Err(CHANGED),
        }
    }
}

/// A type that serializes itself now one way, now another: records have none.
const CHANGED: ColumnError = ColumnError::Malformed(&"a value changed its kind within a frame");
