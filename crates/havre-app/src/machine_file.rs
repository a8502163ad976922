//! `machine.yaml` of an installation. It names programs that the daemon runs, authorities it trusts and people who get in,
//! so nobody but root may be able to write it, what it names, or a folder or link on the way to them.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use havre_model::machine::{self, Settings};
use havre_model::{Diagnostic, LoadFailure};
use rustix::process::geteuid;

use crate::root::Root;

/// Bits by which others than the owner could write, and anybody read.
const OTHERS_WRITE: u32 = 0o022;
const ALL_READ: u32 = 0o004;
/// In such a folder only its owner removes or renames a file.
const STICKY: u32 = 0o1000;
/// Links on the way to a file.
const MOST_LINKS: u32 = 40;

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
        /// The file, a file it names, or what is on the way to one.
        path: PathBuf,
    },
    /// Anybody could read a key.
    #[error("{} can be read by everybody", path.display())]
    Readable {
        /// The key's file.
        path: PathBuf,
    },
    /// It cannot be looked at.
    #[error("cannot look at {}", path.display())]
    Unreadable {
        /// The file, a file it names, or what is on the way to one.
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
    let authorities = settings.acme.authorities.iter();
    let of_authorities = authorities.clone().filter_map(|one| one.ca_file.as_ref());
    let of_issuers = settings.oidc.iter().filter_map(|one| one.ca_file.as_ref());
    let hook = settings.acme.dns_hook.as_ref();
    hook.into_iter()
        .chain(settings.notify.as_ref())
        .chain(of_authorities)
        .chain(of_issuers)
        .try_for_each(|path| is_ours(path))?;
    for account in authorities.filter_map(|one| one.external_account.as_ref()) {
        is_ours(&account.key_file)?;
        is_closed(&account.key_file)?;
    }
    Ok((settings, warnings))
}

/// Whether this user and root alone can write a file that is there, or put another in its place.
fn is_ours(path: &Path) -> Result<(), MachineFileError> {
    let path = std::path::absolute(path).map_err(unreadable(path))?;
    check_way(&path, MOST_LINKS)
}

/// All on the way from the root, links too and what they lead through.
fn check_way(path: &Path, links: u32) -> Result<(), MachineFileError> {
    let mut way: Vec<&Path> = path.ancestors().collect();
    way.reverse();
    for place in way {
        let meta = match std::fs::symlink_metadata(place) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(unreadable(place)(error)),
        };
        let is_shut = match meta.is_dir() && place != path {
            true => meta.mode() & OTHERS_WRITE == 0 || meta.mode() & STICKY != 0,
            // The bits of a link say nothing.
            false => meta.is_symlink() || meta.mode() & OTHERS_WRITE == 0,
        };
        let ours = meta.uid() == 0 || meta.uid() == geteuid().as_raw();
        if !ours || !is_shut {
            let path = place.to_owned();
            return Err(MachineFileError::Open { path });
        }
        if meta.is_symlink() {
            let links = links
                .checked_sub(1)
                .ok_or_else(|| unreadable(place)(rustix::io::Errno::LOOP.into()))?;
            let target = std::fs::read_link(place).map_err(unreadable(place))?;
            let folder = place.parent().unwrap_or(Path::new("/"));
            check_way(&folder.join(target), links)?;
        }
    }
    Ok(())
}

/// Whether not everybody can read a key that is there.
fn is_closed(path: &Path) -> Result<(), MachineFileError> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.mode() & ALL_READ != 0 => Err(MachineFileError::Readable {
            path: path.to_owned(),
        }),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unreadable(path)(error)),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> MachineFileError {
    let path = path.to_owned();
    move |source| MachineFileError::Unreadable { path, source }
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
    #[test]
    fn neither_is_what_lies_where_others_can_write() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = Root::new(Some(folder.path().to_owned()));
        let at = |name: &str| folder.path().join(name);
        for name in ["etc", "a", "b", "b/c"] {
            fs::create_dir(at(name)).expect("a folder");
        }
        for name in ["b/c/ca.pem", "b/c/ours.pem", "b/c/key"] {
            fs::write(at(name), "x").expect("written");
            mode(&at(name), 0o640);
        }
        // By links through another folder.
        let link = |to: &str, name: &str| {
            std::os::unix::fs::symlink(to, at(name)).expect("a link");
        };
        link("../b/c", "a/c");
        link("../a", "etc/way");
        let text = "{acme: {authorities: [{name: a, directory: 'https://a', ca_file: way/c/ca.pem, \
                    external_account: {key_id: k, key_file: way/c/key}}]}, \
                    oidc: [{name: o, issuer: 'https://i', audience: x, ca_file: way/c/ours.pem}]}";
        fs::write(root.machine_file(), text).expect("written");
        mode(&root.machine_file(), 0o644);
        for name in ["etc", "a", "b", "b/c"] {
            mode(&at(name), 0o755);
        }
        machine_settings(&root).expect("read");
        for (name, bad, good) in [
            ("etc", 0o775, 0o755),
            ("a", 0o757, 0o755),
            ("b", 0o775, 0o755),
            ("b/c", 0o777, 0o755),
            ("b/c/ca.pem", 0o664, 0o644),
            ("b/c/ours.pem", 0o666, 0o644),
            ("b/c/key", 0o660, 0o640),
        ] {
            mode(&at(name), bad);
            let refused = machine_settings(&root).expect_err(name);
            let MachineFileError::Open { path } = refused else {
                panic!("{name}: {refused}");
            };
            let (path, expected) = (path.canonicalize(), at(name).canonicalize());
            assert_eq!(path.expect("there"), expected.expect("there"));
            mode(&at(name), good);
        }
        mode(&at("b"), 0o1777);
        machine_settings(&root).expect("as in /tmp, others cannot put another there");
        mode(&at("b/c/key"), 0o644);
        let refused = machine_settings(&root).expect_err("all can read it");
        assert!(
            matches!(refused, MachineFileError::Readable { .. }),
            "{refused}"
        );
        mode(&at("b/c/key"), 0o600);
        machine_settings(&root).expect("read");
        link("loop", "b/loop");
        fs::write(root.machine_file(), "acme: {dns_hook: ../b/loop}").expect("written");
        machine_settings(&root).expect_err("it leads nowhere");
    }
}
