//! Layers of images: unpacked when they are needed, made of upper folders, read as tars.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use tokio_util::sync::CancellationToken;

use crate::Digest;
use crate::blobs::{self, BlobError};
use crate::diff;
use crate::digest::Hashing;
use crate::images::{Image, Images, Layer};
use crate::layers::{Content, LayerError, LayerRecord, chain_id};
use crate::limits::{Cancellable, Limits};
use crate::manifest::media;
use crate::remove::remove_tree;
use crate::unpack::{UnpackError, Unpacker};

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
        let content = read_layer(blob, layer, limits, cancel, unpack)?;
        let record = LayerRecord {
            diff_id: content.diff_id,
            parent,
            tar_bytes: content.tar_bytes,
        };
        self.inner.layers.publish(&made, &layer.chain_id, &record)
    }
}

/// Reads a layer's blob; what `use_content` has made of it counts only where both digests are as they should be.
pub(crate) fn read_layer(
    blob: File,
    layer: &Layer,
    limits: Limits,
    cancel: &CancellationToken,
    use_content: impl FnOnce(&mut dyn Read) -> Result<(), UnpackError>,
) -> Result<Content, LayerError> {
    let packed = blob.metadata().map_or(layer.size, |meta| meta.len());
    let blob = Cancellable::new(blob, cancel);
    let content =
        Content::read(blob, limits.for_stream(packed), use_content).map_err(|source| {
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
    Ok(content)
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
