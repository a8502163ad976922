//! Whose a named volume is. Its name does not tell: those of project, environment and key are
//! flattened into it, and a file may name any. So it is written down beside the data.
//!
//! ```text
//! volumes/<name>/data    what is mounted
//!                owner   {"owners":[{"project":"shop","environment":"production"}]}
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use havre_api::EnvironmentId;
use havre_base::{Durability, replace};
use havre_model::{EnvironmentName, ProjectName, Volume, VolumeName};
use havre_release::{Outcome, Record};
use havre_store::StoreError;
use serde::{Deserialize, Serialize};

use super::{DATA, STAGING, lock, names_on_machine, volume_name};
use crate::environment::tables::{EnvironmentRow, KEPT, LOOKED_THROUGH, ReleaseRow, Tables};

/// Name of the file, and its mode: no container sees it.
const FILE: &str = "owner";
const MODE: u32 = 0o600;

/// The environments that a volume belongs to: one, or several where an earlier version, which wrote
/// nothing down, let them use one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owners {
    owners: BTreeSet<EnvironmentId>,
}

impl Owners {
    pub(super) fn one(id: &EnvironmentId) -> Self {
        Self {
            owners: BTreeSet::from([id.clone()]),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &EnvironmentId> {
        self.owners.iter()
    }

    /// What a volume of theirs is to an environment.
    fn title(mut self, id: &EnvironmentId) -> Title {
        let own = self.owners.remove(id);
        match (own, self.owners.is_empty()) {
            (true, true) => Title::Own,
            (true, false) => Title::Shared(self),
            (false, _) => Title::Foreign(self),
        }
    }
}

impl fmt::Display for Owners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.owners.iter().map(ToString::to_string).collect();
        f.write_str(&names.join(" and "))
    }
}

/// Why it is not known, or not written down, whose a volume is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OwnerError {
    #[error("cannot read whose volume this is from {path}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} does not say whose volume this is", path = path.display())]
    Format {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("cannot write whose volume this is to {path}", path = path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot remove {path}", path = path.display())]
    Remove { path: PathBuf, source: io::Error },
    #[error("the releases that use volumes cannot be listed")]
    Store(#[from] StoreError),
    #[error("which release of {id} serves is not readable by this version")]
    Desired {
        id: EnvironmentId,
        source: serde_json::Error,
    },
    #[error("the volumes of release {number} of {id} are not readable by this version")]
    Release {
        id: EnvironmentId,
        number: u64,
        source: serde_json::Error,
    },
}

/// What a volume is to an environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Title {
    /// There is nothing in it yet.
    Free,
    /// It has something in it, and nothing says whose: an earlier version or a person made it.
    Unclaimed,
    /// Its own.
    Own,
    /// Its own, and others use it on purpose.
    Lent(Owners),
    /// Its own and others'.
    Shared(Owners),
    /// Others'.
    Foreign(Owners),
}

/// Whether any volume is an environment's, alone or with others. Blocks.
pub(crate) fn has_any(volumes: &Path, id: &EnvironmentId) -> Result<bool, OwnerError> {
    let failed = |source| OwnerError::Read {
        path: volumes.to_owned(),
        source,
    };
    let entries = match fs::read_dir(volumes) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        let owners = read(&entry.map_err(failed)?.path())?;
        if owners.is_some_and(|owners| owners.owners.contains(id)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What the volume in this folder is to an environment.
pub(crate) fn title(folder: &Path, id: &EnvironmentId) -> Result<Title, OwnerError> {
    if !has_data(folder) {
        return Ok(Title::Free);
    }
    Ok(match read(folder)? {
        Some(owners) => owners.title(id),
        None => Title::Unclaimed,
    })
}

/// Who has it; `None` where nothing says so.
pub(super) fn read(folder: &Path) -> Result<Option<Owners>, OwnerError> {
    let path = folder.join(FILE);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(OwnerError::Read { path, source }),
    };
    let owners = serde_json::from_slice(&text);
    Ok(Some(
        owners.map_err(|source| OwnerError::Format { path, source })?,
    ))
}

/// To be called with the folder locked.
pub(super) fn write(folder: &Path, owners: &Owners) -> Result<(), OwnerError> {
    let path = folder.join(FILE);
    let written = serde_json::to_vec(owners)
        .map_err(io::Error::other)
        .and_then(|text| replace(&path, &text, MODE, Durability::Durable));
    written.map_err(|source| OwnerError::Write { path, source })
}

fn has_data(folder: &Path) -> bool {
    folder.join(DATA).is_dir()
}

/// Finds an owner for each volume of an earlier version: the environments whose releases use it. With
/// one environment that cannot be read all stay as they are, since it may be that one's.
pub(crate) fn adopt(volumes: &Path, tables: &Tables) -> Result<(), OwnerError> {
    let unread = |source| OwnerError::Read {
        path: volumes.to_owned(),
        source,
    };
    let entries = match fs::read_dir(volumes) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(unread)?,
    };
    let mut unclaimed = Vec::new();
    for entry in entries {
        let entry = entry.map_err(unread)?;
        if has_data(&entry.path()) && read(&entry.path())?.is_none() {
            unclaimed.extend(entry.file_name().into_string());
        }
    }
    if unclaimed.is_empty() {
        return Ok(());
    }
    let uses = Uses::read(tables)?;
    for name in unclaimed {
        if let Some(owners) = uses.own.get(&name) {
            give(&volumes.join(&name), owners)?;
            tracing::info!(volume = name, %owners, "a volume of an earlier version has an owner now");
        }
    }
    Ok(())
}

/// What to do with a volume that no release has either: somebody made or restored it by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nobodys {
    /// It goes to who wants it now.
    Take,
    /// It is the machine's: who has that is asked first.
    Refuse,
}

/// Finds an owner for a volume that has none: those whose releases use it, else who wants it now,
/// unless others use what somebody made for them by hand. Returns what it is then.
pub(crate) fn settle(
    folder: &Path,
    name: &str,
    id: &EnvironmentId,
    tables: &Tables,
    nobodys: Nobodys,
) -> Result<Title, OwnerError> {
    match heirs(name, id, &Uses::read(tables)?, nobodys) {
        Ok(owners) => give(folder, &owners)?,
        Err(title) => return Ok(title),
    }
    title(folder, id)
}

/// What [`settle`] would return, before it is done.
pub(crate) fn foresee(
    name: &str,
    id: &EnvironmentId,
    tables: &Tables,
    nobodys: Nobodys,
) -> Result<Title, OwnerError> {
    let heirs = heirs(name, id, &Uses::read(tables)?, nobodys);
    Ok(heirs.map_or_else(|title| title, |owners| owners.title(id)))
}

/// Whose a volume becomes that has no owner, or what it is if it becomes nobody's.
fn heirs(name: &str, id: &EnvironmentId, uses: &Uses, nobodys: Nobodys) -> Result<Owners, Title> {
    match (uses.own.get(name), uses.by_others(name, id), nobodys) {
        (Some(owners), ..) => Ok(owners.clone()),
        (None, Some(others), _) => Err(Title::Foreign(others)),
        (None, None, Nobodys::Take) => Ok(Owners::one(id)),
        (None, None, Nobodys::Refuse) => Err(Title::Unclaimed),
    }
}

/// Writes down whose it is, unless somebody was faster.
fn give(folder: &Path, owners: &Owners) -> Result<(), OwnerError> {
    let _held = lock(folder).map_err(|source| OwnerError::Read {
        path: folder.to_owned(),
        source,
    })?;
    match read(folder)? {
        Some(_) => Ok(()),
        None => write(folder, owners),
    }
}

/// What a volume is to an environment that is to be removed with its volumes.
pub(crate) fn fate(
    folder: &Path,
    name: &str,
    id: &EnvironmentId,
    uses: &Uses,
) -> Result<Title, OwnerError> {
    let title = title(folder, id)?;
    Ok(match (title, uses.by_others(name, id)) {
        (Title::Own, Some(others)) => Title::Lent(others),
        (title, _) => title,
    })
}

/// Removes a volume that is the environment's own and nobody else's to use; of one that is others'
/// too it gives its part up. `uses` is asked at the last moment: before this one others took long, and
/// somebody may have begun to use it meanwhile. Returns what it was. Safe to run twice.
pub(crate) fn remove(
    volumes: &Path,
    name: &str,
    id: &EnvironmentId,
    uses: impl FnOnce() -> Result<Uses, OwnerError>,
) -> Result<Title, OwnerError> {
    let folder = &volumes.join(name);
    let gone = |source| OwnerError::Remove {
        path: folder.to_owned(),
        source,
    };
    let _held = match lock(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Title::Free),
        held => held.map_err(gone)?,
    };
    let title = fate(folder, name, id, &uses()?)?;
    match &title {
        Title::Free | Title::Own => remove_whole(folder).map_err(gone)?,
        Title::Shared(others) => write(folder, others)?,
        Title::Lent(_) | Title::Unclaimed | Title::Foreign(_) => {}
    }
    Ok(title)
}

/// Nobody is to find a part of the data, wherever this ends: it becomes what a first use would throw away.
fn remove_whole(folder: &Path) -> io::Result<()> {
    let staging = folder.join(STAGING);
    havre_image::remove_tree(&staging)?;
    match fs::rename(folder.join(DATA), &staging) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        renamed => renamed?,
    }
    havre_image::remove_tree(folder)
}

/// The environments whose releases use a volume, by its name on the machine.
#[derive(Debug, Default)]
pub(crate) struct Uses {
    /// As a volume of theirs.
    own: BTreeMap<String, Owners>,
    /// As `external`.
    external: BTreeMap<String, Owners>,
}

impl Uses {
    /// Of all environments that are stored.
    pub(crate) fn read(tables: &Tables) -> Result<Self, OwnerError> {
        let mut uses = Self::default();
        for row in tables.environments()? {
            let EnvironmentRow {
                project,
                environment,
                desired,
                ..
            } = row;
            let rows = tables.releases(&project, &environment, LOOKED_THROUGH)?;
            let newer = |number: &u64| rows.iter().any(|row| row.number == *number);
            let id = EnvironmentId {
                project: ProjectName::new(&project),
                environment: EnvironmentName::new(&environment),
            };
            let serving = serving(&id, &desired)?.filter(|number| !newer(number));
            let serving = match serving {
                Some(number) => tables.release(&project, &environment, number)?,
                None => None,
            };
            // One more than are kept serves.
            let may_run = rows.iter().filter(|row| may_run(row)).take(KEPT + 2);
            for row in may_run.chain(&serving) {
                let volumes = volumes(&id, row)?;
                let names = names_on_machine(&id, &volumes);
                note(&mut uses.own, names, &id);
                let external = volumes.iter().filter(|(_, volume)| volume.external);
                let names = external.map(|(key, volume)| volume_name(&id, key, volume));
                note(&mut uses.external, names, &id);
            }
        }
        Ok(uses)
    }

    /// Those but this one that use it as `external`.
    fn by_others(&self, name: &str, id: &EnvironmentId) -> Option<Owners> {
        let mut users = self.external.get(name)?.clone();
        users.owners.remove(id);
        (!users.owners.is_empty()).then_some(users)
    }
}

fn note(
    uses: &mut BTreeMap<String, Owners>,
    names: impl Iterator<Item = String>,
    id: &EnvironmentId,
) {
    for name in names {
        let users = uses.entry(name).or_insert_with(|| Owners::one(id));
        users.owners.insert(id.clone());
    }
}

/// The release that serves, however many after it went back.
fn serving(id: &EnvironmentId, desired: &str) -> Result<Option<u64>, OwnerError> {
    #[derive(Deserialize)]
    struct Serving {
        #[serde(default)]
        current: Option<u64>,
    }
    let read: Result<Serving, _> = serde_json::from_str(desired);
    let desired = read.map_err(|source| OwnerError::Desired {
        id: id.clone(),
        source,
    })?;
    Ok(desired.current)
}

/// It has served or is to; also where that cannot be read.
fn may_run(row: &ReleaseRow) -> bool {
    let record: Result<Record, _> = serde_json::from_str(&row.record);
    record.map_or(true, |record| {
        record.has_served() || record.outcome == Outcome::UnderWay
    })
}

/// Volumes of a release, whatever else is in it.
fn volumes(
    id: &EnvironmentId,
    row: &ReleaseRow,
) -> Result<BTreeMap<VolumeName, Volume>, OwnerError> {
    #[derive(Deserialize)]
    struct Volumes {
        volumes: BTreeMap<VolumeName, Volume>,
    }
    let read: Result<Volumes, _> = serde_json::from_str(&row.content);
    let release = read.map_err(|source| OwnerError::Release {
        id: id.clone(),
        number: row.number,
        source,
    })?;
    Ok(release.volumes)
}

#[cfg(test)]
mod tests;
