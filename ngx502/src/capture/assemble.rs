//! Reading columns: a serde deserializer that takes each value from the column of its position.
//!
//! Where a struct was written with exactly the fields that this version has, they are taken by position; otherwise by
//! name, and what is missing gets serde's default. The data may be hostile: every visit and every byte of text is
//! charged to a budget that follows from the frame's size, unless it takes a byte of the frame itself, and depth is
//! limited.

mod cell;

use serde::de::{Deserialize, IgnoredAny};

use self::cell::Cell;
use super::columns::{ColumnError, Kind, NodeId, Schema, ShapeId, take_varint, unzigzag};
use super::format::{MAX_FRAME, MAX_TEXT};

/// The columns of one frame, and how far they are read.
pub(super) struct Assembler {
    data: Vec<u8>,
    schema: Schema,
    /// Per shape: where its members begin in `members`.
    first: Vec<u32>,
    /// The nodes of every shape's members, one shape after the other.
    members: Vec<NodeId>,
    /// Per shape: the address of the field list that it was last compared with, and whether it was equal.
    compared: Vec<(usize, bool)>,
    /// Per shape: the address of the first variant list that it was read as, and each variant's place in it.
    variants: Vec<(usize, Vec<Option<u32>>)>,
    columns: Vec<Column>,
    fuel: u64,
    text: usize,
}

/// A node's column. Offsets fit 32 bits, since a frame is at most [`MAX_FRAME`] long.
#[derive(Clone, Copy)]
struct Column {
    kind: Kind,
    at: u32,
    end: u32,
    repeated: (u32, u32),
    previous: u64,
}

/// A place to go back to.
pub(super) struct Mark(Vec<Column>);

impl Assembler {
    /// Opens a frame's payload.
    pub(super) fn new(data: Vec<u8>) -> Result<Self, ColumnError> {
        if data.len() > MAX_FRAME {
            return Err(ColumnError::TooLarge);
        }
        let mut position = 0;
        let schema = Schema::decode(&data, &mut position)?;
        let columns = columns(&schema, &data, position)?;
        // A value takes at least a byte, and no value of a record lies deeper than a dozen structs.
        let fuel = 4096 + 16 * data.len() as u64;
        let compared = vec![(0, false); schema.shapes.len()];
        let variants = vec![(0, Vec::new()); schema.shapes.len()];
        let (mut first, mut members) = (Vec::with_capacity(schema.shapes.len()), Vec::new());
        for shape in &schema.shapes {
            first.push(u32::try_from(members.len()).map_err(|_| ColumnError::TooLarge)?);
            members.extend(shape.members.iter().map(|(_, node)| *node));
        }
        Ok(Assembler { data, schema, first, members, compared, variants, columns, fuel, text: MAX_TEXT })
    }

    /// The next row.
    pub(super) fn next<'de, T: Deserialize<'de>>(&mut self) -> Result<T, ColumnError> {
        T::deserialize(Cell { assembler: self, node: 0, depth: 0 })
    }

    /// Steps over the next row, whatever is in it.
    pub(super) fn skip(&mut self) -> Result<(), ColumnError> {
        self.next::<IgnoredAny>().map(drop)
    }

    /// Where reading is now.
    pub(super) fn mark(&self) -> Mark {
        Mark(self.columns.clone())
    }

    /// Goes back; what was charged stays charged.
    pub(super) fn rewind(&mut self, mark: &Mark) {
        self.columns.copy_from_slice(&mark.0);
    }

    /// Gives the frame's memory back for the next one.
    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.data
    }

    /// Most numbers are differences of one byte.
    #[inline]
    fn varint(&mut self, node: NodeId) -> Result<u64, ColumnError> {
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
    fn long_varint(&mut self, node: NodeId) -> Result<u64, ColumnError> {
        let column = &mut self.columns[node as usize];
        let mut at = column.at as usize;
        let value = take_varint(&self.data[..column.end as usize], &mut at)?;
        // Not beyond `end`, which fits.
        column.at = at as u32;
        Ok(value)
    }

    #[inline]
    fn integer(&mut self, node: NodeId) -> Result<u64, ColumnError> {
        let difference = unzigzag(self.varint(node)?);
        let column = &mut self.columns[node as usize];
        column.previous = column.previous.wrapping_add(difference);
        Ok(column.previous)
    }

    #[inline]
    fn flag(&mut self, node: NodeId) -> Result<bool, ColumnError> {
        match self.varint(node)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(ColumnError::Malformed(&"a flag is neither 0 nor 1")),
        }
    }

    fn float(&mut self, node: NodeId) -> Result<f64, ColumnError> {
        let column = &mut self.columns[node as usize];
        let bytes = self.data[column.at as usize..column.end as usize].first_chunk::<8>();
        let bytes = bytes.ok_or(ColumnError::Short)?;
        column.at += 8;
        Ok(f64::from_le_bytes(*bytes))
    }

    #[inline]
    fn bytes(&mut self, node: NodeId) -> Result<&[u8], ColumnError> {
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
        self.text = self.text.checked_sub(end - start).ok_or(ColumnError::TooLarge)?;
        Ok(&self.data[start..end])
    }

    fn has_fields(&mut self, shape: ShapeId, fields: &'static [&'static str]) -> bool {
        let address = fields.as_ptr().addr();
        let compared = &mut self.compared[shape as usize];
        if compared.0 != address {
            let members = &self.schema.shapes[shape as usize].members;
            *compared = (address, members.iter().map(|(name, _)| name.as_ref()).eq(fields.iter().copied()));
        }
        compared.1
    }

    /// The place of a shape's variant in this version's list; `None` for one that it does not know, or where the file
    /// gives one shape to two types, which no writer does.
    #[inline]
    fn place(&mut self, shape: ShapeId, index: usize, known: &'static [&'static str]) -> Option<u32> {
        let (address, places) = &mut self.variants[shape as usize];
        if *address == 0 {
            let members = &self.schema.shapes[shape as usize].members;
            let place = |name: &str| known.iter().position(|known| *known == name)?.try_into().ok();
            *places = members.iter().map(|(name, _)| place(name)).collect();
            *address = known.as_ptr().addr();
        }
        if *address != known.as_ptr().addr() {
            return None;
        }
        places.get(index).copied().flatten()
    }
}

/// The columns that follow the schema.
fn columns(schema: &Schema, data: &[u8], mut position: usize) -> Result<Vec<Column>, ColumnError> {
    let mut lengths = Vec::with_capacity(schema.nodes.len());
    for _ in &schema.nodes {
        lengths.push(usize::try_from(take_varint(data, &mut position)?).map_err(|_| ColumnError::Short)?);
    }
    let offset = |at: usize| u32::try_from(at).map_err(|_| ColumnError::TooLarge);
    let mut columns = Vec::with_capacity(lengths.len());
    for (kind, length) in schema.nodes.iter().zip(lengths) {
        let end = position.checked_add(length).filter(|end| *end <= data.len()).ok_or(ColumnError::Short)?;
        let (at, end_at) = (offset(position)?, offset(end)?);
        columns.push(Column { kind: *kind, at, end: end_at, repeated: (at, at), previous: 0 });
        position = end;
    }
    Ok(columns)
}
