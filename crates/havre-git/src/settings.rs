//! Where repositories lie, and how much of everything there may be.

use std::path::PathBuf;
use std::time::Duration;

/// Where repositories lie, and how much of everything there may be.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Holds the repositories, `NAME.git` each.
    pub folder: PathBuf,
    /// For what may vanish at a reboot; short, as a socket's path is.
    pub run: PathBuf,
    /// The binary whose [`entrypoint`](crate::entrypoint) is the hooks'.
    pub exe: PathBuf,
    /// What one push may send, in bytes.
    pub most_push: u64,
    /// What one repository may take on disk, in bytes, before a push is refused.
    pub most_repository: u64,
    /// What all repositories may take on disk together, in bytes, before a push is refused.
    pub most_total: u64,
    /// Repositories.
    pub most_repositories: usize,
    /// What must be left of the disk, in bytes, for a push to begin.
    pub least_free: u64,
    /// Git processes at once that one principal may have.
    pub most_each: usize,
    /// Git processes at once.
    pub most_at_once: usize,
    /// How long a client may say or take nothing.
    pub idle: Duration,
    /// How long [`Receiver::check`](crate::Receiver::check) may take.
    pub check: Duration,
    /// How long a push may be followed.
    pub longest: Duration,
}

impl Settings {
    /// The usual bounds.
    pub fn new(folder: PathBuf, run: PathBuf, exe: PathBuf) -> Self {
        Self {
            folder,
            run,
            exe,
            most_push: 2 << 30,
            most_repository: 10 << 30,
            most_total: 100 << 30,
            most_repositories: 1000,
            least_free: 256 << 20,
            most_each: 8,
            most_at_once: 32,
            idle: Duration::from_secs(120),
            check: Duration::from_secs(60),
            longest: Duration::from_secs(12 * 3600),
        }
    }
}
