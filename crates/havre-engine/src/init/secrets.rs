//! A container's secrets: memory that only its mount namespace and its shim see.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use havre_image::root::Root;
use rustix::fs::{CWD, Gid, Mode, OFlags, Uid, mkdirat};

use super::{SetupError, mounts, step, user};
use crate::confidential::Contents;
use crate::secrets::{self, Item};
use crate::spec::ContainerSpec;
use crate::sys;

/// What is mounted at the folder of secrets.
const SHOWN: &str = "shown";
/// Those that are elsewhere, by number.
const ELSEWHERE: &str = "elsewhere";

/// Room for two versions of what a compose file can hold, and no more files than that.
const OPTIONS: &str = "mode=0700,size=256m,nr_inodes=8192";

/// Laid out, to be attached in the container's root.
pub struct Prepared {
    /// The folder as the container sees it: read-only.
    pub folder: Option<OwnedFd>,
    /// Read-only mounts of files, with their targets.
    pub elsewhere: Vec<(OwnedFd, String)>,
    /// Files with the number of their secret: their owners are names of the image.
    owned: Vec<(usize, File)>,
}

/// Lays them out in memory mounted at `scratch` for the moment, covered by the root file system
/// afterwards, and gives the shim the folder to write new versions to.
pub fn prepare(
    spec: &ContainerSpec,
    scratch: &Path,
    contents: &Contents,
    socket: BorrowedFd,
) -> Result<Prepared, SetupError> {
    let mut prepared = Prepared {
        folder: None,
        elsewhere: Vec::new(),
        owned: Vec::new(),
    };
    if spec.secrets.is_empty() {
        return Ok(prepared);
    }
    let what = || "prepare memory for the container's secrets".to_owned();
    let point = scratch.to_string_lossy();
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    // Never written to swap where the kernel can promise it (6.4).
    let mounted = sys::mount(
        "havre",
        &point,
        "tmpfs",
        flags,
        &format!("{OPTIONS},noswap"),
    )
    .or_else(|_| sys::mount("havre", &point, "tmpfs", flags, OPTIONS));
    step(mounted, what)?;
    let open = |name: &str| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(CWD, scratch.join(name), flags, Mode::empty())
    };
    for name in [SHOWN, ELSEWHERE] {
        step(
            mkdirat(CWD, scratch.join(name), Mode::from_raw_mode(0o755)),
            what,
        )?;
    }
    let (shown, elsewhere) = (step(open(SHOWN), what)?, step(open(ELSEWHERE), what)?);
    let bytes_of = |n: usize| {
        let name = &spec.secrets[n].name;
        let bytes = contents.files.get(name).map(|bytes| bytes.as_slice());
        bytes.ok_or_else(|| {
            SetupError::Refused(format!("the content of secret {name} was not handed over"))
        })
    };

    let below = |n: usize| secrets::place(spec, &spec.secrets[n]);
    let (inside, outside): (Vec<usize>, Vec<usize>) =
        (0..spec.secrets.len()).partition(|n| below(*n).is_some());
    let mut items = Vec::new();
    for n in &inside {
        items.push(Item {
            path: below(*n).unwrap_or_default(),
            bytes: bytes_of(*n)?,
            mode: spec.secrets[*n].mode,
        });
    }
    let files = step(secrets::write(&shown, 1, &items), what)?;
    prepared.owned.extend(inside.into_iter().zip(files));
    step(secrets::switch(&shown, 1), what)?;
    step(
        secrets::link(&shown, items.iter().map(|item| item.path)),
        what,
    )?;
    for file in &spec.files {
        if let Some(path) = secrets::below(&file.target) {
            step(make_point(&shown, path), what)?;
        }
    }
    if !items.is_empty() {
        let folder = step(mounts::copy(&shown, "", false), what)?;
        step(sys::mount_read_only(folder.as_fd(), false), what)?;
        prepared.folder = Some(folder);
    }

    for n in outside {
        let secret = &spec.secrets[n];
        let name = n.to_string();
        let item = Item {
            path: &name,
            bytes: bytes_of(n)?,
            mode: secret.mode,
        };
        let version = n as u32 + 1;
        prepared.owned.extend(
            step(secrets::write(&elsewhere, version, &[item]), what)?
                .into_iter()
                .map(|file| (n, file)),
        );
        let mount = step(
            mounts::copy(&elsewhere, &format!("..{version}/{name}"), false),
            what,
        )?;
        step(sys::mount_read_only(mount.as_fd(), false), what)?;
        prepared.elsewhere.push((mount, secret.target.clone()));
    }
    step(sys::send(socket, b"S", &[shown.as_fd()]), || {
        "speak to the shim".to_owned()
    })?;
    Ok(prepared)
}

/// An empty file for something else to be mounted on.
fn make_point(folder: &OwnedFd, path: &str) -> std::io::Result<()> {
    let mut at = folder.try_clone()?;
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    for part in above.split('/').filter(|part| !part.is_empty()) {
        match mkdirat(&at, part, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        at = rustix::fs::openat(&at, part, flags, Mode::empty())?;
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::openat(&at, name, flags, Mode::from_raw_mode(0o644))?;
    Ok(())
}

impl Prepared {
    /// Gives each to its owner, by the account files of the container's root.
    pub fn give_away(&self, spec: &ContainerSpec, root: &Root) -> Result<(), SetupError> {
        for (n, file) in &self.owned {
            let secret = &spec.secrets[*n];
            let (uid, gid) = user::owner(root, &secret.user, &secret.group)?;
            let what = || format!("give secret {} to its owner", secret.name);
            step(
                rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))),
                what,
            )?;
            step(
                rustix::fs::fchmod(file, Mode::from_raw_mode(secret.mode & 0o555)),
                what,
            )?;
        }
        Ok(())
    }
}
