//! Frames to the client, looked at as they are written: which streams the parser answers or resets by
//! itself, and why it ends the connection.

use super::{FRAME_HEAD, FrameHead, kind};

/// See the module.
#[derive(Debug, Default)]
pub struct Outbound {
    /// The head of a frame, and for some the beginning of its payload, as far as they are written.
    begun: Vec<u8>,
    /// Bytes of the payload to come.
    left: usize,
}

/// What a frame tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameEvent {
    /// The head of an answer.
    Answer(u32),
    /// A stream is reset, with this code.
    Reset(u32, u32),
    /// The connection ends, with this code.
    End(u32),
}

impl Outbound {
    /// Looks at bytes that were written.
    pub fn note(&mut self, mut bytes: &[u8], mut seen: impl FnMut(FrameEvent)) {
        while !bytes.is_empty() {
            if self.left > 0 && self.begun.is_empty() {
                let count = self.left.min(bytes.len());
                self.left -= count;
                bytes = &bytes[count..];
                continue;
            }
            let (byte, rest) = (bytes[0], &bytes[1..]);
            self.begun.push(byte);
            bytes = rest;
            if self.begun.len() > FRAME_HEAD {
                self.left -= 1;
            } else if self.begun.len() < FRAME_HEAD {
                continue;
            }
            self.report(&mut seen);
        }
    }

    fn report(&mut self, seen: &mut impl FnMut(FrameEvent)) {
        let Some(head) = FrameHead::read(&self.begun) else {
            return;
        };
        if self.begun.len() == FRAME_HEAD {
            self.left = head.length;
        }
        if self.begun.len() < FRAME_HEAD + wanted(head) {
            return;
        }
        let code = |at: usize| {
            let bytes = self.begun.get(at..at + 4)?;
            Some(u32::from_be_bytes(bytes.try_into().ok()?))
        };
        let event = match head.kind {
            kind::HEADERS => Some(FrameEvent::Answer(head.stream)),
            kind::RST_STREAM => code(FRAME_HEAD).map(|code| FrameEvent::Reset(head.stream, code)),
            kind::GOAWAY => code(FRAME_HEAD + 4).map(FrameEvent::End),
            _ => None,
        };
        self.begun.clear();
        if let Some(event) = event {
            seen(event);
        }
    }
}

/// Bytes of the payload that tell something.
fn wanted(head: FrameHead) -> usize {
    let wanted = match head.kind {
        kind::RST_STREAM => 4,
        kind::GOAWAY => 8,
        _ => 0,
    };
    head.length.min(wanted)
}

/// The name of an error code (RFC 9113 §7).
pub fn reason(code: u32) -> &'static str {
    const NAMES: [&str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    let name = usize::try_from(code).ok().and_then(|code| NAMES.get(code));
    name.copied().unwrap_or("an unknown code")
}

#[cfg(test)]
mod tests {
    use super::super::push_frame;
    use super::*;

    #[test]
    fn frames_are_told_apart_however_they_are_written() {
        let mut bytes = Vec::new();
        push_frame(&mut bytes, 4, 0, 0, &[0; 12]);
        push_frame(&mut bytes, kind::HEADERS, 4, 1, b"abc");
        push_frame(&mut bytes, 0, 0, 1, &[3; 1000]);
        push_frame(&mut bytes, kind::RST_STREAM, 0, 3, &[0, 0, 0, 1]);
        push_frame(&mut bytes, 4, 1, 0, &[]);
        push_frame(
            &mut bytes,
            kind::GOAWAY,
            0,
            0,
            &[0, 0, 0, 3, 0, 0, 0, 11, b'd', b'e'],
        );
        push_frame(&mut bytes, kind::HEADERS, 5, 5, &[]);
        for size in [1, 2, 9, 10, 100, 10_000] {
            let mut outbound = Outbound::default();
            let mut seen = Vec::new();
            for piece in bytes.chunks(size) {
                outbound.note(piece, |what| seen.push(what));
            }
            let expected = [
                FrameEvent::Answer(1),
                FrameEvent::Reset(3, 1),
                FrameEvent::End(11),
                FrameEvent::Answer(5),
            ];
            assert_eq!(seen, expected, "{size}");
        }
        assert_eq!(reason(1), "PROTOCOL_ERROR");
        assert_eq!(reason(99), "an unknown code");
    }
}
