//! What a workflow file says, for who runs it.

use std::fmt;

use havre_yaml::Span;
use indexmap::IndexMap;

use crate::expression::Uses;

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Spanned<T> {
    /// What it is.
    pub value: T,
    /// Where it stands.
    pub span: Span,
}

/// An expression, not evaluated.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression {
    /// Without `${{ }}` and blanks around it.
    pub text: String,
    /// Where the text stands.
    pub span: Span,
    /// What it uses.
    pub uses: Uses,
}

/// Text with expressions in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// In the order of the text; empty for an empty text.
    pub parts: Vec<Part>,
    /// The whole.
    pub span: Span,
}

/// A piece of a [`Template`].
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// As it is.
    Text(String),
    /// To be evaluated.
    Expression(Expression),
}

/// A value, or one expression that gives it.
#[derive(Clone, Debug, PartialEq)]
pub enum Dynamic<T> {
    /// Written out.
    Fixed(Spanned<T>),
    /// To be evaluated.
    Expression(Expression),
}

/// Names and texts, in the order of the file.
pub type Pairs = Dynamic<IndexMap<String, Pair>>;

/// One of [`Pairs`].
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// Where the name stands.
    pub key: Span,
    /// What it is.
    pub value: Template,
}

/// A value of any kind, as a matrix has it.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Nothing.
    Null,
    /// A truth value.
    Boolean(bool),
    /// A number.
    Number(f64),
    /// Text, with expressions.
    Text(Template),
    /// A sequence.
    List(Vec<Spanned<Data>>),
    /// A mapping.
    Map(IndexMap<String, Spanned<Data>>),
}

/// A condition: `if`.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// One expression; with text around it, the condition is always true.
    pub template: Template,
    /// Whether it calls `success`, `failure`, `always` or `cancelled`; without one, it means
    /// `success() && (…)`.
    pub asks_status: bool,
}

/// A workflow file.
#[derive(Clone, Debug)]
pub struct Workflow {
    /// The whole file.
    pub span: Span,
    /// Its name.
    pub name: Option<Template>,
    /// What a run is called.
    pub run_name: Option<Template>,
    /// What starts it.
    pub on: Triggers,
    /// What its token may do.
    pub permissions: Option<Permissions>,
    /// Variables of every job.
    pub env: Option<Pairs>,
    /// For every step that runs a script.
    pub defaults: RunDefaults,
    /// What may not run beside it.
    pub concurrency: Option<Concurrency>,
    /// What its jobs may do with the cache.
    pub cache_mode: Option<CacheMode>,
    /// By id, in the order of the file; the needs of each are there, without circles.
    pub jobs: IndexMap<String, Job>,
}

/// What starts a workflow.
#[derive(Clone, Debug, Default)]
pub struct Triggers {
    /// A push.
    pub push: Option<Filters>,
    /// A pull request of a branch that was pushed.
    pub pull_request: Option<PullRequest>,
    /// A person, or a call.
    pub workflow_dispatch: Option<Vec<DispatchInput>>,
    /// Times.
    pub schedule: Vec<Schedule>,
    /// Another workflow.
    pub workflow_call: Option<Interface>,
    /// An event from elsewhere: its types, or all where there are none.
    pub repository_dispatch: Option<Vec<Spanned<String>>>,
    /// The run of another workflow.
    pub workflow_run: Option<WorkflowRun>,
    /// Events that never happen here.
    pub foreign: Vec<Spanned<String>>,
}

/// What a push has to be about; all filters must agree.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    /// Branches.
    pub branches: Option<Filter>,
    /// Tags.
    pub tags: Option<Filter>,
    /// Files; says nothing about tags.
    pub paths: Option<Filter>,
}

/// Patterns, whose order matters.
#[derive(Clone, Debug)]
pub enum Filter {
    /// What they match, without what a later `!` pattern matches.
    Only(Vec<Spanned<String>>),
    /// What none of them matches.
    Except(Vec<Spanned<String>>),
}

/// `on.pull_request`
#[derive(Clone, Debug)]
pub struct PullRequest {
    /// `opened`, `synchronize` and `reopened` where none are written.
    pub types: Vec<Spanned<String>>,
    /// Branches that it goes into, and files.
    pub filters: Filters,
}

/// `on.workflow_run`
#[derive(Clone, Debug)]
pub struct WorkflowRun {
    /// Names of workflows.
    pub workflows: Vec<Spanned<String>>,
    /// `requested`, `completed`, `in_progress`; all where none are written.
    pub types: Vec<Spanned<String>>,
    /// Branches that they ran on.
    pub branches: Option<Filter>,
}

/// A time that comes again.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Five fields: minute, hour, day, month, day of the week.
    pub cron: Spanned<String>,
    /// A name like `Europe/Berlin`; UTC without.
    pub timezone: Option<Spanned<String>>,
}

/// What kind of value an input has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputType {
    /// Text.
    String,
    /// `true` or `false`.
    Boolean,
    /// A number.
    Number,
    /// The name of an environment.
    Environment,
    /// One of its options.
    Choice,
}

/// An input of `on.workflow_dispatch`.
#[derive(Clone, Debug)]
pub struct DispatchInput {
    /// Its name.
    pub name: Spanned<String>,
    /// What it is for.
    pub description: Option<String>,
    /// Its kind.
    pub kind: InputType,
    /// Whether it has to be given.
    pub required: bool,
    /// What it is where it is not given.
    pub default: Option<Spanned<Data>>,
    /// Of [`InputType::Choice`].
    pub options: Vec<Spanned<String>>,
}

/// What a workflow takes and gives when another calls it.
#[derive(Clone, Debug, Default)]
pub struct Interface {
    /// By name.
    pub inputs: IndexMap<String, CallInput>,
    /// Names, and whether each has to be given.
    pub secrets: IndexMap<String, bool>,
    /// By name.
    pub outputs: IndexMap<String, Pair>,
}

/// An input of `on.workflow_call`.
#[derive(Clone, Debug)]
pub struct CallInput {
    /// Where its name stands.
    pub key: Span,
    /// Text, truth value or number.
    pub kind: InputType,
    /// Whether it has to be given.
    pub required: bool,
    /// What it is where it is not given.
    pub default: Option<Spanned<Data>>,
}

/// What a token may do.
#[derive(Clone, Debug)]
pub struct Permissions {
    /// Where it stands.
    pub span: Span,
    /// What is granted; what is not named is not.
    pub granted: Granted,
}

/// See [`Permissions`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Granted {
    /// All to read.
    ReadAll,
    /// All to write.
    WriteAll,
    /// By name.
    Each(IndexMap<String, Level>),
}

/// How much is granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    None,
    /// To read.
    Read,
    /// To read and to write.
    Write,
}

/// What may not run at once.
#[derive(Clone, Debug)]
pub struct Concurrency {
    /// Where it stands.
    pub span: Span,
    /// What has the same text waits for each other.
    pub group: Template,
    /// Whether a new one ends the one that runs.
    pub cancel_in_progress: Option<Dynamic<bool>>,
    /// Whether up to 100 wait, in order, instead of the newest alone.
    pub queue_all: bool,
}

/// What jobs may do with the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheMode {
    /// Restore.
    Read,
    /// Restore and save.
    Write,
    /// Save.
    WriteOnly,
    /// Neither.
    None,
}

/// For steps that run scripts.
#[derive(Clone, Debug, Default)]
pub struct RunDefaults {
    /// The shell.
    pub shell: Option<Template>,
    /// The folder.
    pub working_directory: Option<Template>,
}

/// A job.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its key.
    pub id: Spanned<String>,
    /// What it is called.
    pub name: Option<Template>,
    /// Jobs that come before it.
    pub needs: Vec<Spanned<String>>,
    /// Whether it runs; decided before the matrix is expanded.
    pub condition: Option<Condition>,
    /// What its token may do.
    pub permissions: Option<Permissions>,
    /// What may not run beside it.
    pub concurrency: Option<Concurrency>,
    /// Several jobs from one.
    pub strategy: Option<Dynamic<Strategy>>,
    /// What it may do with the cache.
    pub cache_mode: Option<CacheMode>,
    /// What it does.
    pub work: Work,
}

/// What a job does.
#[derive(Clone, Debug)]
pub enum Work {
    /// Steps.
    Steps(Box<StepsJob>),
    /// Calls a workflow.
    Call(Box<Call>),
}

/// A job with steps.
#[derive(Clone, Debug)]
pub struct StepsJob {
    /// Where it runs.
    pub runs_on: RunsOn,
    /// The environment that it deploys to.
    pub environment: Option<EnvironmentUse>,
    /// By name.
    pub outputs: Option<Pairs>,
    /// Variables of every step.
    pub env: Option<Pairs>,
    /// For every step that runs a script.
    pub defaults: RunDefaults,
    /// Minutes.
    pub timeout: Option<Dynamic<f64>>,
    /// Whether the run goes well even if it fails.
    pub continue_on_error: Option<Dynamic<bool>>,
    /// Where its steps run.
    pub container: Option<Dynamic<Container>>,
    /// What runs beside it, by name.
    pub services: Option<Dynamic<IndexMap<String, Dynamic<Container>>>>,
    /// In the order of the file.
    pub steps: Vec<Step>,
}

/// Where a job runs.
#[derive(Clone, Debug)]
pub enum RunsOn {
    /// All of these labels.
    Labels(Vec<Template>),
    /// An expression that gives one label or a list of them.
    Expression(Expression),
}

/// The environment of a job.
#[derive(Clone, Debug)]
pub struct EnvironmentUse {
    /// Which; empty text means none.
    pub name: Template,
    /// Where it can be seen.
    pub url: Option<Template>,
    /// `false`: its gates and secrets, but no deployment.
    pub deployment: Option<Dynamic<bool>>,
}

/// A container of a job.
#[derive(Clone, Debug)]
pub struct Container {
    /// Empty text means no container.
    pub image: Template,
    /// As for `docker create`.
    pub options: Option<Template>,
    /// Variables.
    pub env: Option<Pairs>,
    /// `PORT` or `PORT:PORT`.
    pub ports: Vec<Template>,
    /// `NAME:PATH` or `PATH:PATH`.
    pub volumes: Vec<Template>,
    /// For the registry.
    pub credentials: Option<Credentials>,
    /// Of services: instead of the image's.
    pub entrypoint: Option<Template>,
    /// Of services: instead of the image's.
    pub command: Option<Template>,
}

/// For a registry.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Who.
    pub username: Option<Template>,
    /// And how it is proved.
    pub password: Option<Template>,
}

/// How several jobs are made from one.
#[derive(Clone, Debug)]
pub struct Strategy {
    /// Whether the first that fails ends the others; without, it does.
    pub fail_fast: Option<Dynamic<bool>>,
    /// How many run at once.
    pub max_parallel: Option<Dynamic<f64>>,
    /// What differs.
    pub matrix: Option<Dynamic<Matrix>>,
}

/// What differs between jobs; the first vector varies slowest.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// By name, in the order of the file.
    pub vectors: IndexMap<String, Dynamic<Vec<Spanned<Data>>>>,
    /// Combinations that are added or extended.
    pub include: Option<Dynamic<Vec<Combination>>>,
    /// Combinations that are left out.
    pub exclude: Option<Dynamic<Vec<Combination>>>,
}

/// An entry of `include` or `exclude`.
pub type Combination = Dynamic<IndexMap<String, Spanned<Data>>>;

/// A job that calls a workflow.
#[derive(Clone, Debug)]
pub struct Call {
    /// Which.
    pub uses: Spanned<CalledWorkflow>,
    /// Inputs.
    pub with: Option<Dynamic<IndexMap<String, Spanned<Data>>>>,
    /// Secrets.
    pub secrets: GivenSecrets,
}

/// Secrets that a called workflow gets.
#[derive(Clone, Debug)]
pub enum GivenSecrets {
    /// None.
    None,
    /// All of the caller's.
    Inherit,
    /// By name.
    Named(Dynamic<IndexMap<String, Spanned<Data>>>),
}

/// Which workflow is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CalledWorkflow {
    /// `./…` or `$/…`: of the same repository and commit; the path from its root.
    Local(String),
    /// Of another repository.
    Remote(Remote),
}

/// Something in a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// A user or an organization.
    pub owner: String,
    /// The repository.
    pub repository: String,
    /// From its root; empty for the root.
    pub path: String,
    /// Branch, tag or commit.
    pub reference: String,
}

/// A step.
#[derive(Clone, Debug)]
pub struct Step {
    /// Where it stands.
    pub span: Span,
    /// By which others name it.
    pub id: Option<Spanned<String>>,
    /// What it is called.
    pub name: Option<Template>,
    /// Whether it runs.
    pub condition: Option<Condition>,
    /// Whether the job goes on if it fails.
    pub continue_on_error: Option<Dynamic<bool>>,
    /// Minutes.
    pub timeout: Option<Dynamic<f64>>,
    /// Variables.
    pub env: Option<Pairs>,
    /// Whether the next step begins at once.
    pub background: bool,
    /// What it does.
    pub action: Action,
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum Action {
    /// Runs a script.
    Run {
        /// The script.
        script: Template,
        /// What runs it.
        shell: Option<Template>,
        /// Where.
        working_directory: Option<Template>,
    },
    /// Runs an action.
    Uses {
        /// Which.
        action: Spanned<UsedAction>,
        /// Its inputs.
        with: Option<Pairs>,
    },
    /// Waits for steps in the background, by id.
    Wait(Vec<Spanned<String>>),
    /// Waits for all steps in the background; `false` has no effect.
    WaitAll(bool),
    /// Ends a step in the background, by id.
    Cancel(Spanned<String>),
    /// Steps that run side by side, with `run` or `uses`.
    Parallel(Vec<Step>),
}

/// Which action a step runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsedAction {
    /// `docker://…`
    Image(String),
    /// `./…`: a path in the workspace.
    Workspace(String),
    /// `$/…`: a path in the repository that holds the workflow, at the commit that runs.
    Own(String),
    /// Of another repository.
    Remote(Remote),
}

impl Template {
    /// The expressions in it.
    pub fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.parts.iter().filter_map(|part| match part {
            Part::Expression(expression) => Some(expression),
            Part::Text(_) => None,
        })
    }

    /// The text, where there is no expression in it.
    pub fn fixed(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }
}

impl<T> Dynamic<T> {
    /// What is written out.
    pub fn fixed(&self) -> Option<&T> {
        match self {
            Dynamic::Fixed(spanned) => Some(&spanned.value),
            Dynamic::Expression(_) => None,
        }
    }
}

impl fmt::Display for CalledWorkflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CalledWorkflow::Local(path) => write!(f, "./{path}"),
            CalledWorkflow::Remote(remote) => remote.fmt(f),
        }
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.repository)?;
        if !self.path.is_empty() {
            write!(f, "/{}", self.path)?;
        }
        write!(f, "@{}", self.reference)
    }
}
