//! Writes images as files that other tools read.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufReader, Read, Write};

use serde::Serialize;

use crate::archive::{Entry, EntryKind, TarWriter};
use crate::blobs::BlobError;
use crate::compression::{Compression, decoder};
use crate::images::{Image, ImageError, Images};
use crate::layers::LayerError;
use crate::manifest::{Descriptor, Index, media};
use crate::{Digest, ImageRef};

/// The form of an exported image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// A tar in OCI layout; keeps every digest.
    Oci,
    /// As `docker save` wrote it before OCI; keeps the image id, not the manifest's digest.
    DockerArchive,
}

/// An export that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot export {reference}")]
pub struct ExportError {
    /// The image.
    pub reference: ImageRef,
    /// The reason.
    pub source: ExportFault,
}

/// Why an export failed.
#[derive(Debug, thiserror::Error)]
pub enum ExportFault {
    /// There is no such image.
    #[error("there is no image of that name")]
    NotFound,
    /// The documents.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The store.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The layers.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The output failed.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
}

impl Images {
    /// Writes the image of that name to `out`. The same image makes the same bytes. Blocks.
    pub fn export(
        &self,
        reference: &ImageRef,
        format: ExportFormat,
        out: impl Write,
    ) -> Result<(), ExportError> {
        let _hold = self.hold();
        let export = Export {
            images: self,
            reference,
            out: TarWriter::new(out),
        };
        export.run(format).map_err(|source| ExportError {
            reference: reference.clone(),
            source,
        })
    }
}

struct Export<'a, W> {
    images: &'a Images,
    reference: &'a ImageRef,
    out: TarWriter<W>,
}

/// `manifest.json` of `docker save`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerManifest {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

impl<W: Write> Export<'_, W> {
    fn run(mut self, format: ExportFormat) -> Result<(), ExportFault> {
        let image = self
            .images
            .resolve(self.reference)?
            .ok_or(ExportFault::NotFound)?;
        self.images.touch_image(&image)?;
        match format {
            ExportFormat::Oci => self.oci(&image)?,
            ExportFormat::DockerArchive => self.docker(&image)?,
        }
        let mut out = self.out.finish().map_err(ExportFault::Write)?;
        out.flush().map_err(ExportFault::Write)
    }

    fn oci(&mut self, image: &Image) -> Result<(), ExportFault> {
        let manifest = self.document(&image.manifest_digest)?;
        let media_type = serde_json::from_slice::<serde_json::Value>(&manifest)
            .ok()
            .and_then(|value| value.get("mediaType")?.as_str().map(str::to_owned))
            .unwrap_or_else(|| media::MANIFEST.to_owned());
        let mut entry = Descriptor::new(&media_type, image.manifest_digest, manifest.len() as u64);
        entry.annotations = BTreeMap::from([
            (
                "io.containerd.image.name".to_owned(),
                self.reference.canonical(),
            ),
            (
                "org.opencontainers.image.ref.name".to_owned(),
                self.reference.canonical(),
            ),
        ]);
        let index = Index {
            schema_version: 2,
            media_type: Some(media::INDEX.to_owned()),
            manifests: vec![entry],
        };
        self.bytes("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        self.json("index.json", &index)?;
        self.bytes(&blob_name(&image.manifest_digest), &manifest)?;
        let config = self.document(&image.config_digest)?;
        self.bytes(&blob_name(&image.config_digest), &config)?;
        let mut written = BTreeSet::new();
        for layer in &image.layers {
            if written.insert(layer.digest) {
                let file = self.images.open_layer(layer)?;
                let size = file.metadata().map_err(ExportFault::Write)?.len();
                self.file(&blob_name(&layer.digest), size, &mut BufReader::new(file))?;
            }
        }
        Ok(())
    }

    fn docker(&mut self, image: &Image) -> Result<(), ExportFault> {
        // Unpacking tells how large each layer is.
        self.images.ensure_unpacked(image)?;
        let config_name = format!("{}.json", image.config_digest.hex());
        let config = self.document(&image.config_digest)?;
        self.bytes(&config_name, &config)?;
        let mut names = Vec::new();
        for layer in &image.layers {
            let name = format!("{}.tar", layer.diff_id.hex());
            if !names.contains(&name) {
                let file = self.images.open_layer(layer)?;
                let size = self.images.layer_tar_bytes(&layer.chain_id)?;
                let (compression, source) =
                    Compression::sniff(BufReader::new(file)).map_err(ExportFault::Write)?;
                let mut plain = decoder(compression, source).map_err(ExportFault::Write)?;
                self.file(&name, size, &mut plain)?;
            }
            names.push(name);
        }
        let manifest = [DockerManifest {
            config: config_name,
            repo_tags: vec![self.reference.to_string()],
            layers: names,
        }];
        self.json("manifest.json", &manifest)
    }

    fn document(&self, digest: &Digest) -> Result<Vec<u8>, ExportFault> {
        Ok(self.images.inner.blobs.document(digest)?)
    }

    fn json(&mut self, name: &str, value: &impl Serialize) -> Result<(), ExportFault> {
        let bytes = serde_json::to_vec(value).map_err(|error| ExportFault::Write(error.into()))?;
        self.bytes(name, &bytes)
    }

    fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<(), ExportFault> {
        self.file(name, bytes.len() as u64, &mut &bytes[..])
    }

    fn file(&mut self, name: &str, size: u64, content: &mut dyn Read) -> Result<(), ExportFault> {
        let mut entry = Entry::new(name, EntryKind::File, 0o644);
        entry.size = size;
        self.out.append(&entry, content).map_err(ExportFault::Write)
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
