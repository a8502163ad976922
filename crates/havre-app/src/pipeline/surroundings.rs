//! What jobs of the daemon have around them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use futures_util::future::BoxFuture;
use havre_access::{AccessError, Holder, NewToken};
use havre_api::EnvironmentId;
use havre_base::one_line;
use havre_box::Workspace;
use havre_image::{Images, NameRights};
use havre_job::{Sources, paths};
use havre_model::{EnvironmentName, ProjectName};
use havre_runs::{LegKey, LegStart};

use super::JobsApi;
use super::served::Served;
use super::token::{by, grant, grant_to_look, token_name};
use crate::image_names;
use crate::jobs::{Doors, Grounded, Proxy, Rights, Surroundings, ToolCaches, scopes};
use crate::platform::Platform;
use crate::previews;
use crate::promotions::jobs;
use crate::workshop::Workshop;

/// What says at what names a commit's project answers.
const SETTINGS: &str = "havre.yaml";
/// How long a job's token holds beyond its time.
const BEYOND: Duration = Duration::from_secs(15 * 60);

pub(super) struct OfDaemon {
    pub(super) platform: Arc<Platform>,
    pub(super) sources: Arc<dyn havre_runs::Sources>,
    pub(super) api: JobsApi,
    pub(super) served: Served,
    /// Where the machine's proxy listens.
    pub(super) doors: Doors,
    pub(super) tools: ToolCaches,
    pub(super) workshop: Arc<Workshop>,
}

impl OfDaemon {
    /// A token that does in the job's environment what a deployer does, as long as the job may run; one that does not
    /// deploy looks, and says how its tests ended.
    fn token(&self, leg: &LegStart, environment: &str) -> Result<String, String> {
        let name = token_name(&leg.key);
        let new = NewToken {
            name: name.clone(),
            holder: Holder::Token,
            grant: match leg.deploys {
                true => grant(&leg.project, environment)?,
                false => grant_to_look(&leg.project, environment)?,
            },
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
        // Boxes trust it: it is there before the machine is looked at for the first.
        let authority = self.platform.ca.certificate();
        authority.map_err(|error| one_line(&error))?;
        let repository = self.platform.root.repositories_dir();
        let repository = repository.join(format!("{}.git", leg.project));
        let repository = std::fs::canonicalize(&repository)
            .map_err(|error| format!("the repository of {} is gone: {error}", leg.project))?;
        let scopes = scopes(leg);
        let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
        let tools = self.tools.of_job(&leg.project, &scopes, !leg.foreign);
        let tools = tools.map_err(|error| format!("cannot keep tools of jobs: {error}"))?;
        Ok(Grounded {
            workspace: Workspace::Empty,
            repository: Some(repository),
            sources: Sources::Repository,
            tools,
        })
    }

    fn calls(&self, leg: &LegStart) -> Result<Option<BTreeMap<String, String>>, String> {
        let Some(named) = &leg.environment else {
            return Ok(None);
        };
        let named = EnvironmentId {
            project: ProjectName::new(leg.project.as_str()),
            environment: EnvironmentName::new(named.as_str()),
        };
        let id = previews::of(&self.platform, &named, &leg.reference)?;
        let environment = id.environment.as_str();
        let variables = [
            ("HAVRE_CONTEXT", format!("unix://{}", paths::RESULTS_SOCKET)),
            ("HAVRE_TOKEN", self.token(leg, environment)?),
            ("HAVRE_ENVIRONMENT", environment.to_owned()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value));
        let mut variables = BTreeMap::from(variables);
        let entry = jobs::of_job(&self.platform, &by(&token_name(&leg.key)), &id);
        let entry = entry.map_err(|error| format!("{id}: {}", one_line(&error)))?;
        let entry = entry.ok_or_else(|| format!("{id}: the job was not let in"))?;
        if leg.deploys {
            variables.insert("HAVRE_ENTRY".to_owned(), entry.id.to_string());
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

    fn proxy(&self) -> Option<Proxy> {
        match self.platform.ca.certificate() {
            Ok(authority) => Some(Proxy {
                doors: self.doors.clone(),
                authority,
            }),
            Err(error) => {
                tracing::warn!(
                    error = one_line(&error),
                    "jobs do not reach names of localhost"
                );
                None
            }
        }
    }

    fn wants_proxy<'a>(&'a self, leg: &'a LegStart) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            let file = self.sources.file(&leg.project, &leg.commit, SETTINGS);
            let Ok(file) = file.await else { return false };
            let text = file.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            havre_base::in_place(|| havre_model::is_of_localhost(text.as_deref()))
        })
    }

    fn own(&self, id: &str, rights: &Rights) -> Option<Router> {
        Some(self.served.router(id, rights.clone()))
    }

    fn identity(&self, id: &str, rights: &Rights) -> Result<Option<String>, String> {
        match self.served.without_identity(rights) {
            Some(why) => Err(why.to_owned()),
            None => Ok(self.served.identity(id, rights)),
        }
    }

    fn removed(&self, key: &LegKey) {
        match self.platform.door.register.revoke(&token_name(key)) {
            // Most jobs have none.
            Ok(_) | Err(AccessError::NoToken(_)) => {}
            Err(error) => {
                tracing::warn!(leg = %key, error = one_line(&error), "a job's token stays until it expires");
            }
        }
    }
}
