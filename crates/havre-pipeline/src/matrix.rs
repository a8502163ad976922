//! A matrix becomes its combinations.

use havre_expressions::{Object, Value};
use havre_workflow::{Dynamic, Matrix};

use crate::known::{Answer, Known, all};

/// Most jobs that a matrix makes; GitHub's bound.
pub const MAX_LEGS: usize = 256;
/// Most names in a combination: each of up to [`MAX_LEGS`] has all of them.
const MAX_NAMES: usize = 256;

/// All combinations, the first vector varying slowest, then what `include` adds.
pub fn expand(matrix: &Dynamic<Matrix>, known: &Known) -> Answer<Vec<Object>> {
    match matrix {
        Dynamic::Expression(expression) => known
            .expression(expression)
            .and_then(|value| of_value(&value)),
        Dynamic::Fixed(written) => {
            evaluated(&written.value, known).and_then(|parts| combined(&parts))
        }
    }
}

/// The combinations of a matrix that an expression gave.
pub(crate) fn of_value(value: &Value) -> Answer<Vec<Object>> {
    match value {
        Value::Object(parts) => combined(parts),
        other => Answer::Wrong(kind("the matrix", "names with lists", other)),
    }
}

fn combined(parts: &Object) -> Answer<Vec<Object>> {
    match combine(parts) {
        Ok(legs) => Answer::Known(legs),
        Err(why) => Answer::Wrong(why),
    }
}

/// All its lists by name, `include` and `exclude` among them.
fn evaluated(matrix: &Matrix, known: &Known) -> Answer<Object> {
    let vectors = matrix.vectors.iter().map(|(name, vector)| {
        let list = known.dynamic(vector, |items| known.list(items));
        list.map(|list| (name.as_str(), list))
    });
    let extras = [("include", &matrix.include), ("exclude", &matrix.exclude)];
    let extras = extras.into_iter().filter_map(|(name, list)| {
        let list = known.dynamic(list.as_ref()?, |entries| {
            let entries = entries
                .iter()
                .map(|entry| known.dynamic(entry, |map| known.map(map).map(Value::from)));
            all(entries).map(Value::from)
        });
        Some(list.map(|list| (name, list)))
    });
    all(vectors.chain(extras)).map(|lists| lists.into_iter().collect())
}

fn combine(parts: &Object) -> Result<Vec<Object>, String> {
    let mut vectors = Vec::new();
    for (name, value) in parts.iter() {
        if is_extra(name) {
            continue;
        }
        match value {
            Value::Array(values) if values.is_empty() => {
                return Err(format!("`{name}` of the matrix has no values"));
            }
            Value::Array(values) => vectors.push((name, values)),
            other => return Err(kind(&format!("`{name}` of the matrix"), "a list", other)),
        }
    }
    if vectors.len() > MAX_NAMES {
        return Err(too_many_names());
    }
    let sizes = vectors.iter().map(|(_, values)| values.len());
    let product = sizes.fold(1_usize, usize::saturating_mul);
    if product > MAX_LEGS {
        return Err(too_many(product));
    }
    let exclude = entries(parts, "exclude")?;
    let mut legs = match vectors.is_empty() {
        true => Vec::new(),
        false => vec![Object::default()],
    };
    for (name, values) in &vectors {
        let longer = legs.iter().flat_map(|leg| {
            values.iter().map(move |value| {
                let mut leg = leg.clone();
                leg.insert(*name, value.clone());
                leg
            })
        });
        legs = longer.collect();
    }
    legs.retain(|leg| !exclude.iter().any(|entry| agrees(entry, leg)));

    // What the vectors say stays; what an entry adds, a later one may replace.
    let original = legs.clone();
    let mut added = Vec::new();
    for entry in entries(parts, "include")? {
        if entry.len() > MAX_NAMES {
            return Err(too_many_names());
        }
        let asked: Object = entry
            .iter()
            .filter(|(name, _)| vectors.iter().any(|(vector, _)| same_name(vector, name)))
            .map(|(name, value)| (name, value.clone()))
            .collect();
        let mut merged = false;
        for (leg, before) in legs.iter_mut().zip(&original) {
            if agrees(&asked, before) {
                for (name, value) in entry.iter() {
                    leg.insert(name, value.clone());
                }
                merged = true;
            }
            if leg.len() > MAX_NAMES {
                return Err(too_many_names());
            }
        }
        if !merged {
            added.push(entry);
        }
    }
    legs.extend(added);
    match legs.len() {
        0 => Err("the matrix has no combination".to_owned()),
        many if many > MAX_LEGS => Err(too_many(many)),
        _ => Ok(legs),
    }
}

fn entries(parts: &Object, name: &str) -> Result<Vec<Object>, String> {
    let items = match parts.get(name) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(items)) => items,
        Some(other) => return Err(kind(&format!("`{name}` of the matrix"), "a list", other)),
    };
    let objects = items.iter().map(|item| match item {
        Value::Object(object) => Ok(Object::clone(object)),
        other => Err(kind(
            &format!("an entry of `{name}` of the matrix"),
            "names with values",
            other,
        )),
    });
    objects.collect()
}

/// Whether a combination has all that is asked, at every level.
fn agrees(asked: &Object, leg: &Object) -> bool {
    asked
        .iter()
        .all(|(name, value)| match (value, leg.get(name)) {
            (_, None) => false,
            (Value::Object(asked), Some(Value::Object(there))) => agrees(asked, there),
            (Value::Array(asked), Some(Value::Array(there))) => asked == there,
            (Value::Array(_) | Value::Object(_), Some(_)) => false,
            (_, Some(Value::Array(_) | Value::Object(_))) => false,
            (one, Some(other)) => one.to_text() == other.to_text(),
        })
}

fn is_extra(name: &str) -> bool {
    same_name(name, "include") || same_name(name, "exclude")
}

fn same_name(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

fn too_many(legs: usize) -> String {
    format!("the matrix makes {legs} jobs; {MAX_LEGS} are allowed")
}

fn too_many_names() -> String {
    format!("the matrix has combinations of more than {MAX_NAMES} names")
}

fn kind(what: &str, wanted: &str, value: &Value) -> String {
    let is = match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "names with values",
    };
    format!("{what} must be {wanted}, and is {is}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(matrix: &str) -> String {
        let value = Value::from_json(matrix).unwrap();
        match of_value(&value) {
            Answer::Known(legs) => {
                let legs = legs.iter().map(|leg| {
                    let pairs = leg.iter();
                    let pairs = pairs.map(|(name, value)| format!("{name}={}", value.to_text()));
                    pairs.collect::<Vec<_>>().join(" ")
                });
                legs.collect::<Vec<_>>().join(" | ")
            }
            Answer::Waits(names) => format!("waits for {names:?}"),
            Answer::Wrong(why) => why,
        }
    }

    #[test]
    fn the_first_vector_varies_slowest() {
        assert_eq!(
            check(r#"{"os": ["a", "b"], "v": [1, 2]}"#),
            "os=a v=1 | os=a v=2 | os=b v=1 | os=b v=2"
        );
    }

    #[test]
    fn include_extends_what_the_vectors_made_and_adds_the_rest() {
        // The example of GitHub's documentation.
        let matrix = r#"{"fruit": ["apple", "pear"], "animal": ["cat", "dog"], "include": [
            {"color": "green"}, {"color": "pink", "animal": "cat"},
            {"fruit": "apple", "shape": "circle"}, {"fruit": "banana"},
            {"fruit": "banana", "animal": "cat"}]}"#;
        assert_eq!(
            check(matrix),
            "fruit=apple animal=cat color=pink shape=circle \
             | fruit=apple animal=dog color=green shape=circle \
             | fruit=pear animal=cat color=pink | fruit=pear animal=dog color=green \
             | fruit=banana | fruit=banana animal=cat"
        );
        assert_eq!(
            check(r#"{"include": [{"site": "a"}, {"site": "b", "x": 1}]}"#),
            "site=a | site=b x=1"
        );
    }

    #[test]
    fn exclude_leaves_out_what_agrees_with_it_before_include_adds() {
        assert_eq!(
            check(
                r#"{"os": ["a", "b"], "v": [6, 8], "exclude": [{"os": "a", "V": "6"}],
                    "include": [{"os": "a", "v": 6, "x": 1}]}"#
            ),
            "os=a v=8 | os=b v=6 | os=b v=8 | os=a v=6 x=1"
        );
        assert_eq!(
            check(r#"{"c": [{"a": 1, "b": 2}, {"a": 2}], "exclude": [{"c": {"a": 1}}, {"d": 1}]}"#),
            "c=Object"
        );
    }

    #[test]
    fn what_is_no_matrix_is_told() {
        for (matrix, told) in [
            ("[]", "the matrix must be names with lists, and is a list"),
            (
                r#"{"a": 1}"#,
                "`a` of the matrix must be a list, and is a number",
            ),
            (r#"{"a": []}"#, "`a` of the matrix has no values"),
            ("{}", "the matrix has no combination"),
            (
                r#"{"a": [1], "exclude": [{"a": 1}]}"#,
                "the matrix has no combination",
            ),
            (
                r#"{"include": [1]}"#,
                "an entry of `include` of the matrix must be names with values, and is a number",
            ),
        ] {
            assert_eq!(check(matrix), told, "{matrix}");
        }
        let long = format!("[{}0]", "0,".repeat(16));
        let matrix = format!(r#"{{"a": {long}, "b": {long}}}"#);
        assert_eq!(check(&matrix), "the matrix makes 289 jobs; 256 are allowed");
    }

    #[test]
    fn no_matrix_has_names_without_end() {
        let names = |count: usize, of: &str| {
            let names: Vec<String> = (0..count)
                .map(|n| of.replace("{n}", &n.to_string()))
                .collect();
            names.join(", ")
        };
        let told = "the matrix has combinations of more than 256 names";
        let vectors = |count| format!("{{{}}}", names(count, r#""a{n}": [1]"#));
        assert!(check(&vectors(256)).starts_with("a0=1 a1=1 "));
        assert_eq!(check(&vectors(257)), told);
        // Each entry goes into every combination.
        let include = |count| {
            let entries = names(count, r#"{"a{n}": 1}"#);
            format!(r#"{{"v": [1, 2], "include": [{entries}]}}"#)
        };
        assert!(check(&include(255)).starts_with("v=1 a0=1 "));
        assert_eq!(check(&include(256)), told);
        let entry = names(257, r#""a{n}": 1"#);
        assert_eq!(check(&format!(r#"{{"include": [{{{entry}}}]}}"#)), told);
    }
}
