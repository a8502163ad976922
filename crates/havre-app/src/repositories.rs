//! Repositories of projects in the daemon: who may fetch and push, what is refused, and what all of git has together.
//!
//! ```text
//! edge, or api.sock ─► Server ─► havre_git ─► Porter: the guard, as for calls ─► git
//!                                    └─► the pipeline: workflow files are checked before a branch moves
//! ```

mod bounds;
mod checks;
mod porter;

use std::sync::Arc;

use havre_engine::Engine;
use havre_git::{Git, OpenError, Receiver, Settings};
use havre_model::machine;

use crate::audit;
use crate::platform::Platform;

pub(crate) use checks::{files, gates, wrong};
pub(crate) use porter::{Porter, moved};

use bounds::Groups;

/// Opens the repositories of an installation, for who is told of pushes. Blocks.
pub(crate) fn open(
    platform: &Platform,
    most: &machine::Git,
    engine: Engine,
    receiver: Arc<dyn Receiver>,
) -> Result<Git, OpenError> {
    let root = &platform.root;
    let usual = Settings::new(
        root.repositories_dir(),
        root.git_run_dir(),
        platform.exe.clone(),
    );
    let settings = Settings {
        most_push: most.push.unwrap_or(usual.most_push),
        most_repository: most.repository.unwrap_or(usual.most_repository),
        most_total: most.total.unwrap_or(usual.most_total),
        most_repositories: most.repositories.unwrap_or(usual.most_repositories),
        ..usual
    };
    Git::open(settings, receiver, Some(Arc::new(Groups(engine))))
}

/// Who lets people and programs in to them.
pub(crate) fn porter(platform: &Platform) -> Porter {
    Porter {
        guard: audit::guard(platform),
        door: Arc::clone(&platform.door),
    }
}
