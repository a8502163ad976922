//! What a container's labels say about its place; written once, read back from every listing.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::SystemTime;

use havre_api::EnvironmentId;
use havre_model::{EnvironmentName, ProjectName, ServiceName};
use havre_release::{Action, JobId, Joined, ReplicaId, Role, ServiceDigest};

const PROJECT: &str = "havre.project";
const ENVIRONMENT: &str = "havre.environment";
const SERVICE: &str = "havre.service";
const RELEASE: &str = "havre.release";
const DIGEST: &str = "havre.digest";
const SLOT: &str = "havre.slot";
const JOB: &str = "havre.job";
/// Value of [`JOB`] for a service that is a job itself.
const WHOLE: &str = "service";
/// Tells a container from an earlier one with its id.
const START: &str = "havre.start";
/// [`START`] and id of the container whose network namespace it is in.
const JOINED: &str = "havre.joined";
/// Followed by the network's name.
const ADDRESS: &str = "havre.address.";

/// What a container's labels say of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ContainerLabels {
    pub(crate) environment: EnvironmentId,
    pub(crate) service: ServiceName,
    /// The release that made it.
    pub(crate) release: u64,
    pub(crate) role: Role,
    /// By network.
    pub(crate) addresses: BTreeMap<String, Ipv4Addr>,
    /// Tells the container from an earlier one with its id.
    pub(crate) start: String,
    /// In whose network namespace it is, where that is not its own.
    pub(crate) joined: Option<Joined>,
}

/// Stands in place of a network's name for the address of what is on the machine's own network.
pub(crate) const MACHINE: &str = "";

impl ContainerLabels {
    /// The labels that say so.
    pub(crate) fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::from([
            (PROJECT.to_owned(), self.environment.project.to_string()),
            (
                ENVIRONMENT.to_owned(),
                self.environment.environment.to_string(),
            ),
            (SERVICE.to_owned(), self.service.to_string()),
            (RELEASE.to_owned(), self.release.to_string()),
            (START.to_owned(), self.start.clone()),
        ]);
        if let Some(Joined { id, start }) = &self.joined {
            labels.insert(JOINED.to_owned(), format!("{start} {id}"));
        }
        match &self.role {
            Role::Replica { digest, slot } => {
                labels.insert(DIGEST.to_owned(), digest.to_string());
                labels.insert(SLOT.to_owned(), slot.to_string());
            }
            Role::Job { job, .. } => {
                let value = job.hook.map_or(WHOLE.to_owned(), |index| index.to_string());
                labels.insert(JOB.to_owned(), value);
            }
        }
        for (network, address) in &self.addresses {
            labels.insert(format!("{ADDRESS}{network}"), address.to_string());
        }
        labels
    }

    /// Reads labels; `None` for a container that is no replica or job (a build step).
    pub(crate) fn read(labels: &BTreeMap<String, String>) -> Option<Self> {
        let environment = EnvironmentId {
            project: ProjectName::new(labels.get(PROJECT)?.as_str()),
            environment: EnvironmentName::new(labels.get(ENVIRONMENT)?.as_str()),
        };
        let service = ServiceName::new(labels.get(SERVICE)?.as_str());
        let release = labels.get(RELEASE)?.parse().ok()?;
        let role = match labels.get(JOB) {
            Some(value) => {
                let hook = match value.as_str() {
                    WHOLE => None,
                    index => Some(index.parse().ok()?),
                };
                Role::Job {
                    job: JobId {
                        service: service.clone(),
                        hook,
                    },
                    release,
                }
            }
            None => Role::Replica {
                digest: ServiceDigest(labels.get(DIGEST)?.clone()),
                slot: labels.get(SLOT)?.parse().ok()?,
            },
        };
        let addresses = labels
            .iter()
            .filter_map(|(key, value)| {
                Some((key.strip_prefix(ADDRESS)?.to_owned(), value.parse().ok()?))
            })
            .collect();
        let joined = labels.get(JOINED).and_then(|joined| {
            let (start, id) = joined.split_once(' ')?;
            Some(Joined {
                id: ReplicaId(id.to_owned()),
                start: start.to_owned(),
            })
        });
        Some(Self {
            environment,
            service,
            release,
            role,
            addresses,
            // Earlier versions wrote none.
            start: labels.get(START).cloned().unwrap_or_default(),
            joined,
        })
    }

    /// That of what an action starts; `None` for other actions.
    pub(crate) fn of(environment: &EnvironmentId, action: &Action) -> Option<Self> {
        let (service, release, role) = match action {
            Action::Start {
                service,
                release,
                digest,
                slot,
                ..
            } => {
                let role = Role::Replica {
                    digest: digest.clone(),
                    slot: *slot,
                };
                (service.clone(), *release, role)
            }
            Action::RunJob { job, release, .. } => {
                let role = Role::Job {
                    job: job.clone(),
                    release: *release,
                };
                (job.service.clone(), *release, role)
            }
            Action::Stop { .. } | Action::Renew { .. } | Action::Remove { .. } => return None,
        };
        let environment = environment.clone();
        Some(Self {
            environment,
            service,
            release,
            role,
            addresses: BTreeMap::new(),
            start: start_mark(),
            joined: None,
        })
    }

    /// The address the edge uses.
    pub(crate) fn address(&self) -> Option<Ipv4Addr> {
        self.addresses.values().next().copied()
    }
}

/// No two starts of one replica have the same.
fn start_mark() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    format!("{:x}", since.unwrap_or_default().as_nanos())
}

/// `project.environment`: unambiguous, since neither has a dot.
pub(crate) fn environment_key(id: &EnvironmentId) -> String {
    format!("{}.{}", id.project, id.environment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_read_back_as_written() {
        let place = |role| ContainerLabels {
            environment: EnvironmentId {
                project: ProjectName::new("shop"),
                environment: EnvironmentName::new("production"),
            },
            service: ServiceName::new("web"),
            release: 3,
            role,
            addresses: BTreeMap::from([("default".to_owned(), Ipv4Addr::new(10, 0, 0, 2))]),
            start: "1a".to_owned(),
            joined: Some(Joined {
                id: ReplicaId("shop.production.vpn.0a.0".to_owned()),
                start: "2b".to_owned(),
            }),
        };
        let job = |hook| JobId {
            service: ServiceName::new("web"),
            hook,
        };
        for role in [
            Role::Replica {
                digest: ServiceDigest("0a".into()),
                slot: 1,
            },
            Role::Job {
                job: job(None),
                release: 3,
            },
            Role::Job {
                job: job(Some(1)),
                release: 3,
            },
        ] {
            let place = place(role);
            assert_eq!(ContainerLabels::read(&place.labels()), Some(place));
        }
    }
}
