//! What an environment should be: on disk before it is in memory.
//!
//! ```text
//! command, decision ─► next ─► state.db (one transaction) ─► desired ─► acted upon
//!                                   └─ fails: nothing has changed, and nothing is done
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use havre_api::EnvironmentId;
use havre_release::{
    Analysis, Applied, ApplyError, Change, Desired, Intent, Jobs, Move, Record, Refusal, Release,
    Scale, Step, Traffic, told_by,
};
use havre_store::StoreError;

use super::EnvironmentError;
use super::tables::{NewRelease, Tables};
use crate::volumes::named_volumes;

/// Desired state and the releases in play. Whoever reads them here reads what is on disk:
/// both are only replaced by what has been written.
#[derive(Debug)]
pub(crate) struct Persisted {
    id: EnvironmentId,
    tables: Tables,
    desired: Desired,
    releases: Arc<BTreeMap<u64, Release>>,
    /// Releases of replicas still there that are stored no more.
    forgotten: BTreeSet<u64>,
    /// Writes so far.
    revision: u64,
}

impl Persisted {
    /// What is stored; nothing yet where that is `None`.
    pub(crate) fn load(
        id: EnvironmentId,
        tables: Tables,
        desired: Option<&str>,
    ) -> Result<Self, EnvironmentError> {
        let desired: Desired = match desired {
            Some(json) => {
                serde_json::from_str(json).map_err(|source| EnvironmentError::Format {
                    id: id.clone(),
                    source,
                })?
            }
            None => Desired::default(),
        };
        let mut persisted = Self {
            id,
            tables,
            desired,
            releases: Arc::default(),
            forgotten: BTreeSet::new(),
            revision: 0,
        };
        persisted.know(BTreeSet::new())?;
        Ok(persisted)
    }

    pub(crate) fn desired(&self) -> &Desired {
        &self.desired
    }

    /// The releases that the desired state names, and those of replicas that are still there.
    pub(crate) fn releases(&self) -> &Arc<BTreeMap<u64, Release>> {
        &self.releases
    }

    /// Grows with each change.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// Reads the releases that replicas belong to which nobody wants any more: what they write to
    /// counts until they are gone. Those that history has forgotten are looked for once.
    pub(crate) fn know(&mut self, of_replicas: BTreeSet<u64>) -> Result<(), EnvironmentError> {
        let mut needed = of_replicas;
        needed.extend(referenced_releases(&self.desired));
        for number in &needed {
            if self.releases.contains_key(number) || self.forgotten.contains(number) {
                continue;
            }
            match load_release(&self.tables, &self.id, *number)? {
                Some(release) => drop(Arc::make_mut(&mut self.releases).insert(*number, release)),
                None => drop(self.forgotten.insert(*number)),
            }
        }
        if self.releases.keys().any(|number| !needed.contains(number)) {
            Arc::make_mut(&mut self.releases).retain(|number, _| needed.contains(number));
        }
        Ok(())
    }

    /// Writes down what a command means. `counted`: what the edge has counted of the environment.
    pub(crate) fn apply(
        &mut self,
        change: Change,
        counted: Option<&Traffic>,
        now: SystemTime,
    ) -> Result<Applied, ApplyError> {
        let mut next = self.desired.clone();
        let mut made = None;
        match change {
            Change::RollOut(moved) => made = Some(self.begin(&mut next, *moved, now)?),
            Change::Abort => {
                let to = next.rollout.as_ref().map(|rollout| rollout.to);
                let release = to.and_then(|to| self.releases.get(&to));
                next.abort(release.ok_or(Refusal::NothingMoves)?, now)?;
            }
            Change::Pause => next.pause(now)?,
            Change::Resume => next.resume(now)?,
            Change::Scale(replicas) => next.scale.extend(replicas),
            Change::TakeDown { volumes } => {
                next.intent = Intent::Down {
                    remove_volumes: match volumes {
                        true => named_volumes(&self.id, &self.releases),
                        false => BTreeSet::new(),
                    },
                };
                next.rollout = None;
            }
        }
        let release = made.as_ref().map(|(number, _)| *number);
        self.write(next, made, counted, now)?;
        Ok(Applied {
            revision: self.revision,
            release,
        })
    }

    /// Writes down what follows from what was seen.
    pub(crate) fn advance(
        &mut self,
        next: Desired,
        counted: Option<&Traffic>,
        now: SystemTime,
    ) -> Result<(), EnvironmentError> {
        self.write(next, None, counted, now)
    }

    /// Removes what is stored of an environment that is not wanted and of which nothing else is
    /// left.
    pub(crate) fn forget(&self) -> Result<(), EnvironmentError> {
        let (project, environment) = self.names();
        self.tables
            .environment_remove(project, environment)
            .map_err(store_error(&self.id))
    }

    /// A move to a release that is new; its number and what to write of it.
    fn begin(
        &self,
        next: &mut Desired,
        moved: Move,
        now: SystemTime,
    ) -> Result<(u64, Move), EnvironmentError> {
        let (project, environment) = self.names();
        let number = self
            .tables
            .next_release(project, environment)
            .map_err(store_error(&self.id))?;
        next.databases.clone_from(&moved.databases);
        if moved.scale == Scale::FromFile {
            next.scale.clear();
        }
        let jobs_done = match moved.jobs {
            Jobs::Run => BTreeSet::new(),
            Jobs::Skip => moved.release.all_jobs(),
        };
        next.begin(number, jobs_done, moved.analysis == Analysis::Skipped, now);
        Ok((number, moved))
    }

    /// The one place where anything here changes.
    fn write(
        &mut self,
        next: Desired,
        made: Option<(u64, Move)>,
        counted: Option<&Traffic>,
        now: SystemTime,
    ) -> Result<(), EnvironmentError> {
        let format = format_error(&self.id);
        let json = serde_json::to_string(&next).map_err(&format)?;
        let new_release = match &made {
            Some((number, moved)) => Some(NewRelease {
                number: *number,
                content: serde_json::to_string(&moved.release).map_err(&format)?,
                record: serde_json::to_string(&moved.record).map_err(&format)?,
            }),
            None => None,
        };
        let records: Vec<(u64, String)> = told_by(&self.desired, &next, now)
            .map(|(number, step)| self.record_after(number, step, counted))
            .transpose()?
            .into_iter()
            .collect();
        let (project, environment) = self.names();
        self.tables
            .environment_put(project, environment, &json, new_release.as_ref(), &records)
            .map_err(store_error(&self.id))?;
        // It is on disk: from here on nothing may fail.
        self.desired = next;
        self.revision += 1;
        if let Some((number, moved)) = made {
            Arc::make_mut(&mut self.releases).insert(number, moved.release);
        }
        Ok(())
    }

    /// What is known of a release after a step of the rollout under way.
    fn record_after(
        &self,
        number: u64,
        step: Step,
        counted: Option<&Traffic>,
    ) -> Result<(u64, String), EnvironmentError> {
        let (project, environment) = self.names();
        let row = self
            .tables
            .release(project, environment, number)
            .map_err(store_error(&self.id))?;
        let format = format_error(&self.id);
        let mut record: Record = match row {
            Some(row) => serde_json::from_str(&row.record).map_err(&format)?,
            None => Record::default(),
        };
        let rollout = self.desired.rollout.as_ref();
        let began = rollout.and_then(|rollout| rollout.total.as_ref());
        let traffic = began
            .zip(counted)
            .map(|(began, counted)| counted.since(began));
        record.traffic = traffic.or(record.traffic);
        let json = serde_json::to_string(&record.after(step)).map_err(&format)?;
        Ok((number, json))
    }

    fn names(&self) -> (&str, &str) {
        (self.id.project.as_str(), self.id.environment.as_str())
    }
}

fn store_error(id: &EnvironmentId) -> impl Fn(StoreError) -> EnvironmentError + use<> {
    let id = id.clone();
    move |source| EnvironmentError::Store {
        id: id.clone(),
        source,
    }
}

fn format_error(id: &EnvironmentId) -> impl Fn(serde_json::Error) -> EnvironmentError + use<> {
    let id = id.clone();
    move |source| EnvironmentError::Format {
        id: id.clone(),
        source,
    }
}

/// The releases that desired state names.
fn referenced_releases(desired: &Desired) -> impl Iterator<Item = u64> + use<> {
    let rollout = desired.rollout.as_ref();
    [
        desired.current,
        rollout.and_then(|rollout| rollout.from),
        rollout.map(|rollout| rollout.to),
        // Where nothing serves, it is what a person asks about.
        desired
            .last_failed
            .filter(|_| desired.current.is_none() && rollout.is_none()),
    ]
    .into_iter()
    .flatten()
}

/// A stored release; `None` where there is none of this number.
fn load_release(
    tables: &Tables,
    id: &EnvironmentId,
    number: u64,
) -> Result<Option<Release>, EnvironmentError> {
    let row = tables
        .release(id.project.as_str(), id.environment.as_str(), number)
        .map_err(store_error(id))?;
    row.map(|row| serde_json::from_str(&row.content).map_err(format_error(id)))
        .transpose()
}

#[cfg(test)]
mod tests;
