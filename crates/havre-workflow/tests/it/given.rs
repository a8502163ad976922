//! GitHub's own cases for readers of workflows, where they are at hand: beside the project, in
//! `shared/conformance/workflows`, or below `HAVRE_CONFORMANCE`. Each file has options, a workflow (and workflows that it calls),
//! and what is expected: jobs, or errors with their places.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use havre_workflow::calls::{self, Called, Policy};
use havre_workflow::{
    Action, Data, Diagnostic, Dynamic, Limits, Part, Read, RunsOn, Spanned, Template, UsedAction,
    Work, Workflow, read,
};
use serde_json::{Value, json};

/// Where our findings differ, and why.
const DIFFERENCES: &[(&str, &str)] = &[
    (
        "errors-anchor-tag.yml",
        "anchors are read since September 2025",
    ),
    (
        "errors-step-uses-syntax.yml",
        "`docker://` without an image is refused as well",
    ),
    (
        "errors-reusable-workflow-max-result-size.yml",
        "the size of what a reader returns is no limit here",
    ),
    (
        "events-mapping-all.yml",
        "`branches` beside `branches-ignore` is refused, as GitHub's service does",
    ),
    (
        "step-run.yml",
        "an expression without names stays one until the job runs",
    ),
    (
        "insert.yml",
        "`${{ insert }}` is not documented; a key may not be an expression",
    ),
];

struct Case {
    name: String,
    options: BTreeMap<String, String>,
    workflow: String,
    called: BTreeMap<String, String>,
    expected: Value,
}

/// Where the cases are, if they are at hand.
pub fn folder() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let given = std::env::var_os("HAVRE_CONFORMANCE").map(PathBuf::from);
    let places = given
        .into_iter()
        .chain([root.join("../shared/conformance")]);
    let found = places
        .map(|place| place.join("workflows"))
        .find(|folder| folder.is_dir());
    if found.is_none() {
        println!("skipped: needs conformance/workflows in ../shared, or in HAVRE_CONFORMANCE");
    }
    found
}

fn case(path: &Path) -> Case {
    let text = fs::read_to_string(path).unwrap();
    let mut parts: Vec<String> = vec![String::new()];
    for line in text.lines() {
        if line.trim_end() == "---" {
            parts.push(String::new());
        } else {
            let last = parts.last_mut().unwrap();
            last.push_str(line);
            last.push('\n');
        }
    }
    let options = parts[0].lines().filter_map(|line| {
        let line = line.split(" #").next().unwrap_or_default();
        let (name, value) = line.split_once(':')?;
        Some((name.trim().to_owned(), value.trim().to_owned()))
    });
    let called = parts[2..parts.len() - 1].chunks_exact(2);
    Case {
        name: path.file_name().unwrap().to_string_lossy().into_owned(),
        options: options.collect(),
        workflow: parts[1].trim_end().to_owned(),
        called: called
            .map(|pair| (pair[0].trim().to_owned(), pair[1].clone()))
            .collect(),
        expected: serde_json::from_str(&parts[parts.len() - 1]).unwrap(),
    }
}

/// Lines and columns that a message names: those of the first file.
fn places(expected: &Value) -> Vec<Option<(u32, u32)>> {
    let errors = expected["errors"].as_array().into_iter().flatten();
    let place = |message: &str| {
        let (_, rest) = message.split_once("(Line: ")?;
        let (line, rest) = rest.split_once(", Col: ")?;
        let (column, _) = rest.split_once(')')?;
        Some((line.parse().ok()?, column.parse().ok()?))
    };
    errors
        .map(|error| place(error["Message"].as_str().unwrap_or_default()))
        .collect()
}

/// The findings that are errors, and the workflow where there are none.
fn ours(case: &Case) -> (Vec<Diagnostic>, Option<Workflow>) {
    let mut limits = Limits::default();
    let number = |name: &str| case.options.get(name).and_then(|text| text.parse().ok());
    if let Some(depth) = number("max-depth") {
        limits.depth = depth;
    }
    if let Some(jobs) = number("max-job-limit") {
        limits.jobs = jobs;
    }
    if let Some(calls) = number("max-nested-reusable-workflows-depth") {
        limits.calls = calls;
    }
    let policy = match case.options.get("permissions-policy").map(String::as_str) {
        Some("LimitedRead") => Policy::Restricted,
        _ => Policy::Permissive,
    };
    let root = Path::new("/p");
    let file = root.join(".github/workflows").join(&case.name);
    let read = match read(root, &file, &case.workflow, &limits) {
        Ok(read) => read,
        Err(failure) => return (failure.errors, None),
    };
    let called: BTreeMap<&str, Result<Read, Vec<Diagnostic>>> = case
        .called
        .iter()
        .map(|(name, text)| {
            let read = havre_workflow::read(root, Path::new(name), text, &limits);
            (name.as_str(), read.map_err(|failure| failure.errors))
        })
        .collect();
    let errors = calls::check(&read, policy, &limits, &|uses| match called
        .get(uses.to_string().as_str())
    {
        Some(Ok(read)) => Called::Read(&read.workflow),
        Some(Err(_)) => Called::Broken,
        None => Called::Elsewhere,
    });
    (errors, Some(read.workflow))
}

/// What differs, or nothing.
fn judge(case: &Case) -> Result<(), String> {
    let (errors, workflow) = ours(case);
    let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
    if case.expected.get("errors").is_none() {
        let Some(workflow) = workflow.filter(|_| errors.is_empty()) else {
            return Err(format!("is refused:\n{}", told.join("\n")));
        };
        return alike(&case.expected, &workflow);
    }
    if errors.is_empty() {
        return Err("is not refused".to_owned());
    }
    let found: BTreeSet<(u32, u32)> = errors
        .iter()
        .filter_map(|error| error.location.as_ref())
        .map(|at| (at.line, at.column))
        .collect();
    let expected: BTreeSet<(u32, u32)> = places(&case.expected).into_iter().flatten().collect();
    // Inside a value, ours are exact: theirs are the value's beginning.
    let inside = |ours: &(u32, u32), theirs: &(u32, u32)| {
        let code = errors.iter().find(|error| {
            let at = error.location.as_ref();
            at.is_some_and(|at| (at.line, at.column) == *ours)
        });
        let in_expression = code.is_some_and(|error| {
            matches!(
                error.code,
                "workflow/expression" | "workflow/context" | "workflow/function"
            )
        });
        // Where nothing is written, theirs is one further.
        let empty = code.is_some_and(|error| error.message.ends_with("not empty"));
        ours == theirs
            || empty && ours.0 == theirs.0 && ours.1 + 1 == theirs.1
            || in_expression && ours.0 == theirs.0 && ours.1 > theirs.1
    };
    let missing: Vec<_> = expected
        .iter()
        .filter(|theirs| !found.iter().any(|ours| inside(ours, theirs)))
        .collect();
    let named = !expected.is_empty();
    let more: Vec<_> = found
        .iter()
        .filter(|ours| named && !expected.iter().any(|theirs| inside(ours, theirs)))
        .collect();
    if missing.is_empty() && more.is_empty() {
        return Ok(());
    }
    let told = told.join("\n");
    Err(format!("not at {missing:?}, but at {more:?}:\n{told}"))
}

/// Whether the model says what is expected about jobs and steps.
fn alike(expected: &Value, workflow: &Workflow) -> Result<(), String> {
    let jobs = expected["jobs"].as_array().cloned().unwrap_or_default();
    let theirs: Vec<Value> = jobs
        .iter()
        .map(|job| summary(job, case_of_call(job)))
        .collect();
    let ours: Vec<Value> = workflow.jobs.values().map(our_summary).collect();
    if theirs == ours {
        return Ok(());
    }
    Err(format!(
        "reads\n{}\ninstead of\n{}",
        json!(ours),
        json!(theirs)
    ))
}

fn case_of_call(job: &Value) -> bool {
    job.get("steps").is_none() && job.get("runs-on").is_none()
}

fn summary(job: &Value, is_call: bool) -> Value {
    let steps = job["steps"].as_array().into_iter().flatten();
    let steps: Vec<Value> = steps
        .map(|step| {
            let id = step["id"].as_str().filter(|id| !id.starts_with("__"));
            json!({
                "id": id,
                "run": script(&plain(&step["run"])),
                "uses": plain(&step["uses"]),
            })
        })
        .collect();
    let vectors =
        entry(&job["strategy"], "matrix").and_then(|matrix| matrix["map"].as_array().cloned());
    let vectors: Vec<Value> = vectors
        .into_iter()
        .flatten()
        .filter(|pair| pair["Value"]["type"] == 1)
        .filter(|pair| pair["Key"] != "include" && pair["Key"] != "exclude")
        .map(|pair| json!([pair["Key"], data(&pair["Value"])]))
        .collect();
    json!({
        "id": plain(&job["id"]),
        "call": is_call,
        "needs": texts(&job["needs"]),
        "runs-on": plain(&job["runs-on"]),
        "steps": steps,
        "matrix": vectors,
    })
}

fn entry(value: &Value, key: &str) -> Option<Value> {
    let pairs = value["map"].as_array()?;
    let pair = pairs.iter().find(|pair| pair["Key"] == key)?;
    Some(pair["Value"].clone())
}

/// A text, or the only one of a list; expressions and what is no text are left out.
fn plain(value: &Value) -> Value {
    let only = value["seq"].as_array().filter(|items| items.len() == 1);
    match only.map_or(value, |items| &items[0]) {
        Value::String(text) => json!(text),
        Value::Object(object) => object.get("lit").cloned().unwrap_or_default(),
        _ => Value::Null,
    }
}

/// The cases end without the last line's end.
fn script(value: &Value) -> Value {
    let text = value.as_str();
    text.map_or(Value::Null, |text| json!(text.trim_end()))
}

fn texts(value: &Value) -> Value {
    let items = value.as_array().into_iter().flatten();
    items.map(plain).collect()
}

/// Their way to write values.
fn data(value: &Value) -> Value {
    match (value.get("seq"), value.get("map")) {
        (Some(items), _) => items.as_array().unwrap().iter().map(data).collect(),
        (_, Some(pairs)) => {
            let pairs = pairs.as_array().unwrap().iter();
            pairs
                .map(|pair| {
                    (
                        pair["Key"].as_str().unwrap().to_owned(),
                        data(&pair["Value"]),
                    )
                })
                .collect::<serde_json::Map<_, _>>()
                .into()
        }
        _ if value.get("type").is_some() => Value::Null,
        _ => match value.as_f64() {
            Some(number) => json!(number),
            None => value.clone(),
        },
    }
}

fn our_summary(job: &havre_workflow::Job) -> Value {
    let (runs_on, steps) = match &job.work {
        Work::Call(_) => (Value::Null, Vec::new()),
        Work::Steps(work) => {
            let runs_on = match &work.runs_on {
                RunsOn::Labels(labels) if labels.len() == 1 => text(&labels[0]),
                RunsOn::Labels(_) | RunsOn::Expression(_) => Value::Null,
            };
            (runs_on, work.steps.iter().map(our_step).collect())
        }
    };
    let strategy = job.strategy.as_ref().and_then(Dynamic::fixed);
    let matrix = strategy.and_then(|strategy| strategy.matrix.as_ref()?.fixed());
    let vectors = matrix.into_iter().flat_map(|matrix| &matrix.vectors);
    let vectors: Vec<Value> = vectors
        .filter_map(|(name, values)| Some(json!([name, list(values.fixed()?)])))
        .collect();
    let needs: Vec<&str> = job.needs.iter().map(|need| need.value.as_str()).collect();
    json!({
        "id": job.id.value,
        "call": matches!(job.work, Work::Call(_)),
        "needs": needs,
        "runs-on": runs_on,
        "steps": steps,
        "matrix": vectors,
    })
}

fn our_step(step: &havre_workflow::Step) -> Value {
    let (run, uses) = match &step.action {
        Action::Run { script, .. } => (self::script(&text(script)), Value::Null),
        Action::Uses { action, .. } => (Value::Null, used(&action.value)),
        _ => (Value::Null, Value::Null),
    };
    json!({ "id": step.id.as_ref().map(|id| &id.value), "run": run, "uses": uses })
}

fn used(action: &UsedAction) -> Value {
    match action {
        UsedAction::Image(image) => json!(format!("docker://{image}")),
        UsedAction::Workspace(path) => json!(path),
        UsedAction::Own(path) => json!(format!("$/{path}")),
        UsedAction::Remote(remote) => json!(remote.to_string()),
    }
}

fn text(template: &Template) -> Value {
    template.fixed().map_or(Value::Null, |text| json!(text))
}

fn list(values: &[Spanned<Data>]) -> Value {
    values.iter().map(|value| our_data(&value.value)).collect()
}

fn our_data(data: &Data) -> Value {
    match data {
        Data::Null => Value::Null,
        Data::Boolean(value) => json!(value),
        Data::Number(number) if number.is_infinite() => json!("Infinity"),
        Data::Number(number) => json!(number),
        Data::Text(template) => match template.parts.as_slice() {
            [Part::Text(text)] => json!(text),
            [] => json!(""),
            _ => Value::Null,
        },
        Data::List(items) => list(items),
        Data::Map(map) => {
            let pairs = map
                .iter()
                .map(|(name, value)| (name.clone(), our_data(&value.value)));
            pairs.collect::<serde_json::Map<_, _>>().into()
        }
    }
}

#[test]
fn the_given_cases_agree() {
    let Some(folder) = folder() else {
        return;
    };
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yml"))
        .collect();
    files.sort();
    assert!(files.len() > 90, "only {} cases", files.len());
    let mut faults = Vec::new();
    for path in &files {
        let case = case(path);
        let difference = DIFFERENCES.iter().find(|(name, _)| *name == case.name);
        match (judge(&case), difference) {
            (Ok(()), None) | (Err(_), Some(_)) => {}
            (Ok(()), Some((name, why))) => faults.push(format!("{name} agrees, although {why}")),
            (Err(fault), None) => faults.push(format!("{} {fault}", case.name)),
        }
    }
    assert!(
        faults.is_empty(),
        "{} differ:\n\n{}",
        faults.len(),
        faults.join("\n\n")
    );
}
