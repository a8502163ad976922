//! Runs one step: a script, or an action.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use havre_job::{LineKind, StepResult, Told};
use havre_pipeline::{Before, Known, Object, Value};
use havre_workflow::action::Runs;
use havre_workflow::{Action, Pairs, Remote, Step, Template, UsedAction};

use crate::action::{self, Loaded};
use crate::contexts::{self, Env, settled};
use crate::execute::{Executed, Process, execute, unable};
use crate::job::{Effects, Inside, Job, Post, Program, View};
use crate::names;
use crate::prepare::{MAX_DEPTH, own_root};
use crate::shell;
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
    let executed = match prepared(job, step, slot, view) {
        Ok(run) => run.begin().and_then(|()| run.act()),
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
    let known = job.known(view, &slot.id);
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

    /// What the step says, or else job and workflow; a composite action has no defaults.
    fn chosen<'t>(
        &'t self,
        own: Option<&'t Template>,
        default: impl Fn(&'t havre_workflow::RunDefaults) -> Option<&'t Template>,
    ) -> Option<&'t Template> {
        let defaults = self.job.defaults;
        let around = match self.view.inside {
            Some(_) => None,
            None => defaults.into_iter().find_map(default),
        };
        own.or(around)
    }

    fn script(
        &self,
        script: &Template,
        shell: Option<&Template>,
        folder: Option<&Template>,
    ) -> Result<Executed, String> {
        let contents = self.text("run", script)?.replace("\r\n", "\n");
        let chosen = self.chosen(shell, |defaults| defaults.shell.as_ref());
        let chosen = chosen.map(|shell| self.text("shell", shell)).transpose()?;
        let runner = &self.job.document.runner;
        let shell = shell::shell(chosen.as_deref(), runner.in_container)?;
        let folder = self.chosen(folder, |defaults| defaults.working_directory.as_ref());
        let folder = folder.map(|folder| self.text("working-directory", folder));
        let folder = Path::new(&runner.workspace).join(folder.transpose()?.unwrap_or_default());
        let path = self.write_script(&contents, &shell)?;
        let arguments = shell.arguments.iter();
        let arguments: Vec<String> = arguments.map(|word| word.replace("{0}", &path)).collect();
        self.announce(&contents, &shell);
        Ok(execute(
            self.job,
            Process {
                place: self.slot.place,
                programs: &shell.programs,
                arguments: &arguments,
                folder: &folder,
                env: &self.env,
                own: &self.job.for_identity(),
                folders: &self.view.folders,
                github: self.job.github(self.view, &self.slot.id),
                deadline: self.deadline,
                goes_on: &|| self.goes_on(),
            },
        ))
    }

    fn write_script(&self, contents: &str, shell: &shell::Shell) -> Result<String, String> {
        let number = self.job.numbers.fetch_add(1, Ordering::Relaxed);
        let name = format!("script_{number}{}", shell.extension);
        let path = Path::new(&self.job.document.runner.temp).join(name);
        let (before, after) = shell.around;
        let written = fs::write(&path, format!("{before}{contents}{after}\n"));
        written.map_err(|error| {
            format!(
                "the script cannot be written to {}: {error}",
                path.display()
            )
        })?;
        Ok(path.to_string_lossy().into_owned())
    }

    fn announce(&self, contents: &str, shell: &shell::Shell) {
        let first = contents.trim().lines().next().unwrap_or_default();
        self.tell(LineKind::Group, &format!("Run {first}"));
        for line in contents.trim_end().lines() {
            self.tell(LineKind::Plain, line);
        }
        let program = shell.programs.first().map_or("", String::as_str);
        let line = format!("shell: {program} {}", shell.arguments.join(" "));
        self.tell(LineKind::Plain, &line);
        self.announce_pairs("env:", &self.env);
        self.tell_end();
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

    fn uses(&self, used: &UsedAction, with: Option<&Pairs>) -> Result<Executed, String> {
        let with = contexts::pairs(&self.known, with).map_err(|why| format!("`with`: {why}"))?;
        self.tell(LineKind::Group, &format!("Run {}", names::of_action(used)));
        self.announce_pairs("with:", &with);
        self.announce_pairs("env:", &self.env);
        self.tell_end();
        match used {
            UsedAction::Image(_) => Err(action::IN_CONTAINER.to_owned()),
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
        let given = with.keys().map(String::as_str);
        for warning in action::judge(built_in, given)? {
            self.tell(LineKind::Warning, &warning);
        }
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
        let mut preparing = crate::prepare::Preparing {
            processes: &self.job.processes,
            document: self.job.document,
            prepared: crate::prepare::Prepared::default(),
        };
        preparing.step(self.step, self.depth())?;
        let loaded = preparing.prepared.get(remote);
        loaded.ok_or_else(|| format!("`{remote}` was not fetched"))
    }

    fn depth(&self) -> usize {
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
            Runs::Container => Err(action::IN_CONTAINER.to_owned()),
            Runs::Composite(steps) => self.composite(Arc::clone(&action), steps, inputs, &strange),
            Runs::JavaScript { main, pre, post } => {
                let script = |path: &str| Program::Script(action.folder.join(path));
                let mut state = self.slot.state.clone();
                // Of an action that nobody knew before: it is late, and yet before.
                if let (Some(pre), true) = (pre, self.slot.embedded || action.origin.is_none())
                    && self.phase_holds(pre.condition.as_ref())?
                {
                    let done = self.program(
                        &script(&pre.script),
                        "pre",
                        &inputs,
                        action.origin.clone(),
                        &state,
                    );
                    if done.result != StepResult::Success {
                        return Ok(done);
                    }
                    state.extend(done.state);
                }
                let program = script(main);
                let mut executed =
                    self.program(&program, "main", &inputs, action.origin.clone(), &state);
                executed.state.splice(0..0, state);
                if let Some(post) = post {
                    let condition = post
                        .condition
                        .clone()
                        .or_else(|| havre_workflow::action::condition("always()"));
                    let program = script(&post.script);
                    self.leave_post(
                        &mut executed,
                        program,
                        condition,
                        inputs,
                        action.origin.clone(),
                    );
                }
                Ok(executed)
            }
        }
    }

    fn phase_holds(&self, condition: Option<&havre_workflow::Condition>) -> Result<bool, String> {
        match condition {
            None => Ok(true),
            some => settled(self.known.condition(some, self.job.before(self.view))),
        }
    }

    fn leave_post(
        &self,
        executed: &mut Executed,
        program: Program,
        condition: Option<havre_workflow::Condition>,
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

    fn composite(
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

/// Says in `github` where an action comes from.
pub(crate) fn add_origin(github: &mut Object, origin: Option<(String, String)>) {
    if let Some((repository, reference)) = origin {
        github.insert("action_repository", repository);
        github.insert("action_ref", reference);
    }
}

/// A program that an action is, and what it is called with.
pub(crate) struct Called<'a> {
    pub program: &'a Program,
    pub phase: &'a str,
    pub inputs: &'a Env,
    pub state: &'a [(String, String)],
    pub place: u32,
    pub env: &'a Env,
    pub folders: &'a [String],
    pub github: Object,
    pub deadline: Option<Instant>,
    pub goes_on: &'a dyn Fn() -> bool,
}

/// Runs it.
pub(crate) fn run_program(job: &Job<'_>, called: Called<'_>) -> Executed {
    let mut own = action::variables(called.inputs);
    let state = called.state.iter();
    own.extend(state.map(|(name, value)| (format!("STATE_{name}"), value.clone())));
    own.extend(job.for_actions());
    own.extend(job.for_identity());
    own.insert(
        "HAVRE_SOURCES".to_owned(),
        names::of_sources(&job.document.sources).to_owned(),
    );
    let line = match called.program {
        Program::BuiltIn(name) => job.built_in(name, called.phase),
        Program::Script(path) => {
            let all = crate::environment::variables(
                job.document,
                &job.inherited,
                called.env,
                called.folders,
                &called.github,
            );
            let node = job.node(all.get("PATH").map_or("", String::as_str));
            node.map(|node| (node, vec![path.to_string_lossy().into_owned()]))
        }
    };
    let (program, arguments) = match line {
        Ok(line) => line,
        Err(why) => return unable(job, called.place, why),
    };
    execute(
        job,
        Process {
            place: called.place,
            programs: &[program.to_string_lossy().into_owned()],
            arguments: &arguments,
            folder: Path::new(&job.document.runner.workspace),
            env: called.env,
            own: &own,
            folders: called.folders,
            github: called.github,
            deadline: called.deadline,
            goes_on: called.goes_on,
        },
    )
}
