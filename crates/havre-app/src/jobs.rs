//! Jobs of workflows in boxes: what a run asks for becomes a box, with a socket of its own and what is told of it.
//!
//! ```text
//! Runs ─► Legs (here) ─► place: labels, images ─► Boxes ─► container, network, services
//!           │                                        │
//!           └─► socket per box: artifacts, caches ◄──┘ results.sock
//!                and where *.localhost is this machine's proxy: door-PORT.sock
//! ```
//!
//! The daemon and `havre ci run` use the same; they differ in their [`Surroundings`]: where repositories are, and whether
//! a workspace is a working tree.

mod around;
mod container;
mod doors;
mod elsewhere;
mod images;
mod legs;
mod local;
mod notes;
mod place;
mod rights;
mod sockets;
mod tools;
mod tree;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use havre_box::{BoxConfig, BoxError, Boxes, DiskBounds, Grounds, Runtime};
use havre_engine::Engine;
use havre_model::machine::Jobs;
use havre_net::Net;

pub(crate) use around::{Grounded, Proxy, Surroundings};
pub(crate) use doors::{Doors, doors_of};
pub(crate) use elsewhere::Fetcher;
pub(crate) use legs::{BoxLegs, scopes};
pub use local::{LocalError, LocalRun, LocalSettings};
pub(crate) use notes::box_id;
pub(crate) use rights::Rights;
pub(crate) use tools::ToolCaches;

/// By what the binary is a runner.
pub(crate) const RUNNER: &str = "job-runner";

/// What of the disk boxes may take: as the machine's owner says, or usual for a disk of its size.
fn disk(state: &Path, bounds: &Jobs) -> std::io::Result<DiskBounds> {
    let usual = DiskBounds::of_disk(state)?;
    Ok(DiskBounds {
        each: bounds.disk_bytes.unwrap_or(usual.each),
        reserve: bounds.disk_reserve_bytes.unwrap_or(usual.reserve),
        ..usual
    })
}

/// Boxes of an engine, with their files below `state`. What is `hidden` no box sees, whatever its mode; all trust the
/// certificate of `authority`. Blocks.
pub(crate) fn boxes(
    engine: &Engine,
    net: Arc<Net>,
    state: &Path,
    exe: &Path,
    hidden: Vec<PathBuf>,
    bounds: &Jobs,
    authority: Option<PathBuf>,
) -> Result<Boxes, BoxError> {
    let dir = state.join("jobs");
    let disk = disk(state, bounds).map_err(|source| BoxError::Files {
        what: format!("see how large the disk of {} is", state.display()),
        source,
    })?;
    let grounds = Grounds::new(dir.join("grounds"), hidden)?;
    let grounds = match authority {
        Some(authority) => grounds.trusting(authority),
        None => grounds,
    };
    let runtime = Runtime::prepare(exe, &dir.join("runtime"))?;
    let config = BoxConfig {
        dir: dir.join("boxes"),
        exe: exe.to_owned(),
        runner_args: vec![RUNNER.to_owned()],
        ids: havre_box::IDS,
        disk,
    };
    Boxes::new(engine.clone(), net, grounds, runtime, config)
}
