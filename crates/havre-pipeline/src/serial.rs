//! Values of expressions as they are kept, in their order.

use std::fmt;

use havre_expressions::{Object, Value};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap as _, SerializeSeq as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(crate) fn serialize<S: Serializer>(object: &Object, to: S) -> Result<S::Ok, S::Error> {
    let mut map = to.serialize_map(Some(object.len()))?;
    for (name, value) in object.iter() {
        map.serialize_entry(name, &Json(value.clone()))?;
    }
    map.end()
}

pub(crate) fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<Object, D::Error> {
    match Json::deserialize(from)?.0 {
        Value::Object(object) => Ok(Object::clone(&object)),
        _ => Err(serde::de::Error::custom("a combination is a mapping")),
    }
}

/// A value as JSON, its names in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Json(pub Value);

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Value::Null => to.serialize_unit(),
            Value::Bool(value) => to.serialize_bool(*value),
            // JSON has no other; as a text it means the same to expressions.
            Value::Number(number) if !number.is_finite() => to.serialize_str(&self.0.to_text()),
            Value::Number(number) => to.serialize_f64(*number),
            Value::String(text) => to.serialize_str(text),
            Value::Array(items) => {
                let mut list = to.serialize_seq(Some(items.len()))?;
                for item in items.iter() {
                    list.serialize_element(&Json(item.clone()))?;
                }
                list.end()
            }
            Value::Object(object) => serialize(object, to),
        }
    }
}

impl<'d> Deserialize<'d> for Json {
    fn deserialize<D: Deserializer<'d>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Reading).map(Self)
    }
}

struct Reading;

impl<'d> Visitor<'d> for Reading {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of a matrix")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Number(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Number(number as f64))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Number(number as f64))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'d>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Json(value)) = items.next_element()? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'d>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Object::default();
        while let Some((name, Json(value))) = entries.next_entry::<String, Json>()? {
            object.insert(name, value);
        }
        Ok(object.into())
    }
}
