//! Inputs of `workflow_dispatch`: what was given, what was not, and of which kind.

use havre_expressions::Value;
use havre_workflow::{Data, DispatchInput, InputType};
use indexmap::IndexMap;

use crate::reason::Reason;

/// Most inputs of one workflow, GitHub's bound.
const MAX_INPUTS: usize = 25;

/// The value of every input, in the order of the file; or all that is wrong with what was given.
pub fn resolve(
    declared: &[DispatchInput],
    given: &IndexMap<String, String>,
) -> Result<IndexMap<String, Value>, Vec<Reason>> {
    let mut wrong = Vec::new();
    if given.len() > MAX_INPUTS {
        wrong.push(Reason {
            why: format!("there are more than {MAX_INPUTS} inputs"),
            at: None,
        });
        return Err(wrong);
    }
    for name in given.keys() {
        let is_known = |input: &DispatchInput| input.name.value.eq_ignore_ascii_case(name);
        if !declared.iter().any(is_known) {
            let names: Vec<String> = declared
                .iter()
                .map(|input| format!("`{}`", input.name.value))
                .collect();
            let why = match names.is_empty() {
                true => format!("there is no input `{name}`: it has none"),
                false => format!("there is no input `{name}`, but {}", names.join(", ")),
            };
            wrong.push(Reason { why, at: None });
        }
    }
    let mut values = IndexMap::new();
    for input in declared {
        let name = &input.name.value;
        let own = given
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        let text = match own {
            Some((_, text)) => Some(text.clone()),
            None => default_of(input),
        };
        match value(input, text.as_deref()) {
            Ok(value) => {
                values.insert(name.clone(), value);
            }
            Err(why) => wrong.push(Reason {
                why,
                at: Some(input.name.span),
            }),
        }
    }
    match wrong.is_empty() {
        true => Ok(values),
        false => Err(wrong),
    }
}

fn default_of(input: &DispatchInput) -> Option<String> {
    match &input.default.as_ref()?.value {
        Data::Null | Data::List(_) | Data::Map(_) => None,
        Data::Boolean(value) => Some(value.to_string()),
        Data::Number(number) => Some(havre_workflow::format_number(*number)),
        Data::Text(text) => Some(text.fixed().unwrap_or_default().to_owned()),
    }
}

fn value(input: &DispatchInput, given: Option<&str>) -> Result<Value, String> {
    let name = &input.name.value;
    let given = given.unwrap_or_default();
    if given.is_empty() {
        if input.required {
            return Err(format!("input `{name}` has to be given"));
        }
        return Ok(match (input.kind, input.options.first()) {
            (InputType::Boolean, _) => Value::Bool(false),
            (InputType::Choice, Some(first)) => first.value.as_str().into(),
            (InputType::Number | InputType::String | InputType::Environment, _)
            | (InputType::Choice, None) => "".into(),
        });
    }
    match input.kind {
        InputType::String | InputType::Environment => Ok(given.into()),
        InputType::Boolean => match given {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err(format!(
                "input `{name}` is `true` or `false`, not `{given}`"
            )),
        },
        InputType::Number => match given.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Value::Number(number)),
            _ => Err(format!("input `{name}` is a number, not `{given}`")),
        },
        InputType::Choice => {
            let options: Vec<&str> = input
                .options
                .iter()
                .map(|option| option.value.as_str())
                .collect();
            match options.contains(&given) {
                true => Ok(given.into()),
                false => Err(format!(
                    "input `{name}` is one of `{}`, not `{given}`",
                    options.join("`, `")
                )),
            }
        }
    }
}
