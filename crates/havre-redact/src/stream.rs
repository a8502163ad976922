//! One output, in whatever chunks it comes.

use zeroize::Zeroizing;

use crate::MASK;
use crate::filter::{Filter, Found};
use crate::rows;

/// What is left over between two chunks: the last bytes, where they may be the beginning of a form.
#[derive(Debug, Default)]
pub struct Stream {
    held: Zeroizing<Vec<u8>>,
    /// How many of the held bytes belong to the mask that was written last.
    masked: usize,
    /// Nothing but that mask was written last: what is masked next belongs to it.
    in_mask: bool,
    /// How many letters of a row of base64 stand before what is held.
    before: usize,
}

impl Stream {
    /// Takes a chunk in and appends to `out` what is known to be no secret, and masks.
    pub fn feed<B: AsRef<[u8]>>(&mut self, filter: &Filter<B>, chunk: &[u8], out: &mut Vec<u8>) {
        if chunk.is_empty() {
            return;
        }
        let mut found = Vec::new();
        if self.held.is_empty() {
            filter.find(chunk, self.before, &mut found);
            let end = filter.open_end(chunk, self.before);
            self.pass(chunk, end, found, out);
            self.held.extend_from_slice(&chunk[end..]);
        } else {
            let mut text = std::mem::take(&mut self.held);
            text.extend_from_slice(chunk);
            filter.find(&text, self.before, &mut found);
            let end = filter.open_end(&text, self.before);
            self.pass(&text, end, found, out);
            self.held = Zeroizing::new(text[end..].to_vec());
        }
    }

    /// Lets go of what is held: nothing follows, or nothing that could belong to it.
    pub fn flush<B: AsRef<[u8]>>(&mut self, filter: &Filter<B>, out: &mut Vec<u8>) {
        let text = std::mem::take(&mut self.held);
        let mut found = Vec::new();
        filter.find(&text, self.before, &mut found);
        self.pass(&text, text.len(), found, out);
    }

    /// What is held back; a mask has been written for some of it, where a secret goes on.
    pub fn held(&self) -> &[u8] {
        &self.held
    }

    /// Writes `text` up to `end`, beyond which nothing is decided but what is `found`.
    fn pass(&mut self, text: &[u8], end: usize, mut found: Vec<Found>, out: &mut Vec<u8>) {
        found.sort_unstable();
        // Up to where the text is written or masked.
        let mut at = self.masked;
        for Found { start, end: until } in found {
            if start >= end || until <= at {
                continue;
            }
            if start > at {
                out.extend_from_slice(&text[at..start]);
                self.in_mask = false;
            }
            if !self.in_mask {
                out.extend_from_slice(MASK.as_bytes());
                self.in_mask = true;
            }
            at = until;
        }
        if at < end {
            out.extend_from_slice(&text[at..end]);
            self.in_mask = false;
        }
        self.masked = at.saturating_sub(end);
        self.before = rows::carried(&text[..end], self.before);
    }
}

impl<B: AsRef<[u8]>> Filter<B> {
    /// A whole text, masked; `None` where there is nothing to mask in it.
    pub fn redact(&self, text: &str) -> Option<String> {
        let mut found = Vec::new();
        self.find(text.as_bytes(), 0, &mut found);
        if found.is_empty() {
            return None;
        }
        let masked = self.redact_bytes(text.as_bytes());
        // A binary secret could cut a character.
        let text = String::from_utf8(masked);
        Some(text.unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
    }

    /// A whole output, masked.
    pub fn redact_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = Stream::default();
        let mut out = Vec::with_capacity(bytes.len());
        stream.feed(self, bytes, &mut out);
        stream.flush(self, &mut out);
        out
    }
}
