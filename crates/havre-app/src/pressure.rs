//! What is scarce on the machine is for those who serve: builds and fetches need room on the disk
//! that is left when the services have theirs, and the kernel ends a build before it ends us.

use std::io;
use std::path::Path;
use std::time::Duration;

use havre_api::{ApiError, ErrorCode};

/// The daemon, and the edge and name servers that it starts, are ended last.
const OWN_OOM_SCORE: &str = "-900";
/// Steps of builds are ended first.
pub(crate) const BUILD_OOM_SCORE: i32 = 900;
/// How often the room is looked at while something fills it.
const LOOK: Duration = Duration::from_millis(500);
const MIB: u64 = 1 << 20;

/// Room on a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Room {
    free: u64,
    total: u64,
}

impl Room {
    fn of(path: &Path) -> io::Result<Self> {
        let found = rustix::fs::statvfs(path)?;
        Ok(Self {
            free: found.f_bavail.saturating_mul(found.f_frsize),
            total: found.f_blocks.saturating_mul(found.f_frsize),
        })
    }

    /// What stays for logs, databases and the state itself: a twentieth, within bounds.
    fn reserve(self) -> u64 {
        (self.total / 20).clamp(64 * MIB, 1024 * MIB)
    }

    /// So little that what fills it must end.
    fn is_short(self) -> bool {
        self.free < self.reserve()
    }

    fn refusal(self, what: &str, path: &Path) -> ApiError {
        let path = path.display();
        let (free, reserve) = (self.free / MIB, self.reserve() / MIB);
        let message = format!(
            "{what}: the disk of {path} has {free} MiB left, and {reserve} MiB are kept for what runs"
        );
        ApiError::new(ErrorCode::Failed, message).with_hint(
            "`havre image prune -a` removes unused images and the build cache; `df -h` and \
             `du -xh --max-depth=2` show what else fills it",
        )
    }
}

/// Ends when the disk of `path` is short, with what to tell. Where that cannot be found out it goes
/// on: writing will tell. What takes no time (a build whose steps are all in the cache) is over
/// before the first look.
pub(crate) async fn short(path: &Path, what: &str) -> ApiError {
    loop {
        tokio::time::sleep(LOOK).await;
        if let Ok(room) = Room::of(path)
            && room.is_short()
        {
            return room.refusal(what, path);
        }
    }
}

/// Lets the kernel end other processes before this one and those it starts.
pub(crate) fn protect_this_process() {
    // Needs CAP_SYS_RESOURCE, which a daemon inside a container may lack.
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", OWN_OOM_SCORE) {
        tracing::warn!(%error, "the daemon is not protected from the out-of-memory killer");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_disk_is_kept_within_bounds() {
        let room = |free_mib: u64, total_mib: u64| Room {
            free: free_mib * MIB,
            total: total_mib * MIB,
        };
        for (room, reserve_mib, short) in [
            (room(500, 1000), 64, false),
            (room(50, 1000), 64, true),
            (room(600, 10_000), 500, false),
            (room(400, 10_000), 500, true),
            (room(2000, 1_000_000), 1024, false),
            (room(1000, 1_000_000), 1024, true),
        ] {
            assert_eq!(room.reserve(), reserve_mib * MIB, "{room:?}");
            assert_eq!(room.is_short(), short, "{room:?}");
        }
    }
}
