//! What a box is told of its leg: from the run, those that called it, and what its gate gave.

use std::collections::BTreeMap;

use havre_pipeline::run::LegId;
use havre_pipeline::{Answer, Json, Known, Object, Value};
use havre_workflow::{
    CacheMode, Call, Container, Dynamic, GivenSecrets, Granted, Job, Pairs, StepsJob, Template,
    Work,
};
use indexmap::IndexMap;

use crate::defined::{Defined, certain};
use crate::ports::{Asked, ContainerStart, LegKey, LegStart, Opened};
use crate::row::Row;

/// GitHub's name of the secret that holds a job's token.
const TOKEN: &str = "GITHUB_TOKEN";
/// Most services of a job, ports or volumes of a container.
const MAX_MANY: usize = 100;

/// A run and what it runs.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) row: Row,
    pub(crate) defined: Defined,
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
    let secrets = secrets(chain, opened)?;
    let mut vars = row.contexts.vars.clone();
    vars.extend(opened.vars.clone());

    let mut known = Known::of_leg(&row.change.state, &link.defined.of(), id);
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
    let (container, services) = containers(link, job, steps, known)?;
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
        workflow: row.text.to_string(),
        contexts,
        masks,
        labels: leg.runs_on.clone(),
        environment: leg.environment.clone(),
        container,
        services,
        permissions: permissions(chain, id),
        cache_mode: cache_mode(chain, id),
        timeout_ms: leg.timeout,
    })
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

/// What is written nearest: at the job, at its workflow, or where that is called.
fn permissions(chain: &Chain, id: &LegId) -> Option<Granted> {
    nearest(
        chain,
        id,
        |job| job.permissions.as_ref().map(|of| of.granted.clone()),
        |link| {
            let of = link.defined.workflow.permissions.as_ref();
            of.map(|of| of.granted.clone())
        },
    )
}

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

type Containers = (Option<ContainerStart>, Vec<(String, ContainerStart)>);

fn containers(
    link: &Link,
    job: &Job,
    steps: &StepsJob,
    mut known: Known,
) -> Result<Containers, String> {
    if steps.container.is_none() && steps.services.is_none() {
        return Ok((None, Vec::new()));
    }
    let mut env = Object::default();
    known.whole("env", env.clone());
    for pairs in [link.defined.workflow.env.as_ref(), steps.env.as_ref()] {
        for (name, value) in self::pairs("`env`", pairs, &known)? {
            env.insert(name, value);
        }
        known.whole("env", env.clone());
    }
    let container = match &steps.container {
        None => None,
        Some(container) => one("`container`", container, &known)?,
    };
    let services = match &steps.services {
        None => Vec::new(),
        Some(Dynamic::Fixed(services)) => {
            let mut found = Vec::new();
            for (name, service) in &services.value {
                let service = one(&format!("service `{name}`"), service, &known)?;
                found.extend(service.map(|service| (name.clone(), service)));
            }
            found
        }
        Some(Dynamic::Expression(expression)) => {
            match certain("`services`", known.expression(expression))? {
                Value::Null => Vec::new(),
                Value::Object(services) => {
                    let mut found = Vec::new();
                    for (name, service) in services.iter() {
                        let service = of_value(&format!("service `{name}`"), service)?;
                        found.extend(service.map(|service| (name.to_owned(), service)));
                    }
                    found
                }
                _ => return Err("`services` must be names with containers".to_owned()),
            }
        }
    };
    match services.len() > MAX_MANY {
        true => Err(format!(
            "job `{}` has more than {MAX_MANY} services",
            job.id.value
        )),
        false => Ok((container, services)),
    }
}

fn pairs(
    what: &str,
    pairs: Option<&Pairs>,
    known: &Known,
) -> Result<Vec<(String, String)>, String> {
    match pairs {
        None => Ok(Vec::new()),
        Some(Dynamic::Fixed(pairs)) => {
            let pairs = pairs.value.iter();
            pairs
                .map(|(name, pair)| {
                    let what = format!("{what}: `{name}`");
                    Ok((name.clone(), certain(&what, known.text(&pair.value))?))
                })
                .collect()
        }
        Some(Dynamic::Expression(expression)) => {
            of_names(what, &certain(what, known.expression(expression))?)
        }
    }
}

fn of_names(what: &str, value: &Value) -> Result<Vec<(String, String)>, String> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Object(object) => {
            let entries = object.iter();
            Ok(entries
                .map(|(name, value)| (name.to_owned(), value.to_text().into_owned()))
                .collect())
        }
        _ => Err(format!("{what} must be names with values")),
    }
}

/// `None` where the image is an empty text.
fn one(
    what: &str,
    container: &Dynamic<Container>,
    known: &Known,
) -> Result<Option<ContainerStart>, String> {
    let container = match container {
        Dynamic::Fixed(container) => &container.value,
        Dynamic::Expression(expression) => {
            return of_value(what, &certain(what, known.expression(expression))?);
        }
    };
    let text = |template: &Template| certain(what, known.text(template));
    let maybe = |template: &Option<Template>| template.as_ref().map(text).transpose();
    let many = |templates: &[Template]| templates.iter().map(text).collect::<Result<Vec<_>, _>>();
    let image = text(&container.image)?;
    if image.is_empty() {
        return Ok(None);
    }
    let credentials = match &container.credentials {
        None => None,
        Some(of) => maybe(&of.username)?.zip(maybe(&of.password)?),
    };
    bounded(
        what,
        ContainerStart {
            image,
            options: maybe(&container.options)?.unwrap_or_default(),
            env: pairs(what, container.env.as_ref(), known)?,
            ports: many(&container.ports)?,
            volumes: many(&container.volumes)?,
            credentials,
            entrypoint: maybe(&container.entrypoint)?,
            command: maybe(&container.command)?,
        },
    )
    .map(Some)
}

/// A container that an expression gave.
fn of_value(what: &str, value: &Value) -> Result<Option<ContainerStart>, String> {
    let none = Object::default();
    let (image, object) = match value {
        Value::Null => return Ok(None),
        Value::String(image) => (image.to_string(), &none),
        Value::Object(object) => {
            let image = object
                .get("image")
                .map(|image| image.to_text().into_owned());
            (image.unwrap_or_default(), &**object)
        }
        _ => return Err(format!("{what} must be an image or a mapping")),
    };
    if image.is_empty() {
        return Ok(None);
    }
    let maybe = |name: &str| match object.get(name) {
        None | Some(Value::Null) => None,
        Some(value) => Some(value.to_text().into_owned()),
    };
    let many = |name: &str| match object.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) => Ok(items
            .iter()
            .map(|item| item.to_text().into_owned())
            .collect()),
        Some(_) => Err(format!("{what}: `{name}` must be a list")),
    };
    let credentials = match object.get("credentials") {
        Some(Value::Object(of)) => {
            let part = |name: &str| of.get(name).map(|value| value.to_text().into_owned());
            part("username").zip(part("password"))
        }
        _ => None,
    };
    bounded(
        what,
        ContainerStart {
            image,
            options: maybe("options").unwrap_or_default(),
            env: of_names(what, object.get("env").unwrap_or(&Value::Null))?,
            ports: many("ports")?,
            volumes: many("volumes")?,
            credentials,
            entrypoint: maybe("entrypoint"),
            command: maybe("command"),
        },
    )
    .map(Some)
}

fn bounded(what: &str, container: ContainerStart) -> Result<ContainerStart, String> {
    let most = [container.ports.len(), container.volumes.len()];
    match most.into_iter().any(|count| count > MAX_MANY) {
        true => Err(format!("{what} has more than {MAX_MANY} ports or volumes")),
        false => Ok(container),
    }
}
