//! How much an archive may hold before it counts as an attack.

use std::fmt;
use std::io::{self, Read, Write};
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use tokio_util::sync::CancellationToken;

/// The most layers of an image. The kernel's overlays take 500, and each one costs time whenever a
/// container starts.
pub const MAX_LAYERS: usize = 480;

/// The most images that one archive may hold.
const MAX_IMAGES: usize = 1000;

/// Reads the layers of a document, whose length a stranger chose.
pub(crate) fn layers<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    at_most(
        MAX_LAYERS,
        "layers, more than the kernel mounts",
        deserializer,
    )
}

/// The same for the images of an archive.
pub(crate) fn images<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    at_most(MAX_IMAGES, "images", deserializer)
}

fn at_most<'de, T, D>(limit: usize, what: &'static str, from: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    from.deserialize_seq(Bounded {
        what,
        limit,
        item: PhantomData,
    })
}

struct Bounded<T> {
    what: &'static str,
    limit: usize,
    item: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Bounded<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {} {}", self.limit, self.what)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
        let mut found = Vec::new();
        while let Some(item) = items.next_element()? {
            if found.len() == self.limit {
                let (limit, what) = (self.limit, self.what);
                return Err(A::Error::custom(format!("it lists over {limit} {what}")));
            }
            found.push(item);
        }
        Ok(found)
    }
}

/// Makes reading and writing an error once nobody waits for it.
pub(crate) struct Cancellable<R> {
    inner: R,
    cancel: CancellationToken,
}

impl<R> Cancellable<R> {
    pub(crate) fn new(inner: R, cancel: &CancellationToken) -> Self {
        Self {
            inner,
            cancel: cancel.clone(),
        }
    }
}

impl<T> Cancellable<T> {
    fn check(&self) -> io::Result<()> {
        match self.cancel.is_cancelled() {
            true => Err(io::Error::other("cancelled")),
            false => Ok(()),
        }
    }
}

impl<R: Read> Read for Cancellable<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.check()?;
        self.inner.read(buffer)
    }
}

impl<W: Write> Write for Cancellable<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.check()?;
        self.inner.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

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
