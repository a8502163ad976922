//! What boxes may take of the disk: so much each, and none of what is kept for services.
//!
//! ```text
//! guard: every second ── statvfs ──► Room ┐
//!        when due ────── a walk ───► Look ┴─► decide ──► a box is ended, with a sentence
//! ```
//! It works on every file system, and so is no wall: a box is ended a moment after it went beyond its bound. Deciding
//! is pure.

mod measure;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

pub use measure::{Taken, of_processes, of_tree};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// Less than this is not what fills a disk.
const LITTLE: u64 = 16 * MIB;

/// How much of the disk boxes may take. Sizes are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskBounds {
    /// One box: what its job and its services write.
    pub each: u64,
    /// Files and folders of one box.
    pub files: u64,
    /// For all else: while less is free, none is made, and one that grows is ended.
    pub reserve: u64,
}

impl DiskBounds {
    /// A tenth of the disk each, but 10 GiB at least, or half of a small disk; a twentieth is kept, from 64 MiB to 5 GiB.
    pub fn of(total: u64) -> Self {
        Self {
            each: (total / 10).max((10 * GIB).min(total / 2)),
            files: 10_000_000,
            reserve: (total / 20).clamp(64 * MIB, 5 * GIB),
        }
    }

    /// The same for the disk of a folder.
    pub fn of_disk(folder: &Path) -> io::Result<Self> {
        Ok(Self::of(Room::of(folder)?.total))
    }
}

/// Room on a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// For others than root.
    pub free: u64,
    /// All there is.
    pub total: u64,
    /// One file in a thousand is all that it can still hold: it has so many.
    pub has_files: bool,
}

impl Room {
    /// On the file system of a folder.
    pub fn of(folder: &Path) -> io::Result<Self> {
        let found = rustix::fs::statvfs(folder)?;
        Ok(Self {
            free: found.f_bavail.saturating_mul(found.f_frsize),
            total: found.f_blocks.saturating_mul(found.f_frsize),
            // Some file systems do not count.
            has_files: found.f_files == 0 || found.f_favail > found.f_files / 50,
        })
    }

    /// Why no box is made now.
    pub fn refusal(self, bounds: &DiskBounds) -> Option<String> {
        let kept = "`jobs: {disk_reserve: …}` in machine.yaml says how much; `havre image prune -a` makes room";
        match (self.free < bounds.reserve, self.has_files) {
            (true, _) => Some(format!(
                "the disk has {} left, and {} are kept for what serves: {kept}",
                Size(self.free),
                Size(bounds.reserve)
            )),
            (false, false) => Some(
                "the disk can hold hardly any more files, however small; remove some".to_owned(),
            ),
            (false, true) => None,
        }
    }
}

/// A box as it was last looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Look {
    /// What it had.
    pub taken: Taken,
    /// How much more than at the look before.
    pub grown: u64,
}

impl Look {
    /// The next one.
    pub fn next(self, taken: Taken) -> Self {
        Self {
            taken,
            grown: taken.bytes.saturating_sub(self.taken.bytes),
        }
    }
}

/// Which box is to end, and why: one beyond its bound, or, where room is short, the one that grew most.
pub fn decide(
    looks: &BTreeMap<String, Look>,
    room: Room,
    bounds: &DiskBounds,
) -> Option<(String, String)> {
    for (id, look) in looks {
        let why = beyond(look.taken, bounds);
        if let Some(why) = why {
            return Some((id.clone(), why));
        }
    }
    let short = room.refusal(bounds)?;
    let most = looks
        .iter()
        .filter(|(_, look)| look.grown >= LITTLE || !room.has_files)
        .max_by_key(|(_, look)| (look.grown, look.taken.files));
    let (id, look) = most?;
    let taken = Size(look.taken.bytes);
    Some((
        id.clone(),
        format!("the job was ended, which has taken {taken} and grew: {short}"),
    ))
}

fn beyond(taken: Taken, bounds: &DiskBounds) -> Option<String> {
    let (bytes, most) = (Size(taken.bytes), Size(bounds.each));
    if taken.is_partial {
        return Some("the job has folders so deep that nobody can see what is in them".to_owned());
    }
    if taken.bytes > bounds.each {
        return Some(format!(
            "the job took {bytes} of disk, its bound is {most} (`jobs: {{disk: …}}` in machine.yaml)"
        ));
    }
    (taken.files > bounds.files).then(|| {
        format!(
            "the job has {} files, its bound is {}",
            taken.files, bounds.files
        )
    })
}

/// How long until the next look, after one that took so long: looks take a tenth of the time at most.
pub fn pause(took: Duration) -> Duration {
    (took * 10).max(Duration::from_secs(3))
}

/// Bytes that all below a folder takes. Blocks.
pub fn disk_of(folder: &Path) -> io::Result<u64> {
    Ok(of_tree(folder)?.bytes)
}

/// Bytes, for a person.
#[derive(Clone, Copy)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, word) = match self.0 {
            0..1_000_000_000 => (1_000_000, "MB"),
            _ => (1_000_000_000, "GB"),
        };
        let tenths = self.0 / (unit / 10);
        match tenths < 100 {
            true => write!(f, "{}.{} {word}", tenths / 10, tenths % 10),
            false => write!(f, "{} {word}", tenths / 10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: DiskBounds = DiskBounds {
        each: 30_000_000_000,
        files: 1000,
        reserve: 2_000_000_000,
    };

    fn look(bytes: u64, grown: u64) -> Look {
        Look {
            taken: Taken {
                bytes,
                files: 10,
                is_partial: false,
            },
            grown,
        }
    }

    fn room(free: u64) -> Room {
        Room {
            free,
            total: 1 << 40,
            has_files: true,
        }
    }

    fn check(looks: &[(&str, Look)], room: Room) -> Option<(String, String)> {
        let looks = looks.iter().map(|(id, look)| ((*id).to_owned(), *look));
        decide(&looks.collect(), room, &BOUNDS)
    }

    #[test]
    fn a_box_beyond_its_bound_ends_and_says_so() {
        let boxes = [
            ("a", look(30_000_000_000, 0)),
            ("b", look(31_200_000_000, 0)),
        ];
        let (id, why) = check(&boxes, room(1 << 39)).expect("one");
        assert_eq!(id, "b");
        assert_eq!(
            why,
            "the job took 31 GB of disk, its bound is 30 GB (`jobs: {disk: …}` in machine.yaml)"
        );
        assert_eq!(check(&boxes[..1], room(1 << 39)), None);
        let mut many = look(1, 0);
        many.taken.files = 1001;
        assert!(check(&[("a", many)], room(1 << 39)).is_some());
        many.taken = Taken {
            is_partial: true,
            ..Taken::default()
        };
        assert!(check(&[("a", many)], room(1 << 39)).is_some());
    }

    #[test]
    fn where_room_is_short_the_box_that_grew_ends() {
        let boxes = [
            ("large", look(20_000_000_000, 0)),
            ("grows", look(1_000_000_000, 900_000_000)),
            ("little", look(500_000_000, 20_000_000)),
        ];
        let (id, why) = check(&boxes, room(1_900_000_000)).expect("one");
        assert_eq!(id, "grows");
        assert!(why.contains("1.9 GB left, and 2.0 GB are kept"), "{why}");
        assert_eq!(check(&boxes, room(2_000_000_000)), None);
        // Somebody else fills the disk.
        assert_eq!(check(&boxes[..1], room(0)), None);
        let full = Room {
            has_files: false,
            ..room(1 << 39)
        };
        assert!(check(&boxes, full).is_some());
    }

    #[test]
    fn bounds_fit_the_disk() {
        let of = |gib: u64| DiskBounds::of(gib * GIB);
        assert_eq!((of(1000).each / GIB, of(1000).reserve / GIB), (100, 5));
        assert_eq!((of(40).each / GIB, of(40).reserve / GIB), (10, 2));
        assert_eq!((of(8).each / GIB, of(1).reserve / MIB), (4, 64));
    }
}
