//! A leg that calls a workflow begins a run of it, once.

use std::sync::Arc;

use havre_pipeline::{Json, Object, Value, call as calls};
use havre_workflow::CalledWorkflow;

use crate::begin::{begun, name};
use crate::book::{Inner, LegEnd, is_under_way};
use crate::contexts::Contexts;
use crate::defined::{self, Defined, certain};
use crate::error::RunsError;
use crate::ports::LegKey;
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
    let path = match path(&inner, &link, &key) {
        Ok(path) => path,
        Err(why) => return fail(&inner, &key, why),
    };
    let row = &link.row;
    let commit = &row.facts.source.commit;
    let file = inner.ports.sources.file(&row.project, commit, &path).await;
    let file = file.map_err(|source| RunsError::Sources {
        project: row.project.clone(),
        source,
    })?;
    match made(&inner, &link, &key, &path, file)? {
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

/// The file that is called.
fn path(inner: &Inner, link: &Link, key: &LegKey) -> Result<String, String> {
    let call = start::call(link, &key.leg).ok_or("the job calls nothing")?;
    let path = match &call.uses.value {
        CalledWorkflow::Local(path) => path.clone(),
        remote @ CalledWorkflow::Remote(_) => {
            return Err(format!(
                "`{remote}` is in another repository, which cannot be called here: copy it to .github/workflows and \
                 call it by `./`"
            ));
        }
    };
    if link.row.facts.depth >= MAX_DEPTH - 1 {
        return Err(format!(
            "workflows call each other more than {MAX_DEPTH} levels deep"
        ));
    }
    let book = inner.book();
    let family = book
        .live
        .values()
        .filter(|live| live.row.root == link.row.root);
    match family.count() > MAX_CALLED {
        true => Err(format!("more than {MAX_CALLED} workflows are called")),
        false => Ok(path),
    }
}

/// The run of what is called.
fn made(
    inner: &Inner,
    link: &Link,
    key: &LegKey,
    path: &str,
    file: Option<Vec<u8>>,
) -> Result<Result<(Row, Defined), String>, RunsError> {
    let found = parsed(link, key, path, file);
    let (text, workflow, inputs) = match found {
        Ok(found) => found,
        Err(why) => return Ok(Err(why)),
    };
    let caller = &link.row;
    let name = name(&workflow, path);
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
        ..caller.facts.clone()
    };
    let change = begun(&defined, &[], facts.group.as_ref(), inner.now());
    let row = Row {
        id: inner.tables.next_child()?,
        root: caller.root,
        parent: Some(key.clone()),
        project: caller.project.clone(),
        path: path.to_owned(),
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

type Parsed = (String, havre_workflow::Workflow, Object);

fn parsed(link: &Link, key: &LegKey, path: &str, file: Option<Vec<u8>>) -> Result<Parsed, String> {
    let call = start::call(link, &key.leg).ok_or("the job calls nothing")?;
    let bytes = file.ok_or_else(|| format!("there is no {path} in the commit"))?;
    let text = String::from_utf8(bytes).map_err(|_| format!("{path} is not UTF-8"))?;
    let workflow = defined::workflow(path, &text)?;
    let interface = workflow.on.workflow_call.as_ref();
    let interface = interface
        .ok_or_else(|| format!("{path} cannot be called: it has no `on.workflow_call`"))?;
    let inputs = certain("`with`", calls::inputs(interface, call, &link.known(key)))?;
    Ok((text, workflow, inputs))
}
