//! Files of a project that is deployed from elsewhere: what is lacking of them, and what is sent.
//!
//! ```text
//! offer names ─► unknown ─► offer those with what they hold ─► lacking ─► put … ─► offer again: nothing
//! ```

use havre_sources::{Digest, Tree};
use serde::{Deserialize, Serialize};

use crate::EnvironmentId;

/// Under which a project's paths lie that are sent: `/@source/<id>/<path in it>`. The daemon puts in its
/// place where the tree is.
pub const SOURCE_ROOT: &str = "/@source";

/// Most bytes of pieces in one request, before they are written as text.
pub const MAX_PIECES_BYTES: usize = 4 << 20;
/// Most trees of one offer: contexts, mounts and files of a project.
pub(crate) const MAX_TREES: usize = 1000;
/// Most pieces of one request.
pub const MAX_PIECES: usize = 2000;

/// Says what of these trees is lacking; where nothing is, they are there from then on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceOffer {
    /// For which environment.
    pub environment: EnvironmentId,
    /// The trees.
    pub trees: Vec<OfferedTree>,
}

/// A tree by name, or with what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferedTree {
    /// Its digest.
    pub id: Digest,
    /// What it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<Tree>,
}

/// What is lacking. Nothing: the trees are there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceLack {
    /// Trees that are not known by their names.
    pub unknown: Vec<Digest>,
    /// Files of the others that are not there, or not all of them.
    pub lacking: Vec<LackingFile>,
}

/// A file that is lacking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LackingFile {
    /// Its content.
    pub digest: Digest,
    /// Bytes from its begin that are there.
    pub have_bytes: u64,
}

/// Parts of files that are lacking, each from where the one before ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourcePieces {
    /// For which environment.
    pub environment: EnvironmentId,
    /// The parts.
    pub pieces: Vec<SourcePiece>,
}

/// A part of a file.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourcePiece {
    /// Content of the whole file.
    pub digest: Digest,
    /// Bytes of it that come before.
    pub offset: u64,
    /// The bytes, in base64.
    #[serde(with = "crate::base64")]
    pub bytes: Vec<u8>,
}

/// Its bytes may be secret.
impl std::fmt::Debug for SourcePiece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SourcePiece")
            .field("digest", &self.digest)
            .field("offset", &self.offset)
            .field("bytes", &self.bytes.len())
            .finish()
    }
}
