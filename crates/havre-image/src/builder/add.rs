//! ADD of local archives: recognised by content, unpacked as `tar -x` in the image would.
//!
//! Entries come from strangers. Paths are resolved inside the image, so links lead nowhere else;
//! `..` is refused; size and number are bounded by the same limits as layers.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Timestamps, linkat, mkdirat, mknodat, openat, symlinkat,
    unlinkat, utimensat,
};
use tokio_util::sync::CancellationToken;

use crate::archive::{Entry, EntryKind, TarReader};
use crate::compression::{Compression, decoder};
use crate::limits::{Cancellable, Limits};
use crate::remove::remove_tree;
use crate::unpack::{device_allowed, xattr_travels};

use super::copy::{chown_at, new_folder, own, settle_folder};
use super::copy_error::CopyError;
use super::owner::Owner;
use super::root::{Root, Spot};

/// Whether `file` is an archive that ADD unpacks; its position is at the start again.
pub(super) fn is_archive(file: &mut File, path: &Path) -> Result<bool, CopyError> {
    let error = || CopyError::io("read", path);
    let mut start = [0; 6];
    let mut filled = 0;
    while filled < start.len() {
        match file.read(&mut start[filled..]).map_err(error())? {
            0 => break,
            read => filled += read,
        }
    }
    rewind(file, path)?;
    let form = match start {
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Some("bzip2"),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Some("xz"),
        _ => None,
    };
    if let Some(form) = form {
        return Err(CopyError::Compression {
            path: path.to_owned(),
            form,
        });
    }
    let compression = Compression::of(&start[..filled]);
    // Bytes that do not decompress, or are no archive then, are just a file.
    let found = decoder(compression, &mut *file)
        .is_ok_and(|source| matches!(TarReader::new(source).next_entry(), Ok(Some(_))));
    rewind(file, path)?;
    Ok(found)
}

fn rewind(file: &mut File, path: &Path) -> Result<(), CopyError> {
    file.seek(SeekFrom::Start(0))
        .map(drop)
        .map_err(CopyError::io("read", path))
}

/// Unpacks the archive `path` into `folder` of the image.
pub(super) fn unpack(
    root: &Root,
    folder: &Path,
    owner: Option<Owner>,
    file: &mut File,
    path: &Path,
    limits: Limits,
    cancel: &CancellationToken,
) -> Result<(), CopyError> {
    let error = || CopyError::io("read", path);
    let size = file.metadata().map_err(error())?.len();
    let (compression, source) = Compression::sniff(&mut *file).map_err(error())?;
    let source = decoder(compression, source).map_err(error())?;
    let source = Cancellable::new(limits.for_stream(size).cap(source), cancel);
    let mut reader = TarReader::new(source);
    let mut unpacking = Unpacking {
        root,
        folder,
        owner,
        archive: path,
        limits,
        deferred: 0,
        times: Vec::new(),
    };
    let mut entries = 0;
    while let Some(entry) = reader.next_entry().map_err(|source| CopyError::Archive {
        path: path.to_owned(),
        source,
    })? {
        if cancel.is_cancelled() {
            return Err(CopyError::Cancelled);
        }
        entries += 1;
        if entries > limits.entries {
            return Err(unpacking.refused(&entry, "the archive has too many"));
        }
        unpacking.entry(&entry, &mut reader)?;
    }
    unpacking.finish()
}

struct Unpacking<'a> {
    root: &'a Root,
    folder: &'a Path,
    owner: Option<Owner>,
    archive: &'a Path,
    limits: Limits,
    /// Bytes of the names in `times`.
    deferred: usize,
    /// Times of folders, set last.
    times: Vec<(PathBuf, Timestamps)>,
}

impl Unpacking<'_> {
    fn refused(&self, entry: &Entry, reason: &'static str) -> CopyError {
        CopyError::Entry {
            path: self.archive.to_owned(),
            entry: String::from_utf8_lossy(&entry.path).into_owned(),
            reason,
        }
    }

    /// Where an entry's path lies in the image.
    fn inside(&self, entry: &Entry, path: &[u8]) -> Result<PathBuf, CopyError> {
        let mut inside = self.folder.to_owned();
        for part in path.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => return Err(self.refused(entry, "its path contains ..")),
                part => inside.push(OsStr::from_bytes(part)),
            }
        }
        Ok(inside)
    }

    fn entry(&mut self, entry: &Entry, content: &mut impl Read) -> Result<(), CopyError> {
        let target = self.inside(entry, &entry.path)?;
        if target == self.folder {
            // The folder that is unpacked into stays as it is, whatever `./` of the archive says.
            return Ok(());
        }
        let error = || CopyError::io("unpack to", &target);
        if !device_allowed(entry.kind) {
            return Err(self.refused(entry, "it is a device that containers may not use"));
        }
        let mut spot = self.spot(&target).map_err(error())?;
        let (uid, gid) = self.owner.unwrap_or((entry.uid, entry.gid));
        let is_folder = entry.kind == EntryKind::Directory;
        if spot.stat.is_some() && !(is_folder && spot.is(FileType::Directory)) {
            // Folders are merged; anything else replaces what is there, links to folders as well.
            remove_below(&spot).map_err(error())?;
            spot.stat = None;
        }
        if is_folder {
            directory(entry, &spot, (uid, gid)).map_err(error())?;
            return self.defer(entry, target);
        }
        let link = match entry.kind {
            EntryKind::HardLink => Some(self.inside(entry, &entry.link)?),
            _ => None,
        };
        self.make(entry, &spot, link.as_deref(), (uid, gid), content)
            .map_err(error())
    }

    fn spot(&self, target: &Path) -> io::Result<Spot> {
        let finish = |dir: &std::os::fd::OwnedFd, name: &OsStr| settle_folder(dir, name, (0, 0));
        let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
            return self.root.spot(target, true);
        };
        let above = self.root.spot_making(parent, &finish)?;
        if above.stat.is_none() {
            new_folder(&above, (0, 0))?;
        }
        let dir = above.open_folder()?;
        let stat = super::root::lstat(&dir, name)?;
        Ok(Spot {
            dir,
            name: name.to_owned(),
            stat,
        })
    }

    /// Keeps the times of a folder until nothing changes in it any more.
    fn defer(&mut self, entry: &Entry, target: PathBuf) -> Result<(), CopyError> {
        self.deferred += target.as_os_str().len();
        if self.deferred > self.limits.folder_names {
            return Err(self.refused(entry, "the archive has too many folders with long names"));
        }
        self.times.push((target, entry.times()));
        Ok(())
    }

    fn make(
        &self,
        entry: &Entry,
        spot: &Spot,
        link: Option<&Path>,
        (uid, gid): Owner,
        content: &mut impl Read,
    ) -> io::Result<()> {
        let mode = Mode::from_raw_mode(entry.mode);
        match entry.kind {
            EntryKind::File => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                let mut file: File =
                    openat(&*spot.dir, &spot.name, flags, Mode::from_raw_mode(0o600))?.into();
                io::copy(&mut content.take(entry.size), &mut file)?;
                own(&file, uid, gid, entry.mode)?;
                for (name, value) in entry.xattrs.iter().filter(|(name, _)| xattr_travels(name)) {
                    let flags = rustix::fs::XattrFlags::empty();
                    rustix::fs::fsetxattr(&file, name.as_slice(), value, flags)?;
                }
            }
            EntryKind::HardLink => {
                let from = self.root.spot(link.unwrap_or(Path::new("")), false)?;
                linkat(
                    &*from.dir,
                    &from.name,
                    &*spot.dir,
                    &spot.name,
                    AtFlags::empty(),
                )?;
                return Ok(());
            }
            EntryKind::Symlink => {
                symlinkat(entry.link.as_slice(), &*spot.dir, &spot.name)?;
                chown_at(&spot.dir, &spot.name, uid, gid)?;
            }
            EntryKind::Fifo | EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. } => {
                let (kind, device) = node(entry.kind);
                mknodat(&*spot.dir, &spot.name, kind, mode, device)?;
                chown_at(&spot.dir, &spot.name, uid, gid)?;
                rustix::fs::chmodat(&*spot.dir, &spot.name, mode, AtFlags::empty())?;
            }
            EntryKind::Directory => {}
        }
        utimensat(
            &*spot.dir,
            &spot.name,
            &entry.times(),
            AtFlags::SYMLINK_NOFOLLOW,
        )?;
        Ok(())
    }

    fn finish(self) -> Result<(), CopyError> {
        for (path, times) in self.times.iter().rev() {
            let error = || CopyError::io("set the time of", path);
            // A later entry may have replaced it, or what it lay in.
            let spot = match self.root.spot(path, false) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                spot => spot.map_err(error())?,
            };
            if spot.is(FileType::Directory) {
                utimensat(&*spot.dir, &spot.name, times, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(|errno| error()(errno.into()))?;
            }
        }
        Ok(())
    }
}

/// Makes a folder, or makes one that is there as the entry says.
fn directory(entry: &Entry, spot: &Spot, owner: Owner) -> io::Result<()> {
    if spot.stat.is_none() {
        mkdirat(&*spot.dir, &spot.name, Mode::from_raw_mode(0o700))?;
    }
    chown_at(&spot.dir, &spot.name, owner.0, owner.1)?;
    let mode = Mode::from_raw_mode(entry.mode);
    rustix::fs::chmodat(&*spot.dir, &spot.name, mode, AtFlags::empty())?;
    Ok(())
}

/// Removes what is at a spot, a folder with all that is in it.
fn remove_below(spot: &Spot) -> io::Result<()> {
    if !spot.is(FileType::Directory) {
        return Ok(unlinkat(&*spot.dir, &spot.name, AtFlags::empty())?);
    }
    // By the descriptor: its name may mean something else outside of the image.
    let folder = PathBuf::from(format!("/proc/self/fd/{}", spot.dir.as_raw_fd()));
    remove_tree(&folder.join(&spot.name))
}

fn node(kind: EntryKind) -> (FileType, u64) {
    match kind {
        EntryKind::CharDevice { major, minor } => {
            (FileType::CharacterDevice, rustix::fs::makedev(major, minor))
        }
        EntryKind::BlockDevice { major, minor } => {
            (FileType::BlockDevice, rustix::fs::makedev(major, minor))
        }
        EntryKind::File
        | EntryKind::HardLink
        | EntryKind::Symlink
        | EntryKind::Directory
        | EntryKind::Fifo => (FileType::Fifo, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_without_end_are_stopped() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = Root::open(folder.path()).expect("the root opens");
        let mut archive = tar::Builder::new(tempfile::tempfile().expect("a file"));
        for n in 0..40 {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(tar::EntryType::Directory);
            header.set_size(0);
            header.set_mode(0o755);
            // The same one again and again costs as much memory as many.
            let name = format!("{}/{}", "d".repeat(90), n % 2);
            archive
                .append_data(&mut header, name, io::empty())
                .expect("an entry");
        }
        let mut file = archive.into_inner().expect("an archive");
        let mut unpack_within = |folder_names| {
            rewind(&mut file, Path::new("a.tar"))?;
            let limits = Limits {
                folder_names,
                ..Limits::default()
            };
            let owner = Some((
                rustix::process::geteuid().as_raw(),
                rustix::process::getegid().as_raw(),
            ));
            let (into, path) = (Path::new("/"), Path::new("a.tar"));
            let cancel = CancellationToken::new();
            unpack(&root, into, owner, &mut file, path, limits, &cancel)
        };
        unpack_within(10_000).expect("so many are fine");
        let error = unpack_within(1000).expect_err("too many");
        assert!(error.to_string().contains("too many folders"), "{error}");
    }
}
