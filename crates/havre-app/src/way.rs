//! Where paths of the machine lead, and by which links.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Most links on the way to a mount's source, as the kernel has it.
const MAX_LINKS: usize = 40;

/// Where a path leads.
pub(crate) struct Way {
    /// Without links; what is missing stands as it was written.
    pub(crate) real: PathBuf,
    /// The links that were followed, each where it really is.
    pub(crate) links: Vec<PathBuf>,
}

/// Where a path leads.
pub(crate) fn real_or_itself(path: &Path) -> PathBuf {
    resolve(path).map_or_else(|_| path.to_owned(), |way| way.real)
}

/// Follows an absolute path part by part, so that each link it goes through is known.
pub(crate) fn resolve(path: &Path) -> io::Result<Way> {
    let mut way = Way {
        real: PathBuf::from("/"),
        links: Vec::new(),
    };
    let mut ahead: VecDeque<OsString> = parts(path).collect();
    while let Some(part) = ahead.pop_front() {
        if part == ".." {
            way.real.pop();
            continue;
        }
        let next = way.real.join(&part);
        let is_link = match std::fs::symlink_metadata(&next) {
            Ok(meta) => meta.is_symlink(),
            // What is not there is refused, or made, where it is mounted.
            Err(error) if is_missing(&error) => false,
            Err(error) => return Err(error),
        };
        if !is_link {
            way.real = next;
            continue;
        }
        let to = std::fs::read_link(&next)?;
        way.links.push(next);
        if way.links.len() > MAX_LINKS {
            return Err(rustix::io::Errno::LOOP.into());
        }
        if to.is_absolute() {
            way.real = PathBuf::from("/");
        }
        for part in parts(&to).collect::<Vec<_>>().into_iter().rev() {
            ahead.push_front(part);
        }
    }
    Ok(way)
}

fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn parts(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|part| match part {
        Component::Normal(part) => Some(part.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}
