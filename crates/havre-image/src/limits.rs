//! How much an archive may hold before it counts as an attack.

use std::io::{self, Read};

/// The most layers of an image. The kernel's overlays take 500, and each one costs time whenever a
/// container starts.
pub const MAX_LAYERS: usize = 480;

/// What one archive may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one uncompressed layer.
    pub bytes: u64,
    /// Entries of one layer.
    pub entries: u64,
    /// Bytes of names of folders, which are kept in memory until the end.
    pub folder_names: usize,
    /// Uncompressed bytes per compressed one, once `ratio_from` is exceeded.
    pub ratio: u64,
    /// Uncompressed bytes that are fine at any ratio.
    pub ratio_from: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 64 << 30,
            entries: 2_000_000,
            folder_names: 64 << 20,
            ratio: 250,
            ratio_from: 512 << 20,
        }
    }
}

impl Limits {
    /// The limit for a stream that has `compressed` bytes.
    pub fn for_stream(&self, compressed: u64) -> StreamLimit {
        let by_ratio = compressed.saturating_mul(self.ratio).max(self.ratio_from);
        StreamLimit {
            bytes: self.bytes.min(by_ratio),
        }
    }
}

/// How much one stream may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLimit {
    bytes: u64,
}

impl StreamLimit {
    /// Makes reading more than the limit an error.
    pub fn cap<R: Read>(self, inner: R) -> Capped<R> {
        Capped {
            inner,
            limit: self.bytes,
            left: self.bytes,
        }
    }
}

/// Fails once more than the limit was read.
pub struct Capped<R> {
    inner: R,
    limit: u64,
    left: u64,
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!(
                    "it unpacks to more than {} bytes, which looks like a bomb",
                    self.limit
                ),
            )
        })?;
        Ok(read)
    }
}
