//! What jobs of the daemon have around them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use havre_access::{AccessError, Holder, NewToken};
use havre_base::one_line;
use havre_box::Workspace;
use havre_image::{Images, NameRights};
use havre_job::{Sources, paths};
use havre_runs::{LegKey, LegStart};

use super::JobsApi;
use super::entries::Entries;
use super::token::{grant, token_name};
use crate::image_names;
use crate::jobs::{Grounded, Surroundings};
use crate::platform::Platform;
use crate::workshop::Workshop;

/// How long a job's token holds beyond its time.
const BEYOND: Duration = Duration::from_secs(15 * 60);

pub(super) struct OfDaemon {
    platform: Arc<Platform>,
    api: JobsApi,
    entries: Entries,
    workshop: Arc<Workshop>,
}

impl OfDaemon {
    pub(super) fn new(
        platform: &Arc<Platform>,
        api: JobsApi,
        entries: Entries,
        workshop: Arc<Workshop>,
    ) -> Self {
        Self {
            platform: Arc::clone(platform),
            api,
            entries,
            workshop,
        }
    }

    /// A token that does in the job's environment what a deployer does, as long as the job may run.
    fn token(&self, leg: &LegStart, environment: &str) -> Result<String, String> {
        let name = token_name(&leg.key);
        let new = NewToken {
            name: name.clone(),
            holder: Holder::Token,
            grant: grant(&leg.project, environment)?,
            created_by: format!("run {} by {}", leg.number, leg.actor),
            lifetime: Some(Duration::from_millis(leg.timeout_ms).saturating_add(BEYOND)),
        };
        let register = &self.platform.door.register;
        // Of a daemon that died while it made the box.
        match register.revoke(&name) {
            Ok(_) | Err(AccessError::NoToken(_)) => {}
            Err(error) => return Err(one_line(&error)),
        }
        let issued = register.create(new, SystemTime::now());
        issued
            .map(|issued| issued.text)
            .map_err(|error| one_line(&error))
    }
}

impl Surroundings for OfDaemon {
    fn ground(&self, leg: &LegStart) -> Result<Grounded, String> {
        let repository = self.platform.root.repositories_dir();
        let repository = repository.join(format!("{}.git", leg.project));
        let repository = std::fs::canonicalize(&repository)
            .map_err(|error| format!("the repository of {} is gone: {error}", leg.project))?;
        let tools = self.platform.root.state_dir().join("jobs/tools");
        Ok(Grounded {
            workspace: Workspace::Empty,
            repository: Some(repository),
            sources: Sources::Repository,
            // What a stranger leaves there others would run.
            tool_cache: (!leg.foreign).then(|| tools.join(&leg.project)),
        })
    }

    fn calls(&self, leg: &LegStart) -> Result<Option<BTreeMap<String, String>>, String> {
        let Some(environment) = &leg.environment else {
            return Ok(None);
        };
        let variables = [
            ("HAVRE_CONTEXT", format!("unix://{}", paths::RESULTS_SOCKET)),
            ("HAVRE_TOKEN", self.token(leg, environment)?),
            ("HAVRE_ENVIRONMENT", environment.clone()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value));
        let mut variables = BTreeMap::from(variables);
        if let Some(entry) = self.entries.of(&leg.key) {
            variables.insert("HAVRE_ENTRY".to_owned(), entry.to_string());
        }
        Ok(Some(variables))
    }

    fn images(&self) -> Result<Images, String> {
        Ok(self.platform.images.clone())
    }

    fn has_images(&self) -> bool {
        true
    }

    fn workshop(&self) -> Result<Arc<Workshop>, String> {
        Ok(Arc::clone(&self.workshop))
    }

    fn names(&self, project: &str) -> NameRights {
        image_names::of_jobs(project)
    }

    fn api(&self) -> Option<Router> {
        self.api.get()
    }

    fn removed(&self, key: &LegKey) {
        self.entries.forget(key);
        match self.platform.door.register.revoke(&token_name(key)) {
            // Most jobs have none.
            Ok(_) | Err(AccessError::NoToken(_)) => {}
            Err(error) => {
                tracing::warn!(leg = %key, error = one_line(&error), "a job's token stays until it expires");
            }
        }
    }
}
