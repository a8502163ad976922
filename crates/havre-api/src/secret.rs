//! Secrets and the seal they are kept under.

use std::fmt;

use havre_model::{EnvironmentId, ServiceName};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{ReleaseId, Timestamp};

/// Bytes of a secret: base64 on the wire, wiped when they go, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes them over.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Them.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Zeroizing<Vec<u8>>> for SecretBytes {
    fn from(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(…)")
    }
}

impl Serialize for SecretBytes {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let text = Zeroizing::new(data_encoding::BASE64.encode(&self.0));
        to.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for SecretBytes {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(from)?);
        let bytes = data_encoding::BASE64.decode(text.as_bytes());
        // The text is not repeated in the error.
        bytes
            .map(Self::new)
            .map_err(|_| serde::de::Error::custom("a value that is not base64"))
    }
}

/// A text that is a secret: wiped when it goes, and never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretText(String);

impl SecretText {
    /// Takes it over.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// It.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl Drop for SecretText {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretOrigin {
    /// Somebody gave it.
    #[default]
    Set,
    /// It is random.
    Generated,
    /// It was in a file of another form.
    Imported,
}

/// Set a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretSetRequest {
    /// Whose; none: the machine's, for every environment that has no own.
    #[serde(default)]
    pub environment: Option<EnvironmentId>,
    /// Its name.
    pub name: String,
    /// It.
    pub value: SecretBytes,
    /// Where it comes from.
    #[serde(default)]
    pub origin: SecretOrigin,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretSetOutcome {
    /// The version in use.
    pub version: u32,
    /// It was in use already.
    pub unchanged: bool,
    /// What should be known of it, such as that it is too short to be masked.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Tell the value of a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretGetRequest {
    /// Whose.
    #[serde(default)]
    pub environment: Option<EnvironmentId>,
    /// Its name.
    pub name: String,
    /// Of a version, instead of the one in use.
    #[serde(default)]
    pub version: Option<u32>,
    /// Why: for the record.
    pub reason: String,
}

/// The value of a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretValue {
    /// Whose it is: the machine's (none), where the environment has no own.
    pub environment: Option<EnvironmentId>,
    /// Which of its versions.
    pub version: u32,
    /// It.
    pub value: SecretBytes,
}

/// List secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretListQuery {
    /// What this environment has: its own, and the machine's that it has no own of; none: all.
    #[serde(default)]
    pub environment: Option<EnvironmentId>,
}

/// A secret, without its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretSummary {
    /// Whose; none: the machine's.
    pub environment: Option<EnvironmentId>,
    /// Its name.
    pub name: String,
    /// The version in use; none: it is not known, see `problem`.
    pub current: Option<SecretVersion>,
    /// The rotation under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<SecretRotation>,
    /// Why nothing is known of it: its rows were edited, or the secrets are locked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A version, without its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretVersion {
    /// Counted from 1.
    pub version: u32,
    /// Whether it is the one in use.
    pub current: bool,
    /// Bytes of its value.
    pub size_bytes: u32,
    /// When it was set.
    pub set_at: Timestamp,
    /// By whom.
    pub set_by: String,
    /// How it came about.
    pub origin: String,
}

/// One secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretQuery {
    /// Whose; none: the machine's.
    #[serde(default)]
    pub environment: Option<EnvironmentId>,
    /// Its name.
    pub name: String,
}

/// Put an earlier version into use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRollbackRequest {
    /// Whose; none: the machine's.
    #[serde(default)]
    pub environment: Option<EnvironmentId>,
    /// Its name.
    pub name: String,
    /// Which; none: the one before.
    #[serde(default)]
    pub version: Option<u32>,
}

/// Remove a secret with all its versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRemoveRequest {
    /// Whose; none: the machine's.
    #[serde(default)]
    pub environment: Option<EnvironmentId>,
    /// Its name.
    pub name: String,
    /// Even while environments use it.
    #[serde(default)]
    pub force: bool,
}

/// A release that uses a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretUse {
    /// Of which environment.
    pub environment: EnvironmentId,
    /// Which.
    pub release: ReleaseId,
    /// Whether it is the environment's own; if not, the machine's.
    #[serde(default)]
    pub own: bool,
    /// The services that get it; none: builds alone use it.
    pub services: Vec<ServiceName>,
    /// The version that the release has.
    pub version: u32,
    /// The version that the next `up` takes; none: there is none any more, or it cannot be had.
    pub next: Option<u32>,
    /// Whether that has another value than what runs, be its number the same: versions of a secret that was
    /// removed may have been counted before.
    #[serde(default)]
    pub next_differs: bool,
    /// Why it cannot be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Replicas that have another version than they are to have, or do not know theirs yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differing: Vec<SecretDiffers>,
    /// The rotation under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<SecretRotation>,
}

/// A replica that has another version of a secret than it is to have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretDiffers {
    /// The secret's name.
    pub secret: String,
    /// Of which service.
    pub service: ServiceName,
    /// Which.
    pub replica: String,
    /// The version that it is to have.
    pub wanted: u32,
    /// The one that it has; none: one of a release that is not known any more.
    pub running: Option<u32>,
    /// Its program does not know of it yet.
    pub reloading: bool,
}

/// Begin to rotate a secret, or go on with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRotateRequest {
    /// Whose; none: the machine's.
    #[serde(default)]
    pub environment: Option<EnvironmentId>,
    /// Its name.
    pub name: String,
    /// The value that is to take the place of the one in use; not looked at while a rotation is under way.
    /// None: only goes on.
    #[serde(default)]
    pub value: Option<SecretBytes>,
    /// Where it comes from.
    #[serde(default)]
    pub origin: SecretOrigin,
    /// Tell both values, for a script that makes the new one valid, and the one before invalid.
    #[serde(default)]
    pub values: bool,
    /// Why: for the record.
    #[serde(default)]
    pub reason: String,
}

/// How far a rotation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretRotationStep {
    /// There is a new version, which nobody has yet.
    Staged,
    /// The new version is in use.
    Switched,
    /// The version before may not work any more.
    Retiring,
    /// The version before is out of use.
    Done,
    /// The version before is in use again.
    Aborting,
    /// The new version is out of use.
    Aborted,
}

impl SecretRotationStep {
    /// One word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Staged => "staged",
            Self::Switched => "switched",
            Self::Retiring => "retiring",
            Self::Done => "done",
            Self::Aborting => "aborting",
            Self::Aborted => "aborted",
        }
    }
}

/// A rotation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRotation {
    /// The version before.
    pub from: u32,
    /// The one that takes its place.
    pub to: u32,
    /// How far it is.
    pub step: SecretRotationStep,
    /// When it was begun.
    pub begun_at: Timestamp,
    /// By whom.
    pub begun_by: String,
    /// It was begun with a script, without which nobody is to go on.
    #[serde(default)]
    pub scripted: bool,
}

/// A rotation that was begun, or is gone on with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRotated {
    /// It.
    pub rotation: SecretRotation,
    /// It was under way before.
    pub resumed: bool,
    /// The value before, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<SecretBytes>,
    /// The value that takes its place, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<SecretBytes>,
    /// What should be known of it, such as that it is too short to be masked.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Carry a rotation on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretStepRequest {
    /// Whose; none: the machine's.
    #[serde(default)]
    pub environment: Option<EnvironmentId>,
    /// Its name.
    pub name: String,
    /// The new version.
    pub version: u32,
    /// The step.
    pub step: SecretRotationStep,
}

/// What runs with a secret has another version of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretSwitchOutcome {
    /// The rotation.
    pub rotation: SecretRotation,
    /// Environments that have the version, each with its release.
    pub environments: Vec<(EnvironmentId, ReleaseId)>,
    /// How long it took.
    pub elapsed_ms: u64,
}

/// The seal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealReport {
    /// Which; none: there is no record of one.
    pub id: Option<String>,
    /// Why it is locked; none: it is open.
    pub locked: Option<String>,
    /// Ways to open it.
    pub slots: Vec<SealSlot>,
    /// Keys under the root key.
    pub keys: usize,
    /// It can be opened without this machine, as was seen once.
    pub set_up: bool,
    /// What should be looked at.
    pub findings: Vec<String>,
}

/// A way to open the seal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealSlot {
    /// Its number.
    pub number: u32,
    /// `machine`, `passphrase`, `age`.
    pub kind: String,
    /// What it is, and what it protects against.
    pub about: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last seen to open.
    pub opened: Option<Timestamp>,
}

/// Add a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SealAddRequest {
    /// For a passphrase.
    Passphrase {
        /// It.
        passphrase: SecretText,
        /// It once more, by which the new slot is opened.
        again: SecretText,
    },
    /// For an age recipient.
    Age {
        /// `age1…`.
        recipient: String,
    },
    /// For this machine, in the place of what it has.
    Machine {
        /// How it is kept.
        with: MachineSlot,
    },
}

/// How a machine keeps its part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MachineSlot {
    /// A file that only root can read.
    #[default]
    File,
    /// A credential of systemd's, by the host's key.
    Host,
    /// The same, and the machine's TPM.
    Tpm,
}

/// Remove a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealRemoveRequest {
    /// Its number.
    pub slot: u32,
}

/// Open the seal, or see whether a slot opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealUnlockRequest {
    /// A passphrase, or an age identity.
    pub secret: SecretText,
}

/// What became of the seal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealOutcome {
    /// The slot that was added, removed or opened.
    pub slot: Option<u32>,
    /// What should be known, or done next.
    #[serde(default)]
    pub warnings: Vec<String>,
}
