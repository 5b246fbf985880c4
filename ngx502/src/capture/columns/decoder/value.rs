//! What serde asks of one node of one row, and of the members below it.

use std::ops::Range;

use serde::de::value::{StrDeserializer, U32Deserializer};
use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, IgnoredAny, IntoDeserializer, SeqAccess, Visitor,
};

use super::{ColumnDecoder, Names};
use crate::capture::columns::schema::{ColumnType, CompositeId, NodeId};
use crate::capture::columns::{ColumnError, Result};

/// Deeper than any record.
const MAX_DEPTH: u8 = 48;

/// Reads the value of one node.
pub(super) struct ValueDecoder<'a> {
    pub(super) decoder: &'a mut ColumnDecoder,
    pub(super) node: NodeId,
    pub(super) depth: u8,
}

impl<'a> ValueDecoder<'a> {
    /// The node's type, without a charge: for types of which every value takes a byte that no other value takes, read
    /// as types that are no deeper than this program's.
    #[inline]
    fn column_type(&self) -> ColumnType {
        self.decoder.columns[self.node as usize].column_type
    }

    /// The node's type; charges the visit.
    #[inline]
    fn enter(&mut self) -> Result<ColumnType> {
        let visits = self.decoder.visits_left.checked_sub(1).filter(|_| self.depth < MAX_DEPTH);
        self.decoder.visits_left = visits.ok_or(ColumnError::TooLarge)?;
        Ok(self.column_type())
    }

    fn at(self, node: NodeId) -> Self {
        ValueDecoder { decoder: self.decoder, node, depth: self.depth + 1 }
    }

    fn elements(self, next: NodeId, step: u32, left: usize) -> ElementDecoder<'a> {
        ElementDecoder { decoder: self.decoder, depth: self.depth + 1, next, step, left }
    }

    #[inline]
    fn fields(self, composite: CompositeId) -> FieldDecoder<'a> {
        let left = self.decoder.composites[composite as usize].members.clone();
        FieldDecoder { decoder: self.decoder, depth: self.depth + 1, composite, left }
    }

    /// With the variants that its reader knows.
    #[inline]
    fn variant(self, composite: CompositeId, known: Option<Names>) -> Result<VariantDecoder<'a>> {
        let index = self.decoder.size(self.node)?;
        let known = known.and_then(|known| self.decoder.known_variant(composite, index, known));
        Ok(VariantDecoder { decoder: self.decoder, depth: self.depth, composite, index, known })
    }

    /// A value of a type that its reader did not expect, or that is rare.
    #[inline(never)]
    fn other<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_any(visitor)
    }

    fn visit<'de, V: Visitor<'de>>(self, column_type: ColumnType, visitor: V) -> Result<V::Value> {
        match column_type {
            ColumnType::Unseen | ColumnType::Unit => visitor.visit_unit(),
            ColumnType::Bool => visitor.visit_bool(self.decoder.flag(self.node)?),
            ColumnType::Unsigned => visitor.visit_u64(self.decoder.integer(self.node)?),
            ColumnType::Signed => visitor.visit_i64(self.decoder.integer(self.node)?.cast_signed()),
            ColumnType::Float => visitor.visit_f64(self.decoder.float(self.node)?),
            ColumnType::Bytes => visitor.visit_bytes(self.decoder.bytes(self.node)?),
            ColumnType::Text => match str::from_utf8(self.decoder.bytes(self.node)?) {
                Ok(text) => visitor.visit_str(text),
                Err(_) => Err(ColumnError::Malformed(&"a text is not UTF-8")),
            },
            ColumnType::Option(inner) => match self.decoder.flag(self.node)? {
                true => visitor.visit_some(self.at(inner)),
                false => visitor.visit_none(),
            },
            ColumnType::Sequence(inner) => {
                let len = self.decoder.size(self.node)?;
                visitor.visit_seq(self.elements(inner, 0, len))
            }
            ColumnType::Tuple(first, len) => visitor.visit_seq(self.elements(first, 1, len as usize)),
            ColumnType::Struct(id) => visitor.visit_map(self.fields(id)),
            ColumnType::Enum(id) => visitor.visit_enum(self.variant(id, None)?),
        }
    }
}

/// The commonest values without a look at all types.
macro_rules! common {
    ($($method:ident = $column:ident via $read:ident, $visit:ident;)+) => {
        $(#[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            match self.column_type() {
                ColumnType::$column => visitor.$visit(self.decoder.$read(self.node)?),
                _ => self.other(visitor),
            }
        })+
    };
}

impl<'de> Deserializer<'de> for ValueDecoder<'_> {
    type Error = ColumnError;

    common! {
        deserialize_bool = Bool via flag, visit_bool;
        deserialize_u8 = Unsigned via integer, visit_u64;
        deserialize_u16 = Unsigned via integer, visit_u64;
        deserialize_u32 = Unsigned via integer, visit_u64;
        deserialize_u64 = Unsigned via integer, visit_u64;
        deserialize_byte_buf = Bytes via bytes, visit_bytes;
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value> {
        let column_type = self.enter()?;
        self.visit(column_type, visitor)
    }

    /// A value that was mandatory when it was written may be optional by now.
    #[inline]
    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value> {
        if let ColumnType::Option(inner) = self.column_type() {
            return match self.decoder.flag(self.node)? {
                true => visitor.visit_some(self.at(inner)),
                false => visitor.visit_none(),
            };
        }
        match self.enter()? {
            ColumnType::Unit | ColumnType::Unseen => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        fields: Names,
        visitor: V,
    ) -> Result<V::Value> {
        match self.enter()? {
            ColumnType::Struct(id) if self.decoder.has_fields(id, fields) => {
                visitor.visit_seq(self.fields(id))
            }
            column_type => self.visit(column_type, visitor),
        }
    }

    /// By a variant's place in this version's list, which serde numbers alike as long as no variant has an alias.
    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: Names,
        visitor: V,
    ) -> Result<V::Value> {
        match self.column_type() {
            ColumnType::Enum(id) => visitor.visit_enum(self.variant(id, Some(variants))?),
            _ => self.other(visitor),
        }
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u128 f32 f64 char str string bytes unit unit_struct seq tuple tuple_struct map
        identifier ignored_any
    }
}

/// Reads the elements of a sequence (at one node) or a tuple (at consecutive ones).
struct ElementDecoder<'a> {
    decoder: &'a mut ColumnDecoder,
    depth: u8,
    next: NodeId,
    step: u32,
    left: usize,
}

impl<'de> SeqAccess<'de> for ElementDecoder<'_> {
    type Error = ColumnError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let node = self.next;
        self.next += self.step;
        seed.deserialize(ValueDecoder { decoder: self.decoder, node, depth: self.depth }).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        // serde caps what it reserves for a hint, so a hostile length costs no memory.
        Some(self.left)
    }
}

/// Reads the fields of a struct.
struct FieldDecoder<'a> {
    decoder: &'a mut ColumnDecoder,
    depth: u8,
    composite: CompositeId,
    /// Indices of [`ColumnDecoder::members`].
    left: Range<u32>,
}

/// In order, where a struct was written with just the fields that this version has.
impl<'de> SeqAccess<'de> for FieldDecoder<'_> {
    type Error = ColumnError;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        let Some(index) = self.left.next() else { return Ok(None) };
        let node = self.decoder.members[index as usize];
        seed.deserialize(ValueDecoder { decoder: self.decoder, node, depth: self.depth }).map(Some)
    }
}

/// By name.
impl<'de> de::MapAccess<'de> for FieldDecoder<'_> {
    type Error = ColumnError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>> {
        let members = &self.decoder.schema.composites[self.composite as usize].members;
        let Some((name, _)) = members.get(members.len() - self.left.len()) else { return Ok(None) };
        let name: StrDeserializer<'_, ColumnError> = name.as_ref().into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value> {
        self.next_element_seed(seed)?.ok_or(ColumnError::Short)
    }
}

/// Reads which variant of an enum it is, and its payload.
struct VariantDecoder<'a> {
    decoder: &'a mut ColumnDecoder,
    depth: u8,
    composite: CompositeId,
    /// Among the composite's members.
    index: usize,
    /// Among the variants that this version knows.
    known: Option<u32>,
}

impl<'de, 'a> de::EnumAccess<'de> for VariantDecoder<'a> {
    type Error = ColumnError;
    type Variant = ValueDecoder<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, ValueDecoder<'a>)> {
        let members = &self.decoder.schema.composites[self.composite as usize].members;
        let (name, node) =
            members.get(self.index).ok_or(ColumnError::Malformed(&"a variant is not declared"))?;
        let node = *node;
        let variant = match self.known {
            Some(known) => seed.deserialize(U32Deserializer::<ColumnError>::new(known))?,
            None => seed.deserialize(StrDeserializer::<ColumnError>::new(name))?,
        };
        Ok((variant, ValueDecoder { decoder: self.decoder, node, depth: self.depth + 1 }))
    }
}

impl<'de> de::VariantAccess<'de> for ValueDecoder<'_> {
    type Error = ColumnError;

    fn unit_variant(self) -> Result {
        // A payload that a later version added is stepped over.
        IgnoredAny::deserialize(self).map(drop)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value> {
        self.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: Names, visitor: V) -> Result<V::Value> {
        self.deserialize_struct("", fields, visitor)
    }
}
