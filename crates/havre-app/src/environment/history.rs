//! What an environment's task writes down, and reads when it begins.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use havre_api::EnvironmentId;
use havre_release::{Desired, Record, Release, Role, Step, Traffic, told_by};
use havre_store::StoreError;

use super::{Environment, EnvironmentError};
use crate::observe::{Seen, release_of};
use crate::platform::Platform;

impl Environment {
    /// Writes down what is desired, and what the step from `before` means for the history.
    pub(super) fn persist(
        &self,
        before: &Desired,
        now: SystemTime,
    ) -> Result<(), EnvironmentError> {
        let json =
            serde_json::to_string(&self.desired).map_err(|source| EnvironmentError::Format {
                id: self.id.clone(),
                source,
            })?;
        let told = told_by(before, &self.desired, now);
        let traffic = self.traffic_of_rollout(before);
        let records: Vec<(u64, String)> = told
            .map(|(number, step)| self.record_after(number, step, traffic))
            .transpose()?
            .into_iter()
            .collect();
        let (project, environment) = (self.id.project.as_str(), self.id.environment.as_str());
        self.platform
            .store
            .environment_put(project, environment, &json, &records)
            .map_err(self.store_error())
    }

    /// Reads the releases that replicas belong to which nobody wants any more: what they write to
    /// counts until they are gone. Those that history has forgotten are looked for once.
    pub(super) fn learn_releases(&mut self, seen: &[Seen]) -> Result<(), EnvironmentError> {
        let unknown: BTreeSet<u64> = seen
            .iter()
            .filter(|one| matches!(one.place.role, Role::Replica { .. }))
            .filter(|one| release_of(&one.place, &self.releases).is_none())
            .map(|one| one.place.release)
            .filter(|number| !self.forgotten.contains(number))
            .collect();
        for number in unknown {
            match load_release(&self.platform, &self.id, number)? {
                Some(release) => {
                    Arc::make_mut(&mut self.releases).insert(number, release);
                }
                None => {
                    self.forgotten.insert(number);
                }
            }
        }
        Ok(())
    }

    /// What the edge has counted since the rollout began.
    fn traffic_of_rollout(&self, before: &Desired) -> Option<Traffic> {
        let began = before.rollout.as_ref()?.total.as_ref()?;
        let observed = &self.snapshot.borrow().observed;
        Some(observed.edge.as_ref()?.total.since(began))
    }

    fn record_after(
        &self,
        number: u64,
        step: Step,
        traffic: Option<Traffic>,
    ) -> Result<(u64, String), EnvironmentError> {
        let format = |source| EnvironmentError::Format {
            id: self.id.clone(),
            source,
        };
        let (project, environment) = (self.id.project.as_str(), self.id.environment.as_str());
        let row = self
            .platform
            .store
            .release(project, environment, number)
            .map_err(self.store_error())?;
        let mut record: Record = match row {
            Some(row) => serde_json::from_str(&row.record).map_err(format)?,
            None => Record::default(),
        };
        record.traffic = traffic.or(record.traffic);
        let json = serde_json::to_string(&record.after(step)).map_err(format)?;
        Ok((number, json))
    }

    fn store_error(&self) -> impl Fn(StoreError) -> EnvironmentError {
        let id = self.id.clone();
        move |source| EnvironmentError::Store {
            id: id.clone(),
            source,
        }
    }
}

/// The releases that `desired` names.
pub(super) fn load_releases(
    platform: &Platform,
    id: &EnvironmentId,
    desired: &Desired,
) -> Result<BTreeMap<u64, Release>, EnvironmentError> {
    let rollout = desired.rollout.as_ref();
    let numbers = [
        desired.current,
        rollout.and_then(|r| r.from),
        rollout.map(|r| r.to),
    ];
    let mut releases = BTreeMap::new();
    for number in numbers.into_iter().flatten() {
        if let Some(release) = load_release(platform, id, number)? {
            releases.insert(number, release);
        }
    }
    Ok(releases)
}

/// A stored release; `None` where there is none of this number.
fn load_release(
    platform: &Platform,
    id: &EnvironmentId,
    number: u64,
) -> Result<Option<Release>, EnvironmentError> {
    let row = platform
        .store
        .release(id.project.as_str(), id.environment.as_str(), number)
        .map_err(|source| EnvironmentError::Store {
            id: id.clone(),
            source,
        })?;
    row.map(|row| {
        serde_json::from_str(&row.content).map_err(|source| EnvironmentError::Format {
            id: id.clone(),
            source,
        })
    })
    .transpose()
}
