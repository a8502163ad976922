//! What is mounted for a RUN step: files of contexts and stages, memory, secrets, kept folders, the
//! host's CA bundle.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::super::action::{MountAction, RunAction, SCRIPT_DIR};
use super::super::error::{BuildError, BuildLocation};
use super::super::run::StepMount;
use super::super::{Secret, kept};
use super::Build;

/// How often a locked cache mount is asked for.
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);
/// Where steps see the host's CA bundle; below `/dev`, which is memory.
pub(super) const CA_BUNDLE: &str = "/dev/havre-ca.crt";
/// Where steps see apt's setting for it.
pub(super) const CA_APT: &str = "/dev/havre-apt.conf";

impl Build<'_> {
    /// The secrets that a step asks for and the build has.
    pub(super) fn secrets<'s>(
        &'s self,
        run: &'s RunAction,
        place: &BuildLocation,
    ) -> Result<Vec<(&'s MountAction, &'s Secret)>, BuildError> {
        let mut given = Vec::new();
        for mount in &run.mounts {
            let MountAction::Secret { id, required, .. } = mount else {
                continue;
            };
            match self.request.secrets.get(id) {
                Some(secret) => given.push((mount, secret)),
                None if *required => {
                    return Err(BuildError::Secret {
                        place: Box::new(place.clone()),
                        id: id.clone(),
                        reason: "is required, and the build is not given it",
                    });
                }
                None => {}
            }
        }
        Ok(given)
    }

    /// The mounts of a step, and the locks that are held while it runs.
    pub(super) async fn mounts(
        &self,
        run: &RunAction,
        secrets: &[(&MountAction, &Secret)],
        scratch: &Path,
    ) -> Result<(Vec<StepMount>, Vec<std::fs::File>), BuildError> {
        let mut mounts = Vec::new();
        let mut locks = Vec::new();
        let mut binds = 0;
        for mount in &run.mounts {
            mounts.push(match mount {
                MountAction::Bind { target, .. } => {
                    let source = bind_folder(scratch, binds).join("content");
                    binds += 1;
                    StepMount::Bind {
                        source,
                        target: target.clone(),
                        read_only: true,
                    }
                }
                MountAction::Tmpfs { target, size_bytes } => StepMount::Tmpfs {
                    target: target.clone(),
                    size_bytes: *size_bytes,
                },
                MountAction::Secret { .. } => continue,
                MountAction::Cache {
                    id,
                    target,
                    exclusive,
                    read_only,
                    mode,
                    uid,
                    gid,
                } => {
                    let (folder, lock) = self
                        .cache_mount(id, *mode, (*uid, *gid), *exclusive)
                        .await?;
                    locks.push(lock);
                    let (target, read_only) = (target.clone(), *read_only);
                    StepMount::Bind {
                        source: folder,
                        target,
                        read_only,
                    }
                }
            });
        }
        mounts.extend(
            secrets
                .iter()
                .filter_map(|(mount, content)| secret_file(mount, content)),
        );
        if let Some((name, content)) = &run.script {
            let folder = scratch.join("script");
            let write = || -> io::Result<()> {
                std::fs::create_dir(&folder)?;
                std::fs::set_permissions(&folder, Permissions::from_mode(0o755))?;
                write_for_all(&folder.join(name), content, 0o755)
            };
            write().map_err(BuildError::io("write the script of a step"))?;
            let target = SCRIPT_DIR.to_owned();
            mounts.push(StepMount::Bind {
                source: folder,
                target,
                read_only: true,
            });
        }
        if let Some(bundle) = &self.request.host_ca {
            let apt = scratch.join("apt.conf");
            let setting = format!("Acquire::https::CaInfo \"{CA_BUNDLE}\";\n");
            write_for_all(&apt, &setting, 0o644).map_err(BuildError::io(
                "write apt's setting of the host's CA bundle",
            ))?;
            for (source, target) in [(bundle.clone(), CA_BUNDLE), (apt, CA_APT)] {
                let target = target.to_owned();
                mounts.push(StepMount::Bind {
                    source,
                    target,
                    read_only: true,
                });
            }
        }
        Ok((mounts, locks))
    }

    /// The folder of a cache mount, locked.
    async fn cache_mount(
        &self,
        id: &str,
        mode: u32,
        owner: (u32, u32),
        exclusive: bool,
    ) -> Result<(PathBuf, std::fs::File), BuildError> {
        loop {
            let of = &self.request.steps.cache_of;
            let folder = kept::folder(self.images, of, id, mode, owner)
                .map_err(BuildError::io("make the folder of a cache mount"))?;
            let lock = match std::fs::File::open(&folder) {
                Ok(folder) => self.lock(folder, exclusive).await?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(BuildError::io("open a cache mount")(error)),
            };
            // It may have been pruned before it was locked.
            let locked = lock
                .metadata()
                .map_err(BuildError::io("look at a cache mount"))?;
            let same = std::fs::metadata(&folder)
                .is_ok_and(|now| (now.dev(), now.ino()) == (locked.dev(), locked.ino()));
            if same {
                return Ok((folder, lock));
            }
        }
    }

    /// Waits until the cache mount may be used: `exclusive` by this step alone, else beside other
    /// such steps. Ends early only when cancelled. The lock also keeps pruning away.
    async fn lock(
        &self,
        file: std::fs::File,
        exclusive: bool,
    ) -> Result<std::fs::File, BuildError> {
        let operation = match exclusive {
            true => FlockOperation::NonBlockingLockExclusive,
            false => FlockOperation::NonBlockingLockShared,
        };
        loop {
            match flock(&file, operation) {
                Ok(()) => return Ok(file),
                Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {}
                Err(error) => return Err(BuildError::io("lock a cache mount")(error.into())),
            }
            tokio::select! {
                () = self.cancel.cancelled() => return Err(BuildError::Cancelled),
                () = tokio::time::sleep(LOCK_PAUSE) => {}
            }
        }
    }
}

/// The file of a secret, where a step wants one.
fn secret_file(mount: &MountAction, content: &Secret) -> Option<StepMount> {
    match mount {
        MountAction::Secret {
            target: Some(target),
            mode,
            uid,
            gid,
            ..
        } => Some(StepMount::Secret {
            content: content.clone(),
            target: target.clone(),
            uid: *uid,
            gid: *gid,
            mode: *mode,
        }),
        _ => None,
    }
}

/// The variables of secrets; beside the step's own, which a key is made of.
pub(super) fn secret_variables(
    secrets: &[(&MountAction, &Secret)],
    place: &BuildLocation,
) -> Result<Vec<(String, Secret)>, BuildError> {
    let mut variables = Vec::new();
    for (mount, content) in secrets {
        let MountAction::Secret {
            id,
            env: Some(name),
            ..
        } = mount
        else {
            continue;
        };
        let text = std::str::from_utf8(content.expose());
        let text = text.ok().filter(|text| !text.contains('\0'));
        if text.is_none() {
            return Err(BuildError::Secret {
                place: Box::new(place.clone()),
                id: id.clone(),
                reason: "is no text, and cannot be in a variable",
            });
        }
        variables.push((name.clone(), (*content).clone()));
    }
    Ok(variables)
}

/// Writes a file that every user of a step may read, whatever the umask of this process.
fn write_for_all(path: &Path, content: &str, mode: u32) -> io::Result<()> {
    std::fs::write(path, content)?;
    std::fs::set_permissions(path, Permissions::from_mode(mode))
}

pub(super) fn bind_folder(scratch: &Path, index: usize) -> PathBuf {
    scratch.join(format!("bind-{index}"))
}
