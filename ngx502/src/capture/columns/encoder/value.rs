//! What serde offers for one node of one row, and for the members below it.

use serde::ser::{self, Serialize};

use super::{CHANGED, ColumnEncoder};
use crate::capture::columns::schema::{ColumnType, CompositeId, NodeId};
use crate::capture::columns::{ColumnError, Result};

/// Writes the value of one node.
pub(super) struct ValueEncoder<'a> {
    pub(super) encoder: &'a mut ColumnEncoder,
    pub(super) node: NodeId,
}

/// Writes the members of a value with several: fields, elements.
pub(super) struct MemberEncoder<'a> {
    encoder: &'a mut ColumnEncoder,
    /// Of structs.
    composite: CompositeId,
    /// How many fields are written.
    written: usize,
    /// Of sequences and tuples: the next element's node.
    next: NodeId,
    /// How far the elements' nodes lie apart: 0 in a sequence, 1 in a tuple.
    step: u32,
}

impl<'a> ValueEncoder<'a> {
    fn at(self, node: NodeId) -> Self {
        ValueEncoder { encoder: self.encoder, node }
    }

    fn elements(self, next: NodeId, step: u32) -> MemberEncoder<'a> {
        MemberEncoder { encoder: self.encoder, composite: 0, written: 0, next, step }
    }

    fn fields(self, name: Option<&'static str>) -> Result<MemberEncoder<'a>> {
        let composite = self.encoder.fields(self.node, name)?;
        Ok(MemberEncoder { encoder: self.encoder, composite, written: 0, next: 0, step: 0 })
    }

    /// Its payload's encoder.
    fn variant(self, of: &'static str, name: &'static str) -> Result<Self> {
        let node = self.encoder.variant(self.node, of, name)?;
        Ok(self.at(node))
    }

    /// Whether there is a value; returns the node of the value.
    fn option(&mut self, is_some: bool) -> Result<NodeId> {
        let found = self.encoder.type_of(self.node, |encoder| ColumnType::Option(encoder.allocate(1)));
        let ColumnType::Option(inner) = found else { return Err(CHANGED) };
        self.encoder.put(self.node, is_some.into());
        Ok(inner)
    }
}

macro_rules! integers {
    ($($method:ident($type:ty) = $column:ident via $wide:ty;)+) => {
        $(fn $method(self, value: $type) -> Result {
            self.encoder.integer(self.node, ColumnType::$column, <$wide>::from(value) as u64)
        })+
    };
}

impl<'a> ser::Serializer for ValueEncoder<'a> {
    type Ok = ();
    type Error = ColumnError;
    type SerializeSeq = MemberEncoder<'a>;
    type SerializeTuple = MemberEncoder<'a>;
    type SerializeTupleStruct = MemberEncoder<'a>;
    type SerializeTupleVariant = MemberEncoder<'a>;
    type SerializeMap = ser::Impossible<(), ColumnError>;
    type SerializeStruct = MemberEncoder<'a>;
    type SerializeStructVariant = MemberEncoder<'a>;

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

    fn serialize_bool(self, value: bool) -> Result {
        self.encoder.expect(self.node, ColumnType::Bool)?;
        self.encoder.put(self.node, value.into());
        Ok(())
    }

    fn serialize_f32(self, value: f32) -> Result {
        self.encoder.float(self.node, value.into())
    }

    fn serialize_f64(self, value: f64) -> Result {
        self.encoder.float(self.node, value)
    }

    fn serialize_char(self, value: char) -> Result {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result {
        self.encoder.bytes(self.node, ColumnType::Text, value.as_bytes())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result {
        self.encoder.bytes(self.node, ColumnType::Bytes, value)
    }

    fn serialize_none(mut self) -> Result {
        self.option(false).map(drop)
    }

    fn serialize_some<T: Serialize + ?Sized>(mut self, value: &T) -> Result {
        let inner = self.option(true)?;
        value.serialize(self.at(inner))
    }

    fn serialize_unit(self) -> Result {
        self.encoder.expect(self.node, ColumnType::Unit)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, of: &'static str, _: u32, name: &'static str) -> Result {
        self.variant(of, name)?.serialize_unit()
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        of: &'static str,
        _: u32,
        name: &'static str,
        value: &T,
    ) -> Result {
        value.serialize(self.variant(of, name)?)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<MemberEncoder<'a>> {
        let len = len.ok_or(ColumnError::Malformed(&"a sequence does not know its length"))?;
        let found = self.encoder.type_of(self.node, |encoder| ColumnType::Sequence(encoder.allocate(1)));
        let ColumnType::Sequence(inner) = found else { return Err(CHANGED) };
        self.encoder.put(self.node, len as u64);
        Ok(self.elements(inner, 0))
    }

    fn serialize_tuple(self, len: usize) -> Result<MemberEncoder<'a>> {
        let first = self.encoder.tuple(self.node, len)?;
        Ok(self.elements(first, 1))
    }

    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<MemberEncoder<'a>> {
        self.serialize_tuple(len)
    }

    fn serialize_tuple_variant(
        self,
        of: &'static str,
        _: u32,
        name: &'static str,
        len: usize,
    ) -> Result<MemberEncoder<'a>> {
        self.variant(of, name)?.serialize_tuple(len)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap> {
        Err(ColumnError::Malformed(&"records have no maps"))
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<MemberEncoder<'a>> {
        self.fields(Some(name))
    }

    fn serialize_struct_variant(
        self,
        of: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<MemberEncoder<'a>> {
        self.variant(of, name)?.fields(None)
    }
}

impl MemberEncoder<'_> {
    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result {
        let node = self.next;
        self.next += self.step;
        value.serialize(ValueEncoder { encoder: self.encoder, node })
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result {
        let node = self.encoder.member(self.composite, self.written, name)?;
        self.written += 1;
        value.serialize(ValueEncoder { encoder: self.encoder, node })
    }
}

macro_rules! members {
    ($($trait:ident::$method:ident = $of:ident($($name:ident)?);)+) => {
        $(impl ser::$trait for MemberEncoder<'_> {
            type Ok = ();
            type Error = ColumnError;

            fn $method<T: Serialize + ?Sized>(&mut self, $($name: &'static str,)? value: &T) -> Result {
                self.$of($($name,)? value)
            }

            fn end(self) -> Result {
                Ok(())
            }
        })+
    };
}

members! {
    SerializeSeq::serialize_element = element();
    SerializeTuple::serialize_element = element();
    SerializeTupleStruct::serialize_field = element();
    SerializeTupleVariant::serialize_field = element();
    SerializeStruct::serialize_field = field(name);
    SerializeStructVariant::serialize_field = field(name);
}
