//! Networks that environments share: their calls of the API.

use std::sync::Arc;

use havre_api::{
    Empty, Grant, NetworkCreate, NetworkRemove, Networks, Role, Routes, Scope, SharedNetwork,
};

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
                let networks = calls::list(&daemon).await?;
                Ok(seen(networks, &by.grant))
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

/// Who is on them as far as somebody sees it; of the others, their names alone for those who may join them by name.
fn seen(mut networks: Vec<SharedNetwork>, grant: &Grant) -> Vec<SharedNetwork> {
    for network in &mut networks {
        let members = &mut network.members;
        members.retain(|member| grant.sees(&member.environment));
    }
    let joins = grant.allows(Role::Deployer, &Scope::Visible);
    networks.retain(|network| joins || grant.sees_all() || !network.members.is_empty());
    networks
}

#[cfg(test)]
mod tests {
    use havre_api::{EnvironmentId, NetworkMember, Timestamp};
    use havre_model::{EnvironmentName, ProjectName};

    use super::*;

    fn network(name: &str, projects: &[&str]) -> SharedNetwork {
        let member = |project: &&str| NetworkMember {
            environment: EnvironmentId {
                project: ProjectName::new(*project),
                environment: EnvironmentName::new("production"),
            },
            services: Vec::new(),
        };
        SharedNetwork {
            name: name.to_owned(),
            internal: false,
            created: Timestamp::now(),
            members: projects.iter().map(member).collect(),
        }
    }

    #[test]
    fn who_only_looks_sees_no_network_that_nobody_is_on_whom_they_see() {
        for (role, place, expected) in [
            (Role::Viewer, "blog/*", &["both: blog"][..]),
            (
                Role::Viewer,
                "*",
                &["both: blog shop", "free:", "shops: shop"],
            ),
            (Role::Deployer, "blog/*", &["both: blog", "free:", "shops:"]),
        ] {
            let all = vec![
                network("both", &["blog", "shop"]),
                network("free", &[]),
                network("shops", &["shop"]),
            ];
            let environments = vec![place.parse().unwrap()];
            let seen = seen(all, &Grant { role, environments });
            let told = seen.iter().map(|one| {
                let members = one.members.iter();
                let members = members.map(|member| format!(" {}", member.environment.project));
                format!("{}:{}", one.name, members.collect::<String>())
            });
            assert_eq!(told.collect::<Vec<_>>(), expected, "{role} {place}");
        }
    }
}
