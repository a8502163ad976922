//! What a workflow will do, as far as that is known before it did anything.

use std::collections::HashMap;

use havre_expressions::{Object, Value};
use havre_workflow::{self as workflow, Dynamic, Job, RunsOn, Work, Workflow};

use crate::known::{Answer, Before, Known, all};
use crate::matrix;

/// Minutes that a job may take where it does not say; GitHub's.
const TIMEOUT: f64 = 360.0;
/// Minutes that a job may ask for: GitHub's bound for runners of one's own, five days.
const MAX_TIMEOUT: f64 = 7200.0;
/// Longest part of a name that a matrix adds, in characters; GitHub's bound.
const MAX_SUFFIX: usize = 100;
/// Longest name of a leg, in characters: what is longer is cut. There may be 256 legs, and each keeps its own.
const MAX_NAME: usize = 1000;
/// Longest name of a group, an environment or a label, in bytes: what is longer is refused.
const MAX_WORD: usize = 1000;
/// Most labels of what a leg runs on.
const MAX_LABELS: usize = 100;

/// What a whole plan, or the legs of one job, may use up: a few seconds at the very worst.
const BUDGET: usize = 8;
/// Minutes that a job may take that calls a workflow: the jobs of that one have bounds of their own. GitHub's bound of a
/// run.
const CALL_TIMEOUT: f64 = 35.0 * 24.0 * 60.0;

/// What a workflow will do.
#[derive(Clone, Debug)]
pub struct Plan<'w> {
    /// What a run is called, where the file says so.
    pub run_name: Option<Answer<String>>,
    /// What may not run beside it.
    pub group: Option<Group>,
    /// In an order in which they can run; those of one stage in the order of the file.
    pub jobs: Vec<PlannedJob<'w>>,
}

/// What may not run at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// What has the same name waits for each other.
    pub name: Answer<String>,
    /// Whether a new one ends the one that runs.
    pub cancel_in_progress: Answer<bool>,
    /// Whether up to 100 wait, instead of the newest alone.
    pub queue_all: bool,
}

/// A job, and what it makes of itself.
#[derive(Clone, Debug)]
pub struct PlannedJob<'w> {
    /// As the file has it.
    pub job: &'w Job,
    /// How many jobs come before it in a row.
    pub stage: usize,
    /// Whether it runs.
    pub starts: Starts,
    /// Its matrix; without one, a single leg. Known or not, it is of no use where the job never runs.
    pub legs: Answer<Legs>,
}

/// Whether a job runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Starts {
    /// At once.
    AtOnce,
    /// When how its needs ended is one of these.
    After(Vec<Before>),
    /// However its needs end.
    Always,
    /// Never: its `if` is false whatever comes.
    Never,
    /// Never: what it needs never runs, and its `if` does not bear that.
    NeedSkipped(String),
    /// Its `if` waits for these.
    Waits(Vec<String>),
    /// Its `if` has no value.
    Wrong(String),
}

/// The legs of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Legs {
    /// Whether the first that fails ends the others.
    pub fail_fast: bool,
    /// How many run at once, if there is a bound.
    pub max_parallel: Option<usize>,
    /// At least one.
    pub legs: Vec<Leg>,
}

/// One of the jobs that a job becomes.
#[derive(Clone, Debug, PartialEq)]
pub struct Leg {
    /// What it is called.
    pub name: Answer<String>,
    /// Its combination; empty without a matrix.
    pub matrix: Object,
    /// Labels of what it runs on; none where it calls a workflow.
    pub runs_on: Answer<Vec<String>>,
    /// The environment that it deploys to.
    pub environment: Option<Answer<String>>,
    /// What may not run beside it.
    pub group: Option<Group>,
    /// Whether the run goes well even if it fails.
    pub continue_on_error: Answer<bool>,
    /// Minutes that it may take.
    pub timeout: Answer<f64>,
}

/// Plans a workflow.
pub fn plan<'w>(workflow: &'w Workflow, known: &Known) -> Plan<'w> {
    let known = &known.bounded(BUDGET);
    let mut planned: HashMap<&str, Planning> = HashMap::new();
    let mut jobs: Vec<PlannedJob<'w>> = Vec::new();
    // What it needs is planned before it.
    for job in in_order(workflow) {
        let (job, stage) = job;
        let never = skipped_before(job, &planned);
        let mut known = known.clone();
        known.part("needs", skipped_needs(job, &planned));
        let starts = starts(job, &known, &never);
        let is_never = matches!(starts, Starts::Never | Starts::NeedSkipped(_));
        planned.insert(&job.id.value, Planning { is_never, never });
        jobs.push(PlannedJob {
            job,
            stage,
            starts,
            legs: legs(job, &known),
        });
    }
    Plan {
        run_name: workflow.run_name.as_ref().map(|name| known.text(name)),
        group: workflow.concurrency.as_ref().map(|of| group(of, known)),
        jobs,
    }
}

/// What is known of a job that was planned.
struct Planning {
    is_never: bool,
    /// What of all that it needs never runs.
    never: Never,
}

/// What of all that a job needs never runs.
#[derive(Clone, Default)]
struct Never {
    /// One of it, the nearest.
    first: Option<String>,
    /// Whether some of it may run.
    some_run: bool,
}

fn skipped_before(job: &Job, planned: &HashMap<&str, Planning>) -> Never {
    let mut never = Never::default();
    for need in &job.needs {
        let Some(before) = planned.get(need.value.as_str()) else {
            continue;
        };
        if before.is_never {
            never.first.get_or_insert_with(|| need.value.clone());
        }
        never.some_run |= !before.is_never || before.never.some_run;
    }
    for need in &job.needs {
        let before = planned.get(need.value.as_str());
        if let (None, Some(further)) = (&never.first, before.and_then(|b| b.never.first.as_ref())) {
            never.first = Some(further.clone());
        }
    }
    never
}

/// Of needs that never run, all is known.
fn skipped_needs(job: &Job, planned: &HashMap<&str, Planning>) -> Object {
    let needs = job.needs.iter().filter_map(|need| {
        let before = planned.get(need.value.as_str())?;
        let result = [("result", Value::from("skipped")), ("outputs", Value::Null)];
        let object: Object = result.into_iter().collect();
        before.is_never.then_some((need.value.as_str(), object))
    });
    needs.collect()
}

/// Each job behind all that it needs, with its stage.
fn in_order(workflow: &Workflow) -> Vec<(&Job, usize)> {
    let mut stages: HashMap<&str, usize> = HashMap::new();
    let mut order = Vec::new();
    // Without circles, each round finds at least one; the reader has refused those.
    for _ in 0..workflow.jobs.len() {
        for job in workflow.jobs.values() {
            let needs = job.needs.iter().map(|need| need.value.as_str());
            let before: Option<Vec<usize>> = needs.map(|need| stages.get(need).copied()).collect();
            let (Some(before), false) = (before, stages.contains_key(job.id.value.as_str())) else {
                continue;
            };
            let stage = before.into_iter().max().map_or(0, |stage| stage + 1);
            stages.insert(&job.id.value, stage);
            order.push((job, stage));
        }
        if order.len() == workflow.jobs.len() {
            break;
        }
    }
    order.sort_by_key(|(job, stage)| (*stage, workflow.jobs.get_index_of(&job.id.value)));
    order
}

fn starts(job: &Job, known: &Known, never: &Never) -> Starts {
    let possible: Vec<Before> = Before::ALL
        .into_iter()
        .filter(|before| match before {
            Before::Succeeded => never.first.is_none(),
            Before::Failed => !job.needs.is_empty() && never.some_run,
            Before::Incomplete | Before::Cancelled => !job.needs.is_empty(),
        })
        .collect();
    let (mut holds, mut waits) = (Vec::new(), Vec::new());
    for before in &possible {
        match known.condition(job.condition.as_ref(), *before) {
            Answer::Known(true) => holds.push(*before),
            Answer::Known(false) => {}
            Answer::Waits(names) => waits.extend(names),
            Answer::Wrong(why) => return Starts::Wrong(why),
        }
    }
    waits.sort();
    waits.dedup();
    match (holds.as_slice(), &never.first) {
        _ if !waits.is_empty() => Starts::Waits(waits),
        ([], Some(need)) if fails_by_need(job, known) => Starts::NeedSkipped(need.clone()),
        ([], _) => Starts::Never,
        _ if job.needs.is_empty() => Starts::AtOnce,
        _ if holds == possible => Starts::Always,
        _ => Starts::After(holds),
    }
}

/// Whether the condition would hold if all before it had succeeded.
fn fails_by_need(job: &Job, known: &Known) -> bool {
    let condition = job.condition.as_ref();
    known.condition(condition, Before::Succeeded) != Answer::Known(false)
}

/// What a job becomes, with what is known.
pub fn legs(job: &Job, known: &Known) -> Answer<Legs> {
    let known = &known.bounded(BUDGET);
    strategy(job, known).map(|strategy| {
        let total = strategy.combinations.len();
        let legs = strategy.combinations.into_iter().enumerate();
        let legs = legs.map(|(index, combination)| {
            let mut known = known.clone();
            let place = place(strategy.fail_fast, strategy.max_parallel, index, total);
            known.whole("strategy", place);
            known.whole("matrix", combination.clone());
            leg(job, combination, &known)
        });
        Legs {
            fail_fast: strategy.fail_fast,
            max_parallel: strategy.max_parallel,
            legs: legs.collect(),
        }
    })
}

/// The context `strategy` of a leg.
pub(crate) fn place(
    fail_fast: bool,
    max_parallel: Option<usize>,
    index: usize,
    total: usize,
) -> Object {
    let most = max_parallel.unwrap_or(total);
    let entries = [
        ("fail-fast", Value::Bool(fail_fast)),
        ("job-index", Value::Number(index as f64)),
        ("job-total", Value::Number(total as f64)),
        ("max-parallel", Value::Number(most as f64)),
    ];
    entries.into_iter().collect()
}

struct Strategy {
    fail_fast: bool,
    max_parallel: Option<usize>,
    /// At least one; without a matrix, an empty one.
    combinations: Vec<Object>,
}

fn strategy(job: &Job, known: &Known) -> Answer<Strategy> {
    let single = || vec![Object::default()];
    let (fail_fast, max_parallel, combinations) = match &job.strategy {
        None => (
            Answer::Known(Value::Null),
            Answer::Known(Value::Null),
            Answer::Known(single()),
        ),
        Some(Dynamic::Fixed(written)) => {
            let written = &written.value;
            let fail_fast = written.fail_fast.as_ref();
            let max_parallel = written.max_parallel.as_ref();
            (
                fail_fast.map_or(Answer::Known(Value::Null), |value| {
                    known.dynamic(value, |value| Answer::Known(Value::Bool(*value)))
                }),
                max_parallel.map_or(Answer::Known(Value::Null), |value| {
                    known.dynamic(value, |value| Answer::Known(Value::Number(*value)))
                }),
                match &written.matrix {
                    Some(matrix) => matrix::expand(matrix, known),
                    None => Answer::Known(single()),
                },
            )
        }
        Some(Dynamic::Expression(expression)) => match known.expression(expression) {
            Answer::Known(value) => {
                let part = |name: &str| match &value {
                    Value::Object(object) => object.get(name).cloned().unwrap_or_default(),
                    _ => Value::Null,
                };
                let combinations = match part("matrix") {
                    Value::Null => Answer::Known(single()),
                    matrix => matrix::of_value(&matrix),
                };
                (
                    Answer::Known(part("fail-fast")),
                    Answer::Known(part("max-parallel")),
                    combinations,
                )
            }
            Answer::Waits(names) => return Answer::Waits(names),
            Answer::Wrong(why) => return Answer::Wrong(why),
        },
    };
    let numbers = all([fail_fast, max_parallel].into_iter());
    combinations.and_then(|combinations| {
        numbers.and_then(|numbers| {
            let max_parallel = match &numbers[1] {
                Value::Null => None,
                value => match value.to_number() {
                    // So many cannot be there.
                    number if number >= 1.0 => Some(number.min(1e6) as usize),
                    _ => return Answer::Wrong("`max-parallel` must be 1 or more".to_owned()),
                },
            };
            Answer::Known(Strategy {
                fail_fast: match &numbers[0] {
                    Value::Null => true,
                    value => value.is_truthy(),
                },
                max_parallel,
                combinations,
            })
        })
    })
}

fn leg(job: &Job, combination: Object, known: &Known) -> Leg {
    let steps = match &job.work {
        Work::Call(_) => None,
        Work::Steps(steps) => Some(steps),
    };
    let environment = steps.and_then(|steps| steps.environment.as_ref());
    let environment =
        environment.map(|environment| word("the environment", known.text(&environment.name)));
    let runs_on = match steps {
        Some(steps) => labels(&steps.runs_on, known).and_then(few),
        None => Answer::Known(Vec::new()),
    };
    Leg {
        name: name(job, &combination, known).map(cut),
        matrix: combination,
        runs_on,
        // An empty name means none.
        environment: environment.filter(|name| name.known().is_none_or(|name| !name.is_empty())),
        group: job.concurrency.as_ref().map(|of| group(of, known)),
        continue_on_error: known.truth(steps.and_then(|steps| steps.continue_on_error.as_ref())),
        timeout: match steps {
            Some(steps) => timeout(steps.timeout.as_ref(), known),
            None => Answer::Known(CALL_TIMEOUT),
        },
    }
}

fn timeout(written: Option<&Dynamic<f64>>, known: &Known) -> Answer<f64> {
    let Some(written) = written else {
        return Answer::Known(TIMEOUT);
    };
    let minutes = known.dynamic(written, |minutes| Answer::Known(Value::Number(*minutes)));
    minutes.and_then(|minutes| match minutes.to_number() {
        minutes if minutes > MAX_TIMEOUT => Answer::Wrong(format!(
            "`timeout-minutes` is {minutes}; {MAX_TIMEOUT} are the most"
        )),
        minutes if minutes > 0.0 => Answer::Known(minutes),
        _ => Answer::Wrong("`timeout-minutes` must be more than 0".to_owned()),
    })
}

/// A name without expressions gets the values of the matrix behind it.
fn name(job: &Job, combination: &Object, known: &Known) -> Answer<String> {
    let plain = match &job.name {
        Some(name) if name.fixed().is_none() => return known.text(name),
        Some(name) => name.fixed().unwrap_or_default(),
        None => &job.id.value,
    };
    let mut values = Vec::new();
    for (_, value) in combination.iter() {
        leaves(value, &mut values);
    }
    let suffix = values.join(", ");
    let long = suffix.chars().count() > MAX_SUFFIX;
    let cut: String = suffix.chars().take(MAX_SUFFIX - 1).collect();
    Answer::Known(match (suffix.is_empty(), long) {
        (true, _) => plain.to_owned(),
        (false, false) => format!("{plain} ({suffix})"),
        (false, true) => format!("{plain} ({cut}…)"),
    })
}

fn cut(name: String) -> String {
    match name.char_indices().nth(MAX_NAME) {
        None => name,
        Some(_) => name.chars().take(MAX_NAME - 1).chain(['…']).collect(),
    }
}

/// What is compared must not be cut.
fn word(what: &str, text: Answer<String>) -> Answer<String> {
    text.and_then(|text| match text.len() > MAX_WORD {
        true => Answer::Wrong(format!("{what} has a name of more than {MAX_WORD} bytes")),
        false => Answer::Known(text),
    })
}

fn few(labels: Vec<String>) -> Answer<Vec<String>> {
    if labels.len() > MAX_LABELS {
        return Answer::Wrong(format!("`runs-on` has more than {MAX_LABELS} labels"));
    }
    all(labels
        .into_iter()
        .map(|label| word("a label", Answer::Known(label))))
}

fn leaves(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| leaves(item, found)),
        Value::Object(object) => object.iter().for_each(|(_, item)| leaves(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            let text = value.to_text();
            if !text.is_empty() {
                found.push(text.into_owned());
            }
        }
    }
}

fn labels(runs_on: &RunsOn, known: &Known) -> Answer<Vec<String>> {
    match runs_on {
        RunsOn::Labels(labels) => all(labels.iter().map(|label| known.text(label))),
        RunsOn::Expression(expression) => known.expression(expression).and_then(|value| {
            let given = match &value {
                // As `runs-on` itself may be written.
                Value::Object(object) => object.get("labels").cloned().unwrap_or_default(),
                other => other.clone(),
            };
            let labels: Vec<String> = match &given {
                Value::Array(items) => items.iter().map(|item| item.to_text().into()).collect(),
                Value::Object(_) | Value::Null => Vec::new(),
                one => vec![one.to_text().into()],
            };
            match labels.iter().all(|label| label.is_empty()) {
                true => Answer::Wrong("`runs-on` names nothing to run on".to_owned()),
                false => Answer::Known(labels),
            }
        }),
    }
}

fn group(of: &workflow::Concurrency, known: &Known) -> Group {
    Group {
        name: word("the group", known.text(&of.group)),
        cancel_in_progress: known.truth(of.cancel_in_progress.as_ref()),
        queue_all: of.queue_all,
    }
}
