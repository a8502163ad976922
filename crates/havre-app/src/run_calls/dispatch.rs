//! Workflows that somebody starts.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use havre_api::{ApiError, ErrorCode, Principal, RunBegun, RunDispatchRequest, RunEventRequest};
use havre_git::{Name, Objects, Oid, Repositories};
use havre_model::ProjectName;
use havre_pipeline::{Event, Reference};
use havre_release::Answer;
use havre_runs::{Dispatch, Runs, RunsError, Source, Sources, Trigger};

use super::failed;

/// Where what is started is taken from.
pub(super) trait Commits: Send + Sync {
    /// What a branch or tag leads to, by name or in full; without one, the default branch.
    fn find<'a>(
        &'a self,
        project: &'a ProjectName,
        reference: Option<&'a str>,
    ) -> Answer<'a, Result<(Reference, Source), ApiError>>;
}

/// Starts a workflow.
pub(super) async fn start(
    runs: &Runs,
    commits: &dyn Commits,
    by: &Principal,
    request: RunDispatchRequest,
) -> Result<RunBegun, ApiError> {
    let found = commits.find(&request.project, request.reference.as_deref());
    let (on, source) = found.await?;
    let reference = full(&on);
    let commit = source.commit.clone();
    let asked = Dispatch {
        project: request.project.to_string(),
        workflow: request.workflow,
        on,
        source,
        inputs: request.inputs.into_iter().collect(),
        actor: by.to_string(),
    };
    let begun = runs.dispatch(asked).await.map_err(|error| match &error {
        // It is about what was asked for.
        RunsError::Refused(why) => ApiError::new(ErrorCode::Invalid, why.as_str()),
        _ => failed(error),
    })?;
    Ok(RunBegun {
        number: begun.number,
        workflow: begun.workflow,
        reference,
        commit,
    })
}

/// Tells all workflows of the default branch of something that happened elsewhere.
pub(super) async fn event(
    runs: &Runs,
    commits: &dyn Commits,
    by: &Principal,
    request: RunEventRequest,
) -> Result<Vec<RunBegun>, ApiError> {
    let (on, source) = commits.find(&request.project, None).await?;
    let reference = full(&on);
    let commit = source.commit.clone();
    let payload = [("client_payload".to_owned(), request.payload.into())];
    let trigger = Trigger {
        project: request.project.to_string(),
        event: Event::Repository {
            kind: request.kind,
            branch: source.default_branch.clone(),
        },
        source,
        before: None,
        forced: false,
        actor: by.to_string(),
        payload: Some(payload.into_iter().collect()),
        foreign: false,
    };
    let outcome = runs.begin(&trigger).await.map_err(failed)?;
    // Whoever tells of it learns of a workflow that would have begun and could not.
    if let Some(wrong) = outcome.not_started.iter().find(|not| not.wrong)
        && outcome.begun.is_empty()
    {
        let message = format!("{}: {}", wrong.path, wrong.why);
        return Err(ApiError::new(ErrorCode::Invalid, message));
    }
    let begun = outcome.begun.into_iter().map(|begun| RunBegun {
        number: begun.number,
        workflow: begun.workflow,
        reference: reference.clone(),
        commit: commit.clone(),
    });
    Ok(begun.collect())
}

/// What was pushed here.
pub(super) struct Pushed {
    pub(super) sources: Arc<dyn Sources>,
    pub(super) repositories: Repositories,
}

impl Commits for Pushed {
    fn find<'a>(
        &'a self,
        project: &'a ProjectName,
        reference: Option<&'a str>,
    ) -> Answer<'a, Result<(Reference, Source), ApiError>> {
        Box::pin(async move {
            let newest = match self.repository(project) {
                Some(_) => self.sources.newest(project.as_str()).await,
                None => Ok(None),
            };
            let newest = newest.map_err(|error| unread(project, &error))?;
            let (Some(name), Some(newest)) = (self.repository(project), newest) else {
                let message = format!("nothing was pushed to {project} yet");
                return Err(ApiError::new(ErrorCode::NotFound, message)
                    .with_hint("`havre git remote` tells where to"));
            };
            let Some(reference) = reference else {
                return Ok((Reference::Branch(newest.default_branch.clone()), newest));
            };
            let objects = self.repositories.objects(&name);
            for candidate in candidates(reference)? {
                let found = objects.resolve(&full(&candidate)).await;
                if let Some(commit) = found.map_err(|error| unread(project, &error))? {
                    let source = of_commit(&objects, &commit, newest).await;
                    return Ok((candidate, source.map_err(|error| unread(project, &error))?));
                }
            }
            let message = format!("{project} has no branch or tag {reference:?}");
            Err(ApiError::new(ErrorCode::NotFound, message))
        })
    }
}

impl Pushed {
    fn repository(&self, project: &ProjectName) -> Option<Name> {
        let name = project.as_str().parse().ok()?;
        self.repositories.exists(&name).then_some(name)
    }
}

/// The same repository at another commit.
async fn of_commit(
    objects: &Objects,
    commit: &Oid,
    newest: Source,
) -> Result<Source, havre_git::ObjectError> {
    let facts = objects.commit(commit).await?;
    let seconds = u64::try_from(facts.committer.seconds).ok();
    let at = seconds.and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
    Ok(Source {
        commit: commit.to_string(),
        message: facts.message,
        author: (facts.author.name, facts.author.email),
        at: at.map_or_else(String::new, |at| havre_base::time::rfc3339(at, 0)),
        ..newest
    })
}

/// What a name may mean, the likeliest first. Pure.
fn candidates(reference: &str) -> Result<Vec<Reference>, ApiError> {
    if let Some(branch) = reference.strip_prefix("refs/heads/") {
        return Ok(vec![Reference::Branch(branch.to_owned())]);
    }
    if let Some(tag) = reference.strip_prefix("refs/tags/") {
        return Ok(vec![Reference::Tag(tag.to_owned())]);
    }
    let is_plain = |c: char| !c.is_control() && !c.is_whitespace() && !"~^:?*[\\".contains(c);
    let is_name = !reference.is_empty()
        && !reference.starts_with("refs/")
        && !reference.contains("..")
        && !reference.contains("@{")
        && reference.chars().all(is_plain);
    match is_name {
        true => Ok(vec![
            Reference::Branch(reference.to_owned()),
            Reference::Tag(reference.to_owned()),
        ]),
        false => {
            let message = format!("{reference:?} names no branch or tag");
            Err(ApiError::new(ErrorCode::Invalid, message))
        }
    }
}

fn full(reference: &Reference) -> String {
    match reference {
        Reference::Branch(name) => format!("refs/heads/{name}"),
        Reference::Tag(name) => format!("refs/tags/{name}"),
    }
}

fn unread(project: &ProjectName, error: &dyn std::error::Error) -> ApiError {
    let message = format!("cannot read the repository of {project}");
    ApiError::new(ErrorCode::Failed, message).caused_by(Some(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_branch_before_it_is_a_tag() {
        let told = |reference: &str| match candidates(reference) {
            Ok(found) => found.iter().map(full).collect::<Vec<_>>().join(" "),
            Err(error) => error.message,
        };
        for (reference, expected) in [
            ("main", "refs/heads/main refs/tags/main"),
            ("feature/x", "refs/heads/feature/x refs/tags/feature/x"),
            ("refs/tags/v1", "refs/tags/v1"),
            ("refs/heads/a", "refs/heads/a"),
            ("refs/notes/x", "\"refs/notes/x\" names no branch or tag"),
            ("main~1", "\"main~1\" names no branch or tag"),
            ("a..b", "\"a..b\" names no branch or tag"),
            ("", "\"\" names no branch or tag"),
        ] {
            assert_eq!(told(reference), expected);
        }
    }
}
