//! The build context: its folder, its rules, and digests of what a step takes from it.

use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, readlinkat};
use tokio_util::sync::CancellationToken;

use crate::dockerfile::Ignore;
use crate::{Digest, Hashing, regular};

use super::action::CopyAction;
use super::content::SourceFile;
use super::copy_error::CopyError;
use super::error::BuildError;
use super::reach::Reach;
use super::root::{Root, kind, open_file};
use super::select::{Rules, Selected, select};

/// The most a `.dockerignore` or Dockerfile may hold.
const MAX_TEXT: u64 = 4 << 20;

/// A build's context.
pub(super) struct Context {
    root: Root,
    /// `.dockerignore`.
    pub ignore: Ignore,
}

impl Context {
    /// Opens the context of `dockerfile`; `<Dockerfile>.dockerignore` outweighs `.dockerignore`.
    pub fn open(dir: &Path, dockerfile: Option<&Path>, reach: &Reach) -> Result<Self, BuildError> {
        let opened = Root::open(dir).and_then(|root| reach.admits(&root).map(|()| root));
        let root = opened.map_err(|source| BuildError::Context {
            path: dir.to_owned(),
            source,
        })?;
        let own = dockerfile.map(|path| {
            let mut name = path.as_os_str().to_owned();
            name.push(".dockerignore");
            PathBuf::from(name)
        });
        let mut ignore = Ignore::default();
        for path in own.into_iter().chain([dir.join(".dockerignore")]) {
            if let Some(text) = optional(&path, reach)? {
                ignore = Ignore::parse(&text).map_err(|source| BuildError::Ignore {
                    path: path.clone(),
                    source,
                })?;
                break;
            }
        }
        Ok(Self { root, ignore })
    }

    /// Its folder as a root.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Digest of all that `action` takes from the context. Patterns without a match come back
    /// too.
    pub fn digest(
        &self,
        action: &CopyAction,
        cancel: &CancellationToken,
    ) -> Result<(Digest, Vec<String>), CopyError> {
        let rules = Rules::new(action, Some(&self.ignore), cancel)?;
        let mut census = Census::new();
        let empty = select(&self.root, action, &rules, &mut |selected| {
            let content = match kind(selected.stat) {
                FileType::RegularFile => Some(content(selected, cancel)?),
                _ => None,
            };
            census.add(selected, content)
        })?;
        Ok((census.finish(), empty))
    }
}

/// Why it cannot be told what a context holds.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// It, or what says what is left out of it, cannot be read.
    #[error(transparent)]
    Open(#[from] BuildError),
    /// Something in it cannot.
    #[error(transparent)]
    Walk(#[from] CopyError),
}

/// Paths of what a build can take from its context, relative to it: all that `.dockerignore` does not leave
/// out, and the files by which that is known. Whoever has them, and nothing else, builds the same.
pub fn context_paths(
    folder: &Path,
    dockerfile: Option<&Path>,
) -> Result<Vec<PathBuf>, ContextError> {
    let context = Context::open(folder, dockerfile, &Reach::everything())?;
    let cancel = CancellationToken::new();
    let all = CopyAction::whole();
    let rules = Rules::new(&all, Some(&context.ignore), &cancel)?;
    let mut paths = Vec::new();
    select(&context.root, &all, &rules, &mut |selected| {
        paths.push(selected.source.to_owned());
        Ok(())
    })?;
    let known_by = dockerfile.into_iter().flat_map(|path| {
        let mut ignore = path.as_os_str().to_owned();
        ignore.push(".dockerignore");
        [path.to_owned(), PathBuf::from(ignore)]
    });
    let known_by = known_by.chain([folder.join(".dockerignore")]);
    let below = |path: PathBuf| Some(path.strip_prefix(folder).ok()?.to_owned());
    let there = |path: &PathBuf| folder.join(path).symlink_metadata().is_ok();
    paths.extend(known_by.filter_map(below).filter(there));
    paths.retain(|path| !path.as_os_str().is_empty());
    Ok(paths)
}

/// Adds up what a step takes from the context: paths, kinds, permission bits, link targets and
/// content; not times, not owners. Counted once for the key and once more by the copy, so that a
/// file that changes in between cannot end up under the wrong key.
pub(super) struct Census(Hashing<io::Sink>);

impl Census {
    pub fn new() -> Self {
        Self(Hashing::new(io::sink()))
    }

    /// Counts a file whose content has this digest; `None` for what has no content.
    pub fn add(
        &mut self,
        selected: &Selected<'_>,
        content: Option<Digest>,
    ) -> Result<(), CopyError> {
        let mut fields = vec![
            selected.target.as_os_str().as_bytes().to_vec(),
            vec![u8::from(selected.named)],
            // Kind and permission bits.
            selected.stat.st_mode.to_le_bytes().to_vec(),
        ];
        fields.extend(content.map(|digest| digest.to_string().into_bytes()));
        match kind(selected.stat) {
            // A named pipe has neither content nor target.
            FileType::RegularFile | FileType::Directory | FileType::Fifo => {}
            FileType::Symlink => {
                let target =
                    readlinkat(selected.dir, selected.name, Vec::new()).map_err(|error| {
                        CopyError::io("read the link", selected.source)(error.into())
                    })?;
                fields.push(target.into_bytes());
            }
            _ => {
                return Err(CopyError::Special {
                    path: selected.source.to_owned(),
                });
            }
        }
        let mut write = |bytes: &[u8]| {
            self.0.write_all(&(bytes.len() as u64).to_le_bytes())?;
            self.0.write_all(bytes)
        };
        // Each length goes first, so that no two lists of fields make the same bytes.
        write(&(fields.len() as u64).to_le_bytes())
            .and_then(|()| fields.iter().try_for_each(|field| write(field)))
            .map_err(CopyError::io("hash", selected.source))
    }

    pub fn finish(self) -> Digest {
        self.0.finish().0
    }
}

/// Digest of a file's content.
pub(super) fn content(
    selected: &Selected<'_>,
    cancel: &CancellationToken,
) -> Result<Digest, CopyError> {
    let file = open_file_of(selected)?;
    let source = SourceFile {
        file: &file,
        path: selected.source,
        cancel,
    };
    source.digest()
}

pub(super) fn open_file_of(selected: &Selected<'_>) -> Result<fs::File, CopyError> {
    open_file(selected.dir, selected.name).map_err(CopyError::io("open", selected.source))
}

/// A file as text; `None` when it is missing.
pub(super) fn optional(path: &Path, reach: &Reach) -> Result<Option<String>, BuildError> {
    match text(path, reach) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(BuildError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

/// A file as text, within bounds.
pub(super) fn text(path: &Path, reach: &Reach) -> io::Result<String> {
    let file = regular::open(path)?;
    reach.admits(&file)?;
    String::from_utf8(regular::content(file, MAX_TEXT)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}
