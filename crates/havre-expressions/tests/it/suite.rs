//! GitHub's own cases of expressions, which the crate of the parser ships. The bench runs them as well.

use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

use havre_expressions::{Contexts, Expression, Object, Used, Value};

/// The crate that ships them.
const SHIPPED_BY: &str = "github-actions-expressions";

/// Cases that come out otherwise here: file, group, number in the group, and why.
const OTHERWISE: &[(&str, &str, usize, &str)] = &[(
    "syntax-errors.json",
    "memory-errors",
    0,
    "it makes 1 MiB, the suite's bound; the runner gives workflows 10 MiB, and so does this",
)];

/// How the cases came out.
pub struct Outcome {
    /// How many there are.
    pub cases: usize,
    /// Those that are known to come out otherwise.
    pub listed: Vec<String>,
    /// Those that should not.
    pub faults: Vec<String>,
}

/// Runs them; none where the crate is not at hand.
pub fn run() -> Option<Outcome> {
    let folder = folder()?;
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    files.sort();
    let mut outcome = Outcome {
        cases: 0,
        listed: vec![],
        faults: vec![],
    };
    for file in files {
        let text = fs::read_to_string(&file).expect("the cases can be read");
        let groups = object(Value::from_json(&text).expect("the cases are JSON"));
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        for (group, cases) in groups.iter() {
            for (n, case) in array(cases).iter().enumerate() {
                outcome.add(&name, group, n, case);
            }
        }
    }
    Some(outcome)
}

impl Outcome {
    fn add(&mut self, file: &str, group: &str, n: usize, case: &Value) {
        self.cases += 1;
        let listed = OTHERWISE
            .iter()
            .find(|(f, g, m, _)| (*f, *g, *m) == (file, group, n));
        match (judge(&object(case.clone())), listed) {
            (Ok(()), None) => {}
            (Ok(()), Some(_)) => self.faults.push(format!(
                "{file} {group} {n}: is listed, and comes out alike"
            )),
            (Err(what), Some((.., why))) => {
                let what = format!("{file} {group} {n}: {what}: {why}");
                self.listed.push(what);
            }
            (Err(what), None) => self.faults.push(format!("{file} {group} {n}: {what}")),
        }
    }
}

/// What comes out otherwise.
fn judge(case: &Object) -> Result<(), String> {
    let text = |of: &Object, name| of.get(name).map(|text| text.to_text().into_owned());
    let given = text(case, "expr").expect("a case has an expression");
    let mut contexts = Contexts::default();
    let known = object(case.get("contexts").cloned().unwrap_or_default());
    for (name, value) in known.iter() {
        contexts.set(name, value.clone());
    }
    let parsed = Expression::parse(&given)
        .map_err(|error| error.to_string())
        .and_then(|expression| names_known(expression, &known));
    let value = parsed
        .as_ref()
        .ok()
        .map(|expression| expression.evaluate(&contexts));
    let Some(expected) = case.get("result") else {
        let error = object(case.get("err").cloned().unwrap_or_default());
        let kind = text(&error, "kind").expect("an error has a kind");
        return match (kind.as_str(), &value) {
            ("parsing" | "lexing", None) | ("evaluation", Some(Err(_))) => Ok(()),
            _ => Err(format!("`{given}` has no {kind} error, but {value:?}")),
        };
    };
    let expected = object(expected.clone());
    let expected = expected.get("value").cloned().unwrap_or_default();
    match value {
        Some(Ok(value)) if value == expected => Ok(()),
        Some(found) => Err(format!(
            "`{given}` is {found:?}, and should be {expected:?}"
        )),
        None => Err(format!("`{given}` is not read: {:?}", parsed.err())),
    }
}

/// As whoever reads a workflow checks it.
fn names_known(expression: Expression, known: &Object) -> Result<Expression, String> {
    for used in expression.uses() {
        if let Used::Context { name, .. } = &used.what
            && known.get(name).is_none()
        {
            return Err(format!("there is no `{name}`"));
        }
    }
    Ok(expression)
}

fn folder() -> Option<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // What other platforms need is not at hand.
    let platform = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--offline", "--locked"])
        .args(["--filter-platform", &platform])
        .output()
        .ok()?;
    let metadata = Value::from_json(str::from_utf8(&output.stdout).ok()?).ok()?;
    let packages = object(metadata).get("packages")?.clone();
    let manifest = array(&packages).iter().find_map(|package| {
        let package = object(package.clone());
        let is_it = package.get("name")?.to_text() == SHIPPED_BY;
        is_it.then(|| package.get("manifest_path").cloned())?
    })?;
    let folder = PathBuf::from(manifest.to_text().as_ref()).with_file_name("tests/testdata");
    folder.is_dir().then_some(folder)
}

fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object.as_ref().clone(),
        _ => Object::default(),
    }
}

fn array(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) => items,
        _ => &[],
    }
}
