//! Jobs of workflows in boxes: what a run asks for becomes a box, with a socket of its own and what is told of it.
//!
//! ```text
//! Runs ─► Legs (here) ─► place: labels, images ─► Boxes ─► container, network, services
//!           │                                        │
//!           └─► socket per box: artifacts, caches ◄──┘ results.sock
//! ```
//!
//! The daemon and `havre ci run` use the same; they differ in their [`Surroundings`]: where repositories are, and whether
//! a workspace is a working tree.

mod container;
mod elsewhere;
mod legs;
mod local;
mod notes;
mod place;
mod sockets;
mod tree;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use havre_box::{BoxConfig, BoxError, Boxes, Grounds, Runtime};
use havre_engine::Engine;
use havre_net::Net;

pub(crate) use elsewhere::Fetcher;
pub(crate) use legs::{BoxLegs, Grounded, Surroundings};
pub use local::{LocalError, LocalRun, LocalSettings};
pub(crate) use notes::box_id;

/// By what the binary is a runner.
pub(crate) const RUNNER: &str = "job-runner";

/// Boxes of an engine, with their files below `state`. What is `hidden` no box sees, whatever its mode. Blocks.
pub(crate) fn boxes(
    engine: &Engine,
    net: Arc<Net>,
    state: &Path,
    exe: &Path,
    hidden: Vec<PathBuf>,
) -> Result<Boxes, BoxError> {
    let dir = state.join("jobs");
    let grounds = Grounds::new(dir.join("grounds"), hidden)?;
    let runtime = Runtime::prepare(exe, &dir.join("runtime"))?;
    let config = BoxConfig {
        dir: dir.join("boxes"),
        exe: exe.to_owned(),
        runner_args: vec![RUNNER.to_owned()],
        ids: havre_box::IDS,
    };
    Boxes::new(engine.clone(), net, grounds, runtime, config)
}
