//! How a container's secrets lie in memory, so that all of them change at once:
//!
//! ```text
//! ..1/NAME                 a version, never changed
//! ..data ─► ..1            one link, replaced in one step
//! NAME ─► ..data/NAME      what programs open
//! ```
//! As Kubernetes has it: who watches the folder sees `..data` move. The version before stays until the
//! next change, for who has just followed the link. A container with the right to mount can write here, so
//! every name is used within an open folder, and no link is followed.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, ResolveFlags, Stat, Uid};

use crate::confidential::Contents;
use crate::spec::{ContainerSpec, MountSpec, SECRETS_DIR, SecretSpec};

const LINK: &str = "..data";

/// A file of a version.
pub struct Item<'a> {
    /// Below the folder.
    pub path: &'a str,
    /// What it holds.
    pub bytes: &'a [u8],
    /// Permission bits.
    pub mode: u32,
}

/// Where below the folder of secrets this one is; `None`: somewhere else.
pub fn place<'a>(spec: &ContainerSpec, secret: &'a SecretSpec) -> Option<&'a str> {
    let covered = |mount: &MountSpec| match mount {
        MountSpec::Bind { target, .. }
        | MountSpec::Volume { target, .. }
        | MountSpec::Layers { target, .. }
        | MountSpec::Seen { target, .. }
        | MountSpec::Tmpfs { target, .. } => Path::new(target).starts_with(SECRETS_DIR),
    };
    // What the service mounts there itself is not to be hidden.
    if spec.mounts.iter().any(covered) {
        return None;
    }
    below(&secret.target)
}

/// The rest of a target below the folder of secrets.
pub fn below(target: &str) -> Option<&str> {
    target.strip_prefix(SECRETS_DIR)?.strip_prefix('/')
}

/// Whether this can be a path below the folder: none of its own names, nothing that leads out.
pub fn is_plain(path: &str) -> bool {
    path.split('/')
        .all(|part| !part.is_empty() && part != "." && !part.starts_with(".."))
}

/// Writes a version; its files are root's until they are given away.
pub fn write(folder: impl AsFd, version: u32, items: &[Item]) -> io::Result<Vec<File>> {
    let name = format!("..{version}");
    rustix::fs::mkdirat(&folder, &name, FOLDER)?;
    let folder = open_folder(&folder, &name)?;
    let files = items.iter().map(|item| write_file(&folder, item));
    files.collect()
}

const FOLDER: Mode = Mode::from_raw_mode(0o755);

fn write_file(folder: &OwnedFd, item: &Item) -> io::Result<File> {
    let (above, name) = match item.path.rsplit_once('/') {
        Some((above, name)) => (above, name),
        None => ("", item.path),
    };
    let mut at = folder.try_clone()?;
    for part in above.split('/').filter(|part| !part.is_empty()) {
        match rustix::fs::mkdirat(&at, part, FOLDER) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        at = open_folder(&at, part)?;
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&at, name, flags, Mode::from_raw_mode(0o600))?;
    let mut file = File::from(file);
    file.write_all(item.bytes)?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(item.mode & 0o555))?;
    Ok(file)
}

fn open_folder(at: impl AsFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(at, name, flags, Mode::empty())?)
}

/// From now on this version is what programs see.
pub fn switch(folder: impl AsFd, version: u32) -> io::Result<()> {
    const NEXT: &str = "..next";
    match rustix::fs::unlinkat(&folder, NEXT, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    rustix::fs::symlinkat(format!("..{version}"), &folder, NEXT)?;
    Ok(rustix::fs::renameat(&folder, NEXT, &folder, LINK)?)
}

/// Makes the links that programs open.
pub fn link<'a>(folder: impl AsFd, paths: impl IntoIterator<Item = &'a str>) -> io::Result<()> {
    for path in paths {
        let first = path.split('/').next().unwrap_or(path);
        match rustix::fs::symlinkat(format!("{LINK}/{first}"), &folder, first) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The secrets of a running container.
#[derive(Debug)]
pub struct Delivered {
    /// Writable, while what the container sees is not.
    folder: OwnedFd,
    /// The last that was begun.
    version: u32,
    live: u32,
    /// To be removed by the next change: the version before, and what could not be.
    old: Vec<u32>,
}

impl Delivered {
    /// With the first version in place.
    pub fn first(folder: OwnedFd) -> Self {
        Self {
            folder,
            version: 1,
            live: 1,
            old: Vec::new(),
        }
    }

    /// Puts other contents in place, all or none; owners stay as they are. Returns what of older versions
    /// could not be removed.
    pub fn renew(
        &mut self,
        spec: &ContainerSpec,
        contents: &Contents,
    ) -> io::Result<Vec<io::Error>> {
        let mut items = Vec::new();
        let mut owners = Vec::new();
        for secret in &spec.secrets {
            let Some(path) = place(spec, secret) else {
                continue;
            };
            let bytes = contents.files.get(&secret.name).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::NotFound,
                    format!("secret {} was not given", secret.name),
                )
            })?;
            items.push(Item {
                path,
                bytes,
                mode: secret.mode,
            });
            owners.push(self.current(path)?);
        }
        self.put(&items, &owners)
    }

    fn put(&mut self, items: &[Item], owners: &[Stat]) -> io::Result<Vec<io::Error>> {
        // What is half there would be in the way of the next try.
        self.version += 1;
        let next = self.version;
        let written = write(&self.folder, next, items).and_then(|files| {
            for (file, owner) in files.iter().zip(owners) {
                let (uid, gid) = (Uid::from_raw(owner.st_uid), Gid::from_raw(owner.st_gid));
                rustix::fs::fchown(file, Some(uid), Some(gid))?;
                // Changing the owner clears bits.
                rustix::fs::fchmod(file, Mode::from_raw_mode(owner.st_mode & 0o7777))?;
            }
            switch(&self.folder, next)
        });
        if let Err(error) = written {
            self.old.push(next);
            return Err(error);
        }
        // It is in place: from here on nothing may fail.
        let mut failed = Vec::new();
        let mut left = Vec::new();
        for old in std::mem::take(&mut self.old) {
            if let Err(error) = self.remove(old) {
                failed.push(error);
                left.push(old);
            }
        }
        self.old = left;
        self.old.push(std::mem::replace(&mut self.live, next));
        Ok(failed)
    }

    fn current(&self, path: &str) -> io::Result<Stat> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let path = format!("{LINK}/{path}");
        let file = rustix::fs::openat2(
            &self.folder,
            path,
            flags,
            Mode::empty(),
            ResolveFlags::BENEATH,
        )?;
        Ok(rustix::fs::fstat(file)?)
    }

    fn remove(&self, version: u32) -> io::Result<()> {
        let path = format!("/proc/self/fd/{}/..{version}", self.folder.as_raw_fd());
        match std::fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_failed_renewal_the_version_before_stays_and_nothing_older() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder: OwnedFd = File::open(dir.path()).expect("a folder").into();
        let item = |bytes| Item {
            path: "db",
            bytes,
            mode: 0o444,
        };
        write(&folder, 1, &[item(b"1")]).expect("a version");
        switch(&folder, 1).expect("a link");
        let mut delivered = Delivered::first(folder);
        let mut renew = |value: &'static [u8]| {
            let owner = delivered.current("db").expect("there");
            delivered.put(&[item(value)], &[owner])
        };
        let there = || {
            let folder = std::fs::read_dir(dir.path()).expect("a folder");
            let names = folder.map(|entry| entry.expect("an entry").file_name());
            let mut names: Vec<_> = names
                .map(|name| name.into_string().expect("text"))
                .collect();
            names.sort();
            names.join(" ")
        };
        let value = || std::fs::read(dir.path().join("..data/db")).expect("there");
        assert!(renew(b"2").expect("renewed").is_empty());
        assert_eq!(there(), "..1 ..2 ..data");
        for blocked in ["..3", "..4"] {
            std::fs::create_dir(dir.path().join(blocked)).expect("in the way");
            renew(b"x").expect_err("in the way");
        }
        assert_eq!(value(), b"2");
        assert!(renew(b"5").expect("renewed").is_empty());
        assert_eq!(there(), "..2 ..5 ..data");
        assert!(renew(b"6").expect("renewed").is_empty());
        assert_eq!(there(), "..5 ..6 ..data");
        assert_eq!(value(), b"6");
    }
}
