//! The audit trail: who did what, and whether the record of it is whole.

use havre_model::{EnvironmentName, ProjectName};
use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Which records to show; what is not said excludes none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditQuery {
    /// At that time or later.
    pub since: Option<Timestamp>,
    /// Before that time.
    pub until: Option<Timestamp>,
    /// By whom: a name, `kind:name` or an id.
    pub principal: Option<String>,
    /// What: an action (`secret/get`), or the part before its `/`.
    pub action: Option<String>,
    /// In which project.
    pub project: Option<ProjectName>,
    /// In which environment.
    pub environment: Option<EnvironmentName>,
    /// The newest that many.
    pub limit: u32,
}

/// What somebody did, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Its number.
    pub sequence: u64,
    /// When it was begun.
    pub at: Timestamp,
    /// Who.
    pub principal: AuditPrincipal,
    /// From where: an address, or `socket`.
    pub from: Option<String>,
    /// What, as the API calls it.
    pub action: String,
    /// In which project.
    pub project: Option<String>,
    /// In which environment.
    pub environment: Option<String>,
    /// To what.
    pub subject: Option<String>,
    /// What came of it.
    pub outcome: AuditOutcome,
    /// When it ended, where its end has a record of its own.
    pub ended: Option<Timestamp>,
    /// What else is to be said.
    pub detail: Option<String>,
}

/// Who did something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditPrincipal {
    /// How they were recognised: `local`, `token`, `oidc`, `havre`, `anonymous`.
    pub kind: String,
    /// What people call them.
    pub name: String,
    /// What tells them from others of the name.
    pub id: Option<String>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditOutcome {
    /// It goes on, or the daemon died before its end.
    Begun,
    /// It was done.
    Ok,
    /// It was tried, and failed.
    Failed,
    /// It was not allowed.
    Refused,
    /// Somebody stopped it.
    Cancelled,
}

/// Whether the trail is whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditVerifyRequest {
    /// Heads (`<sequence>:<hash>`) that were noted elsewhere, and to which it has to go back.
    pub heads: Vec<String>,
}

/// Whether the trail is whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditVerdict {
    /// Whether nothing is wrong.
    pub sound: bool,
    /// How many records there are.
    pub records: u64,
    /// The newest: `<sequence>:<hash>`, for noting elsewhere.
    pub head: String,
    /// The newest one of those that were removed for their age.
    pub cut: Option<u64>,
    /// The key that signs, where it is known.
    pub key: Option<String>,
    /// What is wrong; the first hundred.
    pub faults: Vec<String>,
    /// How much is wrong.
    pub fault_count: u64,
    /// What could not be checked, and why that may be.
    pub notes: Vec<String>,
}

/// From which record on to export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditExportQuery {
    /// Its number.
    pub from: u64,
}

/// A record with its place in the chain. Its text is not read again: each byte of it is hashed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLine {
    /// Its hash.
    pub hash: String,
    /// That of the record before it.
    pub previous: String,
    /// Its canonical text: a JSON object.
    pub record: String,
}
