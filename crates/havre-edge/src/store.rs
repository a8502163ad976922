//! The last state on disk: what an edge serves that starts without a daemon.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::state::EdgeState;

/// Where the state is kept.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
}

/// The state on disk cannot be used or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Reading.
    #[error("cannot read the edge's state from {path}")]
    Read {
        /// File.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not a state.
    #[error("the edge's state in {path} is damaged; it waits for the next push")]
    Damaged {
        /// File.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// Writing.
    #[error("cannot keep the edge's state in {path}; after a restart it would be an older one")]
    Write {
        /// File.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Store {
    /// In `directory`, which exists.
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.join("edge.json")
    }

    /// The last state, if there is one.
    pub fn load(&self) -> Result<Option<EdgeState>, StoreError> {
        let path = self.path();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::Read { path, source }),
        };
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|source| StoreError::Damaged { path, source })
    }

    /// Replaces it: after a crash at any point there is the old one or the new one.
    pub fn save(&self, state: &EdgeState) -> Result<(), StoreError> {
        let path = self.path();
        self.write(&path, state)
            .map_err(|source| StoreError::Write { path, source })
    }

    fn write(&self, path: &Path, state: &EdgeState) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(state)?;
        // It holds the keys of certificates.
        havre_base::replace(path, &text, 0o600, havre_base::Durability::Durable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_comes_back_and_damage_is_told() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::new(directory.path());
        assert_eq!(store.load().expect("nothing"), None);
        let state = EdgeState {
            generation: 7,
            ..EdgeState::default()
        };
        store.save(&state).expect("to save");
        assert_eq!(store.load().expect("a state"), Some(state));
        fs::write(store.path(), "{\"generation\":").expect("to write");
        assert!(matches!(store.load(), Err(StoreError::Damaged { .. })));
    }
}
