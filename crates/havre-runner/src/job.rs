//! What the steps of a job share.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use havre_job::{Document, paths};
use havre_pipeline::{Before, Known, Object};
use havre_workflow::{Condition, RunDefaults};

use crate::action::Loaded;
use crate::artifacts::Subjects;
use crate::capture::capture;
use crate::container::Container;
use crate::contexts::{self, Base};
use crate::environment::Env;
use crate::output::Around;
use crate::prepare::Prepared;
use crate::processes::Processes;
use crate::tell::Teller;

/// What the steps of a job share.
pub(crate) struct Job<'a> {
    /// What the runner was told.
    pub document: &'a Document,
    /// Of the job, then of the workflow.
    pub defaults: [&'a RunDefaults; 2],
    /// Tells.
    pub teller: Arc<Teller>,
    /// Starts and ends.
    pub processes: Arc<Processes>,
    /// What outputs need to know.
    pub around: Arc<Around>,
    /// Contexts.
    pub base: Base,
    /// Variables that the runner was given itself.
    pub inherited: Env,
    /// Of the port that passes on to what serves artifacts and caches.
    pub results_port: Option<u16>,
    /// Actions of other repositories.
    pub prepared: Prepared,
    /// The next step's place.
    pub places: AtomicU32,
    /// The next process's number.
    pub numbers: AtomicU32,
    /// What the job made.
    pub subjects: Mutex<Subjects>,
    /// What each step's summary is so far, by its place: several processes may belong to one.
    pub summaries: Mutex<HashMap<u32, String>>,
    /// `ACTIONS_CACHE_MODE`, where the workflow says one.
    pub cache_mode: Option<&'static str>,
    /// Where Node.js is, or why it cannot be used.
    pub node: OnceLock<Result<PathBuf, String>>,
}

/// What a step finds: what the steps before it left.
#[derive(Clone, Default)]
pub(crate) struct View {
    /// Variables of workflow and job, and what steps wrote to `GITHUB_ENV`.
    pub env: Env,
    /// Those of the steps with composite actions around.
    pub over: Env,
    /// Folders for PATH, the last one first.
    pub folders: Vec<String>,
    /// The `steps` context.
    pub steps: Object,
    /// Whether one before it failed.
    pub failed: bool,
    /// The composite action that it is in.
    pub inside: Option<Inside>,
}

/// A composite action, from within.
#[derive(Clone)]
pub(crate) struct Inside {
    /// The action.
    pub action: Arc<Loaded>,
    /// Its inputs.
    pub inputs: Object,
    /// How many are around it.
    pub depth: usize,
}

/// What a step changes for those after it.
#[derive(Default)]
pub(crate) struct Effects {
    /// Variables.
    pub env: Vec<(String, String)>,
    /// Folders for PATH.
    pub folders: Vec<String>,
    /// Its outputs.
    pub outputs: Vec<(String, String)>,
    /// What is to be done after the last step.
    pub posts: Vec<Post>,
}

/// What is to be done after the last step.
pub(crate) struct Post {
    /// Of the step that it belongs to.
    pub name: String,
    /// Whether it runs.
    pub condition: Option<Condition>,
    /// What runs.
    pub program: Program,
    /// Variables of its step.
    pub env: Env,
    /// Its inputs.
    pub inputs: Env,
    /// What its step saved.
    pub state: Vec<(String, String)>,
    /// The action, and the id of its step.
    pub origin: Option<(String, String)>,
    /// `github.action`.
    pub id: String,
}

/// A program that an action is.
#[derive(Clone, Debug)]
pub(crate) enum Program {
    /// A script for Node.js.
    Script(PathBuf),
    /// A part of Havre: its name.
    BuiltIn(&'static str),
    /// A container of its own.
    Container(Box<Container>),
}

impl View {
    /// Takes what a step changed.
    pub fn apply(&mut self, effects: &Effects) {
        self.env.extend(effects.env.iter().cloned());
        for folder in &effects.folders {
            self.folders.retain(|other| other != folder);
            self.folders.push(folder.clone());
        }
    }

    /// All variables that a step finds.
    pub fn variables(&self) -> Env {
        let mut env = self.env.clone();
        env.extend(self.over.clone());
        env
    }
}

impl Job<'_> {
    /// A place for a step that was not foreseen.
    pub fn next_place(&self) -> u32 {
        self.places.fetch_add(1, Ordering::Relaxed)
    }

    /// How it went so far, for a step with this view.
    pub fn before(&self, view: &View) -> Before {
        contexts::before(self.processes.cancels() > 0, view.failed)
    }

    /// The `github` context of a step; `id` is that of the step.
    pub fn github(&self, view: &View, id: &str) -> Object {
        let mut github = self.base.github.clone();
        github.insert("action", id);
        if let Some(inside) = &view.inside {
            let folder = inside.action.folder.to_string_lossy();
            github.insert("action_path", folder.as_ref());
            if let Some((repository, reference)) = &inside.action.origin {
                github.insert("action_repository", repository.as_str());
                github.insert("action_ref", reference.as_str());
            }
            let status = contexts::status(self.before(view));
            github.insert("action_status", status);
        }
        github
    }

    /// All that a step's expressions know, without its own variables.
    pub fn known(&self, view: &View, id: &str) -> Known {
        let mut known = self.base.known.clone();
        known.whole("github", self.github(view, id));
        known.whole("env", contexts::object(&view.variables()));
        known.whole("steps", view.steps.clone());
        let mut job = self.base.job.clone();
        job.insert("status", contexts::status(self.before(view)));
        known.whole("job", job);
        if let Some(inside) = &view.inside {
            known.whole("inputs", inside.inputs.clone());
        }
        known
    }

    /// Variables for programs that are actions, and no others.
    pub fn for_actions(&self) -> Env {
        let mut env = Env::new();
        if let Some(mode) = self.cache_mode {
            env.insert("ACTIONS_CACHE_MODE".to_owned(), mode.to_owned());
        }
        let (Some(results), Some(port)) = (&self.document.results, self.results_port) else {
            return env;
        };
        let address = format!("http://127.0.0.1:{port}/");
        for (name, value) in [
            ("ACTIONS_RUNTIME_TOKEN", results.token.as_str()),
            ("ACTIONS_RUNTIME_URL", &address),
            ("ACTIONS_RESULTS_URL", &address),
            ("ACTIONS_CACHE_SERVICE_V2", "true"),
        ] {
            env.insert(name.to_owned(), value.to_owned());
        }
        env
    }

    /// Variables by which a job asks for a token of identity.
    pub fn for_identity(&self) -> Env {
        let results = self.document.results.as_ref();
        let identity = results.and_then(|results| results.identity.as_ref());
        let mut env = Env::new();
        if let (Some(token), Some(port)) = (identity, self.results_port) {
            let address = format!("http://127.0.0.1:{port}/identity/token?api-version=2.0");
            env.insert("ACTIONS_ID_TOKEN_REQUEST_URL".to_owned(), address);
            env.insert("ACTIONS_ID_TOKEN_REQUEST_TOKEN".to_owned(), token.clone());
        }
        env
    }

    /// Node.js, of a version that actions can count on; looked for once.
    pub fn node(&self, path: &str) -> Result<PathBuf, String> {
        let find = || {
            let needed = "JavaScript actions need Node.js 20 or newer in the box";
            let program = crate::environment::program("node", path, Path::new("/"));
            let program = program.ok_or_else(|| format!("{needed}, and there is no `node` in PATH: use an image or a machine that has it"))?;
            let mut command = Command::new(&program);
            let captured = capture(
                &self.processes,
                command.arg("--version"),
                Duration::from_secs(20),
            )?;
            let version = captured.stdout.trim().trim_start_matches('v');
            let major: Option<u32> = version.split('.').next().and_then(|part| part.parse().ok());
            match major {
                Some(20..) => Ok(program),
                _ => Err(format!(
                    "{needed}; `{}` says `{version:.40}`",
                    program.display()
                )),
            }
        };
        self.node.get_or_init(find).clone()
    }

    /// How the part of Havre that an action is gets called.
    pub fn built_in(&self, name: &str, phase: &str) -> Result<(PathBuf, Vec<String>), String> {
        self.own(&["job-action", name, phase])
    }

    /// How a part of Havre gets called.
    pub fn own(&self, arguments: &[&str]) -> Result<(PathBuf, Vec<String>), String> {
        let arguments = arguments.iter().map(|word| (*word).to_owned());
        if Path::new(paths::LOADER).exists() {
            let before = ["--library-path", paths::LIBRARIES, paths::BINARY].map(str::to_owned);
            return Ok((
                paths::LOADER.into(),
                before.into_iter().chain(arguments).collect(),
            ));
        }
        let own = std::env::current_exe();
        let own = own.map_err(|error| format!("the own program cannot be found: {error}"))?;
        Ok((own, arguments.collect()))
    }
}
