//! `havre ci explain`: which workflows an event starts and why, and what becomes of their jobs.

mod told;

use std::collections::BTreeMap;
use std::path::Path;

use clap::ValueEnum as _;
use havre_model::LoadFailure;
use havre_pipeline::{Known, Plan, Verdict, plan, trigger};
use havre_workflow::repository::{File, Findings};
use havre_workflow::{Limits, Workflow, read};

use super::{files, happening};
use crate::cli::FindingsForm;
use crate::cli::ci::CiExplainArgs;
use crate::commands::findings::{self, Checked};
use crate::context::Context;
use crate::error::Outcome;
use crate::exit::Exit;
use crate::human;

/// The run that is meant, where it is one.
pub fn number(args: &CiExplainArgs) -> Option<u64> {
    match args.paths.as_slice() {
        [path] if !path.exists() => path.to_str()?.parse().ok(),
        _ => None,
    }
}

pub fn run(context: &Context, args: &CiExplainArgs) -> Outcome {
    let limits = Limits::default();
    let found = files::find(&args.paths, &limits)?;
    let Findings { errors, warnings } = found.findings;
    if !errors.is_empty() {
        let form = FindingsForm {
            json: args.json,
            sarif: false,
        };
        let found = Err(LoadFailure { errors, warnings });
        return findings::print(context, Checked::Workflows, found, false, form);
    }
    let wanted = found.files.iter().filter(|file| file.wanted);
    let here = wanted.map(|file| file.shown.parent()).next().flatten();
    let reference = happening::reference(&args.event, here.unwrap_or(Path::new("")))?;
    let library = Library::new(&found.files, &limits);
    let mut explained = Vec::new();
    let (mut started, mut refused) = (0, false);
    for (file, workflow) in library.workflows.iter().filter(|(file, _)| file.wanted) {
        let event = happening::event(&args.event, &reference, workflow)?;
        let verdict = trigger::judge(&workflow.on, &event);
        let starts = matches!(verdict, Verdict::Starts(_) | Verdict::Open(_));
        started += u64::from(starts);
        refused |= matches!(verdict, Verdict::Refused(_));
        let known = Known::of_event(&event, workflow, &path_of(file));
        let plan = starts.then(|| Planned {
            plan: plan::plan(workflow, &known),
            known,
            called: library.called_by(file),
        });
        explained.push(told::Explained::new(file, workflow, verdict, plan.as_ref()));
    }
    match args.json.json {
        true => context.ui.json(&explained)?,
        false => {
            let texts: Vec<String> = explained
                .iter()
                .map(|explained| explained.render(context.ui.out))
                .collect();
            context.ui.data(&texts.join("\n"))?;
        }
    }
    let all = human::count(explained.len() as u64, "workflow");
    let event = args.event.event.to_possible_value();
    let event = event.as_ref().map(|event| event.get_name());
    let event = event.unwrap_or_default();
    context
        .ui
        .say(&format!("{event} starts {started} of {all}"));
    Ok(match refused {
        false => Exit::Ok,
        true => Exit::Usage,
    })
}

/// All workflows at hand.
struct Library<'f> {
    workflows: Vec<(&'f File, Workflow)>,
}

/// What a workflow will do, and what it calls.
struct Planned<'w> {
    plan: Plan<'w>,
    known: Known,
    /// The workflows of its repository, by their paths.
    called: BTreeMap<&'w str, &'w Workflow>,
}

impl<'f> Library<'f> {
    fn new(files: &'f [File], limits: &Limits) -> Self {
        let workflows = files.iter().filter_map(|file| {
            let text = String::from_utf8_lossy(&file.bytes);
            // What has errors is not wanted: those of the others were told.
            let read = read(Path::new(""), &file.shown, &text, limits).ok()?;
            Some((file, read.workflow))
        });
        Self {
            workflows: workflows.collect(),
        }
    }

    /// What a file can call, by path.
    fn called_by(&self, file: &File) -> BTreeMap<&str, &Workflow> {
        let root = root_of(file);
        let same = self
            .workflows
            .iter()
            .filter(|(other, _)| root.is_some() && root_of(other) == root);
        same.filter_map(|(file, workflow)| Some((file.path.as_deref()?, workflow)))
            .collect()
    }
}

/// The folder of the repository that a file is in, as it is shown.
fn root_of(file: &File) -> Option<&Path> {
    let depth = Path::new(file.path.as_ref()?).components().count();
    file.shown.ancestors().nth(depth)
}

/// As GitHub names the file.
fn path_of(file: &File) -> String {
    let shown = || file.shown.to_string_lossy().into_owned();
    file.path.clone().unwrap_or_else(shown)
}
