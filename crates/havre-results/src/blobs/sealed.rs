//! An upload that is being finished: no block comes any more, so that what is hashed is what is published.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use ring::digest::{Context, SHA256};

use super::{BLOBS, BlobError, Blobs, LIST, Segment, UPLOADS, list};

/// Bytes that are hashed at a time.
const CHUNK: usize = 1 << 20;

/// Takes blocks again when it goes without being published.
#[derive(Debug)]
pub(crate) struct Sealed {
    blobs: Blobs,
    folder: String,
    segments: Vec<Segment>,
    is_synced: bool,
    is_published: bool,
}

impl Blobs {
    /// Closes an upload whose block list has come.
    pub(crate) fn seal(&self, folder: &str) -> Result<Sealed, BlobError> {
        {
            let mut state = self.state();
            let upload = state.uploads.get_mut(folder).ok_or(BlobError::Unknown)?;
            if upload.is_sealed {
                return Err(BlobError::Sealed);
            }
            upload.is_sealed = true;
        }
        let mut sealed = Sealed {
            blobs: self.clone(),
            folder: folder.to_owned(),
            segments: Vec::new(),
            is_synced: false,
            is_published: false,
        };
        sealed.segments = match list::read(&self.path(UPLOADS, folder)) {
            Ok(segments) => segments,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(BlobError::NoList),
            Err(error) => return Err(BlobError::io("read the block list")(error)),
        };
        sealed.fits()?;
        Ok(sealed)
    }
}

impl Sealed {
    /// Bytes of what is to be published.
    pub(crate) fn size(&self) -> u64 {
        self.segments.iter().map(|segment| segment.size).sum()
    }

    /// Its SHA-256.
    pub(crate) fn digest(&self) -> Result<[u8; 32], BlobError> {
        let folder = self.blobs.path(UPLOADS, &self.folder);
        let mut context = Context::new(&SHA256);
        let mut buffer = vec![0; CHUNK];
        for segment in &self.segments {
            feed(&mut context, &folder.join(&segment.name), &mut buffer)
                .map_err(BlobError::io("hash the blocks"))?;
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        Ok(digest)
    }

    /// Sees to it that all of it is on disk, and will be once it is published.
    pub(crate) fn sync(&mut self) -> Result<(), BlobError> {
        sync(&self.blobs.path(UPLOADS, &self.folder)).map_err(BlobError::io("sync the blocks"))?;
        self.is_synced = true;
        Ok(())
    }

    /// Puts it where it is read from. Nobody knows of it before the database says so: `note` has it do that. Where
    /// `note` fails, it is an upload again.
    pub(crate) fn publish<T, E: From<BlobError>>(
        mut self,
        note: impl FnOnce(u64) -> Result<T, E>,
    ) -> Result<T, E> {
        self.remove_rest()?;
        let from = self.blobs.path(UPLOADS, &self.folder);
        let to = self.blobs.path(BLOBS, &self.folder);
        fs::rename(&from, &to).map_err(|error| match error.kind() {
            // It was given up meanwhile.
            io::ErrorKind::NotFound => BlobError::Unknown,
            _ => BlobError::io("publish the blocks")(error),
        })?;
        let synced = match self.is_synced {
            true => File::open(self.blobs.0.dir.join(BLOBS)).and_then(|dir| dir.sync_all()),
            false => Ok(()),
        };
        let noted = synced
            .map_err(BlobError::io("sync the blobs"))
            .map_err(E::from)
            .and_then(|()| note(self.size()));
        let noted = match noted {
            Ok(noted) => noted,
            Err(error) => {
                fs::rename(&to, &from).map_err(BlobError::io("take the blocks back"))?;
                let is_wanted = self.blobs.state().uploads.contains_key(&self.folder);
                if !is_wanted {
                    self.blobs.trash(UPLOADS, &self.folder);
                }
                return Err(error);
            }
        };
        self.is_published = true;
        let mut state = self.blobs.state();
        let upload = state.uploads.remove(&self.folder);
        state.pending -= upload.map_or(0, |upload| upload.bytes);
        state.stored += self.size();
        drop(state);
        Ok(noted)
    }

    /// A block may stand in the list more than once: then it is more than was received.
    fn fits(&self) -> Result<(), BlobError> {
        let most = {
            let state = self.blobs.state();
            let upload = state.uploads.get(&self.folder);
            upload.ok_or(BlobError::Unknown)?.most
        };
        match self.size() <= most {
            true => Ok(()),
            false => Err(BlobError::TooLarge { most }),
        }
    }

    /// Removes blocks that the list does not name.
    fn remove_rest(&self) -> Result<(), BlobError> {
        let named: HashSet<&str> = self.segments.iter().map(|s| s.name.as_str()).collect();
        let folder = self.blobs.path(UPLOADS, &self.folder);
        let cannot = || BlobError::io("look through the blocks");
        for entry in fs::read_dir(folder).map_err(cannot())? {
            let entry = entry.map_err(cannot())?;
            let name = entry.file_name();
            let keep = name
                .to_str()
                .is_some_and(|name| name == LIST || named.contains(name));
            if !keep {
                remove(&entry.path()).map_err(cannot())?;
            }
        }
        Ok(())
    }
}

impl Drop for Sealed {
    fn drop(&mut self) {
        if self.is_published {
            return;
        }
        if let Some(upload) = self.blobs.state().uploads.get_mut(&self.folder) {
            upload.is_sealed = false;
        }
    }
}

/// Sees to it that a folder and all its files are on disk.
pub(super) fn sync(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        match File::open(entry?.path()) {
            Ok(file) => file.sync_all()?,
            // Half a block went meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    File::open(folder)?.sync_all()
}

/// What is on its way may go by itself meanwhile.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn feed(context: &mut Context, path: &Path, buffer: &mut [u8]) -> io::Result<()> {
    let mut file = File::open(path)?;
    loop {
        match file.read(buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => context.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
