//! How replicas of a service make place for new ones, and the rule that says so.

mod worker;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::project::{Mount, Route, Service, ServiceName, UpdateOrder, VolumeName};

/// Folders of the host that nobody keeps data of an application in.
const HOST_FOLDERS: [&str; 8] = [
    "/dev", "/etc", "/lib", "/proc", "/run", "/sys", "/usr", "/var/run",
];

/// How old replicas make place for new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// New replicas start beside the old ones.
    StartFirst,
    /// The old replicas end before the new ones start.
    StopFirst,
}

/// Which rule chose the strategy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "snake_case")]
pub enum StrategyReason {
    /// `deploy.update_config.order` says so.
    Asked,
    /// It writes to this volume, which two releases must not do at once.
    ExclusiveVolume {
        /// The volume.
        volume: VolumeName,
    },
    /// It writes to this folder of the host, likewise.
    ExclusiveFolder {
        /// The folder.
        folder: PathBuf,
    },
    /// It works through a queue or a timetable and nobody calls it: two at once would do the
    /// same work twice, and none for a moment is not noticed.
    Worker,
    /// Nothing stands in the way.
    Default,
}

/// How replicas of `service` are replaced. `routes` are the project's, `others` its services.
pub fn strategy<'a>(
    name: &ServiceName,
    service: &Service,
    routes: &[Route],
    others: impl IntoIterator<Item = &'a Service>,
) -> (Strategy, StrategyReason) {
    match service.update.order {
        Some(UpdateOrder::StartFirst) => return (Strategy::StartFirst, StrategyReason::Asked),
        Some(UpdateOrder::StopFirst) => return (Strategy::StopFirst, StrategyReason::Asked),
        None => {}
    }
    // Several replicas already share the volume or the work: one more does no harm.
    if service.replicas > 1 {
        return (Strategy::StartFirst, StrategyReason::Default);
    }
    if let Some(reason) = service.mounts.iter().find_map(written) {
        return (Strategy::StopFirst, reason);
    }
    if is_worker(name, service, routes, others) {
        return (Strategy::StopFirst, StrategyReason::Worker);
    }
    (Strategy::StartFirst, StrategyReason::Default)
}

/// Whether it works through a queue or a timetable and nobody calls it.
pub fn is_worker<'a>(
    name: &ServiceName,
    service: &Service,
    routes: &[Route],
    others: impl IntoIterator<Item = &'a Service>,
) -> bool {
    let called = !service.ports.is_empty()
        || !service.expose.is_empty()
        || routes.iter().any(|route| &route.service == name)
        || others
            .into_iter()
            .any(|other| other.depends_on.contains_key(name));
    !called && worker::looks_like_one(name, service)
}

/// Mounts of a service that it may keep data in which outlive its replicas.
pub fn written_mounts(service: &Service) -> impl Iterator<Item = &Mount> {
    let mounts = service.mounts.iter();
    mounts.filter(|mount| written(mount).is_some())
}

/// What a mount lets a replica write to that outlives it.
fn written(mount: &Mount) -> Option<StrategyReason> {
    match mount {
        Mount::Volume {
            name,
            read_only: false,
            ..
        } => Some(StrategyReason::ExclusiveVolume {
            volume: name.clone(),
        }),
        Mount::Bind {
            source,
            target,
            read_only: false,
            ..
        } if holds_data(source, Path::new(target)) => Some(StrategyReason::ExclusiveFolder {
            folder: source.clone(),
        }),
        Mount::Volume { .. }
        | Mount::Bind { .. }
        | Mount::Anonymous { .. }
        | Mount::Tmpfs { .. } => None,
    }
}

/// A folder, as far as its name tells: single files are configuration, and so is what belongs to
/// the host.
fn holds_data(source: &Path, target: &Path) -> bool {
    let of_host = HOST_FOLDERS.iter().any(|folder| source.starts_with(folder));
    source.is_absolute() && !of_host && source.extension().is_none() && target.extension().is_none()
}
