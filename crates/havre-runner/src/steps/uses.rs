//! Steps that run an action.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use havre_job::{LineKind, StepResult};
use havre_workflow::action::{Phase, Runs};
use havre_workflow::{Condition, Pairs, Remote, Template, UsedAction};

use super::Run;
use crate::action::{self, Loaded};
use crate::container;
use crate::contexts::{self, settled};
use crate::environment::Env;
use crate::execute::Executed;
use crate::job::{Post, Program};
use crate::names;
use crate::prepare::{Prepared, Preparing, own_root};
use crate::program::{Called, add_origin, run_program};

impl Run<'_> {
    pub(super) fn uses(&self, used: &UsedAction, with: Option<&Pairs>) -> Result<Executed, String> {
        let with = contexts::pairs(&self.known, with).map_err(|why| format!("`with`: {why}"))?;
        self.tell(LineKind::Group, &format!("Run {}", names::of_action(used)));
        self.announce_pairs("with:", &with);
        self.announce_pairs("env:", &self.env);
        self.tell_end();
        match used {
            UsedAction::Image(image) => {
                let program = Program::Container(Box::new(container::of_image(image, &with)?));
                Ok(self.program(&program, "main", &with, None, &self.slot.state))
            }
            UsedAction::Workspace(path) => {
                let workspace = Path::new(&self.job.document.runner.workspace);
                self.local(workspace.join(path.replace('\\', "/")), path, with)
            }
            UsedAction::Own(path) => {
                let inside = self.view.inside.as_ref();
                let (root, origin) = match inside.and_then(|inside| inside.action.root.clone()) {
                    Some(root) => (root, inside.and_then(|inside| inside.action.origin.clone())),
                    None => (self.own_root()?, None),
                };
                let folder = root.join(path);
                let loaded = Loaded {
                    file: action::load(&folder, &format!("$/{path}"))?,
                    folder,
                    root: origin.is_some().then_some(root),
                    origin,
                };
                self.loaded(Arc::new(loaded), with)
            }
            UsedAction::Remote(remote) => self.remote(remote, with),
        }
    }

    fn own_root(&self) -> Result<PathBuf, String> {
        let commit = ["workflow_sha", "sha"];
        let commit = commit.iter().find_map(|key| self.job.base.github.get(key));
        let commit = commit.map(|value| value.to_text().into_owned());
        let commit = commit.unwrap_or_default();
        own_root(&self.job.processes, self.job.document, &commit)
    }

    fn local(&self, folder: PathBuf, shown: &str, with: Env) -> Result<Executed, String> {
        let loaded = Loaded {
            file: action::load(&folder, shown)?,
            folder,
            root: None,
            origin: None,
        };
        self.loaded(Arc::new(loaded), with)
    }

    fn remote(&self, remote: &Remote, with: Env) -> Result<Executed, String> {
        let found = havre_actions::find(&remote.owner, &remote.repository, &remote.path);
        let Some(built_in) = found else {
            let loaded = self.job.prepared.get(remote);
            // A local action may name what nobody could know before.
            let loaded = match loaded {
                Some(loaded) => loaded,
                None => self.fetch(remote)?,
            };
            return self.loaded(loaded, with);
        };
        let given = with.iter();
        action::judge(
            built_in,
            given.map(|(name, value)| (name.as_str(), Some(value.as_str()))),
        )?;
        let texts: Vec<Option<Template>> = built_in
            .inputs
            .iter()
            .map(|input| input.default.and_then(havre_workflow::action::template))
            .collect();
        let declared = built_in.inputs.iter().zip(&texts);
        let declared = declared.map(|(input, text)| (input.name, text.as_ref()));
        let (inputs, _) = action::inputs(&self.known, declared, with)?;
        let origin = format!("{}/{}", remote.owner, remote.repository);
        let origin = Some((origin, remote.reference.clone()));
        let program = Program::BuiltIn(built_in.name);
        let mut executed =
            self.program(&program, "main", &inputs, origin.clone(), &self.slot.state);
        if let Some(post) = built_in.post {
            let condition = havre_workflow::action::condition(post);
            self.leave_post(&mut executed, program, condition, inputs, origin);
        }
        Ok(executed)
    }

    fn fetch(&self, remote: &Remote) -> Result<Arc<Loaded>, String> {
        let mut preparing = Preparing {
            processes: &self.job.processes,
            document: self.job.document,
            prepared: Prepared::default(),
        };
        preparing.step(self.step, self.depth())?;
        let loaded = preparing.prepared.get(remote);
        loaded.ok_or_else(|| format!("`{remote}` was not fetched"))
    }

    pub(super) fn depth(&self) -> usize {
        self.view.inside.as_ref().map_or(0, |inside| inside.depth)
    }

    fn loaded(&self, action: Arc<Loaded>, with: Env) -> Result<Executed, String> {
        let declared = action.file.inputs.iter();
        let declared = declared.map(|(name, input)| (name.as_str(), input.default.as_ref()));
        let deprecated: Vec<String> = with
            .keys()
            .filter_map(|name| {
                let mut inputs = action.file.inputs.iter();
                let (_, input) = inputs.find(|(other, _)| other.eq_ignore_ascii_case(name))?;
                let why = input.deprecation.as_ref()?;
                Some(format!("input `{name}` is deprecated: {why}"))
            })
            .collect();
        let (inputs, strange) = action::inputs(&self.known, declared, with)?;
        for warning in deprecated {
            self.tell(LineKind::Warning, &warning);
        }
        if !strange.is_empty() {
            let valid: Vec<&str> = action.file.inputs.keys().map(String::as_str).collect();
            let (strange, valid) = (strange.join("`, `"), valid.join(", "));
            let text = format!("the action does not take `{strange}`; it takes: {valid}");
            self.tell(LineKind::Warning, &text);
        }
        match &action.file.runs {
            Runs::Composite(steps) => self.composite(Arc::clone(&action), steps, inputs, &strange),
            Runs::JavaScript { main, pre, post } => {
                let script = |path: &str| Ok(Program::Script(action.folder.join(path)));
                let phases = (pre.as_ref(), script(main)?, post.as_ref());
                self.phases(&action, phases, inputs, &script)
            }
            Runs::Container(of) => {
                let known = self.known.clone();
                let given = inputs.clone();
                let begun_with = |phase: Option<&str>| {
                    let container =
                        container::of_action(&known, &action.folder, of, phase, &given)?;
                    Ok(Program::Container(Box::new(container)))
                };
                let phases = (of.pre.as_ref(), begun_with(None)?, of.post.as_ref());
                self.phases(&action, phases, inputs, &|phase| begun_with(Some(phase)))
            }
        }
    }

    /// Runs an action that is a program, with what it does before and leaves for after.
    fn phases(
        &self,
        action: &Loaded,
        (pre, main, post): (Option<&Phase>, Program, Option<&Phase>),
        inputs: Env,
        program: &dyn Fn(&str) -> Result<Program, String>,
    ) -> Result<Executed, String> {
        let origin = || action.origin.clone();
        let mut state = self.slot.state.clone();
        // Of an action that nobody knew before: it is late, and yet before.
        if let (Some(pre), true) = (pre, self.slot.embedded || action.origin.is_none())
            && self.phase_holds(pre.condition.as_ref())?
        {
            let done = self.program(&program(&pre.script)?, "pre", &inputs, origin(), &state);
            if done.result != StepResult::Success {
                return Ok(done);
            }
            state.extend(done.state);
        }
        let mut executed = self.program(&main, "main", &inputs, origin(), &state);
        executed.state.splice(0..0, state);
        if let Some(post) = post {
            let always = || havre_workflow::action::condition("always()");
            let condition = post.condition.clone().or_else(always);
            let program = program(&post.script)?;
            self.leave_post(&mut executed, program, condition, inputs, origin());
        }
        Ok(executed)
    }

    fn phase_holds(&self, condition: Option<&Condition>) -> Result<bool, String> {
        match condition {
            None => Ok(true),
            some => settled(self.known.condition(some, self.job.before(self.view))),
        }
    }

    fn leave_post(
        &self,
        executed: &mut Executed,
        program: Program,
        condition: Option<Condition>,
        inputs: Env,
        origin: Option<(String, String)>,
    ) {
        let mut env = self.view.over.clone();
        env.extend(self.own.clone());
        let name = match &self.step.name {
            Some(name) => {
                settled(self.known.text(name)).unwrap_or_else(|_| names::initial(self.step))
            }
            None => names::default(self.step),
        };
        executed.effects.posts.push(Post {
            name: format!("Post {name}"),
            condition,
            program,
            env,
            inputs,
            state: std::mem::take(&mut executed.state),
            origin,
            id: self.slot.id.clone(),
        });
    }

    fn program(
        &self,
        program: &Program,
        phase: &str,
        inputs: &Env,
        origin: Option<(String, String)>,
        state: &[(String, String)],
    ) -> Executed {
        let mut github = self.job.github(self.view, &self.slot.id);
        add_origin(&mut github, origin);
        run_program(
            self.job,
            Called {
                program,
                phase,
                inputs,
                state,
                place: self.slot.place,
                env: &self.env,
                folders: &self.view.folders,
                github,
                deadline: self.deadline,
                goes_on: &|| self.goes_on(),
            },
        )
    }
}
