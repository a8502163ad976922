//! Opens environments on this machine.

use std::error::Error;
use std::sync::Arc;

use havre_api::EnvironmentId;
use havre_model::Capabilities;
use havre_release::{Announce, Answer, BoxError, Opened, Targets};

use super::Local;
use super::target::LocalTarget;
use crate::environment::Environment;
use crate::host::Host;
use crate::steps::BUILD_ENVIRONMENT;

/// This machine, for every environment.
pub(crate) struct ThisMachine(pub(crate) Arc<Host>);

impl Targets for ThisMachine {
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn open(
        &self,
        id: &EnvironmentId,
        desired: Option<&str>,
        end: Answer<'static, ()>,
    ) -> Result<Opened, BoxError> {
        let machine = Local::new(id.clone(), Arc::clone(&self.0));
        let tables = self.0.platform.tables.clone();
        let (task, commands) = Environment::load(id.clone(), machine, tables, desired)?;
        Ok(Opened {
            target: Arc::new(LocalTarget::new(id, Arc::clone(&self.0), commands)),
            run: Box::pin(async move {
                let gone = task.run(end).await?;
                Some(Box::new(|| gone.announce()) as Announce)
            }),
        })
    }

    fn attached(&self, network: &str) -> Result<Vec<String>, BoxError> {
        Ok(self.0.net.members(network)?)
    }

    fn close(&self) -> Answer<'_, ()> {
        let net = Arc::clone(&self.0.net);
        Box::pin(async move {
            let removed =
                tokio::task::spawn_blocking(move || net.remove_environment(BUILD_ENVIRONMENT));
            for error in removed.await.unwrap_or_default() {
                tracing::warn!(error = &error as &dyn Error, "network of builds stays");
            }
        })
    }
}
