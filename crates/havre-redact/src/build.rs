//! Makes a filter from values.

use zeroize::Zeroizing;

use crate::filter::Filter;
use crate::forms::{self, Forms, Unmasked};
use crate::layout::{self, GRAM, Parts, gram, slot};

/// A wider distance between the places that are looked at gains nothing.
const MAX_STRIDE: usize = 9;

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
        (of(&forms), unmasked)
    }
}

impl Default for Filter {
    fn default() -> Self {
        of(&Forms::default())
    }
}

fn of(forms: &Forms) -> Filter {
    let forms: Vec<&[u8]> = forms.iter().collect();
    let shortest = forms.iter().map(|form| form.len()).min();
    let stride = shortest.map_or(1, |shortest| (shortest - GRAM + 1).min(MAX_STRIDE));
    let rare = Rarity::of(&forms);
    let mut entries = Vec::with_capacity(forms.len() * stride);
    for (number, form) in forms.iter().enumerate() {
        let from = rare.best_place(form, stride);
        entries.extend((from..from + stride).map(|before| layout::entry(form, number, before)));
    }
    let slots = entries.len().next_power_of_two();
    entries.sort_unstable_by_key(|entry| slot(entry.gram, slots));
    let parts = Parts {
        forms,
        stride,
        entries,
        slots,
    };
    let mut bytes = Zeroizing::new(Vec::with_capacity(layout::size(&parts)));
    layout::write(&parts, &mut bytes);
    Filter::from_bytes(bytes).expect("it was just written")
}

/// How often each four bytes are in all forms, by hash.
struct Rarity {
    counts: Vec<u16>,
}

impl Rarity {
    fn of(forms: &[&[u8]]) -> Self {
        let total: usize = forms.iter().map(|form| form.len()).sum();
        let mut counts = vec![0u16; total.next_power_of_two().clamp(256, 1 << 16)];
        let slots = counts.len();
        for form in forms {
            for at in 0..=form.len() - GRAM {
                let count = &mut counts[slot(gram(form, at), slots)];
                *count = count.saturating_add(1);
            }
        }
        Self { counts }
    }

    /// The first of `stride` places in a row of which the most frequent is the rarest.
    fn best_place(&self, form: &[u8], stride: usize) -> usize {
        let count = |at: usize| self.counts[slot(gram(form, at), self.counts.len())];
        let worst = |from: &usize| (*from..from + stride).map(count).max();
        let places = 0..=form.len() - GRAM + 1 - stride;
        places.min_by_key(worst).unwrap_or(0)
    }
}
