//! What is kept beside each box: whose it is, and what is to be said of it first.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use havre_base::Durability;
use havre_runs::LegKey;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::images;
use super::rights::Rights;

/// The note's name in the folder of its box.
const NOTE: &str = "leg.json";
/// Largest note.
const MAX_NOTE: u64 = 1 << 20;

/// A note.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Note {
    /// Whose box it is.
    pub(super) key: LegKey,
    /// Names that results know it by: run and job.
    pub(super) results: (String, String),
    /// Whether it may make calls of the API.
    pub(super) may_call: bool,
    /// Whether it reaches the machine's proxy by its own loopback.
    #[serde(default)]
    pub(super) has_doors: bool,
    /// What else it may ask of its socket.
    #[serde(default)]
    pub(super) rights: Rights,
    /// What it may do with images.
    #[serde(default)]
    pub(super) images: images::Rights,
    /// What of the workflow has no effect.
    pub(super) warnings: Vec<String>,
}

/// The folders of boxes, each with its note and its socket.
#[derive(Clone, Debug)]
pub(super) struct Notes(PathBuf);

impl Notes {
    /// In a folder that is made where it is missing.
    pub(super) fn open(dir: PathBuf) -> io::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)?;
        // Boxes are shown what lies there, and mounts follow no link.
        Ok(Self(fs::canonicalize(dir)?))
    }

    pub(super) fn folder(&self, id: &str) -> PathBuf {
        self.0.join(id)
    }

    /// Writes the note of a box that is to be made.
    pub(super) fn write(&self, id: &str, note: &Note) -> io::Result<()> {
        let folder = self.folder(id);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)?;
        let text = serde_json::to_vec(note)?;
        havre_base::replace(&folder.join(NOTE), &text, 0o600, Durability::UntilReboot)
    }

    pub(super) fn read(&self, id: &str) -> io::Result<Note> {
        let text = havre_base::read_small(&self.folder(id).join(NOTE), MAX_NOTE)?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Ids of boxes that have a folder.
    pub(super) fn all(&self) -> io::Result<BTreeSet<String>> {
        let entries = fs::read_dir(&self.0)?;
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    }

    pub(super) fn remove(&self, id: &str) -> io::Result<()> {
        match fs::remove_dir_all(self.folder(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    pub(super) fn socket_folder(&self, id: &str) -> PathBuf {
        self.folder(id).join("socket")
    }
}

/// The box of an attempt of a leg.
pub(crate) fn box_id(key: &LegKey) -> String {
    let job = Sha256::digest(key.leg.job.as_bytes());
    let job: String = job[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("r{}.{job}.{}.{}", key.run, key.leg.index, key.leg.attempt)
}

/// Where a box's socket is in its folder; [`havre_job::paths::RESULTS_SOCKET`] inside.
pub(super) fn socket_of(folder: &Path) -> PathBuf {
    folder.join("results.sock")
}
