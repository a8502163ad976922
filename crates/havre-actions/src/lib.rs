//! Actions that Havre brings along: what they take, and what they do inside a box.
//!
//! ```text
//! uses: actions/checkout@v5 ─► find ─► BuiltIn (inputs, outputs, post) ─► the runner starts a step
//!                                        `havre job-action actions/checkout main` ◄─ INPUT_…, GITHUB_OUTPUT, …
//! ```
//!
//! An action is found by its name, whatever its version: what versions of it differ in is in the table of its inputs.
//! It is a process like a JavaScript action: it is told all by variables, and tells by workflow commands on its
//! standard output and by the files that `GITHUB_OUTPUT` and its like name. Exit code 0 is success; with 1 the last
//! `::error::` says why; 2 is a call that no runner makes.
//!
//! Beside GitHub's variables it reads
//! - `HAVRE_SOURCES`: `tree` or `repository`, how the workspace comes about; must be set for `actions/checkout`,
//! - `HAVRE_REPOSITORY`: the bare repository, if it is not [`havre_job::paths::REPOSITORY`],
//! - `HAVRE_TOKEN`: what `github.token` is, so that it is sent to nobody else,
//! - `HAVRE_BUILD_SOCKET`: a Unix socket in the box, whose other end builds images (see [`havre_job::images`]),
//! - `HAVRE_PYTHON_RELEASES`: the address of `latest-release.json` of a mirror of python-build-standalone.

mod artifacts;
mod built_in;
mod cache;
mod checkout;
mod docker;
mod failure;
mod git;
mod glob;
mod http;
mod reports;
mod results;
mod script;
mod step;
mod table;
mod tools;

use std::ffi::OsString;
use std::process::ExitCode;

pub use built_in::{BuiltIn, Finding, Handled, Input};
pub use docker::cli::main as docker;
pub use docker::container::main as container;
pub use table::{ALL, find};

use failure::Failure;
use step::Step;

/// Carries out one phase of an action: the arguments are its name as in [`BuiltIn::name`], and `main` or `post`.
pub fn main(args: &[OsString]) -> ExitCode {
    let words: Vec<&str> = args.iter().filter_map(|word| word.to_str()).collect();
    let [name, phase] = words.as_slice() else {
        return misused("expected the name of an action, and `main` or `post`");
    };
    let Some(action) = table::named(name) else {
        return misused(&format!("there is no action {name}"));
    };
    let step = Step::of_process();
    let result = match *phase {
        "main" => checked(action, &step).and_then(|()| run(action, &step)),
        "post" if action.post.is_some() => clean_up(action, &step),
        _ => return misused(&format!("{name} has no phase {phase}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => step.fail(&failure),
    }
}

fn misused(what: &str) -> ExitCode {
    Step::of_process().error(what);
    ExitCode::from(2)
}

/// What the runner should have found before the job began is found here at the latest.
fn checked(action: &BuiltIn, step: &Step) -> Result<(), Failure> {
    if let Some(why) = action.refusal() {
        return Err(Failure::Refused(why));
    }
    for input in action.inputs {
        match action.judge(input.name, &step.input(input.name)) {
            Some(Finding::Refused(why)) => return Err(Failure::Refused(why)),
            // A default that is an expression comes as what it is evaluated to, as if somebody had given it.
            Some(Finding::Ignored(why)) if !input.has_expression() => step.warning(&why),
            Some(Finding::Ignored(_)) => {}
            None => {}
        }
    }
    match action
        .inputs
        .iter()
        .find(|input| input.required && step.input(input.name).is_empty())
    {
        Some(input) => Err(Failure::Refused(format!(
            "{} needs the input `{}`",
            action.name, input.name
        ))),
        None => Ok(()),
    }
}

fn run(action: &BuiltIn, step: &Step) -> Result<(), Failure> {
    match action.name {
        "actions/checkout" => checkout::main(step),
        "actions/cache" | "actions/cache/restore" => cache::main(step),
        "actions/cache/save" => cache::save(step),
        "actions/upload-artifact" => artifacts::upload(step),
        "actions/download-artifact" => artifacts::download(step),
        "actions/setup-node" => tools::node(step),
        "actions/setup-python" => tools::python(step),
        "actions/setup-go" => tools::go(step),
        "actions/setup-java" => tools::java(step),
        "pnpm/action-setup" => tools::pnpm(step),
        "docker/login-action" => docker::login(step),
        "docker/setup-buildx-action" => docker::setup_buildx(step),
        "docker/setup-qemu-action" => docker::setup_qemu(step),
        "docker/metadata-action" => docker::metadata(step),
        "docker/build-push-action" => docker::build_push(step),
        "actions/github-script" => script::main(step),
        "codecov/codecov-action" => reports::codecov(step),
        "github/codeql-action/upload-sarif" => reports::sarif(step),
        _ => Err(failure::missing(action.name)),
    }
}

fn clean_up(action: &BuiltIn, step: &Step) -> Result<(), Failure> {
    match action.name {
        "actions/checkout" => checkout::post(step),
        "actions/cache" => cache::post(step),
        "docker/login-action" => docker::logout(step),
        "actions/setup-node"
        | "actions/setup-python"
        | "actions/setup-go"
        | "actions/setup-java"
        | "pnpm/action-setup" => tools::post(step),
        _ => Err(failure::missing(action.name)),
    }
}
