//! What is in a file: hashing and copying it. Holes are not read and stay holes.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{SeekFrom, copy_file_range, seek};
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use super::copy_error::CopyError;
use crate::{Digest, Hashing};

/// Bytes that are read, or zeros that are hashed, at once.
const CHUNK: usize = 1 << 18;
static ZEROS: [u8; CHUNK] = [0; CHUNK];
/// Bytes that the kernel copies before a cancellation is looked for.
const KERNEL_CHUNK: u64 = 64 << 20;

/// A file that is read.
pub(super) struct SourceFile<'a> {
    pub file: &'a File,
    /// For messages.
    pub path: &'a Path,
    pub cancel: &'a CancellationToken,
}

/// A part of a file; one without bytes reads as zeros.
enum Piece<'a> {
    Data { at: u64, bytes: &'a [u8] },
    Hole { bytes: u64 },
}

/// Takes bytes and where they lie.
type Take<'t> = &'t mut dyn FnMut(u64, &[u8]) -> Result<(), CopyError>;

impl SourceFile<'_> {
    /// Digest of all bytes.
    pub fn digest(&self) -> Result<Digest, CopyError> {
        let mut hashing = Hashing::new(io::sink());
        self.pieces(&mut |piece| self.hash(&mut hashing, &piece))?;
        Ok(hashing.finish().0)
    }

    /// Copies into the empty `target`, and hashes on the way.
    pub fn copy_and_hash(&self, target: &File, name: &Path) -> Result<Digest, CopyError> {
        let mut hashing = Hashing::new(io::sink());
        let length = self.pieces(&mut |piece| {
            if let Piece::Data { at, bytes } = piece {
                target
                    .write_all_at(bytes, at)
                    .map_err(CopyError::io("write", name))?;
            }
            self.hash(&mut hashing, &piece)
        })?;
        target
            .set_len(length)
            .map_err(CopyError::io("write", name))?;
        Ok(hashing.finish().0)
    }

    /// Copies into the empty `target`, by the kernel where it can.
    pub fn copy(&self, target: &File, name: &Path) -> Result<(), CopyError> {
        let mut at = 0;
        while let Some((start, end)) = self.extent(at)? {
            self.copy_extent(target, name, start, end)?;
            at = end;
        }
        let length = self.length()?;
        target.set_len(length).map_err(CopyError::io("write", name))
    }

    fn copy_extent(
        &self,
        target: &File,
        name: &Path,
        start: u64,
        end: u64,
    ) -> Result<(), CopyError> {
        let (mut from, mut to) = (start, start);
        while from < end {
            self.check()?;
            let most = usize::try_from((end - from).min(KERNEL_CHUNK)).unwrap_or(usize::MAX);
            match copy_file_range(self.file, Some(&mut from), target, Some(&mut to), most) {
                // The file became shorter.
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(Errno::XDEV | Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP | Errno::PERM) => {
                    return self.read(from, end, &mut |at, bytes| {
                        target
                            .write_all_at(bytes, at)
                            .map_err(CopyError::io("write", name))
                    });
                }
                Err(error) => return Err(CopyError::io("write", name)(error.into())),
            }
        }
        Ok(())
    }

    /// Shows the file from its start to its end; returns its length.
    fn pieces(
        &self,
        visit: &mut dyn FnMut(Piece<'_>) -> Result<(), CopyError>,
    ) -> Result<u64, CopyError> {
        let mut at = 0;
        while let Some((start, end)) = self.extent(at)? {
            visit(Piece::Hole { bytes: start - at })?;
            self.read(start, end, &mut |at, bytes| {
                visit(Piece::Data { at, bytes })
            })?;
            at = end;
        }
        let length = self.length()?.max(at);
        visit(Piece::Hole { bytes: length - at })?;
        Ok(length)
    }

    /// Where the next data from `at` on begin and end.
    fn extent(&self, at: u64) -> Result<Option<(u64, u64)>, CopyError> {
        let length = self.length()?;
        if at >= length {
            return Ok(None);
        }
        let found = seek(self.file, SeekFrom::Data(at))
            .and_then(|start| Ok((start, seek(self.file, SeekFrom::Hole(start))?)));
        match found {
            Ok(extent) => Ok(Some(extent)),
            Err(Errno::NXIO) => Ok(None),
            // A file system that knows no holes.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(Some((at, length))),
            Err(error) => Err(CopyError::io("read", self.path)(error.into())),
        }
    }

    fn length(&self) -> Result<u64, CopyError> {
        let meta = self.file.metadata();
        Ok(meta.map_err(CopyError::io("look at", self.path))?.len())
    }

    fn read(&self, start: u64, end: u64, visit: Take<'_>) -> Result<(), CopyError> {
        let mut buffer = vec![0; CHUNK];
        let mut at = start;
        while at < end {
            self.check()?;
            let most = usize::try_from(end - at).map_or(CHUNK, |left| left.min(CHUNK));
            let read = self
                .file
                .read_at(&mut buffer[..most], at)
                .map_err(CopyError::io("read", self.path))?;
            if read == 0 {
                return Ok(());
            }
            visit(at, &buffer[..read])?;
            at += read as u64;
        }
        Ok(())
    }

    fn hash(&self, hashing: &mut Hashing<io::Sink>, piece: &Piece<'_>) -> Result<(), CopyError> {
        let failed = || CopyError::io("hash", self.path);
        match piece {
            Piece::Data { bytes, .. } => hashing.write_all(bytes).map_err(failed()),
            Piece::Hole { bytes } => {
                let mut left = *bytes;
                while left > 0 {
                    self.check()?;
                    let part = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
                    hashing.write_all(&ZEROS[..part]).map_err(failed())?;
                    left -= part as u64;
                }
                Ok(())
            }
        }
    }

    fn check(&self) -> Result<(), CopyError> {
        match self.cancel.is_cancelled() {
            true => Err(CopyError::Cancelled),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn holes_stay_holes_and_hash_as_zeros() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::create_new(folder.path().join("sparse")).unwrap();
        file.write_all_at(b"start", 0).unwrap();
        file.write_all_at(b"middle", 3 << 20).unwrap();
        file.set_len(9 << 20).unwrap();
        let path = folder.path().join("sparse");
        let bytes = std::fs::read(&path).unwrap();
        let (file, cancel) = (File::open(&path).unwrap(), CancellationToken::new());
        let source = SourceFile {
            file: &file,
            path: &path,
            cancel: &cancel,
        };
        assert_eq!(source.digest().unwrap(), Digest::of(&bytes));
        let copies: [&dyn Fn(&File); 2] = [&|copy| source.copy(copy, &path).unwrap(), &|copy| {
            let digest = source.copy_and_hash(copy, &path).unwrap();
            assert_eq!(digest, Digest::of(&bytes));
        }];
        for (name, make) in ["a", "b"].into_iter().zip(copies) {
            let copy = folder.path().join(name);
            make(&File::create_new(&copy).unwrap());
            assert!(std::fs::read(&copy).unwrap() == bytes, "{name}");
            let taken = std::fs::metadata(&copy).unwrap().blocks() * 512;
            assert!(taken < 1 << 20, "{name} takes {taken} bytes");
        }
    }

    #[test]
    fn reading_ends_when_it_is_cancelled() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("huge");
        // An hour of zeros.
        File::create_new(&path).unwrap().set_len(1 << 41).unwrap();
        let (file, cancel) = (File::open(&path).unwrap(), CancellationToken::new());
        let source = SourceFile {
            file: &file,
            path: &path,
            cancel: &cancel,
        };
        let stopper = cancel.clone();
        let worker = std::thread::spawn(move || stopper.cancel());
        assert!(matches!(source.digest(), Err(CopyError::Cancelled)));
        worker.join().unwrap();
    }
}
