//! What a leg's runner is told, and what it tells: the seam between who drives a run and what happens in a box.
//!
//! ```text
//! driver ── Document (JSON, on the runner's standard input) ──► box: `havre job-runner`
//!        ◄─ Told (one JSON document per line, on its standard output, kept in the container's spool) ──┘
//! ```
//!
//! The runner is the first process of a container, so what it tells is on disk before anybody reads it: a driver that
//! is killed reads the spool again from its start and comes to the same. Nobody is asked anything back. A leg is
//! cancelled by a SIGTERM to the runner, at once by a second one.
//!
//! Whoever controls a step may tell what he likes in the runner's name: [`Told`] is to be believed as little as a
//! program's exit code. Texts are masked before they are told; the spool's filter masks once more.
//!
//! Units: times are milliseconds since 1970 (`_ms`).

pub mod images;
pub mod paths;
mod preface;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use preface::Prefaces;

/// The form of [`Document`]; another is refused.
pub const VERSION: u32 = 1;
/// Most bytes of a document.
pub const MAX_DOCUMENT: usize = 32 << 20;
/// Most bytes of one text that is told: a longer line is told in parts.
pub const MAX_TEXT: usize = 16 << 10;
/// Most bytes of a step's summary; GitHub's.
pub const MAX_SUMMARY: usize = 1 << 20;
/// What of [`MAX_TOLD`] plain lines may take: what is wrong is to be seen after much output as well.
pub const MAX_PLAIN: u64 = MAX_TOLD / 4 * 3;
/// Most bytes of all outputs of a job together; GitHub's.
pub const MAX_OUTPUTS: usize = 1 << 20;

/// Most that a runner tells of one job in lines, annotations and summaries, each counted by [`cost`]. When a line would go
/// beyond it, the runner tells once that it drops the rest ([`LineKind::Warning`], of that step), and then tells
/// nothing but [`Told::Began`], [`Told::StepBegan`], [`Told::StepEnded`] and [`Told::Ended`], which are never counted: the spool
/// has room for this and for them, so that none of those is ever lost, whatever a step prints.
pub const MAX_TOLD: u64 = 64 << 20;

/// What a document of so many bytes takes of [`MAX_TOLD`]: the spool keeps it with a time before each of its pieces.
pub fn cost(bytes: usize) -> u64 {
    let bytes = bytes as u64;
    bytes + 64 + bytes / 256
}

/// How the tokens begin that a job has for its own socket: they open nothing elsewhere, and are sent nowhere.
pub const JOB_TOKEN: &str = "havrejob_";

/// All that a runner needs to know of its leg.
#[derive(Clone, Serialize, Deserialize)]
pub struct Document {
    /// [`VERSION`].
    pub version: u32,
    /// The file that holds the job, from the repository's root; for messages.
    pub path: String,
    /// What it holds; it has been checked, and is read once more.
    pub workflow: String,
    /// The job's key in it.
    pub job: String,
    /// JSON texts: `github`, `needs`, `strategy`, `matrix`, `inputs`, `vars`, `secrets`. All that there is of each; the
    /// runner makes `env`, `job`, `runner`, `steps`, and completes `github` (`workspace`, `action`, `event_path`, …).
    pub contexts: BTreeMap<String, String>,
    /// Values that no output may show, beside those of `secrets`.
    pub masks: Vec<String>,
    /// Where the runner is.
    pub runner: Runner,
    /// How the workspace comes about.
    pub sources: Sources,
    /// What serves artifacts and caches, and who the job is there.
    pub results: Option<Results>,
    /// Ports of this machine's own proxy, for names that are the box's own loopback (`*.localhost`).
    #[serde(default)]
    pub doors: Vec<Door>,
    /// Where actions of other repositories come from.
    #[serde(default)]
    pub actions: Actions,
    /// Further variables of every process, e.g. of a proxy or an authority's certificates.
    pub env: BTreeMap<String, String>,
    /// Whether debug lines are told (`ACTIONS_STEP_DEBUG`).
    pub debug: bool,
}

/// Where a runner is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Runner {
    /// Its name.
    pub name: String,
    /// `X64`, `ARM64`.
    pub arch: String,
    /// The workspace: absolute, exists.
    pub workspace: String,
    /// Scratch space, empty at first: absolute, exists.
    pub temp: String,
    /// Tools that jobs keep: absolute, exists.
    pub tool_cache: String,
    /// Whether an image was chosen for it (`container:`): there the shell that nobody chose is `sh`.
    pub in_container: bool,
    /// Id of the job's container, of its network, and its services with their ports (`job.services`), as JSON.
    pub job_context: String,
}

/// How a workspace comes about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sources {
    /// It is there already: a working tree, of which the job has a copy of its own. `actions/checkout` of the own
    /// repository leaves it as it is.
    Tree,
    /// `actions/checkout` takes it from [`paths::REPOSITORY`], a bare repository that cannot be written to.
    Repository,
}

/// Where actions of other repositories come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Actions {
    /// What `/owner/repository` is added to; git fetches from there, in the box.
    pub server: String,
    /// They are put below it, as `<owner>/<repository>/<reference>`.
    pub folder: String,
    /// The commit (in hex) of each `owner/repository@reference`, in the lock file's spelling, that is below
    /// [`Actions::folder`] already, as `<owner>/<repository>/<commit>` in small letters.
    pub there: BTreeMap<String, String>,
    /// The commit (in hex) that each `owner/repository@reference` has to be, in the lock file's spelling; of one that
    /// is not here, the reference decides.
    pub pinned: BTreeMap<String, String>,
    /// Whether an action has to be in one of the two.
    pub locked: bool,
    /// Where the files of the workflow's own repository are (`$/`), where that is another one.
    pub own: Option<String>,
}

impl Default for Actions {
    fn default() -> Self {
        Self {
            server: "https://github.com".to_owned(),
            folder: paths::ACTIONS.to_owned(),
            there: BTreeMap::new(),
            pinned: BTreeMap::new(),
            locked: false,
            own: None,
        }
    }
}

/// What serves artifacts and caches.
#[derive(Clone, Serialize, Deserialize)]
pub struct Results {
    /// A Unix socket in the box that speaks HTTP. The runner listens on a port of the box's loopback and passes on.
    pub socket: String,
    /// `ACTIONS_RUNTIME_TOKEN`: a JWT.
    pub token: String,
    /// `ACTIONS_ID_TOKEN_REQUEST_TOKEN`, where the job may ask for identity tokens.
    pub identity: Option<String>,
}

/// A port of the machine, as a job reaches it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Door {
    /// The runner listens on it, on the box's loopback, and passes connections on.
    pub port: u16,
    /// To this Unix socket in the box.
    pub socket: String,
}

/// What a runner tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "told", rename_all = "snake_case")]
pub enum Told {
    /// It is there; these are the steps of the job, in their order. What is told of a step names its place here.
    Began {
        /// When.
        at_ms: u64,
        /// Of the job; pre and post steps, and steps in the background, have places behind these as they come.
        steps: Vec<String>,
    },
    /// A step begins.
    StepBegan {
        /// Its place.
        step: u32,
        /// What it is called, now that it can be said in full.
        name: String,
        /// When.
        at_ms: u64,
    },
    /// A line of output, without its line feed.
    Line {
        /// The step that it is of; `None`: of the job as a whole.
        step: Option<u32>,
        /// How it is to be shown.
        kind: LineKind,
        /// Masked; at most [`MAX_TEXT`] bytes.
        text: String,
    },
    /// Something to be seen beside the log.
    Annotation {
        /// The step that it is of.
        step: Option<u32>,
        /// What it is.
        annotation: Annotation,
    },
    /// A step's summary, in Markdown; each replaces the step's one before.
    Summary {
        /// The step that it is of.
        step: u32,
        /// At most [`MAX_SUMMARY`] bytes.
        text: String,
    },
    /// A step ended.
    StepEnded {
        /// Its place.
        step: u32,
        /// How, before `continue-on-error`.
        outcome: StepResult,
        /// How, after it.
        conclusion: StepResult,
        /// Of its process, if one ended by itself.
        exit_code: Option<i32>,
        /// Why it failed or was skipped, for a person: one sentence that says what to do, where there is one.
        why: Option<String>,
        /// When.
        at_ms: u64,
    },
    /// The job ended; nothing follows.
    Ended {
        /// How.
        result: JobResult,
        /// Names and values; those that hold a secret are left out, with a warning.
        outputs: Vec<(String, String)>,
        /// `environment.url`, where there is one.
        environment_url: Option<String>,
        /// Images that the job made and named in `GITHUB_ARTIFACTS`: name and digest.
        images: Vec<(String, String)>,
        /// When.
        at_ms: u64,
    },
}

/// How a line is to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineKind {
    /// As it is.
    Plain,
    /// A command that is carried out.
    Command,
    /// The title of a group that begins.
    Group,
    /// A group ends; no text.
    EndGroup,
    /// For who looks for a fault.
    Debug,
    /// Worth a look.
    Notice,
    /// Not right.
    Warning,
    /// Wrong.
    Error,
}

/// Something that a step found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Annotation {
    /// How bad it is.
    pub level: Level,
    /// What it is; at most [`MAX_TEXT`] bytes.
    pub message: String,
    /// In few words.
    pub title: Option<String>,
    /// From the workspace.
    pub file: Option<String>,
    /// From 1.
    pub line: Option<u32>,
    /// The last one.
    pub end_line: Option<u32>,
    /// From 1.
    pub column: Option<u32>,
    /// The last one.
    pub end_column: Option<u32>,
}

/// How bad an annotation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Worth a look.
    Notice,
    /// Not right.
    Warning,
    /// Wrong.
    Error,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepResult {
    /// All went well.
    Success,
    /// It failed.
    Failure,
    /// It was cancelled.
    Cancelled,
    /// Its `if` did not hold.
    Skipped,
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobResult {
    /// All went well.
    Success,
    /// A step failed.
    Failure,
    /// It was cancelled.
    Cancelled,
}
