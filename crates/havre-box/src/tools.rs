//! Tools that jobs have installed, kept for later ones.
//!
//! ```text
//! kept of the default branch ─┐ read-only
//! kept of the job's own ref ──┴─► overlay at the tool cache ─► changes, in the box ─► what is whole and new: kept
//! ```
//! So a job changes no tool that another has, and adds to its own ref's alone. Nothing is taken over from a box before all
//! its processes have ended.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use havre_engine::IdRange;
use serde::{Deserialize, Serialize};

use crate::disk;

/// Behind the name of a folder that is whole, as the tool cache of GitHub's actions has it.
const WHOLE: &[u8] = b".complete";
/// Tools, and versions of one, that are looked at.
const MANY: usize = 200;

/// Where tools of a box are, on the file system of boxes, without links in the paths. Folders that are missing are made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tools {
    /// Seen by the box, what comes first before what comes later.
    pub shown: Vec<PathBuf>,
    /// Where new ones are kept; `None`: they go with the box.
    pub keep: Option<PathBuf>,
    /// Bytes of all that are kept there; what would go beyond is not kept.
    pub most: u64,
}

/// Moves what is whole and new from `changes` to where it is kept; how many tools. Blocks.
pub fn keep(changes: &Path, tools: &Tools, ids: IdRange) -> io::Result<u32> {
    let Some(keep) = &tools.keep else {
        return Ok(0);
    };
    let mut moved = 0;
    for tool in folders(changes)? {
        for version in folders(&changes.join(&tool))? {
            let from = changes.join(&tool).join(&version);
            for whole in whole(&from)? {
                let at = Path::new(&tool).join(&version).join(&whole);
                if tools
                    .shown
                    .iter()
                    .chain([keep])
                    .any(|shown| is_there(&shown.join(&at)))
                {
                    continue;
                }
                let size = disk::of_tree(&from.join(&whole))?;
                let kept = disk::of_tree(keep)?;
                if size.is_partial || kept.bytes.saturating_add(size.bytes) > tools.most {
                    tracing::info!(tool = %at.display(), "a tool is not kept: there is no room");
                    continue;
                }
                let to = keep.join(&tool).join(&version);
                give_folders(keep, &to, ids)?;
                fs::rename(from.join(&whole), to.join(&whole))?;
                // Last: until then it is not whole.
                fs::rename(from.join(mark(&whole)), to.join(mark(&whole)))?;
                moved += 1;
            }
        }
    }
    Ok(moved)
}

fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

fn mark(name: &OsStr) -> OsString {
    let mut mark = name.to_owned();
    mark.push(OsStr::from_bytes(WHOLE));
    mark
}

/// Names of the folders in one; links are none.
fn folders(of: &Path) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(of)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && names.len() < MANY {
            names.push(entry.file_name());
        }
    }
    Ok(names)
}

/// Folders that have a mark beside them.
fn whole(of: &Path) -> io::Result<Vec<OsString>> {
    let mut names = folders(of)?;
    names.retain(|name| fs::symlink_metadata(of.join(mark(name))).is_ok_and(|it| it.is_file()));
    Ok(names)
}

/// Makes a folder, and those above it from `top` on, and gives them to the box's root, unless a user of boxes has
/// them.
pub fn give_folders(top: &Path, path: &Path, ids: IdRange) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    fs::create_dir_all(path)?;
    for folder in path.ancestors().take_while(|it| it.starts_with(top)) {
        if !ids.has(fs::symlink_metadata(folder)?.uid()) {
            std::os::unix::fs::lchown(folder, Some(ids.first), Some(ids.first))?;
        }
    }
    Ok(())
}
