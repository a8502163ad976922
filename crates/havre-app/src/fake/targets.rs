//! A FAKE kind of target: environments that were opened.

use std::sync::Arc;

use havre_api::EnvironmentId;
use havre_model::{Capabilities, NetworkName};
use havre_release::{Answer, BoxError, Opened, Target, Targets};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::shared::{Open, Shared};
use super::target::FakeTarget;
use super::task::Task;
use crate::labels::environment_key;
use crate::platform::Platform;

/// Changes that may wait for a task.
const CHANGES: usize = 16;

/// STRICT FAKE of [`Targets`].
pub(crate) struct FakeTargets(pub(super) Arc<Shared>);

impl FakeTargets {
    pub(super) fn new(platform: Arc<Platform>) -> Self {
        Self(Arc::new(Shared::new(platform)))
    }

    /// Ends an environment's task, as if it had broken off.
    pub(super) fn break_off(&self, id: &EnvironmentId) {
        self.0.open()[id].broken_off.cancel();
    }
}

impl Targets for FakeTargets {
    fn capabilities(&self) -> Capabilities {
        self.0.script().capabilities.clone()
    }

    fn open(
        &self,
        id: &EnvironmentId,
        desired: Option<&str>,
        end: Answer<'static, ()>,
    ) -> Result<Opened, BoxError> {
        let mut open = self.0.open();
        let is_open = open.get(id).is_some_and(|one| {
            let ended = one.status.has_changed().is_err();
            one.target.strong_count() > 0 && !ended
        });
        if is_open {
            self.0.violations.add(format!("{id} is opened twice"));
        }
        let rows = self.0.platform.tables.environments()?;
        let stored = rows.into_iter().find(|row| {
            row.project == id.project.as_str() && row.environment == id.environment.as_str()
        });
        if stored.as_ref().map(|row| row.desired.as_str()) != desired {
            let violation = format!("{id} is opened with {desired:?}, but {stored:?} is stored");
            self.0.violations.add(violation);
        }
        let broken_off = CancellationToken::new();
        let (sender, changes) = mpsc::channel(CHANGES);
        let (task, status) = Task::load(id, Arc::clone(&self.0), desired, changes)?;
        let shared = Arc::clone(&self.0);
        let target = Arc::new(FakeTarget::new(id.clone(), shared, sender, status.clone()));
        let target: Arc<dyn Target> = target;
        let opened = Open {
            status,
            target: Arc::downgrade(&target),
            broken_off: broken_off.clone(),
        };
        open.insert(id.clone(), opened);
        Ok(Opened {
            target,
            run: Box::pin(async move {
                tokio::select! {
                    gone = task.run() => gone,
                    () = end => None,
                    () = broken_off.cancelled() => None,
                }
            }),
        })
    }

    fn attached(&self, network: &str) -> Result<Vec<String>, BoxError> {
        let network = NetworkName::new(network);
        let open = self.0.open();
        let on_it = open.iter().filter(|(_, one)| {
            let status = one.status.borrow();
            let mut releases = status.releases.values();
            one.status.has_changed().is_ok()
                && releases.any(|release| release.networks.contains_key(&network))
        });
        let mut all: Vec<String> = on_it.map(|(id, _)| environment_key(id)).collect();
        let script = self.0.script();
        all.extend(
            script
                .strays
                .get(network.as_str())
                .into_iter()
                .flatten()
                .cloned(),
        );
        Ok(all)
    }

    fn close(&self) -> Answer<'_, ()> {
        self.0.changes().push("close".to_owned());
        Box::pin(async {})
    }
}
