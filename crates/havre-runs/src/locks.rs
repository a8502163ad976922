//! Lock files of actions, where the file is that they hold for.

use std::path::Path;

use havre_workflow::lock::{self, Lock};

use crate::ports::{Origin, Sources};

/// The lock file of a repository, at the commit that runs; what is wrong with it.
pub async fn lock_of(
    sources: &dyn Sources,
    project: &str,
    commit: &str,
    origin: Option<&Origin>,
) -> Result<Option<Lock>, String> {
    let (shown, file) = match origin {
        None => {
            let file = sources.file(project, commit, lock::PATH).await;
            (lock::PATH.to_owned(), file)
        }
        Some(origin) => {
            let remote = origin.file(lock::PATH);
            let found = sources.elsewhere(&remote, Some(&origin.commit)).await;
            (remote.to_string(), found.map(|found| found.file))
        }
    };
    let file = file.map_err(|error| format!("{shown} cannot be read: {error}"))?;
    let Some(bytes) = file else {
        return Ok(None);
    };
    match lock::read(Path::new(&shown), &String::from_utf8_lossy(&bytes)) {
        Ok(lock) => Ok(Some(lock)),
        Err(failure) => {
            let first = failure.errors.first().map(ToString::to_string);
            Err(first.unwrap_or_else(|| format!("{shown} is no lock file")))
        }
    }
}
