//! Who must not write beside whom. Services of two releases can share what they write to under
//! different names: a database that is renamed is the same database.

use std::fmt;
use std::path::{Path, PathBuf};

use havre_model::{
    FoundDatabases, Mount, ServiceName, UpdateOrder, Volume, VolumeName, is_same_program,
    served_mounts, written_mounts,
};

use crate::{Release, Strategy, StrategyReason};

/// A folder that outlives replicas, as this machine knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The volume's name on the machine; `None`: a folder of the host.
    volume: Option<String>,
    /// Inside the volume, or on the host.
    path: PathBuf,
    /// As the project calls it.
    shown: String,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Kept {
    fn really(self, real: &dyn Fn(&Path) -> PathBuf) -> Self {
        match &self.volume {
            Some(_) => self,
            None => Self {
                path: real(&self.path),
                ..self
            },
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        let (a, b) = (&self.path, &other.path);
        self.volume == other.volume && (a.starts_with(b) || b.starts_with(a))
    }
}

/// What decides about writers beside the releases themselves.
#[derive(Clone, Copy, Debug)]
pub struct WriteContext<'a> {
    /// Id of the environment, which its volumes are named after.
    pub environment: &'a str,
    /// What was found where services write.
    pub databases: &'a FoundDatabases,
}

impl Release {
    /// What a replica of `name` and one of `other` of `theirs` both write to, and must not do at
    /// once: each of them is the only one that writes there as far as its own release tells.
    pub fn contested(
        &self,
        ground: WriteContext<'_>,
        name: &ServiceName,
        theirs: &Self,
        other: &ServiceName,
    ) -> Option<Kept> {
        let databases = ground.databases;
        let exclusive = self.strategy(name, databases).0 == Strategy::StopFirst
            && theirs.is_exclusive(other, databases);
        if name == other || !exclusive {
            return None;
        }
        let ours = self.written(ground, name);
        let shared = theirs.written(ground, other);
        let is_the_same = |name| {
            let (ours, theirs) = (self.services.get(name), theirs.services.get(name));
            ours.zip(theirs)
                .is_some_and(|(ours, theirs)| is_same_program(&ours.service, &theirs.service))
        };
        ours.into_iter().find(|kept| {
            let writes = |release: &Self, name| {
                let all = release.written(ground, name);
                all.iter().any(|one| one.overlaps(kept))
            };
            // What runs side by side in one of the two releases shares it on purpose, unless another
            // program has its name by now.
            shared.iter().any(|one| one.overlaps(kept))
                && !(writes(self, other) && is_the_same(other))
                && !(writes(theirs, name) && is_the_same(name))
        })
    }

    /// What a database server of this release and one of another environment's both keep their data
    /// in: its name, the other's, where. `real`: a folder of the machine without links, by which each may
    /// come to the same.
    pub fn served_twice<'a>(
        &'a self,
        ground: WriteContext<'a>,
        theirs: &'a Self,
        their_ground: WriteContext<'a>,
        real: &dyn Fn(&Path) -> PathBuf,
    ) -> Option<(&'a ServiceName, &'a ServiceName, Kept)> {
        let served = |release: &'a Self, ground: WriteContext<'a>| {
            release.lasting().flat_map(move |(name, service)| {
                let mounts = served_mounts(&service.service, ground.databases);
                let kept = mounts.filter_map(move |mount| release.kept(ground, mount));
                kept.map(move |kept| (name, kept.really(real)))
            })
        };
        served(self, ground).find_map(|(name, kept)| {
            let mut rivals = served(theirs, their_ground);
            let (other, _) = rivals.find(|(_, one)| one.overlaps(&kept))?;
            Some((name, other, kept))
        })
    }

    /// Services of `old` that end before those of this release start which take what they write
    /// to over under another name: the new one, the old one, what both write to.
    pub fn taken_over<'a>(
        &'a self,
        ground: WriteContext<'a>,
        old: &'a Self,
    ) -> impl Iterator<Item = (&'a ServiceName, &'a ServiceName, Kept)> {
        self.lasting().flat_map(move |(name, _)| {
            old.lasting().filter_map(move |(other, _)| {
                let kept = self.contested(ground, name, old, other)?;
                Some((name, other, kept))
            })
        })
    }

    /// Whether two of it must not run at once, whatever its file says of its own successor: that
    /// one is of another name.
    fn is_exclusive(&self, name: &ServiceName, found: &FoundDatabases) -> bool {
        let Some(service) = self.services.get(name) else {
            return false;
        };
        match service.service.update.order {
            Some(UpdateOrder::StartFirst) => {
                let mut service = service.service.clone();
                service.update.order = None;
                self.strategy_of(name, &service, found).0 == Strategy::StopFirst
            }
            Some(UpdateOrder::StopFirst) | None => {
                self.strategy(name, found).0 == Strategy::StopFirst
            }
        }
    }

    /// The database on which a second replica of `name` would be a second server. `None` also where
    /// the file itself asks for several: they share it on purpose.
    pub fn sole_database(
        &self,
        name: &ServiceName,
        found: &FoundDatabases,
    ) -> Option<StrategyReason> {
        let mut service = self.services.get(name)?.service.clone();
        service.update.order = None;
        let others = self.services.values().map(|other| &other.service);
        let (_, reason) = havre_model::strategy(name, &service, &self.routes, others, found);
        match &reason {
            StrategyReason::ExclusiveVolume { database, .. }
            | StrategyReason::ExclusiveFolder { database, .. } => {
                database.is_some().then_some(reason)
            }
            StrategyReason::Asked
            | StrategyReason::Answers
            | StrategyReason::HostNetwork
            | StrategyReason::Worker
            | StrategyReason::Default => None,
        }
    }

    /// What a service writes to that outlives its replicas.
    fn written(&self, ground: WriteContext<'_>, name: &ServiceName) -> Vec<Kept> {
        let Some(service) = self.services.get(name) else {
            return Vec::new();
        };
        written_mounts(&service.service, ground.databases)
            .filter_map(|mount| self.kept(ground, mount))
            .collect()
    }

    /// What a mount mounts that outlives replicas.
    fn kept(&self, ground: WriteContext<'_>, mount: &Mount) -> Option<Kept> {
        match mount {
            Mount::Volume {
                name,
                subpath,
                backing,
                ..
            } => {
                let below = Path::new(subpath.as_deref().unwrap_or_default());
                Some(Kept {
                    volume: match backing {
                        Some(_) => None,
                        None => Some(self.volume_name(ground.environment, name)),
                    },
                    path: backing.as_deref().unwrap_or(Path::new("")).join(below),
                    shown: format!("volume {name}"),
                })
            }
            Mount::Bind { source, .. } => Some(Kept {
                volume: None,
                path: source.clone(),
                shown: source.display().to_string(),
            }),
            Mount::Anonymous { .. } | Mount::Tmpfs { .. } => None,
        }
    }

    fn volume_name(&self, environment: &str, key: &VolumeName) -> String {
        // The id is `project.environment`, and neither has a dot.
        let (project, environment) = environment.split_once('.').unwrap_or((environment, ""));
        let unnamed = Volume::default();
        let volume = self.volumes.get(key).unwrap_or(&unnamed);
        volume.name_on_machine(project, environment, key)
    }
}
