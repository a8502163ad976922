//! Which folders and files of the machine a build reads: whoever builds is root.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::path::Path;
use std::sync::Arc;

type PathCheck = dyn Fn(&Path) -> io::Result<()> + Send + Sync;

/// Checks contexts and Dockerfiles by where they are once they are open: a link may have taken the
/// place of what was looked at before.
#[derive(Clone)]
pub struct Reach(Arc<PathCheck>);

impl Reach {
    /// `check` gets a path without links; its error is shown.
    pub fn new(check: impl Fn(&Path) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self(Arc::new(check))
    }

    /// Whatever is named.
    pub fn everything() -> Self {
        Self::new(|_| Ok(()))
    }

    /// Whether what is at this path, without links, may be read.
    pub fn check(&self, real: &Path) -> io::Result<()> {
        (self.0)(real)
    }

    /// Whether what is open may be read.
    pub(super) fn admits(&self, open: impl AsFd) -> io::Result<()> {
        let link = format!("/proc/self/fd/{}", open.as_fd().as_raw_fd());
        self.check(&std::fs::read_link(link)?)
    }
}

impl fmt::Debug for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reach")
    }
}
