//! Follows WebSocket frames (RFC 6455 §5.2) in a byte stream, to know where one ends: only there may
//! a Close frame of ours be put in.

/// Where in a frame the stream stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct FrameTracker {
    header: [u8; 14],
    have: usize,
    payload_left: u64,
    closed: bool,
}

impl FrameTracker {
    /// Takes note of bytes passing.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                let passed = self.payload_left.min(length);
                self.payload_left -= passed;
                bytes = &bytes[usize::try_from(passed).unwrap_or(bytes.len())..];
                continue;
            }
            self.header[self.have] = bytes[0];
            self.have += 1;
            bytes = &bytes[1..];
            if self.have >= 2 && self.have == self.header_length() {
                self.payload_left = self.payload_length();
                self.closed |= self.header[0] & 0x0f == 0x8;
                self.have = 0;
            }
        }
    }

    /// Between two frames, and no Close frame has passed.
    pub fn may_insert_close(&self) -> bool {
        self.have == 0 && self.payload_left == 0 && !self.closed
    }

    /// A Close frame has passed.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    fn header_length(&self) -> usize {
        let extended = match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if self.header[1] & 0x80 == 0 { 0 } else { 4 };
        2 + extended + mask
    }

    fn payload_length(&self) -> u64 {
        match self.header[1] & 0x7f {
            126 => u64::from(u16::from_be_bytes([self.header[2], self.header[3]])),
            127 => {
                let mut length = [0; 8];
                length.copy_from_slice(&self.header[2..10]);
                u64::from_be_bytes(length)
            }
            short => u64::from(short),
        }
    }
}

/// Close with 1012, «service restart»: clients connect again at once.
pub const CLOSE_TO_CLIENT: [u8; 4] = [0x88, 0x02, 0x03, 0xf4];

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> (Vec<u8>, Vec<usize>) {
        let frames: Vec<Vec<u8>> = vec![
            vec![0x81, 0x03, b'a', b'b', b'c'],
            vec![0x89, 0x00],
            [&[0x82, 126, 0x01, 0x00][..], &[7; 256]].concat(),
            [&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0][..], &[7; 65_536]].concat(),
            vec![0x81, 0x82, 1, 2, 3, 4, 9, 9],
        ];
        let mut ends = vec![0];
        let mut bytes = Vec::new();
        for frame in frames {
            bytes.extend(frame);
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    #[test]
    fn ends_of_frames_are_found_however_the_bytes_are_cut() {
        let (bytes, ends) = stream();
        for step in [1, 3, 7, 1000] {
            let mut tracker = FrameTracker::default();
            let mut at = 0;
            loop {
                assert_eq!(
                    tracker.may_insert_close(),
                    ends.contains(&at),
                    "{at} by {step}"
                );
                if at == bytes.len() {
                    break;
                }
                let end = (at + step).min(bytes.len());
                tracker.feed(&bytes[at..end]);
                at = end;
            }
        }
    }

    #[test]
    fn after_a_close_frame_there_is_no_other() {
        let mut tracker = FrameTracker::default();
        tracker.feed(&CLOSE_TO_CLIENT);
        assert!(!tracker.may_insert_close());
        let mut masked = FrameTracker::default();
        masked.feed(&[0x88, 0x82, 0, 0, 0, 0, 0x03]);
        assert_eq!(masked.payload_left, 1);
    }
}
