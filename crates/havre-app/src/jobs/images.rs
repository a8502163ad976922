//! Images of jobs: a socket in each box, by which its job has images built and fetched, and takes what it has.
//!
//! ```text
//! images.sock ─► serve: one thing is asked ─► build ─► the workshop of all builds
//!                                          ├► pull, names: the job's own, with a lease until it is gone
//!                                          └► blobs of them, for pushing and for files
//! ```
//!
//! Nothing of it is seen outside of the job: names are in a file beside the box's note, and hide those of the machine
//! for that job alone.

mod beside;
mod build;
mod context;
mod held;
mod names;
mod serve;
mod talk;

use std::path::PathBuf;
use std::sync::Arc;

use havre_base::one_line;
use havre_box::Boxes;
use havre_image::{Images, NameRights};
use havre_results::{CacheMode, Grant};
use serde::{Deserialize, Serialize};

use super::around::Surroundings;
use crate::workshop::Workshop;
use names::Names;

pub(super) use serve::Served;

/// What a job may do with images, as its note keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Rights {
    /// Its project.
    pub(super) project: String,
    /// It comes from outside: no login of the machine's is used for it.
    pub(super) foreign: bool,
    /// Whose results of steps it leaves.
    pub(super) cache_of: String,
    /// Whose it finds.
    pub(super) cache_from: Vec<String>,
    /// It finds none.
    pub(super) no_cache: bool,
}

impl Rights {
    /// Of a job of a project, which runs what a reference has: what it leaves in the cache of builds is found by those
    /// who find its other caches, too.
    pub(super) fn of((project, reference, foreign): (&str, &str, bool), grant: &Grant) -> Self {
        let scope = |scope: &str| format!("ci {project} {scope}");
        let all = grant.scopes.iter();
        let all: Vec<String> = all.map(|(name, _)| scope(name)).collect();
        let own = scope(reference);
        let (cache_of, mut cache_from) = match grant.cache {
            _ if foreign => (scope(&format!("outside {reference}")), all),
            CacheMode::Write | CacheMode::WriteOnly => (own, all),
            CacheMode::Read => (scope(&format!("job {}", grant.job)), all),
            CacheMode::None => (scope(&format!("job {}", grant.job)), Vec::new()),
        };
        cache_from.retain(|of| *of != cache_of);
        Self {
            project: project.to_owned(),
            foreign,
            cache_of,
            cache_from,
            no_cache: grant.cache == CacheMode::WriteOnly,
        }
    }
}

/// Who holds images for a box.
const LEASE: &str = "job:";

pub(super) fn lease_of(id: &str) -> String {
    format!("{LEASE}{id}")
}

/// The images of one job.
pub(super) struct OfBox {
    id: String,
    rights: Rights,
    names: Names,
    surroundings: Arc<dyn Surroundings>,
    boxes: Boxes,
}

impl OfBox {
    /// `folder` is that of the box's note.
    pub(super) fn new(
        id: &str,
        folder: PathBuf,
        rights: Rights,
        surroundings: Arc<dyn Surroundings>,
        boxes: Boxes,
    ) -> Self {
        Self {
            id: id.to_owned(),
            names: Names::open(folder),
            rights,
            surroundings,
            boxes,
        }
    }

    fn images(&self) -> Result<Images, String> {
        self.surroundings.images()
    }

    fn workshop(&self) -> Result<Arc<Workshop>, String> {
        self.surroundings.workshop()
    }

    /// Names of the machine, as the job uses them.
    fn machine(&self) -> NameRights {
        self.surroundings.names(&self.rights.project)
    }
}

/// Lets go of what a box held.
pub(super) fn release(images: &Images, id: &str) -> Result<(), String> {
    let released = images.release(&lease_of(id));
    released.map_err(|error| one_line(&error))
}

/// The same of all boxes that are not there any more.
pub(super) fn release_unknown(
    images: &Images,
    is_known: impl Fn(&str) -> bool,
) -> Result<(), String> {
    let holders = images.all_holders().map_err(|error| one_line(&error))?;
    for holder in &holders {
        match holder.strip_prefix(LEASE) {
            Some(id) if !is_known(id) => release(images, id)?,
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights(reference: &str, foreign: bool, cache: CacheMode) -> (String, Vec<String>) {
        let scopes = [reference, "refs/heads/main"];
        let grant = Grant {
            run: "1".to_owned(),
            job: "r1.x".to_owned(),
            repository: "shop".to_owned(),
            scopes: scopes.map(|scope| (scope.to_owned(), !foreign)).into(),
            cache,
            expires: 0,
        };
        let rights = Rights::of(("shop", reference, foreign), &grant);
        assert_eq!(rights.no_cache, cache == CacheMode::WriteOnly);
        (rights.cache_of, rights.cache_from)
    }

    #[test]
    fn nobody_leaves_what_the_default_branch_finds_but_itself() {
        let (main, branch) = ("refs/heads/main", "refs/heads/x");
        let own = rights(main, false, CacheMode::Write);
        assert_eq!(own, ("ci shop refs/heads/main".to_owned(), Vec::new()));
        let found = |text: &str| vec![text.to_owned()];
        let (of, from) = rights(branch, false, CacheMode::Write);
        assert_eq!(of, "ci shop refs/heads/x");
        assert_eq!(from, found("ci shop refs/heads/main"));
        for (reference, foreign, cache) in [
            (branch, true, CacheMode::Write),
            (main, true, CacheMode::Write),
            (main, true, CacheMode::Read),
            (main, false, CacheMode::Read),
            (main, false, CacheMode::None),
            (branch, false, CacheMode::WriteOnly),
        ] {
            let (of, from) = rights(reference, foreign, cache);
            assert_ne!(
                of, "ci shop refs/heads/main",
                "{reference} {foreign} {cache:?}"
            );
            assert!(!from.contains(&of), "{reference} {foreign} {cache:?}");
        }
        assert_eq!(rights(main, false, CacheMode::None).1, [""; 0]);
        assert_eq!(
            rights(main, true, CacheMode::Read).1,
            ["ci shop refs/heads/main"; 2]
        );
    }
}
