//! Files of commits that were pushed here.

use futures_util::future::BoxFuture;
use havre_base::one_line;
use havre_git::{EntryKind, Name, Objects, Oid, Repositories};
use havre_runs::{Files, Source, Sources, SourcesError};

/// Where workflow files are.
const FOLDER: &str = ".github/workflows";
/// Files of the folder.
const MOST_FILES: usize = 1000;
/// Bytes of all workflow files together.
const MOST_BYTES: usize = 16 << 20;
/// Bytes of one file.
const MOST_FILE_BYTES: u64 = 1 << 20;

/// Files of commits that were pushed here.
pub(super) struct Commits(pub(super) Repositories);

impl Sources for Commits {
    fn workflows<'a>(
        &'a self,
        project: &'a str,
        commit: &'a str,
    ) -> BoxFuture<'a, Result<Files, SourcesError>> {
        Box::pin(async move {
            let (objects, commit) = self.find(project, commit)?;
            let listed = objects.folder(&commit, FOLDER, MOST_FILES).await;
            let mut files = Vec::new();
            let mut bytes = 0;
            for entry in listed.map_err(|error| failed(&error))?.unwrap_or_default() {
                let is_file = matches!(entry.kind, EntryKind::File | EntryKind::Program);
                if !is_file || !(entry.name.ends_with(".yml") || entry.name.ends_with(".yaml")) {
                    continue;
                }
                let content = objects.blob(&entry.oid, MOST_FILE_BYTES).await;
                let content = content.map_err(|error| failed(&error))?;
                bytes += content.len();
                if bytes > MOST_BYTES {
                    let most = MOST_BYTES >> 20;
                    let why = format!("{FOLDER} has more than {most} MiB of workflow files");
                    return Err(SourcesError(why));
                }
                files.push((format!("{FOLDER}/{}", entry.name), content));
            }
            Ok(files)
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

    fn newest<'a>(
        &'a self,
        project: &'a str,
    ) -> BoxFuture<'a, Result<Option<Source>, SourcesError>> {
        Box::pin(async move {
            let name = named(project)?;
            let objects = self.0.objects(&name);
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
        Ok((self.0.objects(&named(project)?), commit))
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
