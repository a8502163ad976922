//! What a change of release means for a service, and what it may use up.

use super::look::{Look, Subject};
use crate::strategy::StrategyReason;

pub fn look(look: &mut Look<'_>, subject: &Subject<'_>) {
    let (name, service) = (subject.name, subject.service);
    if service.resources.memory_bytes.is_none() {
        let message = format!("`{name}` has no memory limit");
        look.found("limits/no-memory", subject, &["deploy"], message);
    }
    let routes = &look.project.routes;
    let routed = routes.iter().any(|route| route.service == *name);
    let (written, database) = match &subject.strategy.1 {
        StrategyReason::ExclusiveVolume { volume, database } => {
            (format!("volume `{volume}`"), database)
        }
        StrategyReason::ExclusiveFolder { folder, database } => {
            (folder.display().to_string(), database)
        }
        StrategyReason::Asked
        | StrategyReason::Answers
        | StrategyReason::HostNetwork
        | StrategyReason::Worker
        | StrategyReason::Default => return,
    };
    if let (Some(sign), true) = (database, routed) {
        let message = format!(
            "`{name}` is stopped before its successor starts: a single replica that writes to \
             {written}, and {sign}"
        );
        look.found("rollouts/stops-first", subject, &["volumes"], message);
    }
}
