//! After a start: what the database knows is looked up, everything else goes.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::Path;

use super::{BLOBS, Blobs, LIST, TRASH, UPLOADS, Upload, delete};

/// What the database knows.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Folders of uploads, with the most bytes that each may have.
    pub(crate) uploads: HashMap<String, u64>,
    /// Folders of what is published, with their sizes.
    pub(crate) published: HashMap<String, u64>,
}

impl Blobs {
    /// Takes the folders over that are known, and removes all others. Says which are known and not there.
    pub(crate) fn adopt(&self, known: &Known) -> io::Result<Vec<String>> {
        for name in names(&self.0.dir.join(TRASH))? {
            delete(&self.path(TRASH, &name));
        }
        let mut found = HashSet::new();
        for name in names(&self.0.dir.join(BLOBS))? {
            if known.uploads.contains_key(&name) {
                // The database was not told any more: it is an upload still.
                fs::rename(self.path(BLOBS, &name), self.path(UPLOADS, &name))?;
            } else if known.published.contains_key(&name) {
                found.insert(name);
            } else {
                delete(&self.path(BLOBS, &name));
            }
        }
        for name in names(&self.0.dir.join(UPLOADS))? {
            let Some(most) = known.uploads.get(&name) else {
                delete(&self.path(UPLOADS, &name));
                continue;
            };
            let upload = upload(&self.path(UPLOADS, &name), *most)?;
            let mut state = self.state();
            state.pending += upload.bytes;
            state.uploads.insert(name.clone(), upload);
            found.insert(name);
        }
        let stored = known
            .published
            .iter()
            .filter(|(name, _)| found.contains(*name));
        self.state().stored = stored.map(|(_, size)| size).sum();
        let all = known.uploads.keys().chain(known.published.keys());
        Ok(all.filter(|name| !found.contains(*name)).cloned().collect())
    }
}

/// The blocks of an upload that are whole.
fn upload(folder: &Path, most: u64) -> io::Result<Upload> {
    let mut upload = Upload {
        most,
        ..Upload::default()
    };
    for name in names(folder)? {
        let path = folder.join(&name);
        if name.starts_with("part-") || name == "list.new" {
            fs::remove_file(path)?;
        } else if name != LIST {
            let size = fs::symlink_metadata(path)?.len();
            upload.bytes += size;
            upload.blocks.insert(name, size);
        }
    }
    Ok(upload)
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}
