//! `container` and `services` of a job, evaluated.

use havre_pipeline::{Known, Object, Value};
use havre_workflow::{Container, Dynamic, Job, Pairs, StepsJob, Template};

use super::Link;
use crate::defined::certain;
use crate::ports::ContainerStart;

/// Most services of a job, ports or volumes of a container.
const MAX_MANY: usize = 100;

/// The job's container, if one is wanted, and its services.
pub(super) type Containers = (Option<ContainerStart>, Vec<(String, ContainerStart)>);

pub(super) fn containers(
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
