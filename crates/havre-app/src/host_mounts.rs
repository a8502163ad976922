//! Mounts of the machine's own files, looked at once more when a container starts: whoever can write to
//! a project's folder may have put a link in a mount's place since the files were read.

use std::path::{Path, PathBuf};

use havre_model::{Allow, Mount, Service, host_path};

/// A mount that havre.yaml does not allow.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{path} leads to {real}, which is mounted only with `allow: [{needs}]` in havre.yaml",
    path = path.display(), real = real.display()
)]
pub(crate) struct NotAllowed {
    path: PathBuf,
    real: PathBuf,
    needs: Allow,
}

/// Refuses what gives the machine away, and Havre's own folders, which `own` names.
pub(crate) fn check(service: &Service, own: &[&Path]) -> Result<(), NotAllowed> {
    for mount in &service.mounts {
        let (path, read_only) = match mount {
            Mount::Bind {
                source, read_only, ..
            } => (source, *read_only),
            Mount::Volume {
                backing: Some(backing),
                read_only,
                ..
            } => (backing, *read_only),
            Mount::Volume { .. } | Mount::Anonymous { .. } | Mount::Tmpfs { .. } => continue,
        };
        // What is not there is refused, or made, where it is mounted.
        let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        let of_havre = own
            .iter()
            .any(|own| real.starts_with(own) || own.starts_with(&real));
        // What was written was looked at where the files were read: here counts where it leads now.
        let found = host_path::endangered(&real, read_only, path)
            .or_else(|| host_path::endangered_inside(&real));
        let needs = match found {
            Some(found) => found.needs,
            None if of_havre => Allow::HostPaths,
            None => continue,
        };
        if !service.allow.contains(&needs) {
            return Err(NotAllowed {
                path: path.clone(),
                real,
                needs,
            });
        }
    }
    Ok(())
}
