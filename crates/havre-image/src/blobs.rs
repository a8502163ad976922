//! Files named by their digest. A blob is complete and verified from the moment it has its name.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, utimensat};
use serde::de::DeserializeOwned;
use tempfile::{NamedTempFile, TempPath};

use crate::Digest;
use crate::digest::Hashing;

/// The most a manifest or configuration document may hold.
pub(crate) const MAX_DOCUMENT: u64 = 8 << 20;

/// Why a blob could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// It is not in the store.
    #[error("blob {digest} is not in the store")]
    Missing {
        /// The blob.
        digest: Digest,
    },
    /// A file operation failed.
    #[error("cannot {operation} {path}", path = path.display())]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The bytes are not those that were asked for.
    #[error("blob {expected} is damaged: its bytes have the digest {found}")]
    Digest {
        /// The blob.
        expected: Digest,
        /// What its bytes add up to.
        found: Digest,
    },
    /// A document is larger than any real one.
    #[error("blob {digest} is too large for a document ({MAX_DOCUMENT} bytes at most)")]
    TooLarge {
        /// The blob.
        digest: Digest,
    },
    /// A document does not have the expected form.
    #[error("blob {digest} is not a valid {what}")]
    Document {
        /// The blob.
        digest: Digest,
        /// What it should have been.
        what: &'static str,
        /// Where it differs.
        source: serde_json::Error,
    },
}

impl BlobError {
    pub(crate) fn io(
        operation: &'static str,
        path: &Path,
    ) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }
}

/// The folder of blobs.
#[derive(Debug)]
pub(crate) struct Blobs {
    dir: PathBuf,
    tmp: PathBuf,
}

/// A blob being written; it disappears unless committed.
pub(crate) struct BlobWriter {
    file: Hashing<NamedTempFile>,
}

impl Blobs {
    pub(crate) fn new(dir: PathBuf, tmp: PathBuf) -> Self {
        Self { dir, tmp }
    }

    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.hex())
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn has(&self, digest: &Digest) -> bool {
        self.path(digest).is_file()
    }

    /// Whether it is certain that the blob is not there.
    pub(crate) fn is_gone(&self, digest: &Digest) -> bool {
        fs::symlink_metadata(self.path(digest))
            .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    pub(crate) fn size(&self, digest: &Digest) -> Option<u64> {
        fs::metadata(self.path(digest)).ok().map(|meta| meta.len())
    }

    pub(crate) fn open(&self, digest: &Digest) -> Result<File, BlobError> {
        let path = self.path(digest);
        File::open(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => BlobError::Missing { digest: *digest },
            _ => BlobError::io("open", &path)(source),
        })
    }

    /// A small blob, verified.
    pub(crate) fn document(&self, digest: &Digest) -> Result<Vec<u8>, BlobError> {
        let mut bytes = Vec::new();
        self.open(digest)?
            .take(MAX_DOCUMENT + 1)
            .read_to_end(&mut bytes)
            .map_err(BlobError::io("read", &self.path(digest)))?;
        if bytes.len() as u64 > MAX_DOCUMENT {
            return Err(BlobError::TooLarge { digest: *digest });
        }
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(BlobError::Digest {
                expected: *digest,
                found,
            });
        }
        Ok(bytes)
    }

    pub(crate) fn json<T: DeserializeOwned>(
        &self,
        digest: &Digest,
        what: &'static str,
    ) -> Result<T, BlobError> {
        serde_json::from_slice(&self.document(digest)?).map_err(|source| BlobError::Document {
            digest: *digest,
            what,
            source,
        })
    }

    pub(crate) fn writer(&self) -> Result<BlobWriter, BlobError> {
        let file = NamedTempFile::with_prefix_in("blob-", &self.tmp)
            .map_err(BlobError::io("make a file in", &self.tmp))?;
        Ok(BlobWriter {
            file: Hashing::new(file),
        })
    }

    pub(crate) fn put(&self, bytes: &[u8]) -> Result<Digest, BlobError> {
        self.put_from(&mut &bytes[..], None)
            .map(|(digest, _)| digest)
    }

    /// Copies `source` into the store; returns digest and size.
    pub(crate) fn put_from(
        &self,
        source: &mut dyn Read,
        expected: Option<&Digest>,
    ) -> Result<(Digest, u64), BlobError> {
        let mut writer = self.writer()?;
        io::copy(source, &mut writer).map_err(BlobError::io("write a blob in", &self.tmp))?;
        self.commit(writer, expected)
    }

    /// Makes what was written durable and gives it its name.
    pub(crate) fn commit(
        &self,
        writer: BlobWriter,
        expected: Option<&Digest>,
    ) -> Result<(Digest, u64), BlobError> {
        let (digest, size, file) = writer.file.finish();
        check(expected, digest)?;
        let (file, path) = file.into_parts();
        self.adopt_file(&file, path, &digest)?;
        Ok((digest, size))
    }

    /// Makes the complete and verified `file` at `path` (on the same file system) a blob.
    pub(crate) fn adopt_file(
        &self,
        file: &File,
        path: TempPath,
        digest: &Digest,
    ) -> Result<(), BlobError> {
        let target = self.path(digest);
        file.sync_all().map_err(BlobError::io("flush", &path))?;
        path.persist(&target)
            .map_err(|error| BlobError::io("rename a file to", &target)(error.error))?;
        sync_dir(&self.dir).map_err(BlobError::io("flush", &self.dir))
    }

    /// Marks the blob as just used; `false` when it is not there.
    pub(crate) fn touch(&self, digest: &Digest) -> Result<bool, BlobError> {
        let path = self.path(digest);
        touch(&path).map_err(BlobError::io("touch", &path))
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

pub(crate) fn check(expected: Option<&Digest>, found: Digest) -> Result<(), BlobError> {
    match expected {
        Some(expected) if *expected != found => Err(BlobError::Digest {
            expected: *expected,
            found,
        }),
        _ => Ok(()),
    }
}

pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Sets the modification time to now; `false` when there is nothing.
pub(crate) fn touch(path: &Path) -> io::Result<bool> {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_NOW,
    };
    let keep = Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_OMIT,
    };
    let times = Timestamps {
        last_access: keep,
        last_modification: now,
    };
    match utimensat(CWD, path, &times, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
