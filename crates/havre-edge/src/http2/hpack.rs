//! Header blocks (RFC 7541): read with the client's table, written without any.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::Arc;

use super::huffman;

/// Bytes of the dynamic table, each entry with 32 more: what the parser's settings offer.
const TABLE_BYTES: usize = 4096;

/// A block that cannot be read: the client's table and ours are no longer the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

/// See the module.
#[derive(Debug)]
pub struct Decoder {
    /// Newest first.
    table: VecDeque<Entry>,
    bytes: usize,
    most: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    name: Text,
    value: Text,
}

/// A name or value. Most are of the static table, and cost nothing to refer to.
#[derive(Clone, Debug)]
enum Text {
    Static(&'static str),
    Shared(Arc<[u8]>),
}

impl Deref for Text {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Static(text) => text.as_bytes(),
            Self::Shared(text) => text,
        }
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            table: VecDeque::new(),
            bytes: 0,
            most: TABLE_BYTES,
        }
    }
}

impl Decoder {
    /// Reads a block, and gives its fields in their order.
    pub fn decode(
        &mut self,
        block: &[u8],
        mut field: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), Unreadable> {
        let mut rest = Rest(block);
        let mut is_first = true;
        while let Some(byte) = rest.0.first().copied() {
            match byte {
                0x80.. => {
                    let entry = self.entry(rest.integer(7)?)?;
                    field(&entry.name, &entry.value);
                }
                0x40..0x80 => {
                    let entry = self.literal(&mut rest, 6)?;
                    field(&entry.name, &entry.value);
                    self.insert(entry);
                }
                0x20..0x40 if is_first => {
                    let most = rest.integer(5)?;
                    if most > TABLE_BYTES {
                        return Err(Unreadable);
                    }
                    self.most = most;
                    self.evict(0);
                    // Several may stand at the beginning.
                    continue;
                }
                0x20..0x40 => return Err(Unreadable),
                ..0x20 => {
                    let entry = self.literal(&mut rest, 4)?;
                    field(&entry.name, &entry.value);
                }
            }
            is_first = false;
        }
        Ok(())
    }

    fn entry(&self, index: usize) -> Result<Entry, Unreadable> {
        let place = index.checked_sub(1).ok_or(Unreadable)?;
        if let Some((name, value)) = STATIC.get(place) {
            return Ok(Entry {
                name: Text::Static(name),
                value: Text::Static(value),
            });
        }
        let entry = self.table.get(place - STATIC.len());
        entry.cloned().ok_or(Unreadable)
    }

    fn literal(&self, rest: &mut Rest<'_>, bits: u32) -> Result<Entry, Unreadable> {
        let name = match rest.integer(bits)? {
            0 => Text::Shared(rest.string()?.into()),
            index => self.entry(index)?.name,
        };
        let value = Text::Shared(rest.string()?.into());
        Ok(Entry { name, value })
    }

    fn insert(&mut self, entry: Entry) {
        let bytes = entry.bytes();
        self.evict(bytes);
        if bytes <= self.most {
            self.bytes += bytes;
            self.table.push_front(entry);
        }
    }

    /// Makes room.
    fn evict(&mut self, room: usize) {
        while self.bytes + room > self.most {
            let Some(oldest) = self.table.pop_back() else {
                return;
            };
            self.bytes -= oldest.bytes();
        }
    }
}

impl Entry {
    fn bytes(&self) -> usize {
        self.name.len() + self.value.len() + 32
    }
}

/// What is left of a block.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn byte(&mut self) -> Result<u8, Unreadable> {
        let (byte, rest) = self.0.split_first().ok_or(Unreadable)?;
        self.0 = rest;
        Ok(*byte)
    }

    /// A number whose first part is in the low `bits` of the next byte.
    fn integer(&mut self, bits: u32) -> Result<usize, Unreadable> {
        let full = (1_usize << bits) - 1;
        let mut number = usize::from(self.byte()?) & full;
        if number < full {
            return Ok(number);
        }
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            number += usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Unreadable)
    }

    fn string(&mut self) -> Result<Vec<u8>, Unreadable> {
        let is_coded = self.0.first().is_some_and(|byte| byte & 0x80 != 0);
        let length = self.integer(7)?;
        if length > self.0.len() {
            return Err(Unreadable);
        }
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        if is_coded {
            huffman::decode(text).ok_or(Unreadable)
        } else {
            Ok(text.to_vec())
        }
    }
}

/// Writes a field that goes into nobody's table.
pub fn push_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.push(0);
    push_string(out, name);
    push_string(out, value);
}

fn push_string(out: &mut Vec<u8>, text: &[u8]) {
    match u8::try_from(text.len()) {
        Ok(length @ ..0x7f) => out.push(length),
        _ => {
            out.push(0x7f);
            let mut left = text.len() - 0x7f;
            while left >= 0x80 {
                out.push(u8::try_from(left % 0x80).unwrap_or_default() | 0x80);
                left /= 0x80;
            }
            out.push(u8::try_from(left).unwrap_or_default());
        }
    }
    out.extend_from_slice(text);
}

/// RFC 7541, appendix A.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, Unreadable> {
        let mut fields = Vec::new();
        decoder.decode(block, |name, value| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            fields.push(format!("{}={}", text(name), text(value)));
        })?;
        Ok(fields)
    }

    /// RFC 7541, appendix C.4: three requests on one connection, with Huffman codes.
    #[test]
    fn the_examples_of_the_standard() {
        let mut decoder = Decoder::default();
        let first = b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
        let known = [
            ":method=GET",
            ":scheme=http",
            ":path=/",
            ":authority=www.example.com",
        ];
        assert_eq!(fields(&mut decoder, first).unwrap(), known);
        let second = b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf";
        let mut expected = known.to_vec();
        expected.push("cache-control=no-cache");
        assert_eq!(fields(&mut decoder, second).unwrap(), expected);
        let third = b"\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf";
        assert_eq!(
            fields(&mut decoder, third).unwrap(),
            [
                ":method=GET",
                ":scheme=https",
                ":path=/index.html",
                ":authority=www.example.com",
                "custom-key=custom-value",
            ]
        );
        assert_eq!(decoder.bytes, 164);
    }

    #[test]
    fn old_entries_make_room() {
        let mut decoder = Decoder::default();
        let mut insert = |value: usize| {
            let mut block = vec![0x40];
            push_string(&mut block, b"n");
            push_string(&mut block, &vec![b'v'; value]);
            fields(&mut decoder, &block).unwrap();
            (decoder.table.len(), decoder.bytes)
        };
        assert_eq!(insert(1000), (1, 1033));
        assert_eq!(insert(3000), (2, 4066));
        assert_eq!(insert(10), (2, 3076));
        assert_eq!(insert(5000), (0, 0), "larger than the table");
        assert_eq!(insert(10).0, 1);
        assert_eq!(fields(&mut decoder, &[0x20]).unwrap().len(), 0);
        assert_eq!(decoder.table.len(), 0, "the client gave its table up");
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        for block in [
            &[0x80][..],
            &[0xbe],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
            &[0x40, 0x05, b'a'],
            &[0x40, 0x01],
            &[0x3f, 0xe2, 0x1f],
            &[0x82, 0x20],
            &[0x41, 0x81, 0x00],
        ] {
            let read = fields(&mut Decoder::default(), block);
            assert_eq!(read, Err(Unreadable), "{block:x?}");
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        for length in [0, 1, 126, 127, 128, 254, 255, 1000, 20_000] {
            let mut block = Vec::new();
            push_field(&mut block, b"name", &vec![b'x'; length]);
            let read = fields(&mut Decoder::default(), &block).unwrap();
            assert_eq!(read, [format!("name={}", "x".repeat(length))]);
        }
    }
}
