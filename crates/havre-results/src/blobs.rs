//! What is uploaded, as files: a folder per upload, a file per block, and a list that gives their order.
//!
//! ```text
//! uploads/<folder>/part-<n>   a block that is being received
//!                  b<hex>     a block, by its id
//!                  list       blocks in their order, once the client has said it
//!   │ rename: published
//! blobs/<folder>/…
//!   │ rename: removed; it goes once nobody reads it any more
//! trash/<folder>/…
//! ```
//!
//! Blocks are never put together in one file: that would copy all of it once more. Folders are random names; nothing
//! that a client sends is one. Which folder means what stands in the database: a folder that it does not know is swept.

mod content;
mod list;
mod part;
mod sealed;
mod sweep;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use data_encoding::HEXLOWER;
use ring::rand::{SecureRandom as _, SystemRandom};

pub use content::Content;
pub(crate) use list::Segment;
pub(crate) use part::Part;
pub(crate) use sweep::Known;

/// Most blocks of an upload; Azure's.
pub(crate) const MAX_BLOCKS: usize = 50_000;
const UPLOADS: &str = "uploads";
const BLOBS: &str = "blobs";
const TRASH: &str = "trash";
const LIST: &str = "list";

/// What cannot be done with an upload or a blob.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BlobError {
    #[error("there is no such upload")]
    Unknown,
    #[error("the upload is being finished, or is")]
    Sealed,
    #[error("it is larger than {most} bytes, which is the most that is kept of one")]
    TooLarge { most: u64 },
    #[error("there is no room for it")]
    NoRoom,
    #[error("it has more than {MAX_BLOCKS} blocks")]
    TooManyBlocks,
    #[error("the block list names a block that was not uploaded")]
    NoBlock,
    #[error("no block list has been sent")]
    NoList,
    #[error("{came} of {length} bytes came")]
    Length { came: u64, length: u64 },
    #[error("cannot {doing} of an upload")]
    Io {
        doing: &'static str,
        source: io::Error,
    },
}

impl BlobError {
    pub(crate) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| match source
            .raw_os_error()
            .map(rustix::io::Errno::from_raw_os_error)
        {
            Some(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT) => Self::NoRoom,
            _ => Self::Io { doing, source },
        }
    }
}

/// All of them. Cloning gives another handle to the same.
#[derive(Clone, Debug)]
pub(crate) struct Blobs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    /// All bytes that may be kept.
    total: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    uploads: HashMap<String, Upload>,
    /// How many read a blob.
    readers: HashMap<String, usize>,
    /// Bytes that are published.
    stored: u64,
    /// Bytes of uploads, those that are on their way among them.
    pending: u64,
    parts: u64,
}

#[derive(Debug, Default)]
struct Upload {
    most: u64,
    bytes: u64,
    blocks: HashMap<String, u64>,
    /// No block comes any more: it is being hashed, or published.
    is_sealed: bool,
}

impl Blobs {
    /// Those below `dir`, of at most `total` bytes together.
    pub(crate) fn open(dir: &Path, total: u64) -> io::Result<Self> {
        for part in [UPLOADS, BLOBS, TRASH] {
            fs::create_dir_all(dir.join(part))?;
        }
        Ok(Self(Arc::new(Inner {
            dir: dir.to_owned(),
            total,
            state: Mutex::default(),
        })))
    }

    /// A folder's name that is no other's.
    pub(crate) fn new_name() -> io::Result<String> {
        let mut random = [0; 16];
        SystemRandom::new()
            .fill(&mut random)
            .map_err(|_| io::Error::other("the machine gives no random bytes"))?;
        Ok(HEXLOWER.encode(&random))
    }

    /// Lets blocks of at most `most` bytes together come.
    pub(crate) fn begin(&self, folder: &str, most: u64) -> Result<(), BlobError> {
        fs::create_dir(self.path(UPLOADS, folder)).map_err(BlobError::io("make the folder"))?;
        let upload = Upload {
            most,
            ..Upload::default()
        };
        self.state().uploads.insert(folder.to_owned(), upload);
        Ok(())
    }

    /// Bytes that are kept, and those that are on their way.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        let state = self.state();
        (state.stored, state.pending)
    }

    /// Bytes that are free on the disk.
    pub(crate) fn free(&self) -> io::Result<u64> {
        let found = rustix::fs::statvfs(&self.0.dir)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    /// Makes `names` the upload's content, in this order.
    pub(crate) fn list(&self, folder: &str, names: &[String]) -> Result<(), BlobError> {
        if names.len() > MAX_BLOCKS {
            return Err(BlobError::TooManyBlocks);
        }
        let segments = {
            let state = self.state();
            let upload = state.uploads.get(folder).ok_or(BlobError::Unknown)?;
            if upload.is_sealed {
                return Err(BlobError::Sealed);
            }
            names
                .iter()
                .map(|name| {
                    let size = *upload.blocks.get(name).ok_or(BlobError::NoBlock)?;
                    let name = name.clone();
                    Ok(Segment { name, size })
                })
                .collect::<Result<Vec<_>, BlobError>>()?
        };
        list::write(&self.path(UPLOADS, folder), &segments)
            .map_err(BlobError::io("keep the block list"))
    }

    /// Ends an upload that nobody wants any more.
    pub(crate) fn discard(&self, folder: &str) {
        let gone = {
            let mut state = self.state();
            let gone = state.uploads.remove(folder);
            state.pending -= gone.as_ref().map_or(0, |upload| upload.bytes);
            gone
        };
        if gone.is_some() {
            self.trash(UPLOADS, folder);
        }
    }

    /// Removes what was published: of `size` bytes. Who reads it reads on.
    pub(crate) fn remove(&self, folder: &str, size: u64) {
        {
            let mut state = self.state();
            state.stored = state.stored.saturating_sub(size);
        }
        self.trash(BLOBS, folder);
    }

    /// What was published.
    pub(crate) fn read(&self, folder: &str) -> io::Result<Content> {
        Content::open(self.clone(), folder)
    }

    /// Sees to it that a blob is still there after the power failed.
    pub(crate) fn sync(&self, folder: &str) -> io::Result<()> {
        sealed::sync(&self.path(BLOBS, folder))?;
        fs::File::open(self.0.dir.join(BLOBS))?.sync_all()
    }

    /// Out of everybody's sight; its files go once nobody reads them.
    fn trash(&self, from: &str, folder: &str) {
        let trashed = self.path(TRASH, folder);
        let is_read = {
            let state = self.state();
            match fs::rename(self.path(from, folder), &trashed) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => return,
                Err(error) => {
                    tracing::warn!(folder, %error, "cannot remove a blob; it goes at the next start");
                    return;
                }
            }
            state.readers.contains_key(folder)
        };
        if !is_read {
            delete(&trashed);
        }
    }

    fn reads(&self, folder: &str) {
        *self.state().readers.entry(folder.to_owned()).or_default() += 1;
    }

    fn has_read(&self, folder: &str) {
        {
            let mut state = self.state();
            let Some(count) = state.readers.get_mut(folder) else {
                return;
            };
            *count -= 1;
            if *count > 0 {
                return;
            }
            state.readers.remove(folder);
        }
        let trashed = self.path(TRASH, folder);
        if trashed.exists() {
            delete(&trashed);
        }
    }

    fn path(&self, part: &str, folder: &str) -> PathBuf {
        self.0.dir.join(part).join(folder)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0
            .state
            .lock()
            .expect("nothing panics while it is held")
    }
}

fn delete(folder: &Path) {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %folder.display(), %error, "cannot remove a blob; it goes at the next start");
        }
        Ok(()) | Err(_) => {}
    }
}
