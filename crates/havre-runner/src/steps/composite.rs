//! Steps that run steps of an action.

use std::sync::Arc;

use havre_job::StepResult;
use havre_pipeline::Object;
use havre_workflow::Step;

use super::{Run, Slot, run};
use crate::action::Loaded;
use crate::contexts::{self, settled};
use crate::environment::Env;
use crate::execute::Executed;
use crate::job::Inside;
use crate::names;
use crate::prepare::MAX_DEPTH;

impl Run<'_> {
    pub(super) fn composite(
        &self,
        action: Arc<Loaded>,
        steps: &[Step],
        inputs: Env,
        strange: &[String],
    ) -> Result<Executed, String> {
        let depth = self.depth() + 1;
        if depth > MAX_DEPTH {
            return Err(format!(
                "more than {MAX_DEPTH} actions are within each other"
            ));
        }
        let declared = inputs
            .into_iter()
            .filter(|(name, _)| !strange.contains(name));
        let declared: Env = declared.collect();
        let mut view = self.view.clone();
        view.over.extend(self.own.clone());
        view.steps = Object::default();
        view.failed = false;
        view.inside = Some(Inside {
            action: Arc::clone(&action),
            inputs: contexts::object(&declared),
            depth,
        });
        let mut all = Executed {
            result: StepResult::Success,
            why: None,
            ..Executed::failed(String::new())
        };
        let mut ids = names::Ids::default();
        for step in steps {
            let slot = Slot {
                place: self.slot.place,
                embedded: true,
                id: ids.of(step),
                state: Vec::new(),
                deadline: self.deadline,
            };
            let done = run(self.job, step, &slot, &view);
            view.apply(&done.effects);
            if let Some(id) = &step.id {
                view.steps.insert(id.value.as_str(), done.entry());
            }
            match done.conclusion {
                StepResult::Failure | StepResult::Cancelled => {
                    view.failed |= done.conclusion == StepResult::Failure;
                    // Cancelled is worse than failed.
                    if all.result != StepResult::Cancelled {
                        all.result = done.conclusion;
                        all.exit_code = done.exit_code;
                        all.why = done.why.clone();
                    }
                }
                StepResult::Success | StepResult::Skipped => {}
            }
            all.effects.env.extend(done.effects.env);
            all.effects.folders.extend(done.effects.folders);
            all.effects.posts.extend(done.effects.posts);
        }
        let known = self.job.known(&view, &self.slot.id);
        for (name, value) in &action.file.outputs {
            let Some(value) = value else { continue };
            let value =
                settled(known.text(value)).map_err(|why| format!("output `{name}`: {why}"))?;
            all.effects.outputs.push((name.clone(), value));
        }
        Ok(all)
    }
}
