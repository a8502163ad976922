//! Keeps the engine's inventory true where nobody tells of a change: a folder of a container, or a control
//! group, that somebody removes or leaves behind by hand.

use std::time::Duration;

use havre_base::one_line;
use havre_engine::Engine;

use crate::supervisor::Supervised;

/// How often the machine is looked at. All that containers do by themselves is known at once without that.
const EVERY: Duration = Duration::from_secs(10);

/// Looks now and then, until the daemon ends.
pub(crate) async fn keep(engine: Engine, task: Supervised) {
    let mut failed = false;
    loop {
        tokio::select! {
            () = task.end.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let found = engine.reconcile().await;
        let found = found.map_err(|error| one_line(&error));
        if let (Err(error), false) = (&found, failed) {
            tracing::warn!(error, "the containers on this machine cannot be looked for");
        }
        failed = found.is_err();
        task.report(found.map(|found| {
            format!(
                "{} containers: {} found, {} vanished; {} control groups left behind",
                found.containers, found.adopted, found.vanished, found.orphans
            )
        }));
    }
}
