//! `havre ci run`: the workflows of this working tree, in boxes, without a daemon.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use havre_app::{LocalRun, LocalSettings};
use havre_job::Told;
use havre_model::LoadFailure;
use havre_model::machine::Settings;
use havre_pipeline::Event;
use havre_pipeline::run::JobState;
use havre_runs::{Begun, Conclusion, LegKey, Listener, Runs, Shown, Trigger};
use havre_workflow::Limits;
use havre_workflow::repository::{File, Findings};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::view::View;
use super::{files, happening, source};
use crate::cli::FindingsForm;
use crate::cli::ci::CiRunArgs;
use crate::commands::daemon::machine_settings;
use crate::commands::findings::{self, Checked};
use crate::connect::require_root;
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::exit::Exit;
use crate::human;
use crate::ui::Ui;

/// What runs belong to: there is no other.
const PROJECT: &str = "local";
/// Lines that wait to be shown.
const AHEAD: usize = 1024;

pub fn run(context: &Context, args: &CiRunArgs) -> Outcome {
    context.only_here(
        "running workflows in boxes",
        "`git push` has a server run them",
    )?;
    let paths: Vec<_> = args.path.iter().cloned().collect();
    let found = files::find(&paths, &Limits::default())?;
    let Findings { errors, warnings } = found.findings;
    let form = FindingsForm {
        json: args.json,
        sarif: false,
    };
    let found_errors = !errors.is_empty();
    if found_errors || !warnings.is_empty() {
        let found = match found_errors {
            true => Err(LoadFailure { errors, warnings }),
            false => Ok(warnings),
        };
        let exit = findings::print(context, Checked::Workflows, found, false, form)?;
        if found_errors {
            return Ok(exit);
        }
    }
    // Jobs have users of their own, namespaces and a network.
    require_root("running jobs in boxes")?;
    let base = context.root.base().map(Path::to_owned);
    let machine = machine_settings(context)?;
    let prepared = prepared(args, base, machine, &found.files)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, "cannot start").caused_by(&error))?;
    let ended = runtime.block_on(locally(context, args, prepared));
    runtime.shutdown_background();
    ended
}

struct Prepared {
    settings: LocalSettings,
    trigger: Trigger,
    /// The workflows that are meant, from the root; none: whichever starts.
    only: Vec<String>,
}

fn prepared(
    args: &CiRunArgs,
    base: Option<PathBuf>,
    machine: Settings,
    all: &[File],
) -> Result<Prepared, Failure> {
    let wanted: Vec<&File> = all.iter().filter(|file| file.wanted).collect();
    let rooted = wanted.iter().find_map(|file| {
        let depth = Path::new(file.path.as_ref()?).components().count();
        file.shown.ancestors().nth(depth)
    });
    let root = rooted.ok_or_else(|| {
        Failure::new(
            Exit::Usage,
            "this file is not in a repository's .github/workflows",
        )
        .hint("jobs see the repository around it: put it there")
    })?;
    let root = std::fs::canonicalize(files::named_folder(root)).map_err(|error| {
        Failure::new(Exit::Failed, format!("cannot find {}", root.display())).caused_by(&error)
    })?;
    let reference = happening::reference(&args.event, &root)?;
    let default_branch = args.event.base.clone();
    let source = source::source(&root, &default_branch);
    let workflows = all.iter().filter_map(|file| {
        let path = file.path.clone()?;
        Some((path, file.bytes.clone()))
    });
    let first = wanted.first().and_then(|file| read(file));
    let first = first.ok_or_else(|| Failure::new(Exit::Usage, "there is no workflow to run"))?;
    let mut event = happening::event(&args.event, &reference, &first)?;
    if let Event::Push { message, .. } | Event::PullRequest { message, .. } = &mut event
        && message.is_empty()
    {
        // What the newest commit says of skipping is about a push; here somebody asks for it.
        message.push('.');
    }
    let is_one = args.path.as_ref().is_some_and(|path| path.is_file());
    let only = wanted.iter().filter_map(|file| file.path.clone());
    Ok(Prepared {
        only: match is_one {
            true => only.collect(),
            false => Vec::new(),
        },
        settings: LocalSettings {
            actions: machine.actions,
            base,
            workflows: workflows.collect(),
            source: source.clone(),
            secrets: secrets(args)?,
            vars: args.var.iter().cloned().collect(),
            labels: args.label.iter().cloned().collect(),
            tree: root,
        },
        trigger: Trigger {
            project: PROJECT.to_owned(),
            event,
            source,
            before: None,
            forced: false,
            actor: std::env::var("USER").unwrap_or_else(|_| "root".to_owned()),
            payload: None,
            foreign: false,
        },
    })
}

fn read(file: &File) -> Option<havre_workflow::Workflow> {
    let text = String::from_utf8_lossy(&file.bytes);
    let read = havre_workflow::read(Path::new(""), &file.shown, &text, &Limits::default());
    Some(read.ok()?.workflow)
}

fn secrets(args: &CiRunArgs) -> Result<BTreeMap<String, String>, Failure> {
    let each = args.secret.iter().map(|(name, value)| {
        let value = match value {
            Some(value) => value.clone(),
            None => std::env::var(name).map_err(|_| {
                let message = format!("there is no environment variable {name}");
                Failure::new(Exit::Usage, message).hint("set it, or write --secret NAME=VALUE")
            })?,
        };
        Ok((name.clone(), value))
    });
    each.collect()
}

async fn locally(context: &Context, args: &CiRunArgs, prepared: Prepared) -> Outcome {
    let Prepared {
        settings,
        trigger,
        only,
    } = prepared;
    let cannot = |error: &dyn std::error::Error| {
        Failure::new(Exit::Failed, "cannot run workflows here").caused_by(error)
    };
    let local = LocalRun::open(settings)
        .await
        .map_err(|error| cannot(&error))?;
    for note in &local.notes {
        context.ui.warn(note, None);
    }
    let (runs, stop) = (local.runs.clone(), CancellationToken::new());
    let mut driving = tokio::spawn({
        let (runs, stop) = (runs.clone(), stop.clone());
        async move { runs.run(stop).await }
    });
    // Nobody drives any more once something could not be kept.
    let (ended, driven) = tokio::select! {
        ended = followed(context, args, &runs, &trigger, &only) => {
            stop.cancel();
            (ended, driving.await)
        }
        driven = &mut driving => (Ok(Exit::Failed), driven),
    };
    for error in local.end().await {
        context
            .ui
            .warn(&error, Some("the next `havre ci run` tries again"));
    }
    match driven {
        Ok(Err(error)) => Err(cannot(&error)),
        Err(error) => Err(cannot(&error)),
        Ok(Ok(())) => ended,
    }
}

/// Begins what the event starts, shows it, and waits for its end.
async fn followed(
    context: &Context,
    args: &CiRunArgs,
    runs: &Runs,
    trigger: &Trigger,
    only: &[String],
) -> Outcome {
    let failed = |error: &dyn std::error::Error| {
        Failure::new(Exit::Failed, "cannot run workflows here").caused_by(error)
    };
    let paths: Vec<Option<&str>> = match only {
        [] => vec![None],
        only => only.iter().map(|path| Some(path.as_str())).collect(),
    };
    let mut outcomes = Vec::new();
    for path in paths {
        let outcome = runs.begin_jobs(trigger, path, &args.job).await;
        outcomes.push(outcome.map_err(|error| failed(&error))?);
    }
    let begun: Vec<Begun> = outcomes.iter().flat_map(|it| it.begun.clone()).collect();
    for not in outcomes.iter().flat_map(|outcome| &outcome.not_started) {
        let text = format!("{} does not run: {}", not.path, not.why);
        match not.wrong {
            true => context.ui.warn(&text, None),
            false => context.ui.say(&text),
        }
    }
    if begun.is_empty() {
        let failure = Failure::new(
            Exit::Usage,
            format!("{} starts nothing", trigger.event.name()),
        );
        return Err(
            failure.hint("`havre ci explain` tells what would; --event names another event")
        );
    }
    let (tell, told) = mpsc::channel(AHEAD);
    let mut following = tokio::task::JoinSet::new();
    for run in &begun {
        let (runs, run, tell) = (runs.clone(), run.run, tell.clone());
        following.spawn(async move {
            let shower = Shower {
                runs: runs.clone(),
                tell,
            };
            runs.follow(run, shower).await;
        });
    }
    drop(tell);
    let names = names(runs, &begun).map_err(|error| failed(&error))?;
    let began = Instant::now();
    let shown = tokio::spawn(show(context.ui, args.json.json, names, told));
    let conclusions = concluded(context, runs, &begun).await;
    if conclusions.iter().any(Result::is_err) {
        following.abort_all();
    }
    // Each ends with its run.
    while following.join_next().await.is_some() {}
    let failures = shown.await.unwrap_or_default();
    let mut worst = Exit::Ok;
    let mut results = Vec::new();
    for (run, conclusion) in begun.iter().zip(conclusions) {
        let conclusion = conclusion.map_err(|error| failed(&error))?;
        let full = runs.show(run.run).map_err(|error| failed(&error))?;
        results.push((run, conclusion, full));
        worst = match (worst, conclusion) {
            (Exit::Ok, Conclusion::Cancelled) => Exit::Interrupted,
            (_, Conclusion::Failure) => Exit::Failed,
            (worst, _) => worst,
        };
    }
    if !args.json.json {
        if !failures.is_empty() {
            context.ui.painted(&format!("\n{}", failures.join("\n")));
        }
        let took = began.elapsed();
        for (run, conclusion, full) in &results {
            context
                .ui
                .painted(&summary(context, run, *conclusion, full, took));
        }
    }
    Ok(worst)
}

fn summary(
    context: &Context,
    run: &Begun,
    conclusion: Conclusion,
    full: &Shown,
    took: Duration,
) -> String {
    let paint = context.ui.err;
    let word = match conclusion {
        Conclusion::Success => paint.good("✓ success"),
        Conclusion::Failure => paint.error("✗ failure"),
        Conclusion::Cancelled => paint.warning("✗ cancelled"),
        Conclusion::Skipped => paint.dim("skipped"),
    };
    let (asked, others): (Vec<_>, Vec<_>) = full
        .state
        .jobs
        .iter()
        .partition(|job| job.state != JobState::NotAsked);
    let mut jobs = human::count(asked.len() as u64, "job");
    if !others.is_empty() {
        jobs.push_str(&format!(", {} not asked for", others.len()));
    }
    let mut text = format!(
        "{}: {word} ({jobs}, {})",
        crate::table::printable(&run.workflow),
        human::duration(took)
    );
    let broken = full.state.jobs.iter().filter_map(|job| match &job.state {
        JobState::Broken(why) => Some(format!("{}: {why}", job.id)),
        _ => None,
    });
    let legs = full.legs.iter().filter_map(|leg| {
        let why = leg.why.as_ref()?;
        Some(format!("{}: {why}", leg.key.leg.job))
    });
    for why in full.why.clone().into_iter().chain(broken).chain(legs) {
        text.push_str(&format!("\n  {}", crate::table::printable_lines(&why)));
    }
    text
}

/// Waits for all runs to end; a signal cancels them, a second one at once.
async fn concluded(
    context: &Context,
    runs: &Runs,
    begun: &[Begun],
) -> Vec<Result<Conclusion, havre_runs::RunsError>> {
    let ended = async {
        let mut all = Vec::new();
        for run in begun {
            all.push(runs.ended(run.run).await);
        }
        all
    };
    tokio::pin!(ended);
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return ended.await;
    };
    let mut asked = 0;
    loop {
        tokio::select! {
            all = &mut ended => return all,
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        asked += 1;
        let force = asked > 1;
        context.ui.say(match force {
            false => "cancelling: steps that clean up go on; once more ends all at once",
            true => "ending all at once",
        });
        let mut unheard = None;
        for run in begun {
            if let Err(error) = runs.cancel(run.run, force) {
                context.ui.warn(&error.to_string(), None);
                unheard = Some(error);
            }
        }
        // Nothing can be written down any more: their boxes are removed all the same.
        if let (true, Some(error)) = (force, unheard) {
            return vec![Err(error)];
        }
    }
}

/// What a leg told, or what there is to say of it.
enum Line {
    Told(String, Box<Told>),
    Note(String, String),
}

type Telling<'a> = std::pin::Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Hears of legs, for who shows them.
#[derive(Clone)]
struct Shower {
    runs: Runs,
    tell: mpsc::Sender<Line>,
}

impl Listener for Shower {
    fn note<'a>(&'a self, name: &'a str, text: String) -> Telling<'a> {
        let note = Line::Note(name.to_owned(), text);
        // Nobody to tell: who shows it has ended.
        Box::pin(async { drop(self.tell.send(note).await) })
    }

    fn leg(&self, key: LegKey, name: String) -> Telling<'static> {
        Box::pin(log(self.runs.clone(), key, name, self.tell.clone()))
    }

    fn is_gone(&self) -> bool {
        self.tell.is_closed()
    }
}

async fn log(runs: Runs, key: LegKey, name: String, tell: mpsc::Sender<Line>) {
    let mut log = match runs.log(key, 0, true) {
        Ok(log) => log,
        Err(error) => {
            // Nobody to tell: who shows it has ended.
            tell.send(Line::Note(name, error.to_string())).await.ok();
            return;
        }
    };
    loop {
        match log.next().await {
            Ok(Some(part)) => {
                for told in part.told {
                    let line = Line::Told(name.clone(), Box::new(told));
                    if tell.send(line).await.is_err() {
                        return;
                    }
                }
            }
            Ok(None) => return,
            Err(error) => {
                tell.send(Line::Note(name, error.to_string())).await.ok();
                return;
            }
        }
    }
}

/// What will be told of, as far as that is known: the legs there are, jobs that wait, and what is called.
fn names(runs: &Runs, begun: &[Begun]) -> Result<Vec<String>, havre_runs::RunsError> {
    let mut names = Vec::new();
    for run in begun {
        let shown = runs.show(run.run)?;
        for job in &shown.state.jobs {
            match &job.state {
                JobState::Begun { legs, .. } => {
                    names.extend(legs.iter().map(|leg| leg.name.clone()));
                    let calls = legs.iter().filter(|leg| leg.runs_on.is_empty());
                    names.extend(calls.map(|leg| format!("{} / ", leg.name)));
                }
                JobState::Waiting => names.push(job.id.clone()),
                JobState::Skipped | JobState::NotAsked | JobState::Broken(_) => {}
            }
        }
    }
    Ok(names)
}

/// Shows lines as they come; what failed is returned, to be read last.
async fn show(
    ui: Ui,
    json: bool,
    names: Vec<String>,
    mut told: mpsc::Receiver<Line>,
) -> Vec<String> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut view = View::new(ui.out, &names);
    while let Some(line) = told.recv().await {
        let lines = match (&line, json) {
            (Line::Told(leg, told), true) => {
                let line = serde_json::json!({"leg": leg, "told": told});
                vec![line.to_string()]
            }
            (Line::Note(leg, note), true) => {
                vec![serde_json::json!({"leg": leg, "note": note}).to_string()]
            }
            (Line::Told(leg, told), false) => view.lines(leg, told),
            (Line::Note(leg, note), false) => vec![view.note(leg, note)],
        };
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        // Where nobody reads any more, the run goes on.
        ui.data(&text).ok();
    }
    view.failures()
}
