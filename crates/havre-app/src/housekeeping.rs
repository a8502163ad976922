//! Keeps the build cache, which only grows by itself, within a budget: after builds and now and then.

use std::sync::Arc;
use std::time::Duration;

use havre_image::{Freed, PrunePolicy};

use crate::daemon::Daemon;
use crate::supervisor::Supervised;

/// How often the cache is looked at when nothing is built: the disk may be short of room for other
/// reasons.
const EVERY: Duration = Duration::from_secs(3600);
/// How long the machine is left alone after a build; the next one often follows.
const REST: Duration = Duration::from_secs(20);
/// Prunes within the budget, until the daemon ends.
pub(crate) async fn keep(daemon: Arc<Daemon>, task: Supervised) {
    loop {
        let pause = async {
            tokio::select! {
                () = daemon.platform.built.notified() => tokio::time::sleep(REST).await,
                () = tokio::time::sleep(EVERY) => {}
            }
        };
        tokio::select! {
            () = task.end.cancelled() => return,
            () = pause => {}
        }
        let pruned = once(&daemon).await;
        match &pruned {
            Ok(done) if done.bytes == 0 => {}
            Ok(done) => tracing::info!(
                bytes = done.bytes,
                layers = done.layers,
                steps = done.cache_entries,
                "the build cache was pruned"
            ),
            Err(error) => tracing::warn!(error, "the build cache cannot be pruned"),
        }
        task.report(pruned.map(|done| format!("{} bytes freed", done.bytes)));
    }
}

async fn once(daemon: &Daemon) -> Result<Freed, String> {
    let state = daemon.platform.root.state_dir();
    let budget = daemon.options.build_cache.budget(state);
    let budget = budget.map_err(|error| format!("its disk cannot be looked at: {error}"))?;
    let images = daemon.platform.images.clone();
    let pruned = tokio::task::spawn_blocking(move || {
        images.prune(&PrunePolicy {
            budget: Some(budget),
            ..PrunePolicy::default()
        })
    });
    match pruned.await {
        Ok(pruned) => pruned.map_err(|error| havre_base::one_line(&error)),
        Err(error) => Err(error.to_string()),
    }
}
