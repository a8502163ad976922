//! What a container finds in its file system beside its image.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{VolumeName, is_false};

/// Something mounted into a container at `target`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Mount {
    /// A named volume, kept across releases.
    Volume {
        /// Key in [`Project::volumes`](super::Project::volumes).
        name: VolumeName,
        /// Absolute path inside.
        target: String,
        /// Mounted read-only.
        read_only: bool,
        /// Do not copy the image's content into the empty volume.
        nocopy: bool,
        /// Folder of the volume that is mounted, relative, without `..`; `None`: all of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subpath: Option<String>,
        /// [`Volume::backing`], here too so that another one makes new replicas.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        backing: Option<PathBuf>,
    },
    /// A volume without a name, removed with its container.
    Anonymous {
        /// Absolute path inside.
        target: String,
        /// Mounted read-only.
        #[serde(default, skip_serializing_if = "is_false")]
        read_only: bool,
        /// Do not copy the image's content into it.
        #[serde(default, skip_serializing_if = "is_false")]
        nocopy: bool,
    },
    /// A path of the host.
    Bind {
        /// Absolute path on the host.
        source: PathBuf,
        /// Absolute path inside.
        target: String,
        /// Mounted read-only.
        read_only: bool,
        /// Make the folder when it is missing.
        create_host_path: bool,
    },
    /// Memory.
    Tmpfs {
        /// Absolute path inside.
        target: String,
        /// Limit in bytes.
        size_bytes: Option<u64>,
        /// Permission bits.
        mode: Option<u32>,
        /// Owner; `None`: root.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uid: Option<u32>,
        /// Group; `None`: root's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gid: Option<u32>,
        /// Programs may be started from it.
        #[serde(default, skip_serializing_if = "is_false")]
        exec: bool,
    },
}

/// A named volume of the project.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// `name:`, else `<project>_<key>`.
    pub name: Option<String>,
    /// Must exist already.
    pub external: bool,
    /// The folder of this machine that it is (`driver_opts`), instead of one of Havre's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backing: Option<PathBuf>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

impl Volume {
    /// Its name on the machine: its own, or `<project>_<key>` as docker compose has it;
    /// environments other than production have volumes of their own.
    pub fn name_on_machine(&self, project: &str, environment: &str, key: &VolumeName) -> String {
        match (&self.name, environment) {
            (Some(name), _) if self.external => name.clone(),
            (Some(name), "production") => name.clone(),
            (Some(name), environment) => format!("{environment}_{name}"),
            (None, "production") => format!("{project}_{key}"),
            (None, environment) => format!("{project}-{environment}_{key}"),
        }
    }
}

/// Content of a secret or config.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum FileSource {
    /// A file of the project.
    File {
        /// Absolute path.
        path: PathBuf,
    },
    /// A file of another machine, sent with the project.
    Sent {
        /// Where it was there.
        path: PathBuf,
        /// Its bytes, in base64.
        #[serde(with = "bytes")]
        content: Vec<u8>,
    },
    /// The value of a variable, resolved by the reader from the caller's environment.
    Environment {
        /// The variable's name.
        variable: String,
        /// Its value.
        value: String,
    },
    /// A secret of the machine's store (secrets only).
    Store {
        /// Its name there.
        name: String,
    },
    /// Inline content (configs only).
    Content {
        /// The text.
        content: String,
    },
}

/// A secret or config as seen by one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileGrant {
    /// Key in [`Project::secrets`](super::Project::secrets) or
    /// [`Project::configs`](super::Project::configs).
    pub source: String,
    /// Absolute path inside (secrets default to `/run/secrets/<source>`, configs to `/<source>`).
    pub target: String,
    /// Owner.
    pub uid: Account,
    /// Group.
    pub gid: Account,
    /// Permission bits (default 0444).
    pub mode: u32,
}

/// Who owns a file in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Account {
    /// Whatever the image calls it.
    Number(u32),
    /// Of the image's `/etc/passwd`, or `/etc/group` for a group.
    Name(String),
}

impl Account {
    /// The owner of what says nothing.
    pub const ROOT: Self = Self::Number(0);
}

impl std::fmt::Display for Account {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(out, "{number}"),
            Self::Name(name) => out.write_str(name),
        }
    }
}

/// Bytes as text.
mod bytes {
    use data_encoding::BASE64;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        BASE64.decode(text.as_bytes()).map_err(D::Error::custom)
    }
}
