//! Before anything is begun: whether an environment may have the volumes that its files name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use havre_api::{ApiError, EnvironmentId, ErrorCode};
use havre_base::in_place;
use havre_model::{Mount, Service, ServiceName, Volume, VolumeName, is_volume_name};

use crate::conflict::Conflict;
use crate::daemon::Daemon;
use crate::platform::Platform;
use crate::volumes::owner::{self, Nobodys, OwnerError, Owners, Title, Uses};
use crate::volumes::volume_name;

/// A volume that another environment has.
struct Taken {
    service: ServiceName,
    key: VolumeName,
    name: String,
    /// None: somebody made it by hand.
    owners: Option<Owners>,
}

/// Fails where a service mounts what is another environment's, unless the files say that it is. A
/// volume of an earlier version finds its owner, and one that nobody has is taken where that may be.
pub(crate) async fn check<'a>(
    daemon: &Arc<Daemon>,
    id: &EnvironmentId,
    services: impl IntoIterator<Item = (&'a ServiceName, &'a Service)>,
    volumes: &BTreeMap<VolumeName, Volume>,
    nobodys: Nobodys,
) -> Result<(), ApiError> {
    let platform = &daemon.platform;
    let unclaimed = Unclaimed::Settle(nobodys);
    let taken = in_place(|| taken(platform, id, services, volumes, unclaimed));
    let Some(first) = taken.map_err(|error| unknown(&error))?.into_iter().next() else {
        return Ok(());
    };
    let here = daemon.environments().await;
    let is_here = |owner: &EnvironmentId| here.iter().any(|handle| &handle.id == owner);
    let mut conflict = first.conflict();
    let owners = first.owners.as_ref();
    if owners.is_some_and(|owners| !owners.iter().any(is_here)) {
        conflict.hint.push_str(
            "; nothing runs there: `havre up` and `havre down --volumes` there remove it",
        );
    }
    Err(conflict.into_error())
}

/// The same for a person who wants to know before. Blocks.
pub(crate) fn findings<'a>(
    platform: &Platform,
    id: &EnvironmentId,
    services: impl IntoIterator<Item = (&'a ServiceName, &'a Service)>,
    volumes: &BTreeMap<VolumeName, Volume>,
) -> Vec<String> {
    match taken(platform, id, services, volumes, Unclaimed::Leave) {
        Ok(taken) => taken.iter().map(|one| one.conflict().finding()).collect(),
        Err(error) => vec![havre_base::one_line(&error)],
    }
}

/// Which of these volumes stay when the environment is removed with its volumes, and why. Blocks.
pub(crate) fn remains(
    platform: &Platform,
    id: &EnvironmentId,
    names: &BTreeSet<String>,
) -> BTreeMap<String, String> {
    let uses = match names.is_empty() {
        true => Ok(Uses::default()),
        false => Uses::read(&platform.tables),
    };
    let uses = match uses {
        Ok(uses) => uses,
        Err(error) => {
            let error = havre_base::one_line(&error);
            let why = |name: &String| (name.clone(), format!("volume `{name}` stays: {error}"));
            return names.iter().map(why).collect();
        }
    };
    let why = |name: &String| {
        let folder = platform.volumes_dir().join(name);
        let why = match owner::fate(&folder, name, id, &uses) {
            Ok(Title::Free | Title::Own) => return None,
            Ok(Title::Lent(others)) => {
                format!("volume `{name}` stays: {others} uses it, as `external`")
            }
            Ok(Title::Foreign(owners)) => format!("volume `{name}` stays: it belongs to {owners}"),
            Ok(Title::Shared(others)) => {
                format!(
                    "volume `{name}` stays: it belongs to {others} too, since an earlier version"
                )
            }
            Ok(Title::Unclaimed) => format!(
                "volume `{name}` stays: nothing says whose it is; remove {} by hand if nobody \
                 needs it",
                folder.display()
            ),
            Err(error) => format!("volume `{name}` stays: {}", havre_base::one_line(&error)),
        };
        Some((name.clone(), why))
    };
    names.iter().filter_map(why).collect()
}

/// What to do with a volume that nothing says the owner of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unclaimed {
    Settle(Nobodys),
    Leave,
}

fn taken<'a>(
    platform: &Platform,
    id: &EnvironmentId,
    services: impl IntoIterator<Item = (&'a ServiceName, &'a Service)>,
    volumes: &BTreeMap<VolumeName, Volume>,
    unclaimed: Unclaimed,
) -> Result<Vec<Taken>, OwnerError> {
    let unnamed = Volume::default();
    let mut taken = Vec::new();
    let mounts = services
        .into_iter()
        .flat_map(|(service, config)| config.mounts.iter().map(move |mount| (service, mount)));
    for (service, mount) in mounts {
        let Mount::Volume {
            name: key,
            backing: None,
            ..
        } = mount
        else {
            continue;
        };
        let volume = volumes.get(key).unwrap_or(&unnamed);
        let name = volume_name(id, key, volume);
        // What is not a name is refused where it is mounted.
        if volume.external || !is_volume_name(&name) {
            continue;
        }
        let folder = platform.volumes_dir().join(&name);
        let mut title = owner::title(&folder, id)?;
        let mut is_refused = false;
        if let (Title::Unclaimed, Unclaimed::Settle(nobodys)) = (&title, unclaimed) {
            title = owner::settle(&folder, &name, id, &platform.tables, nobodys)?;
            is_refused = title == Title::Unclaimed;
        }
        match title {
            Title::Unclaimed if is_refused => taken.push(Taken {
                service: service.clone(),
                key: key.clone(),
                name,
                owners: None,
            }),
            Title::Free | Title::Unclaimed | Title::Own | Title::Lent(_) | Title::Shared(_) => {}
            Title::Foreign(owners) => taken.push(Taken {
                service: service.clone(),
                key: key.clone(),
                name,
                owners: Some(owners),
            }),
        }
    }
    Ok(taken)
}

impl Taken {
    fn conflict(&self) -> Conflict {
        let Self {
            service,
            key,
            name,
            owners,
        } = self;
        let Some(owners) = owners else {
            return Conflict {
                sentence: format!(
                    "volume `{name}`, which `{service}` mounts, lies on the server and is no environment's yet"
                ),
                hint: format!(
                    "give `{key}` another `name` under `volumes`, or let an admin of the machine run `havre up` once"
                ),
            };
        };
        Conflict {
            sentence: format!("volume `{name}`, which `{service}` mounts, belongs to {owners}"),
            hint: format!(
                "give `{key}` another `name` under `volumes`, or share it on purpose: \
                 `{key}: {{name: {name}, external: true}}`"
            ),
        }
    }
}

fn unknown(error: &OwnerError) -> ApiError {
    ApiError::from_error(ErrorCode::Failed, error).with_hint(
        "without that file the volume goes to the environment whose releases use it, or else to the \
         next that wants it",
    )
}
