//! What is done to the file system of a stage, with all variables filled in.

use std::collections::BTreeMap;

use super::chmod::Chmod;

/// Where a single heredoc with `#!` is mounted for the step that runs it.
pub(super) const SCRIPT_DIR: &str = "/dev/pipes";

/// Permission bits of a cache mount that says nothing else.
pub(super) const CACHE_MODE: u32 = 0o755;

/// Work on the file system.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// None.
    Configure,
    /// Run a command.
    Run(RunAction),
    /// Copy files.
    Copy(CopyAction),
    /// Make a folder where there is none.
    MakeDir(MakeDir),
}

/// A folder that is made, with those above it, where there is none.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(super) struct MakeDir {
    /// Absolute.
    pub path: String,
    /// Whose it is, as in the configuration; empty: root.
    pub user: String,
}

/// A command to run.
#[derive(Debug, PartialEq, Eq, serde::Serialize)]
pub(super) struct RunAction {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Everything but proxies.
    pub env: BTreeMap<String, String>,
    /// Proxies the caller gave; no part of the step's identity.
    #[serde(skip)]
    pub proxies: BTreeMap<String, String>,
    /// As in the configuration.
    pub user: String,
    /// Absolute.
    pub cwd: String,
    /// Whether the step has a network.
    pub network: bool,
    /// Mounts beside the standard ones.
    pub mounts: Vec<MountAction>,
    /// File in [`SCRIPT_DIR`]: name and content.
    pub script: Option<(String, String)>,
}

/// A mount of a RUN step.
#[derive(Debug, PartialEq, Eq, serde::Serialize)]
pub(super) enum MountAction {
    /// Files of the context or of `from`, read-only.
    Bind {
        /// Stage or image; `None`: the context.
        from: Option<String>,
        /// Path there.
        source: String,
        /// Absolute.
        target: String,
    },
    /// A folder kept between builds.
    Cache {
        /// Its name.
        id: String,
        /// Absolute.
        target: String,
        /// One step at a time.
        exclusive: bool,
        /// Read-only.
        read_only: bool,
        /// Permission bits and owner of a new one.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// Memory.
    Tmpfs {
        /// Absolute.
        target: String,
        /// Limit.
        size_bytes: Option<u64>,
    },
    /// A secret of the build, as a file, a variable or both.
    Secret {
        /// Its name.
        id: String,
        /// Absolute.
        target: Option<String>,
        /// Variable.
        env: Option<String>,
        /// The step cannot do without.
        required: bool,
        /// Permission bits and owner of the file.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

/// Files to copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CopyAction {
    /// The keyword, for messages.
    pub keyword: &'static str,
    /// Stage or image; `None`: the context.
    pub from: Option<String>,
    /// Paths and patterns.
    pub sources: Vec<String>,
    /// Name and content.
    pub documents: Vec<(String, String)>,
    /// Absolute, cleaned, without a slash at the end.
    pub destination: String,
    /// The destination is a folder whether it exists or not.
    pub into_folder: bool,
    /// There are several sources, so that the destination must be a folder.
    pub several: bool,
    /// The destination becomes what the source is, mode and owner of the folder itself included.
    pub mirror: bool,
    /// `user[:group]`.
    pub chown: Option<String>,
    /// New permission bits.
    pub chmod: Option<Chmod>,
    /// Do not look at what lies at the destination.
    pub link: bool,
    /// Keep the folders of the source path.
    pub parents: bool,
    /// Patterns of what is left out.
    pub exclude: Vec<String>,
    /// Unpack local archives.
    pub unpack: bool,
}

impl CopyAction {
    /// All of the context.
    pub fn whole() -> Self {
        Self {
            keyword: "COPY",
            from: None,
            sources: vec![".".to_owned()],
            documents: Vec::new(),
            destination: "/".to_owned(),
            into_folder: true,
            several: false,
            mirror: false,
            chown: None,
            chmod: None,
            link: false,
            parents: false,
            exclude: Vec::new(),
            unpack: false,
        }
    }
}
