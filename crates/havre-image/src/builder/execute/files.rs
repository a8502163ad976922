//! COPY, ADD and WORKDIR on a mounted overlay, and the files that bind mounts show. Blocking; runs
//! on a thread with its own mounts.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FileType;
use tokio_util::sync::CancellationToken;

use super::super::action::{CopyAction, MakeDir};
use super::super::add;
use super::super::context::{Census, Context, content, open_file_of};
use super::super::copy::{self, Writer};
use super::super::copy_error::CopyError;
use super::super::mounted::Mounts;
use super::super::owner::{self, Owner};
use super::super::root::{Root, kind};
use super::super::select::{Rules, Selected, select};
use crate::Digest;
use crate::limits::Limits;
use crate::overlay::Writable;

/// What can go wrong here.
#[derive(Debug)]
pub(super) enum WorkError {
    Copy(CopyError),
    Io(io::Error),
}

impl From<io::Error> for WorkError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<CopyError> for WorkError {
    fn from(error: CopyError) -> Self {
        Self::Copy(error)
    }
}

/// Where copied files come from.
#[derive(Clone)]
pub(super) enum CopySource {
    /// The context, and the digest of what is taken from it.
    Context(Arc<Context>, Digest),
    /// Layers, the topmost first.
    Layers(Vec<PathBuf>),
}

/// A copy with all it needs.
pub(super) struct CopyJob {
    pub action: CopyAction,
    pub from: CopySource,
    /// Layers below, the topmost first.
    pub lower: Vec<PathBuf>,
    pub upper: Writable,
    pub cancel: CancellationToken,
}

impl CopyJob {
    pub fn run(&self, mounts: &mut Mounts) -> Result<(), WorkError> {
        let owner = |root: &Root| match &self.action.chown {
            None => Ok(None),
            Some(text) => owner::resolve(root, text).map(Some),
        };
        if !self.action.link {
            let merged = Root::open(&mounts.writable(&self.lower, &self.upper)?)?;
            let owner = owner(&merged)?;
            return copy_into(
                &merged,
                &self.action,
                owner,
                &self.from,
                mounts,
                &self.cancel,
            );
        }
        // A linked copy does not look at what lies below, but for names of users.
        let owner = owner(&Root::open(&mounts.read_only(&self.lower)?)?)?;
        let bare = Root::open(&self.upper.upper)?;
        copy_into(&bare, &self.action, owner, &self.from, mounts, &self.cancel)
    }
}

/// Copies into `root` what `action` selects.
pub(super) fn copy_into(
    root: &Root,
    action: &CopyAction,
    owner: Option<Owner>,
    from: &CopySource,
    mounts: &mut Mounts,
    cancel: &CancellationToken,
) -> Result<(), WorkError> {
    let from_context = matches!(from, CopySource::Context(..));
    let writer = Writer::new(root, action, owner, from_context, cancel);
    match from {
        CopySource::Context(context, expected) => {
            let rules = Rules::new(action, Some(&context.ignore), cancel)?;
            let mut census = Census::new();
            select(context.root(), action, &rules, &mut |selected| {
                let content = write(selected, &writer, action, &rules)?;
                census.add(selected, content)
            })?;
            if census.finish() != *expected {
                return Err(CopyError::Changed.into());
            }
        }
        CopySource::Layers(layers) => {
            let source = Root::open(&mounts.read_only(layers)?)?;
            let rules = Rules::new(action, None, cancel)?;
            select(&source, action, &rules, &mut |selected| {
                write(selected, &writer, action, &rules).map(drop)
            })?;
        }
    }
    for (name, content) in &action.documents {
        writer.document(name, content)?;
    }
    writer.finish()?;
    Ok(())
}

/// Writes, or unpacks, what is selected; returns the digest of a context file.
fn write(
    selected: &Selected<'_>,
    writer: &Writer<'_>,
    action: &CopyAction,
    rules: &Rules<'_>,
) -> Result<Option<Digest>, CopyError> {
    let file = kind(selected.stat) == FileType::RegularFile;
    if !(action.unpack && selected.named && file) {
        return writer.write(selected);
    }
    let mut archive = open_file_of(selected)?;
    if !add::is_archive(&mut archive, selected.source)? {
        return writer.write(selected);
    }
    let (folder, owner) = (writer.archive_folder()?, writer.owner());
    let (source, cancel) = (selected.source, rules.cancel);
    let limits = Limits::default();
    add::unpack(
        writer.root,
        folder,
        owner,
        &mut archive,
        source,
        limits,
        cancel,
    )?;
    content(selected, cancel).map(Some)
}

/// Makes a folder in the image; `false` when it was there.
pub(super) fn make_dir(
    lower: &[PathBuf],
    upper: &Writable,
    folder: &MakeDir,
    mounts: &mut Mounts,
) -> Result<bool, WorkError> {
    let merged = Root::open(&mounts.writable(lower, upper)?)?;
    let owner = match folder.user.as_str() {
        "" => (0, 0),
        user => match owner::resolve(&merged, user) {
            // As with BuildKit: nobody could use it, and whoever runs as that user is told.
            Err(CopyError::Owner { .. }) => (0, 0),
            owner => owner?,
        },
    };
    Ok(copy::make_folder(&merged, &folder.path, owner)?)
}

/// Those of `paths`, and of the folders above them, that the image does not have; the deepest
/// first.
pub(super) fn missing(
    lower: &[PathBuf],
    paths: &[String],
    mounts: &mut Mounts,
) -> Result<Vec<PathBuf>, WorkError> {
    let merged = Root::open(&mounts.read_only(lower)?)?;
    let mut missing = Vec::new();
    for path in paths {
        for path in Path::new(path).ancestors() {
            if merged.stat(path)?.is_some() {
                break;
            }
            missing.push(path.to_owned());
        }
    }
    missing.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    missing.dedup();
    Ok(missing)
}

/// Removes mount points that a runner had to make: those of `missing` that are still empty.
pub(super) fn remove_stubs(upper: &Path, missing: &[PathBuf]) -> io::Result<()> {
    let root = Root::open(upper)?;
    for path in missing {
        let spot = match root.spot(path, false) {
            Ok(spot) => spot,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let Some(stat) = &spot.stat else { continue };
        let flags = match kind(stat) {
            FileType::RegularFile if stat.st_size == 0 => rustix::fs::AtFlags::empty(),
            FileType::Directory => rustix::fs::AtFlags::REMOVEDIR,
            _ => continue,
        };
        match rustix::fs::unlinkat(&*spot.dir, &spot.name, flags) {
            Ok(()) | Err(rustix::io::Errno::NOTEMPTY) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
