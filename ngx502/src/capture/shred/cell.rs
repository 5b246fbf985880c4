//! What serde offers for one position of one row, and for the members below it.

use serde::ser::{self, Serialize};

use super::super::columns::{ColumnError, Kind, NodeId, ShapeId};
use super::{CHANGED, Shredder};

const NO_MAPS: ColumnError = ColumnError::Malformed(&"records have no maps");

/// One position of one row.
pub(super) struct Cell<'a> {
    pub(super) shredder: &'a mut Shredder,
    pub(super) node: NodeId,
}

/// The members of a value with several: fields, elements.
pub(super) struct Members<'a> {
    shredder: &'a mut Shredder,
    /// Of structs.
    shape: ShapeId,
    /// Of sequences and tuples: the next element's node.
    element: NodeId,
    /// How far nodes lie apart: 0 in a sequence, 1 in a tuple.
    step: u32,
    at: usize,
}

impl<'a> Cell<'a> {
    fn members(self, shape: ShapeId, element: NodeId, step: u32) -> Members<'a> {
        Members { shredder: self.shredder, shape, element, step, at: 0 }
    }
}

macro_rules! integers {
    ($($method:ident($type:ty) = $kind:ident via $wide:ty;)+) => {
        $(fn $method(self, value: $type) -> Result<(), ColumnError> {
            self.shredder.integer(self.node, Kind::$kind, <$wide>::from(value) as u64)
        })+
    };
}

impl<'a> ser::Serializer for Cell<'a> {
    type Ok = ();
    type Error = ColumnError;
    type SerializeSeq = Members<'a>;
    type SerializeTuple = Members<'a>;
    type SerializeTupleStruct = Members<'a>;
    type SerializeTupleVariant = Members<'a>;
    type SerializeMap = ser::Impossible<(), ColumnError>;
    type SerializeStruct = Members<'a>;
    type SerializeStructVariant = Members<'a>;

    integers! {
        serialize_u8(u8) = Unsigned via u64;
        serialize_u16(u16) = Unsigned via u64;
        serialize_u32(u32) = Unsigned via u64;
        serialize_u64(u64) = Unsigned via u64;
        serialize_i8(i8) = Signed via i64;
        serialize_i16(i16) = Signed via i64;
        serialize_i32(i32) = Signed via i64;
        serialize_i64(i64) = Signed via i64;
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    fn serialize_bool(self, value: bool) -> Result<(), ColumnError> {
        self.shredder.kind(self.node, |_| Kind::Bool);
        self.shredder.put(self.node, u64::from(value));
        Ok(())
    }

    fn serialize_f32(self, value: f32) -> Result<(), ColumnError> {
        self.serialize_f64(f64::from(value))
    }

    fn serialize_f64(self, value: f64) -> Result<(), ColumnError> {
        self.shredder.kind(self.node, |_| Kind::Float);
        self.shredder.columns[self.node as usize].bytes.extend_from_slice(&value.to_le_bytes());
        self.shredder.size += 8;
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), ColumnError> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), ColumnError> {
        self.shredder.bytes(self.node, Kind::Text, value.as_bytes())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), ColumnError> {
        self.shredder.bytes(self.node, Kind::Bytes, value)
    }

    fn serialize_none(self) -> Result<(), ColumnError> {
        self.shredder.kind(self.node, |shredder| Kind::Option(shredder.allocate(1)));
        self.shredder.put(self.node, 0);
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), ColumnError> {
        let kind = self.shredder.kind(self.node, |shredder| Kind::Option(shredder.allocate(1)));
        let Kind::Option(inner) = kind else { return Err(CHANGED) };
        self.shredder.put(self.node, 1);
        value.serialize(Cell { shredder: self.shredder, node: inner })
    }

    fn serialize_unit(self) -> Result<(), ColumnError> {
        self.shredder.kind(self.node, |_| Kind::Unit);
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), ColumnError> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, of: &'static str, _: u32, name: &'static str) -> Result<(), ColumnError> {
        let node = self.shredder.variant(self.node, of, name)?;
        Cell { shredder: self.shredder, node }.serialize_unit()
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), ColumnError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        of: &'static str,
        _: u32,
        name: &'static str,
        value: &T,
    ) -> Result<(), ColumnError> {
        let node = self.shredder.variant(self.node, of, name)?;
        value.serialize(Cell { shredder: self.shredder, node })
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Members<'a>, ColumnError> {
        let len = len.ok_or(ColumnError::Malformed(&"a sequence does not know its length"))?;
        let kind = self.shredder.kind(self.node, |shredder| Kind::Sequence(shredder.allocate(1)));
        let Kind::Sequence(inner) = kind else { return Err(CHANGED) };
        self.shredder.put(self.node, len as u64);
        Ok(self.members(0, inner, 0))
    }

    fn serialize_tuple(self, len: usize) -> Result<Members<'a>, ColumnError> {
        let first = self.shredder.tuple(self.node, len)?;
        Ok(self.members(0, first, 1))
    }

    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<Members<'a>, ColumnError> {
        self.serialize_tuple(len)
    }

    fn serialize_tuple_variant(
        self,
        of: &'static str,
        _: u32,
        name: &'static str,
        len: usize,
    ) -> Result<Members<'a>, ColumnError> {
        let node = self.shredder.variant(self.node, of, name)?;
        Cell { shredder: self.shredder, node }.serialize_tuple(len)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, ColumnError> {
        Err(NO_MAPS)
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Members<'a>, ColumnError> {
        let shape = self.shredder.fields(self.node, Some(name))?;
        Ok(self.members(shape, 0, 0))
    }

    fn serialize_struct_variant(
        self,
        of: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Members<'a>, ColumnError> {
        let node = self.shredder.variant(self.node, of, name)?;
        let shape = self.shredder.fields(node, None)?;
        Ok(self.members(shape, 0, 0))
    }
}

impl Members<'_> {
    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ColumnError> {
        let node = self.element;
        self.element += self.step;
        value.serialize(Cell { shredder: self.shredder, node })
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), ColumnError> {
        let node = self.shredder.member(self.shape, self.at, name)?;
        self.at += 1;
        value.serialize(Cell { shredder: self.shredder, node })
    }
}

macro_rules! members {
    ($($trait:ident::$method:ident)+) => {
        $(impl ser::$trait for Members<'_> {
            type Ok = ();
            type Error = ColumnError;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ColumnError> {
                self.element(value)
            }

            fn end(self) -> Result<(), ColumnError> {
                Ok(())
            }
        })+
    };
    (named $($trait:ident)+) => {
        $(impl ser::$trait for Members<'_> {
            type Ok = ();
            type Error = ColumnError;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), ColumnError> {
                self.field(name, value)
            }

            fn end(self) -> Result<(), ColumnError> {
                Ok(())
            }
        })+
    };
}

members! {
    SerializeSeq::serialize_element
    SerializeTuple::serialize_element
    SerializeTupleStruct::serialize_field
    SerializeTupleVariant::serialize_field
}
members! { named SerializeStruct SerializeStructVariant }
