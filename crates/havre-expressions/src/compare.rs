//! `==`, `<` and `>`: values of two kinds are compared as numbers, texts without regard to case.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::fold;
use crate::meter::{Exhausted, Meter};
use crate::value::Value;

/// Lists and objects equal themselves only.
pub(crate) fn equal(a: &Value, b: &Value, meter: &mut Meter) -> Result<bool, Exhausted> {
    Ok(match (a, b) {
        (Value::String(a), Value::String(b)) => {
            meter.look(a.len().saturating_add(b.len()))?;
            fold::equal(a, b)
        }
        (Value::Array(a), Value::Array(b)) => Arc::ptr_eq(a, b),
        (Value::Object(a), Value::Object(b)) => Arc::ptr_eq(a, b),
        (a, b) => number(a, meter)? == number(b, meter)?,
    })
}

/// None where neither is before the other and they are not equal in rank: NaN, null, lists, objects.
pub(crate) fn order(
    a: &Value,
    b: &Value,
    meter: &mut Meter,
) -> Result<Option<Ordering>, Exhausted> {
    Ok(match (a, b) {
        (Value::String(a), Value::String(b)) => {
            meter.look(a.len().min(b.len()))?;
            Some(fold::order(a, b))
        }
        (Value::Null, Value::Null) => None,
        (a, b) => number(a, meter)?.partial_cmp(&number(b, meter)?),
    })
}

fn number(value: &Value, meter: &mut Meter) -> Result<f64, Exhausted> {
    if let Value::String(text) = value {
        meter.look(text.len())?;
    }
    Ok(value.to_number())
}
