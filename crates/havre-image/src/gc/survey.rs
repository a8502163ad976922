//! Everything stored that may be removed, with size, last use, and what becomes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::tables::CacheRow;

use super::budget::{Item, Judged, Kind, judge};
use super::{Marked, PruneError, PrunePolicy, objects};
use crate::builder::{StepRecord, kept};
use crate::images::Images;
use crate::{Digest, ImageRef};

/// What pruning is about to do.
pub(super) struct Survey {
    /// Everything, for people.
    pub judged: Vec<Judged>,
    /// Names that go.
    pub names: Vec<ImageRef>,
    /// Rows of the build cache that go, unless they are used meanwhile.
    pub rows: Vec<CacheRow>,
    /// Cache mounts that go, by folder.
    pub mounts: BTreeSet<String>,
}

/// A layer that only the build cache refers to.
struct Cached {
    bytes: u64,
    depth: usize,
    used: SystemTime,
    /// The step that made it.
    what: Option<String>,
}

/// What was read of layers: the one below, and the size.
type Records = BTreeMap<Digest, Option<(Option<Digest>, u64)>>;

fn seconds(since: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(since).unwrap_or(0))
}

impl Images {
    /// Looks at all that is stored and decides what becomes of it under `policy`.
    pub(super) fn survey(
        &self,
        policy: &PrunePolicy,
        cutoff: SystemTime,
    ) -> Result<Survey, PruneError> {
        let rows = self.inner.tables.build_cache_rows()?;
        let (mut judged, names) = self.judge_names(policy, cutoff)?;
        let held = self.mark_held(&names)?;
        let (steps, lost) = self.cached_layers(&rows, &held)?;
        let mut cache: Vec<Item> = steps
            .iter()
            .map(|(chain, layer)| Item {
                kind: Kind::Step,
                id: chain.to_string(),
                what: layer
                    .what
                    .clone()
                    .unwrap_or_else(|| "a build step".to_owned()),
                bytes: layer.bytes,
                used: layer.used,
                depth: layer.depth,
            })
            .collect();
        cache.extend(self.cache_mounts()?);
        let cache = match policy.budget {
            _ if !policy.keep_build_cache => dropped(cache, cutoff),
            Some(budget) => judge(cache, budget, free_bytes(&self.inner.root)?, cutoff),
            None => {
                let kept = cache.into_iter();
                kept.map(|item| item.kept("the build cache has no budget"))
                    .collect()
            }
        };
        let gone = |kind| {
            let removed = cache
                .iter()
                .filter(move |one| one.removed && one.item.kind == kind);
            removed
                .map(|one| one.item.id.clone())
                .collect::<BTreeSet<_>>()
        };
        let (mut layers, mounts) = (gone(Kind::Step), gone(Kind::CacheMount));
        layers.extend(lost);
        let rows = match policy.keep_build_cache {
            true => rows_that_go(rows, &layers, &cache),
            false => rows
                .into_iter()
                .filter(|row| seconds(row.used_at) < cutoff)
                .collect(),
        };
        judged.extend(cache);
        judged.extend(self.leftovers(cutoff)?);
        Ok(Survey {
            judged,
            names,
            rows,
            mounts,
        })
    }

    /// Images with names, and the names that go.
    fn judge_names(
        &self,
        policy: &PrunePolicy,
        cutoff: SystemTime,
    ) -> Result<(Vec<Judged>, Vec<ImageRef>), PruneError> {
        let leases = self.effective_leases()?;
        let (mut judged, mut names) = (Vec::new(), Vec::new());
        for row in self.inner.tables.images()? {
            let Ok(reference) = row.reference.parse::<ImageRef>() else {
                continue;
            };
            let image = row
                .manifest_digest
                .parse()
                .ok()
                .map(|digest| self.image(digest));
            let bytes = image.and_then(Result::ok).map_or(0, |image| image.size());
            let item = Item {
                kind: Kind::Image,
                id: row.manifest_digest.clone(),
                what: reference.to_string(),
                bytes,
                used: seconds(row.created_at),
                depth: 0,
            };
            let mut holders = leases
                .iter()
                .filter(|(_, object)| *object == row.manifest_digest)
                .map(|(holder, _)| holder.as_str());
            judged.push(match holders.next() {
                Some(holder) => match holder.strip_prefix(super::BUILT) {
                    Some(built) => item.kept(format!("{} was built from it", self.shown(built))),
                    None => item.kept(format!("used by {holder}")),
                },
                None if !policy.unused_names => {
                    item.kept("it has a name: `havre image rm` and `image prune --all` remove it")
                }
                None if item.used >= cutoff => item.kept("used just now"),
                None => {
                    names.push(reference);
                    item.removed("no environment uses it")
                }
            });
        }
        Ok((judged, names))
    }

    /// A name of the image with that manifest, or its digest.
    fn shown(&self, digest: &str) -> String {
        let rows = self.inner.tables.images().unwrap_or_default();
        let named = rows.iter().find(|row| row.manifest_digest == digest);
        let name = named.and_then(|row| row.reference.parse::<ImageRef>().ok());
        name.map_or_else(
            || digest.chars().take(19).collect(),
            |name| name.to_string(),
        )
    }

    /// What only the build cache keeps, by chain id; and what it refers to and is not there.
    fn cached_layers(
        &self,
        rows: &[CacheRow],
        held: &Marked,
    ) -> Result<(BTreeMap<Digest, Cached>, BTreeSet<String>), PruneError> {
        let mut found: BTreeMap<Digest, Cached> = BTreeMap::new();
        let (mut records, mut lost) = (Records::new(), BTreeSet::new());
        for row in rows {
            let Some(record) = StepRecord::read(&row.value) else {
                continue;
            };
            let Some(chain) = record.layer else { continue };
            let used = seconds(row.used_at);
            let mut below = self.lineage(chain, &mut records)?;
            if below.is_empty() {
                lost.insert(chain.to_string());
            }
            below.retain(|(chain, _)| !held.layers.contains(chain));
            for (depth, (layer, bytes)) in below.iter().rev().enumerate() {
                let cached = found.entry(*layer).or_insert(Cached {
                    bytes: *bytes,
                    depth,
                    used,
                    what: None,
                });
                cached.used = cached.used.max(used);
                if *layer == chain {
                    cached.what.clone_from(&record.step);
                }
            }
        }
        Ok((found, lost))
    }

    /// A layer and those below it, with their sizes; empty where it is not there.
    fn lineage(
        &self,
        chain: Digest,
        records: &mut Records,
    ) -> Result<Vec<(Digest, u64)>, PruneError> {
        let mut found = Vec::new();
        let mut next = Some(chain);
        while let Some(chain) = next {
            let known = match records.get(&chain) {
                Some(known) => *known,
                None => {
                    let record = self.inner.layers.record(&chain);
                    let record = record.map_err(PruneError::Layer)?;
                    let known = record.map(|record| (record.parent, record.tar_bytes));
                    records.insert(chain, known);
                    known
                }
            };
            next = known.and_then(|(parent, _)| parent);
            found.extend(known.map(|(_, bytes)| (chain, bytes)));
        }
        Ok(found)
    }

    fn cache_mounts(&self) -> Result<Vec<Item>, PruneError> {
        let dir = self.build_mounts();
        let mounts = kept::list(self).map_err(PruneError::io("list", &dir))?;
        let items = mounts.into_iter().map(|mount| Item {
            kind: Kind::CacheMount,
            id: mount.folder,
            what: format!("cache mount {}", mount.name),
            bytes: mount.bytes,
            used: mount.used,
            depth: 0,
        });
        Ok(items.collect())
    }

    /// What nothing refers to.
    fn leftovers(&self, cutoff: SystemTime) -> Result<Vec<Judged>, PruneError> {
        let marked = self.mark()?;
        let mut judged = Vec::new();
        let dirs = [
            (self.inner.layers.dir().to_owned(), "a layer", true),
            (self.inner.blobs.dir().to_owned(), "a blob", false),
        ];
        for (dir, what, layers) in dirs {
            for (digest, path) in objects(&dir)? {
                let known = match layers {
                    true => marked.layers.contains(&digest),
                    false => marked.blobs.contains(&digest),
                };
                let meta = match fs::metadata(&path) {
                    Ok(meta) if !known => meta,
                    // It went meanwhile.
                    Ok(_) | Err(_) => continue,
                };
                let used = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                let bytes = match layers {
                    true => {
                        let record = self.inner.layers.record(&digest);
                        let record = record.map_err(PruneError::Layer)?;
                        record.map_or(0, |record| record.tar_bytes)
                    }
                    false => meta.len(),
                };
                let item = Item {
                    kind: Kind::Leftover,
                    id: digest.to_string(),
                    what: what.to_owned(),
                    bytes,
                    used,
                    depth: 0,
                };
                judged.push(match used >= cutoff {
                    true => item.kept("used just now"),
                    false => item.removed("nothing refers to it"),
                });
            }
        }
        Ok(judged)
    }
}

/// Everything, but for what is in use.
fn dropped(cache: Vec<Item>, cutoff: SystemTime) -> Vec<Judged> {
    let all = cache.into_iter();
    all.map(|item| match item.used < cutoff {
        true => item.removed("the build cache is dropped"),
        false => item.kept("used just now"),
    })
    .collect()
}

/// Rows whose layer goes; and those of steps that changed nothing, once all that was used when they
/// were has gone.
fn rows_that_go(rows: Vec<CacheRow>, layers: &BTreeSet<String>, cache: &[Judged]) -> Vec<CacheRow> {
    let removed = cache.iter().filter(|one| one.removed);
    let newest = removed.map(|one| one.item.used).max();
    let goes = |row: &CacheRow| match StepRecord::read(&row.value) {
        Some(StepRecord {
            layer: Some(chain), ..
        }) => layers.contains(&chain.to_string()),
        Some(StepRecord { layer: None, .. }) | None => {
            newest.is_some_and(|newest| seconds(row.used_at) < newest)
        }
    };
    rows.into_iter().filter(goes).collect()
}

fn free_bytes(path: &Path) -> Result<u64, PruneError> {
    let found = rustix::fs::statvfs(path)
        .map_err(|error| PruneError::io("look at the disk of", path)(error.into()))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}
