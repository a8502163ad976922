//! How much is kept.

use std::time::Duration;

/// How much may be kept, and how long. Sizes are bytes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// All artifacts, caches and unfinished uploads together. Caches give way; artifacts do not.
    pub total: u64,
    /// Of the disk, for others. Caches give way; an upload that would still take of it is refused.
    pub free_floor: u64,
    /// All artifacts of a repository. They do not give way: one more is refused.
    pub repository_artifacts: u64,
    /// All caches of a repository.
    pub repository_caches: u64,
    /// One artifact.
    pub artifact: u64,
    /// One cache.
    pub cache: u64,
    /// How many artifacts of a run; at most 1,000 are ever listed to a client.
    pub artifacts_per_run: u32,
    /// How many caches of a repository.
    pub caches_per_repository: u32,
    /// How long an artifact is kept, where it does not ask for less.
    pub retention: Duration,
}

impl Default for Limits {
    /// 100 GiB in all of which 50 GiB a repository's artifacts and 10 GiB its caches, a floor of 5 GiB, 90 days.
    fn default() -> Self {
        const GIB: u64 = 1 << 30;
        Self {
            total: 100 * GIB,
            free_floor: 5 * GIB,
            repository_artifacts: 50 * GIB,
            repository_caches: 10 * GIB,
            artifact: 10 * GIB,
            cache: 10 * GIB,
            artifacts_per_run: 500,
            caches_per_repository: 10_000,
            retention: Duration::from_secs(90 * 24 * 3600),
        }
    }
}
