//! Leases, removal and pruning: mark from names, leases and (if wanted) the build cache, sweep
//! the rest.
//!
//! Two rules protect work under way. An operation that relies on an object which is already
//! there marks it as just used (its modification time), and one that makes an object makes it
//! now; an operation under way holds back the sweep of anything used since it started.

mod budget;
mod survey;

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use havre_store::StoreError;

use crate::blobs::BlobError;
use crate::builder::kept;
use crate::disk_usage::disk_usage;
use crate::images::{Image, ImageError, Images, Inner, locked};
use crate::layers::LayerError;
use crate::manifest::Manifest;
use crate::remove::remove_tree;
use crate::{Digest, ImageRef};

pub use budget::{Budget, Item, Judged, Kind};

/// A lease of this holder and the digest of an image keeps what it was built from, for as long as
/// something else holds the image itself.
const BUILT: &str = "built ";

/// The clock of file systems ticks more slowly than that of processes.
const CLOCK_SLACK: Duration = Duration::from_secs(1);

/// While it lives, no object that is made or used after its start is removed.
pub struct Hold {
    inner: Arc<Inner>,
    id: u64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        locked(&self.inner.holds).started.remove(&self.id);
    }
}

/// What pruning may remove.
#[derive(Clone, Debug)]
pub struct PrunePolicy {
    /// Objects used within this time stay.
    pub older_than: Duration,
    /// Layers that only the build cache refers to stay.
    pub keep_build_cache: bool,
    /// Names that no lease holds go too, as by `image prune --all`.
    pub unused_names: bool,
    /// What the build cache may take, cache mounts included; `None`: whatever it takes.
    pub budget: Option<Budget>,
}

impl Default for PrunePolicy {
    fn default() -> Self {
        Self {
            older_than: Duration::from_secs(600),
            keep_build_cache: true,
            unused_names: false,
            budget: None,
        }
    }
}

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Freed {
    /// Names.
    pub names: Vec<ImageRef>,
    /// Blobs.
    pub blobs: u64,
    /// Unpacked layers.
    pub layers: u64,
    /// Entries of the build cache.
    pub cache_entries: u64,
    /// Bytes on disk.
    pub bytes: u64,
}

/// Why pruning stopped; what it removed before stays removed.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// The database failed.
    #[error("cannot reach the names of images")]
    Store(#[from] StoreError),
    /// A name stands for nothing readable; removing on would lose its layers.
    #[error("cannot tell what is in use")]
    Mark(#[source] ImageError),
    /// A layer cannot be read; removing on would lose those below it.
    #[error("cannot tell what is in use")]
    Layer(#[source] LayerError),
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
    /// The name is not there.
    #[error("there is no image named {reference}")]
    NoSuchName {
        /// The name.
        reference: ImageRef,
    },
}

impl PruneError {
    fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }
}

/// Objects that stay.
#[derive(Debug, Default)]
struct Marked {
    blobs: BTreeSet<Digest>,
    layers: BTreeSet<Digest>,
}

impl Images {
    /// Keeps everything that is made or used from now on from being removed, until dropped.
    pub fn hold(&self) -> Hold {
        let mut holds = locked(&self.inner.holds);
        let id = holds.next;
        holds.next += 1;
        holds.started.insert(id, SystemTime::now());
        Hold {
            inner: self.inner.clone(),
            id,
        }
    }

    /// Lets `holder` (a container, a release) hold exactly these images, until
    /// [`Images::release`]; survives restarts.
    pub fn lease(&self, holder: &str, images: &[&Image]) -> Result<(), ImageError> {
        let _hold = self.hold();
        for image in images {
            self.touch_image(image)?;
        }
        let objects: Vec<String> = images
            .iter()
            .map(|image| image.manifest_digest.to_string())
            .collect();
        self.inner.tables.lease_put(holder, &objects)?;
        Ok(())
    }

    /// Lets go of all that `holder` holds; holding nothing is fine.
    pub fn release(&self, holder: &str) -> Result<(), ImageError> {
        Ok(self.inner.tables.lease_release(holder)?)
    }

    /// Keeps what `image` was built from for as long as somebody else holds `image`.
    pub(crate) fn lease_bases(&self, image: &Image, bases: &[&Image]) -> Result<(), ImageError> {
        let holder = format!("{BUILT}{}", image.manifest_digest);
        match bases {
            [] => self.release(&holder),
            bases => self.lease(&holder, bases),
        }
    }

    /// Leases that count: those of bases only as long as what was built from them is held.
    fn effective_leases(&self) -> Result<Vec<(String, String)>, StoreError> {
        let mut leases = self.inner.tables.leases()?;
        let held: BTreeSet<String> = leases
            .iter()
            .filter(|(holder, _)| !holder.starts_with(BUILT))
            .map(|(_, object)| object.clone())
            .collect();
        leases.retain(|(holder, _)| match holder.strip_prefix(BUILT) {
            Some(image) => held.contains(image),
            None => true,
        });
        Ok(leases)
    }

    /// Lets go of the bases of images that are gone.
    fn forget_built(&self) -> Result<(), PruneError> {
        let holders: BTreeSet<String> = self
            .inner
            .tables
            .leases()?
            .into_iter()
            .map(|(holder, _)| holder)
            .collect();
        for holder in holders {
            let built = holder.strip_prefix(BUILT).map(str::parse);
            if let Some(Ok(digest)) = built
                && self.inner.blobs.is_gone(&digest)
            {
                self.inner.tables.lease_release(&holder)?;
            }
        }
        Ok(())
    }

    /// Everyone who holds images.
    pub fn all_holders(&self) -> Result<BTreeSet<String>, ImageError> {
        let leases = self.inner.tables.leases()?;
        Ok(leases.into_iter().map(|(holder, _)| holder).collect())
    }

    /// Holders of leases on the image.
    pub fn holders(&self, manifest_digest: &Digest) -> Result<Vec<String>, ImageError> {
        let object = manifest_digest.to_string();
        let leases = self.inner.tables.leases()?;
        Ok(leases
            .into_iter()
            .filter(|(holder, held)| *held == object && !holder.starts_with(BUILT))
            .map(|(holder, _)| holder)
            .collect())
    }

    /// Removes a name and what nothing else needs. An image that a lease holds loses its name
    /// only.
    pub fn remove(&self, reference: &ImageRef) -> Result<Freed, PruneError> {
        let key = reference.canonical();
        let Some(row) = self.inner.tables.image(&key)? else {
            return Err(PruneError::NoSuchName {
                reference: reference.clone(),
            });
        };
        let mut candidates = Marked::default();
        if let Ok(digest) = row.manifest_digest.parse() {
            // A damaged image has nothing that could be told apart; prune finds its remains.
            if let Err(error) = self.mark_manifest(&digest, &mut candidates) {
                tracing::warn!(reference = key, error = %error, "removing a damaged image");
            }
        }
        self.inner.tables.image_remove(&key)?;
        let mut freed = self.sweep(self.cutoff(Duration::ZERO), Some(&candidates))?;
        freed.names.push(reference.clone());
        Ok(freed)
    }

    /// Removes everything that neither a name, nor a lease, nor (if so wanted) the build cache
    /// needs and that was not used for a while.
    pub fn prune(&self, policy: &PrunePolicy) -> Result<Freed, PruneError> {
        let cutoff = self.cutoff(policy.older_than);
        let survey = self.survey(policy, cutoff)?;
        for name in &survey.names {
            self.inner.tables.image_remove(&name.canonical())?;
        }
        let mut rows = 0;
        for row in &survey.rows {
            // One that was used meanwhile stays.
            let removed = self
                .inner
                .tables
                .build_cache_remove_unused(&row.key, row.used_at)?;
            rows += u64::from(removed);
        }
        let mut mounts = 0;
        for folder in &survey.mounts {
            let path = self.build_mounts().join(folder);
            mounts += kept::remove(self, folder).map_err(PruneError::io("remove", &path))?;
        }
        let mut freed = self.sweep(cutoff, None)?;
        freed.names = survey.names;
        freed.cache_entries = rows;
        freed.bytes += mounts;
        self.forget_built()?;
        self.forget_attested()?;
        Ok(freed)
    }

    /// What [`Images::prune`] would do now with everything that is stored, and why.
    pub fn explain(&self, policy: &PrunePolicy) -> Result<Vec<Judged>, PruneError> {
        let cutoff = self.cutoff(policy.older_than);
        Ok(self.survey(policy, cutoff)?.judged)
    }

    /// Objects used at this time or later stay.
    fn cutoff(&self, older_than: Duration) -> SystemTime {
        let now = SystemTime::now();
        let oldest = locked(&self.inner.holds).started.values().min().copied();
        let by_age = now
            .checked_sub(older_than)
            .unwrap_or(SystemTime::UNIX_EPOCH);
        match oldest.and_then(|start| start.checked_sub(CLOCK_SLACK)) {
            Some(start) => by_age.min(start),
            None => by_age,
        }
    }

    fn sweep(&self, cutoff: SystemTime, candidates: Option<&Marked>) -> Result<Freed, PruneError> {
        let mut freed = Freed::default();
        let marked = self.mark()?;
        let layers = objects(self.inner.layers.dir())?;
        for (digest, path) in layers {
            let wanted = candidates.is_none_or(|only| only.layers.contains(&digest));
            if wanted && !marked.layers.contains(&digest) {
                freed.layers += self.remove_object(&path, cutoff, &mut freed.bytes)?;
            }
        }
        let blobs = objects(self.inner.blobs.dir())?;
        for (digest, path) in blobs {
            let wanted = candidates.is_none_or(|only| only.blobs.contains(&digest));
            if wanted && !marked.blobs.contains(&digest) {
                freed.blobs += self.remove_object(&path, cutoff, &mut freed.bytes)?;
            }
        }
        if candidates.is_none() {
            for (_, path) in objects(&self.inner.root.join("partial"))? {
                self.remove_object(&path, cutoff, &mut freed.bytes)?;
            }
        }
        Ok(freed)
    }

    /// Everything that names, leases and the build cache reach. An unreadable document stops the
    /// sweep: what it refers to is unknown.
    fn mark(&self) -> Result<Marked, PruneError> {
        let mut marked = self.mark_held(&[])?;
        // The builder's values are JSON in which every layer appears by its digests.
        let cache = self.inner.tables.build_cache_rows()?;
        let cached = cache.iter().flat_map(|row| digests_in(&row.value));
        for digest in cached.collect::<BTreeSet<Digest>>() {
            self.mark_object(&digest, &mut marked)?;
        }
        let beside = self.attesting(|image| marked.blobs.contains(image))?;
        marked.blobs.extend(beside);
        Ok(marked)
    }

    /// The same without the build cache and without `names`, which are about to go.
    fn mark_held(&self, names: &[ImageRef]) -> Result<Marked, PruneError> {
        let names: BTreeSet<String> = names.iter().map(ImageRef::canonical).collect();
        let mut marked = Marked::default();
        for row in self.inner.tables.images()? {
            if names.contains(&row.reference) {
                continue;
            }
            match row.manifest_digest.parse() {
                Ok(digest) => self.mark_manifest(&digest, &mut marked)?,
                Err(_) => tracing::warn!(reference = row.reference, "name stands for no digest"),
            }
        }
        let leases = self.effective_leases()?;
        let held = leases.iter().filter_map(|(_, object)| object.parse().ok());
        for digest in held.collect::<BTreeSet<Digest>>() {
            // Leases are on images: one that cannot be read is no reason to let its layers go.
            self.mark_manifest(&digest, &mut marked)?;
        }
        Ok(marked)
    }

    /// Marks an object whose kind is unknown: a manifest with all it refers to, a layer with all
    /// below it, or any other blob.
    fn mark_object(&self, digest: &Digest, marked: &mut Marked) -> Result<(), PruneError> {
        self.mark_layer(digest, marked)?;
        let small = self
            .inner
            .blobs
            .size(digest)
            .is_some_and(|size| size < crate::blobs::MAX_DOCUMENT);
        let read = || self.inner.blobs.json::<Manifest>(digest, "manifest");
        match small.then(read) {
            Some(Ok(_)) => return self.mark_manifest(digest, marked),
            // It may be one.
            Some(Err(source @ BlobError::Io { .. })) => {
                let digest = *digest;
                return Err(PruneError::Mark(ImageError::Blob { digest, source }));
            }
            Some(Err(_)) | None => drop(marked.blobs.insert(*digest)),
        }
        Ok(())
    }

    fn mark_manifest(&self, digest: &Digest, marked: &mut Marked) -> Result<(), PruneError> {
        if !marked.blobs.insert(*digest) || self.inner.blobs.is_gone(digest) {
            // A name without its manifest needs nothing that could still be found.
            return Ok(());
        }
        let image = self.image(*digest).map_err(PruneError::Mark)?;
        marked.blobs.insert(image.config_digest);
        for layer in &image.layers {
            marked.blobs.insert(layer.digest);
            self.mark_layer(&layer.chain_id, marked)?;
        }
        Ok(())
    }

    fn mark_layer(&self, chain: &Digest, marked: &mut Marked) -> Result<(), PruneError> {
        let mut queue = VecDeque::from([*chain]);
        while let Some(chain) = queue.pop_front() {
            let record = self
                .inner
                .layers
                .record(&chain)
                .map_err(PruneError::Layer)?;
            if let Some(record) = record.filter(|_| marked.layers.insert(chain)) {
                marked.blobs.insert(record.diff_id);
                queue.extend(record.parent);
            }
        }
        Ok(())
    }

    /// Removes one object unless it was used meanwhile; returns how many went.
    fn remove_object(
        &self,
        path: &Path,
        cutoff: SystemTime,
        bytes: &mut u64,
    ) -> Result<u64, PruneError> {
        let grave = self
            .scratch()
            .map_err(PruneError::io("make a folder beside", path))?;
        {
            let _guard = self
                .inner
                .sweep
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            let used = fs::metadata(path)
                .and_then(|meta| meta.modified())
                .map_err(PruneError::io("look at", path))?;
            if used >= cutoff {
                return Ok(0);
            }
            fs::rename(path, grave.path().join("object"))
                .map_err(PruneError::io("move away", path))?;
        }
        *bytes += disk_usage(grave.path()).map_err(PruneError::io("measure", path))?;
        remove_tree(&grave.keep()).map_err(PruneError::io("remove", path))?;
        Ok(1)
    }
}

/// The digests that appear anywhere in a text.
fn digests_in(text: &str) -> impl Iterator<Item = Digest> + '_ {
    text.match_indices("sha256:").filter_map(|(at, prefix)| {
        let start = at + prefix.len();
        Digest::from_hex(text.get(start..start + 64)?).ok()
    })
}

/// What lies in a folder under the name of a digest.
fn objects(dir: &Path) -> Result<Vec<(Digest, PathBuf)>, PruneError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(PruneError::io("list", dir))? {
        let path = entry.map_err(PruneError::io("list", dir))?.path();
        let digest = path.file_name().and_then(|name| name.to_str());
        if let Some(digest) = digest.and_then(|name| Digest::from_hex(name).ok()) {
            found.push((digest, path));
        }
    }
    found.sort();
    Ok(found)
}
