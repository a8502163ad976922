//! Runs one process of a step, and takes what it said.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use havre_job::{LineKind, MAX_SUMMARY, StepResult, Told};
use havre_pipeline::Object;

use crate::environment::{self, Env};
use crate::files::{Files, Written};
use crate::job::{Effects, Job};
use crate::output::{Output, Said};
use crate::processes::{Ended, Stop, Watch};
use crate::reading::Reading;

/// What is to run.
pub(crate) struct Process<'a> {
    /// Of its step.
    pub place: u32,
    /// To be looked up in PATH; the first that is there.
    pub programs: &'a [String],
    /// Its arguments.
    pub arguments: &'a [String],
    /// Where it begins.
    pub folder: &'a Path,
    /// Variables of its step with all that is around it.
    pub env: &'a Env,
    /// Further ones, which win.
    pub own: &'a Env,
    /// Folders for PATH, the last one first.
    pub folders: &'a [String],
    /// The `github` context.
    pub github: Object,
    /// When it has to be done.
    pub deadline: Option<Instant>,
    /// Whether it goes on although the job was cancelled.
    pub goes_on: &'a dyn Fn() -> bool,
}

/// How it went.
pub(crate) struct Executed {
    pub result: StepResult,
    pub exit_code: Option<i32>,
    pub why: Option<String>,
    /// What it changed.
    pub effects: Effects,
    /// What it saved for a post step.
    pub state: Vec<(String, String)>,
}

impl Executed {
    /// It could not be run.
    pub fn failed(why: String) -> Self {
        Self {
            result: StepResult::Failure,
            exit_code: None,
            why: Some(why),
            effects: Effects::default(),
            state: Vec::new(),
        }
    }
}

/// Runs it.
pub(crate) fn execute(job: &Job<'_>, process: Process<'_>) -> Executed {
    let number = job.numbers.fetch_add(1, Ordering::Relaxed);
    let temp = Path::new(&job.document.runner.temp);
    let list = {
        let subjects = job.subjects.lock().unwrap_or_else(PoisonError::into_inner);
        subjects.list()
    };
    let files = match Files::make(temp, number, &list) {
        Ok(files) => files,
        Err(error) => {
            let why = format!("the step's files cannot be made: {error}");
            return unable(job, process.place, why);
        }
    };
    let (ended, said) = match start(job, &process, &files, number) {
        Ok(done) => done,
        Err(why) => return unable(job, process.place, why),
    };
    let written = files.read();
    finished(job, &process, ended, said, written)
}

/// Tells why a process cannot be run.
pub(crate) fn unable(job: &Job<'_>, place: u32, why: String) -> Executed {
    job.teller.lines(Some(place), LineKind::Error, &why);
    Executed::failed(why)
}

fn start(
    job: &Job<'_>,
    process: &Process<'_>,
    files: &Files,
    number: u32,
) -> Result<(Ended, Said), String> {
    let mut github = process.github.clone();
    for (key, path) in files.each() {
        github.insert(key, path.to_string_lossy().as_ref());
    }
    let mut env = environment::variables(
        job.document,
        &job.inherited,
        process.env,
        process.folders,
        &github,
    );
    env.extend(process.own.clone());
    let tracking = format!("havre_{}_{number}", std::process::id());
    let mark = format!("RUNNER_TRACKING_ID={tracking}");
    env.insert("RUNNER_TRACKING_ID".to_owned(), tracking);
    let program = program(process, &env)?;
    if !process.folder.is_dir() {
        let folder = process.folder.display();
        return Err(format!(
            "the working directory `{folder}` does not exist: a step before has to make it"
        ));
    }
    let mut command = Command::new(&program);
    command
        .args(process.arguments)
        .current_dir(process.folder)
        .env_clear()
        .envs(&env);
    let running = job.processes.spawn(&mut command).map_err(|error| {
        let program = program.display();
        match error.kind() {
            std::io::ErrorKind::ArgumentListTooLong => format!(
                "`{program}` cannot be run: the variables of the step are larger than the kernel takes; keep large texts in files, not in `env` or $GITHUB_ENV"
            ),
            _ => format!("`{program}` cannot be run: {error}"),
        }
    })?;
    let output = Output::new(Arc::clone(&job.around), process.place);
    let teller = Arc::clone(&job.teller);
    let reading = Reading::start(running.stdout, running.stderr, output, teller);
    let watch = Watch {
        place: process.place,
        deadline: process.deadline,
        goes_on: process.goes_on,
        mark: &mark,
    };
    let ended = job.processes.watch(running.id, &watch);
    let reading = reading.map_err(|error| format!("the step's output cannot be read: {error}"))?;
    Ok((ended, reading.finish()))
}

fn program(process: &Process<'_>, env: &Env) -> Result<PathBuf, String> {
    let path = env.get("PATH").map_or("", String::as_str);
    let mut programs = process.programs.iter();
    let found = programs.find_map(|name| environment::program(name, path, process.folder));
    found.ok_or_else(|| {
        let names = process.programs.join("` or `");
        format!("there is no `{names}` in PATH: install it in a step before, or use an image that has it")
    })
}

fn finished(
    job: &Job<'_>,
    process: &Process<'_>,
    ended: Ended,
    said: Said,
    written: Written,
) -> Executed {
    let place = process.place;
    let step = Some(place);
    let tell = |kind, text: &str| job.teller.lines(step, kind, text);
    for text in &written.refused {
        tell(LineKind::Error, text);
    }
    let mut errors = written.errors;
    if let Some(text) = written.summary {
        errors.extend(summary(job, place, &text).err());
    }
    if !written.artifacts.is_empty() {
        errors.extend(artifacts(job, place, &written.artifacts).err());
    }
    for text in &errors {
        tell(LineKind::Error, text);
    }
    let (mut result, exit_code, mut why) = verdict(&ended);
    let failed = errors.into_iter().next().or(said.failed);
    if let (Some(failed), StepResult::Success) = (failed, result) {
        (result, why) = (StepResult::Failure, Some(failed));
    } else if let (Some(why), true) = (&why, result == StepResult::Failure) {
        tell(LineKind::Error, why);
    }
    let mut outputs = said.outputs;
    outputs.extend(written.outputs);
    let mut state = said.state;
    state.extend(written.state);
    Executed {
        result,
        exit_code,
        why,
        effects: Effects {
            env: written.env,
            folders: written.paths,
            outputs,
            posts: Vec::new(),
        },
        state,
    }
}

/// Tells the step's summary, of which this is one more part.
fn summary(job: &Job<'_>, step: u32, part: &str) -> Result<(), String> {
    let mut all = job.summaries.lock().unwrap_or_else(PoisonError::into_inner);
    let text = all.entry(step).or_default();
    let feed = usize::from(!text.is_empty());
    if text.len() + feed + part.len() > MAX_SUMMARY {
        return Err(format!(
            "the step's summary holds more than {MAX_SUMMARY} bytes, which is too much"
        ));
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(part);
    let text = text.clone();
    job.teller.tell(Told::Summary { step, text });
    Ok(())
}

fn artifacts(job: &Job<'_>, place: u32, text: &str) -> Result<(), String> {
    let mut subjects = job.subjects.lock().unwrap_or_else(PoisonError::into_inner);
    let workspace = Path::new(&job.document.runner.workspace);
    let added = subjects.add(text, workspace);
    let added = added.map_err(|why| format!("$GITHUB_ARTIFACTS cannot be used: {why}"))?;
    if added > 0 {
        let all = subjects.len();
        let text = format!("{added} artifacts are named by this step, {all} by the job");
        job.teller.line(Some(place), LineKind::Plain, text);
    }
    Ok(())
}

/// What a process's end means.
fn verdict(ended: &Ended) -> (StepResult, Option<i32>, Option<String>) {
    use std::os::unix::process::ExitStatusExt as _;
    let code = ended.status.and_then(|status| status.code());
    match ended.stop {
        Some(Stop::Job) => {
            let why = "The operation was canceled.".to_owned();
            return (StepResult::Cancelled, code, Some(why));
        }
        Some(Stop::Step) => {
            let why = "A step with `cancel` ended it.".to_owned();
            return (StepResult::Cancelled, code, Some(why));
        }
        Some(Stop::Timeout) => {
            let why = "The step took longer than its `timeout-minutes`.".to_owned();
            return (StepResult::Failure, code, Some(why));
        }
        None => {}
    }
    let signal = ended.status.and_then(|status| status.signal());
    match (code, signal) {
        (Some(0), _) => (StepResult::Success, code, None),
        (Some(number), _) => {
            let why = format!("Process completed with exit code {number}.");
            (StepResult::Failure, code, Some(why))
        }
        (None, Some(signal)) => {
            let why = match signal {
                9 => "The process was killed (signal 9): it may have used more memory than the job has.".to_owned(),
                signal => format!("The process was ended by signal {signal}."),
            };
            (StepResult::Failure, None, Some(why))
        }
        (None, None) => {
            let why = "The process could not be ended.".to_owned();
            (StepResult::Failure, None, Some(why))
        }
    }
}
