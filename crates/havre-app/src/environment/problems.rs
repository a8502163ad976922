//! What stands in the way of an environment, for a person: each is told for as long as it lasts.

use std::collections::BTreeMap;
use std::error::Error;

use havre_api::EnvironmentId;

/// What can go wrong beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Concern {
    /// Desired state cannot be written.
    State,
    /// What is stored of releases cannot be read.
    History,
    /// The network is not as it should be.
    Network,
    /// Names do not lead where they should.
    Names,
    /// There is no certificate.
    Certificate,
    /// Something decided could not be done.
    Action,
}

/// What stands in the way now.
#[derive(Debug, Default)]
pub(super) struct Problems(BTreeMap<Concern, String>);

impl Problems {
    /// How an attempt went: a failure is logged once and stays until an attempt succeeds.
    pub(super) fn note<T, E: Error>(
        &mut self,
        id: &EnvironmentId,
        concern: Concern,
        attempt: &Result<T, E>,
    ) {
        match attempt {
            Ok(_) => self.settle(concern),
            Err(error) => self.report(id, concern, havre_base::one_line(error)),
        }
    }

    /// It is so for this reason, or well.
    pub(super) fn set(&mut self, id: &EnvironmentId, concern: Concern, problem: Option<String>) {
        match problem {
            Some(problem) => self.report(id, concern, problem),
            None => self.settle(concern),
        }
    }

    /// It is so for this reason.
    pub(super) fn report(&mut self, id: &EnvironmentId, concern: Concern, problem: String) {
        if self.0.get(&concern) != Some(&problem) {
            tracing::warn!(environment = %id, problem, "environment has a problem");
            self.0.insert(concern, problem);
        }
    }

    /// It is well again.
    pub(super) fn settle(&mut self, concern: Concern) {
        self.0.remove(&concern);
    }

    /// In a person's words.
    pub(super) fn all(&self) -> impl Iterator<Item = String> {
        self.0.values().cloned()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use havre_model::{EnvironmentName, ProjectName};

    use super::*;

    #[test]
    fn a_problem_is_told_until_an_attempt_succeeds() {
        let id = EnvironmentId {
            project: ProjectName::new("shop"),
            environment: EnvironmentName::new("production"),
        };
        let mut problems = Problems::default();
        let full: io::Result<()> = Err(io::Error::other("no room"));
        problems.note(&id, Concern::State, &full);
        problems.note(&id, Concern::Names, &full);
        problems.note(&id, Concern::State, &full);
        assert_eq!(problems.all().count(), 2);
        problems.note::<_, io::Error>(&id, Concern::State, &Ok(()));
        assert_eq!(problems.all().collect::<Vec<_>>(), ["no room"]);
        problems.settle(Concern::Names);
        assert_eq!(problems.all().count(), 0);
    }
}
