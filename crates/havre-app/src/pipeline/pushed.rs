//! What a push leads to: its workflow files are checked before it is taken, and runs begin when it is.

use std::sync::Arc;

use havre_api::{ApiError, Role};
use havre_base::{in_place, one_line};
use havre_git::{Lines, Objects, Push, Receiver, Update};
use havre_mirror::Way;
use havre_model::ProjectName;
use havre_pipeline::{Event, Reference};
use havre_release::Answer;
use havre_runs::{Begun as Run, Trigger};
use tokio::task::JoinSet;

use super::starting::{MOST_CHANGED, is_known, tell_of};
use super::token::grant_of_all;
use super::{Begun, Late, commits, pulls, told};
use crate::mirrors::Mirrors;
use crate::platform::Platform;
use crate::promotions::definitions;
use crate::repositories::{gates, moved, wrong};

/// Where workflows are, and all else that says how a project is run.
const OF_WORKFLOWS: &str = ".github/";

/// Takes pushes.
pub(crate) struct Pushed {
    pub(crate) platform: Arc<Platform>,
    pub(crate) mirrors: Arc<Mirrors>,
    pub(crate) late: Late,
}

impl Receiver for Pushed {
    fn check<'a>(
        &'a self,
        push: &'a Push,
        objects: &'a Objects,
    ) -> Answer<'a, Result<(), Vec<String>>> {
        Box::pin(async move {
            pulls::check(&push.options).map_err(|why| vec![why])?;
            if push.of_job {
                of_job(push, objects).await?;
            }
            if !push.mirrored {
                self.refuse_of_mirror(push)?;
            }
            let mut moved: Vec<_> = push
                .updates
                .iter()
                .filter_map(|it| it.new.as_ref())
                .collect();
            moved.sort();
            moved.dedup();
            for oid in moved {
                // A tag leads to the commit whose files run.
                let commit = match objects.resolve(oid.as_str()).await {
                    Ok(Some(commit)) => commit,
                    // One of something else starts nothing.
                    Ok(None) => continue,
                    Err(error) => return Err(vec![one_line(&error)]),
                };
                let mut lines = wrong(objects, &commit).await;
                lines.extend(gates(objects, &commit).await.err().unwrap_or_default());
                if !lines.is_empty() {
                    return Err(lines);
                }
            }
            Ok(())
        })
    }

    fn received<'a>(&'a self, push: &'a Push, tell: Lines) -> Answer<'a, ()> {
        Box::pin(async move {
            let stored: Vec<String> = push.updates.iter().map(moved).collect();
            tell.say(&format!(
                "{} is stored: {}",
                push.project,
                stored.join(", ")
            ));
            self.pass_on(push, &tell);
            // As on GitHub: a run whose jobs push would have no end.
            if push.of_job {
                return tell.say("a job's push starts nothing");
            }
            let Some(begun) = &self.late.get() else {
                return tell
                    .say("nothing starts: jobs cannot be run here; see `havre daemon status`");
            };
            let mut runs = Vec::new();
            for update in &push.updates {
                match self.take_gates(begun, push, update).await {
                    Ok(None) => {}
                    Ok(Some(differs)) => tell.say(&differs),
                    Err(why) => {
                        tell.say(&format!("{}: {why}", update.reference));
                        continue;
                    }
                }
                let mut started = Vec::new();
                match begin(begun, push, update, &tell).await {
                    Ok(of_push) => started = of_push,
                    Err(why) => tell.say(&format!("{}: {why}", update.reference)),
                }
                // Pull requests of what is mirrored are asked for where it comes from.
                if !push.mirrored {
                    match pulls::begin(begun, push, update, &started, &tell).await {
                        Ok(of_request) => started.extend(of_request),
                        Err(why) => tell.say(&format!("{}: {why}", update.reference)),
                    }
                }
                runs.extend(started);
            }
            match begun.runs.refresh_schedules(push.project.as_str()).await {
                Ok(problems) => {
                    for problem in problems {
                        tell.say(&format!("schedule: {problem}"));
                    }
                }
                Err(error) => tell.say(&format!("schedule: {}", one_line(&error))),
            }
            // Nobody waits there who would hear of it.
            if push.mirrored {
                return;
            }
            let mut following = JoinSet::new();
            for run in runs {
                following.spawn(told::follow(begun.runs.clone(), run, tell.clone()));
            }
            while following.join_next().await.is_some() {}
        })
    }
}

impl Pushed {
    /// What is pushed to what comes from elsewhere would be gone with the next fetch.
    fn refuse_of_mirror(&self, push: &Push) -> Result<(), Vec<String>> {
        let origin = in_place(|| self.mirrors.origin(push.project.as_str()));
        match origin.map_err(|error| vec![one_line(&error)])? {
            None => Ok(()),
            Some(url) => Err(vec![
                format!("{} is a mirror of {url}: push there", push.project),
                format!(
                    "hint: `havre git mirror rm from -p {}` lets it be pushed to",
                    push.project
                ),
            ]),
        }
    }

    /// To where the repository is mirrored to.
    fn pass_on(&self, push: &Push, tell: &Lines) {
        let hurried = in_place(|| self.mirrors.hurry(push.project.as_str(), Way::To));
        if let Err(error) = hurried {
            let error = one_line(&error);
            tell.say(&format!("its mirror is not pushed to now: {error}"));
        }
    }

    /// What has to hold in environments holds from the first push of the default branch on that says so, before anything
    /// runs of it. Of other branches nothing is taken. A line about what is not in force.
    async fn take_gates(
        &self,
        begun: &Begun,
        push: &Push,
        update: &Update,
    ) -> Result<Option<String>, String> {
        let (Some(branch), Some(commit)) = (update.branch(), &update.new) else {
            return Ok(None);
        };
        let objects = begun.repositories.objects(&push.project);
        let default = objects.default_branch().await;
        let default = default.map_err(|error| one_line(&error))?;
        let said = gates(&objects, commit).await;
        let said = said.map_err(|lines| lines.join("; "))?;
        // Who pushes is a deployer of all environments of the project.
        let grant = grant_of_all(push.project.as_str())?;
        let project = ProjectName::new(push.project.as_str());
        let differing = in_place(|| {
            if branch == default {
                let grant = (&grant, Role::Deployer);
                definitions::take_gates(&self.platform, grant, &project, &said)?;
            }
            let in_force = definitions::in_force(&self.platform, &project)?;
            Ok::<_, ApiError>(definitions::differing(&in_force, &said))
        });
        let differing = differing.map_err(|error| one_line(&error))?;
        Ok((!differing.is_empty()).then(|| {
            let advice = match branch == default {
                true => "`havre env apply` of an admin puts it in force".to_owned(),
                false => format!("only {default} and admins put it in force"),
            };
            format!(
                "{branch}: what havre.yaml says has to hold in {} is not in force: {advice}",
                differing.join(", ")
            )
        }))
    }
}

/// Starts what an update starts.
async fn begin(
    begun: &Begun,
    push: &Push,
    update: &Update,
    tell: &Lines,
) -> Result<Vec<Run>, String> {
    let (Some(to), Some(commit)) = (reference(&update.reference), &update.new) else {
        return Ok(Vec::new());
    };
    let objects = begun.repositories.objects(&push.project);
    let resolved = objects.resolve(commit.as_str()).await;
    let resolved = resolved.map_err(|error| one_line(&error))?;
    let commit = resolved.ok_or("it leads to no commit")?;
    // After a crash it comes again, and nobody listens then.
    if tell.is_alone() && is_known(begun, push, "push", &update.reference, &commit)? {
        return Ok(Vec::new());
    }
    let source = commits::source(&objects, &push.project, &commit).await;
    let source = source.map_err(|error| error.to_string())?;
    let changed = objects
        .changed(update.old.as_ref(), &commit, MOST_CHANGED)
        .await;
    let trigger = Trigger {
        project: push.project.to_string(),
        event: Event::Push {
            to,
            changed: changed.map_err(|error| one_line(&error))?,
            message: source.message.clone(),
        },
        source,
        before: update.old.as_ref().map(ToString::to_string),
        forced: update.forced,
        actor: push.principal.clone(),
        payload: None,
        foreign: false,
    };
    let outcome = begun.runs.begin(&trigger).await;
    let outcome = outcome.map_err(|error| one_line(&error))?;
    Ok(tell_of(outcome, &update.reference, true, tell))
}

/// Refuses a job's push that would change how the project is run: as on GitHub, its token does not reach so far.
async fn of_job(push: &Push, objects: &Objects) -> Result<(), Vec<String>> {
    for update in &push.updates {
        let Some(new) = &update.new else { continue };
        // Of what is new here all files count, unless they are on a branch already.
        let known = match &update.old {
            Some(_) => Vec::new(),
            None => objects
                .branches_containing(new)
                .await
                .map_err(|error| vec![one_line(&error)])?,
        };
        if !known.is_empty() {
            continue;
        }
        let default = match &update.old {
            Some(old) => Some(old.clone()),
            None => objects
                .resolve("HEAD")
                .await
                .map_err(|error| vec![one_line(&error)])?,
        };
        let changed = objects.changed(default.as_ref(), new, MOST_CHANGED).await;
        let changed = changed.map_err(|error| vec![one_line(&error)])?;
        let why = match changed {
            None => format!("more than {MOST_CHANGED} files differ"),
            Some(paths) => match paths.iter().find(|path| path.starts_with(OF_WORKFLOWS)) {
                Some(path) => format!("{path} differs"),
                None => continue,
            },
        };
        let line = format!(
            "{}: {why}: a job may not push what changes {OF_WORKFLOWS}; push it yourself",
            update.reference
        );
        return Err(vec![line]);
    }
    Ok(())
}

fn reference(text: &str) -> Option<Reference> {
    let branch = text.strip_prefix("refs/heads/");
    let tag = text.strip_prefix("refs/tags/");
    match (branch, tag) {
        (Some(branch), _) => Some(Reference::Branch(branch.to_owned())),
        (None, Some(tag)) => Some(Reference::Tag(tag.to_owned())),
        (None, None) => None,
    }
}
