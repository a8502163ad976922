//! What has to hold before anything new comes into an environment.

use std::fmt;
use std::time::Duration;

use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};

use super::EnvironmentName;
use crate::grant::Role;

/// What `environments.*` of havre.yaml says of the way into one environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentGates {
    /// The environment.
    pub name: EnvironmentName,
    /// Patterns of the branches that deploy there; empty: not said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub branches: Vec<String>,
    /// Environments in which the same images have to have served; each stands before this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<EnvironmentName>,
    /// The workflow or command that has to have passed where the release comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e2e: Option<String>,
    /// Who has to agree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalRule>,
    /// How long a release has to wait since it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Duration>,
    /// Times in which nothing comes in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub freeze: Vec<Freeze>,
    /// Branches have environments of their own by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previews: Option<Previews>,
}

impl EnvironmentGates {
    /// An environment into which everything comes.
    pub fn open(name: EnvironmentName) -> Self {
        Self {
            name,
            branches: Vec::new(),
            needs: Vec::new(),
            e2e: None,
            approval: None,
            wait: None,
            freeze: Vec::new(),
            previews: None,
        }
    }

    /// Of whose branches' environments `environment` is one, by what it is called: what it is called beyond that. A name
    /// that is somebody's own is nobody's preview.
    pub fn preview_of<'e, 'g>(
        all: &'g [Self],
        environment: &'e EnvironmentName,
    ) -> Option<(&'g Self, &'e str)> {
        if all.iter().any(|one| one.name == *environment) {
            return None;
        }
        let named = all.iter().filter(|one| one.previews.is_some());
        let named = named.filter_map(|one| {
            let rest = environment.as_str().strip_prefix(one.name.as_str())?;
            let branch = rest.strip_prefix('-')?;
            (!branch.is_empty()).then_some((one, branch))
        });
        named.max_by_key(|(one, _)| one.name.as_str().len())
    }

    /// Whether nothing has to hold.
    pub fn are_open(&self) -> bool {
        *self == Self::open(self.name.clone())
    }
}

/// Who has to agree before a release comes in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalRule {
    /// Who may; empty: whoever may deploy there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by: Vec<Approver>,
    /// How many different people; at least 1.
    pub count: u32,
    /// Neither who asked for it nor who pushed it counts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub not_author: bool,
}

/// One who may agree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Approver {
    /// Everybody with this role there, or more.
    Role(Role),
    /// One, as `havre releases` shows them: `anna`, `token ops`, `github:anna`.
    Name(String),
}

impl fmt::Display for Approver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Role(role) => write!(f, "{role}s"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Environments of branches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previews {
    /// How long one stays after the last job that got into it.
    pub after: Duration,
    /// How many there are at once, at most.
    pub most: u32,
}

/// A time in which nothing comes in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// When.
    pub when: FreezeTime,
    /// The time zone of its clock, by its IANA name.
    pub timezone: String,
    /// Why, for those who have to wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// When a freeze is; its end is no longer part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FreezeTime {
    /// Once.
    Once {
        /// Its beginning.
        from: DateTime,
        /// Its end; later.
        to: DateTime,
    },
    /// Every week; where the end is not after the beginning, into the next one.
    Weekly {
        /// Its beginning: minutes since Monday, 00:00.
        from: u16,
        /// Its end, likewise.
        to: u16,
    },
}

/// Minutes of a week.
pub const WEEK_MINUTES: u16 = 7 * 24 * 60;
