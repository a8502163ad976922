//! Certificates: who signed what serves a host, until when, and what is done about the next one.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// The certificate of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// The host, a pattern of hosts, or an address.
    pub host: String,
    /// How it is.
    pub state: CertificateState,
    /// Who signed what serves it.
    pub source: CertificateSource,
    /// Its signer, as the certificate itself says.
    pub issuer: Option<String>,
    /// Its serial number and its authority's key, by which the authority knows it.
    pub serial: Option<String>,
    /// Begin of its life.
    pub valid_from: Option<Timestamp>,
    /// End of its life.
    pub valid_until: Option<Timestamp>,
    /// When the next one is due; `None` where nobody orders one.
    pub renewal: Option<Renewal>,
    /// When an order that is overdue is tried again.
    pub next_attempt: Option<Timestamp>,
    /// Checks of the host that failed in a row.
    pub failures: u32,
    /// What the newest attempt came to, where it failed.
    pub last_failure: Option<OrderFailure>,
    /// Authorities that are not asked for now.
    pub waits: Vec<AuthorityWait>,
}

/// How a host's certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CertificateState {
    /// What is wanted serves.
    Serving,
    /// An order is under way; the machine's own certificate serves meanwhile.
    Ordering,
    /// None was issued yet; the machine's own certificate serves.
    Waiting,
    /// The last order failed, and none was issued yet; the machine's own certificate serves.
    Failing,
    /// Its life is over.
    Expired,
    /// It is on record, and no host of an environment any more.
    Unused,
}

impl CertificateState {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Ordering => "ordering",
            Self::Waiting => "waiting",
            Self::Failing => "failing",
            Self::Expired => "expired",
            Self::Unused => "unused",
        }
    }
}

/// Where a certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CertificateSource {
    /// An authority of the machine's configuration.
    Authority {
        /// Its name.
        name: String,
    },
    /// `havre cert import`.
    Imported,
    /// Files that havre.yaml names.
    Files,
    /// This machine's own authority.
    Local,
}

/// When a certificate is due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewal {
    /// When.
    pub at: Timestamp,
    /// Who decided that.
    pub by: RenewalBy,
    /// The window that the authority gave.
    pub window: Option<(Timestamp, Timestamp)>,
    /// The authority's page on it.
    pub explanation: Option<String>,
}

/// Who decides when a certificate is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RenewalBy {
    /// There is none.
    Absence,
    /// Its authority, by renewal information (ARI).
    Ari,
    /// Its length of life.
    Lifetime,
    /// A person.
    Person,
    /// The configuration, which has other authorities now.
    Settings,
}

impl RenewalBy {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Absence => "none yet",
            Self::Ari => "ARI",
            Self::Lifetime => "lifetime",
            Self::Person => "asked for",
            Self::Settings => "configuration",
        }
    }
}

/// An order that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderFailure {
    /// When.
    pub at: Timestamp,
    /// With which authority.
    pub authority: String,
    /// How far it came: `directory`, `account`, `order`, `proof`, `validation`, `issue`, `keep` (it was not put on record here).
    pub stage: String,
    /// How the host was to be proven.
    pub method: Option<String>,
    /// Type of the authority's problem document.
    pub kind: Option<String>,
    /// In the authority's words.
    pub detail: String,
    /// Pages that it points to.
    pub links: Vec<String>,
    /// The authority has paused the host; one of the links ends that.
    pub paused: bool,
    /// A limit of the authority was met.
    pub limited: bool,
}

/// An authority that is not asked before a moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorityWait {
    /// Which.
    pub authority: String,
    /// Until when.
    pub until: Timestamp,
}

/// A host whose certificate is asked about, or to be replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateQuery {
    /// Which.
    pub host: String,
}

/// Why a host's certificate is as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateReport {
    /// Of the host.
    pub status: CertificateStatus,
    /// What was looked at from this machine, in the order in which an authority would.
    pub checks: Vec<CertificateCheck>,
    /// What a person can do.
    pub advice: Vec<String>,
}

/// One look from this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateCheck {
    /// At what.
    pub what: String,
    /// Whether it is as it should be; `None`: that cannot be told from here.
    pub good: Option<bool>,
    /// What was found.
    pub found: String,
}

/// A certificate that somebody brings.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateImport {
    /// For whom; empty: for all that the certificate names.
    pub hosts: Vec<String>,
    /// In PEM, the site's own first.
    pub chain: String,
    /// In PEM.
    pub key: String,
}

/// Never shows the key.
impl std::fmt::Debug for CertificateImport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificateImport")
            .field("hosts", &self.hosts)
            .finish_non_exhaustive()
    }
}

/// What was brought serves these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateImported {
    /// Hosts.
    pub hosts: Vec<String>,
    /// Those of them that environments have with a certificate from elsewhere: it does not serve there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elsewhere: Vec<String>,
}
