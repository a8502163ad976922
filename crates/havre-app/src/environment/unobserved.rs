//! Replicas that the engine does not show: their start is under way, or has failed before there was
//! a container.

use havre_api::EnvironmentId;
use havre_release::{Action, Joined, Replica, ReplicaId, ReplicaState};

use crate::labels::ContainerLabels;
use crate::observe::ObservedContainer;

/// Those whose start is under way and has not come to a container yet. Without them another
/// release would be started beside them: nobody would stand in its way.
pub(super) fn creating<'a>(
    environment: &EnvironmentId,
    under_way: impl Iterator<Item = &'a Action>,
    seen: &[ObservedContainer],
) -> Vec<Replica> {
    under_way
        .filter(|action| !seen.iter().any(|one| &one.id() == action.id()))
        .filter_map(|action| {
            let mut place = ContainerLabels::of(environment, action)?;
            place.joined = joined(action, seen);
            Some(replica(action.id(), &place, ReplicaState::Creating))
        })
        .collect()
}

/// Whose network a start joins, as far as that one is there.
fn joined(action: &Action, seen: &[ObservedContainer]) -> Option<Joined> {
    let provider = match action {
        Action::Start { joins, .. } | Action::RunJob { joins, .. } => joins.as_ref()?,
        Action::Stop { .. } | Action::Renew { .. } | Action::Remove { .. } => return None,
    };
    let provider = seen.iter().find(|one| &one.id() == provider)?;
    Some(Joined {
        id: provider.id(),
        start: provider.place.start.clone(),
    })
}

/// A replica that has its place and no container.
pub(super) fn replica(id: &ReplicaId, place: &ContainerLabels, state: ReplicaState) -> Replica {
    Replica {
        id: id.clone(),
        service: place.service.clone(),
        role: place.role.clone(),
        state,
        restarts: 0,
        last_exit: None,
        ready_after: None,
        start: place.start.clone(),
        joined: place.joined.clone(),
        contents: None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use havre_engine::{ContainerId, Observed, State};
    use havre_model::{EnvironmentName, ProjectName, ServiceName};
    use havre_release::{JobId, Role, ServiceDigest};

    use super::*;

    fn id(name: &str) -> ReplicaId {
        ReplicaId(name.to_owned())
    }

    fn start(name: &str, joins: Option<ReplicaId>) -> Action {
        Action::Start {
            id: id(name),
            service: ServiceName::new(name),
            release: 2,
            digest: ServiceDigest("d".to_owned()),
            slot: 0,
            joins,
        }
    }

    fn seen(environment: &EnvironmentId, action: &Action) -> ObservedContainer {
        let place = ContainerLabels::of(environment, action).expect("a start has a place");
        ObservedContainer {
            container: Observed {
                id: ContainerId(action.id().0.clone()),
                labels: BTreeMap::new(),
                state: State::Creating,
                restarts: 0,
                last_exit: None,
                given: None,
                health: None,
                liveness: None,
            },
            place,
        }
    }

    #[test]
    fn a_start_under_way_is_somebody_until_the_engine_shows_it() {
        let environment = EnvironmentId {
            project: ProjectName::new("shop"),
            environment: EnvironmentName::new("production"),
        };
        let job = JobId {
            service: ServiceName::new("web"),
            hook: Some(0),
        };
        let under_way = [
            start("db", None),
            start("sidecar", Some(id("vpn"))),
            Action::RunJob {
                id: id("migration"),
                job: job.clone(),
                release: 2,
                joins: None,
            },
            Action::Remove { id: id("old") },
        ];
        let vpn = seen(&environment, &start("vpn", None));
        let mut all = vec![vpn.clone()];
        let found = creating(&environment, under_way.iter(), &all);
        let ids: Vec<&str> = found.iter().map(|one| one.id.0.as_str()).collect();
        assert_eq!(ids, ["db", "sidecar", "migration"]);
        let creating_all = found.iter().all(|one| one.state == ReplicaState::Creating);
        assert!(creating_all, "{found:?}");
        assert_eq!(found[2].role, Role::Job { job, release: 2 });
        let joined = found[1]
            .joined
            .as_ref()
            .expect("it joins the vpn's network");
        assert_eq!((&joined.id, &joined.start), (&id("vpn"), &vpn.place.start));
        all.push(seen(&environment, &under_way[0]));
        let found = creating(&environment, under_way.iter(), &all);
        assert_eq!(found.len(), 2, "{found:?}");
    }
}
