//! What serde asks of one position of one row, and of the members below it.

use serde::de::value::{StrDeserializer, U32Deserializer};
use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, IgnoredAny, IntoDeserializer, Visitor};

use super::super::columns::{ColumnError, Kind, NodeId, ShapeId};
use super::Assembler;

/// Deeper than any record.
const MAX_DEPTH: u8 = 48;

/// One position of one row.
pub(super) struct Cell<'a> {
    pub(super) assembler: &'a mut Assembler,
    pub(super) node: NodeId,
    pub(super) depth: u8,
}

impl<'a> Cell<'a> {
    /// The node's kind, without a charge: for kinds of which every value takes a byte that no other value takes, read
    /// as types that are no deeper than this program's.
    #[inline]
    fn kind(&self) -> Kind {
        self.assembler.columns[self.node as usize].kind
    }

    /// The node's kind; charges the visit.
    #[inline]
    fn enter(&mut self) -> Result<Kind, ColumnError> {
        let fuel = self.assembler.fuel.checked_sub(1).filter(|_| self.depth < MAX_DEPTH);
        self.assembler.fuel = fuel.ok_or(ColumnError::TooLarge)?;
        Ok(self.assembler.columns[self.node as usize].kind)
    }

    fn at(self, node: NodeId) -> Cell<'a> {
        Cell { assembler: self.assembler, node, depth: self.depth + 1 }
    }

    fn elements(self, first: NodeId, step: u32, left: usize) -> Elements<'a> {
        Elements { assembler: self.assembler, depth: self.depth + 1, next: first, step, left }
    }

    #[inline]
    fn fields(self, shape: ShapeId) -> Fields<'a> {
        let next = self.assembler.first[shape as usize];
        let end = self.assembler.first.get(shape as usize + 1).copied();
        let end = end.unwrap_or(self.assembler.members.len() as u32);
        Fields { assembler: self.assembler, depth: self.depth + 1, shape, next, end }
    }

    /// A value of a kind that its reader did not expect, or that is rare.
    #[inline(never)]
    fn other<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ColumnError> {
        self.deserialize_any(visitor)
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
                Err(_) => Err(ColumnError::Malformed(&"a text is not UTF-8")),
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
                let (assembler, depth) = (self.assembler, self.depth);
                visitor.visit_enum(Variant { assembler, depth, shape, index, place: None })
            }
        }
    }
}

/// The commonest values without a look at all kinds.
macro_rules! unsigned {
    ($($method:ident)+) => {
        $(#[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ColumnError> {
            match self.kind() {
                Kind::Unsigned => visitor.visit_u64(self.assembler.integer(self.node)?),
                _ => self.other(visitor),
            }
        })+
    };
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

    #[inline]
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ColumnError> {
        match self.kind() {
            Kind::Bool => visitor.visit_bool(self.assembler.flag(self.node)?),
            _ => self.other(visitor),
        }
    }

    #[inline]
    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ColumnError> {
        match self.kind() {
            Kind::Bytes => visitor.visit_bytes(self.assembler.bytes(self.node)?),
            _ => self.other(visitor),
        }
    }

    /// A value that was mandatory when it was written may be optional by now.
    #[inline]
    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, ColumnError> {
        if let Kind::Option(inner) = self.kind() {
            return match self.assembler.flag(self.node)? {
                true => visitor.visit_some(self.at(inner)),
                false => visitor.visit_none(),
            };
        }
        match self.enter()? {
            Kind::Unit | Kind::Unseen => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ColumnError> {
        visitor.visit_newtype_struct(self)
    }

    #[inline]
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

    /// By a variant's place in this version's list, which serde numbers alike as long as no variant has an alias.
    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ColumnError> {
        match self.kind() {
            Kind::Enum(shape) => {
                let index = usize::try_from(self.assembler.varint(self.node)?).unwrap_or(usize::MAX);
                let place = self.assembler.place(shape, index, variants);
                let (assembler, depth) = (self.assembler, self.depth);
                visitor.visit_enum(Variant { assembler, depth, shape, index, place })
            }
            _ => self.other(visitor),
        }
    }

    unsigned! { deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u128 f32 f64 char str string bytes unit unit_struct seq tuple tuple_struct map
        identifier ignored_any
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
    /// Index of the next field in [`Assembler::members`], and of the first beyond the last.
    next: u32,
    end: u32,
}

impl Fields<'_> {
    #[inline]
    fn value<'de, T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ColumnError> {
        if self.next >= self.end {
            return Ok(None);
        }
        let node = self.assembler.members[self.next as usize];
        self.next += 1;
        seed.deserialize(Cell { assembler: self.assembler, node, depth: self.depth }).map(Some)
    }
}

impl<'de> de::MapAccess<'de> for Fields<'_> {
    type Error = ColumnError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ColumnError> {
        let at = (self.next - self.assembler.first[self.shape as usize]) as usize;
        let Some((name, _)) = self.assembler.schema.shapes[self.shape as usize].members.get(at) else {
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
    /// In the reader's list of variants, where it is known.
    place: Option<u32>,
}

impl<'de, 'a> de::EnumAccess<'de> for Variant<'a> {
    type Error = ColumnError;
    type Variant = Cell<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Cell<'a>), ColumnError> {
        let members = &self.assembler.schema.shapes[self.shape as usize].members;
        let (name, node) =
            members.get(self.index).ok_or(ColumnError::Malformed(&"a variant is not declared"))?;
        let node = *node;
        let variant = match self.place {
            Some(place) => seed.deserialize(U32Deserializer::<ColumnError>::new(place))?,
            None => seed.deserialize(StrDeserializer::<ColumnError>::new(name))?,
        };
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
