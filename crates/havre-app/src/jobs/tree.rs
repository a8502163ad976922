//! The workflow files of a working tree, as if it were a commit.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use futures_util::future::BoxFuture;
use havre_git::Remotes;
use havre_runs::{Elsewhere, Files, Source, Sources, SourcesError};
use havre_workflow::Remote;

use super::elsewhere::Fetcher;

/// Where workflow files are, from the root.
const FOLDER: &str = ".github/workflows/";
/// Largest file that is read of a tree.
const MAX_FILE: u64 = 1 << 20;

/// A working tree; its workflow files are as they were when the run began.
pub(super) struct Tree {
    root: PathBuf,
    files: BTreeMap<String, Vec<u8>>,
    source: Source,
    remotes: Remotes,
}

impl Tree {
    pub(super) fn new(root: PathBuf, files: Files, source: Source, remotes: Remotes) -> Self {
        Self {
            remotes,
            root,
            files: files.into_iter().collect(),
            source,
        }
    }
}

impl Sources for Tree {
    fn workflows<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Files, SourcesError>> {
        let workflows = self.files.iter();
        let workflows = workflows.filter(|(path, _)| path.starts_with(FOLDER));
        let workflows: Files = workflows
            .map(|(path, bytes)| (path.clone(), bytes.clone()))
            .collect();
        Box::pin(async move { Ok(workflows) })
    }

    fn file<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
        path: &'a str,
    ) -> BoxFuture<'a, Result<Option<Vec<u8>>, SourcesError>> {
        Box::pin(async move {
            if let Some(bytes) = self.files.get(path) {
                return Ok(Some(bytes.clone()));
            }
            let root = self.root.clone();
            let read = havre_base::in_place(|| read(&root, path));
            read.map_err(|error| SourcesError(format!("cannot read {path}: {error}")))
        })
    }

    fn elsewhere<'a>(
        &'a self,
        remote: &'a Remote,
        commit: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Elsewhere, SourcesError>> {
        Box::pin(Fetcher::file(&self.remotes, remote, commit))
    }

    fn newest<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<Source>, SourcesError>> {
        Box::pin(async move { Ok(Some(self.source.clone())) })
    }
}

/// A file of the tree; none that a link leads out of it to.
fn read(root: &Path, path: &str) -> std::io::Result<Option<Vec<u8>>> {
    use std::io::{Error, ErrorKind};
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    if !Path::new(path).components().all(plain) {
        return Err(Error::new(ErrorKind::InvalidInput, "it leads elsewhere"));
    }
    let found = match std::fs::canonicalize(root.join(path)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        found => found?,
    };
    if !found.starts_with(std::fs::canonicalize(root)?) {
        return Err(Error::other("a link leads out of the repository"));
    }
    let text = havre_base::read_small(&found, MAX_FILE)?;
    Ok(Some(text.into_bytes()))
}
