//! Reading columns: a serde deserializer that takes each value from the column of its position.
//!
//! Where a struct was written with exactly the fields that this version has, they are taken by position; otherwise by
//! name, and what is missing gets serde's default. The data may be hostile: every visit and every byte of text is
//! charged to a budget that follows from the frame's size, and depth is limited.

use serde::de::value::StrDeserializer;
use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, IgnoredAny, IntoDeserializer, Visitor};

use super::columns::{ColumnError, Kind, NodeId, Schema, ShapeId, take_varint, unzigzag};
use super::format::{MAX_FRAME, MAX_TEXT};

/// Deeper than any record.
const MAX_DEPTH: u8 = 48;

/// The columns of one frame, and how far they are read.
pub(super) struct Assembler {
    data: Vec<u8>,
    schema: Schema,
    /// Per shape: the address of the field list that it was last compared with, and whether it was equal.
    compared: Vec<(usize, bool)>,
    columns: Vec<Column>,
    fuel: u64,
    text: usize,
}

#[derive(Clone, Copy)]
struct Column {
    at: usize,
    end: usize,
    previous: u64,
    repeated: (usize, usize),
}

/// A place to go back to.
pub(super) struct Mark(Vec<Column>);

impl Assembler {
    /// Opens a frame's payload.
    pub(super) fn new(data: Vec<u8>) -> Result<Self, ColumnError> {
        let mut position = 0;
        let schema = Schema::decode(&data, &mut position)?;
        let mut lengths = Vec::with_capacity(schema.nodes.len());
        for _ in &schema.nodes {
            lengths
                .push(usize::try_from(take_varint(&data, &mut position)?).map_err(|_| ColumnError::Short)?);
        }
        let mut columns = Vec::with_capacity(lengths.len());
        for length in lengths {
            let end =
                position.checked_add(length).filter(|end| *end <= data.len()).ok_or(ColumnError::Short)?;
            columns.push(Column { at: position, end, previous: 0, repeated: (position, position) });
            position = end;
        }
        // A value takes at least a byte, and no value of a record lies deeper than a dozen structs.
        let fuel = 4096 + 16 * data.len().min(MAX_FRAME) as u64;
        let compared = vec![(0, false); schema.shapes.len()];
        Ok(Assembler { data, schema, compared, columns, fuel, text: MAX_TEXT })
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

    #[inline]
    fn varint(&mut self, node: NodeId) -> Result<u64, ColumnError> {
        let column = &mut self.columns[node as usize];
        take_varint(&self.data[..column.end], &mut column.at)
    }

    #[inline]
    fn integer(&mut self, node: NodeId) -> Result<u64, ColumnError> {
        let difference = unzigzag(self.varint(node)?);
        let column = &mut self.columns[node as usize];
        column.previous = column.previous.wrapping_add(difference);
        Ok(column.previous)
    }

    fn flag(&mut self, node: NodeId) -> Result<bool, ColumnError> {
        match self.varint(node)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(ColumnError::Malformed("a flag is neither 0 nor 1")),
        }
    }

    fn float(&mut self, node: NodeId) -> Result<f64, ColumnError> {
        let column = &mut self.columns[node as usize];
        let bytes = self.data[column.at..column.end].first_chunk::<8>().ok_or(ColumnError::Short)?;
        column.at += 8;
        Ok(f64::from_le_bytes(*bytes))
    }

    fn bytes(&mut self, node: NodeId) -> Result<&[u8], ColumnError> {
        let tag = self.varint(node)?;
        let column = &mut self.columns[node as usize];
        if tag != 0 {
            let len = usize::try_from(tag - 1).map_err(|_| ColumnError::Short)?;
            let end =
                column.at.checked_add(len).filter(|end| *end <= column.end).ok_or(ColumnError::Short)?;
            column.repeated = (column.at, end);
            column.at = end;
        }
        let (start, end) = column.repeated;
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
}

/// One position of one row.
struct Cell<'a> {
    assembler: &'a mut Assembler,
    node: NodeId,
    depth: u8,
}

impl<'a> Cell<'a> {
    /// The node's kind; charges the visit.
    #[inline]
    fn enter(&mut self) -> Result<Kind, ColumnError> {
        let fuel = self.assembler.fuel.checked_sub(1).filter(|_| self.depth < MAX_DEPTH);
        self.assembler.fuel = fuel.ok_or(ColumnError::TooLarge)?;
        Ok(self.assembler.schema.nodes[self.node as usize])
    }

    fn at(self, node: NodeId) -> Cell<'a> {
        Cell { assembler: self.assembler, node, depth: self.depth + 1 }
    }

    fn elements(self, first: NodeId, step: u32, left: usize) -> Elements<'a> {
        Elements { assembler: self.assembler, depth: self.depth + 1, next: first, step, left }
    }

    fn fields(self, shape: ShapeId) -> Fields<'a> {
        Fields { assembler: self.assembler, depth: self.depth + 1, shape, at: 0 }
    }

    fn visit<'de, V: Visitor<'de>>(self, kind: Kind, visitor: V) -> Result<V::Value, ColumnError> {
        match kind {
            Kind::Unseen | Kind::Unit => visitor.visit_unit(),
            Kind::Bool => visitor.visit_bool(self.assembler.flag(self.node)?),
            Kind::Unsigned => visitor.visit_u64(self.assembler.integer(self.node)?),
            Kind::Signed => visitor.visit_i64(self.assembler.integer(self.node)?.cast_signed()),
            Kind::Float => visitor.visit_f64(self.assembler.float(self.node)?),
            Kind::Bytes => visitor.visit_bytes(self.assembler.bytes(self.node)?),
            Kind::Text => match str::from_utf8(self.assembler.bytes(self.node)?) {
                Ok(text) => visitor.visit_str(text),
                Err(_) => Err(ColumnError::Malformed("a text is not UTF-8")),
            },
            Kind::Option(inner) => match self.assembler.flag(self.node)? {
                true => visitor.visit_some(self.at(inner)),
                false => visitor.visit_none(),
            },
            Kind::Sequence(inner) => {
                let len =
                    usize::try_from(self.assembler.varint(self.node)?).map_err(|_| ColumnError::TooLarge)?;
                visitor.visit_seq(self.elements(inner, 0, len))
            }
            Kind::Tuple(first, len) => visitor.visit_seq(self.elements(first, 1, len as usize)),
            Kind::Struct(shape) => visitor.visit_map(self.fields(shape)),
            Kind::Enum(shape) => {
                let index = usize::try_from(self.assembler.varint(self.node)?).unwrap_or(usize::MAX);
                visitor.visit_enum(Variant { assembler: self.assembler, depth: self.depth, shape, index })
            }
        }
    }
}

impl<'de> Deserializer<'de> for Cell<'_> {
    type Error = ColumnError;

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, ColumnError> {
        let kind = self.enter()?;
        self.visit(kind, visitor)
    }

    /// A value that was mandatory when it was written may be optional by now.
    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, ColumnError> {
        match self.enter()? {
            kind @ Kind::Option(_) => self.visit(kind, visitor),
            Kind::Unit | Kind::Unseen => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ColumnError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ColumnError> {
        match self.enter()? {
            Kind::Struct(shape) if self.assembler.has_fields(shape, fields) => {
                visitor.visit_seq(Positional(self.fields(shape)))
            }
            kind => self.visit(kind, visitor),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map enum identifier ignored_any
    }
}

/// Elements of a sequence (at one node) or a tuple (at consecutive ones).
struct Elements<'a> {
    assembler: &'a mut Assembler,
    depth: u8,
    next: NodeId,
    step: u32,
    left: usize,
}

impl<'de> de::SeqAccess<'de> for Elements<'_> {
    type Error = ColumnError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ColumnError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let node = self.next;
        self.next += self.step;
        seed.deserialize(Cell { assembler: self.assembler, node, depth: self.depth }).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        // serde caps what it reserves for a hint, so a hostile length costs no memory.
        Some(self.left)
    }
}

/// Fields of a struct, by name.
struct Fields<'a> {
    assembler: &'a mut Assembler,
    depth: u8,
    shape: ShapeId,
    at: usize,
}

impl Fields<'_> {
    fn node(&self, at: usize) -> Option<NodeId> {
        Some(self.assembler.schema.shapes[self.shape as usize].members.get(at)?.1)
    }

    fn value<'de, T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ColumnError> {
        let Some(node) = self.node(self.at) else { return Ok(None) };
        self.at += 1;
        seed.deserialize(Cell { assembler: self.assembler, node, depth: self.depth }).map(Some)
    }
}

impl<'de> de::MapAccess<'de> for Fields<'_> {
    type Error = ColumnError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ColumnError> {
        let Some((name, _)) = self.assembler.schema.shapes[self.shape as usize].members.get(self.at) else {
            return Ok(None);
        };
        let name: StrDeserializer<'_, ColumnError> = name.as_ref().into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, ColumnError> {
        self.value(seed)?.ok_or(ColumnError::Short)
    }
}

/// Fields of a struct, by position.
struct Positional<'a>(Fields<'a>);

impl<'de> de::SeqAccess<'de> for Positional<'_> {
    type Error = ColumnError;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ColumnError> {
        self.0.value(seed)
    }
}

/// A variant and its payload.
struct Variant<'a> {
    assembler: &'a mut Assembler,
    depth: u8,
    shape: ShapeId,
    index: usize,
}

impl<'de, 'a> de::EnumAccess<'de> for Variant<'a> {
    type Error = ColumnError;
    type Variant = Cell<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Cell<'a>), ColumnError> {
        let members = &self.assembler.schema.shapes[self.shape as usize].members;
        let (name, node) =
            members.get(self.index).ok_or(ColumnError::Malformed("a variant is not declared"))?;
        let (node, name) = (*node, StrDeserializer::<ColumnError>::new(name));
        let variant = seed.deserialize(name)?;
        Ok((variant, Cell { assembler: self.assembler, node, depth: self.depth + 1 }))
    }
}

impl<'de> de::VariantAccess<'de> for Cell<'_> {
    type Error = ColumnError;

    fn unit_variant(self) -> Result<(), ColumnError> {
        // A payload that a later version added is stepped over.
        IgnoredAny::deserialize(self).map(drop)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, ColumnError> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, ColumnError> {
        self.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ColumnError> {
        self.deserialize_struct("", fields, visitor)
    }
}
