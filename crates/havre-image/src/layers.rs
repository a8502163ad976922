//! Layers as folders that an overlay can use, one per chain id.
//!
//! A layer built here is moved in from the overlay's upper folder and known by the digest of its
//! uncompressed tar. That tar is hashed but not written: the folder never changes and the
//! writer's bytes depend on it alone, so [`Images::materialize`] can write the tar when an export
//! or a registry asks for it, and checks the digest then. No compression, and no second copy, on
//! the way from a changed line to a running release.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::Digest;
use crate::archive::TarError;
use crate::blobs::{self, BlobError};
use crate::compression::{Compression, decoder};
use crate::diff::DiffError;
use crate::digest::Hashing;
use crate::limits::StreamLimit;
use crate::unpack::UnpackError;

/// More files than this are flushed with their whole file system.
const MAX_FLUSHED_SINGLY: usize = 256;

/// The folder of layers.
#[derive(Debug)]
pub(crate) struct Layers {
    dir: PathBuf,
    tmp: PathBuf,
    pub(crate) empty: PathBuf,
}

/// What `layer.json` says about the folder beside it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    /// Digest of the uncompressed tar.
    pub(crate) diff_id: Digest,
    /// The layer below.
    pub(crate) parent: Option<Digest>,
    /// Bytes of the uncompressed tar.
    pub(crate) tar_bytes: u64,
}

/// Why a layer could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
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
    /// The blob of the layer failed.
    #[error("cannot read layer {diff_id}")]
    Blob {
        /// The layer.
        diff_id: Digest,
        /// The reason.
        source: BlobError,
    },
    /// The content cannot be unpacked.
    #[error("cannot unpack layer {digest}")]
    Unpack {
        /// The layer as it travels.
        digest: Digest,
        /// The reason.
        source: UnpackError,
    },
    /// The content is not what the configuration of the image says.
    #[error("layer {digest} unpacks to {found}, the image's configuration says {expected}")]
    DiffId {
        /// The layer as it travels.
        digest: Digest,
        /// From the configuration.
        expected: Digest,
        /// Of the content.
        found: Digest,
    },
    /// A folder cannot be written as a tar.
    #[error("cannot make a layer of {path}", path = path.display())]
    Diff {
        /// The folder.
        path: PathBuf,
        /// The reason.
        source: DiffError,
    },
    /// A layer that another stands on, or that was unpacked before, is not there.
    #[error("layer {chain} is not in the store")]
    Missing {
        /// Its chain id.
        chain: Digest,
    },
}

impl LayerError {
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

/// The name of a layer on top of `parent`.
pub fn chain_id(parent: Option<&Digest>, diff_id: &Digest) -> Digest {
    match parent {
        None => *diff_id,
        Some(parent) => Digest::of(format!("{parent} {diff_id}").as_bytes()),
    }
}

impl Layers {
    pub(crate) fn new(dir: PathBuf, tmp: PathBuf, empty: PathBuf) -> Self {
        Self { dir, tmp, empty }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The folder for an overlay.
    pub(crate) fn tree(&self, chain: &Digest) -> PathBuf {
        self.dir.join(chain.hex()).join("fs")
    }

    /// Complete layers have this folder: it gets its name last.
    pub(crate) fn has(&self, chain: &Digest) -> bool {
        self.dir.join(chain.hex()).is_dir()
    }

    pub(crate) fn record(&self, chain: &Digest) -> Result<Option<LayerRecord>, LayerError> {
        let path = self.dir.join(chain.hex()).join("layer.json");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(LayerError::io("read", &path)(error)),
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| LayerError::io("read", &path)(error.into()))
    }

    /// Marks the layer as just used; `false` when it is not there.
    pub(crate) fn touch(&self, chain: &Digest) -> Result<bool, BlobError> {
        let path = self.dir.join(chain.hex());
        blobs::touch(&path).map_err(BlobError::io("touch", &path))
    }

    pub(crate) fn scratch(&self) -> Result<TempDir, LayerError> {
        tempfile::Builder::new()
            .prefix("layer-")
            .tempdir_in(&self.tmp)
            .map_err(LayerError::io("make a folder in", &self.tmp))
    }

    /// Gives the finished `fs` inside `made` its name. Should another thread have made the same
    /// layer meanwhile, that one stays.
    pub(crate) fn publish(
        &self,
        made: &TempDir,
        chain: &Digest,
        record: &LayerRecord,
    ) -> Result<(), LayerError> {
        let path = made.path().join("layer.json");
        let bytes = serde_json::to_vec(record)
            .map_err(|error| LayerError::io("form", &path)(error.into()))?;
        fs::write(&path, bytes).map_err(LayerError::io("write", &path))?;
        flush(made.path()).map_err(LayerError::io("flush", made.path()))?;
        let target = self.dir.join(chain.hex());
        match fs::rename(made.path(), &target) {
            Ok(()) => {
                blobs::touch(&target).map_err(LayerError::io("touch", &target))?;
                blobs::sync_dir(&self.dir).map_err(LayerError::io("flush", &self.dir))
            }
            Err(_) if target.is_dir() => Ok(()),
            Err(error) => Err(LayerError::io("rename a folder to", &target)(error)),
        }
    }
}

/// What was learned about a packed tar by reading it to its end.
pub(crate) struct Content {
    /// How it was packed.
    pub(crate) compression: Compression,
    /// Of the packed bytes.
    pub(crate) digest: Digest,
    /// Of the unpacked ones.
    pub(crate) diff_id: Digest,
    /// Number of the unpacked ones.
    pub(crate) tar_bytes: u64,
}

impl Content {
    /// Hands the unpacked bytes of `packed` to `consume` and hashes both sides, also what
    /// `consume` leaves unread.
    pub(crate) fn read(
        packed: impl Read,
        limit: StreamLimit,
        consume: impl FnOnce(&mut dyn Read) -> Result<(), UnpackError>,
    ) -> Result<Self, UnpackError> {
        let packed = BufReader::with_capacity(1 << 18, packed);
        let (compression, packed) = Compression::sniff(packed).map_err(read_error)?;
        if compression == Compression::None {
            let (diff_id, tar_bytes) = drain(limit.cap(packed), consume)?;
            return Ok(Self {
                compression,
                digest: diff_id,
                diff_id,
                tar_bytes,
            });
        }
        let mut packed = Hashing::new(packed);
        let plain = decoder(compression, &mut packed).map_err(read_error)?;
        let (diff_id, tar_bytes) = drain(limit.cap(plain), consume)?;
        io::copy(&mut packed, &mut io::sink()).map_err(read_error)?;
        let (digest, _, _) = packed.finish();
        Ok(Self {
            compression,
            digest,
            diff_id,
            tar_bytes,
        })
    }
}

/// Digest and number of all bytes of `plain`, of which `consume` sees as many as it wants.
fn drain(
    plain: impl Read,
    consume: impl FnOnce(&mut dyn Read) -> Result<(), UnpackError>,
) -> Result<(Digest, u64), UnpackError> {
    let mut plain = Hashing::new(plain);
    consume(&mut plain)?;
    io::copy(&mut plain, &mut io::sink()).map_err(read_error)?;
    let (digest, bytes, _) = plain.finish();
    Ok((digest, bytes))
}

fn read_error(source: io::Error) -> UnpackError {
    UnpackError::Archive(TarError::Read { offset: 0, source })
}

/// Makes everything below `dir` durable. A few files are flushed one by one, so that a small
/// layer does not wait for what databases on the same disk have to write; many at once.
fn flush(dir: &Path) -> io::Result<()> {
    let mut found = vec![dir.to_owned()];
    let mut next = 0;
    while let Some(path) = found.get(next).cloned() {
        next += 1;
        if !path.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&path)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            // Nothing else has content of its own.
            if kind.is_dir() || kind.is_file() {
                found.push(entry.path());
            }
        }
        if found.len() > MAX_FLUSHED_SINGLY {
            return rustix::fs::syncfs(File::open(dir)?).map_err(Into::into);
        }
    }
    found
        .iter()
        .rev()
        .try_for_each(|path| File::open(path)?.sync_all())
}
