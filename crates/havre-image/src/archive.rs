//! Tar archives: a reader that trusts nothing and a writer whose bytes depend on its input alone.
//!
//! The reader is our own because a layer comes from strangers: extension headers are bounded
//! before they are read into memory, checksums are checked, and every size is read once by one
//! rule. Formats: ustar, GNU long names, PAX (POSIX.1-2001).

mod fields;
mod reader;
mod writer;

use rustix::fs::{Timespec, Timestamps};

pub use reader::{TarError, TarReader};
pub use writer::TarWriter;

/// Size of a tar block.
pub(crate) const BLOCK: usize = 512;

/// The longest path and link target, as the kernel's `PATH_MAX`.
pub(crate) const MAX_PATH: usize = 4096;

/// What an entry makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file with `size` bytes of content.
    File,
    /// Another name for the file `link`.
    HardLink,
    /// A symbolic link to `link`.
    Symlink,
    /// A folder.
    Directory,
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// One entry of an archive, without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// As written, not normalised.
    pub path: Vec<u8>,
    /// What it makes.
    pub kind: EntryKind,
    /// Target of a link; empty otherwise.
    pub link: Vec<u8>,
    /// Bytes of content that follow.
    pub size: u64,
    /// Permission bits, set-id and sticky bits included.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since the epoch.
    pub mtime: i64,
    /// Nanoseconds beside them.
    pub mtime_nanos: u32,
    /// Extended attributes (PAX `SCHILY.xattr.`), by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    /// Both times of what it makes.
    pub(crate) fn times(&self) -> Timestamps {
        let time = Timespec {
            tv_sec: self.mtime,
            tv_nsec: self.mtime_nanos.into(),
        };
        Timestamps {
            last_access: time,
            last_modification: time,
        }
    }

    /// An entry owned by root at the epoch, without content.
    pub fn new(path: impl Into<Vec<u8>>, kind: EntryKind, mode: u32) -> Self {
        Self {
            path: path.into(),
            kind,
            link: Vec::new(),
            size: 0,
            mode,
            uid: 0,
            gid: 0,
            mtime: 0,
            mtime_nanos: 0,
            xattrs: Vec::new(),
        }
    }

    /// The path for a message.
    pub fn display_path(&self) -> String {
        String::from_utf8_lossy(&self.path).into_owned()
    }
}
