//! `machine.yaml` of an installation. It names programs that the daemon runs and people who get in,
//! so nobody but root may be able to write it.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use havre_model::machine::{self, Settings};
use havre_model::{Diagnostic, LoadFailure};
use rustix::process::geteuid;

use crate::root::Root;

/// Bits by which others than the owner could write.
const OTHERS_WRITE: u32 = 0o022;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MachineFileError {
    /// What it says is wrong.
    #[error("{} cannot be used", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Every error, with its place.
        failure: LoadFailure,
    },
    /// Somebody else could write it, and so become root.
    #[error("{} can be written by others than root", path.display())]
    Open {
        /// The file, or the program it names.
        path: PathBuf,
    },
    /// It cannot be looked at.
    #[error("cannot look at {}", path.display())]
    Unreadable {
        /// The file, or the program it names.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// Reads the file, with the findings that do not keep it from being used. Without one all is as usual.
pub fn machine_settings(root: &Root) -> Result<(Settings, Vec<Diagnostic>), MachineFileError> {
    let path = root.machine_file();
    is_ours(&path)?;
    let read = machine::load(&path);
    let (settings, warnings) =
        read.map_err(|failure| MachineFileError::Content { path, failure })?;
    if let Some(hook) = &settings.acme.dns_hook {
        is_ours(hook)?;
    }
    Ok((settings, warnings))
}

/// Whether this user alone can write a file that is there.
fn is_ours(path: &Path) -> Result<(), MachineFileError> {
    let meta = match std::fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => {
            let path = path.to_owned();
            return Err(MachineFileError::Unreadable { path, source });
        }
    };
    let ours = meta.uid() == 0 || meta.uid() == geteuid().as_raw();
    match ours && meta.mode() & OTHERS_WRITE == 0 {
        true => Ok(()),
        false => Err(MachineFileError::Open {
            path: path.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its mode");
    }

    #[test]
    fn what_others_can_write_is_not_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = Root::new(Some(folder.path().to_owned()));
        let absent = machine_settings(&root).expect("as usual");
        assert_eq!(absent.0, Settings::default());
        fs::create_dir(folder.path().join("etc")).expect("a folder");
        let (file, hook) = (root.machine_file(), folder.path().join("etc/hook"));
        fs::write(&file, "acme: {dns_hook: hook}").expect("written");
        fs::write(&hook, "#!/bin/sh\n").expect("written");
        mode(&file, 0o644);
        mode(&hook, 0o755);
        let read = machine_settings(&root).expect("read").0;
        assert_eq!(read.acme.dns_hook.as_deref(), Some(hook.as_path()));
        for path in [&file, &hook] {
            mode(path, 0o775);
            let refused = machine_settings(&root).expect_err("others can write it");
            assert!(matches!(refused, MachineFileError::Open { path: named } if named == *path));
            mode(path, 0o755);
        }
    }
}
