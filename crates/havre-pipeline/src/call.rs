//! What a workflow that is called gets and gives.

use havre_expressions::{Object, Value};
use havre_workflow::{Call, CallInput, Dynamic, InputType, Interface};

use crate::known::{Answer, Known, all};
use crate::run::{JobResult, JobRun, Run};

/// The inputs that a call gives, in the order of what is called; `known` is what the calling leg knows.
pub fn inputs(interface: &Interface, call: &Call, known: &Known) -> Answer<Object> {
    each_input(interface, call, known).and_then(|inputs| {
        let inputs = inputs.into_iter();
        let inputs = inputs.map(|(name, value)| value.map(|value| (name, value)));
        all(inputs).map(|inputs| inputs.into_iter().collect())
    })
}

/// What is known in a workflow that is called, while some of its inputs may not be.
pub fn known_before(interface: &Interface, call: &Call, known: &Known) -> Known {
    let inputs = match each_input(interface, call, known) {
        Answer::Known(inputs) => inputs,
        Answer::Waits(_) | Answer::Wrong(_) => Vec::new(),
    };
    let certain = inputs.into_iter().filter_map(|(name, value)| match value {
        Answer::Known(value) => Some((name, value)),
        Answer::Waits(_) | Answer::Wrong(_) => None,
    });
    let mut inside = inside(known);
    inside.part("inputs", certain.collect());
    inside
}

/// Each input with what there is of its value.
fn each_input<'i>(
    interface: &'i Interface,
    call: &Call,
    known: &Known,
) -> Answer<Vec<(&'i str, Answer<Value>)>> {
    let given: Answer<Vec<(String, Answer<Value>)>> = match &call.with {
        None => Answer::Known(Vec::new()),
        Some(Dynamic::Fixed(with)) => {
            let values = with.value.iter();
            let values = values.map(|(name, value)| (name.clone(), known.data(&value.value)));
            Answer::Known(values.collect())
        }
        Some(Dynamic::Expression(with)) => known.expression(with).and_then(|with| match with {
            Value::Object(with) => {
                let values = with.iter();
                let values =
                    values.map(|(name, value)| (name.to_owned(), Answer::Known(value.clone())));
                Answer::Known(values.collect())
            }
            _ => Answer::Wrong("`with` must be names with values".to_owned()),
        }),
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
            let mut given = given.iter();
            let own = given.find(|(other, _)| other.eq_ignore_ascii_case(name));
            let own = own.map(|(_, value)| value.clone());
            (name.as_str(), input_value(name, input, own, known))
        });
        Answer::Known(inputs.collect())
    })
}

fn input_value(
    name: &str,
    input: &CallInput,
    given: Option<Answer<Value>>,
    known: &Known,
) -> Answer<Value> {
    let value = match (given, &input.default) {
        (Some(value), _) => value,
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
    let mut known = inside(caller);
    known.whole("inputs", inputs);
    known
}

fn inside(caller: &Known) -> Known {
    caller.without(&["needs", "matrix", "strategy", "inputs"])
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
