//! What the parser does not tell of an expression: where its calls are, with how many arguments, and how many operators
//! it has. It knows tokens as the parser does, and leaves to it what is wrong with them.

use std::ops::Range;

/// Most binary operators. The parser nests what stands in a row, and frees it by recursion.
pub const MAX_OPERATORS: usize = 1000;

/// What an expression has.
#[derive(Debug, Default)]
pub(crate) struct Scanned {
    /// In the order in which they begin.
    pub(crate) calls: Vec<Call>,
    pub(crate) operators: usize,
    /// The first `)` behind a comma.
    pub(crate) dangling: Option<usize>,
}

/// A name before an opening parenthesis.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) name: Range<usize>,
    /// None where it is not closed.
    pub(crate) arguments: Option<usize>,
}

impl Scanned {
    /// The first call that begins there or behind.
    pub(crate) fn call_from(&self, begin: usize) -> Option<&Call> {
        let before = self.calls.partition_point(|call| call.name.start < begin);
        self.calls.get(before)
    }
}

/// An opening parenthesis or bracket.
struct Open {
    call: Option<usize>,
    commas: usize,
    /// Whether nothing is in it yet.
    is_empty: bool,
}

pub(crate) fn scan(text: &str) -> Scanned {
    let bytes = text.as_bytes();
    let mut scanned = Scanned::default();
    let mut open: Vec<Open> = Vec::new();
    let mut at = 0;
    let mut name: Option<Range<usize>> = None;
    let mut after_comma = false;
    while let Some(&byte) = bytes.get(at) {
        let begin = at;
        at += 1;
        if byte.is_ascii_whitespace() {
            continue;
        }
        let before = name.take();
        let is_behind_comma = std::mem::take(&mut after_comma);
        if let (Some(open), false) = (open.last_mut(), matches!(byte, b')' | b']')) {
            open.is_empty = false;
        }
        match byte {
            b'(' | b'[' => {
                let is_call = byte == b'(' && before.is_some();
                let call = is_call.then_some(scanned.calls.len());
                if let (b'(', Some(name)) = (byte, before) {
                    scanned.calls.push(Call {
                        name,
                        arguments: None,
                    });
                }
                open.push(Open {
                    call,
                    commas: 0,
                    is_empty: true,
                });
            }
            b')' | b']' => {
                if is_behind_comma && scanned.dangling.is_none() {
                    scanned.dangling = Some(begin);
                }
                if let Some(Open {
                    call: Some(call),
                    commas,
                    is_empty,
                }) = open.pop()
                {
                    scanned.calls[call].arguments = Some(if is_empty { 0 } else { commas + 1 });
                }
            }
            b',' => {
                after_comma = true;
                if let Some(open) = open.last_mut() {
                    open.commas += 1;
                }
            }
            b'\'' => at = end_of_string(bytes, begin),
            // No expression has one: what stands behind it is a text to whoever wrote it.
            b'"' => break,
            b'&' | b'|' | b'=' | b'<' | b'>' => {
                let second = if matches!(byte, b'<' | b'>') {
                    b'='
                } else {
                    byte
                };
                at += usize::from(bytes.get(at) == Some(&second));
                scanned.operators += 1;
            }
            b'!' if bytes.get(at) == Some(&b'=') => {
                at += 1;
                scanned.operators += 1;
            }
            byte if is_word(byte) => {
                while bytes.get(at).copied().is_some_and(is_word) {
                    at += 1;
                }
                let is_name = byte.is_ascii_alphabetic() || byte == b'_';
                name = is_name.then_some(begin..at);
            }
            _ => {}
        }
    }
    scanned
}

/// Behind the quote that ends it, or the end of all.
pub(crate) fn end_of_string(bytes: &[u8], begin: usize) -> usize {
    let mut at = begin + 1;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        if byte == b'\'' {
            if bytes.get(at) != Some(&b'\'') {
                break;
            }
            at += 1;
        }
    }
    at
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}
