//! Volumes and bind mounts of a container on this machine.

pub(crate) mod owner;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use havre_api::EnvironmentId;
use havre_engine::MountSpec;
use havre_image::overlay::Overlay;
use havre_model::{Mount, Service, Volume, VolumeName, is_volume_name};
use havre_release::Release;

use owner::{OwnerError, Owners, Title};

/// What of a volume's folder is mounted.
const DATA: &str = "data";
/// What is not yet, or no more: nobody's.
const STAGING: &str = "new";

/// Why a mount cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    #[error("{name:?} is not a name for a volume")]
    Name { name: String },
    #[error("volume `{name}` is external and does not exist")]
    NoExternal { name: String },
    #[error("volume `{name}` belongs to {owners}")]
    Foreign { name: String, owners: Owners },
    #[error("it is not known whose volume `{name}` is")]
    Owner { name: String, source: OwnerError },
    #[error("cannot make volume `{name}` in {path}", path = path.display())]
    Make {
        name: String,
        path: PathBuf,
        source: io::Error,
    },
    #[error("cannot copy {target} of the image into the new volume `{name}`")]
    CopyUp {
        name: String,
        target: String,
        source: io::Error,
    },
    #[error("{path}, which is to be mounted, does not exist", path = path.display())]
    NoSource { path: PathBuf },
    #[error("cannot find {path}, which is to be mounted", path = path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("cannot make bind mount source {path}", path = path.display())]
    MakeSource { path: PathBuf, source: io::Error },
}

/// A volume's name on this machine.
pub(crate) fn volume_name(id: &EnvironmentId, key: &VolumeName, volume: &Volume) -> String {
    volume.name_on_machine(id.project.as_str(), id.environment.as_str(), key)
}

/// Names on this machine of the volumes that belong to an environment's releases.
pub(crate) fn named_volumes(
    id: &EnvironmentId,
    releases: &BTreeMap<u64, Release>,
) -> BTreeSet<String> {
    releases
        .values()
        .flat_map(|release| names_on_machine(id, &release.volumes))
        .collect()
}

/// Names of those that are an environment's own as its files say.
fn names_on_machine(
    id: &EnvironmentId,
    volumes: &BTreeMap<VolumeName, Volume>,
) -> impl Iterator<Item = String> {
    volumes
        .iter()
        .filter(|(_, volume)| !volume.external && volume.backing.is_none())
        .map(|(key, volume)| volume_name(id, key, volume))
        // One that an earlier version let in is a path that leads elsewhere.
        .filter(|name| is_volume_name(name))
}

/// A container's surroundings, needed to prepare its mounts.
pub(crate) struct Volumes<'a> {
    /// Folder of all named volumes.
    pub(crate) dir: &'a Path,
    /// Folder of this container's anonymous volumes.
    pub(crate) own: &'a Path,
    pub(crate) environment: &'a EnvironmentId,
    pub(crate) volumes: &'a BTreeMap<VolumeName, Volume>,
    /// Layers of the image, topmost first, for the first use of a volume.
    pub(crate) image: &'a [PathBuf],
}

impl Volumes<'_> {
    /// Makes what is missing and returns the mounts of a service whose sources have no links. Blocks;
    /// safe to run twice.
    pub(crate) fn prepare(&self, service: &Service) -> Result<Vec<MountSpec>, VolumeError> {
        service
            .mounts
            .iter()
            .map(|mount| self.mount(mount))
            .collect()
    }

    fn mount(&self, mount: &Mount) -> Result<MountSpec, VolumeError> {
        match mount {
            Mount::Volume {
                name,
                target,
                read_only,
                nocopy,
                subpath,
                backing,
            } => {
                // What lies elsewhere, or is a part, is filled where it is mounted.
                let filled_later = subpath.is_some() || backing.is_some();
                let source = match backing {
                    Some(folder) if folder.is_dir() => folder.clone(),
                    Some(folder) => {
                        return Err(VolumeError::NoSource {
                            path: folder.clone(),
                        });
                    }
                    None => {
                        let source = self.named(name, target, *nocopy || filled_later)?;
                        without_links(source)?
                    }
                };
                let (target, read_only) = (target.clone(), *read_only);
                let subpath = subpath.clone();
                Ok(match filled_later && !nocopy {
                    true => MountSpec::Volume {
                        source,
                        target,
                        read_only,
                        subpath,
                    },
                    false => MountSpec::Bind {
                        source,
                        target,
                        read_only,
                        subpath,
                    },
                })
            }
            Mount::Anonymous {
                target,
                read_only,
                nocopy,
            } => {
                let name = target.trim_matches('/').replace('/', "-");
                let source = self.fill(&name, &self.own.join(&name), target, *nocopy, None)?;
                let source = without_links(source)?;
                Ok(MountSpec::Bind {
                    source,
                    target: target.clone(),
                    read_only: *read_only,
                    subpath: None,
                })
            }
            Mount::Bind {
                source,
                target,
                read_only,
                create_host_path,
            } => {
                if !source.exists() {
                    // A folder in a file's place fails the program, and is in the file's way.
                    if !create_host_path || havre_model::means_file(source, Path::new(target)) {
                        return Err(VolumeError::NoSource {
                            path: source.clone(),
                        });
                    }
                    havre_engine::make_folder(source).map_err(|error| VolumeError::MakeSource {
                        path: source.clone(),
                        source: error,
                    })?;
                }
                Ok(MountSpec::Bind {
                    source: source.clone(),
                    target: target.clone(),
                    read_only: *read_only,
                    subpath: None,
                })
            }
            Mount::Tmpfs {
                target,
                size_bytes,
                mode,
                uid,
                gid,
                exec,
            } => Ok(MountSpec::Tmpfs {
                target: target.clone(),
                size_bytes: *size_bytes,
                mode: *mode,
                owner: (uid.unwrap_or(0), gid.unwrap_or(0)),
                exec: *exec,
            }),
        }
    }

    fn named(&self, key: &VolumeName, target: &str, nocopy: bool) -> Result<PathBuf, VolumeError> {
        let fallback = Volume::default();
        let volume = self.volumes.get(key).unwrap_or(&fallback);
        let name = volume_name(self.environment, key, volume);
        if !is_volume_name(&name) {
            return Err(VolumeError::Name { name });
        }
        let path = self.dir.join(&name);
        if volume.external && !path.join(DATA).is_dir() {
            return Err(VolumeError::NoExternal { name });
        }
        let owner = (!volume.external).then_some(self.environment);
        self.fill(&name, &path, target, nocopy, owner)
    }

    /// `<dir>/data`, made with the image's content at `target` the first time. The folder gets
    /// its name only once it is complete and its owner stands beside it, so a crash on the way leaves
    /// nothing half-filled and nothing that is nobody's.
    fn fill(
        &self,
        name: &str,
        dir: &Path,
        target: &str,
        nocopy: bool,
        owner: Option<&EnvironmentId>,
    ) -> Result<PathBuf, VolumeError> {
        let data = dir.join(DATA);
        if is_filled(name, dir, owner)? {
            return Ok(data);
        }
        let make = |source| VolumeError::Make {
            name: name.to_owned(),
            path: dir.to_owned(),
            source,
        };
        let staging = dir.join(STAGING);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(dir)
            .map_err(make)?;
        // Two replicas may start at once, and each would remove what the other is filling.
        let _filling = lock(dir).map_err(make)?;
        if is_filled(name, dir, owner)? {
            return Ok(data);
        }
        if staging.exists() {
            havre_image::remove_tree(&staging).map_err(make)?;
        }
        fs::DirBuilder::new()
            .mode(0o755)
            .create(&staging)
            .map_err(make)?;
        if !nocopy {
            copy_up(self.image, target, &staging).map_err(|source| VolumeError::CopyUp {
                name: name.to_owned(),
                target: target.to_owned(),
                source,
            })?;
        }
        if let Some(id) = owner {
            owner::write(dir, &Owners::one(id)).map_err(unknown(name))?;
        }
        fs::rename(&staging, &data).map_err(make)?;
        Ok(data)
    }
}

/// Whether there is something in a volume already; fails where that is another's.
fn is_filled(name: &str, dir: &Path, owner: Option<&EnvironmentId>) -> Result<bool, VolumeError> {
    let Some(id) = owner else {
        return Ok(dir.join(DATA).is_dir());
    };
    match owner::title(dir, id).map_err(unknown(name))? {
        Title::Free => Ok(false),
        Title::Own | Title::Lent(_) | Title::Shared(_) | Title::Unclaimed => Ok(true),
        Title::Foreign(owners) => Err(VolumeError::Foreign {
            name: name.to_owned(),
            owners,
        }),
    }
}

fn unknown(name: &str) -> impl Fn(OwnerError) -> VolumeError {
    move |source| VolumeError::Owner {
        name: name.to_owned(),
        source,
    }
}

/// Waits until nobody else has this folder in hand; it is let go of when the file is closed.
fn lock(dir: &Path) -> io::Result<fs::File> {
    let folder = fs::File::open(dir)?;
    folder.lock()?;
    Ok(folder)
}

/// A folder of Havre's, to which its owner may have led by a link; no container can write above it.
fn without_links(folder: PathBuf) -> Result<PathBuf, VolumeError> {
    fs::canonicalize(&folder).map_err(|source| VolumeError::Unreadable {
        path: folder,
        source,
    })
}

/// Copies `target` of the image with all attributes, its own owner and mode too; nothing where the
/// image has no such folder. Links of the image are followed in the image.
fn copy_up(image: &[PathBuf], target: &str, into: &Path) -> io::Result<()> {
    let scratch = into.with_file_name("image");
    fs::create_dir_all(&scratch)?;
    let overlay = Overlay {
        lower: image.to_vec(),
        upper: None,
    };
    let (at, target, into) = (scratch.clone(), target.to_owned(), into.to_owned());
    in_private_mounts(move || {
        overlay.mount(&at)?;
        havre_engine::copy_folder(&at, &target, &into)
    })?;
    fs::remove_dir(&scratch)
}

/// Runs `work` on a thread with a mount namespace of its own; its mounts end with the thread.
fn in_private_mounts(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    let thread = std::thread::Builder::new()
        .name("copy-up".into())
        .spawn(move || {
            use rustix::mount::{MountPropagationFlags, mount_change};
            use rustix::thread::{UnshareFlags, unshare_unsafe};
            // SAFETY: the thread is new and ends here; only its own file system view and mount
            // namespace are unshared, no memory or file descriptors.
            unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS)? };
            mount_change(
                "/",
                MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
            )?;
            work()
        })?;
    thread
        .join()
        .map_err(|_| io::Error::other("the copying thread panicked"))?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_macros, reason = "its output is for a person")]

    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn two_first_uses_at_once_fill_a_volume_once() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let dir = tempfile::tempdir().expect("a folder");
        let image = [dir.path().join("image")];
        fs::create_dir_all(image[0].join("data")).expect("a folder");
        let files = 200;
        for number in 0..files {
            fs::write(image[0].join(format!("data/{number}")), "a file").expect("a file");
        }
        let environment = EnvironmentId {
            project: havre_model::ProjectName::new("shop"),
            environment: havre_model::EnvironmentName::new("production"),
        };
        let volumes = Volumes {
            dir: dir.path(),
            own: dir.path(),
            environment: &environment,
            volumes: &BTreeMap::new(),
            image: &image,
        };
        for round in 0..5 {
            let volume = dir.path().join(format!("volume-{round}"));
            std::thread::scope(|scope| {
                let fill = || volumes.fill("uploads", &volume, "/data", false, Some(&environment));
                let uses: Vec<_> = (0..4).map(|_| scope.spawn(fill)).collect();
                for used in uses {
                    let data = used.join().expect("no panic").expect("filled");
                    let found = fs::read_dir(data).expect("a folder").count();
                    assert_eq!(found, files, "what a replica starts with is whole");
                }
            });
            let left = fs::read_dir(&volume).expect("a folder").count();
            assert_eq!(left, 2, "nothing but the data and its owner");
        }
    }

    /// What a new volume gets from `target` of an image with links.
    #[test]
    fn a_volume_is_filled_from_the_image_alone() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let dir = tempfile::tempdir().expect("a folder");
        let host = dir.path().join("host");
        fs::create_dir(&host).expect("a folder");
        fs::write(host.join("secret"), "of the host").expect("a file");
        let layer = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.join("run/app")).expect("a folder");
            fs::create_dir(path.join("var")).expect("a folder");
            fs::write(path.join("run/app").join(name), name).expect("a file");
            symlink("/run", path.join("var/run")).expect("a link");
            symlink(&host, path.join("trap")).expect("a link");
            let up = "../".repeat(20) + host.to_str().expect("UTF-8");
            symlink(up, path.join("up")).expect("a link");
            path
        };
        let (top, base) = (layer("top"), layer("base"));
        for (number, image) in [vec![top.clone(), base], vec![top]].into_iter().enumerate() {
            let volume = dir.path().join(number.to_string());
            let filled = |target: &str| {
                let into = volume.join("new");
                fs::create_dir_all(&into).expect("a folder");
                copy_up(&image, target, &into).expect("copied");
                let entries = fs::read_dir(&into).expect("a folder");
                let mut names: Vec<_> = entries
                    .map(|entry| entry.expect("an entry").file_name())
                    .collect();
                names.sort();
                fs::remove_dir_all(&into).expect("removed");
                names
            };
            for target in ["/trap", "/up", "/var/run/no", "/var/run/app/top"] {
                assert!(filled(target).is_empty(), "{target}");
            }
            // Debian's own link goes on working.
            let expected: &[&str] = if number == 0 {
                &["base", "top"]
            } else {
                &["top"]
            };
            assert_eq!(filled("/var/run/app"), expected);
        }
    }
}
