//! What expressions know: contexts that came with the document, completed by what the runner knows.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use havre_job::Document;
use havre_pipeline::{Answer, Before, Known, Object, Value};
use havre_workflow::Pairs;

use crate::environment::{self, Env};
use crate::hash;

/// Contexts that stay the same for the whole job, and `github`, of which each step has its own.
pub(crate) struct Base {
    /// All but `env`, `github`, `job`, `steps`.
    pub known: Known,
    /// Without what belongs to a step.
    pub github: Object,
    /// Without its status.
    pub job: Object,
}

/// What the document's contexts lack is empty.
pub(crate) fn base(document: &Document, event_path: &Path) -> Result<Base, String> {
    let read = |name: &str| match document.contexts.get(name) {
        None => Ok(Object::default()),
        Some(text) => match Value::from_json(text) {
            Ok(Value::Object(object)) => Ok(Object::clone(&object)),
            Ok(Value::Null) => Ok(Object::default()),
            Ok(_) => Err(format!("the context `{name}` is no mapping")),
            Err(error) => Err(format!("the context `{name}` cannot be read: {error}")),
        },
    };
    let mut known = Known::default();
    for name in ["needs", "strategy", "matrix", "inputs", "vars", "secrets"] {
        known.whole(name, read(name)?);
    }
    let runner = &document.runner;
    let mut about = Object::default();
    let debug = if document.debug { "1" } else { "" };
    for (name, value) in [
        ("name", runner.name.as_str()),
        ("os", "Linux"),
        ("arch", &runner.arch),
        ("temp", &runner.temp),
        ("tool_cache", &runner.tool_cache),
        ("workspace", environment::parent(&runner.workspace)),
        ("debug", debug),
        ("environment", "self-hosted"),
    ] {
        if !value.is_empty() {
            about.insert(name, value);
        }
    }
    known.whole("runner", about);
    let workspace = PathBuf::from(&runner.workspace);
    known.files(Arc::new(move |patterns: &[Arc<str>]| {
        let patterns: Vec<&str> = patterns.iter().map(AsRef::as_ref).collect();
        hash::hash_files(&workspace, &patterns)
    }));
    let mut github = read("github")?;
    github.insert("workspace", runner.workspace.as_str());
    github.insert("event_path", event_path.to_string_lossy().as_ref());
    if github.get("job").is_none() {
        github.insert("job", document.job.as_str());
    }
    let mut job = read("job")?;
    let given = match document.runner.job_context.trim() {
        "" => Value::Null,
        text => Value::from_json(text)
            .map_err(|error| format!("the job's context cannot be read: {error}"))?,
    };
    if let Value::Object(given) = given {
        for (name, value) in given.iter() {
            job.insert(name, value.clone());
        }
    }
    Ok(Base { known, github, job })
}

/// Texts of a context, by their names.
pub(crate) fn texts_of(
    document: &Document,
    context: &str,
    wanted: impl Fn(&str) -> bool,
) -> Vec<String> {
    let text = document.contexts.get(context);
    let value = text.and_then(|text| Value::from_json(text).ok());
    match value {
        Some(Value::Object(object)) => {
            let values = object.iter().filter(|(name, _)| wanted(name));
            values
                .map(|(_, value)| value.to_text().into_owned())
                .collect()
        }
        _ => Vec::new(),
    }
}

/// The value, or why there is none: a runner waits for nothing.
pub(crate) fn settled<T>(answer: Answer<T>) -> Result<T, String> {
    match answer {
        Answer::Known(value) => Ok(value),
        Answer::Waits(names) => Err(format!("there is no `{}` here", names.join("`, `"))),
        Answer::Wrong(why) => Err(why),
    }
}

/// Names and texts; later ones cannot see earlier ones.
pub(crate) fn pairs(known: &Known, pairs: Option<&Pairs>) -> Result<Env, String> {
    let mut env = Env::new();
    match pairs {
        None => {}
        Some(havre_workflow::Dynamic::Fixed(pairs)) => {
            for (name, pair) in &pairs.value {
                let value = settled(known.text(&pair.value));
                env.insert(
                    name.clone(),
                    value.map_err(|why| format!("`{name}`: {why}"))?,
                );
            }
        }
        Some(havre_workflow::Dynamic::Expression(expression)) => {
            match settled(known.expression(expression))? {
                Value::Object(object) => {
                    let pairs = object.iter();
                    env.extend(pairs.map(|(name, value)| (name.into(), value.to_text().into())));
                }
                Value::Null => {}
                _ => return Err("the expression gives no mapping".to_owned()),
            }
        }
    }
    Ok(env)
}

/// As a context.
pub(crate) fn object(env: &Env) -> Object {
    let pairs = env.iter();
    pairs
        .map(|(name, value)| (name.as_str(), Value::from(value.as_str())))
        .collect()
}

/// How it went so far.
pub(crate) fn before(cancelled: bool, failed: bool) -> Before {
    match (cancelled, failed) {
        (true, _) => Before::Cancelled,
        (false, true) => Before::Failed,
        (false, false) => Before::Succeeded,
    }
}

/// As `job.status` says it.
pub(crate) fn status(before: Before) -> &'static str {
    match before {
        Before::Succeeded => "success",
        Before::Failed | Before::Incomplete => "failure",
        Before::Cancelled => "cancelled",
    }
}
