//! Actions in containers: what of them the part of Havre that runs them is told.

use std::path::{Path, PathBuf};

use havre_base::shell_words;
use havre_pipeline::Known;
use havre_workflow::action::InContainer;
use serde::Serialize;

use crate::contexts::{self, settled};
use crate::environment::Env;

/// Names what [`Container`] is told by.
pub(crate) const VARIABLE: &str = "HAVRE_CONTAINER";

/// A container to run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Container {
    /// Its image's name.
    image: Option<String>,
    /// A Dockerfile, and the folder that it is built in.
    dockerfile: Option<(PathBuf, PathBuf)>,
    /// Instead of the image's.
    entrypoint: Option<String>,
    /// Its arguments.
    args: Vec<String>,
    /// Names of variables that it gets beside those that all actions get.
    pub variables: Vec<String>,
    /// Where the step sets none of their names.
    #[serde(skip)]
    pub env: Env,
}

/// An image that a step names, with what its `with` says.
pub(crate) fn of_image(image: &str, with: &Env) -> Result<Container, String> {
    Ok(Container {
        image: Some(image.to_owned()),
        dockerfile: None,
        entrypoint: given(with, "entrypoint"),
        args: words(&given(with, "args").unwrap_or_default())?,
        variables: Vec::new(),
        env: Env::new(),
    })
}

/// An action; `phase` is its entry point before or after.
pub(crate) fn of_action(
    known: &Known,
    folder: &Path,
    action: &InContainer,
    phase: Option<&str>,
    inputs: &Env,
) -> Result<Container, String> {
    let mut known = known.clone();
    known.whole("inputs", contexts::object(inputs));
    let mut args = Vec::new();
    for arg in &action.args {
        args.push(settled(known.text(arg)).map_err(|why| format!("`args`: {why}"))?);
    }
    if action.args.is_empty() {
        args = words(&given(inputs, "args").unwrap_or_default())?;
    }
    let env = contexts::pairs(&known, action.env.as_ref());
    let (image, dockerfile) = match action.image.strip_prefix("docker://") {
        Some(image) => (Some(image.to_owned()), None),
        None => (None, Some((folder.join(&action.image), folder.to_owned()))),
    };
    let own = given(inputs, "entrypoint").or_else(|| action.entrypoint.clone());
    Ok(Container {
        image,
        dockerfile,
        entrypoint: phase.map(str::to_owned).or(own),
        args,
        variables: Vec::new(),
        env: env.map_err(|why| format!("`env`: {why}"))?,
    })
}

fn given(with: &Env, name: &str) -> Option<String> {
    let mut each = with.iter();
    let found = each.find(|(other, _)| other.eq_ignore_ascii_case(name));
    found
        .map(|(_, value)| value.clone())
        .filter(|value| !value.is_empty())
}

/// What `args` names.
fn words(line: &str) -> Result<Vec<String>, String> {
    shell_words(line).map_err(|why| format!("`args`: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_taken_apart_as_a_shell_does() {
        let cases: [(&str, &[&str]); 5] = [
            ("", &[]),
            ("  a  b\n c", &["a", "b", "c"]),
            (
                r#"echo "two words" 'it''s' """#,
                &["echo", "two words", "its", ""],
            ),
            (r#"a\ b "c\"d" '\n'"#, &["a b", "c\"d", "\\n"]),
            ("$HOME", &["$HOME"]),
        ];
        for (line, expected) in cases {
            assert_eq!(words(line).expect(line), expected, "{line}");
        }
        assert!(words("a 'b").is_err());
    }
}
