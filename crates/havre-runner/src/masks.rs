//! What no text may show.

use std::sync::{Arc, RwLock};

use havre_redact::{Filter, MASK, MIN_BYTES, Stream};

/// Most values, and most bytes of all of them.
const MAX_VALUES: usize = 4096;
const MAX_BYTES: usize = 8 << 20;
/// Shorter ones would mask what is no secret wherever it stands.
const MIN_SHORT: usize = 3;

/// Values that are masked, from the moment they are known.
#[derive(Default)]
pub(crate) struct Masks(RwLock<Arc<Set>>);

#[derive(Default)]
struct Set {
    values: Vec<String>,
    bytes: usize,
    filter: Filter,
    /// Those that the filter does not look for; masked as they are, not in other forms.
    short: Vec<String>,
}

/// What became of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    /// It is masked.
    Masked,
    /// It is too short to be told from other text.
    TooShort,
    /// There are too many already.
    TooMany,
}

impl Masks {
    /// Takes further values; the worst of what became of them.
    pub fn add<'v>(&self, values: impl IntoIterator<Item = &'v str>) -> Added {
        let mut set = self
            .0
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut next = Set {
            values: set.values.clone(),
            bytes: set.bytes,
            filter: Filter::default(),
            short: set.short.clone(),
        };
        let mut worst = Added::Masked;
        for value in values {
            let length = value.trim().len();
            if next.values.iter().any(|known| known == value) || length == 0 {
                continue;
            }
            if next.values.len() >= MAX_VALUES || next.bytes + value.len() > MAX_BYTES {
                worst = Added::TooMany;
                break;
            }
            if length < MIN_SHORT {
                worst = Added::TooShort;
                continue;
            }
            if length < MIN_BYTES {
                next.short.push(value.trim().to_owned());
            }
            next.bytes += value.len();
            next.values.push(value.to_owned());
        }
        let named = next.values.iter().map(|value| ("", value.as_bytes()));
        next.filter = Filter::new(named).0;
        *set = Arc::new(next);
        worst
    }

    /// The text with masks.
    pub fn masked(&self, text: String) -> String {
        let set = self.set();
        let mut text = set.filter.redact(&text).unwrap_or(text);
        for short in &set.short {
            if text.contains(short) {
                text = text.replace(short, MASK);
            }
        }
        text
    }

    /// Whether something in the text would be masked.
    pub fn find(&self, text: &str) -> bool {
        let set = self.set();
        set.filter.redact(text).is_some() || set.short.iter().any(|short| text.contains(short))
    }

    /// Passes a chunk of an endless line through; what may become a secret is held back.
    pub fn feed(&self, stream: &mut Stream, chunk: &[u8], out: &mut Vec<u8>) {
        stream.feed(&self.set().filter, chunk, out);
    }

    /// Lets go of what is held back.
    pub fn flush(&self, stream: &mut Stream, out: &mut Vec<u8>) {
        stream.flush(&self.set().filter, out);
    }

    /// Masks what is too short for [`Masks::feed`] in a piece of an endless line, whose last [`MIN_BYTES`] are to be
    /// looked at again.
    pub fn hide_short(&self, piece: &mut Vec<u8>) {
        for short in &self.set().short {
            let found = piece
                .windows(short.len())
                .any(|part| part == short.as_bytes());
            if found {
                *piece = replaced(piece, short.as_bytes());
            }
        }
    }

    fn set(&self) -> Arc<Set> {
        let set = self
            .0
            .read()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        Arc::clone(&set)
    }
}

fn replaced(bytes: &[u8], value: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(value.len()).position(|part| part == value) {
        all.extend(&rest[..at]);
        all.extend(MASK.as_bytes());
        rest = &rest[at + value.len()..];
    }
    all.extend(rest);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_masked_in_all_their_forms() {
        let masks = Masks::default();
        assert_eq!(masks.add(["hunter2hunter", "abcd"]), Added::Masked);
        assert_eq!(masks.add(["x"]), Added::TooShort);
        assert_eq!(masks.masked("a hunter2hunter x abcd".into()), "a *** x ***");
        assert_eq!(masks.masked("aHVudGVyMmh1bnRlcg".into()), "***g");
        assert!(masks.find("..abcd") && !masks.find("x"));
        let many: Vec<String> = (0..5000).map(|n| format!("secret-{n}")).collect();
        assert_eq!(masks.add(many.iter().map(String::as_str)), Added::TooMany);
    }
}
