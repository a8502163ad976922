//! Why a job of a run runs, does not, or waits: for a person.

use havre_expressions::Value;
use havre_workflow::{Condition, Job, Part};

use super::step::{before, needs};
use super::{Definition, JobResult, JobRun, JobState, Run};
use crate::known::{Before, Known};

/// Longest condition and longest value that are shown, in characters.
const MAX_TEXT: usize = 300;
const MAX_VALUE: usize = 80;
/// Most values that are shown.
const MAX_VALUES: usize = 5;

/// Why a job is as it is; `None` where the workflow has no such job.
pub fn why(run: &Run, of: &Definition<'_>, id: &str) -> Option<String> {
    let (job, state) = (of.job(id)?, &run.job(id)?.state);
    Some(match state {
        JobState::Broken(why) => why.clone(),
        JobState::NotAsked => "nobody asked for it".to_owned(),
        JobState::Waiting => match unended(run, job).as_slice() {
            [] => "it is about to be judged".to_owned(),
            needs => format!("it waits for {}", needs.join(", ")),
        },
        JobState::Begun { .. } => match (&job.condition, job.needs.is_empty()) {
            (Some(condition), _) => {
                let (text, values) = shown(run, of, id, condition);
                format!("its `if` holds: `{text}`{values}")
            }
            (None, true) => "nothing comes before it".to_owned(),
            (None, false) => format!("{} before it succeeded", names(job)),
        },
        JobState::Skipped => skipped(run, of, id, job),
    })
}

fn skipped(run: &Run, of: &Definition<'_>, id: &str, job: &Job) -> String {
    let asks = job.condition.as_ref().is_some_and(|it| it.asks_status);
    let before = before(run, of, id);
    if !asks && before != Before::Succeeded {
        if before == Before::Cancelled {
            return "the run was cancelled before it began".to_owned();
        }
        let ended = job.needs.iter().filter_map(|need| {
            let result = run.job(&need.value).and_then(JobRun::result)?;
            (result != JobResult::Success).then(|| format!("`{}` was {}", need.value, word(result)))
        });
        let ended: Vec<String> = ended.collect();
        return match ended.is_empty() {
            // Something further up.
            true => "a job before those that it needs did not succeed".to_owned(),
            false => ended.join(", "),
        };
    }
    match &job.condition {
        Some(condition) => {
            let (text, values) = shown(run, of, id, condition);
            format!("its `if` does not hold: `{text}`{values}")
        }
        None => "the run was cancelled before it began".to_owned(),
    }
}

fn word(result: JobResult) -> &'static str {
    match result {
        JobResult::Success => "successful",
        JobResult::Failure => "a failure",
        JobResult::Cancelled => "cancelled",
        JobResult::Skipped => "skipped",
    }
}

fn unended(run: &Run, job: &Job) -> Vec<String> {
    let left = job.needs.iter().filter(|need| {
        let found = run.job(&need.value);
        found.is_some_and(|need| need.result().is_none())
    });
    left.map(|need| format!("`{}`", need.value)).collect()
}

fn names(job: &Job) -> String {
    let names: Vec<String> = job
        .needs
        .iter()
        .map(|need| format!("`{}`", need.value))
        .collect();
    names.join(", ")
}

/// A condition as it is written, and what it is about.
fn shown(run: &Run, of: &Definition<'_>, id: &str, condition: &Condition) -> (String, String) {
    let mut known = of.known.clone();
    known.whole("needs", needs(run, of, id));
    let mut text = String::new();
    let mut values: Vec<String> = Vec::new();
    for part in &condition.template.parts {
        match part {
            Part::Text(part) => text.push_str(part),
            Part::Expression(expression) => {
                text.push_str(&expression.text);
                for used in &expression.uses.contexts {
                    let name = format!("{}.{}", used.context, used.path.join("."));
                    let value = value(&known, &used.context, &used.path);
                    let told = value.map(|value| format!("{name} is {value}"));
                    values.extend(told.filter(|told| !values.contains(told)));
                }
            }
        }
    }
    values.truncate(MAX_VALUES);
    let values = match values.is_empty() {
        true => String::new(),
        false => format!(" ({})", values.join(", ")),
    };
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    (cut(&text, MAX_TEXT), values)
}

/// What a name stands for, where it is one value.
fn value(known: &Known, context: &str, path: &[String]) -> Option<String> {
    if path.is_empty() {
        return None;
    }
    let mut found = known.context(context)?;
    for name in path {
        let Value::Object(object) = found else {
            return None;
        };
        found = match object.get(name) {
            Some(value) => value,
            None => return Some("empty".to_owned()),
        };
    }
    // What somebody typed may be for few; whether it is true is for all who see the run.
    let is_given = context == "inputs" || path.first().is_some_and(|name| name == "event");
    match found {
        Value::String(_) if is_given => None,
        Value::Null => Some("empty".to_owned()),
        Value::Bool(_) | Value::Number(_) => Some(found.to_text().into_owned()),
        Value::String(text) if text.is_empty() => Some("empty".to_owned()),
        Value::String(text) => Some(format!("'{}'", cut(text, MAX_VALUE))),
        Value::Array(_) | Value::Object(_) => None,
    }
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
