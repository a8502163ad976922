//! Actions: which one a step names, and what it is given.

use std::fs;
use std::path::{Path, PathBuf};

use havre_actions::{BuiltIn, Handled, Input};
use havre_base::read_small;
use havre_pipeline::Known;
use havre_workflow::action::{ActionFile, read};
use havre_workflow::{Diagnostic, Limits, Pairs, Template};

use crate::contexts::settled;
use crate::environment::Env;

/// Most bytes of an action's file.
const MAX_FILE: u64 = 1 << 20;
/// Given to actions in containers, which read them without saying so.
const ALWAYS: [&str; 2] = ["args", "entrypoint"];

/// An action that can be run.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// Where its files are.
    pub folder: PathBuf,
    /// The root of the repository that it is in, if that is another one.
    pub root: Option<PathBuf>,
    /// `owner/repository` and the reference, if it is of another repository.
    pub origin: Option<(String, String)>,
    /// What it says of itself.
    pub file: ActionFile,
}

/// Reads an action's file; `shown` is how a step names it.
pub(crate) fn load(folder: &Path, shown: &str) -> Result<ActionFile, String> {
    for name in ["action.yml", "action.yaml"] {
        let path = folder.join(name);
        if fs::symlink_metadata(&path).is_err() {
            continue;
        }
        let text = read_small(&path, MAX_FILE);
        let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
        let file = Path::new(shown).join(name);
        return read(&file, &text, &Limits::default()).map_err(|failure| {
            failure
                .errors
                .iter()
                .map(in_a_line)
                .collect::<Vec<_>>()
                .join("\n")
        });
    }
    let is_docker = folder.join("Dockerfile").is_file();
    Err(match is_docker {
        true => IN_CONTAINER.to_owned(),
        false => format!(
            "there is no action.yml in `{shown}`: an action of this repository is there only after a step with `actions/checkout`"
        ),
    })
}

/// File, line, column, what is wrong, and what to do.
fn in_a_line(error: &Diagnostic) -> String {
    let mut text = match &error.location {
        Some(at) => format!("{}:{}:{}: ", at.file.display(), at.line, at.column),
        None => String::new(),
    };
    text.push_str(&error.message);
    if let Some(hint) = &error.hint {
        text.push_str(&format!(" ({hint})"));
    }
    text
}

/// Why such an action is not run.
pub(crate) const IN_CONTAINER: &str = "actions in a container of their own are not supported yet: run its commands in a step with `run`, or use the image as the job's `container`";

/// The inputs of an action: what is given, and defaults; and what was given that it does not take.
pub(crate) fn inputs<'d>(
    known: &Known,
    declared: impl Iterator<Item = (&'d str, Option<&'d Template>)>,
    given: Env,
) -> Result<(Env, Vec<String>), String> {
    let mut left = given;
    let mut inputs = Env::new();
    for (name, default) in declared {
        let found = left
            .keys()
            .position(|other| other.eq_ignore_ascii_case(name));
        let given = found.and_then(|at| left.shift_remove_index(at));
        let value = match (given, default) {
            (Some((_, value)), _) => value,
            (None, Some(default)) => {
                let text = settled(known.text(default));
                text.map_err(|why| format!("the default of input `{name}`: {why}"))?
            }
            (None, None) => String::new(),
        };
        inputs.insert(name.to_owned(), value);
    }
    let strange = left
        .keys()
        .filter(|name| !ALWAYS.contains(&name.to_lowercase().as_str()));
    let strange = strange.cloned().collect();
    inputs.extend(left);
    Ok((inputs, strange))
}

/// As a process finds its inputs.
pub(crate) fn variables(inputs: &Env) -> Env {
    let each = inputs.iter();
    each.map(|(name, value)| {
        let name = name.replace(' ', "_").to_uppercase();
        (format!("INPUT_{name}"), value.clone())
    })
    .collect()
}

/// What is wrong with the inputs of a built-in action by their names, and what to warn about.
pub(crate) fn judge<'n>(
    built_in: &BuiltIn,
    given: impl Iterator<Item = &'n str> + Clone,
) -> Result<Vec<String>, String> {
    let name = built_in.name;
    let mut warnings = Vec::new();
    for key in given.clone() {
        let input = built_in
            .inputs
            .iter()
            .find(|input| input.name.eq_ignore_ascii_case(key));
        let Some(input) = input else {
            let known: Vec<&str> = built_in.inputs.iter().map(|input| input.name).collect();
            let known = known.join(", ");
            return Err(format!(
                "`{name}` here has no input `{key}`; there are {known}"
            ));
        };
        match input.handled {
            Handled::Yes => {}
            Handled::Ignored(why) => {
                warnings.push(format!(
                    "input `{key}` of `{name}` has no effect here: {why}"
                ));
            }
            Handled::Refused(why) => {
                return Err(format!(
                    "input `{key}` of `{name}` is not supported here: {why}"
                ));
            }
        }
    }
    let needed = |input: &&Input| input.required && input.default.is_none();
    for input in built_in.inputs.iter().filter(needed) {
        if !given
            .clone()
            .any(|key| input.name.eq_ignore_ascii_case(key))
        {
            return Err(format!("`{name}` needs the input `{}`", input.name));
        }
    }
    Ok(warnings)
}

/// Names that are written out.
pub(crate) fn names(with: Option<&Pairs>) -> Option<Vec<&str>> {
    match with {
        None => Some(Vec::new()),
        Some(pairs) => Some(pairs.fixed()?.keys().map(String::as_str).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn input(name: &'static str, default: Option<&'static str>, handled: Handled) -> Input {
        Input {
            name,
            default,
            required: true,
            handled,
        }
    }

    const BUILT_IN: BuiltIn = BuiltIn {
        name: "it",
        inputs: &[
            input("path", None, Handled::Yes),
            input("depth", Some("1"), Handled::Yes),
            input("old", Some(""), Handled::Ignored("it is old")),
            input("bad", Some(""), Handled::Refused("it is bad")),
        ],
        post: None,
    };

    fn check(given: &[&str]) -> String {
        match judge(&BUILT_IN, given.iter().copied()) {
            Ok(warnings) => warnings.join("; "),
            Err(why) => why,
        }
    }

    #[test]
    fn inputs_of_built_in_actions_are_judged_by_their_names() {
        for (given, expected) in [
            (&["path"][..], ""),
            (
                &["PATH", "old"],
                "input `old` of `it` has no effect here: it is old",
            ),
            (
                &["path", "bad"],
                "input `bad` of `it` is not supported here: it is bad",
            ),
            (
                &["path", "x"],
                "`it` here has no input `x`; there are path, depth, old, bad",
            ),
            (&["depth"], "`it` needs the input `path`"),
        ] {
            assert_eq!(check(given), expected);
        }
    }

    #[test]
    fn inputs_are_variables() {
        let inputs = Env::from([("two words-x".to_owned(), "v".to_owned())]);
        let variables = variables(&inputs);
        assert_eq!(
            variables.get_index(0).map(|(name, _)| name.as_str()),
            Some("INPUT_TWO_WORDS-X")
        );
    }
}
