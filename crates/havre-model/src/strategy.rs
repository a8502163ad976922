//! How replicas of a service make place for new ones, and the rule that says so.

mod worker;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::databases::{self, DatabaseSign, FoundDatabases, is_database_name, is_on_disk};
use crate::files::means_file;
use crate::image_name::ImageName;
use crate::project::{Mount, Route, Service, ServiceName, UpdateOrder, VolumeName};

/// Folders of the host in which an application keeps data only where something shows it.
const OF_THE_HOST: [&str; 2] = ["/etc", "/lib"];

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
        /// What shows a database in it.
        database: Option<DatabaseSign>,
    },
    /// It writes to this folder of the host, likewise.
    ExclusiveFolder {
        /// The folder.
        folder: PathBuf,
        /// What shows a database in it.
        database: Option<DatabaseSign>,
    },
    /// It receives requests through a route, and nothing shows a database in what it writes to:
    /// that two append to a log for a moment does no harm, and that nobody answers does.
    Answers,
    /// It is on the machine's own network, where two cannot listen on one port.
    HostNetwork,
    /// It works through a queue or a timetable and nobody calls it: two at once would do the
    /// same work twice, and none for a moment is not noticed.
    Worker,
    /// Nothing stands in the way.
    Default,
}

/// How replicas of `service` are replaced. `routes` are the project's, `others` its services,
/// `found` what was found where they write.
pub fn strategy<'a>(
    name: &ServiceName,
    service: &Service,
    routes: &[Route],
    others: impl IntoIterator<Item = &'a Service>,
    found: &FoundDatabases,
) -> (Strategy, StrategyReason) {
    match service.update.order {
        Some(UpdateOrder::StartFirst) => return (Strategy::StartFirst, StrategyReason::Asked),
        Some(UpdateOrder::StopFirst) => return (Strategy::StopFirst, StrategyReason::Asked),
        None => {}
    }
    if service.shares.network {
        return (Strategy::StopFirst, StrategyReason::HostNetwork);
    }
    // Several replicas already share the volume or the work: one more does no harm.
    if service.replicas > 1 {
        return (Strategy::StartFirst, StrategyReason::Default);
    }
    let mounts = service.mounts.iter();
    let mut kept: Vec<StrategyReason> = mounts
        .filter_map(|mount| written(mount, databases::sign(service, mount, found)))
        .collect();
    // A database says most about why.
    kept.sort_by_key(|reason| !holds_database(reason));
    if let Some(reason) = kept.into_iter().next() {
        let routed = routes.iter().any(|route| &route.service == name);
        return match routed && !holds_database(&reason) {
            true => (Strategy::StartFirst, StrategyReason::Answers),
            false => (Strategy::StopFirst, reason),
        };
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

/// Whether two services run the same program, in whatever version: one of a name may have become
/// something else.
pub fn is_same_program(one: &Service, other: &Service) -> bool {
    let program = |service: &Service| {
        let build = service.build.clone();
        let build = build.map(|build| (build.context, build.dockerfile, build.target));
        let image = service.image.as_deref();
        let image = image.map(|image| ImageName::new(image).path.to_owned());
        (
            image,
            build,
            service.entrypoint.clone(),
            service.command.clone(),
        )
    };
    program(one) == program(other)
}

/// Mounts of a service that it keeps data in which outlive its replicas, as far as names and what
/// was `found` there tell.
pub fn written_mounts<'a>(
    service: &'a Service,
    found: &'a FoundDatabases,
) -> impl Iterator<Item = &'a Mount> {
    let mounts = service.mounts.iter();
    mounts.filter(|mount| written(mount, databases::sign(service, mount, found)).is_some())
}

fn holds_database(reason: &StrategyReason) -> bool {
    match reason {
        StrategyReason::ExclusiveVolume { database, .. }
        | StrategyReason::ExclusiveFolder { database, .. } => database.is_some(),
        StrategyReason::Asked
        | StrategyReason::Answers
        | StrategyReason::HostNetwork
        | StrategyReason::Worker
        | StrategyReason::Default => false,
    }
}

/// What a mount lets a replica write to that outlives it.
fn written(mount: &Mount, database: Option<DatabaseSign>) -> Option<StrategyReason> {
    match mount {
        Mount::Volume {
            name,
            read_only: false,
            ..
        } => Some(StrategyReason::ExclusiveVolume {
            volume: name.clone(),
            database,
        }),
        Mount::Bind {
            source,
            target,
            read_only: false,
            ..
        } if holds_data(source, Path::new(target), database.as_ref()) => {
            Some(StrategyReason::ExclusiveFolder {
                folder: source.clone(),
                database,
            })
        }
        Mount::Volume { .. }
        | Mount::Bind { .. }
        | Mount::Anonymous { .. }
        | Mount::Tmpfs { .. } => None,
    }
}

/// What shows a database tells more than any name. An image tells of the service alone, and a server
/// mounts its configuration too: there, and where nothing is shown, names tell data from the rest.
fn holds_data(source: &Path, target: &Path, database: Option<&DatabaseSign>) -> bool {
    let of_this_mount = match database {
        Some(
            DatabaseSign::Folder { .. }
            | DatabaseSign::Variable { .. }
            | DatabaseSign::File { .. }
            | DatabaseSign::Unclear { .. },
        ) => true,
        Some(DatabaseSign::Image { .. }) | None => false,
    };
    source.is_absolute()
        && is_on_disk(source)
        && (of_this_mount || is_named_as_data(source, target))
}

/// A dot says nothing: folders are called `mysql5.7` and `example.com` too.
fn is_named_as_data(source: &Path, target: &Path) -> bool {
    let of_host = OF_THE_HOST.iter().any(|folder| source.starts_with(folder));
    let name = source.file_name().unwrap_or_default().to_string_lossy();
    let database = is_database_name(&name) || name.ends_with(".db");
    let ends = |path: &Path, end: &str| path.extension().is_some_and(|found| found == end);
    // Folders of pieces of configuration, as in `conf.d`.
    let pieces = ends(source, "d") || ends(target, "d");
    let socket = ends(source, "sock");
    !of_host && (database || !(means_file(source, target) || pieces || socket))
}

#[cfg(test)]
mod tests;
