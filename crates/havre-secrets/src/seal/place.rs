//! Where the seal keeps its record, and the machine its part.

use std::fs::{self, DirBuilder};
use std::io::{self, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use havre_base::{Durability, replace};

use super::record::{Record, VERSION};

/// A record is smaller, whatever slots it has.
const MOST_BYTES: u64 = 1024 * 1024;

/// Two folders that should not be in one backup.
#[derive(Clone, Debug)]
pub struct Place {
    /// Of the record.
    pub state: PathBuf,
    /// Of the machine's key.
    pub machine: PathBuf,
}

/// Why there is no record to be had.
#[derive(Debug)]
pub(super) enum Unread {
    Missing,
    Io(io::Error),
    /// Not what this version reads.
    Damaged(String),
}

impl Place {
    /// The record.
    pub fn record(&self) -> PathBuf {
        self.state.join("seal.json")
    }

    pub(super) fn read(&self) -> Result<Record, Unread> {
        let file = match fs::File::open(self.record()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Unread::Missing),
            file => file.map_err(Unread::Io)?,
        };
        let mut text = Vec::new();
        file.take(MOST_BYTES)
            .read_to_end(&mut text)
            .map_err(Unread::Io)?;
        let record: Record =
            serde_json::from_slice(&text).map_err(|error| Unread::Damaged(error.to_string()))?;
        match record.version {
            VERSION => Ok(record),
            other => Err(Unread::Damaged(format!(
                "it has form {other}, and this version of havre knows {VERSION}"
            ))),
        }
    }

    pub(super) fn write(&self, record: &Record) -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.state)?;
        let mut text = serde_json::to_vec_pretty(record)?;
        text.push(b'\n');
        replace(&self.record(), &text, 0o600, Durability::Durable)
    }
}
