//! What becomes of something that wants to come into an environment: a release of another one, or a job of a run.
//!
//! ```text
//! Waiting ◄─► Approved ─► RollingOut ─► RolledOut | Failed      (a release)
//!    │           ├──────► Entered                               (a job)
//!    └───────────┴─► Rejected | Refused | Superseded | Expired
//! ```

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use havre_model::{EnvironmentId, EnvironmentName};
use serde::{Deserialize, Serialize};

use crate::{Approval, Entry, Origin};

/// So long somebody may take to agree.
pub const EXPIRES_AFTER: Duration = Duration::from_secs(30 * 24 * 3600);

/// Something that wants to come into an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promotion {
    /// Its number, on this machine.
    pub id: u64,
    /// Where it wants to come in.
    pub environment: EnvironmentId,
    /// What it is.
    pub what: Comes,
    /// Who asked for it.
    pub by: String,
    /// When.
    pub requested_at: SystemTime,
    /// When nobody waits any longer.
    pub expires_at: SystemTime,
    /// Where it comes from.
    pub origin: Origin,
    /// Its configuration is of the files of whoever asked: the release had none for that environment.
    #[serde(default)]
    pub by_files: bool,
    /// Who pushed it, or brought it to where it comes from, beside who asked.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub authors: BTreeSet<String>,
    /// Who agreed, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<Approval>,
    /// How far it is.
    pub state: PromotionState,
}

/// What wants to come in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Comes {
    /// A release.
    Release {
        /// Where it served.
        from: EnvironmentName,
        /// As which release.
        release: u64,
        /// What served where it wants to come in, when it was asked for.
        base: Option<u64>,
    },
    /// A job of a run, with the environment's secrets.
    Job {
        /// The run.
        run: String,
        /// The job's name.
        job: String,
    },
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum PromotionState {
    /// Something that has to hold does not yet.
    Waiting,
    /// All that has to hold does.
    Approved,
    /// The environment moves to it.
    RollingOut,
    /// It has served.
    RolledOut {
        /// As which release.
        release: u64,
    },
    /// The job has been let in.
    Entered,
    /// Its rollout failed.
    Failed {
        /// Why.
        why: String,
    },
    /// Somebody said no.
    Rejected {
        /// Who.
        by: String,
        /// What they said.
        comment: Option<String>,
    },
    /// Something that has to hold never will.
    Refused {
        /// Why.
        why: String,
    },
    /// Something else came before it.
    Superseded {
        /// What.
        why: String,
    },
    /// Nobody had agreed in time.
    Expired,
}

impl PromotionState {
    /// Whether nothing becomes of it any more.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Waiting | Self::Approved | Self::RollingOut => false,
            Self::RolledOut { .. }
            | Self::Entered
            | Self::Failed { .. }
            | Self::Rejected { .. }
            | Self::Refused { .. }
            | Self::Superseded { .. }
            | Self::Expired => true,
        }
    }

    /// How far it is, for people.
    pub fn sentence(&self) -> String {
        match self {
            Self::Waiting => "it waits".to_owned(),
            Self::Approved => "all that has to hold does".to_owned(),
            Self::RollingOut => "it is rolling out".to_owned(),
            Self::RolledOut { release } => format!("it was rolled out as release {release}"),
            Self::Entered => "it was let in".to_owned(),
            Self::Failed { why } => format!("its rollout failed: {why}"),
            Self::Rejected { by, .. } => format!("{by} rejected it"),
            Self::Refused { why } => format!("it was refused: {why}"),
            Self::Superseded { why } => format!("it was superseded: {why}"),
            Self::Expired => "nobody had agreed in time".to_owned(),
        }
    }
}

/// What happens to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PromotionEvent {
    /// The gates were looked at.
    Looked {
        /// What they come to.
        entry: Entry,
        /// When.
        now: SystemTime,
    },
    /// Somebody who may agrees.
    Agreed(Approval),
    /// Somebody who may says no.
    Rejected {
        /// Who.
        by: String,
        /// What they said.
        comment: Option<String>,
    },
    /// Something else came before it.
    Superseded {
        /// What.
        why: String,
    },
    /// The environment begins to move to it.
    Begun,
    /// The rollout ended.
    Ended(RolloutEnd),
    /// The job is let in.
    Entered,
}

/// How the rollout of a promotion ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RolloutEnd {
    /// Its release has served.
    Served {
        /// Its number.
        release: u64,
    },
    /// It has not.
    Failed {
        /// Why.
        why: String,
    },
}

/// Why an event changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// It is too late for that.
    Over,
    /// It has not been let in.
    NotApproved,
}

/// The only place where a promotion's state changes. Pure and total. An event that came true already changes nothing.
pub fn step(promotion: &Promotion, event: PromotionEvent) -> Result<Promotion, NotTaken> {
    use PromotionEvent as Event;
    use PromotionState as State;
    let mut next = promotion.clone();
    match (&promotion.state, event) {
        (State::Waiting | State::Approved, Event::Looked { entry, now }) => {
            let expired = promotion.expires_at <= now;
            next.state = match entry {
                Entry::Open => State::Approved,
                Entry::Waits { .. } if expired => State::Expired,
                Entry::Waits { .. } => State::Waiting,
                Entry::Refused { why } => State::Refused { why },
            };
        }
        (State::Waiting, Event::Agreed(approval)) => {
            if !next.approvals.iter().any(|known| known.by == approval.by) {
                next.approvals.push(approval);
            }
        }
        (State::Waiting | State::Approved, Event::Rejected { by, comment }) => {
            next.state = State::Rejected { by, comment };
        }
        (State::Waiting | State::Approved, Event::Superseded { why }) => {
            next.state = State::Superseded { why };
        }
        (State::Approved, Event::Begun) => next.state = State::RollingOut,
        (State::Approved, Event::Entered) => next.state = State::Entered,
        (State::RollingOut, Event::Ended(end)) => {
            next.state = match end {
                RolloutEnd::Served { release } => State::RolledOut { release },
                RolloutEnd::Failed { why } => State::Failed { why },
            };
        }
        (State::Waiting, Event::Begun | Event::Entered | Event::Ended(_))
        | (State::Approved, Event::Ended(_)) => return Err(NotTaken::NotApproved),
        // They agree with what is so.
        (State::Approved, Event::Agreed(_))
        | (State::RollingOut, Event::Looked { .. } | Event::Superseded { .. } | Event::Begun)
        | (State::Entered, Event::Entered) => {}
        (State::RollingOut, Event::Agreed(_) | Event::Rejected { .. } | Event::Entered) => {
            return Err(NotTaken::Over);
        }
        (
            State::RolledOut { .. }
            | State::Entered
            | State::Failed { .. }
            | State::Rejected { .. }
            | State::Refused { .. }
            | State::Superseded { .. }
            | State::Expired,
            event,
        ) => match event {
            Event::Looked { .. } | Event::Superseded { .. } | Event::Ended(_) => {}
            Event::Agreed(_) | Event::Rejected { .. } | Event::Begun | Event::Entered => {
                return Err(NotTaken::Over);
            }
        },
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use havre_model::ProjectName;
    use havre_model::grant::Role;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn in_state(state: PromotionState) -> Promotion {
        Promotion {
            id: 1,
            environment: EnvironmentId {
                project: ProjectName::new("shop"),
                environment: EnvironmentName::new("production"),
            },
            what: Comes::Release {
                from: EnvironmentName::new("staging"),
                release: 7,
                base: Some(3),
            },
            by: "anna".to_owned(),
            requested_at: at(0),
            expires_at: at(100),
            origin: Origin::default(),
            by_files: false,
            authors: BTreeSet::new(),
            approvals: Vec::new(),
            state,
        }
    }

    fn agreed(by: &str) -> PromotionEvent {
        PromotionEvent::Agreed(Approval {
            person: None,
            by: by.to_owned(),
            role: Role::Deployer,
            at: at(1),
            comment: None,
        })
    }

    fn looked(entry: Entry, now: u64) -> PromotionEvent {
        let now = at(now);
        PromotionEvent::Looked { entry, now }
    }

    /// Every state and what each event makes of it, as a table.
    #[test]
    fn every_event_in_every_state() {
        use PromotionState as State;
        let waits = || Entry::Waits { until: None };
        let why = || "w".to_owned();
        let events: [(&str, PromotionEvent); 11] = [
            ("opens", looked(Entry::Open, 1)),
            ("waits", looked(waits(), 99)),
            ("late", looked(waits(), 100)),
            ("closes", looked(Entry::Refused { why: why() }, 1)),
            ("agreed", agreed("ben")),
            (
                "rejected",
                PromotionEvent::Rejected {
                    by: "ben".to_owned(),
                    comment: None,
                },
            ),
            ("superseded", PromotionEvent::Superseded { why: why() }),
            ("begun", PromotionEvent::Begun),
            (
                "served",
                PromotionEvent::Ended(RolloutEnd::Served { release: 4 }),
            ),
            (
                "failed",
                PromotionEvent::Ended(RolloutEnd::Failed { why: why() }),
            ),
            ("entered", PromotionEvent::Entered),
        ];
        let word = |state: &State| match state {
            State::Waiting => "Wait",
            State::Approved => "Appr",
            State::RollingOut => "Roll",
            State::RolledOut { .. } => "Done",
            State::Entered => "Entr",
            State::Failed { .. } => "Fail",
            State::Rejected { .. } => "Rjct",
            State::Refused { .. } => "Rfsd",
            State::Superseded { .. } => "Sprs",
            State::Expired => "Expr",
        };
        let over = "same same same same Over Over same Over same same";
        for (state, expected) in [
            (
                State::Waiting,
                "Appr Wait Expr Rfsd Wait Rjct Sprs NotA NotA NotA NotA".to_owned(),
            ),
            (
                State::Approved,
                "Appr Wait Expr Rfsd same Rjct Sprs Roll NotA NotA Entr".to_owned(),
            ),
            (
                State::RollingOut,
                "same same same same Over Over same same Done Fail Over".to_owned(),
            ),
            (State::RolledOut { release: 4 }, format!("{over} Over")),
            (State::Entered, format!("{over} same")),
            (State::Failed { why: why() }, format!("{over} Over")),
            (
                State::Rejected {
                    by: why(),
                    comment: None,
                },
                format!("{over} Over"),
            ),
            (State::Refused { why: why() }, format!("{over} Over")),
            (State::Superseded { why: why() }, format!("{over} Over")),
            (State::Expired, format!("{over} Over")),
        ] {
            let before = in_state(state);
            let became = events
                .iter()
                .map(|(_, event)| match step(&before, event.clone()) {
                    Err(NotTaken::Over) => "Over",
                    Err(NotTaken::NotApproved) => "NotA",
                    Ok(after) => word(&after.state),
                });
            let became: Vec<&str> = became.collect();
            let own = word(&before.state);
            let expected: Vec<&str> = expected
                .split(' ')
                .map(|word| if word == "same" { own } else { word })
                .collect();
            assert_eq!(
                became,
                expected,
                "{:?}: {:?}",
                before.state,
                events.each_ref().map(|one| one.0)
            );
            let ends = before.state.is_over();
            assert_eq!(ends, !matches!(own, "Wait" | "Appr" | "Roll"));
        }
    }

    #[test]
    fn who_agrees_twice_is_one() {
        let mut promotion = in_state(PromotionState::Waiting);
        for by in ["ben", "ben", "carl"] {
            promotion = step(&promotion, agreed(by)).expect("taken");
        }
        let people: Vec<&str> = promotion.approvals.iter().map(|one| &*one.by).collect();
        assert_eq!(people, ["ben", "carl"]);
    }
}
