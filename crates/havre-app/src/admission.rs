//! Before anything is begun: whether an environment may have the volumes that its files name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use havre_api::{ApiError, EnvironmentId, ErrorCode, Principal};
use havre_base::in_place;
use havre_model::{Mount, Service, ServiceName, Volume, VolumeName, is_volume_name};

use crate::conflict::Conflict;
use crate::daemon::Daemon;
use crate::platform::Platform;
use crate::sources::may_have_of_machine;
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

/// What this principal gets of the volumes that nobody has.
pub(crate) fn nobodys(by: &Principal) -> Nobodys {
    match may_have_of_machine(by) {
        true => Nobodys::Take,
        false => Nobodys::Refuse,
    }
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
    let settle =
        |folder: &Path, name: &str| owner::settle(folder, name, id, &platform.tables, nobodys);
    let taken = in_place(|| taken(platform, id, services, volumes, settle));
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
    nobodys: Nobodys,
) -> Vec<String> {
    let foresee = |_: &Path, name: &str| owner::foresee(name, id, &platform.tables, nobodys);
    match taken(platform, id, services, volumes, foresee) {
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

/// `of_nobody` says what one is that nothing says the owner of.
fn taken<'a>(
    platform: &Platform,
    id: &EnvironmentId,
    services: impl IntoIterator<Item = (&'a ServiceName, &'a Service)>,
    volumes: &BTreeMap<VolumeName, Volume>,
    of_nobody: impl Fn(&Path, &str) -> Result<Title, OwnerError>,
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
        let title = match owner::title(&folder, id)? {
            Title::Unclaimed => of_nobody(&folder, &name)?,
            title => title,
        };
        let owners = match title {
            Title::Free | Title::Own | Title::Lent(_) | Title::Shared(_) => continue,
            Title::Unclaimed => None,
            Title::Foreign(owners) => Some(owners),
        };
        taken.push(Taken {
            service: service.clone(),
            key: key.clone(),
            name,
            owners,
        });
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
