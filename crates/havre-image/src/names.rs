//! Who gave a name, and who may use it or give it anew. The store keeps the giver as an opaque text, and asks
//! the caller's rule in the same step in which it reads or writes the name.

use std::fmt;
use std::sync::Arc;

use crate::ImageRef;

/// What is wanted of a name that stands for an image already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameUse {
    /// Its image.
    Read,
    /// That it stands for another image.
    Give,
}

/// Why a name is not for who asks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct NameRefused {
    /// Names the image; shown.
    pub reason: String,
    /// What else can be done.
    pub hint: Option<String>,
}

type Rule = dyn Fn(NameUse, &ImageRef, Option<&str>) -> Result<(), NameRefused> + Send + Sync;

/// For whom names are used and given.
#[derive(Clone)]
pub struct NameRights {
    pub(crate) giver: Option<String>,
    rule: Arc<Rule>,
}

impl NameRights {
    /// `giver` is kept with each name that is given. `rule` gets that of a name that exists; free names are
    /// everybody's.
    pub fn new(
        giver: Option<String>,
        rule: impl Fn(NameUse, &ImageRef, Option<&str>) -> Result<(), NameRefused>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self {
            giver,
            rule: Arc::new(rule),
        }
    }

    /// All names, given by nobody in particular.
    pub fn everything() -> Self {
        Self::new(None, |_, _, _| Ok(()))
    }

    /// Whether a name that `giver` gave may be used so.
    pub(crate) fn check(
        &self,
        wanted: NameUse,
        reference: &ImageRef,
        giver: Option<&str>,
    ) -> Result<(), NameRefused> {
        (self.rule)(wanted, reference, giver)
    }
}

impl fmt::Debug for NameRights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NameRights")
            .field("giver", &self.giver)
            .finish_non_exhaustive()
    }
}
