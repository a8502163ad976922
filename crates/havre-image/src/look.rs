//! Looks through a layer as it travels: also at what a layer above hides or deletes. Nothing is written.

use std::io::{BufReader, Read};

use tokio_util::sync::CancellationToken;

use crate::archive::{Entry, TarReader};
use crate::blobs;
use crate::images::{Images, Layer};
use crate::layers::{Content, LayerError};
use crate::limits::{Cancellable, Limits};
use crate::unpack::UnpackError;

impl Images {
    /// Shows `see` each entry of a layer and its content, which it need not read. Within the limits of unpacking; what it
    /// has seen counts only where this is `Ok`, since the digests are compared at the end. Blocks.
    pub fn look_through(
        &self,
        layer: &Layer,
        limits: Limits,
        cancel: &CancellationToken,
        mut see: impl FnMut(&Entry, &mut dyn Read) -> std::io::Result<()>,
    ) -> Result<(), LayerError> {
        let _hold = self.hold();
        let blob = self.open_layer(layer)?;
        let packed = blob.metadata().map_or(layer.size, |meta| meta.len());
        let look = |content: &mut dyn Read| -> Result<(), UnpackError> {
            let mut archive = TarReader::new(BufReader::new(content));
            let mut entries = 0;
            while let Some(entry) = archive.next_entry()? {
                entries += 1;
                if entries > limits.entries {
                    return Err(UnpackError::TooMany {
                        limit: limits.entries,
                    });
                }
                see(&entry, &mut archive).map_err(|source| crate::archive::TarError::Read {
                    offset: archive.offset(),
                    source,
                })?;
            }
            Ok(())
        };
        let blob = Cancellable::new(blob, cancel);
        let content = Content::read(blob, limits.for_stream(packed), look).map_err(|source| {
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
        Ok(())
    }
}
