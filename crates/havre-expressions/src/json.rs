//! Values from JSON and to JSON. Objects keep their order, numbers are read exactly, and both are metered, none of
//! which serde_json does with the features that the workspace has.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::meter::{Exhausted, Meter};
use crate::number;
use crate::value::{Object, Value};

/// Deepest nesting of lists and objects.
pub const MAX_JSON_DEPTH: usize = 128;

/// What a value takes beside its text; an entry of an object takes its name twice, and a place in a table.
const VALUE_BYTES: usize = 40;
const ENTRY_BYTES: usize = 100;

/// Why a text is no JSON, or a value cannot be written as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// It ends too early.
    #[error("the JSON ends too early")]
    End,
    /// Something else should be there.
    #[error("it is not JSON at byte {at}: {expected} should be there")]
    Syntax {
        /// From 0.
        at: usize,
        /// What should be there.
        expected: &'static str,
    },
    /// It is nested too deeply.
    #[error("it is nested more than {MAX_JSON_DEPTH} deep")]
    Depth,
}

/// Why reading or writing stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    Json(JsonError),
    Exhausted(Exhausted),
}

impl Value {
    /// Reads JSON. It takes some dozen times the memory of the text at most: whoever gives the text bounds it.
    pub fn from_json(text: &str) -> Result<Self, JsonError> {
        match read(text, &mut Meter::boundless()) {
            Ok(value) => Ok(value),
            Err(Stopped::Json(error)) => Err(error),
            Err(Stopped::Exhausted(_)) => unreachable!("the meter has no bounds"),
        }
    }

    /// As JSON, indented by two; what is no number of JSON is null. Whoever made the value has bounded it.
    pub fn to_json(&self) -> Result<String, JsonError> {
        match write(self, &mut Meter::boundless()) {
            Ok(text) => Ok(text),
            Err(Stopped::Json(error)) => Err(error),
            Err(Stopped::Exhausted(_)) => unreachable!("the meter has no bounds"),
        }
    }
}

pub(crate) fn read(text: &str, meter: &mut Meter) -> Result<Value, Stopped> {
    let mut reader = Reader { text, at: 0, meter };
    let value = reader.value(0)?;
    reader.blanks();
    match reader.peek() {
        None => Ok(value),
        Some(_) => Err(reader.expected("the end")),
    }
}

/// Indented by two, as the runner writes it. What is no number of JSON (NaN, Infinity) is null.
pub(crate) fn write(value: &Value, meter: &mut Meter) -> Result<String, Stopped> {
    let mut out = String::new();
    Writer {
        out: &mut out,
        meter,
        metered: 0,
    }
    .value(value, 0)?;
    Ok(out)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    meter: &'a mut Meter,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Result<Value, Stopped> {
        self.blanks();
        self.make(VALUE_BYTES)?;
        match self.peek() {
            Some(b'{') => self.object(depth + 1),
            Some(b'[') => self.array(depth + 1),
            Some(b'"') => Ok(Value::String(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            _ => Err(self.expected("a value")),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, Stopped> {
        bounded(depth)?;
        let mut object = Object::default();
        self.at += 1;
        self.blanks();
        if self.eat(b'}') {
            return Ok(object.into());
        }
        loop {
            self.blanks();
            if self.peek() != Some(b'"') {
                return Err(self.expected("a name in double quotes"));
            }
            let name = self.string()?;
            self.make(ENTRY_BYTES + name.len())?;
            self.blanks();
            if !self.eat(b':') {
                return Err(self.expected("`:`"));
            }
            object.insert(name, self.value(depth)?);
            self.blanks();
            if self.eat(b'}') {
                return Ok(object.into());
            }
            if !self.eat(b',') {
                return Err(self.expected("`,` or `}`"));
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, Stopped> {
        bounded(depth)?;
        let mut items = Vec::new();
        self.at += 1;
        self.blanks();
        if self.eat(b']') {
            return Ok(items.into());
        }
        loop {
            items.push(self.value(depth)?);
            self.blanks();
            if self.eat(b']') {
                return Ok(items.into());
            }
            if !self.eat(b',') {
                return Err(self.expected("`,` or `]`"));
            }
        }
    }

    fn string(&mut self) -> Result<Arc<str>, Stopped> {
        self.at += 1;
        let rest = &self.text[self.at..];
        let plain = rest
            .bytes()
            .position(|b| matches!(b, b'"' | b'\\' | ..0x20));
        if let Some(end) = plain
            && rest.as_bytes()[end] == b'"'
        {
            self.make(end)?;
            self.at += end + 1;
            return Ok(rest[..end].into());
        }
        let mut out = String::new();
        loop {
            let rest = &self.text[self.at..];
            let Some(end) = rest
                .bytes()
                .position(|b| matches!(b, b'"' | b'\\' | ..0x20))
            else {
                self.at = self.text.len();
                return Err(self.expected("`\"`"));
            };
            self.make(end + 4)?;
            out.push_str(&rest[..end]);
            self.at += end;
            match rest.as_bytes()[end] {
                b'"' => {
                    self.at += 1;
                    return Ok(out.into());
                }
                b'\\' => out.push(self.escape()?),
                _ => return Err(self.expected("no control character")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Stopped> {
        self.at += 1;
        let c = match self.peek() {
            Some(c @ (b'"' | b'\\' | b'/')) => char::from(c),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode();
            }
            _ => return Err(self.expected("an escape")),
        };
        self.at += 1;
        Ok(c)
    }

    /// Half a pair stands for what cannot be read.
    fn unicode(&mut self) -> Result<char, Stopped> {
        let first = self.hex()?;
        if let 0xd800..=0xdbff = first
            && self.text[self.at..].starts_with("\\u")
        {
            let before = self.at;
            self.at += 2;
            if let low @ 0xdc00..=0xdfff = self.hex()? {
                let pair = 0x1_0000 + ((first - 0xd800) << 10) + (low - 0xdc00);
                return Ok(char::from_u32(pair).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = before;
        }
        Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex(&mut self) -> Result<u32, Stopped> {
        let digits = self.text.get(self.at..self.at + 4);
        let is_hex = |digits: &&str| digits.bytes().all(|b| b.is_ascii_hexdigit());
        let number = digits
            .filter(is_hex)
            .and_then(|digits| u32::from_str_radix(digits, 16).ok());
        match number {
            Some(number) => {
                self.at += 4;
                Ok(number)
            }
            None => Err(self.expected("four hex digits")),
        }
    }

    fn number(&mut self) -> Result<Value, Stopped> {
        let begin = self.at;
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            if !self.eat(b'+') {
                self.eat(b'-');
            }
            self.digits()?;
        }
        Ok(Value::Number(number::of_text(&self.text[begin..self.at])))
    }

    fn digits(&mut self) -> Result<(), Stopped> {
        let begin = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        match self.at > begin {
            true => Ok(()),
            false => Err(self.expected("a digit")),
        }
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, Stopped> {
        if self.text[self.at..].starts_with(word) {
            self.at += word.len();
            return Ok(value);
        }
        Err(self.expected("a value"))
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    fn make(&mut self, bytes: usize) -> Result<(), Stopped> {
        self.meter.make(bytes).map_err(Stopped::Exhausted)
    }

    fn expected(&self, expected: &'static str) -> Stopped {
        Stopped::Json(match self.at >= self.text.len() {
            true => JsonError::End,
            false => JsonError::Syntax {
                at: self.at,
                expected,
            },
        })
    }
}

struct Writer<'a> {
    out: &'a mut String,
    meter: &'a mut Meter,
    /// How much of `out` is metered.
    metered: usize,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Stopped> {
        match value {
            Value::Number(number) if !number.is_finite() => self.out.push_str("null"),
            Value::Null => self.out.push_str("null"),
            Value::Bool(_) | Value::Number(_) => self.out.push_str(&value.to_text()),
            Value::String(text) => self.string(text)?,
            Value::Array(items) if items.is_empty() => self.out.push_str("[]"),
            Value::Array(items) => {
                bounded(depth + 1)?;
                for (n, item) in items.iter().enumerate() {
                    self.next(if n == 0 { '[' } else { ',' }, depth + 1)?;
                    self.value(item, depth + 1)?;
                }
                self.line(depth);
                self.out.push(']');
            }
            Value::Object(object) if object.is_empty() => self.out.push_str("{}"),
            Value::Object(object) => {
                bounded(depth + 1)?;
                for (n, (name, value)) in object.iter().enumerate() {
                    self.next(if n == 0 { '{' } else { ',' }, depth + 1)?;
                    self.string(name)?;
                    self.out.push_str(": ");
                    self.value(value, depth + 1)?;
                }
                self.line(depth);
                self.out.push('}');
            }
        }
        self.meter()
    }

    fn next(&mut self, before: char, depth: usize) -> Result<(), Stopped> {
        self.out.push(before);
        self.line(depth);
        self.meter()
    }

    fn line(&mut self, depth: usize) {
        self.out.push('\n');
        for _ in 0..depth {
            self.out.push_str("  ");
        }
    }

    fn string(&mut self, text: &str) -> Result<(), Stopped> {
        self.meter.look(text.len()).map_err(Stopped::Exhausted)?;
        self.out.push('"');
        for (n, c) in text.chars().enumerate() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                '\u{0}'..='\u{1f}' => {
                    let written = write!(self.out, "\\u{:04x}", u32::from(c));
                    written.expect("a string takes everything");
                }
                c => self.out.push(c),
            }
            if n % 4096 == 0 {
                self.meter()?;
            }
        }
        self.out.push('"');
        Ok(())
    }

    fn meter(&mut self) -> Result<(), Stopped> {
        let more = self.out.len() - self.metered;
        self.metered = self.out.len();
        self.meter.make(more).map_err(Stopped::Exhausted)
    }
}

fn bounded(depth: usize) -> Result<(), Stopped> {
    match depth > MAX_JSON_DEPTH {
        true => Err(Stopped::Json(JsonError::Depth)),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_alike() {
        let text = "{\n  \"b\": [\n    1,\n    -0.5,\n    null,\n    {}\n  ],\n  \"A\": \"\\u0001\\\"\\\\é\\n😀\"\n}";
        let value = Value::from_json(text).unwrap();
        assert_eq!(write(&value, &mut Meter::boundless()).unwrap(), text);
        let pair = Value::from_json(r#""\ud83d\ude00\/\u00e9\ud83d\ud83dx""#).unwrap();
        assert_eq!(pair, Value::from("😀/é\u{fffd}\u{fffd}x"));
        assert_eq!(Value::from_json("0.1").unwrap(), Value::Number(0.1));
        assert_eq!(
            write(&f64::NAN.into(), &mut Meter::boundless()).unwrap(),
            "null"
        );
    }

    #[test]
    fn the_last_of_a_name_counts() {
        let value = Value::from_json(r#"{"a": 1, "b": 2, "A": 3}"#).unwrap();
        let entries: Object = [("a", 3.0), ("b", 2.0)].into_iter().collect();
        assert_eq!(value, entries.into());
    }

    #[test]
    fn nothing_but_json_is_json() {
        for text in [
            "",
            " ",
            "[",
            "[1",
            "[1,",
            "[1,]",
            "{",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":1,}",
            "{a:1}",
            "'a'",
            "\"",
            "\"\\",
            "\"\\u12\"",
            "\"\\u+123\"",
            "\"\\u00é\"",
            "\"\\x\"",
            "\"\n\"",
            "01",
            "1.",
            ".5",
            "+1",
            "-",
            "1e",
            "NaN",
            "Infinity",
            "truth",
            "1 2",
            "[1 2]",
            "// x\n1",
            "\u{feff}1",
        ] {
            assert!(Value::from_json(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        let deepest = Value::from_json(&nested(MAX_JSON_DEPTH)).unwrap();
        let deeper = Value::from_json(&nested(MAX_JSON_DEPTH + 1));
        assert_eq!(deeper, Err(JsonError::Depth));
        assert!(write(&deepest, &mut Meter::boundless()).is_ok());
        let deeper = write(&vec![deepest].into(), &mut Meter::boundless());
        assert_eq!(deeper, Err(Stopped::Json(JsonError::Depth)));
    }
}
