//! What the build cache may take, and what goes when it takes more. Pure.

use std::time::SystemTime;

/// How much of the disk the build cache may take, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// It never has to be smaller, however short the disk is.
    pub floor: u64,
    /// It is never larger for long.
    pub ceiling: u64,
    /// As long as less than this is free on the disk, it shrinks towards its floor.
    pub free: u64,
}

impl Budget {
    /// Nothing.
    pub const NONE: Self = Self {
        floor: 0,
        ceiling: 0,
        free: 0,
    };
}

/// What kind of thing is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An image with a name.
    Image,
    /// What a build step made, which no image has.
    Step,
    /// A folder that RUN steps keep between builds.
    CacheMount,
    /// What nothing refers to.
    Leftover,
}

/// Something stored that may be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What it is.
    pub kind: Kind,
    /// A digest, or the name of a cache mount's folder.
    pub id: String,
    /// The same for people.
    pub what: String,
    /// Bytes that it alone takes.
    pub bytes: u64,
    /// When it was last of use.
    pub used: SystemTime,
    /// How many others it stands on: what stands on others goes first.
    pub depth: usize,
}

/// What becomes of an item, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The item.
    pub item: Item,
    /// It goes.
    pub removed: bool,
    /// Why it goes or stays.
    pub why: String,
}

impl Item {
    /// It stays.
    pub(super) fn kept(self, why: impl Into<String>) -> Judged {
        Judged {
            item: self,
            removed: false,
            why: why.into(),
        }
    }

    /// It goes.
    pub(super) fn removed(self, why: impl Into<String>) -> Judged {
        Judged {
            item: self,
            removed: true,
            why: why.into(),
        }
    }
}

/// Chooses what of the build cache goes, least recently used first. What was used at `cutoff` or
/// later stays in any case; `free` are the bytes that the disk has left.
pub(super) fn judge(
    mut cache: Vec<Item>,
    budget: Budget,
    free: u64,
    cutoff: SystemTime,
) -> Vec<Judged> {
    cache.sort_by(|a, b| {
        let order = a.used.cmp(&b.used);
        order.then(b.depth.cmp(&a.depth)).then(a.id.cmp(&b.id))
    });
    let mut taken: u64 = cache.iter().map(|item| item.bytes).sum();
    let mut short = budget.free.saturating_sub(free);
    let mut judged = Vec::with_capacity(cache.len());
    for item in cache {
        let bytes = item.bytes;
        let over = taken > budget.ceiling;
        let needed = short > 0 && taken > budget.floor;
        let one = if !(over || needed) {
            item.kept("within the budget")
        } else if item.used >= cutoff {
            item.kept("used just now")
        } else if over {
            item.removed(format!(
                "the build cache takes more than {}",
                size(budget.ceiling)
            ))
        } else {
            item.removed(format!("the disk has less than {} left", size(budget.free)))
        };
        if one.removed {
            taken -= bytes;
            short = short.saturating_sub(bytes);
        }
        judged.push(one);
    }
    judged
}

/// Bytes for people, as the rest of the program shows them.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{} kB", bytes / 1000),
        1_000_000..1_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn time(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// Items as `name bytes used depth`; the names of those that go, in order.
    fn gone(items: &[(&str, u64, u64, usize)], budget: (u64, u64, u64), free: u64) -> Vec<String> {
        let items = items.iter().map(|(name, bytes, used, depth)| Item {
            kind: Kind::Step,
            id: (*name).to_owned(),
            what: String::new(),
            bytes: *bytes,
            used: time(*used),
            depth: *depth,
        });
        let (floor, ceiling, wanted) = budget;
        let budget = Budget {
            floor,
            ceiling,
            free: wanted,
        };
        let judged = judge(items.collect(), budget, free, time(1000));
        let removed = judged.into_iter().filter(|one| one.removed);
        removed.map(|one| one.item.id).collect()
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let items = [("c", 10, 3, 0), ("a", 10, 1, 0), ("b", 10, 2, 0)];
        assert_eq!(gone(&items, (0, 30, 0), 0), [""; 0]);
        assert_eq!(gone(&items, (0, 29, 0), 0), ["a"]);
        assert_eq!(gone(&items, (0, 10, 0), 0), ["a", "b"]);
        assert_eq!(gone(&items, (0, 0, 0), 0), ["a", "b", "c"]);
        // What stands on others goes before them.
        let chain = [("low", 10, 1, 0), ("high", 10, 1, 1)];
        assert_eq!(gone(&chain, (0, 10, 0), 0), ["high"]);
    }

    #[test]
    fn a_short_disk_shrinks_it_to_its_floor() {
        let items = [("a", 10, 1, 0), ("b", 10, 2, 0), ("c", 10, 3, 0)];
        assert_eq!(gone(&items, (0, 100, 50), 50), [""; 0]);
        assert_eq!(gone(&items, (0, 100, 50), 45), ["a"]);
        assert_eq!(gone(&items, (0, 100, 50), 35), ["a", "b"]);
        assert_eq!(gone(&items, (20, 100, 50), 0), ["a"]);
        assert_eq!(gone(&items, (30, 100, 50), 0), [""; 0]);
    }

    #[test]
    fn what_is_in_use_stays() {
        let items = [
            ("a", 10, 1, 0),
            ("now", 100, 1000, 0),
            ("later", 100, 1001, 0),
        ];
        assert_eq!(gone(&items, (0, 0, 0), 0), ["a"]);
    }
}
