//! Finds every form in a text, fast.
//!
//! Not an automaton: 500 secrets have some ten thousand forms, whose Aho-Corasick automaton would take
//! megabytes and run from main memory. Each form is at least `stride + 3` bytes long, so a
//! text that is looked at every `stride` bytes shows four bytes of each form that is in it at a known
//! distance from its beginning. One bit for each of these fours (a Bloom filter that fits the cache) tells
//! nearly all places of a text to be of no interest; the rest is compared. In each form the four-byte
//! places are those that fewest others share, so that a common beginning costs nothing.

use crate::forms::MAX_FORM;
use crate::layout::{Beginning, Entry, GRAM, Layout, Unreadable, gram};
use crate::rows;

/// Finds the forms of a set of values. What it is made of is one run of bytes, which processes can share.
#[derive(Debug)]
pub struct Filter<B = zeroize::Zeroizing<Vec<u8>>> {
    bytes: B,
    layout: Layout,
}

/// A part of a text, `end` excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Found {
    pub start: usize,
    pub end: usize,
}

impl<B: AsRef<[u8]>> Filter<B> {
    /// Of what [`Filter::as_bytes`] of this version of Havre, or a compatible one, gave.
    pub fn from_bytes(bytes: B) -> Result<Self, Unreadable> {
        let layout = Layout::read(bytes.as_ref())?;
        Ok(Self { bytes, layout })
    }

    /// All of it; as secret as the values are.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// Whether there is nothing to mask.
    pub fn is_empty(&self) -> bool {
        self.layout.forms == 0
    }

    /// Where forms are in `text`, in no order; also those that go on in the next line. `before` letters of
    /// base64 stand before the text.
    pub(crate) fn find(&self, text: &[u8], before: usize, found: &mut Vec<Found>) {
        if self.is_empty() {
            return;
        }
        self.find_as_is(text, found);
        rows::each(text, before, |rows| {
            let first = found.len();
            self.find_as_is(rows.letters(), found);
            for Found { start, end } in &mut found[first..] {
                *end = rows.place(*end - 1) + 1;
                *start = rows.place(*start);
            }
        });
    }

    fn find_as_is(&self, text: &[u8], found: &mut Vec<Found>) {
        if text.len() < GRAM {
            return;
        }
        let stride = self.layout.stride;
        let places = self.layout.places.of(self.as_bytes());
        let mut at = 0;
        // Four at a time: the look-ups do not wait for each other.
        let far = 3 * stride + GRAM;
        while at + far <= text.len() {
            let [a, b, c, d] = [at, at + stride, at + 2 * stride, at + 3 * stride];
            let here = |at: usize| places.may_have(gram(text, at));
            if here(a) | here(b) | here(c) | here(d) {
                for at in [a, b, c, d] {
                    if here(at) {
                        self.compare(text, at, gram(text, at), found);
                    }
                }
            }
            at += 4 * stride;
        }
        while at + GRAM <= text.len() {
            let gram = gram(text, at);
            if places.may_have(gram) {
                self.compare(text, at, gram, found);
            }
            at += stride;
        }
    }

    #[cold]
    #[inline(never)]
    fn compare(&self, text: &[u8], at: usize, gram: u32, found: &mut Vec<Found>) {
        for entry in self.layout.entries_of(self.as_bytes(), gram) {
            let Entry { form, before, .. } = entry;
            let Some(start) = at.checked_sub(before as usize) else {
                continue;
            };
            let form = self.layout.form(self.as_bytes(), form as usize);
            if !form.is_empty() && text[start..].starts_with(form) {
                let end = start + form.len();
                found.push(Found { start, end });
            }
        }
    }

    /// Where the last part of `text` that may become a form begins; its end where there is none.
    pub(crate) fn open_end(&self, text: &[u8], before: usize) -> usize {
        if self.is_empty() {
            return text.len();
        }
        let first = text.len().saturating_sub(MAX_FORM - 1);
        let begun = |at: &usize| self.begins_a_form(&text[*at..]);
        let end = (first..text.len()).find(begun).unwrap_or(text.len());
        let Some(rows) = rows::at_end(text, before) else {
            return end;
        };
        let begun = |at: &usize| self.begins_a_form(&rows.letters()[*at..]);
        let in_rows = (0..rows.last()).find(begun);
        in_rows.map_or(end, |at| end.min(rows.place(at)))
    }

    /// Whether a form is longer than `part` and begins with it.
    fn begins_a_form(&self, part: &[u8]) -> bool {
        let bytes = self.as_bytes();
        let known = |beginning: &Beginning| beginning.may_begin(bytes, part);
        if !self.layout.beginnings.iter().all(known) {
            return false;
        }
        // The forms that begin with it follow it in their order.
        let (mut low, mut high) = (0, self.layout.forms);
        while low < high {
            let middle = low.midpoint(high);
            match self.layout.form(bytes, middle) <= part {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low < self.layout.forms && self.layout.form(bytes, low).starts_with(part)
    }
}
