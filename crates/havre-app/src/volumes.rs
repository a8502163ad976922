//! Volumes and bind mounts of a container on this machine.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use havre_api::EnvironmentId;
use havre_engine::MountSpec;
use havre_image::overlay::Overlay;
use havre_model::{Mount, Service, Volume, VolumeName, is_volume_name};

/// Why a mount cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    #[error("{name:?} is not a name for a volume")]
    Name { name: String },
    #[error("volume `{name}` is external and does not exist")]
    NoExternal { name: String },
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
    #[error("cannot make bind mount source {path}", path = path.display())]
    MakeSource { path: PathBuf, source: io::Error },
}

/// A volume's name on this machine.
pub(crate) fn volume_name(id: &EnvironmentId, key: &VolumeName, volume: &Volume) -> String {
    volume.name_on_machine(id.project.as_str(), id.environment.as_str(), key)
}

/// A container's surroundings, needed to prepare its mounts.
pub(crate) struct Volumes<'a> {
    /// Folder of all named volumes.
    pub(crate) dir: &'a Path,
    /// Folder of this container's anonymous volumes.
    pub(crate) own: &'a Path,
    pub(crate) environment: &'a EnvironmentId,
    pub(crate) volumes: &'a std::collections::BTreeMap<VolumeName, Volume>,
    /// Layers of the image, topmost first, for the first use of a volume.
    pub(crate) image: &'a [PathBuf],
}

impl Volumes<'_> {
    /// Makes what is missing and returns the mounts. Blocks; safe to run twice.
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
                    None => self.named(name, target, *nocopy || filled_later)?,
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
                let source = self.fill(&name, &self.own.join(&name), target, *nocopy)?;
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
                    if !create_host_path {
                        return Err(VolumeError::NoSource {
                            path: source.clone(),
                        });
                    }
                    fs::create_dir_all(source).map_err(|error| VolumeError::MakeSource {
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
        if volume.external && !path.is_dir() {
            return Err(VolumeError::NoExternal { name });
        }
        self.fill(&name, &path, target, nocopy)
    }

    /// `<dir>/data`, made with the image's content at `target` the first time. The folder gets
    /// its name only once it is complete, so a crash on the way leaves nothing half-filled.
    fn fill(
        &self,
        name: &str,
        dir: &Path,
        target: &str,
        nocopy: bool,
    ) -> Result<PathBuf, VolumeError> {
        let data = dir.join("data");
        if data.is_dir() {
            return Ok(data);
        }
        let make = |source| VolumeError::Make {
            name: name.to_owned(),
            path: dir.to_owned(),
            source,
        };
        let staging = dir.join("new");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(dir)
            .map_err(make)?;
        if staging.exists() {
            fs::remove_dir_all(&staging).map_err(make)?;
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
        fs::rename(&staging, &data).map_err(make)?;
        Ok(data)
    }
}

/// Copies `target` of the image with all attributes, its own owner and mode too; nothing where the
/// image has no such folder.
fn copy_up(image: &[PathBuf], target: &str, into: &Path) -> io::Result<()> {
    let relative = target.trim_start_matches('/');
    if !image
        .iter()
        .any(|layer| layer.join(relative).symlink_metadata().is_ok())
    {
        return Ok(());
    }
    match image {
        [only] => copy_folder(&only.join(relative), into),
        layers => {
            let scratch = into.with_file_name("image");
            fs::create_dir_all(&scratch)?;
            let (overlay, from, into) = (
                Overlay {
                    lower: layers.to_vec(),
                    upper: None,
                },
                scratch.join(relative),
                into.to_owned(),
            );
            let at = scratch.clone();
            in_private_mounts(move || {
                overlay.mount(&at)?;
                copy_folder(&from, &into)
            })?;
            fs::remove_dir(&scratch)
        }
    }
}

fn copy_folder(from: &Path, into: &Path) -> io::Result<()> {
    if !from.is_dir() {
        return Ok(());
    }
    let status = Command::new("cp")
        .arg("-a")
        .arg("--")
        .arg(from.join("."))
        .arg(into)
        .status()?;
    if !status.success() {
        return Err(io::Error::other(format!("cp ended with {status}")));
    }
    let meta = fs::metadata(from)?;
    std::os::unix::fs::chown(into, Some(meta.uid()), Some(meta.gid()))?;
    fs::set_permissions(into, meta.permissions())
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
