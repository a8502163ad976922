//! A leg that calls a workflow begins a run of it, once.

use std::path::Path;
use std::sync::Arc;

use havre_pipeline::{Json, Object, Value, call as calls};
use havre_workflow::calls::{Called, Policy, check};
use havre_workflow::lock;
use havre_workflow::{CalledWorkflow, GivenSecrets, Limits, Remote, Workflow, read};

use crate::begin::{begun, name};
use crate::book::{Inner, LegEnd, is_under_way};
use crate::contexts::Contexts;
use crate::defined::{self, Defined, certain};
use crate::error::RunsError;
use crate::locks::lock_of;
use crate::ports::{LegKey, Origin};
use crate::row::{Facts, Row};
use crate::start::{self, Link};
use crate::tables::Consumed;

/// Workflows that call each other in a row; GitHub's bound.
const MAX_DEPTH: u32 = 10;
/// Runs that are called for one, in all its attempts that go on; GitHub allows as many calls.
const MAX_CALLED: usize = 50;

pub(super) async fn call(inner: Arc<Inner>, key: LegKey) -> Result<(), RunsError> {
    let link = inner.book().chain(key.run).into_iter().next();
    let Some(link) = link else {
        return Ok(());
    };
    let called = match called(&inner, &link, &key) {
        Ok(called) => called,
        Err(why) => return fail(&inner, &key, why),
    };
    let found = match found(&inner, &link, &called).await? {
        Ok(found) => found,
        Err(why) => return fail(&inner, &key, why),
    };
    match made(&inner, &link, &key, found)? {
        Err(why) => fail(&inner, &key, why),
        Ok(run) => {
            let mut book = inner.book();
            let wanted = book.leg_state(&key).is_some_and(is_under_way);
            if !wanted || book.called.contains_key(&key) {
                return Ok(());
            }
            inner.insert(&mut book, vec![run], Consumed::Nothing)
        }
    }
}

fn fail(inner: &Inner, key: &LegKey, why: String) -> Result<(), RunsError> {
    let mut book = inner.book();
    inner.finish(&mut book, key, LegEnd::failed(why)).map(drop)
}

/// What is called, if that may be.
fn called(inner: &Inner, link: &Link, key: &LegKey) -> Result<CalledWorkflow, String> {
    let call = start::call(link, &key.leg).ok_or("the job calls nothing")?;
    let called = &call.uses.value;
    if link.row.facts.depth >= MAX_DEPTH - 1 {
        return Err(format!(
            "workflows call each other more than {MAX_DEPTH} levels deep"
        ));
    }
    if let (CalledWorkflow::Remote(remote), GivenSecrets::Inherit) = (called, &call.secrets) {
        let owner = remote.owner.to_lowercase();
        let origin = link.row.facts.origin.as_ref();
        let is_same = origin.is_some_and(|origin| origin.owner.to_lowercase() == owner);
        if !is_same && !inner.settings.trusted_owners.contains(&owner) {
            return Err(format!(
                "`{called}` is of another owner, who gets no secrets by `secrets: inherit`: name each that it needs, or \
                 have machine.yaml trust `{owner}`"
            ));
        }
    }
    let book = inner.book();
    let family = book
        .live
        .values()
        .filter(|live| live.row.root == link.row.root);
    match family.count() > MAX_CALLED {
        true => Err(format!("more than {MAX_CALLED} workflows are called")),
        false => Ok(called.clone()),
    }
}

/// A file that is called.
struct Found {
    /// As messages call it.
    path: String,
    bytes: Option<Vec<u8>>,
    origin: Option<Origin>,
}

/// Looks for a file: `./` is in the repository of the file that calls.
async fn found(
    inner: &Inner,
    link: &Link,
    called: &CalledWorkflow,
) -> Result<Result<Found, String>, RunsError> {
    let (row, sources) = (&link.row, &inner.ports.sources);
    let (remote, commit) = match (called, &row.facts.origin) {
        (CalledWorkflow::Local(path), None) => {
            let file = sources.file(&row.project, &row.facts.source.commit, path);
            let file = file.await.map_err(|source| RunsError::Sources {
                project: row.project.clone(),
                source,
            })?;
            return Ok(Ok(Found {
                path: path.clone(),
                bytes: file,
                origin: None,
            }));
        }
        (CalledWorkflow::Local(path), Some(origin)) => {
            (origin.file(path), Some(origin.commit.clone()))
        }
        (CalledWorkflow::Remote(remote), _) => match pinned(inner, link, remote).await {
            Ok(pinned) => (remote.clone(), pinned),
            Err(why) => return Ok(Err(why)),
        },
    };
    Ok(match sources.elsewhere(&remote, commit.as_deref()).await {
        Err(error) => Err(format!("`{remote}` cannot be had: {error}")),
        Ok(there) => Ok(Found {
            path: remote.to_string(),
            bytes: there.file,
            origin: Some(Origin {
                owner: remote.owner,
                repository: remote.repository,
                reference: remote.reference,
                commit: there.commit,
                path: remote.path,
            }),
        }),
    })
}

/// The commit that the lock file beside the file that calls has for what is called.
async fn pinned(inner: &Inner, link: &Link, remote: &Remote) -> Result<Option<String>, String> {
    let row = &link.row;
    let lock = lock_of(
        inner.ports.sources.as_ref(),
        &row.project,
        &row.facts.source.commit,
        row.facts.origin.as_ref(),
    );
    let Some(lock) = lock.await? else {
        return Ok(None);
    };
    let origin = row.facts.origin.as_ref();
    let path = origin.map_or(&row.path, |origin| &origin.path);
    let commit = lock.commit(path, &lock::key(remote));
    Ok(commit.map(str::to_owned))
}

/// The run of what is called.
fn made(
    inner: &Inner,
    link: &Link,
    key: &LegKey,
    called: Found,
) -> Result<Result<(Row, Defined), String>, RunsError> {
    let Found {
        path,
        bytes,
        origin,
    } = called;
    let found = parsed(link, key, &path, bytes, origin.is_some());
    let (text, workflow, inputs) = match found {
        Ok(found) => found,
        Err(why) => return Ok(Err(why)),
    };
    let caller = &link.row;
    let name = name(&workflow, &path);
    let contexts = Contexts {
        github: caller.contexts.github_of(key.leg.attempt),
        inputs: Json(Value::from(inputs)),
        vars: caller.contexts.vars.clone(),
    };
    let defined = Defined {
        known: contexts.known(key.leg.attempt),
        workflow: Arc::new(workflow),
    };
    let group = match defined::group(&defined.workflow, &defined.known) {
        Ok(group) => group,
        Err(why) => return Ok(Err(why)),
    };
    let facts = Facts {
        depth: caller.facts.depth + 1,
        group,
        origin,
        ..caller.facts.clone()
    };
    let change = begun(&defined, &[], facts.group.as_ref(), inner.now());
    let row = Row {
        id: inner.tables.next_child()?,
        root: caller.root,
        parent: Some(key.clone()),
        project: caller.project.clone(),
        path,
        workflow: name,
        actor: caller.actor.clone(),
        queued_ms: inner.now(),
        text: text.into(),
        facts,
        contexts,
        change,
    };
    Ok(Ok((row, defined)))
}

type Parsed = (String, Workflow, Object);

fn parsed(
    link: &Link,
    key: &LegKey,
    path: &str,
    file: Option<Vec<u8>>,
    is_elsewhere: bool,
) -> Result<Parsed, String> {
    let call = start::call(link, &key.leg).ok_or("the job calls nothing")?;
    let bytes = file.ok_or_else(|| format!("there is no {path} in the commit"))?;
    let text = String::from_utf8(bytes).map_err(|_| format!("{path} is not UTF-8"))?;
    let workflow = defined::workflow(path, &text)?;
    let interface = workflow.on.workflow_call.as_ref();
    let interface = interface
        .ok_or_else(|| format!("{path} cannot be called: it has no `on.workflow_call`"))?;
    if is_elsewhere {
        fits(link, &call.uses.value, &workflow)?;
    }
    let inputs = certain("`with`", calls::inputs(interface, call, &link.known(key)))?;
    Ok((text, workflow, inputs))
}

/// Whether what is called elsewhere fits the call: what is called here was looked at before the run began.
fn fits(link: &Link, called: &CalledWorkflow, callee: &Workflow) -> Result<(), String> {
    let (path, limits) = (Path::new(&link.row.path), Limits::default());
    let caller = read(Path::new(""), path, &link.row.text, &limits);
    let caller = caller.map_err(|_| format!("{} cannot be read again", path.display()))?;
    let find = |other: &CalledWorkflow| match other == called {
        true => Called::Read(callee),
        false => Called::Elsewhere,
    };
    let errors = check(&caller, Policy::Permissive, &limits, &find);
    match errors.first() {
        Some(error) => Err(error.to_string()),
        None => Ok(()),
    }
}
