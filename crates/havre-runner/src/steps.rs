//! Runs one step: a script, or an action.

mod composite;
mod script;
mod uses;

use std::time::{Duration, Instant};

use havre_job::{LineKind, StepResult, Told};
use havre_pipeline::{Before, Known, Object, Value};
use havre_workflow::{Action, Step, Template};

use crate::contexts::{self, settled};
use crate::environment::Env;
use crate::execute::Executed;
use crate::job::{Effects, Job, View};
use crate::names;
use crate::tell::now_ms;

/// Which step it is, for who looks on.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    /// Where it is told.
    pub place: u32,
    /// Whether it is told as part of the step whose composite action it is in.
    pub embedded: bool,
    /// `github.action`.
    pub id: String,
    /// What the action's `pre` saved.
    pub state: Vec<(String, String)>,
    /// Of the step around it.
    pub deadline: Option<Instant>,
}

/// How a step went.
pub(crate) struct Done {
    pub outcome: StepResult,
    pub conclusion: StepResult,
    pub exit_code: Option<i32>,
    pub why: Option<String>,
    pub effects: Effects,
}

impl Done {
    /// Its entry in the `steps` context.
    pub fn entry(&self) -> Object {
        let outputs = self.effects.outputs.iter();
        let outputs: Object = outputs
            .map(|(name, value)| (name.as_str(), Value::from(value.as_str())))
            .collect();
        [
            ("outputs", Value::from(outputs)),
            ("outcome", names::of_result(self.outcome).into()),
            ("conclusion", names::of_result(self.conclusion).into()),
        ]
        .into_iter()
        .collect()
    }
}

/// A step that runs.
struct Run<'r> {
    job: &'r Job<'r>,
    step: &'r Step,
    slot: &'r Slot,
    view: &'r View,
    known: Known,
    /// All variables that it finds, its own last.
    env: Env,
    /// Its own alone.
    own: Env,
    deadline: Option<Instant>,
}

/// Runs a step, or skips it, and tells so.
pub(crate) fn run(job: &Job<'_>, step: &Step, slot: &Slot, view: &View) -> Done {
    let mut known = None;
    let executed = match prepared(job, step, slot, view) {
        Ok(run) => {
            known = Some(run.known.clone());
            run.begin().and_then(|()| run.act())
        }
        Err(Unready::Skipped) => Ok(skipped()),
        Err(Unready::Failed(why)) => {
            if !slot.embedded {
                began(job, slot.place, names::initial(step));
            }
            Err(why)
        }
    };
    let executed = executed.unwrap_or_else(|why| {
        job.teller.lines(Some(slot.place), LineKind::Error, &why);
        Executed::failed(why)
    });
    let known = known.unwrap_or_else(|| job.known(view, &slot.id));
    finish(job, step, slot, &known, executed)
}

/// Why a step does not run.
enum Unready {
    Skipped,
    Failed(String),
}

fn skipped() -> Executed {
    Executed {
        result: StepResult::Skipped,
        why: Some("Its condition did not hold.".to_owned()),
        ..Executed::failed(String::new())
    }
}

fn prepared<'r>(
    job: &'r Job<'r>,
    step: &'r Step,
    slot: &'r Slot,
    view: &'r View,
) -> Result<Run<'r>, Unready> {
    let mut known = job.known(view, &slot.id);
    let own = contexts::pairs(&known, step.env.as_ref());
    let own = own.map_err(|why| Unready::Failed(format!("`env`: {why}")))?;
    let mut env = view.variables();
    env.extend(own.clone());
    known.whole("env", contexts::object(&env));
    let before = job.before(view);
    let holds = settled(known.condition(step.condition.as_ref(), before));
    match holds.map_err(|why| Unready::Failed(format!("`if`: {why}")))? {
        true => Ok(Run {
            job,
            step,
            slot,
            view,
            deadline: deadline(step, slot, &known)?,
            known,
            env,
            own,
        }),
        false => Err(Unready::Skipped),
    }
}

fn deadline(step: &Step, slot: &Slot, known: &Known) -> Result<Option<Instant>, Unready> {
    let Some(timeout) = &step.timeout else {
        return Ok(slot.deadline);
    };
    let fixed = |minutes: &f64| havre_pipeline::Answer::Known(Value::Number(*minutes));
    let minutes = settled(known.dynamic(timeout, fixed));
    let minutes = minutes.map_err(|why| Unready::Failed(format!("`timeout-minutes`: {why}")))?;
    let minutes = minutes.to_number();
    let own = match Duration::try_from_secs_f64(minutes * 60.0) {
        Ok(most) if minutes > 0.0 => Instant::now().checked_add(most),
        _ => None,
    };
    Ok(match (own, slot.deadline) {
        (Some(own), Some(around)) => Some(own.min(around)),
        (own, around) => own.or(around),
    })
}

/// Tells that a step begins.
pub(crate) fn began(job: &Job<'_>, step: u32, name: String) {
    let at_ms = now_ms();
    job.teller.tell(Told::StepBegan { step, name, at_ms });
}

/// Tells how a step ended; its `continue-on-error` decides what comes of that.
fn finish(job: &Job<'_>, step: &Step, slot: &Slot, known: &Known, executed: Executed) -> Done {
    let Executed {
        result: outcome,
        exit_code,
        why,
        effects,
        ..
    } = executed;
    // What is told of it has all lines.
    let mut why = why.map(|why| why.lines().next().unwrap_or_default().to_owned());
    let mut conclusion = outcome;
    if outcome == StepResult::Failure {
        match settled(known.truth(step.continue_on_error.as_ref())) {
            Ok(true) => conclusion = StepResult::Success,
            Ok(false) => {}
            Err(wrong) => {
                let text = format!("`continue-on-error`: {wrong}");
                job.teller
                    .line(Some(slot.place), LineKind::Error, text.clone());
                why.get_or_insert(text);
            }
        }
    }
    if !slot.embedded {
        job.teller.tell(Told::StepEnded {
            step: slot.place,
            outcome,
            conclusion,
            exit_code,
            why: why.clone(),
            at_ms: now_ms(),
        });
    }
    Done {
        outcome,
        conclusion,
        exit_code,
        why,
        effects,
    }
}

impl Run<'_> {
    fn begin(&self) -> Result<(), String> {
        let name = match &self.step.name {
            Some(name) => settled(self.known.text(name)).map_err(|why| format!("`name`: {why}")),
            None => Ok(names::default(self.step)),
        };
        if !self.slot.embedded {
            let shown = name
                .as_ref()
                .map_or_else(|_| names::initial(self.step), Clone::clone);
            began(self.job, self.slot.place, shown);
        }
        name.map(drop)
    }

    fn tell(&self, kind: LineKind, text: &str) {
        self.job.teller.lines(Some(self.slot.place), kind, text);
    }

    fn act(&self) -> Result<Executed, String> {
        match &self.step.action {
            Action::Run {
                script,
                shell,
                working_directory,
            } => self.script(script, shell.as_ref(), working_directory.as_ref()),
            Action::Uses { action, with } => self.uses(&action.value, with.as_ref()),
            // These are of the list that the step is in.
            Action::Wait(_) | Action::WaitAll(_) | Action::Cancel(_) | Action::Parallel(_) => {
                Err("steps in the background are not possible here".to_owned())
            }
        }
    }

    /// Whether it goes on although the job was cancelled: its condition is asked once more.
    fn goes_on(&self) -> bool {
        let holds = self
            .known
            .condition(self.step.condition.as_ref(), Before::Cancelled);
        holds.known() == Some(&true)
    }

    fn text(&self, what: &str, template: &Template) -> Result<String, String> {
        settled(self.known.text(template)).map_err(|why| format!("`{what}`: {why}"))
    }

    fn announce_pairs(&self, title: &str, pairs: &Env) {
        if pairs.is_empty() {
            return;
        }
        self.tell(LineKind::Plain, title);
        for (name, value) in pairs {
            self.tell(LineKind::Plain, &format!("  {name}: {value}"));
        }
    }

    fn tell_end(&self) {
        let step = Some(self.slot.place);
        self.job
            .teller
            .line(step, LineKind::EndGroup, String::new());
    }
}
