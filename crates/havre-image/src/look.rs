//! Looks through a layer as it travels: also at what a layer above hides or deletes. Nothing is written.

use std::io::{BufReader, Read};

use tokio_util::sync::CancellationToken;

use crate::archive::{Entry, TarReader};
use crate::image_layers::read_layer;
use crate::images::{Images, Layer};
use crate::layers::LayerError;
use crate::limits::Limits;
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
        read_layer(blob, layer, limits, cancel, look).map(drop)
    }
}
