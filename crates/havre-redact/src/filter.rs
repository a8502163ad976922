//! Finds every form in a text, fast.
//!
//! Not an automaton: 500 secrets have some 12,000 forms, whose Aho-Corasick automaton takes tens of
//! megabytes in every shim and runs from main memory. Each form is at least `window` bytes long, so a
//! text that is looked at every `window - 3` bytes shows four bytes of each form that is in it at a known
//! distance from its beginning. One bit for each of these fours (a Bloom filter that fits the cache) tells
//! nearly all places of a text to be of no interest; the rest is compared. In each form the four-byte
//! places are those that fewest others share, so that a common beginning costs nothing.

use zeroize::Zeroizing;

use crate::forms::{self, Forms, MAX_FORM, Unmasked};
use crate::stream::Stream;

/// Most bytes that a [`Stream`] holds back.
pub const MAX_HELD: usize = MAX_FORM - 1;

/// Bytes that are looked at in one place.
const GRAM: usize = 4;

/// A wider window gains nothing.
const MAX_WINDOW: usize = 12;

/// Finds the forms of a set of values.
#[derive(Debug, Default)]
pub struct Filter {
    /// All forms, one after the other, sorted.
    arena: Zeroizing<Vec<u8>>,
    /// Where each form ends; it begins where the one before ends.
    ends: Vec<u32>,
    /// Distance between the places that are looked at.
    stride: usize,
    places: Bits,
    /// What is at a place, by slot: those of slot `n` are `firsts[n]..firsts[n + 1]`.
    firsts: Vec<u32>,
    entries: Vec<Entry>,
    /// How forms begin: by their first one, two and four bytes.
    beginnings: [Bits; 3],
}

/// Four bytes of a form.
#[derive(Clone, Copy, Debug)]
struct Entry {
    gram: u32,
    form: u32,
    /// Bytes of the form before them.
    before: u32,
}

/// A set of numbers that may claim to have one that it has not.
#[derive(Debug)]
struct Bits {
    words: Vec<u64>,
    shift: u32,
}

impl Default for Bits {
    fn default() -> Self {
        Self::sized(0)
    }
}

impl Bits {
    /// For so many numbers, with sixteen bits each.
    fn sized(numbers: usize) -> Self {
        let bits = (numbers * 16).next_power_of_two().max(64);
        Self {
            words: vec![0; bits / 64],
            shift: 64 - bits.trailing_zeros(),
        }
    }

    fn place(&self, number: u32) -> usize {
        (mix(number) >> self.shift) as usize
    }

    fn insert(&mut self, number: u32) {
        let place = self.place(number);
        self.words[place / 64] |= 1 << (place % 64);
    }

    #[inline(always)]
    fn may_have(&self, number: u32) -> bool {
        let place = self.place(number);
        self.words[place / 64] >> (place % 64) & 1 == 1
    }
}

#[inline(always)]
fn mix(number: u32) -> u64 {
    u64::from(number)
        .wrapping_add(1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[inline(always)]
fn gram(bytes: &[u8], at: usize) -> u32 {
    let four = bytes[at..at + GRAM].first_chunk();
    u32::from_le_bytes(*four.unwrap_or(&[0; GRAM]))
}

/// A part of a text, `end` excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Found {
    pub start: usize,
    pub end: usize,
}

impl Filter {
    /// Of values with their names; returns also which of them are not masked, or not wholly.
    pub fn new<'a>(values: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> (Self, Vec<Unmasked>) {
        let mut forms = Forms::default();
        let mut unmasked = Vec::new();
        for (name, value) in values {
            forms::add(&mut forms, value);
            unmasked.extend(forms::judge(value).map(|why| Unmasked {
                name: name.to_owned(),
                why,
            }));
        }
        (Self::of(&forms), unmasked)
    }

    fn of(forms: &Forms) -> Self {
        let Some(shortest) = forms.iter().map(<[u8]>::len).min() else {
            return Self::default();
        };
        let stride = shortest.min(MAX_WINDOW) - GRAM + 1;
        let total = forms.iter().map(<[u8]>::len).sum();
        let mut filter = Self {
            arena: Zeroizing::new(Vec::with_capacity(total)),
            ends: Vec::with_capacity(forms.len()),
            stride,
            places: Bits::sized(forms.len() * stride),
            beginnings: [forms.len().min(16), forms.len(), forms.len()].map(Bits::sized),
            ..Self::default()
        };
        let rare = Rarity::of(forms, total);
        let mut entries = Vec::with_capacity(forms.len() * stride);
        for (number, form) in forms.iter().enumerate() {
            filter.arena.extend_from_slice(form);
            filter.ends.push(filter.arena.len() as u32);
            for (bits, length) in filter.beginnings.iter_mut().zip(BEGINNINGS) {
                bits.insert(beginning(form, length));
            }
            let from = rare.best_place(form, stride);
            for before in from..from + stride {
                let entry = Entry {
                    gram: gram(form, before),
                    form: number as u32,
                    before: before as u32,
                };
                filter.places.insert(entry.gram);
                entries.push(entry);
            }
        }
        filter.index(entries);
        filter
    }

    fn index(&mut self, mut entries: Vec<Entry>) {
        let slots = entries.len().next_power_of_two();
        entries.sort_unstable_by_key(|entry| slot(entry.gram, slots));
        self.firsts = Vec::with_capacity(slots + 1);
        let mut at = 0;
        for number in 0..=slots {
            while at < entries.len() && slot(entries[at].gram, slots) < number {
                at += 1;
            }
            self.firsts.push(at as u32);
        }
        self.entries = entries;
    }

    /// Whether there is nothing to mask.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of memory that it takes.
    pub fn size(&self) -> usize {
        let bits = |bits: &Bits| bits.words.capacity() * 8;
        self.arena.capacity()
            + (self.ends.capacity() + self.firsts.capacity()) * 4
            + self.entries.capacity() * size_of::<Entry>()
            + bits(&self.places)
            + self.beginnings.iter().map(bits).sum::<usize>()
    }

    /// A whole text, masked; `None` where there is nothing to mask in it.
    pub fn redact(&self, text: &str) -> Option<String> {
        let mut found = Vec::new();
        self.find(text.as_bytes(), &mut found);
        if found.is_empty() {
            return None;
        }
        let masked = self.redact_bytes(text.as_bytes());
        // A binary secret could cut a character.
        Some(
            String::from_utf8(masked)
                .unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()),
        )
    }

    /// A whole output, masked.
    pub fn redact_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = Stream::default();
        let mut out = Vec::with_capacity(bytes.len());
        stream.feed(self, bytes, &mut out);
        stream.flush(self, &mut out);
        out
    }

    fn form(&self, number: usize) -> &[u8] {
        let start = number
            .checked_sub(1)
            .map_or(0, |before| self.ends[before] as usize);
        &self.arena[start..self.ends[number] as usize]
    }

    /// Where forms are in `text`, in no order.
    pub(crate) fn find(&self, text: &[u8], found: &mut Vec<Found>) {
        if self.is_empty() || text.len() < GRAM {
            return;
        }
        let mut at = 0;
        // Four at a time: the look-ups do not wait for each other.
        let far = 3 * self.stride + GRAM;
        while at + far <= text.len() {
            let places = [
                at,
                at + self.stride,
                at + 2 * self.stride,
                at + 3 * self.stride,
            ];
            let grams = places.map(|at| gram(text, at));
            let any = grams.map(|gram| self.places.may_have(gram));
            if any[0] | any[1] | any[2] | any[3] {
                for (n, gram) in grams.into_iter().enumerate() {
                    if any[n] {
                        self.compare(text, places[n], gram, found);
                    }
                }
            }
            at += 4 * self.stride;
        }
        while at + GRAM <= text.len() {
            let gram = gram(text, at);
            if self.places.may_have(gram) {
                self.compare(text, at, gram, found);
            }
            at += self.stride;
        }
    }

    #[cold]
    #[inline(never)]
    fn compare(&self, text: &[u8], at: usize, gram: u32, found: &mut Vec<Found>) {
        let slot = slot(gram, self.firsts.len() - 1);
        let entries = self.firsts[slot] as usize..self.firsts[slot + 1] as usize;
        for entry in &self.entries[entries] {
            if entry.gram != gram {
                continue;
            }
            let Some(start) = at.checked_sub(entry.before as usize) else {
                continue;
            };
            let form = self.form(entry.form as usize);
            if text[start..].starts_with(form) {
                let end = start + form.len();
                found.push(Found { start, end });
            }
        }
    }

    /// Where the last part of `text` that may become a form begins; its end where there is none.
    pub(crate) fn open_end(&self, text: &[u8]) -> usize {
        if self.is_empty() {
            return text.len();
        }
        let first = text.len().saturating_sub(MAX_HELD);
        let begun = |at: &usize| self.begins_a_form(&text[*at..]);
        (first..text.len()).find(begun).unwrap_or(text.len())
    }

    /// Whether a form is longer than `part` and begins with it.
    fn begins_a_form(&self, part: &[u8]) -> bool {
        let may = |n: usize| {
            part.len() < BEGINNINGS[n]
                || self.beginnings[n].may_have(beginning(part, BEGINNINGS[n]))
        };
        if !(may(0) && may(1) && may(2)) {
            return false;
        }
        // The forms that begin with it follow it in their order.
        let (mut low, mut high) = (0, self.ends.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.form(middle) <= part {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low < self.ends.len() && self.form(low).starts_with(part)
    }
}

/// Lengths of the beginnings that are known.
const BEGINNINGS: [usize; 3] = [1, 2, 4];

fn beginning(bytes: &[u8], length: usize) -> u32 {
    bytes[..length]
        .iter()
        .fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// Other bits than those of [`Bits`] would matter only to speed, and do not.
fn slot(gram: u32, slots: usize) -> usize {
    (mix(gram) >> 24) as usize & (slots - 1)
}

/// How often each four bytes are in all forms, by hash.
struct Rarity {
    counts: Vec<u16>,
}

impl Rarity {
    fn of(forms: &Forms, total: usize) -> Self {
        let mut counts = vec![0u16; total.next_power_of_two().clamp(256, 1 << 16)];
        let mask = counts.len();
        for form in forms.iter() {
            for at in 0..=form.len() - GRAM {
                let count = &mut counts[slot(gram(form, at), mask)];
                *count = count.saturating_add(1);
            }
        }
        Self { counts }
    }

    /// The first of `stride` places in a row of which the most frequent is the rarest.
    fn best_place(&self, form: &[u8], stride: usize) -> usize {
        let count = |at: usize| self.counts[slot(gram(form, at), self.counts.len())];
        let worst = |from: &usize| (*from..from + stride).map(count).max();
        (0..=form.len() - GRAM + 1 - stride)
            .min_by_key(worst)
            .unwrap_or(0)
    }
}
