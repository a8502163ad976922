//! Files of commits that were pushed here.

use futures_util::future::BoxFuture;
use havre_base::one_line;
use havre_git::{Name, Objects, Oid, Remotes, Repositories};
use havre_runs::{Elsewhere, Files, Source, Sources, SourcesError};
use havre_workflow::Remote;

use crate::jobs::Fetcher;
use crate::repositories::files;

/// Bytes of one file.
const MOST_FILE_BYTES: u64 = 1 << 20;

/// Files of commits that were pushed here.
pub(super) struct Commits {
    pub(super) repositories: Repositories,
    /// Of other servers.
    pub(super) remotes: Remotes,
}

impl Sources for Commits {
    fn workflows<'a>(
        &'a self,
        project: &'a str,
        commit: &'a str,
    ) -> BoxFuture<'a, Result<Files, SourcesError>> {
        Box::pin(async move {
            let (objects, commit) = self.find(project, commit)?;
            let files = files(&objects, &commit).await.map_err(SourcesError)?;
            let files = files.into_iter();
            Ok(files
                .filter_map(|file| Some((file.path?, file.bytes)))
                .collect())
        })
    }

    fn file<'a>(
        &'a self,
        project: &'a str,
        commit: &'a str,
        path: &'a str,
    ) -> BoxFuture<'a, Result<Option<Vec<u8>>, SourcesError>> {
        Box::pin(async move {
            let (objects, commit) = self.find(project, commit)?;
            let file = objects.file(&commit, path, MOST_FILE_BYTES).await;
            file.map_err(|error| failed(&error))
        })
    }

    fn elsewhere<'a>(
        &'a self,
        remote: &'a Remote,
        commit: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Elsewhere, SourcesError>> {
        Box::pin(Fetcher::file(&self.remotes, remote, commit))
    }

    fn newest<'a>(
        &'a self,
        project: &'a str,
    ) -> BoxFuture<'a, Result<Option<Source>, SourcesError>> {
        Box::pin(async move {
            let name = named(project)?;
            let objects = self.repositories.objects(&name);
            let newest = objects.resolve("HEAD").await;
            match newest.map_err(|error| failed(&error))? {
                None => Ok(None),
                Some(commit) => source(&objects, &name, &commit).await.map(Some),
            }
        })
    }
}

impl Commits {
    fn find(&self, project: &str, commit: &str) -> Result<(Objects, Oid), SourcesError> {
        let commit = commit
            .parse()
            .map_err(|_| SourcesError(format!("{commit:?} is no commit")))?;
        Ok((self.repositories.objects(&named(project)?), commit))
    }
}

/// What there is to know of a commit.
pub(super) async fn source(
    objects: &Objects,
    name: &Name,
    commit: &Oid,
) -> Result<Source, SourcesError> {
    let default_branch = objects.default_branch().await;
    let facts = objects.commit(commit).await;
    let facts = facts.map_err(|error| failed(&error))?;
    Ok(Source {
        // Whose it is there is no other word for: a machine has no owners.
        repository: format!("{name}/{name}"),
        default_branch: default_branch.map_err(|error| failed(&error))?,
        commit: commit.to_string(),
        message: facts.message,
        author: (facts.author.name, facts.author.email),
        at: facts.committer.rfc3339(),
    })
}

fn named(project: &str) -> Result<Name, SourcesError> {
    let name = project.parse();
    name.map_err(|_| SourcesError(format!("{project:?} is no name of a repository")))
}

fn failed(error: &havre_git::ObjectError) -> SourcesError {
    SourcesError(one_line(error))
}
