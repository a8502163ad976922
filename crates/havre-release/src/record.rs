//! What became of each release, for its history.

use std::time::SystemTime;

use havre_model::ServiceName;
use serde::{Deserialize, Serialize};

use crate::{Desired, Failure, Phase};

/// Written with the desired state that brought it about.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Why there is this release.
    pub cause: Cause,
    /// Who asked for it.
    pub by: Option<String>,
    /// When its rollout began.
    pub started_at: Option<SystemTime>,
    /// When traffic moved to it.
    pub shifted_at: Option<SystemTime>,
    /// When its rollout was over.
    pub ended_at: Option<SystemTime>,
    /// How its rollout ended.
    pub outcome: Outcome,
}

/// Why there is a release.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum Cause {
    /// The project's files.
    #[default]
    Up,
    /// Somebody wanted new replicas of the same.
    Restart {
        /// Of these services.
        services: Vec<ServiceName>,
    },
    /// Somebody wanted an earlier one back.
    Rollback {
        /// Its number.
        to: u64,
    },
}

/// How a rollout ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// Not yet.
    #[default]
    UnderWay,
    /// Its release served.
    Served,
    /// The release before served on.
    WentBack {
        /// Why.
        failure: Failure,
    },
    /// Another one was wanted before it was over.
    Superseded,
}

/// What a step of an environment's desired state means for a release, by its number.
pub fn told_by(before: &Desired, after: &Desired, now: SystemTime) -> Option<(u64, Step)> {
    let was = before.rollout.as_ref()?;
    let is = after.rollout.as_ref().filter(|is| is.to == was.to);
    let step = match (is.map(|is| &is.phase), &was.phase) {
        (Some(Phase::Shifted { at }), Phase::Preparing) => Step::Shifted(*at),
        (Some(Phase::GoingBack { failure }), Phase::Preparing | Phase::Shifted { .. }) => {
            let failure = failure.clone();
            Step::Ended(Outcome::WentBack { failure }, now)
        }
        (None, Phase::GoingBack { .. }) | (Some(_), _) => return None,
        (None, Phase::Shifted { .. }) => Step::Ended(Outcome::Served, now),
        (None, Phase::Preparing) => Step::Ended(Outcome::Superseded, now),
    };
    Some((was.to, step))
}

/// What happened to a release.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Traffic moved to it.
    Shifted(SystemTime),
    /// Its rollout is over.
    Ended(Outcome, SystemTime),
}

impl Record {
    /// The record after a step.
    #[must_use]
    pub fn after(mut self, step: Step) -> Self {
        match step {
            Step::Shifted(at) => self.shifted_at = Some(at),
            Step::Ended(outcome, at) => {
                self.outcome = outcome;
                self.ended_at = Some(at);
            }
        }
        self
    }

    /// Its rollout came to its end: there is something to go back to.
    pub fn has_served(&self) -> bool {
        self.outcome == Outcome::Served
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::{FailureKind, Rollout};

    fn moving(to: u64, phase: Phase) -> Desired {
        Desired {
            current: Some(1),
            rollout: Some(Rollout {
                from: Some(1),
                to,
                started_at: UNIX_EPOCH,
                phase,
                jobs_done: BTreeSet::new(),
            }),
            ..Desired::default()
        }
    }

    fn resting(current: u64) -> Desired {
        Desired {
            current: Some(current),
            ..Desired::default()
        }
    }

    #[test]
    fn every_end_of_a_rollout_is_told_once() {
        let now = UNIX_EPOCH + Duration::from_secs(9);
        let failure = Failure {
            service: ServiceName::new("web"),
            replica: None,
            kind: FailureKind::Aborted,
        };
        let back = Phase::GoingBack {
            failure: failure.clone(),
        };
        let shifted = Phase::Shifted { at: now };
        let prepare = || moving(2, Phase::Preparing);
        let told = |before: &Desired, after: &Desired| told_by(before, after, now);

        assert_eq!(told(&resting(1), &prepare()), None);
        assert_eq!(told(&prepare(), &prepare()), None);
        assert_eq!(
            told(&prepare(), &moving(2, shifted.clone())),
            Some((2, Step::Shifted(now)))
        );
        assert_eq!(
            told(&moving(2, shifted.clone()), &resting(2)),
            Some((2, Step::Ended(Outcome::Served, now)))
        );
        let went_back = Some((2, Step::Ended(Outcome::WentBack { failure }, now)));
        assert_eq!(told(&prepare(), &moving(2, back.clone())), went_back);
        assert_eq!(told(&moving(2, back), &resting(1)), None);
        let superseded = Some((2, Step::Ended(Outcome::Superseded, now)));
        assert_eq!(told(&prepare(), &moving(3, Phase::Preparing)), superseded);
    }
}
