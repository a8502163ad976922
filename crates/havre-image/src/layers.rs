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
use std::sync::PoisonError;

use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::Digest;
use crate::archive::TarError;
use crate::blobs::{self, BlobError};
use crate::compression::{Compression, decoder};
use crate::diff::{self, DiffError};
use crate::digest::Hashing;
use crate::images::{Image, Images, Layer};
use crate::limits::{Cancellable, Limits, StreamLimit};
use crate::manifest::media;
use crate::remove::remove_tree;
use crate::unpack::{UnpackError, Unpacker};

/// More files than this are flushed with their whole file system.
const MAX_FLUSHED_SINGLY: usize = 256;

/// The folder of layers.
#[derive(Debug)]
pub(crate) struct Layers {
    dir: PathBuf,
    tmp: PathBuf,
    empty: PathBuf,
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
    fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
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

    fn scratch(&self) -> Result<TempDir, LayerError> {
        tempfile::Builder::new()
            .prefix("layer-")
            .tempdir_in(&self.tmp)
            .map_err(LayerError::io("make a folder in", &self.tmp))
    }

    /// Gives the finished `fs` inside `made` its name. Should another thread have made the same
    /// layer meanwhile, that one stays.
    fn publish(
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

impl Images {
    /// The folders of the image for an overlay, the topmost first; unpacks those that are not
    /// there yet. Never empty. Blocks: call it from a thread that may.
    pub fn ensure_unpacked(&self, image: &Image) -> Result<Vec<PathBuf>, LayerError> {
        self.ensure_unpacked_within(image, Limits::default())
    }

    /// The same within other limits.
    pub fn ensure_unpacked_within(
        &self,
        image: &Image,
        limits: Limits,
    ) -> Result<Vec<PathBuf>, LayerError> {
        self.ensure_unpacked_until(image, limits, &CancellationToken::new())
    }

    /// The same; fails when it is cancelled.
    pub(crate) fn ensure_unpacked_until(
        &self,
        image: &Image,
        limits: Limits,
        cancel: &CancellationToken,
    ) -> Result<Vec<PathBuf>, LayerError> {
        let _hold = self.hold();
        let layers = &self.inner.layers;
        let mut below: Vec<PathBuf> = Vec::new();
        let mut parent = None;
        for layer in &image.layers {
            if !self.adopt_layer(layer)? {
                self.unpack_layer(layer, parent, &below, limits, cancel)?;
            }
            below.insert(0, layers.tree(&layer.chain_id));
            parent = Some(layer.chain_id);
        }
        if below.is_empty() {
            below.push(layers.empty.clone());
        }
        Ok(below)
    }

    /// The folders of layers that are in the store, the topmost first; `None` when one is
    /// missing. They are marked as just used.
    pub fn layer_paths(&self, layers: &[Layer]) -> Result<Option<Vec<PathBuf>>, LayerError> {
        let mut paths = Vec::with_capacity(layers.len());
        for layer in layers.iter().rev() {
            if !self.adopt_layer(layer)? {
                return Ok(None);
            }
            paths.push(self.inner.layers.tree(&layer.chain_id));
        }
        if paths.is_empty() {
            paths.push(self.inner.layers.empty.clone());
        }
        Ok(Some(paths))
    }

    /// Makes a layer of an overlay's upper folder, which must lie in [`Images::scratch`], be
    /// mounted no more, and is moved away. `parent` is the chain id of the layer below.
    pub fn layer_from_upper(
        &self,
        upper: &Path,
        parent: Option<Digest>,
    ) -> Result<Layer, LayerError> {
        self.layer_from_upper_until(upper, parent, &CancellationToken::new())
    }

    /// The same; fails when it is cancelled.
    pub(crate) fn layer_from_upper_until(
        &self,
        upper: &Path,
        parent: Option<Digest>,
        cancel: &CancellationToken,
    ) -> Result<Layer, LayerError> {
        let _hold = self.hold();
        let layers = &self.inner.layers;
        if let Some(parent) = parent.filter(|parent| !layers.has(parent)) {
            return Err(LayerError::Missing { chain: parent });
        }
        let mut hashing = Hashing::new(io::sink());
        let out = Cancellable::new(&mut hashing, cancel);
        diff::write_layer(upper, out).map_err(|source| LayerError::Diff {
            path: upper.to_owned(),
            source,
        })?;
        let (diff_id, tar_bytes, _) = hashing.finish();
        let layer = Layer {
            digest: diff_id,
            media_type: media::LAYER_TAR.to_owned(),
            size: tar_bytes,
            diff_id,
            chain_id: chain_id(parent.as_ref(), &diff_id),
        };
        if self.adopt_layer(&layer)? {
            remove_tree(upper).map_err(LayerError::io("remove", upper))?;
            return Ok(layer);
        }
        let made = layers.scratch()?;
        fs::rename(upper, made.path().join("fs")).map_err(LayerError::io("move", upper))?;
        let record = LayerRecord {
            diff_id,
            parent,
            tar_bytes,
        };
        layers.publish(&made, &layer.chain_id, &record)?;
        Ok(layer)
    }

    /// Opens the bytes of a layer that travel; writes them first where the layer was built here.
    pub fn open_layer(&self, layer: &Layer) -> Result<File, LayerError> {
        let blob_error = |source| LayerError::Blob {
            diff_id: layer.diff_id,
            source,
        };
        match self.inner.blobs.open(&layer.digest) {
            Err(BlobError::Missing { .. }) => self.materialize(layer)?,
            other => return other.map_err(blob_error),
        }
        self.inner.blobs.open(&layer.digest).map_err(blob_error)
    }

    /// Bytes of the uncompressed tar of a layer that is unpacked.
    pub(crate) fn layer_tar_bytes(&self, chain: &Digest) -> Result<u64, LayerError> {
        match self.inner.layers.record(chain)? {
            Some(record) => Ok(record.tar_bytes),
            None => Err(LayerError::Missing { chain: *chain }),
        }
    }

    /// Writes the tar of a layer that was built here as a blob.
    fn materialize(&self, layer: &Layer) -> Result<(), LayerError> {
        let blob_error = |source| LayerError::Blob {
            diff_id: layer.diff_id,
            source,
        };
        if layer.digest != layer.diff_id || !self.inner.layers.has(&layer.chain_id) {
            return Err(blob_error(BlobError::Missing {
                digest: layer.digest,
            }));
        }
        let tree = self.inner.layers.tree(&layer.chain_id);
        let mut writer = self.inner.blobs.writer().map_err(blob_error)?;
        diff::write_layer(&tree, &mut writer)
            .map_err(|source| LayerError::Diff { path: tree, source })?;
        self.inner
            .blobs
            .commit(writer, Some(&layer.digest))
            .map(drop)
            .map_err(blob_error)
    }

    /// The layer's folder is there; marks it as just used.
    fn adopt_layer(&self, layer: &Layer) -> Result<bool, LayerError> {
        let _guard = self
            .inner
            .sweep
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        self.inner
            .layers
            .touch(&layer.chain_id)
            .map_err(|source| LayerError::Blob {
                diff_id: layer.diff_id,
                source,
            })
    }

    fn unpack_layer(
        &self,
        layer: &Layer,
        parent: Option<Digest>,
        below: &[PathBuf],
        limits: Limits,
        cancel: &CancellationToken,
    ) -> Result<(), LayerError> {
        let blob = self
            .inner
            .blobs
            .open(&layer.digest)
            .map_err(|source| LayerError::Blob {
                diff_id: layer.diff_id,
                source,
            })?;
        let made = self.inner.layers.scratch()?;
        let unpacker = Unpacker::new(&made.path().join("fs"), below, limits);
        let unpack = |content: &mut dyn Read| unpacker?.layer(content).map(drop);
        let packed = blob.metadata().map_or(layer.size, |meta| meta.len());
        let blob = Cancellable::new(blob, cancel);
        let content = Content::read(blob, limits.for_stream(packed), unpack).map_err(|source| {
            LayerError::Unpack {
                digest: layer.digest,
                source,
            }
        })?;
        blobs::check(Some(&layer.digest), content.digest).map_err(|source| LayerError::Blob {
            diff_id: layer.diff_id,
            source,
        })?;
        if content.diff_id != layer.diff_id {
            return Err(LayerError::DiffId {
                digest: layer.digest,
                expected: layer.diff_id,
                found: content.diff_id,
            });
        }
        let record = LayerRecord {
            diff_id: content.diff_id,
            parent,
            tar_bytes: content.tar_bytes,
        };
        self.inner.layers.publish(&made, &layer.chain_id, &record)
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn making_a_layer_ends_when_it_is_cancelled() {
        let dir = tempfile::tempdir().unwrap();
        let store =
            havre_store::Store::open(&dir.path().join("state.db"), &[crate::SCHEMA]).unwrap();
        let images = Images::open(&dir.path().join("images"), Arc::new(store)).unwrap();
        let scratch = images.scratch().unwrap();
        let upper = scratch.path().join("upper");
        fs::create_dir(&upper).unwrap();
        // An hour of zeros.
        let huge = File::create(upper.join("huge")).unwrap();
        huge.set_len(1 << 41).unwrap();
        let cancel = CancellationToken::new();
        let stopper = cancel.clone();
        let worker = std::thread::spawn(move || stopper.cancel());
        let made = images.layer_from_upper_until(&upper, None, &cancel);
        assert!(matches!(made, Err(LayerError::Diff { .. })), "{made:?}");
        worker.join().unwrap();
        assert!(upper.is_dir(), "it was not taken");
    }
}
