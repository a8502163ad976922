//! Taking over from versions that kept contents in clear, in files named by plain digests: they are sealed,
//! named anew in the records of releases, and wiped.
//!
//! Killed between any two lines it is done again: what is sealed already is found, records that are changed
//! already name nothing that is in clear, and what is in clear is wiped when none names it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};

use havre_api::EnvironmentId;
use havre_base::{Durability, replace};
use havre_model::{EnvironmentName, ProjectName};
use havre_secrets::wipe;
use havre_store::StoreError;
use serde_json::Value;
use zeroize::Zeroizing;

use super::{Contents, ContentsError, is_fingerprint};
use crate::environment::tables::Tables;
use crate::secrets::scope::scope_of;

/// Ends the name of a file that is about to be wiped.
const GOING: &str = ".going";

/// Why some lie in clear still.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeOverError {
    #[error("cannot take over {path}", path = path.display())]
    File { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Keep(#[from] ContentsError),
    #[error(transparent)]
    Database(#[from] StoreError),
}

/// Seals what lies in `clear`, and says whether releases name anew what they need. Containers that run may be
/// started again by their shims, which read it there: they find it in the run folder, which is in memory, until
/// the next reboot.
pub(crate) fn take_over(
    clear: &Path,
    run: &Path,
    contents: &Contents,
    tables: &Tables,
) -> Result<bool, TakeOverError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| TakeOverError::File { path, source }
    };
    let kept = run.join("secrets-before");
    let entries = match fs::read_dir(clear) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        entries => entries.map_err(failed(clear))?,
    };
    // No release names yet what is kept here.
    let _held = contents.hold();
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed(clear))?.path();
        let kind = fs::symlink_metadata(&path)
            .map_err(failed(&path))?
            .file_type();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(name) = name.and_then(|name| name.strip_suffix(GOING)) {
            // It was killed in the middle of this one, whose copy is there.
            let link = clear.join(name);
            if fs::symlink_metadata(&link).is_err() {
                symlink(kept.join(name), &link).map_err(failed(&link))?;
            }
            wipe(&path).map_err(failed(&path))?;
        } else if kind.is_file() {
            files.push(path);
        } else if kind.is_symlink() && !path.exists() {
            // The containers that needed it ended with the machine.
            fs::remove_file(&path).map_err(failed(&path))?;
        }
    }
    if files.is_empty() {
        return match fs::remove_dir(clear) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
            removed => removed.map(|()| false).map_err(failed(clear)),
        };
    }
    let mut changed = Vec::new();
    for row in tables.all_releases()? {
        // What cannot be read is what no release of this version is.
        let Ok(mut release) = serde_json::from_str::<Value>(&row.content) else {
            continue;
        };
        let id = EnvironmentId {
            project: ProjectName::new(row.project.clone()),
            environment: EnvironmentName::new(row.environment.clone()),
        };
        let mut names = BTreeMap::new();
        for digest in digests(&mut release) {
            let path = clear.join(digest.as_str());
            if !is_fingerprint(digest) || !path.is_file() {
                continue;
            }
            if !names.contains_key(digest.as_str()) {
                let content = Zeroizing::new(fs::read(&path).map_err(failed(&path))?);
                let fingerprint = contents.keep(&scope_of(Some(&id)), &content)?;
                names.insert(digest.clone(), fingerprint);
            }
            if let Some(fingerprint) = names.get(digest.as_str()) {
                digest.clone_from(fingerprint);
            }
        }
        if !names.is_empty() {
            changed.push((row, release.to_string()));
        }
    }
    let is_renamed = !changed.is_empty();
    tables.replace_contents(changed)?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&kept)
        .map_err(failed(&kept))?;
    for path in files {
        let name = path.file_name().unwrap_or_default();
        let copy = kept.join(name);
        let mut going = name.to_owned();
        going.push(GOING);
        let going = clear.join(going);
        let content = Zeroizing::new(fs::read(&path).map_err(failed(&path))?);
        replace(&copy, &content, 0o400, Durability::UntilReboot).map_err(failed(&copy))?;
        fs::rename(&path, &going).map_err(failed(&going))?;
        symlink(&copy, &path).map_err(failed(&path))?;
        wipe(&going).map_err(failed(&going))?;
    }
    tracing::info!(
        "secrets and configs that lay in clear are sealed, and the files overwritten; SSDs, snapshots and \
         backups keep copies of them: replace what must not be read there"
    );
    Ok(is_renamed)
}

/// The digests of files in a release.
fn digests(release: &mut Value) -> impl Iterator<Item = &mut String> {
    let services = release.get_mut("services").and_then(Value::as_object_mut);
    let services = services.into_iter().flat_map(|all| all.values_mut());
    let files = services.filter_map(|service| service.get_mut("files")?.as_object_mut());
    files
        .flat_map(|files| files.values_mut())
        .filter_map(|digest| match digest {
            Value::String(digest) => Some(digest),
            _ => None,
        })
}
