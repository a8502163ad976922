//! Runs the program that an action is.

use std::path::Path;
use std::time::Instant;

use havre_pipeline::Object;

use crate::action;
use crate::container;
use crate::environment::{self, Env};
use crate::execute::{Executed, Process, execute, unable};
use crate::job::{Job, Program};
use crate::names;

/// Says in `github` where an action comes from.
pub(crate) fn add_origin(github: &mut Object, origin: Option<(String, String)>) {
    if let Some((repository, reference)) = origin {
        github.insert("action_repository", repository);
        github.insert("action_ref", reference);
    }
}

/// A program that an action is, and what it is called with.
pub(crate) struct Called<'a> {
    pub program: &'a Program,
    pub phase: &'a str,
    pub inputs: &'a Env,
    pub state: &'a [(String, String)],
    pub place: u32,
    pub env: &'a Env,
    pub folders: &'a [String],
    pub github: Object,
    pub deadline: Option<Instant>,
    pub goes_on: &'a dyn Fn() -> bool,
}

/// Runs it.
pub(crate) fn run_program(job: &Job<'_>, called: Called<'_>) -> Executed {
    let mut own = action::variables(called.inputs);
    let state = called.state.iter();
    own.extend(state.map(|(name, value)| (format!("STATE_{name}"), value.clone())));
    own.extend(job.for_actions());
    own.extend(job.for_identity());
    if matches!(called.program, Program::BuiltIn(_)) {
        let sources = names::of_sources(&job.document.sources);
        own.insert("HAVRE_SOURCES".to_owned(), sources.to_owned());
        if let Some(token) = called.github.get("token") {
            own.insert("HAVRE_TOKEN".to_owned(), token.to_text().into_owned());
        }
    }
    let line = match called.program {
        Program::BuiltIn(name) => job.built_in(name, called.phase),
        Program::Container(container) => {
            let env = container.env.iter();
            let env = env.filter(|(name, _)| !called.env.contains_key(*name));
            own.extend(env.map(|(name, value)| (name.clone(), value.clone())));
            let mut told = container.clone();
            told.variables = called
                .env
                .keys()
                .chain(container.env.keys())
                .cloned()
                .collect();
            match serde_json::to_string(&told) {
                Ok(text) => {
                    own.insert(container::VARIABLE.to_owned(), text);
                    job.own(&["job-container"])
                }
                Err(error) => Err(format!("the container cannot be described: {error}")),
            }
        }
        Program::Script(path) => {
            let all = environment::variables(
                job.document,
                &job.inherited,
                called.env,
                called.folders,
                &called.github,
            );
            let node = job.node(all.get("PATH").map_or("", String::as_str));
            node.map(|node| (node, vec![path.to_string_lossy().into_owned()]))
        }
    };
    let (program, arguments) = match line {
        Ok(line) => line,
        Err(why) => return unable(job, called.place, why),
    };
    execute(
        job,
        Process {
            place: called.place,
            programs: &[program.to_string_lossy().into_owned()],
            arguments: &arguments,
            folder: Path::new(&job.document.runner.workspace),
            env: called.env,
            own: &own,
            folders: called.folders,
            github: called.github,
            deadline: called.deadline,
            goes_on: called.goes_on,
        },
    )
}
