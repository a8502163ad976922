//! The store as a whole: where things lie, names, and images put together from blobs.
//!
//! ```text
//! <dir>/lock                 held while the store is open: one process at a time
//! <dir>/blobs/sha256/<hex>   manifests, configurations, layers as they travel
//! <dir>/layers/<chain>/fs    layers as overlay wants them; layer.json beside
//! <dir>/partial/<hex>        downloads under way or cut off
//! <dir>/empty                the one layer of an image without layers
//! <dir>/build-mounts/<hex>   cache mounts of RUN steps
//! <dir>/tmp                  emptied at open
//! <dir>/leftovers            what was in it then, until it is removed
//! ```
//!
//! Names, the build cache and leases are rows of `havre-store`.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant, SystemTime};

use havre_store::{Store, StoreError};
use rustix::fs::{FlockOperation, flock};
use serde::de::DeserializeOwned;

use crate::blobs::{BlobError, Blobs};
use crate::layers::{Layers, chain_id};
use crate::manifest::{Descriptor, Manifest, media};
use crate::names::{NameRefused, NameRights, NameUse};
use crate::remove::set_aside;
use crate::tables::Tables;
use crate::{Digest, ImageConfig, ImageRef};

/// Below the store's folder.
const LEFTOVERS: &str = "leftovers";

/// How long `open` waits for a process that is about to end and still holds the store.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// The store of images; cheap to clone.
#[derive(Clone)]
pub struct Images {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) root: PathBuf,
    pub(crate) blobs: Blobs,
    pub(crate) layers: Layers,
    pub(crate) tables: Tables,
    /// Read by who relies on an object that is already there (check, then touch), written by who
    /// removes one (check its age, then remove).
    pub(crate) sweep: RwLock<()>,
    /// Start of every operation under way; nothing younger than the oldest is swept.
    pub(crate) holds: Mutex<Holds>,
    /// One download per blob at a time.
    pub(crate) downloads: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
    /// Locked for as long as the store is open.
    _lock: File,
}

#[derive(Default)]
pub(crate) struct Holds {
    pub(crate) next: u64,
    pub(crate) started: BTreeMap<u64, SystemTime>,
}

/// An image whose documents are in the store.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// Digest of the manifest: what a release pins.
    pub manifest_digest: Digest,
    /// Digest of the configuration: what Docker calls the image id.
    pub config_digest: Digest,
    /// How to run it and what it is made of.
    pub config: ImageConfig,
    /// The layers, the lowest first.
    pub layers: Vec<Layer>,
}

impl Image {
    /// Bytes of the layers as they travel.
    pub fn size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum()
    }
}

/// A layer of an image.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Layer {
    /// Digest of the bytes that travel. Equal to `diff_id` for layers built here, whose tar is
    /// written only when somebody asks for it.
    pub digest: Digest,
    /// How those bytes are packed.
    pub media_type: String,
    /// Their number.
    pub size: u64,
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Names this layer on top of all below it.
    pub chain_id: Digest,
}

/// A name in the store.
#[derive(Debug)]
pub struct Named {
    /// The name.
    pub reference: ImageRef,
    /// What it stands for.
    pub manifest_digest: Digest,
    /// When the name was last given.
    pub created_at: SystemTime,
    /// The image; an error for one whose documents are damaged, so that it can be shown and
    /// removed.
    pub image: Result<Image, ImageError>,
}

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A folder cannot be made, read or cleaned.
    #[error("cannot {operation} {path}", path = path.display())]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("the image store {path} is in use by another process", path = path.display())]
    InUse {
        /// The store.
        path: PathBuf,
    },
}

/// Why an image could not be read or named.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The database failed.
    #[error("cannot reach the names of images")]
    Store(#[from] StoreError),
    /// A blob failed.
    #[error("cannot read image {digest}")]
    Blob {
        /// The manifest.
        digest: Digest,
        /// The reason.
        source: BlobError,
    },
    /// The documents contradict each other or what this store supports.
    #[error("image {digest} is not usable: {reason}")]
    Invalid {
        /// The manifest.
        digest: Digest,
        /// Why.
        reason: String,
    },
    /// A row of the database holds no digest.
    #[error("the name {reference} stands for {text:?}, which is not a digest")]
    Row {
        /// The name.
        reference: String,
        /// What was found.
        text: String,
    },
    /// The name is not for who asks.
    #[error(transparent)]
    Refused(#[from] NameRefused),
}

impl Images {
    /// Opens the store in `dir`, makes it when missing, and removes what a killed process left
    /// half-done.
    pub fn open(dir: &Path, store: Arc<Store>) -> Result<Self, OpenError> {
        let blobs = dir.join("blobs/sha256");
        let tmp = dir.join("tmp");
        for folder in [
            &blobs,
            &tmp,
            &dir.join("layers"),
            &dir.join("partial"),
            &dir.join("empty"),
        ] {
            fs::create_dir_all(folder).map_err(open_error("make the folder", folder))?;
        }
        let lock = lock(dir)?;
        // Out of the way now, removed when there is time: a killed build leaves gigabytes.
        set_aside(&tmp, &dir.join(LEFTOVERS), |_| false)
            .map_err(open_error("make room in", &tmp))?;
        Ok(Self {
            inner: Arc::new(Inner {
                root: dir.to_owned(),
                blobs: Blobs::new(blobs, tmp.clone()),
                layers: Layers::new(dir.join("layers"), tmp, dir.join("empty")),
                tables: Tables::new(store),
                sweep: RwLock::new(()),
                holds: Mutex::default(),
                downloads: Mutex::default(),
                _lock: lock,
            }),
        })
    }

    /// Where the blob lies, whether it is there or not.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.inner.blobs.path(digest)
    }

    /// The blob is there.
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.inner.blobs.has(digest)
    }

    /// Copies `source` into the store; returns its digest and size. Where `expected` is given,
    /// other bytes are an error and leave nothing.
    pub fn write_blob(
        &self,
        source: &mut dyn Read,
        expected: Option<&Digest>,
    ) -> Result<(Digest, u64), BlobError> {
        self.inner.blobs.put_from(source, expected)
    }

    /// A JSON document of the store, verified; `what` names it in errors.
    pub fn read_json<T: DeserializeOwned>(
        &self,
        digest: &Digest,
        what: &'static str,
    ) -> Result<T, BlobError> {
        self.inner.blobs.json(digest, what)
    }

    /// Where `open` has put what a killed process has left, for [`crate::remove_all_in`].
    pub fn set_aside(&self) -> PathBuf {
        self.inner.root.join(LEFTOVERS)
    }

    /// A scratch folder on the store's file system, removed when dropped (at the next open it is
    /// a leftover, when the process is killed). Uppers of overlays belong here, so that they can become layers.
    pub fn scratch(&self) -> io::Result<tempfile::TempDir> {
        tempfile::Builder::new()
            .prefix("scratch-")
            .tempdir_in(self.inner.root.join("tmp"))
    }

    /// Folders that RUN steps keep between builds (`--mount=type=cache`).
    pub(crate) fn build_mounts(&self) -> PathBuf {
        self.inner.root.join("build-mounts")
    }

    /// The image of that name, `None` when there is none.
    pub fn resolve(&self, reference: &ImageRef) -> Result<Option<Image>, ImageError> {
        self.resolve_as(reference, &NameRights::everything())
    }

    /// The image of that name, so far as it may be used.
    pub fn resolve_as(
        &self,
        reference: &ImageRef,
        rights: &NameRights,
    ) -> Result<Option<Image>, ImageError> {
        let key = reference.canonical();
        let Some(row) = self.inner.tables.image(&key)? else {
            return Ok(None);
        };
        rights.check(NameUse::Read, reference, row.giver.as_deref())?;
        self.image(row_digest(&key, &row.manifest_digest)?)
            .map(Some)
    }

    /// Whether a name could be used so now, or is free. What gives it asks once more as it does.
    pub fn check_name(
        &self,
        wanted: NameUse,
        reference: &ImageRef,
        rights: &NameRights,
    ) -> Result<(), ImageError> {
        if let Some(row) = self.inner.tables.image(&reference.canonical())? {
            rights.check(wanted, reference, row.giver.as_deref())?;
        }
        Ok(())
    }

    /// The image with that manifest.
    pub fn image(&self, manifest_digest: Digest) -> Result<Image, ImageError> {
        let blob_error = |source| ImageError::Blob {
            digest: manifest_digest,
            source,
        };
        let manifest: Manifest = self
            .read_json(&manifest_digest, "manifest")
            .map_err(blob_error)?;
        let config: ImageConfig = self
            .read_json(&manifest.config.digest, "image configuration")
            .map_err(blob_error)?;
        let layers = layers(&manifest, &config).map_err(|reason| ImageError::Invalid {
            digest: manifest_digest,
            reason,
        })?;
        Ok(Image {
            manifest_digest,
            config_digest: manifest.config.digest,
            config,
            layers,
        })
    }

    /// Gives the image of `manifest_digest`, which must be complete, another name.
    pub fn tag(&self, reference: &ImageRef, manifest_digest: Digest) -> Result<Image, ImageError> {
        self.tag_as(reference, manifest_digest, &NameRights::everything())
    }

    /// Gives the image of `manifest_digest`, which must be complete, another name, if it may be given.
    pub fn tag_as(
        &self,
        reference: &ImageRef,
        manifest_digest: Digest,
        rights: &NameRights,
    ) -> Result<Image, ImageError> {
        let _hold = self.hold();
        let image = self.image(manifest_digest)?;
        self.touch_image(&image)?;
        let digest = manifest_digest.to_string();
        self.inner.tables.image_put(reference, &digest, rights)??;
        Ok(image)
    }

    /// All names, in order.
    pub fn list(&self) -> Result<Vec<Named>, ImageError> {
        let mut names = Vec::new();
        for row in self.inner.tables.images()? {
            let Ok(reference) = row.reference.parse() else {
                tracing::warn!(
                    reference = row.reference,
                    "name of an image is not readable"
                );
                continue;
            };
            let manifest_digest = row_digest(&row.reference, &row.manifest_digest)?;
            let seconds = Duration::from_secs(u64::try_from(row.created_at).unwrap_or(0));
            names.push(Named {
                reference,
                manifest_digest,
                created_at: SystemTime::UNIX_EPOCH + seconds,
                image: self.image(manifest_digest),
            });
        }
        Ok(names)
    }

    /// Makes an image of layers that are in the store and gives it a name. The same input makes
    /// the same bytes; `config.rootfs` is set from `layers`.
    pub fn commit_image(
        &self,
        config: ImageConfig,
        layers: &[Layer],
        reference: &ImageRef,
    ) -> Result<Image, CommitError> {
        self.commit_image_as(config, layers, reference, &NameRights::everything())
    }

    /// The same, if the name may be given.
    pub fn commit_image_as(
        &self,
        config: ImageConfig,
        layers: &[Layer],
        reference: &ImageRef,
        rights: &NameRights,
    ) -> Result<Image, CommitError> {
        let _hold = self.hold();
        let digest = self.form_image(config, layers, &BTreeMap::new())?;
        self.tag_as(reference, digest, rights)
            .map_err(CommitError::Name)
    }

    /// Writes the documents of an image without naming it; returns the manifest's digest.
    pub(crate) fn form_image(
        &self,
        mut config: ImageConfig,
        layers: &[Layer],
        annotations: &BTreeMap<String, String>,
    ) -> Result<Digest, CommitError> {
        config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
        let bytes = serde_json::to_vec(&config).map_err(CommitError::Document)?;
        let config_digest = self.inner.blobs.put(&bytes).map_err(CommitError::Write)?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media::MANIFEST.to_owned()),
            config: Descriptor::new(media::CONFIG, config_digest, bytes.len() as u64),
            layers: layers
                .iter()
                .map(|layer| Descriptor::new(&layer.media_type, layer.digest, layer.size))
                .collect(),
            annotations: annotations.clone(),
        };
        let bytes = serde_json::to_vec(&manifest).map_err(CommitError::Document)?;
        self.inner.blobs.put(&bytes).map_err(CommitError::Write)
    }

    /// Marks everything the image is made of as just used.
    pub(crate) fn touch_image(&self, image: &Image) -> Result<(), ImageError> {
        let error = |source| ImageError::Blob {
            digest: image.manifest_digest,
            source,
        };
        let _guard = self
            .inner
            .sweep
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        for digest in [image.manifest_digest, image.config_digest] {
            if !self.inner.blobs.touch(&digest).map_err(error)? {
                return Err(error(BlobError::Missing { digest }));
            }
        }
        for layer in &image.layers {
            let blob = self.inner.blobs.touch(&layer.digest).map_err(error)?;
            let tree = self.inner.layers.touch(&layer.chain_id).map_err(error)?;
            if !blob && !tree {
                let digest = layer.digest;
                return Err(error(BlobError::Missing { digest }));
            }
        }
        Ok(())
    }
}

/// Why an image could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// A document could not be written down.
    #[error("cannot form the documents of an image")]
    Document(#[source] serde_json::Error),
    /// A blob could not be written.
    #[error("cannot store the documents of an image")]
    Write(#[source] BlobError),
    /// It could not be named.
    #[error("cannot name the new image")]
    Name(#[source] ImageError),
}

/// The layers of a manifest beside what the configuration says about them.
fn layers(manifest: &Manifest, config: &ImageConfig) -> Result<Vec<Layer>, String> {
    let diff_ids = &config.rootfs.diff_ids;
    if manifest.layers.len() != diff_ids.len() {
        return Err(format!(
            "its manifest has {} layers, its configuration {}",
            manifest.layers.len(),
            diff_ids.len()
        ));
    }
    let mut parent = None;
    manifest
        .layers
        .iter()
        .zip(diff_ids)
        .map(|(descriptor, diff_id)| {
            if !media::is_layer(&descriptor.media_type) {
                return Err(format!(
                    "a layer has the media type {}, which is not supported",
                    descriptor.media_type
                ));
            }
            let chain_id = chain_id(parent.as_ref(), diff_id);
            parent = Some(chain_id);
            Ok(Layer {
                digest: descriptor.digest,
                media_type: descriptor.media_type.clone(),
                size: descriptor.size,
                diff_id: *diff_id,
                chain_id,
            })
        })
        .collect()
}

fn row_digest(reference: &str, text: &str) -> Result<Digest, ImageError> {
    text.parse().map_err(|_| ImageError::Row {
        reference: reference.to_owned(),
        text: text.to_owned(),
    })
}

fn open_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io {
        operation,
        path,
        source,
    }
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(open_error("open", &path))?;
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(OpenError::InUse {
                    path: dir.to_owned(),
                });
            }
            Err(error) => return Err(open_error("lock", &path)(error.into())),
        }
    }
}

/// Locks a mutex whose data is consistent between any two statements.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
