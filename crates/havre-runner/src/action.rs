//! Actions: which one a step names, and what it is given.

use std::fs;
use std::path::{Path, PathBuf};

use havre_actions::{BuiltIn, Finding, Input};
use havre_base::read_small;
use havre_pipeline::Known;
use havre_workflow::action::{ActionFile, InContainer, Runs, read};
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
    if folder.join("Dockerfile").is_file() {
        return Ok(ActionFile {
            name: String::new(),
            inputs: Default::default(),
            outputs: Default::default(),
            runs: Runs::Container(Box::new(InContainer::of_dockerfile("Dockerfile"))),
        });
    }
    Err(format!(
        "there is no action.yml in `{shown}`: an action of this repository is there only after a step with `actions/checkout`"
    ))
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

/// What keeps a built-in action from being run with these inputs; of a value that is not known yet, the name is judged.
/// What has no effect is no obstacle: the action itself warns of it.
pub(crate) fn judge<'n>(
    built_in: &BuiltIn,
    given: impl Iterator<Item = (&'n str, Option<&'n str>)> + Clone,
) -> Result<(), String> {
    if let Some(why) = built_in.refusal() {
        return Err(why);
    }
    for (name, value) in given.clone() {
        // What is not known yet is taken for nothing, which all inputs accept.
        if let Some(Finding::Refused(why)) = built_in.judge(name, value.unwrap_or_default()) {
            return Err(why);
        }
    }
    let needed = |input: &&Input| input.required && input.default.is_none();
    let missing = built_in.inputs.iter().filter(needed).find(|input| {
        !given
            .clone()
            .any(|(name, _)| input.name.eq_ignore_ascii_case(name))
    });
    match missing {
        Some(input) => Err(format!(
            "{} needs the input `{}`",
            built_in.name, input.name
        )),
        None => Ok(()),
    }
}

/// Names that are written out, with their values where those are too.
pub(crate) fn written(with: Option<&Pairs>) -> Option<Vec<(&str, Option<&str>)>> {
    match with {
        None => Some(Vec::new()),
        Some(pairs) => {
            let each = pairs.fixed()?.iter();
            let each = each.map(|(name, pair)| (name.as_str(), pair.value.fixed()));
            Some(each.collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(action: (&str, &str), given: &[(&str, Option<&str>)]) -> String {
        let built_in = havre_actions::find("actions", action.0, action.1);
        let built_in = built_in.expect("there is such an action");
        match judge(built_in, given.iter().copied()) {
            Ok(()) => String::new(),
            Err(why) => why,
        }
    }

    #[test]
    fn inputs_of_built_in_actions_are_judged_by_what_is_known_of_them() {
        const CHECKOUT: (&str, &str) = ("checkout", "");
        for (action, given, expected) in [
            (CHECKOUT, &[("Path", Some("a"))][..], ""),
            (CHECKOUT, &[("lfs", Some("false"))], ""),
            (CHECKOUT, &[("lfs", None)], ""),
            (CHECKOUT, &[("ssh-user", Some("ada"))], ""),
            (
                CHECKOUT,
                &[("path", Some("a")), ("lfs", Some("true"))],
                "`lfs` of actions/checkout is not supported: run `git lfs pull` in a step, with an image that has git-lfs",
            ),
            (
                CHECKOUT,
                &[("nope", None)],
                "actions/checkout has no input `nope`",
            ),
            (
                ("cache", ""),
                &[("path", Some("a"))],
                "actions/cache needs the input `key`",
            ),
            (
                ("upload-artifact", "merge"),
                &[],
                "actions/upload-artifact/merge is not supported: download with `actions/download-artifact`, `pattern` and `merge-multiple: true`, and upload the folder with `actions/upload-artifact`",
            ),
        ] {
            assert_eq!(check(action, given), expected);
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
