//! What an action says of itself: `action.yml`.
//!
//! Source: GitHub's published schema of actions and its documentation of the syntax.

use std::path::{Path, PathBuf};

use havre_yaml::{Map, Node, Report, Span};
use indexmap::IndexMap;

use crate::check::check_as;
use crate::decode::steps::steps;
use crate::decode::values::Reader;
use crate::limits::Limits;
use crate::model::{Condition, Pairs, Step, Template};
use crate::read::{CODES, Failure, document};
use crate::schema::{ACTION, NOTHING, Shape};

/// An action.
#[derive(Clone, Debug)]
pub struct ActionFile {
    /// What it is called.
    pub name: String,
    /// What it takes, by name.
    pub inputs: IndexMap<String, ActionInput>,
    /// What it gives, by name; only a composite action says how.
    pub outputs: IndexMap<String, Option<Template>>,
    /// How it runs.
    pub runs: Runs,
}

/// An input of an action.
#[derive(Clone, Debug)]
pub struct ActionInput {
    /// What it is where it is not given.
    pub default: Option<Template>,
    /// What to say to who gives it.
    pub deprecation: Option<String>,
}

/// How an action runs.
#[derive(Clone, Debug)]
pub enum Runs {
    /// Steps of its own.
    Composite(Vec<Step>),
    /// Scripts for Node.js; paths from the action's folder.
    JavaScript {
        /// At its place among the steps.
        main: String,
        /// Before the first step.
        pre: Option<Phase>,
        /// After the last.
        post: Option<Phase>,
    },
    /// In a container of its own.
    Container(Box<InContainer>),
}

/// A container that an action is.
#[derive(Clone, Debug)]
pub struct InContainer {
    /// `docker://` and a name, or a Dockerfile, from the action's folder.
    pub image: String,
    /// Instead of the image's.
    pub entrypoint: Option<String>,
    /// Its arguments.
    pub args: Vec<Template>,
    /// Variables that a step may set otherwise.
    pub env: Option<Pairs>,
    /// Before the first step: an entry point.
    pub pre: Option<Phase>,
    /// After the last: an entry point.
    pub post: Option<Phase>,
}

impl InContainer {
    /// A Dockerfile, and nothing more.
    pub fn of_dockerfile(image: &str) -> Self {
        Self {
            image: image.to_owned(),
            entrypoint: None,
            args: Vec::new(),
            env: None,
            pre: None,
            post: None,
        }
    }
}

/// A script before or after the others.
#[derive(Clone, Debug)]
pub struct Phase {
    /// From the action's folder; of a container: what it begins with.
    pub script: String,
    /// Whether it runs; always where nothing is written.
    pub condition: Option<Condition>,
}

/// Versions of Node.js that an action may ask for; all of them get the one that is there.
const NODES: [&str; 4] = ["node12", "node16", "node20", "node24"];

/// Reads the text of an `action.yml`; `path` is how it is shown.
pub fn read(path: &Path, text: &str, limits: &Limits) -> Result<ActionFile, Failure> {
    let mut report = Report::new(PathBuf::new(), CODES);
    let found = document(path, text, "an action's file", limits, &mut report).and_then(|root| {
        check_as(
            "the action",
            &root,
            &Shape::Section(&ACTION),
            &NOTHING,
            &mut report,
        );
        decode(&root, &mut report)
    });
    match found {
        Some(found) if !report.has_errors() => Ok(found),
        _ => {
            let (errors, warnings) = report.finish();
            Err(Failure { errors, warnings })
        }
    }
}

/// A condition that stands in no file; `None` for an empty one.
pub fn condition(text: &str) -> Option<Condition> {
    let (mut report, node) = alone(text);
    Reader {
        report: &mut report,
    }
    .condition(&node)
}

/// A text with expressions that stands in no file.
pub fn template(text: &str) -> Option<Template> {
    let (mut report, node) = alone(text);
    Reader {
        report: &mut report,
    }
    .template(&node)
}

fn alone(text: &str) -> (Report, Node) {
    let mut report = Report::new(PathBuf::new(), CODES);
    let source = report.add_source(Path::new(""), text.to_owned());
    let start = havre_yaml::LineColumn { line: 1, column: 1 };
    let span = Span {
        source,
        start,
        end: start,
    };
    (report, Node::scalar(span, text))
}

fn decode(root: &Node, report: &mut Report) -> Option<ActionFile> {
    let map = root.as_map()?;
    let mut reader = Reader { report };
    let reader = &mut reader;
    let name = map.get("name").and_then(|node| reader.text(node));
    let runs = map.get("runs")?;
    Some(ActionFile {
        name: name.map(|name| name.value).unwrap_or_default(),
        inputs: inputs(map, reader),
        outputs: outputs(map, reader),
        runs: decode_runs(runs.as_map()?, runs.span, reader)?,
    })
}

fn inputs(map: &Map, reader: &mut Reader<'_>) -> IndexMap<String, ActionInput> {
    let entries = map.get("inputs").and_then(Node::as_map);
    let entries = entries.into_iter().flat_map(|map| &map.entries);
    let mut found = IndexMap::new();
    for (name, entry) in entries {
        let keys = entry.value.as_map();
        let get = |key: &str| keys.and_then(|map| map.get(key));
        let deprecation = get("deprecationMessage").and_then(|node| reader.text(node));
        let input = ActionInput {
            default: get("default").and_then(|node| reader.template(node)),
            deprecation: deprecation.map(|text| text.value),
        };
        found.insert(name.clone(), input);
    }
    found
}

fn outputs(map: &Map, reader: &mut Reader<'_>) -> IndexMap<String, Option<Template>> {
    let entries = map.get("outputs").and_then(Node::as_map);
    let entries = entries.into_iter().flat_map(|map| &map.entries);
    let value = |node: &Node| reader.template(node.as_map()?.get("value")?);
    entries
        .map(|(name, entry)| (name.clone(), value(&entry.value)))
        .collect()
}

fn decode_runs(map: &Map, span: Span, reader: &mut Reader<'_>) -> Option<Runs> {
    let node = map.get("using")?;
    let using = reader.text(node)?.value.to_lowercase();
    let (needs, may): (&str, &[&str]) = match using.as_str() {
        "composite" => ("steps", &[]),
        "docker" => (
            "image",
            &[
                "entrypoint",
                "args",
                "env",
                "pre-entrypoint",
                "pre-if",
                "post-entrypoint",
                "post-if",
            ],
        ),
        node if NODES.contains(&node) => ("main", &["pre", "pre-if", "post", "post-if"]),
        _ => {
            let message = format!("`runs.using` is unknown: `{using:.40}`");
            reader
                .error("workflow/value", node.span, message)
                .hint("there are composite, node20, node24 and docker");
            return None;
        }
    };
    for (name, entry) in &map.entries {
        if name != "using" && name != needs && !may.contains(&name.as_str()) {
            let message = format!("`runs.{name}` does not go with `using: {using}`");
            reader.error("workflow/conflict", entry.key, message);
        }
    }
    let Some(needed) = map.get(needs) else {
        let message = format!("`runs` lacks `{needs}`");
        reader.error("workflow/missing-key", span, message);
        return None;
    };
    Some(match needs {
        "steps" => Runs::Composite(steps(needed, reader)),
        "image" => Runs::Container(Box::new(InContainer {
            image: reader.text(needed)?.value,
            entrypoint: map
                .get("entrypoint")
                .and_then(|node| reader.text(node))
                .map(|text| text.value)
                .filter(|text| !text.is_empty()),
            args: map
                .get("args")
                .map_or_else(Vec::new, |node| reader.templates(node)),
            env: map.get("env").and_then(|node| reader.pairs(node)),
            pre: phase(map, "pre-entrypoint", "pre-if", reader),
            post: phase(map, "post-entrypoint", "post-if", reader),
        })),
        _ => Runs::JavaScript {
            main: reader.text(needed)?.value,
            pre: phase(map, "pre", "pre-if", reader),
            post: phase(map, "post", "post-if", reader),
        },
    })
}

fn phase(map: &Map, script: &str, condition: &str, reader: &mut Reader<'_>) -> Option<Phase> {
    let script = map.get(script).and_then(|node| reader.text(node))?;
    Some(Phase {
        script: script.value,
        condition: map.get(condition).and_then(|node| reader.condition(node)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> String {
        match read(Path::new("a/action.yml"), text, &Limits::default()) {
            Ok(action) => match action.runs {
                Runs::Composite(steps) => format!("composite {}", steps.len()),
                Runs::JavaScript { main, pre, post } => {
                    format!("javascript {main} {} {}", pre.is_some(), post.is_some())
                }
                Runs::Container(of) => format!(
                    "container {} {:?} {} {} {} {}",
                    of.image,
                    of.entrypoint,
                    of.args.len(),
                    of.env.is_some(),
                    of.pre.is_some(),
                    of.post.is_some()
                ),
            },
            Err(failure) => {
                let each = failure.errors.iter().map(|error| {
                    let at = error.location.as_ref().map(|at| (at.line, at.column));
                    format!("{at:?} {}", error.message)
                });
                each.collect::<Vec<_>>().join("; ")
            }
        }
    }

    #[test]
    fn actions_are_read() {
        let composite = "name: a\nruns:\n  using: composite\n  steps:\n    - run: x\n      shell: sh\n      if: failure()\n";
        assert_eq!(check(composite), "composite 1");
        let node = "inputs: {a: {type: boolean, default: '${{ github.token }}'}, b: }\nruns: {using: node20, main: a.js, post: b.js, post-if: success()}\n";
        assert_eq!(check(node), "javascript a.js false true");
        assert_eq!(
            check(
                "runs: {using: docker, image: Dockerfile, args: [a, '${{ inputs.x }}'], pre-entrypoint: /p}"
            ),
            "container Dockerfile None 2 false true false"
        );
        assert_eq!(
            check(
                "runs: {using: docker, image: 'docker://a:1', entrypoint: /e, env: {A: b}, post-entrypoint: /p, post-if: always()}"
            ),
            "container docker://a:1 Some(\"/e\") 0 true false true"
        );
    }

    #[test]
    fn what_is_wrong_with_an_action_is_told_with_its_place() {
        assert_eq!(check("name: a"), "Some((1, 1)) the action lacks `runs`");
        assert_eq!(
            check("runs: {using: ruby}"),
            "Some((1, 15)) `runs.using` is unknown: `ruby`"
        );
        assert_eq!(
            check("runs: {using: node20, main: a, steps: []}"),
            "Some((1, 32)) `runs.steps` does not go with `using: node20`"
        );
        assert_eq!(
            check("runs: {using: composite}"),
            "Some((1, 7)) `runs` lacks `steps`"
        );
        assert_eq!(
            check("nmae: a\nruns: {using: node20, main: a}"),
            "Some((1, 1)) the action has unknown key `nmae`"
        );
        assert!(
            check("runs:\n  using: composite\n  steps:\n    - run: x\n").contains("lacks `shell`")
        );
        assert!(
            check("runs:\n  using: composite\n  steps:\n    - run: ${{ secrets.a }}\n      shell: sh\n")
                .contains("context `secrets` is not available here")
        );
    }
}
