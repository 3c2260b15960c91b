//! From any serialisable value to a tree of nodes that still knows what was a struct, what a map and what a time.

use crate::base::time::NEWTYPE;
use serde::ser::{self, Serialize};
use std::fmt;

/// A node of the document.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// Written as it stands: numbers, booleans, null, times.
    Plain(String),
    /// A string, quoted where needed.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// Key and value; sorted already if it was a map.
    Map(Vec<(String, Node)>),
}

/// Builds the tree of `value`.
pub fn build<T: Serialize + ?Sized>(value: &T) -> Result<Node, Failure> {
    value.serialize(Builder)
}

/// What a value's own serialisation complained about.
#[derive(Debug)]
pub struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl ser::Error for Failure {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

struct Builder;

macro_rules! plain {
    ($($method:ident($type:ty);)*) => {$(
        fn $method(self, v: $type) -> Result<Node, Failure> {
            Ok(Node::Plain(v.to_string()))
        }
    )*};
}

impl ser::Serializer for Builder {
    type Ok = Node;
    type Error = Failure;
    type SerializeSeq = List;
    type SerializeTuple = List;
    type SerializeTupleStruct = List;
    type SerializeTupleVariant = ser::Impossible<Node, Failure>;
    type SerializeMap = Map;
    type SerializeStruct = Map;
    type SerializeStructVariant = ser::Impossible<Node, Failure>;

    plain! {
        serialize_bool(bool); serialize_i8(i8); serialize_i16(i16); serialize_i32(i32); serialize_i64(i64);
        serialize_u8(u8); serialize_u16(u16); serialize_u32(u32); serialize_u64(u64); serialize_f32(f32);
        serialize_f64(f64);
    }

    fn serialize_char(self, v: char) -> Result<Node, Failure> {
        Ok(Node::Text(v.to_string()))
    }
    fn serialize_str(self, v: &str) -> Result<Node, Failure> {
        Ok(Node::Text(v.to_string()))
    }
    fn serialize_bytes(self, _: &[u8]) -> Result<Node, Failure> {
        Err(ser::Error::custom("bytes have no YAML form here"))
    }
    fn serialize_none(self) -> Result<Node, Failure> {
        Ok(Node::Plain("null".to_string()))
    }
    fn serialize_some<T: Serialize + ?Sized>(self, v: &T) -> Result<Node, Failure> {
        v.serialize(self)
    }
    fn serialize_unit(self) -> Result<Node, Failure> {
        self.serialize_none()
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<Node, Failure> {
        self.serialize_none()
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<Node, Failure> {
        self.serialize_str(variant)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, v: &T) -> Result<Node, Failure> {
        match v.serialize(self)? {
            Node::Text(time) if name == NEWTYPE => Ok(Node::Plain(time)),
            Node::Plain(_) if name == super::nil::LIST => Ok(Node::List(Vec::new())),
            Node::Plain(_) if name == super::nil::MAP => Ok(Node::Map(Vec::new())),
            node => Ok(node),
        }
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        v: &T,
    ) -> Result<Node, Failure> {
        Ok(Node::Map(vec![(variant.to_string(), v.serialize(self)?)]))
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<List, Failure> {
        Ok(List(Vec::new()))
    }
    fn serialize_tuple(self, _: usize) -> Result<List, Failure> {
        Ok(List(Vec::new()))
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<List, Failure> {
        Ok(List(Vec::new()))
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Failure> {
        Err(ser::Error::custom("tuple variants have no YAML form here"))
    }
    /// A map says its length; a struct with flattened fields comes as a map without one and keeps its order.
    fn serialize_map(self, len: Option<usize>) -> Result<Map, Failure> {
        Ok(Map { entries: Vec::new(), key: None, sorted: len.is_some() })
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Map, Failure> {
        Ok(Map { entries: Vec::new(), key: None, sorted: false })
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Failure> {
        Err(ser::Error::custom("struct variants have no YAML form here"))
    }
}

struct List(Vec<Node>);

impl ser::SerializeSeq for List {
    type Ok = Node;
    type Error = Failure;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, v: &T) -> Result<(), Failure> {
        self.0.push(build(v)?);
        Ok(())
    }
    fn end(self) -> Result<Node, Failure> {
        Ok(Node::List(self.0))
    }
}

impl ser::SerializeTuple for List {
    type Ok = Node;
    type Error = Failure;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, v: &T) -> Result<(), Failure> {
        ser::SerializeSeq::serialize_element(self, v)
    }
    fn end(self) -> Result<Node, Failure> {
        ser::SerializeSeq::end(self)
    }
}

impl ser::SerializeTupleStruct for List {
    type Ok = Node;
    type Error = Failure;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, v: &T) -> Result<(), Failure> {
        ser::SerializeSeq::serialize_element(self, v)
    }
    fn end(self) -> Result<Node, Failure> {
        ser::SerializeSeq::end(self)
    }
}

struct Map {
    entries: Vec<(String, Node)>,
    key: Option<String>,
    sorted: bool,
}

impl ser::SerializeMap for Map {
    type Ok = Node;
    type Error = Failure;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Failure> {
        self.key = match build(key)? {
            Node::Text(key) | Node::Plain(key) => Some(key),
            Node::List(_) | Node::Map(_) => return Err(ser::Error::custom("keys must be scalars")),
        };
        Ok(())
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, v: &T) -> Result<(), Failure> {
        let key = self.key.take().ok_or_else(|| <Failure as ser::Error>::custom("a value without key"))?;
        self.entries.push((key, build(v)?));
        Ok(())
    }
    fn end(mut self) -> Result<Node, Failure> {
        if self.sorted {
            self.entries.sort_by(|a, b| super::emit::key_order(&a.0, &b.0));
        }
        Ok(Node::Map(self.entries))
    }
}

impl ser::SerializeStruct for Map {
    type Ok = Node;
    type Error = Failure;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, v: &T) -> Result<(), Failure> {
        self.entries.push((key.to_string(), build(v)?));
        Ok(())
    }
    fn end(self) -> Result<Node, Failure> {
        Ok(Node::Map(self.entries))
    }
}
