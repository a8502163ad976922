//! What became of each release, for its history.

use std::time::SystemTime;

use havre_model::ServiceName;
use serde::{Deserialize, Serialize};

use crate::{Desired, Failure, Origin, RolloutPhase, Source, Traffic};

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
    /// When it had been watched long enough; `None`: it was not watched, or not long enough.
    pub accepted_at: Option<SystemTime>,
    /// Requests from the beginning of its rollout to its end.
    pub traffic: Option<Traffic>,
    /// When its rollout was over.
    pub ended_at: Option<SystemTime>,
    /// How its rollout ended.
    pub outcome: Outcome,
    /// Where it comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
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
    /// A secret of the store has another value.
    Rotation {
        /// Its name.
        secret: String,
    },
    /// Somebody wanted an earlier one back.
    Rollback {
        /// Its number.
        to: u64,
    },
    /// It served in another environment.
    Promotion {
        /// Where, and as which release.
        from: Source,
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
    let Some(is) = is else {
        return match &was.phase {
            RolloutPhase::RollingBack { .. } => None,
            RolloutPhase::Finishing { .. } => Some((was.to, Step::Ended(Outcome::Served, now))),
            RolloutPhase::Preparing | RolloutPhase::Canary { .. } | RolloutPhase::Baking { .. } => {
                Some((was.to, Step::Ended(Outcome::Superseded, now)))
            }
        };
    };
    let step = match (&is.phase, &was.phase) {
        (RolloutPhase::RollingBack { .. }, RolloutPhase::RollingBack { .. })
        | (RolloutPhase::Finishing { .. }, RolloutPhase::Finishing { .. })
        | (RolloutPhase::Baking { .. }, RolloutPhase::Baking { .. })
        | (RolloutPhase::Canary { .. }, RolloutPhase::Canary { .. })
        | (RolloutPhase::Preparing, _) => return None,
        (RolloutPhase::RollingBack { failure, .. }, _) => {
            let failure = failure.clone();
            Step::Ended(Outcome::WentBack { failure }, now)
        }
        (
            RolloutPhase::Finishing { since },
            RolloutPhase::Baking { .. } | RolloutPhase::Canary { .. },
        ) => Step::Accepted(*since),
        (
            RolloutPhase::Canary { since, .. }
            | RolloutPhase::Baking { since }
            | RolloutPhase::Finishing { since },
            _,
        ) => Step::Shifted(*since),
    };
    Some((was.to, step))
}

/// What happened to a release.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Traffic began to move to it, or all of it moved.
    Shifted(SystemTime),
    /// It was watched and is there to stay.
    Accepted(SystemTime),
    /// Its rollout is over.
    Ended(Outcome, SystemTime),
}

impl Record {
    /// The record after a step.
    #[must_use]
    pub fn after(mut self, step: Step) -> Self {
        match step {
            // The first time counts: a canary's shares grow.
            Step::Shifted(at) => self.shifted_at = self.shifted_at.or(Some(at)),
            Step::Accepted(at) => self.accepted_at = Some(at),
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
    use crate::FailureKind;

    fn moving(to: u64, phase: RolloutPhase) -> Desired {
        let mut desired = resting(1);
        desired.begin(to, BTreeSet::new(), false, UNIX_EPOCH);
        if let Some(rollout) = &mut desired.rollout {
            rollout.phase = phase;
        }
        desired
    }

    fn resting(current: u64) -> Desired {
        Desired {
            current: Some(current),
            ..Desired::default()
        }
    }

    #[test]
    fn every_step_of_a_rollout_is_told_once() {
        let now = UNIX_EPOCH + Duration::from_secs(9);
        let failure = Failure {
            service: ServiceName::new("web"),
            replica: None,
            kind: FailureKind::Aborted,
        };
        let back = RolloutPhase::RollingBack {
            failure: failure.clone(),
            since: now,
        };
        let baking = RolloutPhase::Baking { since: now };
        let finishing = RolloutPhase::Finishing { since: now };
        let canary = |step| RolloutPhase::Canary { step, since: now };
        let prepare = || moving(2, RolloutPhase::Preparing);
        let told = |before: &Desired, after: &Desired| told_by(before, after, now);

        assert_eq!(told(&resting(1), &prepare()), None);
        assert_eq!(told(&prepare(), &prepare()), None);
        for shifted in [&baking, &finishing, &canary(0)] {
            assert_eq!(
                told(&prepare(), &moving(2, shifted.clone())),
                Some((2, Step::Shifted(now)))
            );
            assert_eq!(
                told(&moving(2, shifted.clone()), &moving(2, shifted.clone())),
                None
            );
        }
        assert_eq!(told(&moving(2, canary(0)), &moving(2, canary(1))), None);
        let accepted = told(&moving(2, baking.clone()), &moving(2, finishing.clone()));
        assert_eq!(accepted, Some((2, Step::Accepted(now))));
        assert_eq!(
            told(&moving(2, finishing), &resting(2)),
            Some((2, Step::Ended(Outcome::Served, now)))
        );
        let went_back = Some((2, Step::Ended(Outcome::WentBack { failure }, now)));
        assert_eq!(told(&prepare(), &moving(2, back.clone())), went_back);
        assert_eq!(
            told(&moving(2, baking), &moving(2, back.clone())),
            went_back
        );
        assert_eq!(told(&moving(2, back), &resting(1)), None);
        let superseded = Some((2, Step::Ended(Outcome::Superseded, now)));
        assert_eq!(
            told(&prepare(), &moving(3, RolloutPhase::Preparing)),
            superseded
        );
    }
}
