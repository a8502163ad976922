//! What actions do before the first step and after the last.

use havre_job::{LineKind, StepResult, Told};
use havre_workflow::action::Runs;
use havre_workflow::{Action, UsedAction};

use crate::action;
use crate::container;
use crate::contexts::{self, settled};
use crate::execute::Executed;
use crate::job::{Job, Post, Program, View};
use crate::list::Entry;
use crate::names;
use crate::program::{Called, add_origin, run_program};
use crate::steps::began;
use crate::tell::now_ms;

/// Runs what actions of other repositories have to do before the first step.
pub(crate) fn before(job: &Job<'_>, entries: &mut [Entry<'_>], view: &mut View) {
    for entry in entries {
        before(job, &mut entry.inner, view);
        before_step(job, entry, view);
    }
}

fn before_step(job: &Job<'_>, entry: &mut Entry<'_>, view: &mut View) {
    let Action::Uses { action, with } = &entry.step.action else {
        return;
    };
    let UsedAction::Remote(remote) = &action.value else {
        return;
    };
    let Some(loaded) = job.prepared.get(remote) else {
        return;
    };
    let pre = match &loaded.file.runs {
        Runs::JavaScript { pre, .. } => pre.as_ref(),
        Runs::Container(of) => of.pre.as_ref(),
        Runs::Composite(_) => None,
    };
    let Some(pre) = pre else {
        return;
    };
    let place = job.next_place();
    let name = format!("Pre {}", names::initial(entry.step));
    let id = &entry.slot.id;
    let known = job.known(view, id);
    let result = (|| {
        let condition = pre.condition.as_ref();
        if condition.is_some() && !settled(known.condition(condition, job.before(view)))? {
            return Ok(None);
        }
        began(job, place, name);
        let own = contexts::pairs(&known, entry.step.env.as_ref())?;
        let with = contexts::pairs(&known, with.as_ref())?;
        let declared = loaded.file.inputs.iter();
        let declared = declared.map(|(name, input)| (name.as_str(), input.default.as_ref()));
        let (inputs, _) = action::inputs(&known, declared, with)?;
        let mut env = view.variables();
        env.extend(own);
        let mut github = job.github(view, id);
        add_origin(&mut github, loaded.origin.clone());
        let program = match &loaded.file.runs {
            Runs::Container(of) => {
                let phase = Some(pre.script.as_str());
                let all = container::of_action(&known, &loaded.folder, of, phase, &inputs)?;
                Program::Container(Box::new(all))
            }
            Runs::JavaScript { .. } | Runs::Composite(_) => {
                Program::Script(loaded.folder.join(&pre.script))
            }
        };
        Ok(Some(run_program(
            job,
            Called {
                program: &program,
                phase: "pre",
                inputs: &inputs,
                state: &[],
                place,
                env: &env,
                folders: &view.folders,
                github,
                deadline: None,
                goes_on: &|| false,
            },
        )))
    })();
    let executed = ended(job, place, result);
    entry.slot.state.extend(executed.state);
    view.apply(&executed.effects);
    view.failed |= executed.result == StepResult::Failure;
}

/// Runs what steps left to be done after the last one.
pub(crate) fn after(job: &Job<'_>, posts: Vec<Post>, view: &mut View) {
    for post in posts {
        if job.processes.cancels() > 1 {
            return;
        }
        let place = job.next_place();
        let executed = after_step(job, &post, place, view);
        let executed = ended(job, place, executed);
        view.apply(&executed.effects);
        view.failed |= executed.result == StepResult::Failure;
    }
}

fn after_step(
    job: &Job<'_>,
    post: &Post,
    place: u32,
    view: &View,
) -> Result<Option<Executed>, String> {
    let mut env = view.variables();
    env.extend(post.env.clone());
    let mut known = job.known(view, &post.id);
    known.whole("env", contexts::object(&env));
    let condition = post.condition.as_ref();
    if !settled(known.condition(condition, job.before(view)))? {
        return Ok(None);
    }
    began(job, place, post.name.clone());
    let mut github = job.github(view, &post.id);
    add_origin(&mut github, post.origin.clone());
    let goes_on = || {
        let holds = known.condition(condition, havre_pipeline::Before::Cancelled);
        holds.known() == Some(&true)
    };
    Ok(Some(run_program(
        job,
        Called {
            program: &post.program,
            phase: "post",
            inputs: &post.inputs,
            state: &post.state,
            place,
            env: &env,
            folders: &view.folders,
            github,
            deadline: None,
            goes_on: &goes_on,
        },
    )))
}

/// Tells how it ended; `None` is one that did not run.
fn ended(job: &Job<'_>, step: u32, executed: Result<Option<Executed>, String>) -> Executed {
    let executed = match executed {
        Ok(Some(executed)) => executed,
        Ok(None) => Executed {
            result: StepResult::Skipped,
            why: Some("Its condition did not hold.".to_owned()),
            ..Executed::failed(String::new())
        },
        Err(why) => {
            job.teller.lines(Some(step), LineKind::Error, &why);
            Executed::failed(why)
        }
    };
    job.teller.tell(Told::StepEnded {
        step,
        outcome: executed.result,
        conclusion: executed.result,
        exit_code: executed.exit_code,
        why: executed.why.clone(),
        at_ms: now_ms(),
    });
    executed
}
