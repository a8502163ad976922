//! Reading what was published.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use bytes::Bytes;
use rustix::fs::{Mode, OFlags};

use super::{BLOBS, Blobs, Segment, list};

/// Bytes that are read at a time.
const CHUNK: u64 = 512 << 10;

/// The bytes of an artifact or a cache. It can be read to its end even if it is removed meanwhile.
#[derive(Debug)]
pub struct Content {
    folder: OwnedFd,
    segments: std::vec::IntoIter<Segment>,
    /// What is read, and how much of it still may be.
    open: Option<(File, u64)>,
    /// Bytes to leave out before what is read.
    skip: u64,
    left: u64,
    size: u64,
    // Last: the files go when nobody reads them.
    _reading: Reading,
}

#[derive(Debug)]
struct Reading {
    blobs: Blobs,
    name: String,
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.blobs.has_read(&self.name);
    }
}

impl Content {
    pub(super) fn open(blobs: Blobs, name: &str) -> io::Result<Self> {
        blobs.reads(name);
        let reading = Reading {
            blobs,
            name: name.to_owned(),
        };
        let path = reading.blobs.path(BLOBS, name);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&path, flags, Mode::empty())?;
        let segments = list::read(&path)?;
        let size = segments.iter().map(|segment| segment.size).sum();
        Ok(Self {
            folder,
            segments: segments.into_iter(),
            open: None,
            skip: 0,
            left: size,
            size,
            _reading: reading,
        })
    }

    /// Bytes of all of it.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Only `length` bytes from `start`; before anything was read.
    pub(crate) fn cut(&mut self, start: u64, length: u64) {
        self.skip = start;
        self.left = length.min(self.size.saturating_sub(start));
    }

    /// What comes next; `None` at the end.
    pub(crate) fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        let Some((file, rest)) = self.current()? else {
            return Ok(None);
        };
        let want = CHUNK.min(*rest);
        let mut bytes = Vec::with_capacity(usize::try_from(want).unwrap_or(0));
        let read = file.take(want).read_to_end(&mut bytes)? as u64;
        if read < want {
            return Err(cut_off());
        }
        *rest -= read;
        self.left -= read;
        Ok(Some(bytes.into()))
    }

    /// The file that is read now.
    fn current(&mut self) -> io::Result<Option<&mut (File, u64)>> {
        while self.left > 0 && self.open.as_ref().is_none_or(|(_, rest)| *rest == 0) {
            let segment = self.segments.next().ok_or_else(cut_off)?;
            if self.skip >= segment.size {
                self.skip -= segment.size;
                continue;
            }
            self.open = Some(self.enter(&segment)?);
            self.skip = 0;
        }
        Ok(if self.left > 0 {
            self.open.as_mut()
        } else {
            None
        })
    }

    fn enter(&self, segment: &Segment) -> io::Result<(File, u64)> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let name = segment.name.as_str();
        let file = rustix::fs::openat(&self.folder, name, flags, Mode::empty())?;
        let mut file = File::from(file);
        if file.metadata()?.len() != segment.size {
            return Err(cut_off());
        }
        io::Seek::seek(&mut file, io::SeekFrom::Start(self.skip))?;
        Ok((file, (segment.size - self.skip).min(self.left)))
    }
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some((file, rest)) = self.current()? else {
            return Ok(0);
        };
        let read = file.take(*rest).read(buffer)? as u64;
        if read == 0 && !buffer.is_empty() {
            return Err(cut_off());
        }
        *rest -= read;
        self.left -= read;
        Ok(usize::try_from(read).unwrap_or(0))
    }
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "a block is not what it was")
}
