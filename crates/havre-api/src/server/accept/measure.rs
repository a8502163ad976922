//! How large a JSON document is, found out without keeping any of it: 32 MiB of empty lists would
//! become half a gigabyte of values.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Values in one document: more than the largest project has.
const MAX_VALUES: usize = 1_000_000;
/// Bytes of one text: as much as all texts of a file may have.
const MAX_TEXT_BYTES: usize = 8 << 20;

/// Refuses a document that is no JSON, or has too many values or too long a text. How deep it may be
/// nested is the parser's bound.
pub(super) fn document(bytes: &[u8]) -> serde_json::Result<()> {
    let mut parser = serde_json::Deserializer::from_slice(bytes);
    let mut values = 0;
    Measure(&mut values).deserialize(&mut parser)?;
    parser.end()
}

struct Measure<'a>(&'a mut usize);

impl Measure<'_> {
    fn text<E: Error>(text: &str) -> Result<(), E> {
        match text.len() <= MAX_TEXT_BYTES {
            true => Ok(()),
            false => Err(E::custom(format_args!(
                "a text is longer than {MAX_TEXT_BYTES} bytes"
            ))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Measure<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        *self.0 += 1;
        if *self.0 > MAX_VALUES {
            return Err(D::Error::custom(format_args!(
                "more than {MAX_VALUES} values"
            )));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Measure<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        Self::text(text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Measure(&mut *self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_key_seed(Measure(&mut *self.0))?.is_some() {
            map.next_value_seed(Measure(&mut *self.0))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_measured() {
        for (text, sound) in [
            (
                r#"{"a": [1, -2, 3.5, null, true, "x"], "b": {}}"#.to_owned(),
                true,
            ),
            (format!("[{}]", vec!["[]"; MAX_VALUES - 1].join(",")), true),
            (format!("[{}]", vec!["[]"; MAX_VALUES].join(",")), false),
            (format!("{:?}", "x".repeat(MAX_TEXT_BYTES)), true),
            (format!("[{:?}]", "x".repeat(MAX_TEXT_BYTES + 1)), false),
            (
                format!("{{{:?}: 1}}", "x".repeat(MAX_TEXT_BYTES + 1)),
                false,
            ),
            (format!("{}1{}", "[".repeat(1000), "]".repeat(1000)), false),
            ("1 2".to_owned(), false),
            ("{,}".to_owned(), false),
        ] {
            let start: String = text.chars().take(40).collect();
            assert_eq!(document(text.as_bytes()).is_ok(), sound, "{start}");
        }
    }
}
