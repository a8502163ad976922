//! Brings images in from files: OCI layouts (folder or tar), archives of `docker save`, and plain
//! tars of a root file system. Whatever has a digest is verified, and an image gets its name only
//! once it is unpacked.

mod source;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use source::ImportSource;

use crate::archive::TarError;
use crate::blobs::{BlobError, MAX_DOCUMENT};
use crate::compression::Compression;
use crate::config::History;
use crate::images::{CommitError, Image, ImageError, Images, Layer};
use crate::layers::{Content, LayerError, chain_id};
use crate::limits::{self, Cancellable, Limits};
use crate::manifest::{Descriptor, Index, Manifest, media};
use crate::progress::{OnProgress, Progress, TransferPhase};
use crate::{Digest, ImageConfig, ImageRef, Platform, RefError, regular};

/// Where programs are looked for in a root file system that says nothing about it.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An image that was brought in.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// Its name here.
    pub reference: ImageRef,
    /// The image.
    pub image: Image,
}

/// An import that failed; what was named before stays.
#[derive(Debug, thiserror::Error)]
#[error("cannot import {path}", path = path.display())]
pub struct ImportError {
    /// The file or folder given.
    pub path: PathBuf,
    /// The reason.
    pub source: Box<ImportFault>,
}

/// Why an import failed.
#[derive(Debug, thiserror::Error)]
pub enum ImportFault {
    /// The file cannot be read.
    #[error("cannot {operation} the file")]
    File {
        /// What was attempted.
        operation: &'static str,
        /// The reason.
        source: io::Error,
    },
    /// The tar is not readable.
    #[error(transparent)]
    Archive(#[from] TarError),
    /// A file inside cannot be read.
    #[error("cannot read {name} inside it")]
    Inside {
        /// The file inside.
        name: String,
        /// The reason.
        source: io::Error,
    },
    /// A document inside is not what it should be.
    #[error("{name} inside it is not valid")]
    Document {
        /// The document inside.
        name: String,
        /// Where it is wrong.
        source: serde_json::Error,
    },
    /// A document inside is larger than any real one.
    #[error("{name} inside it is larger than {MAX_DOCUMENT} bytes")]
    TooLarge {
        /// The document inside.
        name: String,
    },
    /// Nobody waits for it any more.
    #[error("it was cancelled")]
    Cancelled,
    /// An archive without files.
    #[error("it is empty")]
    Empty,
    /// The folder holds no image.
    #[error("the folder is not an OCI layout (no oci-layout and index.json)")]
    NoLayout,
    /// There is no image for this kind of machine, or none at all.
    #[error("it holds no image for {wanted}")]
    NoPlatform {
        /// What is needed.
        wanted: Platform,
    },
    /// A name inside is none.
    #[error(transparent)]
    Name(#[from] RefError),
    /// The file does not say what its image is called.
    #[error("it does not say what its image is called: give a name")]
    NeedsName,
    /// A name was given for a file with several images.
    #[error("it holds {count} images, which cannot all be called {reference}")]
    Ambiguous {
        /// How many.
        count: usize,
        /// The name given.
        reference: ImageRef,
    },
    /// The store.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The documents.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A new image could not be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The layers.
    #[error(transparent)]
    Layer(#[from] LayerError),
}

impl Images {
    /// Imports what `path` holds: a folder or tar in OCI layout, a tar of `docker save`, or a tar
    /// of a root file system; tars may be packed with gzip or zstd. `reference` names the image;
    /// it may be left out where the file says the names itself. Blocks, until it is done or
    /// cancelled.
    pub fn import(
        &self,
        path: &Path,
        reference: Option<&ImageRef>,
        progress: OnProgress<'_>,
        cancel: &CancellationToken,
    ) -> Result<Vec<Imported>, ImportError> {
        let _hold = self.hold();
        let import = Import {
            images: self,
            path,
            reference,
            progress,
            cancel,
        };
        import.run().map_err(|source| ImportError {
            path: path.to_owned(),
            source: Box::new(match cancel.is_cancelled() {
                true => ImportFault::Cancelled,
                false => source,
            }),
        })
    }
}

/// `manifest.json` of `docker save`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerManifest {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(deserialize_with = "limits::layers")]
    layers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(transparent)]
struct DockerManifests(#[serde(deserialize_with = "limits::images")] Vec<DockerManifest>);

struct Import<'a> {
    images: &'a Images,
    path: &'a Path,
    reference: Option<&'a ImageRef>,
    progress: OnProgress<'a>,
    cancel: &'a CancellationToken,
}

impl Import<'_> {
    fn run(&self) -> Result<Vec<Imported>, ImportFault> {
        let tmp = self.images.inner.root.join("tmp");
        let source = ImportSource::open(self.path, &tmp, self.cancel)?;
        if source.has("oci-layout") && source.has("index.json") {
            self.oci(&source)
        } else if source.has("manifest.json") {
            self.docker(&source)
        } else if matches!(source, ImportSource::Folder(_)) {
            Err(ImportFault::NoLayout)
        } else {
            self.root_file_system().map(|imported| vec![imported])
        }
    }

    fn oci(&self, source: &ImportSource) -> Result<Vec<Imported>, ImportFault> {
        let index: Index = self.document(source, "index.json")?;
        let mut found = Vec::new();
        for descriptor in &index.manifests {
            let Some(manifest) = self.for_this_machine(source, descriptor)? else {
                continue;
            };
            found.push((manifest, name_of(descriptor)));
        }
        if found.is_empty() {
            return Err(ImportFault::NoPlatform {
                wanted: Platform::of_this_machine(),
            });
        }
        self.check_count(found.len())?;
        found
            .into_iter()
            .map(|(descriptor, name)| {
                let reference = self.name(name)?;
                self.blob(source, &descriptor)?;
                let manifest: Manifest = self.images.read_json(&descriptor.digest, "manifest")?;
                self.blob(source, &manifest.config)?;
                for layer in &manifest.layers {
                    self.blob(source, layer)?;
                }
                self.complete(descriptor.digest, reference)
            })
            .collect()
    }

    /// The manifest that a top-level entry stands for, through an index of platforms.
    fn for_this_machine(
        &self,
        source: &ImportSource,
        descriptor: &Descriptor,
    ) -> Result<Option<Descriptor>, ImportFault> {
        if media::is_manifest(&descriptor.media_type) {
            return Ok(Some(descriptor.clone()));
        }
        if !media::is_index(&descriptor.media_type) {
            return Ok(None);
        }
        let index: Index = self.document(source, &blob_name(&descriptor.digest))?;
        Ok(index.choose(&Platform::of_this_machine()).cloned())
    }

    fn docker(&self, source: &ImportSource) -> Result<Vec<Imported>, ImportFault> {
        let DockerManifests(entries) = self.document(source, "manifest.json")?;
        let mut named = Vec::new();
        for entry in &entries {
            let tags = entry.repo_tags.as_deref().unwrap_or_default();
            if tags.is_empty() || self.reference.is_some() {
                named.push((entry, self.name(None)?));
                continue;
            }
            for tag in tags {
                named.push((entry, self.name(Some(tag.clone()))?));
            }
        }
        if named.is_empty() {
            return Err(ImportFault::NoPlatform {
                wanted: Platform::of_this_machine(),
            });
        }
        self.check_count(entries.len())?;
        named
            .into_iter()
            .map(|(entry, reference)| self.docker_image(source, entry, reference))
            .collect()
    }

    fn docker_image(
        &self,
        source: &ImportSource,
        entry: &DockerManifest,
        reference: ImageRef,
    ) -> Result<Imported, ImportFault> {
        let bytes = self.bytes(source, &entry.config)?;
        let config_digest = self.images.inner.blobs.put(&bytes)?;
        let layers = entry
            .layers
            .iter()
            .map(|name| {
                let mut content = self.open_inside(source, name)?;
                let (compression, mut content) =
                    Compression::sniff(&mut content).map_err(inside(name))?;
                let (digest, size) = self.images.write_blob(&mut content, None)?;
                self.emit(digest, TransferPhase::Done, size);
                Ok(Descriptor::new(layer_media_type(compression), digest, size))
            })
            .collect::<Result<Vec<_>, ImportFault>>()?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media::MANIFEST.to_owned()),
            config: Descriptor::new(media::CONFIG, config_digest, bytes.len() as u64),
            layers,
            annotations: Default::default(),
        };
        let manifest = serde_json::to_vec(&manifest).map_err(CommitError::Document)?;
        let digest = self.images.inner.blobs.put(&manifest)?;
        self.complete(digest, reference)
    }

    /// One layer, stored as it is packed.
    fn root_file_system(&self) -> Result<Imported, ImportFault> {
        let reference = self.name(None)?;
        let open = || -> Result<_, ImportFault> {
            let file = regular::open(self.path).map_err(file_error("open"))?;
            Ok(Cancellable::new(file, self.cancel))
        };
        let (digest, size) = self.images.write_blob(&mut open()?, None)?;
        self.emit(digest, TransferPhase::Transferring, size);
        let limit = Limits::default().for_stream(size);
        let content = Content::read(open()?, limit, |_| Ok(()))
            .map_err(|source| LayerError::Unpack { digest, source })?;
        let diff_id = content.diff_id;
        let layer = Layer {
            digest,
            media_type: layer_media_type(content.compression).to_owned(),
            size,
            diff_id,
            chain_id: chain_id(None, &diff_id),
        };
        let mut config = ImageConfig::for_this_machine();
        config.run.env.push(DEFAULT_PATH.to_owned());
        config.history.push(History {
            created_by: Some("havre image import".to_owned()),
            ..History::default()
        });
        let image = self.images.form_image(config, &[layer], &BTreeMap::new())?;
        self.complete(image, reference)
    }

    /// Unpacks, then names.
    fn complete(&self, digest: Digest, reference: ImageRef) -> Result<Imported, ImportFault> {
        let image = self.images.image(digest)?;
        for layer in &image.layers {
            self.emit(layer.digest, TransferPhase::Unpacking, layer.size);
        }
        let limits = Limits::default();
        self.images
            .ensure_unpacked_until(&image, limits, self.cancel)?;
        let image = self.images.tag(&reference, digest)?;
        for layer in &image.layers {
            self.emit(layer.digest, TransferPhase::Done, layer.size);
        }
        Ok(Imported { reference, image })
    }

    /// Copies a blob of an OCI layout unless it is there.
    fn blob(&self, source: &ImportSource, descriptor: &Descriptor) -> Result<(), ImportFault> {
        let digest = descriptor.digest;
        if self.images.inner.blobs.touch(&digest)? {
            self.emit(digest, TransferPhase::Present, descriptor.size);
            return Ok(());
        }
        let mut content = self.open_inside(source, &blob_name(&digest))?;
        self.emit(digest, TransferPhase::Transferring, descriptor.size);
        self.images.write_blob(&mut content, Some(&digest))?;
        Ok(())
    }

    fn name(&self, inside: Option<String>) -> Result<ImageRef, ImportFault> {
        match (self.reference, inside) {
            (Some(reference), _) => Ok(reference.clone()),
            // A mere tag, as the OCI layout allows, names nothing on its own.
            (None, Some(text)) if text.contains(['/', ':']) => Ok(text.parse()?),
            (None, _) => Err(ImportFault::NeedsName),
        }
    }

    fn check_count(&self, count: usize) -> Result<(), ImportFault> {
        match self.reference {
            Some(reference) if count > 1 => Err(ImportFault::Ambiguous {
                count,
                reference: reference.clone(),
            }),
            _ => Ok(()),
        }
    }

    fn document<T: DeserializeOwned>(
        &self,
        source: &ImportSource,
        name: &str,
    ) -> Result<T, ImportFault> {
        let bytes = self.bytes(source, name)?;
        serde_json::from_slice(&bytes).map_err(|source| ImportFault::Document {
            name: name.to_owned(),
            source,
        })
    }

    fn bytes(&self, source: &ImportSource, name: &str) -> Result<Vec<u8>, ImportFault> {
        let mut bytes = Vec::new();
        self.open_inside(source, name)?
            .take(MAX_DOCUMENT + 1)
            .read_to_end(&mut bytes)
            .map_err(inside(name))?;
        if bytes.len() as u64 > MAX_DOCUMENT {
            return Err(ImportFault::TooLarge {
                name: name.to_owned(),
            });
        }
        Ok(bytes)
    }

    fn open_inside(&self, source: &ImportSource, name: &str) -> Result<Box<dyn Read>, ImportFault> {
        let content = source.read(name).map_err(inside(name))?;
        Ok(Box::new(Cancellable::new(content, self.cancel)))
    }

    fn emit(&self, digest: Digest, phase: TransferPhase, size: u64) {
        (self.progress)(Progress {
            digest,
            phase,
            done: if phase == TransferPhase::Transferring {
                0
            } else {
                size
            },
            total: Some(size),
        });
    }
}

fn file_error(operation: &'static str) -> impl Fn(io::Error) -> ImportFault {
    move |source| ImportFault::File { operation, source }
}

fn inside(name: &str) -> impl FnOnce(io::Error) -> ImportFault + '_ {
    move |source| ImportFault::Inside {
        name: name.to_owned(),
        source,
    }
}

/// Names that writers of OCI layouts give.
fn name_of(descriptor: &Descriptor) -> Option<String> {
    let annotation = |name: &str| descriptor.annotations.get(name).cloned();
    annotation("io.containerd.image.name")
        .or_else(|| annotation("org.opencontainers.image.ref.name"))
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn layer_media_type(compression: Compression) -> &'static str {
    match compression {
        Compression::None => media::LAYER_TAR,
        Compression::Gzip => media::LAYER_GZIP,
        Compression::Zstd => media::LAYER_ZSTD,
    }
}
