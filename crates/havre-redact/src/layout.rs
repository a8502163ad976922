//! How a filter lies in memory: one run of bytes, little-endian, so that it can be made once and be
//! shared by processes, which then hold no copy of their own.
//!
//! ```text
//! header: magic · version · stride · forms · entries · slots · log2 of the bits of four sets
//! four sets of bits: fours of forms; first one, two and four bytes of forms
//! ends of forms · first entry of each slot · entries (four, form, bytes before them) · forms, sorted
//! ```

use std::ops::Range;

/// Bytes that are looked at in one place.
pub const GRAM: usize = 4;

const MAGIC: u32 = 0x6672_7668;
/// Of this form; another is not readable.
const VERSION: u32 = 1;
const HEADER: usize = 10 * 4;

/// Lengths of the beginnings that are known.
pub const BEGINNINGS: [usize; 3] = [1, 2, 4];

/// These bytes are no filter, or one of another version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

impl std::fmt::Display for Unreadable {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("not a filter of this version")
    }
}

impl std::error::Error for Unreadable {}

/// Four bytes of a form.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The bytes.
    pub gram: u32,
    /// Number of the form.
    pub form: u32,
    /// Bytes of the form before them.
    pub before: u32,
}

const ENTRY: usize = 12;

/// Where a set of bits lies.
#[derive(Clone, Debug)]
pub struct Place {
    range: Range<usize>,
    shift: u32,
}

/// A set of numbers that may claim to have one that it has not.
#[derive(Clone, Copy, Debug)]
pub struct Bits<'a> {
    bytes: &'a [u8],
    shift: u32,
}

impl Place {
    /// The set.
    #[inline(always)]
    pub fn of<'a>(&self, bytes: &'a [u8]) -> Bits<'a> {
        Bits {
            bytes: &bytes[self.range.clone()],
            shift: self.shift,
        }
    }
}

impl Bits<'_> {
    /// Whether it may be there.
    #[inline(always)]
    pub fn may_have(&self, number: u32) -> bool {
        let place = (mix(number) >> self.shift) as usize;
        self.bytes[place / 8] >> (place % 8) & 1 == 1
    }
}

/// How forms begin.
#[derive(Clone, Debug)]
pub struct Beginning {
    length: usize,
    place: Place,
}

impl Beginning {
    /// False where no form begins with `part`, as far as that is known here.
    pub fn may_begin(&self, bytes: &[u8], part: &[u8]) -> bool {
        part.len() < self.length || self.place.of(bytes).may_have(start(part, self.length))
    }
}

fn start(bytes: &[u8], length: usize) -> u32 {
    let first = bytes[..length].iter();
    first.fold(0, |number, byte| number << 8 | u32::from(*byte))
}

#[inline(always)]
fn mix(number: u32) -> u64 {
    u64::from(number)
        .wrapping_add(1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Which slot of so many; a power of two.
pub fn slot(gram: u32, slots: usize) -> usize {
    (mix(gram) >> 24) as usize & (slots - 1)
}

/// Where everything lies.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Distance between the places that are looked at.
    pub stride: usize,
    /// How many forms.
    pub forms: usize,
    /// Fours of forms.
    pub places: Place,
    /// How forms begin.
    pub beginnings: [Beginning; 3],
    slots: usize,
    ends: usize,
    firsts: usize,
    entries: usize,
    arena: usize,
}

impl Layout {
    /// Of bytes that [`write`] made; everything is found to be within them.
    pub fn read(bytes: &[u8]) -> Result<Self, Unreadable> {
        let header: Vec<u32> = (0..10).map_while(|n| number(bytes, n * 4)).collect();
        let [MAGIC, VERSION, stride, forms, entries, slots, sets @ ..] = &header[..] else {
            return Err(Unreadable);
        };
        let [stride, forms, entries, slots] =
            [*stride, *forms, *entries, *slots].map(|n| n as usize);
        if stride == 0 || stride > 64 || !slots.is_power_of_two() {
            return Err(Unreadable);
        }
        let mut at = HEADER;
        let mut places = Vec::new();
        for log in sets {
            if !(3..=40).contains(log) {
                return Err(Unreadable);
            }
            let range = at..at + (1usize << log) / 8;
            at = range.end;
            places.push(Place {
                range,
                shift: 64 - log,
            });
        }
        let [places, one, two, four] = <[Place; 4]>::try_from(places).map_err(|_| Unreadable)?;
        let beginning = |length, place| Beginning { length, place };
        let ends = at;
        let firsts = ends + forms * 4;
        let first_entry = firsts + (slots + 1) * 4;
        let arena = first_entry + entries * ENTRY;
        let layout = Self {
            stride,
            forms,
            places,
            beginnings: [
                beginning(BEGINNINGS[0], one),
                beginning(BEGINNINGS[1], two),
                beginning(BEGINNINGS[2], four),
            ],
            slots,
            ends,
            firsts,
            entries: first_entry,
            arena,
        };
        match bytes.len() >= arena {
            true => Ok(layout),
            false => Err(Unreadable),
        }
    }

    /// Form `n` in their order; empty where there is none.
    pub fn form<'a>(&self, bytes: &'a [u8], n: usize) -> &'a [u8] {
        let end = |n: usize| number(bytes, self.ends + n * 4).map_or(0, |end| end as usize);
        let start = n.checked_sub(1).map_or(0, end);
        bytes
            .get(self.arena + start..self.arena + end(n))
            .unwrap_or_default()
    }

    /// Forms that have these four bytes, and where.
    pub fn entries_of(&self, bytes: &[u8], gram: u32) -> impl Iterator<Item = Entry> {
        let slot = slot(gram, self.slots);
        let first = |slot: usize| number(bytes, self.firsts + slot * 4).unwrap_or(0) as usize;
        let entry = move |n: usize| {
            let at = self.entries + n * ENTRY;
            Some(Entry {
                gram: number(bytes, at)?,
                form: number(bytes, at + 4)?,
                before: number(bytes, at + 8)?,
            })
        };
        let entries = (first(slot)..first(slot + 1)).map_while(entry);
        entries.filter(move |entry| entry.gram == gram)
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at + 4)?.first_chunk()?;
    Some(u32::from_le_bytes(*four))
}

/// What a layout is written from.
pub struct Parts<'a> {
    /// Sorted, without repetition.
    pub forms: Vec<&'a [u8]>,
    /// Distance between the places that are looked at.
    pub stride: usize,
    /// Sorted by slot.
    pub entries: Vec<Entry>,
    /// A power of two.
    pub slots: usize,
}

/// All in one run, appended to `out`, which is not moved if [`size`] has been reserved.
pub fn write(parts: &Parts, out: &mut Vec<u8>) {
    let logs = logs(parts);
    let header = [
        MAGIC,
        VERSION,
        parts.stride as u32,
        parts.forms.len() as u32,
        parts.entries.len() as u32,
        parts.slots as u32,
    ];
    for number in header.into_iter().chain(logs) {
        out.extend_from_slice(&number.to_le_bytes());
    }
    let grams = parts.entries.iter().map(|entry| entry.gram);
    write_bits(out, logs[0], grams);
    for (n, length) in BEGINNINGS.into_iter().enumerate() {
        write_bits(
            out,
            logs[n + 1],
            parts.forms.iter().map(|form| start(form, length)),
        );
    }
    let mut end = 0;
    for form in &parts.forms {
        end += form.len() as u32;
        out.extend_from_slice(&end.to_le_bytes());
    }
    let mut at = 0;
    for number in 0..=parts.slots {
        while at < parts.entries.len() && slot(parts.entries[at].gram, parts.slots) < number {
            at += 1;
        }
        out.extend_from_slice(&(at as u32).to_le_bytes());
    }
    for entry in &parts.entries {
        for number in [entry.gram, entry.form, entry.before] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }
    for form in &parts.forms {
        out.extend_from_slice(form);
    }
}

/// Bytes that [`write`] appends.
pub fn size(parts: &Parts) -> usize {
    let bits: usize = logs(parts).iter().map(|log| (1usize << log) / 8).sum();
    let numbers = parts.forms.len() + parts.slots + 1;
    let arena: usize = parts.forms.iter().map(|form| form.len()).sum();
    HEADER + bits + numbers * 4 + parts.entries.len() * ENTRY + arena
}

/// Sixteen bits for each number of a set; there are few first bytes.
fn logs(parts: &Parts) -> [u32; 4] {
    let log = |numbers: usize| (numbers * 16).next_power_of_two().max(64).trailing_zeros();
    let forms = parts.forms.len();
    [
        log(parts.entries.len()),
        log(forms.min(16)),
        log(forms),
        log(forms),
    ]
}

fn write_bits(out: &mut Vec<u8>, log: u32, numbers: impl Iterator<Item = u32>) {
    let from = out.len();
    out.resize(from + (1usize << log) / 8, 0);
    let bits = &mut out[from..];
    for number in numbers {
        let place = (mix(number) >> (64 - log)) as usize;
        bits[place / 8] |= 1 << (place % 8);
    }
}

/// The four bytes at a place.
pub fn entry(form: &[u8], number: usize, before: usize) -> Entry {
    Entry {
        gram: gram(form, before),
        form: number as u32,
        before: before as u32,
    }
}

/// The four bytes there.
#[inline(always)]
pub fn gram(bytes: &[u8], at: usize) -> u32 {
    let four = bytes[at..at + GRAM].first_chunk();
    u32::from_le_bytes(*four.unwrap_or(&[0; GRAM]))
}
