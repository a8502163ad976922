//! HTTP/2 connections of clients, beside the parser (h2): what it refuses it resets without a word to
//! its user, it takes no target that is not quite a URI, and it passes no interim answers on.
//!
//! So header blocks are read here first and written anew, with the target as the parser takes it and
//! the stream's number as a field, and what the parser writes is looked at for what it refuses.

mod hpack;
mod huffman;
mod inbound;
mod outbound;

pub use hpack::push_field;
pub use inbound::{Inbound, STREAM};
pub use outbound::{FrameEvent, Outbound, reason};

/// Bytes of a frame's head.
const FRAME_HEAD: usize = 9;

/// Bytes of a frame's payload (the default of SETTINGS_MAX_FRAME_SIZE, which is not raised).
const FRAME_BYTES: usize = 16 * 1024;

/// Kinds of frames (RFC 9113 §6).
mod kind {
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const GOAWAY: u8 = 7;
    pub const CONTINUATION: u8 = 9;
}

/// Their flags.
mod flag {
    pub const END_STREAM: u8 = 1;
    pub const END_HEADERS: u8 = 4;
    pub const PADDED: u8 = 8;
    pub const PRIORITY: u8 = 32;
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FrameHead {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl FrameHead {
    fn read(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, d, e, f, g, ..] = *bytes else {
            return None;
        };
        let length = u32::from_be_bytes([0, a, b, c]);
        Some(Self {
            length: usize::try_from(length).ok()?,
            kind,
            flags,
            stream: u32::from_be_bytes([d, e, f, g]) & (u32::MAX >> 1),
        })
    }

    fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Writes a frame; its payload is no longer than [`FRAME_BYTES`].
fn push_frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len())
        .unwrap_or_default()
        .to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Writes a header block as frames.
fn push_block(out: &mut Vec<u8>, flags: u8, stream: u32, block: &[u8]) {
    let mut pieces = block.chunks(FRAME_BYTES).peekable();
    let first = pieces.next().unwrap_or_default();
    let is_last = |more: bool| if more { 0 } else { flag::END_HEADERS };
    let ends = is_last(pieces.peek().is_some());
    push_frame(out, kind::HEADERS, flags | ends, stream, first);
    while let Some(piece) = pieces.next() {
        let ends = is_last(pieces.peek().is_some());
        push_frame(out, kind::CONTINUATION, ends, stream, piece);
    }
}

/// The frame of an interim answer.
pub fn interim(stream: u32, status: u16, fields: &http::HeaderMap) -> Vec<u8> {
    let mut block = Vec::new();
    push_field(&mut block, b":status", status.to_string().as_bytes());
    for (name, value) in fields {
        push_field(&mut block, name.as_str().as_bytes(), value.as_bytes());
    }
    let mut out = Vec::with_capacity(block.len() + FRAME_HEAD);
    push_block(&mut out, 0, stream, &block);
    out
}
