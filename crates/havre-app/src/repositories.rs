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

use havre_base::one_line;
use havre_engine::Engine;
use havre_git::{Git, OpenError, Receiver, RemoteSettings, Remotes, Settings};
use havre_model::machine;

use crate::audit;
use crate::daemon::Daemon;
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

/// Opens what is kept of repositories of other servers. Blocks.
pub(crate) fn remotes(daemon: &Daemon, engine: Engine) -> Result<Remotes, String> {
    let platform = &daemon.platform;
    let root = &platform.root;
    let settings = RemoteSettings {
        server: daemon.options.machine.actions.server.clone(),
        folder: root.remotes_dir(),
        confined: Some((root.git_run_dir().join("remotes"), platform.exe.clone())),
    };
    let opened = Remotes::open(settings, Some(Arc::new(Groups(engine))));
    opened.map_err(|error| one_line(&error))
}

/// Who lets people and programs in to them.
pub(crate) fn porter(platform: &Platform) -> Porter {
    Porter {
        guard: audit::guard(platform),
        door: Arc::clone(&platform.door),
    }
}
