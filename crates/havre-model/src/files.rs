//! Reads the project's files: only regular ones, bounded, each once.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::report::Report;
use crate::source::{SourceId, Span};
use crate::yaml::MAX_FILE_BYTES;

/// Files already read in this load.
#[derive(Debug, Default)]
pub(crate) struct Files {
    read: HashMap<PathBuf, SourceId>,
}

impl Files {
    /// Reads `path`; an error names `what` and points at `at`, the place that asked for it.
    pub fn read(
        &mut self,
        path: &Path,
        what: &str,
        at: Option<Span>,
        report: &mut Report,
    ) -> Option<SourceId> {
        if let Some(id) = self.read.get(path) {
            return Some(*id);
        }
        match read_text(path) {
            Ok(text) => {
                let id = report.add_source(path, text);
                self.read.insert(path.to_owned(), id);
                Some(id)
            }
            Err(error) => {
                let shown = report.shown(path);
                let message = match error.kind() {
                    io::ErrorKind::NotFound => format!("{what} {shown} does not exist"),
                    _ => format!("cannot read {what} {shown}: {error}"),
                };
                report.error("compose/missing-file", at, message);
                None
            }
        }
    }
}

fn read_text(path: &Path) -> io::Result<String> {
    // Asked before opening, since opening a FIFO waits for its other end.
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::Error::other("it is a folder"));
    }
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let limit = MAX_FILE_BYTES >> 20;
        return Err(io::Error::other(format!("it is larger than {limit} MiB")));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8 text"))
}
