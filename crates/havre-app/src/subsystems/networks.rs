//! Networks that environments share: their calls of the API.

use std::sync::Arc;

use havre_api::{Empty, NetworkCreate, NetworkRemove, Networks, Routes};

use crate::daemon::Daemon;
use crate::shared_networks::{calls, tables};
use crate::subsystem::{Part, Subsystem};

pub(crate) const PART: Part = Part {
    schema: Some(tables::SCHEMA),
    build: |daemon, _| Box::new(SharedNetworks(Arc::clone(daemon))),
};

struct SharedNetworks(Arc<Daemon>);

impl Subsystem for SharedNetworks {
    fn calls(&self) -> Option<Routes<()>> {
        let routes = Routes::new(Arc::clone(&self.0))
            .call::<Networks, _>(async |daemon, by, _| {
                let mut networks = calls::list(&daemon).await?;
                for network in &mut networks {
                    let members = &mut network.members;
                    members.retain(|member| by.grant.sees(&member.environment));
                }
                Ok(networks)
            })
            .call::<NetworkCreate, _>(async |daemon, _, request| {
                calls::create(&daemon, request).await
            })
            .call::<NetworkRemove, _>(async |daemon, _, request| {
                calls::remove(&daemon, request).await.map(|()| Empty {})
            });
        Some(routes.erased())
    }
}
