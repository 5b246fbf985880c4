//! Columns being read: each value is taken from the front of what is left of its node's column.
//!
//! Where a struct was written with exactly the fields that this version has, they are taken in order; otherwise by name,
//! and what is missing gets serde's default. The data may be hostile: every visit of a node and every byte of text is
//! charged to a budget that follows from the frame's size, unless it takes a byte of the frame itself, and depth is
//! limited.

mod value;

use std::ops::Range;

use serde::de::{Deserialize, IgnoredAny};

use self::value::ValueDecoder;
use super::schema::{ColumnType, CompositeId, NodeId, Schema};
use super::{ColumnError, Result, take_varint, unzigzag};
use crate::capture::format::{MAX_FRAME, MAX_TEXT};

/// The names of fields or variants that this version has, as serde gives them.
type Names = &'static [&'static str];

/// The columns of one frame, and how far they are read.
pub(in crate::capture) struct ColumnDecoder {
    data: Vec<u8>,
    schema: Schema,
    /// The nodes of every composite's members, one composite after the other.
    members: Vec<NodeId>,
    composites: Vec<ReadAs>,
    columns: Vec<Column>,
    /// The columns as they were at the beginning, or behind the last row that was stepped over.
    mark: Vec<Column>,
    /// Rows that were read since.
    rows_since_mark: u32,
    visits_left: u64,
    text_left: usize,
}

/// How a composite compares with this version's types. Lists of names are told apart by their addresses.
struct ReadAs {
    /// Its own in [`ColumnDecoder::members`].
    members: Range<u32>,
    /// The list of fields that it was last compared with, and whether it has just these.
    fields: (usize, bool),
    /// The first list of variants that it was read as, and the index in it of each of its own.
    variants: (usize, Vec<Option<u32>>),
}

/// A node's column. Offsets fit 32 bits, since a frame is at most [`MAX_FRAME`] long.
#[derive(Clone, Copy)]
struct Column {
    column_type: ColumnType,
    at: u32,
    end: u32,
    repeated: (u32, u32),
    previous: u64,
}

impl ColumnDecoder {
    /// Opens a frame's payload.
    ///
    /// # Errors
    /// When its schema or the lengths of its columns are malformed, or it is longer than [`MAX_FRAME`].
    pub(in crate::capture) fn new(data: Vec<u8>) -> Result<Self> {
        if data.len() > MAX_FRAME {
            return Err(ColumnError::TooLarge);
        }
        let (schema, position) = Schema::decode(&data)?;
        let columns = columns(&schema, &data, position)?;
        let mut members = Vec::new();
        let mut composites = Vec::with_capacity(schema.composites.len());
        for composite in &schema.composites {
            let first = members.len() as u32;
            members.extend(composite.members.iter().map(|(_, node)| *node));
            let members = first..members.len() as u32;
            composites.push(ReadAs { members, fields: (0, false), variants: (0, Vec::new()) });
        }
        // A value takes at least a byte, and no value of a record lies deeper than a dozen structs.
        let visits_left = 4096 + 16 * data.len() as u64;
        Ok(ColumnDecoder {
            data,
            schema,
            members,
            composites,
            mark: columns.clone(),
            columns,
            rows_since_mark: 0,
            visits_left,
            text_left: MAX_TEXT,
        })
    }

    /// The next row.
    ///
    /// # Errors
    /// When the columns do not hold a `T` next, or hold more than a frame may.
    pub(in crate::capture) fn next<'de, T: Deserialize<'de>>(&mut self) -> Result<T> {
        let row = T::deserialize(ValueDecoder { decoder: self, node: 0, depth: 0 })?;
        self.rows_since_mark += 1;
        Ok(row)
    }

    /// Steps over the row that [`ColumnDecoder::next`] failed at, by the schema: from the mark on, since the row's
    /// beginning is not known. What was charged stays charged.
    pub(in crate::capture) fn step_over(&mut self) -> Result {
        self.columns.copy_from_slice(&self.mark);
        for _ in 0..=std::mem::take(&mut self.rows_since_mark) {
            IgnoredAny::deserialize(ValueDecoder { decoder: self, node: 0, depth: 0 })?;
        }
        self.mark.copy_from_slice(&self.columns);
        Ok(())
    }

    /// Gives the frame's memory back for the next one.
    pub(in crate::capture) fn into_buffer(self) -> Vec<u8> {
        self.data
    }

    /// Most numbers are differences of one byte.
    #[inline]
    fn varint(&mut self, node: NodeId) -> Result<u64> {
        let column = &mut self.columns[node as usize];
        if column.at < column.end
            && let Some(&byte) = self.data.get(column.at as usize)
            && byte < 0x80
        {
            column.at += 1;
            return Ok(byte.into());
        }
        self.long_varint(node)
    }

    #[cold]
    fn long_varint(&mut self, node: NodeId) -> Result<u64> {
        let column = &mut self.columns[node as usize];
        let (value, length) = take_varint(&self.data[column.at as usize..column.end as usize])?;
        column.at += length as u32;
        Ok(value)
    }

    /// A length or an index.
    #[inline]
    fn size(&mut self, node: NodeId) -> Result<usize> {
        usize::try_from(self.varint(node)?).map_err(|_| ColumnError::TooLarge)
    }

    #[inline]
    fn integer(&mut self, node: NodeId) -> Result<u64> {
        let difference = unzigzag(self.varint(node)?);
        let column = &mut self.columns[node as usize];
        column.previous = column.previous.wrapping_add(difference);
        Ok(column.previous)
    }

    #[inline]
    fn flag(&mut self, node: NodeId) -> Result<bool> {
        match self.varint(node)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(ColumnError::Malformed(&"a flag is neither 0 nor 1")),
        }
    }

    fn float(&mut self, node: NodeId) -> Result<f64> {
        let column = &mut self.columns[node as usize];
        let bytes = self.data[column.at as usize..column.end as usize].first_chunk::<8>();
        let bytes = bytes.ok_or(ColumnError::Short)?;
        column.at += 8;
        Ok(f64::from_le_bytes(*bytes))
    }

    #[inline]
    fn bytes(&mut self, node: NodeId) -> Result<&[u8]> {
        let tag = self.varint(node)?;
        let column = &mut self.columns[node as usize];
        if tag != 0 {
            let left = u64::from(column.end - column.at);
            // The comparison bounds it by 32 bits.
            let len = if tag - 1 <= left { (tag - 1) as u32 } else { return Err(ColumnError::Short) };
            column.repeated = (column.at, column.at + len);
            column.at += len;
        }
        let (start, end) = (column.repeated.0 as usize, column.repeated.1 as usize);
        self.text_left = self.text_left.checked_sub(end - start).ok_or(ColumnError::TooLarge)?;
        Ok(&self.data[start..end])
    }

    /// Whether a struct was written with just these fields, in this order.
    fn has_fields(&mut self, id: CompositeId, fields: Names) -> bool {
        let (address, equal) = &mut self.composites[id as usize].fields;
        if *address != fields.as_ptr().addr() {
            let members = &self.schema.composites[id as usize].members;
            *address = fields.as_ptr().addr();
            *equal = members.iter().map(|(name, _)| name.as_ref()).eq(fields.iter().copied());
        }
        *equal
    }

    /// The index of an enum's variant among those that this version knows; `None` for one that it does not know, or where
    /// the file gives one composite to two types, which no writer does.
    #[inline]
    fn known_variant(&mut self, id: CompositeId, index: usize, known: Names) -> Option<u32> {
        let (address, variants) = &mut self.composites[id as usize].variants;
        if *address == 0 {
            let members = &self.schema.composites[id as usize].members;
            let place = |name: &str| known.iter().position(|known| *known == name)?.try_into().ok();
            *variants = members.iter().map(|(name, _)| place(name)).collect();
            *address = known.as_ptr().addr();
        }
        if *address != known.as_ptr().addr() {
            return None;
        }
        variants.get(index).copied().flatten()
    }
}

/// The columns that follow the schema.
fn columns(schema: &Schema, data: &[u8], mut position: usize) -> Result<Vec<Column>> {
    let mut lengths = Vec::with_capacity(schema.nodes.len());
    for _ in &schema.nodes {
        let (length, taken) = take_varint(&data[position..])?;
        lengths.push(length);
        position += taken;
    }
    let mut at = position as u32;
    let mut columns = Vec::with_capacity(lengths.len());
    for (&column_type, length) in schema.nodes.iter().zip(lengths) {
        let end = u64::from(at).checked_add(length).filter(|end| *end <= data.len() as u64);
        // Within the data, whose length fits 32 bits.
        let end = end.ok_or(ColumnError::Short)? as u32;
        columns.push(Column { column_type, at, end, repeated: (at, at), previous: 0 });
        at = end;
    }
    Ok(columns)
}
