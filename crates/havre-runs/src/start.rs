//! What a box is told of its leg: from the run, those that called it, and what its gate gave.

mod containers;

use std::collections::BTreeMap;

use havre_pipeline::run::LegId;
use havre_pipeline::{Answer, Json, Known, Object, Value};
use havre_workflow::{CacheMode, Call, Dynamic, GivenSecrets, Job, StepsJob, Work};
use indexmap::IndexMap;

use crate::defined::{Defined, certain};
use crate::ports::{Asked, LegKey, LegStart, Opened, Permissions};
use crate::row::Row;

/// GitHub's name of the secret that holds a job's token.
const TOKEN: &str = "GITHUB_TOKEN";

/// A run and what it runs.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) row: Row,
    pub(crate) defined: Defined,
}

impl Link {
    /// What a leg knows of its job.
    pub(crate) fn known(&self, key: &LegKey) -> Known {
        Known::of_leg(&self.row.change.state, &self.defined.of(), &key.leg)
    }
}

/// The leg of a run, the run that called it, and so on up to the root.
pub(crate) type Chain = Vec<Link>;

/// A leg that asks its gate.
pub(crate) fn asked(link: &Link, key: &LegKey) -> Asked {
    let row = &link.row;
    let leg = row.change.state.legs().find(|(id, _)| *id == key.leg);
    Asked {
        key: key.clone(),
        root: row.root,
        number: row.facts.number,
        project: row.project.clone(),
        path: row.path.clone(),
        environment: leg.and_then(|(_, leg)| leg.environment.clone()),
        reference: row.facts.reference.clone(),
        commit: row.facts.source.commit.clone(),
        event: row.facts.event.name().to_owned(),
        actor: row.actor.clone(),
        foreign: row.facts.foreign,
    }
}

/// What a box is told, or why there can be none.
pub(crate) fn start(chain: &Chain, key: &LegKey, opened: &Opened) -> Result<LegStart, String> {
    let link = chain.first().ok_or("there is no such run")?;
    let (row, id) = (&link.row, &key.leg);
    let found = row.change.state.legs().find(|(other, _)| other == id);
    let (_, leg) = found.ok_or("there is no such leg")?;
    let (job, steps) = steps(link, id)?;
    let mut secrets = secrets(chain, opened)?;
    // What the file does not name is not in the box, where each step could look for it.
    secrets.retain(|name, _| name == TOKEN || uses(&row.text, name));
    let mut vars = row.contexts.vars.clone();
    vars.extend(opened.vars.clone());

    let mut known = link.known(key);
    known.whole("vars", texts(&vars));
    let mut github = row.contexts.github_of(id.attempt);
    github.insert("job".to_owned(), id.job.clone().into());
    github.insert("token".to_owned(), opened.token.clone().into());
    known.whole("github", crate::contexts::value(&github));
    let json = |name: &str| {
        let value = known.context(name).cloned().unwrap_or_default();
        serde_json::to_string(&Json(value)).map_err(|error| format!("`{name}`: {error}"))
    };
    let github = serde_json::to_string(&github).map_err(|error| format!("`github`: {error}"))?;
    let mut contexts = BTreeMap::from([("github".to_owned(), github)]);
    for name in ["needs", "strategy", "matrix", "inputs", "vars"] {
        contexts.insert(name.to_owned(), json(name)?);
    }
    known.whole("secrets", texts(&secrets));
    contexts.insert(
        "secrets".to_owned(),
        serde_json::to_string(&secrets).map_err(|error| format!("`secrets`: {error}"))?,
    );
    let deploys = deploys(steps, &known)?;
    let (container, services) = containers::containers(link, job, steps, known)?;
    let all = container
        .iter()
        .chain(services.iter().map(|(_, service)| service));
    let masks = all.filter_map(|container| container.credentials.as_ref());
    let masks = masks.map(|(_, password)| password.clone()).collect();
    Ok(LegStart {
        key: key.clone(),
        root: row.root,
        number: row.facts.number,
        project: row.project.clone(),
        name: leg.name.clone(),
        repository: row.facts.source.repository.clone(),
        commit: row.facts.source.commit.clone(),
        reference: row.facts.reference.clone(),
        event: row.facts.event.name().to_owned(),
        actor: row.actor.clone(),
        foreign: row.facts.foreign,
        path: row.path.clone(),
        origin: row.facts.origin.clone(),
        workflow: row.text.to_string(),
        contexts,
        masks,
        labels: leg.runs_on.clone(),
        environment: leg.environment.clone(),
        deploys,
        container,
        services,
        permissions: permissions(chain, id),
        cache_mode: cache_mode(chain, id),
        timeout_ms: leg.timeout,
    })
}

/// Whether a leg deploys to its environment: it does unless it says that it does not.
fn deploys(steps: &StepsJob, known: &Known) -> Result<bool, String> {
    let Some(environment) = &steps.environment else {
        return Ok(false);
    };
    let Some(said) = &environment.deployment else {
        return Ok(true);
    };
    let said = known.dynamic(said, |said| Answer::Known(Value::Bool(*said)));
    certain("`deployment`", said).map(|said| said.is_truthy())
}

fn steps<'l>(link: &'l Link, id: &LegId) -> Result<(&'l Job, &'l StepsJob), String> {
    match link.defined.workflow.jobs.get(&id.job) {
        Some(job) => match &job.work {
            Work::Steps(steps) => Ok((job, steps)),
            Work::Call(_) => Err(format!("job `{}` has no steps", id.job)),
        },
        None => Err(format!("the workflow has no job `{}`", id.job)),
    }
}

/// The call of a leg, if it is one.
pub(crate) fn call<'l>(link: &'l Link, id: &LegId) -> Option<&'l Call> {
    match &link.defined.workflow.jobs.get(&id.job)?.work {
        Work::Call(call) => Some(call),
        Work::Steps(_) => None,
    }
}

/// Whether a workflow file may use a secret: it names it, or takes all of them at once.
fn uses(text: &str, name: &str) -> bool {
    const CONTEXT: &str = "secrets";
    let text = text.to_ascii_lowercase();
    text.match_indices(CONTEXT).any(|(at, _)| {
        let behind = text[at + CONTEXT.len()..].trim_start();
        match behind.strip_prefix('.').map(str::trim_start) {
            Some(named) => {
                let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                let end = named.find(|c| !is_word(c)).unwrap_or(named.len());
                named[..end].eq_ignore_ascii_case(name) || named.starts_with('*')
            }
            None => behind.starts_with(['[', ')', '}', ',', '&', '|', '=', '!', '<', '>']),
        }
    })
}

/// The secrets of a leg: those of the project as its callers pass them on, and those of its environment.
fn secrets(chain: &Chain, opened: &Opened) -> Result<BTreeMap<String, String>, String> {
    let foreign = chain.first().is_some_and(|link| link.row.facts.foreign);
    let mut passed = match foreign {
        true => BTreeMap::new(),
        false => opened.secrets.clone(),
    };
    let token = || (TOKEN.to_owned(), opened.token.clone());
    passed.extend([token()]);
    for pair in chain.windows(2).rev() {
        let [called, caller] = pair else { continue };
        let Some(id) = called.row.parent.as_ref().map(|parent| &parent.leg) else {
            continue;
        };
        let given = call(caller, id).map(|call| &call.secrets);
        passed = match given {
            Some(GivenSecrets::Inherit) => passed,
            Some(GivenSecrets::None) | None => BTreeMap::new(),
            Some(GivenSecrets::Named(named)) => {
                let mut known = Known::of_leg(&caller.row.change.state, &caller.defined.of(), id);
                known.whole("secrets", texts(&passed));
                let given = match named {
                    Dynamic::Expression(expression) => known.expression(expression),
                    Dynamic::Fixed(map) => object(&known, &map.value),
                };
                match certain("`secrets`", given)? {
                    Value::Object(object) => {
                        let entries = object.iter();
                        entries
                            .map(|(name, value)| (name.to_owned(), value.to_text().into_owned()))
                            .collect()
                    }
                    _ => return Err("`secrets` must be names with values".to_owned()),
                }
            }
        };
        passed.extend([token()]);
    }
    if !foreign {
        passed.extend(opened.environment_secrets.clone());
    }
    Ok(passed)
}

fn object(
    known: &Known,
    map: &IndexMap<String, havre_workflow::Spanned<havre_workflow::Data>>,
) -> Answer<Value> {
    let mut object = Object::default();
    for (name, data) in map {
        match known.data(&data.value) {
            Answer::Known(value) => object.insert(name.as_str(), value),
            other => return other,
        }
    }
    Answer::Known(object.into())
}

fn texts(map: &BTreeMap<String, String>) -> Object {
    let entries = map.iter();
    entries
        .map(|(name, value)| (name.as_str(), Value::from(value.as_str())))
        .collect()
}

/// What is written at the job, or else at its workflow, and no more than what calls it may do. What comes from outside
/// reads.
fn permissions(chain: &Chain, id: &LegId) -> Permissions {
    let mut all: Option<Permissions> = None;
    let mut at = Some(id);
    for link in chain {
        let workflow = &link.defined.workflow;
        let job = at.and_then(|id| workflow.jobs.get(&id.job));
        let of_job = job.and_then(|job| job.permissions.as_ref());
        let written = of_job.or(workflow.permissions.as_ref());
        let parent = link.row.parent.as_ref();
        let own = match (written, parent) {
            (Some(written), _) => Some(Permissions::of(&written.granted)),
            (None, None) => Some(Permissions::USUAL),
            (None, Some(_)) => None,
        };
        all = match (all, own) {
            (Some(all), Some(own)) => Some(all.and(own)),
            (all, own) => all.or(own),
        };
        at = parent.map(|parent| &parent.leg);
    }
    let all = all.unwrap_or(Permissions::USUAL);
    match chain.first().is_some_and(|link| link.row.facts.foreign) {
        true => all.and(Permissions::USUAL),
        false => all,
    }
}

/// What is written nearest: at the job, at its workflow, or where that is called.
fn cache_mode(chain: &Chain, id: &LegId) -> Option<CacheMode> {
    nearest(
        chain,
        id,
        |job| job.cache_mode,
        |link| link.defined.workflow.cache_mode,
    )
}

fn nearest<T>(
    chain: &Chain,
    id: &LegId,
    of_job: impl Fn(&Job) -> Option<T>,
    of_workflow: impl Fn(&Link) -> Option<T>,
) -> Option<T> {
    let mut at = Some(id);
    for link in chain {
        let job = at.and_then(|id| link.defined.workflow.jobs.get(&id.job));
        let found = job.and_then(&of_job).or_else(|| of_workflow(link));
        if found.is_some() {
            return found;
        }
        at = link.row.parent.as_ref().map(|parent| &parent.leg);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::uses;

    #[test]
    fn only_secrets_that_a_file_uses_get_into_a_box() {
        for (text, expected) in [
            ("run: echo ${{ secrets.API_KEY }}", true),
            ("run: echo ${{ SECRETS.api_key }}", true),
            ("run: echo ${{ secrets . api_key }}", true),
            ("run: echo ${{ secrets['API_KEY'] }}", true),
            ("run: echo ${{ toJSON(secrets) }}", true),
            ("run: echo ${{ secrets.API_KEY_2 }}", false),
            ("secrets: inherit", false),
            ("# secrets are not for steps", false),
            ("run: echo", false),
        ] {
            assert_eq!(uses(text, "API_KEY"), expected, "{text}");
        }
    }
}
