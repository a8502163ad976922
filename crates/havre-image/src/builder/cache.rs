//! What a step depends on, as one digest, and what it made, as one row.
//!
//! A key covers the layers below (by their chain id, so by content), the step with its variables
//! filled in, and the content it takes; of RUN also whose build it is. Not in a key: times of files, proxies, secrets, the host's
//! CA bundle, labels and other configuration that no file depends on.
//!
//! A row is written only after its layer is durable, and trusted only while that layer is there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Digest, Images, Layer};

use super::action::{CopyAction, MakeDir, RunAction};
use super::error::BuildError;

/// Changes when the meaning of keys or rows does.
const VERSION: u32 = 2;

/// Everything a step's files depend on.
#[derive(Serialize)]
pub(super) enum Key<'a> {
    /// RUN.
    Run {
        /// The step.
        run: &'a RunAction,
        /// Digests of what its bind mounts show, in their order.
        binds: Vec<String>,
        /// Names that it resolves otherwise.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        hosts: &'a BTreeMap<String, Vec<String>>,
        /// Whose it is: what it made can depend on proxies, secrets and cache mounts, which no key says.
        #[serde(skip_serializing_if = "str::is_empty")]
        of: &'a str,
    },
    /// COPY and ADD.
    Copy {
        /// Digest of the context files, or the chain id of the stage they come from.
        from: String,
        /// Sources, where the files themselves are not in the digest.
        sources: &'a [String],
        documents: &'a [(String, String)],
        destination: &'a str,
        into_folder: bool,
        chown: Option<&'a str>,
        chmod: Option<String>,
        link: bool,
        parents: bool,
        exclude: &'a [String],
        unpack: bool,
    },
    /// WORKDIR.
    MakeDir(&'a MakeDir),
}

impl<'a> Key<'a> {
    pub fn copy(action: &'a CopyAction, from: String) -> Self {
        Self::Copy {
            from,
            sources: if action.from.is_some() {
                &action.sources
            } else {
                &[]
            },
            documents: &action.documents,
            destination: &action.destination,
            into_folder: action.into_folder,
            chown: action.chown.as_deref(),
            chmod: action.chmod.as_ref().map(|chmod| format!("{chmod:?}")),
            link: action.link,
            parents: action.parents,
            exclude: &action.exclude,
            unpack: action.unpack,
        }
    }

    /// The key on top of the layers of `parent`.
    pub fn digest(&self, parent: Option<&Digest>) -> Result<String, BuildError> {
        let parent = parent.map_or("scratch".to_owned(), Digest::to_string);
        let bytes = serde_json::to_vec(&(VERSION, parent, self))
            .map_err(|error| BuildError::io("form a cache key")(error.into()))?;
        Ok(format!("build-step {}", Digest::of(&bytes)))
    }
}

/// What a step made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Outcome {
    /// The new layer; `None` when the step changed no file.
    pub layer: Option<Layer>,
    /// When (RFC 3339). Kept, so that a rebuild from the cache makes the same image.
    pub created: String,
    /// The instruction, for people.
    #[serde(default)]
    pub step: Option<String>,
}

/// What pruning needs to know of a row.
pub(crate) struct StepRecord {
    /// The layer that the step made, if it made one.
    pub layer: Option<Digest>,
    /// The instruction.
    pub step: Option<String>,
}

impl StepRecord {
    /// Reads a row's value; `None` for what is no longer understood.
    pub(crate) fn read(value: &str) -> Option<Self> {
        let outcome: Outcome = serde_json::from_str(value).ok()?;
        Some(Self {
            layer: outcome.layer.map(|layer| layer.chain_id),
            step: outcome.step,
        })
    }
}

/// The outcome kept for `key`, if its layer is still there.
pub(super) fn get(images: &Images, key: &str) -> Result<Option<Outcome>, BuildError> {
    let Some(text) = images.inner.tables.build_cache(key)? else {
        return Ok(None);
    };
    let Ok(outcome) = serde_json::from_str::<Outcome>(&text) else {
        return Ok(None);
    };
    let there = match &outcome.layer {
        None => true,
        // A layer that cannot be read is made again.
        Some(layer) => images
            .layer_paths(std::slice::from_ref(layer))
            .is_ok_and(|p| p.is_some()),
    };
    Ok(there.then_some(outcome))
}

/// Keeps `outcome`, whose layer is durable, for `key`.
pub(super) fn put(images: &Images, key: &str, outcome: &Outcome) -> Result<(), BuildError> {
    let text = serde_json::to_string(outcome)
        .map_err(|error| BuildError::io("form a cache entry")(error.into()))?;
    images.inner.tables.build_cache_put(key, &text)?;
    Ok(())
}
