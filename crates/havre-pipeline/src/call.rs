//! What a workflow that is called gets and gives.

use havre_expressions::{Object, Value};
use havre_workflow::{Call, CallInput, InputType, Interface};

use crate::known::{Answer, Known, all};
use crate::run::{JobResult, JobRun, Run};

/// The inputs that a call gives, in the order of what is called; `known` is what the calling leg knows.
pub fn inputs(interface: &Interface, call: &Call, known: &Known) -> Answer<Object> {
    let given = match &call.with {
        None => Answer::Known(Object::default()),
        Some(with) => match known.dynamic(with, |with| known.map(with).map(Value::from)) {
            Answer::Known(Value::Object(given)) => Answer::Known(Object::clone(&given)),
            Answer::Known(_) => Answer::Wrong("`with` must be names with values".to_owned()),
            Answer::Waits(names) => Answer::Waits(names),
            Answer::Wrong(why) => Answer::Wrong(why),
        },
    };
    given.and_then(|given| {
        let is_known = |name: &str| {
            let mut inputs = interface.inputs.keys();
            inputs.any(|input| input.eq_ignore_ascii_case(name))
        };
        if let Some((name, _)) = given.iter().find(|(name, _)| !is_known(name)) {
            return Answer::Wrong(format!("`{}` has no input `{name}`", call.uses.value));
        }
        let inputs = interface.inputs.iter().map(|(name, input)| {
            let value = input_value(name, input, given.get(name), known);
            value.map(|value| (name.as_str(), value))
        });
        all(inputs).map(|inputs| inputs.into_iter().collect())
    })
}

fn input_value(
    name: &str,
    input: &CallInput,
    given: Option<&Value>,
    known: &Known,
) -> Answer<Value> {
    let value = match (given, &input.default) {
        (Some(value), _) => Answer::Known(value.clone()),
        (None, _) if input.required => {
            return Answer::Wrong(format!("input `{name}` has to be given"));
        }
        (None, Some(default)) => known.data(&default.value),
        (None, None) => Answer::Known(Value::Null),
    };
    value.and_then(|value| match (input.kind, value) {
        (InputType::Boolean, Value::Null) => Answer::Known(Value::Bool(false)),
        (InputType::Boolean, value @ Value::Bool(_)) => Answer::Known(value),
        (InputType::Boolean, _) => Answer::Wrong(format!(
            "input `{name}` must be `true` or `false`, and is no truth value"
        )),
        (InputType::Number, Value::Null) => Answer::Known(Value::Number(0.0)),
        (InputType::Number, value @ Value::Number(_)) => Answer::Known(value),
        (InputType::Number, _) => Answer::Wrong(format!("input `{name}` must be a number")),
        (_, Value::Array(_) | Value::Object(_)) => {
            Answer::Wrong(format!("input `{name}` must be a text"))
        }
        (InputType::String | InputType::Environment | InputType::Choice, value) => {
            Answer::Known(value.to_text().as_ref().into())
        }
    })
}

/// What is known in a workflow that is called: what its caller knows of the event, and its own inputs.
pub fn known(caller: &Known, inputs: Object) -> Known {
    let mut known = caller.without(&["needs", "matrix", "strategy"]);
    known.whole("inputs", inputs);
    known
}

/// What a workflow that was called gives, after its run: outputs that are not empty.
pub fn outputs(interface: &Interface, run: &Run, known: &Known) -> Answer<Vec<(String, String)>> {
    let mut known = known.clone();
    let jobs = run
        .jobs
        .iter()
        .map(|job| (job.id.as_str(), Value::from(of_job(job))));
    known.whole("jobs", jobs.collect::<Object>());
    let outputs = interface.outputs.iter().map(|(name, output)| {
        let value = known.text(&output.value);
        value.map(|value| (name.clone(), value))
    });
    all(outputs).map(|mut outputs| {
        outputs.retain(|(_, value)| !value.is_empty());
        outputs
    })
}

fn of_job(job: &JobRun) -> Object {
    let outputs: Object = job.outputs().into_iter().collect();
    let result = job.result().map(JobResult::word).unwrap_or_default();
    let entries = [("result", Value::from(result)), ("outputs", outputs.into())];
    entries.into_iter().collect()
}
