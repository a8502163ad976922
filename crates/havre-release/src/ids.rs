//! Ids of replicas and jobs: a function of what they are for, so that starting one twice is
//! starting it once.

use std::fmt::Write as _;

use havre_model::ServiceName;
use sha2::{Digest as _, Sha256};

use crate::{JobId, Release, ReplicaId, ServiceDigest};

/// Longest id: it also serves as a host name.
const MAX: usize = 63;

/// Id of the replica in `slot`. `environment` has no dot but the one between project and name.
pub(crate) fn replica_id(
    environment: &str,
    service: &ServiceName,
    digest: &ServiceDigest,
    slot: u32,
) -> ReplicaId {
    let short = digest.0.get(..8).unwrap_or(&digest.0);
    bounded(environment, service, &format!("{short}.{slot}"))
}

/// Id of a job of `release`.
pub fn job_id(environment: &str, job: &JobId, release: u64) -> ReplicaId {
    let suffix = match job.hook {
        Some(index) => format!("r{release}.pre{index}"),
        None => format!("r{release}.job"),
    };
    bounded(environment, &job.service, &suffix)
}

impl Release {
    /// Ids of all replicas and jobs that it has under this number, with their services.
    pub fn ids(&self, environment: &str, number: u64) -> Vec<(ServiceName, ReplicaId)> {
        let replicas = self.services.iter().flat_map(|(name, service)| {
            (0..service.service.replicas).map(|slot| {
                let id = replica_id(environment, name, service.digest(), slot);
                (name.clone(), id)
            })
        });
        let jobs = self.all_jobs().into_iter().map(|job| {
            let id = job_id(environment, &job, number);
            (job.service, id)
        });
        replicas.chain(jobs).collect()
    }
}

/// `environment.service.suffix`; what is too long, or not lower case, gives way to a digest.
fn bounded(environment: &str, service: &ServiceName, suffix: &str) -> ReplicaId {
    let plain = format!("{environment}.{service}.{suffix}");
    if plain.len() <= MAX && !plain.contains(|c: char| c.is_ascii_uppercase()) {
        return ReplicaId(plain);
    }
    let mut mark = String::new();
    for byte in &Sha256::digest(format!("{environment}.{service}"))[..4] {
        // Writing to a String cannot fail.
        write!(mark, "{byte:02x}").ok();
    }
    let mut head = format!("{environment}.{service}").to_ascii_lowercase();
    head.truncate(MAX - suffix.len() - mark.len() - 2);
    ReplicaId(format!(
        "{}-{mark}.{suffix}",
        head.trim_end_matches(['.', '-', '_'])
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_bounded_and_distinct() {
        let digest = ServiceDigest("0123456789abcdef".into());
        let id =
            |service: &str| replica_id("shop.production", &ServiceName::new(service), &digest, 1).0;
        assert_eq!(id("web"), "shop.production.web.01234567.1");
        assert_ne!(id("Web"), id("web"));
        let long = "a".repeat(80);
        assert!(id(&long).len() <= MAX, "{}", id(&long));
        assert_ne!(id(&long), id(&"a".repeat(81)));
    }
}
