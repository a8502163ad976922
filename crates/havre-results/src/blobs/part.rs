//! A block that is being received.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;

use bytes::Bytes;

use super::{BlobError, Blobs, MAX_BLOCKS, UPLOADS, Upload};

/// Takes the place of the block before of its name once it is whole; otherwise nothing stays.
#[derive(Debug)]
pub(crate) struct Part {
    blobs: Blobs,
    folder: String,
    name: String,
    path: PathBuf,
    file: File,
    length: u64,
    came: u64,
    is_done: bool,
}

impl Blobs {
    /// Refuses a block of an upload that takes none, or none as large.
    pub(crate) fn awaits(&self, folder: &str, length: u64) -> Result<(), BlobError> {
        let state = self.state();
        takes(state.uploads.get(folder), length).map(drop)
    }

    /// Receives a block of `length` bytes; the room for them is taken at once.
    pub(crate) fn part(&self, folder: &str, name: &str, length: u64) -> Result<Part, BlobError> {
        let number = {
            let mut state = self.state();
            let kept = state.stored.saturating_add(state.pending);
            let upload = takes(state.uploads.get_mut(folder), length)?;
            if upload.blocks.len() >= MAX_BLOCKS && !upload.blocks.contains_key(name) {
                return Err(BlobError::TooManyBlocks);
            }
            if kept.saturating_add(length) > self.0.total {
                return Err(BlobError::NoRoom);
            }
            upload.bytes += length;
            state.pending += length;
            state.parts += 1;
            state.parts
        };
        let path = self.path(UPLOADS, folder).join(format!("part-{number}"));
        match File::create_new(&path) {
            Ok(file) => Ok(Part {
                blobs: self.clone(),
                folder: folder.to_owned(),
                name: name.to_owned(),
                path,
                file,
                length,
                came: 0,
                is_done: false,
            }),
            Err(error) => {
                self.give_back(folder, length);
                Err(BlobError::io("receive a block")(error))
            }
        }
    }

    fn give_back(&self, folder: &str, length: u64) {
        let mut state = self.state();
        // Of an upload that was given up, all was given back.
        if let Some(upload) = state.uploads.get_mut(folder) {
            upload.bytes -= length;
            state.pending -= length;
        }
    }
}

fn takes<U: std::borrow::Borrow<Upload>>(upload: Option<U>, length: u64) -> Result<U, BlobError> {
    let found = upload.ok_or(BlobError::Unknown)?;
    let upload: &Upload = found.borrow();
    if upload.is_sealed {
        return Err(BlobError::Sealed);
    }
    match upload.bytes.saturating_add(length) > upload.most {
        true => Err(BlobError::TooLarge { most: upload.most }),
        false => Ok(found),
    }
}

impl Part {
    /// Adds what came.
    pub(crate) fn write(&mut self, pieces: &[Bytes]) -> Result<(), BlobError> {
        for piece in pieces {
            self.came += piece.len() as u64;
            if self.came > self.length {
                return Err(self.wrong_length());
            }
            self.file
                .write_all(piece)
                .map_err(BlobError::io("write a block"))?;
        }
        Ok(())
    }

    /// Makes it a block of its upload.
    pub(crate) fn finish(mut self) -> Result<(), BlobError> {
        if self.came != self.length {
            return Err(self.wrong_length());
        }
        let mut state = self.blobs.state();
        let upload = state
            .uploads
            .get_mut(&self.folder)
            .ok_or(BlobError::Unknown)?;
        if upload.is_sealed {
            return Err(BlobError::Sealed);
        }
        let block = self.path.with_file_name(&self.name);
        fs::rename(&self.path, block).map_err(BlobError::io("keep a block"))?;
        let before = upload.blocks.insert(self.name.clone(), self.length);
        let before = before.unwrap_or(0);
        upload.bytes -= before;
        state.pending -= before;
        drop(state);
        self.is_done = true;
        Ok(())
    }

    fn wrong_length(&self) -> BlobError {
        BlobError::Length {
            came: self.came,
            length: self.length,
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        self.blobs.give_back(&self.folder, self.length);
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove half a block");
        }
    }
}
