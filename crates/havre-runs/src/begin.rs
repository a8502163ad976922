//! Runs begin: which workflows an event starts, and why the others not.

use std::path::Path;
use std::sync::Arc;

use havre_pipeline::run::{self, GroupUse};
use havre_pipeline::{Event, Json, Object, Verdict, inputs, trigger as triggers};
use havre_workflow::calls::Policy;
use havre_workflow::repository::{self, File};
use havre_workflow::{Limits, Workflow, lock};

use crate::book::Inner;
use crate::contexts::{Contexts, Identity, github};
use crate::defined::{self, Defined, MAX_NAME};
use crate::error::RunsError;
use crate::ports::{Files, RunId};
use crate::row::{Change, Facts, Row};
use crate::tables::Consumed;
use crate::trigger::{MAX_PAYLOAD, Trigger};
use havre_base::clipped;

/// Where workflows are.
const FOLDER: &str = ".github/workflows/";
/// Most workflows of a commit.
const MAX_FILES: usize = 200;
/// Longest name of a project, an actor or a reference, in bytes.
const MAX_WORD: usize = 1000;

/// What became of the workflows of a commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Those that started.
    pub begun: Vec<Begun>,
    /// Those that did not.
    pub not_started: Vec<NotStarted>,
}

/// A run began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Which.
    pub run: RunId,
    /// Its number in the project.
    pub number: u64,
    /// The workflow's file.
    pub path: String,
    /// The workflow's name.
    pub workflow: String,
}

/// A workflow did not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotStarted {
    /// Its file.
    pub path: String,
    /// Why, for a person.
    pub why: String,
    /// Whether something is wrong: with the file, or with what was given.
    pub wrong: bool,
}

/// How runs begin.
pub(crate) struct How {
    /// Only this workflow.
    pub(crate) only: Option<String>,
    /// None of these.
    pub(crate) except: Vec<String>,
    /// Only these jobs and what they need; empty: all.
    pub(crate) jobs: Vec<String>,
    /// Runs in a row that each followed another's end.
    pub(crate) chain: u32,
    pub(crate) consumed: Consumed,
}

impl Inner {
    pub(crate) async fn begin(&self, trigger: &Trigger, how: How) -> Result<Outcome, RunsError> {
        sound(trigger)?;
        let files = self
            .ports
            .sources
            .workflows(&trigger.project, &trigger.source.commit);
        let files = files.await.map_err(|source| RunsError::Sources {
            project: trigger.project.clone(),
            source,
        })?;
        let vars = self.ports.gate.vars(&trigger.project).await;
        let vars = vars.map_err(|why| {
            let project = &trigger.project;
            RunsError::Refused(format!("cannot read the variables of {project}: {why}"))
        })?;
        let mut outcome = Outcome::default();
        let files: Files = files
            .into_iter()
            .filter(|(path, _)| is_workflow(path) || path == lock::PATH)
            .collect();
        if files.len() > MAX_FILES {
            return Err(RunsError::Refused(format!(
                "there are more than {MAX_FILES} workflows in {FOLDER}"
            )));
        }
        let judged = havre_base::in_place(|| judge(&files, &how, &trigger.event));
        let mut starting = Vec::new();
        for (path, judged) in judged {
            match judged {
                Ok(workflow) => starting.push((path, workflow)),
                Err((why, wrong)) => outcome.not_started.push(NotStarted { path, why, wrong }),
            }
        }
        let mut runs = Vec::new();
        for (path, workflow) in starting {
            let text = files.iter().find(|(other, _)| *other == path);
            let text =
                String::from_utf8_lossy(text.map_or(&[][..], |(_, bytes)| bytes)).into_owned();
            let made = self.row(trigger, &how, &vars, &path, workflow, text.into())?;
            match made {
                Ok(run) => runs.push(run),
                Err(why) => outcome.not_started.push(NotStarted {
                    path,
                    why,
                    wrong: true,
                }),
            }
        }
        let begun = runs.iter().map(|(row, _)| Begun {
            run: row.id,
            number: row.facts.number,
            path: row.path.clone(),
            workflow: row.workflow.clone(),
        });
        outcome.begun = begun.collect();
        let mut book = self.book();
        let live = book.live.values().map(|live| &live.row);
        let live = live.filter(|row| row.project == trigger.project && row.parent.is_none());
        if live.count() + runs.len() > self.settings.live_runs {
            return Err(RunsError::Refused(format!(
                "{} runs of {} have not ended: wait, or cancel some",
                self.settings.live_runs, trigger.project
            )));
        }
        self.insert(&mut book, runs, how.consumed)?;
        Ok(outcome)
    }

    fn row(
        &self,
        trigger: &Trigger,
        how: &How,
        vars: &std::collections::BTreeMap<String, String>,
        path: &str,
        workflow: Workflow,
        text: Arc<str>,
    ) -> Result<Result<(Row, Defined), String>, RunsError> {
        if let Some(job) = how
            .jobs
            .iter()
            .find(|job| !workflow.jobs.contains_key(*job))
        {
            return Ok(Err(no_such_job(job, &workflow)));
        }
        let name = name(&workflow, path);
        let given = match given(&workflow, &trigger.event) {
            Ok(given) => given,
            Err(why) => return Ok(Err(why)),
        };
        let (id, number, own) = self.tables.next(&trigger.project, path)?;
        let identity = Identity {
            id,
            number: own,
            workflow: &name,
            path,
        };
        let contexts = Contexts {
            github: github(trigger, &identity),
            inputs: Json(given.into()),
            vars: vars.clone(),
        };
        let workflow = Arc::new(workflow);
        let defined = Defined {
            known: contexts.known(1),
            workflow,
        };
        let group = match defined::group(&defined.workflow, &defined.known) {
            Ok(group) => group,
            Err(why) => return Ok(Err(why)),
        };
        let facts = Facts {
            title: title(trigger, &defined, &name),
            number,
            chain: how.chain,
            depth: 0,
            event: trigger.event.clone(),
            source: trigger.source.clone(),
            reference: text_of(&contexts, "ref"),
            group,
            foreign: trigger.foreign,
            origin: None,
        };
        let change = begun(&defined, &how.jobs, facts.group.as_ref(), self.now());
        let row = Row {
            id,
            root: id,
            parent: None,
            project: trigger.project.clone(),
            path: path.to_owned(),
            workflow: name,
            actor: trigger.actor.clone(),
            queued_ms: self.now(),
            text,
            facts,
            contexts,
            change,
        };
        Ok(Ok((row, defined)))
    }
}

/// A run at its beginning; `jobs` as in [`How`].
pub(crate) fn begun(
    defined: &Defined,
    jobs: &[String],
    group: Option<&GroupUse>,
    now: u64,
) -> Change {
    let (state, _) = match jobs {
        [] => run::begin(&defined.of(), now),
        jobs => run::begin_only(&defined.of(), jobs, now),
    };
    let ended_ms = state.conclusion().map(|_| now);
    Change {
        entered: group.is_none(),
        forced: false,
        state,
        ended_ms,
        why: None,
    }
}

fn no_such_job(job: &str, workflow: &Workflow) -> String {
    let all: Vec<&str> = workflow.jobs.keys().map(String::as_str).collect();
    format!(
        "it has no job `{}`; there are {}",
        clipped(job, MAX_WORD),
        all.join(", ")
    )
}

fn sound(trigger: &Trigger) -> Result<(), RunsError> {
    let refused = |why: String| Err(RunsError::Refused(why));
    let project = &trigger.project;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if project.is_empty()
        || project.len() > 200
        || project.starts_with('.')
        || !project.chars().all(plain)
    {
        return refused(format!(
            "`{}` cannot be the name of a project",
            clipped(project, 200)
        ));
    }
    let commit = &trigger.source.commit;
    if !(40..=64).contains(&commit.len()) || !commit.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return refused(format!("`{}` is no commit", clipped(commit, 100)));
    }
    let words = [
        trigger.actor.as_str(),
        trigger.source.repository.as_str(),
        trigger.source.default_branch.as_str(),
        trigger.event.reference().name(),
    ]
    .map(str::len);
    if words.iter().any(|length| *length > MAX_WORD) {
        return refused(format!("a name has more than {MAX_WORD} bytes"));
    }
    let payload = serde_json::to_string(&trigger.payload).map_or(0, |text| text.len());
    match payload > MAX_PAYLOAD {
        true => refused(format!("the payload has more than {MAX_PAYLOAD} bytes")),
        false => Ok(()),
    }
}

/// Those in the folder itself; what is below it is no workflow.
fn is_workflow(path: &str) -> bool {
    let name = path.strip_prefix(FOLDER).filter(|name| !name.contains('/'));
    name.is_some_and(|name| name.ends_with(".yml") || name.ends_with(".yaml"))
}

/// The workflow of a file, if it starts; else why not, and whether that is wrong.
type Judged = Result<Workflow, (String, bool)>;

fn judge(files: &Files, how: &How, event: &Event) -> Vec<(String, Judged)> {
    let wanted = files
        .iter()
        .filter(|(path, _)| is_workflow(path))
        .filter(|(path, _)| how.only.as_ref().is_none_or(|only| only == path))
        .filter(|(path, _)| !how.except.contains(path));
    let mut judged: Vec<(String, Judged)> = wanted
        .map(|(path, bytes)| (path.clone(), alone(path, bytes, event)))
        .collect();
    let starts = |path: &String| {
        let mut judged = judged.iter();
        judged.any(|(other, workflow)| other == path && workflow.is_ok())
    };
    let all: Vec<File> = files
        .iter()
        .map(|(path, bytes)| File {
            shown: path.into(),
            path: Some(path.clone()),
            bytes: bytes.clone(),
            wanted: starts(path),
        })
        .collect();
    // What one asks of another.
    let findings = repository::check(&all, Policy::Permissive, &Limits::default());
    for error in &findings.errors {
        let file = error
            .location
            .as_ref()
            .map(|location| location.file.as_path());
        // Nobody knows for whom a lock file holds that cannot be read.
        let is_of_all = file == Some(Path::new(lock::PATH));
        let found = judged.iter_mut().filter(|(path, workflow)| {
            workflow.is_ok() && (is_of_all || file == Some(Path::new(path)))
        });
        for (_, workflow) in found {
            *workflow = Err((error.to_string(), true));
        }
    }
    judged
}

/// By what a file itself says.
fn alone(path: &str, bytes: &[u8], event: &Event) -> Judged {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Err((format!("{path} is not UTF-8"), true));
    };
    let workflow = defined::workflow(path, text).map_err(|why| (why, true))?;
    match triggers::judge(&workflow.on, event) {
        Verdict::Starts(_) | Verdict::Open(_) => Ok(workflow),
        Verdict::Not(reason) => Err((reason.why, false)),
        Verdict::Refused(reasons) => {
            let all: Vec<String> = reasons.into_iter().map(|reason| reason.why).collect();
            Err((all.join("; "), true))
        }
    }
}

fn given(workflow: &Workflow, event: &Event) -> Result<Object, String> {
    let Event::Dispatch { inputs: given, .. } = event else {
        return Ok(Object::default());
    };
    let declared = workflow.on.workflow_dispatch.as_deref().unwrap_or_default();
    match inputs::resolve(declared, given) {
        Ok(values) => Ok(values.into_iter().collect()),
        Err(reasons) => {
            let all: Vec<String> = reasons.into_iter().map(|reason| reason.why).collect();
            Err(all.join("; "))
        }
    }
}

pub(crate) fn name(workflow: &Workflow, path: &str) -> String {
    let written = workflow.name.as_ref().and_then(|name| name.fixed());
    clipped(
        written.filter(|name| !name.is_empty()).unwrap_or(path),
        MAX_NAME,
    )
    .to_owned()
}

fn title(trigger: &Trigger, defined: &Defined, name: &str) -> String {
    let plan = defined.workflow.run_name.as_ref();
    let written = plan.map(|template| defined.known.text(template));
    let written = written.and_then(|answer| answer.known().cloned());
    let subject = trigger.source.message.lines().next().unwrap_or_default();
    let of_commit = matches!(
        trigger.event,
        Event::Push { .. } | Event::PullRequest { .. }
    );
    let title = match written.filter(|title| !title.trim().is_empty()) {
        Some(title) => title,
        None if of_commit && !subject.is_empty() => subject.to_owned(),
        None => name.to_owned(),
    };
    clipped(&title, MAX_NAME).to_owned()
}

fn text_of(contexts: &Contexts, name: &str) -> String {
    let text = contexts
        .github
        .get(name)
        .and_then(serde_json::Value::as_str);
    text.unwrap_or_default().to_owned()
}
