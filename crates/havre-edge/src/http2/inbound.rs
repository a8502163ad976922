//! Frames from the client. All pass as they are but header blocks, which are read and written anew.

use std::sync::Arc;

use super::hpack::Decoder;
use super::{FRAME_BYTES, FRAME_HEAD, FrameHead, flag, kind, push_block, push_field, push_frame};
use crate::asides::Asides;
use crate::gate::{FirstLine, Step};
use crate::limits;
use crate::target;

/// The field that tells a request's stream; a client's own is taken out.
pub const STREAM: &str = "havre-stream";

/// `PRI * HTTP/2.0 …` (RFC 9113 §3.4).
const PREFACE: usize = 24;

/// Bytes of a header block as sent, padding included, and frames of it.
const BLOCK_BYTES: usize = 80 * 1024;
const BLOCK_FRAMES: usize = 16;

/// See the module.
#[derive(Debug)]
pub struct Inbound {
    state: State,
    is_greeted: bool,
    decoder: Decoder,
    block: Option<Block>,
    asides: Arc<Asides>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// With so many bytes to come.
    Preface(usize),
    /// Before the head of a frame.
    Head,
    /// In the payload of a frame, with so many bytes to come.
    Payload(usize),
    /// An error that the parser finds by itself is on its way to it.
    Raw,
}

/// A header block under way.
#[derive(Debug)]
struct Block {
    stream: u32,
    /// END_STREAM and PRIORITY.
    flags: u8,
    priority: Vec<u8>,
    bytes: Vec<u8>,
    frames: usize,
    sent: usize,
}

/// A frame that is not as it has to be, which the parser finds as well.
#[derive(Clone, Copy, Debug)]
struct Malformed;

impl Inbound {
    /// A new connection.
    pub fn new(asides: Arc<Asides>) -> Self {
        Self {
            state: State::Preface(PREFACE),
            is_greeted: false,
            decoder: Decoder::default(),
            block: None,
            asides,
        }
    }

    /// The client's preface and the head of its first frame are here.
    pub fn is_greeted(&self) -> bool {
        self.is_greeted
    }

    /// Looks at bytes that were not passed on yet.
    pub fn step(&mut self, bytes: &[u8]) -> Step {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            match self.state {
                State::Raw => return Step::Pass(bytes.len()),
                _ if rest.is_empty() => break,
                State::Preface(left) => {
                    let count = left.min(rest.len());
                    at += count;
                    self.state = after(left - count, State::Preface);
                }
                State::Payload(left) => {
                    let count = left.min(rest.len());
                    at += count;
                    self.state = after(left - count, State::Payload);
                }
                State::Head => {
                    let Some(head) = FrameHead::read(rest) else {
                        break;
                    };
                    self.is_greeted = true;
                    if self.is_for_the_parser(head) {
                        at += FRAME_HEAD;
                        self.state = after(head.length, State::Payload);
                        self.note(head);
                        continue;
                    }
                    if at > 0 {
                        break;
                    }
                    return self.header_frame(head, rest);
                }
            }
        }
        if at > 0 { Step::Pass(at) } else { Step::Wait }
    }

    fn is_for_the_parser(&self, head: FrameHead) -> bool {
        self.block.is_none() && !matches!(head.kind, kind::HEADERS | kind::CONTINUATION)
    }

    /// A stream that the client gives up needs no line of ours.
    fn note(&self, head: FrameHead) {
        if head.kind == kind::RST_STREAM {
            drop(self.asides.take_line(head.stream));
        }
    }

    fn header_frame(&mut self, head: FrameHead, bytes: &[u8]) -> Step {
        if head.length > FRAME_BYTES {
            return self.give_up();
        }
        let whole = FRAME_HEAD + head.length;
        let Some(payload) = bytes.get(FRAME_HEAD..whole) else {
            return Step::Wait;
        };
        if self.collect(head, payload).is_err() {
            return self.give_up();
        }
        let Some(block) = &self.block else {
            return Step::Wait;
        };
        if block.sent > BLOCK_BYTES || block.frames > BLOCK_FRAMES {
            return Step::Broken;
        }
        if !head.has(flag::END_HEADERS) {
            return Step::Replace(whole, Vec::new());
        }
        match self.block.take() {
            Some(block) => Step::Replace(whole, self.rewritten(&block)),
            None => Step::Wait,
        }
    }

    fn collect(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Malformed> {
        match (&mut self.block, head.kind) {
            (Some(block), kind::CONTINUATION) if block.stream == head.stream => {
                block.bytes.extend_from_slice(payload);
                block.sent += head.length;
                block.frames += 1;
                Ok(())
            }
            (None, kind::HEADERS) if head.stream != 0 => {
                self.block = Some(Block::begin(head, payload)?);
                Ok(())
            }
            _ => Err(Malformed),
        }
    }

    /// Leaves it to the parser to find what is wrong.
    fn give_up(&mut self) -> Step {
        self.state = State::Raw;
        let mut begun = Vec::new();
        if let Some(block) = self.block.take() {
            // It waits for the rest of this block, and gets something else.
            push_frame(&mut begun, kind::HEADERS, 0, block.stream, &[]);
        }
        Step::Replace(0, begun)
    }

    /// The block for the parser.
    fn rewritten(&mut self, block: &Block) -> Vec<u8> {
        let mut fields = Fields::default();
        let read = self
            .decoder
            .decode(&block.bytes, |name, value| fields.push(name, value));
        let mut out = Vec::with_capacity(fields.block.len() + 64);
        if read.is_err() {
            self.state = State::Raw;
            // An index that cannot be: the parser says so to the client.
            push_block(
                &mut out,
                block.flags & flag::END_STREAM,
                block.stream,
                &[0x80],
            );
            return out;
        }
        let mut bytes = block.priority.clone();
        bytes.append(&mut fields.block);
        if let Some(line) = fields.line {
            push_field(
                &mut bytes,
                STREAM.as_bytes(),
                block.stream.to_string().as_bytes(),
            );
            self.asides.put_line(block.stream, line);
        }
        push_block(&mut out, block.flags, block.stream, &bytes);
        out
    }
}

fn after(left: usize, within: impl FnOnce(usize) -> State) -> State {
    if left == 0 { State::Head } else { within(left) }
}

impl Block {
    fn begin(head: FrameHead, mut payload: &[u8]) -> Result<Self, Malformed> {
        if head.has(flag::PADDED) {
            let (padding, rest) = payload.split_first().ok_or(Malformed)?;
            let kept = rest.len().checked_sub(usize::from(*padding));
            payload = &rest[..kept.ok_or(Malformed)?];
        }
        let priority = if head.has(flag::PRIORITY) { 5 } else { 0 };
        let (priority, bytes) = payload.split_at_checked(priority).ok_or(Malformed)?;
        Ok(Self {
            stream: head.stream,
            flags: head.flags & (flag::END_STREAM | flag::PRIORITY),
            priority: priority.to_vec(),
            bytes: bytes.to_vec(),
            frames: 1,
            sent: head.length,
        })
    }
}

/// The fields of a block.
#[derive(Debug, Default)]
struct Fields {
    /// As written for the parser.
    block: Vec<u8>,
    /// As the parser counts them.
    size: usize,
    /// Of a request; trailers have none.
    line: Option<FirstLine>,
}

impl Fields {
    fn push(&mut self, name: &[u8], value: &[u8]) {
        const MOST: usize = limits::H2_HEADER_LIST as usize;
        if name == STREAM.as_bytes() || self.size > MOST {
            return;
        }
        let encoded = (name == b":path").then(|| target::encoded(value)).flatten();
        let value = encoded.as_deref().map_or(value, str::as_bytes);
        self.note(name, value);
        // The parser refuses what is too large by itself, and has to see that it is.
        let room = MOST - self.size + 1;
        let (name, value) = (
            &name[..name.len().min(room)],
            &value[..value.len().min(room)],
        );
        self.size += name.len() + value.len() + 32;
        push_field(&mut self.block, name, value);
    }

    fn note(&mut self, name: &[u8], value: &[u8]) {
        let shown =
            |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(256)]).into_owned();
        match name {
            b":method" => self.line.get_or_insert_default().method = shown(value),
            b":authority" => {
                self.line.get_or_insert_default().host = shown(value).to_ascii_lowercase();
            }
            b":path" => {
                // The query may carry secrets.
                let path = value.split(|byte| *byte == b'?').next().unwrap_or_default();
                self.line.get_or_insert_default().path = shown(path);
            }
            b"user-agent" => {
                if let Some(line) = &mut self.line {
                    line.user_agent = shown(value);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

    fn block(fields: &[(&str, &str)]) -> Vec<u8> {
        let mut block = Vec::new();
        for (name, value) in fields {
            push_field(&mut block, name.as_bytes(), value.as_bytes());
        }
        block
    }

    /// What the parser gets of `bytes`, which come in pieces; `None` where the connection ends.
    fn passed(bytes: &[u8], size: usize) -> Option<Vec<u8>> {
        let mut inbound = Inbound::new(Arc::default());
        let (mut held, mut out) = (Vec::new(), Vec::new());
        for piece in bytes.chunks(size) {
            held.extend_from_slice(piece);
            loop {
                match inbound.step(&held) {
                    Step::Pass(count) => out.extend(held.drain(..count)),
                    Step::Replace(count, instead) => {
                        held.drain(..count);
                        out.extend(instead);
                    }
                    Step::Wait => break,
                    Step::Broken => return None,
                    Step::Refuse(..) => unreachable!("of HTTP/1"),
                }
                if held.is_empty() {
                    break;
                }
            }
        }
        Some(out)
    }

    #[test]
    fn header_blocks_are_written_anew_and_all_else_passes() {
        let request = block(&[
            (":method", "GET"),
            (":path", "/?\"<>"),
            ("havre-stream", "9"),
            ("a", "b"),
        ]);
        let (one, two) = request.split_at(7);
        let mut sent = HELLO.to_vec();
        let padded = [&[3, 0, 0, 0, 0, 16], one, &[0, 0, 0]].concat();
        push_frame(
            &mut sent,
            kind::HEADERS,
            flag::PADDED | flag::PRIORITY | flag::END_STREAM,
            5,
            &padded,
        );
        push_frame(&mut sent, kind::CONTINUATION, flag::END_HEADERS, 5, two);
        let data = vec![7; 16_000];
        push_frame(&mut sent, 0, 0, 3, &data);
        let trailers = block(&[("t", "u")]);
        push_frame(
            &mut sent,
            kind::HEADERS,
            flag::END_HEADERS | flag::END_STREAM,
            3,
            &trailers,
        );
        let mut expected = HELLO.to_vec();
        let written = block(&[
            (":method", "GET"),
            (":path", "/?%22%3C%3E"),
            ("a", "b"),
            ("havre-stream", "5"),
        ]);
        let written = [&[0, 0, 0, 0, 16], written.as_slice()].concat();
        push_frame(
            &mut expected,
            kind::HEADERS,
            flag::PRIORITY | flag::END_HEADERS | flag::END_STREAM,
            5,
            &written,
        );
        push_frame(&mut expected, 0, 0, 3, &data);
        push_frame(
            &mut expected,
            kind::HEADERS,
            flag::END_HEADERS | flag::END_STREAM,
            3,
            &trailers,
        );
        for size in [1, 2, 9, 100, 1 << 20] {
            assert_eq!(
                passed(&sent, size).as_deref(),
                Some(expected.as_slice()),
                "{size}"
            );
        }
    }

    #[test]
    fn errors_are_left_to_the_parser() {
        let request = block(&[(":method", "GET"), (":path", "/")]);
        for wrong in [
            // No rest of a block where one has to be.
            {
                let mut sent = Vec::new();
                push_frame(&mut sent, kind::HEADERS, 0, 1, &request);
                push_frame(&mut sent, 0, 0, 1, b"x");
                sent
            },
            // A rest of no block.
            {
                let mut sent = Vec::new();
                push_frame(
                    &mut sent,
                    kind::CONTINUATION,
                    flag::END_HEADERS,
                    1,
                    &request,
                );
                sent
            },
            // An index of nothing.
            {
                let mut sent = Vec::new();
                push_frame(&mut sent, kind::HEADERS, flag::END_HEADERS, 1, &[0xbe]);
                sent
            },
            // More padding than frame.
            {
                let mut sent = Vec::new();
                push_frame(
                    &mut sent,
                    kind::HEADERS,
                    flag::END_HEADERS | flag::PADDED,
                    1,
                    &[9, 0],
                );
                sent
            },
        ] {
            let sent = [HELLO, &wrong, b"and more"].concat();
            let out = passed(&sent, 1000).expect("no end of ours");
            assert!(out.ends_with(b"and more"), "{out:?}");
        }
    }

    #[test]
    fn blocks_are_bounded() {
        // A large entry, named over and over: a byte each.
        let mut bomb = vec![0x40, 1, b'n'];
        bomb.extend([0x7f, 0x80 | 0x01, 0x1e]);
        bomb.extend(vec![b'v'; 0x7f + 1 + 0x1e * 128]);
        bomb.extend(vec![0xbe; 10_000]);
        let mut sent = HELLO.to_vec();
        push_frame(&mut sent, kind::HEADERS, flag::END_HEADERS, 1, &bomb);
        let out = passed(&sent, 1 << 20).expect("the parser's to refuse");
        assert!(out.len() < 80_000, "{}", out.len());
        let mut flood = HELLO.to_vec();
        push_frame(&mut flood, kind::HEADERS, 0, 1, b"");
        for _ in 0..20 {
            push_frame(&mut flood, kind::CONTINUATION, 0, 1, b"");
        }
        assert_eq!(passed(&flood, 1000), None);
    }
}
