//! A job from its beginning to its end.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use havre_job::{Document, JobResult, LineKind, MAX_OUTPUTS, StepResult, Told};
use havre_pipeline::Value;
use havre_workflow::{Action, CacheMode, Limits, Step, StepsJob, Work, Workflow};

use crate::contexts::{self, Base, settled};
use crate::environment::{self, Env};
use crate::job::{Job, View};
use crate::list::{self, Entry};
use crate::names;
use crate::output::Around;
use crate::passage;
use crate::phases;
use crate::prepare::{Prepared, Preparing};
use crate::processes::Processes;
use crate::steps::Slot;
use crate::tell::{Teller, now_ms};

/// Runs the job and tells all of it; how it ended.
pub(crate) fn run(
    document: &Document,
    teller: &Arc<Teller>,
    processes: &Arc<Processes>,
) -> JobResult {
    mask(document, teller);
    let ended = read(document).and_then(|workflow| {
        let steps = steps_job(document, &workflow)?;
        run_steps(document, &workflow, steps, teller, processes)
    });
    processes.kill_all();
    let cancelled = processes.cancels() > 0;
    let ended = ended.unwrap_or_else(|why| {
        let steps = Vec::new();
        let at_ms = now_ms();
        teller.tell(Told::Began { at_ms, steps });
        teller.lines(None, LineKind::Error, &why);
        Ending::failed()
    });
    let result = match cancelled {
        true => JobResult::Cancelled,
        false => ended.result,
    };
    teller.tell(Told::Ended {
        result,
        outputs: ended.outputs,
        environment_url: ended.environment_url,
        images: ended.images,
        at_ms: now_ms(),
    });
    result
}

struct Ending {
    result: JobResult,
    outputs: Vec<(String, String)>,
    environment_url: Option<String>,
    images: Vec<(String, String)>,
}

impl Ending {
    fn failed() -> Self {
        Self {
            result: JobResult::Failure,
            outputs: Vec::new(),
            environment_url: None,
            images: Vec::new(),
        }
    }
}

fn mask(document: &Document, teller: &Teller) {
    let secrets = contexts::texts_of(document, "secrets", |_| true);
    let mut all: Vec<&str> = secrets.iter().map(String::as_str).collect();
    let token = contexts::texts_of(document, "github", |name| name == "token");
    all.extend(token.iter().map(String::as_str));
    all.extend(document.masks.iter().map(String::as_str));
    if let Some(results) = &document.results {
        all.push(&results.token);
        all.extend(results.identity.as_deref());
    }
    let lines: Vec<&str> = all.iter().flat_map(|text| text.lines()).collect();
    all.extend(lines);
    // One that is too short was told to who stored it.
    teller.masks.add(all);
}

fn read(document: &Document) -> Result<Workflow, String> {
    let path = Path::new(&document.path);
    match havre_workflow::read(Path::new(""), path, &document.workflow, &Limits::default()) {
        Ok(read) => Ok(read.workflow),
        Err(failure) => {
            let errors = failure.errors.iter().map(ToString::to_string);
            Err(errors.collect::<Vec<_>>().join("\n"))
        }
    }
}

fn steps_job<'w>(document: &Document, workflow: &'w Workflow) -> Result<&'w StepsJob, String> {
    let (path, key) = (&document.path, &document.job);
    let job = workflow.jobs.get(key);
    match job.map(|job| &job.work) {
        Some(Work::Steps(steps)) => Ok(steps),
        Some(Work::Call(_)) => Err(format!(
            "{path}: job `{key}` calls a workflow: it has no steps"
        )),
        None => Err(format!("{path}: there is no job `{key}`")),
    }
}

fn run_steps(
    document: &Document,
    workflow: &Workflow,
    steps: &StepsJob,
    teller: &Arc<Teller>,
    processes: &Arc<Processes>,
) -> Result<Ending, String> {
    let event_path = Path::new(&document.runner.temp).join("_github_workflow/event.json");
    let mut base = contexts::base(document, &event_path)?;
    write_event(&event_path, &base)?;
    let results_port =
        match &document.results {
            None => None,
            Some(results) => {
                let port = passage::listen(PathBuf::from(&results.socket));
                Some(port.map_err(|error| {
                    format!("no port for artifacts and caches can be had: {error}")
                })?)
            }
        };
    for door in &document.doors {
        if let Err(error) = passage::open(door) {
            let port = door.port;
            let text = format!(
                "port {port} of this job is taken ({error}): https://… of *.localhost leads to who has it"
            );
            teller.line(None, LineKind::Notice, text);
        }
    }
    if let Some(port) = results_port {
        // Nothing of GitHub's is there: whatever is asked is answered so, instead of by nobody.
        for (name, path) in [("api_url", "v3"), ("graphql_url", "graphql")] {
            let address = format!("http://127.0.0.1:{port}/api/{path}");
            base.github.insert(name, address.as_str());
        }
    }
    let around = Around {
        teller: Arc::clone(teller),
        workspace: PathBuf::from(&document.runner.workspace),
        matchers: Arc::new(Mutex::new(Vec::new())),
        echo: document.debug,
    };
    let mut job = Job {
        document,
        defaults: [&steps.defaults, &workflow.defaults],
        teller: Arc::clone(teller),
        processes: Arc::clone(processes),
        around: Arc::new(around),
        base,
        inherited: environment::inherited(document),
        results_port,
        prepared: Prepared::default(),
        places: AtomicU32::new(0),
        numbers: AtomicU32::new(0),
        subjects: Mutex::default(),
        summaries: Mutex::default(),
        cache_mode: cache_mode(workflow, &document.job),
        node: OnceLock::new(),
    };
    let mut entries = entries(&job, &steps.steps);
    let (at_ms, steps_of) = (now_ms(), names_of(&entries));
    teller.tell(Told::Began {
        at_ms,
        steps: steps_of,
    });
    let env = match job_env(&job, workflow, steps) {
        Ok(env) => env,
        Err(why) => {
            teller.lines(None, LineKind::Error, &why);
            entries
                .iter()
                .for_each(|entry| list::not_run(&job, entry, &why));
            return Ok(Ending::failed());
        }
    };
    if !prepare(&mut job, &entries) {
        return Ok(Ending::failed());
    }
    let mut view = View {
        env,
        ..View::default()
    };
    phases::before(&job, &mut entries, &mut view);
    let finished = list::run(&job, &entries, view);
    let mut view = finished.view;
    phases::after(&job, finished.posts, &mut view);
    Ok(ending(&job, steps, view))
}

/// As clients of the cache read it.
fn cache_mode(workflow: &Workflow, job: &str) -> Option<&'static str> {
    let own = workflow.jobs.get(job).and_then(|job| job.cache_mode);
    own.or(workflow.cache_mode).map(|mode| match mode {
        CacheMode::Read => "read",
        CacheMode::Write => "write",
        CacheMode::WriteOnly => "write-only",
        CacheMode::None => "none",
    })
}

fn write_event(path: &Path, base: &Base) -> Result<(), String> {
    let event = base.github.get("event").cloned();
    let event = event.unwrap_or_else(|| Value::from(havre_pipeline::Object::default()));
    let text = event
        .to_json()
        .map_err(|error| format!("the event cannot be written: {error}"))?;
    let folder = path.parent().unwrap_or(path);
    let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(path, text));
    written.map_err(|error| format!("the event cannot be written to {}: {error}", path.display()))
}

fn entries<'w>(job: &Job<'_>, steps: &'w [Step]) -> Vec<Entry<'w>> {
    let mut ids = names::Ids::default();
    entries_of(job, steps, &mut ids)
}

fn entries_of<'w>(job: &Job<'_>, steps: &'w [Step], ids: &mut names::Ids) -> Vec<Entry<'w>> {
    let each = steps.iter().map(|step| {
        let inner = match &step.action {
            Action::Parallel(inner) => entries_of(job, inner, ids),
            _ => Vec::new(),
        };
        // Steps side by side have places; that they are is none.
        let place = match inner.is_empty() {
            true => job.next_place(),
            false => u32::MAX,
        };
        let slot = Slot {
            place,
            embedded: false,
            id: ids.of(step),
            state: Vec::new(),
            deadline: None,
        };
        Entry { step, slot, inner }
    });
    each.collect()
}

fn names_of(entries: &[Entry<'_>]) -> Vec<String> {
    let mut names = Vec::new();
    for entry in entries {
        match entry.inner.is_empty() {
            true => names.push(names::initial(entry.step)),
            false => names.extend(names_of(&entry.inner)),
        }
    }
    names
}

/// Variables of the workflow, then of the job, which win.
fn job_env(job: &Job<'_>, workflow: &Workflow, steps: &StepsJob) -> Result<Env, String> {
    let known = job.known(&View::default(), "");
    let env = contexts::pairs(&known, workflow.env.as_ref());
    let mut env = env.map_err(|why| format!("`env` of the workflow: {why}"))?;
    let own = contexts::pairs(&known, steps.env.as_ref());
    env.extend(own.map_err(|why| format!("`env` of the job: {why}"))?);
    Ok(env)
}

/// Whether all steps can be run; what cannot is told.
fn prepare(job: &mut Job<'_>, entries: &[Entry<'_>]) -> bool {
    let processes = Arc::clone(&job.processes);
    let mut preparing = Preparing {
        processes: &processes,
        document: job.document,
        prepared: Prepared::default(),
    };
    let mut failed = Vec::new();
    each(entries, &mut |entry| {
        if let Err(why) = preparing.step(entry.step, 0) {
            failed.push((entry.slot.place, why));
        }
    });
    job.prepared = preparing.prepared;
    if failed.is_empty() {
        return true;
    }
    each(entries, &mut |entry| {
        let place = entry.slot.place;
        match failed.iter().find(|(other, _)| *other == place) {
            None => list::not_run(job, entry, "The job could not be prepared."),
            Some((_, why)) => {
                crate::steps::began(job, place, names::initial(entry.step));
                job.teller.lines(Some(place), LineKind::Error, why);
                job.teller.tell(Told::StepEnded {
                    step: place,
                    outcome: StepResult::Failure,
                    conclusion: StepResult::Failure,
                    exit_code: None,
                    why: Some(why.clone()),
                    at_ms: now_ms(),
                });
            }
        }
    });
    false
}

/// All that have a place.
fn each<'e, 'w>(entries: &'e [Entry<'w>], act: &mut dyn FnMut(&'e Entry<'w>)) {
    for entry in entries {
        match entry.inner.is_empty() {
            true => act(entry),
            false => each(&entry.inner, act),
        }
    }
}

fn ending(job: &Job<'_>, steps: &StepsJob, mut view: View) -> Ending {
    let outputs = outputs(job, steps, &view).unwrap_or_else(|why| {
        job.teller.lines(None, LineKind::Error, &why);
        view.failed = true;
        Vec::new()
    });
    let known = job.known(&view, "");
    let url = steps
        .environment
        .as_ref()
        .and_then(|used| used.url.as_ref());
    let url = url.map(|url| settled(known.text(url)));
    let environment_url = url.and_then(|url| match url {
        Ok(url) => Some(url).filter(|url| !url.is_empty()),
        Err(why) => {
            let text = format!("the environment's `url` cannot be told: {why}");
            job.teller.lines(None, LineKind::Warning, &text);
            None
        }
    });
    let subjects = job.subjects.lock().unwrap_or_else(PoisonError::into_inner);
    let result = match view.failed {
        true => JobResult::Failure,
        false => JobResult::Success,
    };
    Ending {
        result,
        outputs,
        environment_url,
        images: subjects.images(),
    }
}

fn outputs(job: &Job<'_>, steps: &StepsJob, view: &View) -> Result<Vec<(String, String)>, String> {
    let known = job.known(view, "");
    let all = contexts::pairs(&known, steps.outputs.as_ref());
    let all = all.map_err(|why| format!("`outputs` of the job: {why}"))?;
    let mut kept = Vec::new();
    let mut bytes = 0;
    for (name, value) in all {
        if job.teller.masks.find(&value) {
            let text = format!("output `{name}` is left out: it may hold a secret");
            job.teller.line(None, LineKind::Warning, text);
            continue;
        }
        bytes += name.len() + value.len();
        if bytes > MAX_OUTPUTS {
            return Err(format!(
                "the outputs of the job are larger than {MAX_OUTPUTS} bytes"
            ));
        }
        kept.push((name, value));
    }
    Ok(kept)
}
