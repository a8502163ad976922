//! How a job has images built, and reaches what was built: by a Unix socket in its box.
//!
//! ```text
//! box ── Ask (a line of JSON); for a build, the context as a tar behind it ──► who makes boxes
//!     ◄─ Answer (a line of JSON each), the last of which says how it ended ──┘
//!        after `Bytes`: so many bytes, and nothing more
//! ```
//!
//! One thing is asked by connection. What was asked for ends when the connection does. Names that are given to images
//! are the job's own, and go with it; registries are spoken to from inside the box.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Names the socket, for programs of a job.
pub const VARIABLE: &str = "HAVRE_BUILD_SOCKET";
/// The name of the socket, in [`crate::paths::RESULTS_FOLDER`].
pub const SOCKET: &str = "images.sock";
/// Most bytes of a line that is asked.
pub const MAX_ASK: u64 = 8 << 20;
/// Most bytes of a line that is answered.
pub const MAX_ANSWER: u64 = 1 << 20;
/// Most bytes of a build's context.
pub const MAX_CONTEXT: u64 = 16 << 30;
/// Most files and folders of one.
pub const MAX_ENTRIES: u64 = 1_000_000;
/// Most names that a job gives to images.
pub const MAX_NAMES: usize = 256;

/// What is asked.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Build an image; the context follows.
    Build(Box<Build>),
    /// Fetch an image, for this job: [`Answer::Image`].
    Pull(Pull),
    /// What a name of the job, or a manifest's digest, stands for: [`Answer::Image`].
    Find(String),
    /// Further names for an image: [`Answer::Image`].
    Tag {
        /// A name, or a digest.
        image: String,
        /// New ones.
        names: Vec<String>,
    },
    /// A blob of an image: [`Answer::Bytes`].
    Blob {
        /// Of the manifest.
        image: String,
        /// Of the blob; the manifest's own is one, too.
        blob: String,
    },
    /// Run a container beside the job's.
    Run(Box<Run>),
}

/// An image to build.
#[derive(Clone, Serialize, Deserialize)]
pub struct Build {
    /// How the file is called, from the context where it is in there.
    pub dockerfile: String,
    /// What it holds, where it is not in the context.
    pub text: Option<String>,
    /// A stage.
    pub target: Option<String>,
    /// Names of the job.
    pub tags: Vec<String>,
    /// Of the result.
    pub labels: BTreeMap<String, String>,
    /// Of its manifest.
    pub annotations: BTreeMap<String, String>,
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// By id.
    pub secrets: BTreeMap<String, String>,
    /// Ask registries for base images that are here.
    pub pull: bool,
    /// Carry every step out.
    pub no_cache: bool,
    /// No network for its steps.
    pub offline: bool,
    /// Lines of `/etc/hosts`: names, and their addresses.
    pub hosts: BTreeMap<String, Vec<String>>,
    /// Of `/dev/shm`.
    pub shm_bytes: Option<u64>,
    /// Further places that FROM may name: images.
    pub contexts: BTreeMap<String, String>,
    /// Logins for what it is built from, as Docker's `config.json` has them.
    pub logins: String,
}

/// An image to fetch.
#[derive(Clone, Serialize, Deserialize)]
pub struct Pull {
    /// Its name.
    pub name: String,
    /// Ask the registry, even if it is here.
    pub fresh: bool,
    /// Logins, as Docker's `config.json` has them.
    pub logins: String,
}

/// A container beside the job's: it shares its network and the folders in which it works.
#[derive(Clone, Serialize, Deserialize)]
pub struct Run {
    /// A name or a digest, which the job has had built or fetched.
    pub image: String,
    /// Instead of the image's.
    pub entrypoint: Option<Vec<String>>,
    /// Instead of the image's; empty: the image's own.
    pub args: Vec<String>,
    /// Beside the image's.
    pub env: BTreeMap<String, String>,
    /// Where it begins; `None`: where the image says.
    pub folder: Option<String>,
    /// Folders of the box, below [`crate::paths::WORK`], and where they are in the container.
    pub folders: Vec<(String, String)>,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// A line for the log.
    Line(String),
    /// A line of the error output of a container.
    ErrorLine(String),
    /// Something that works, and is probably not meant.
    Warning(String),
    /// The last: an image.
    Image(Image),
    /// The last but for so many bytes.
    Bytes(u64),
    /// The last: a container ended.
    Exited {
        /// As a shell has it.
        code: i32,
        /// It had no memory left.
        out_of_memory: bool,
    },
    /// The last: why not.
    Failed(Box<Failed>),
}

/// An image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Of its configuration: what Docker calls its id.
    pub id: String,
    /// Of its manifest.
    pub digest: String,
    /// Of its layers as they travel.
    pub bytes: u64,
}

/// Why something was not done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Failed {
    /// In a sentence.
    pub why: String,
    /// A file and its line.
    pub place: Option<(String, u32)>,
    /// What stands there.
    pub instruction: Option<String>,
    /// The last that it printed.
    pub log: Vec<String>,
    /// What to do.
    pub hint: Option<String>,
}
