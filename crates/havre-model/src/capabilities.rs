//! What a target, where an environment runs, cannot do of what the files may ask for.
//!
//! A target declares the keys that it lacks ([`Lack`]), by the names of the tables that the reader goes by
//! ([`crate::keys`], [`crate::schema`]). The reader refuses each with its place in the files; whoever gets
//! a [`Project`] without its files asks [`Capabilities::refuse`].

mod asked;
mod key;
#[cfg(test)]
mod tests;
mod written;

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::project::Project;
use crate::scalar;

use asked::Asked;
use key::{Key, Standing};

pub(crate) use written::{Written, report};

/// Most keys that a target may lack.
const MAX_LACKS: usize = 500;
/// Most values of one of them.
const MAX_VALUES: usize = 50;
/// Bytes of a name, a key or a value.
const MAX_NAME_BYTES: usize = 200;
/// Bytes of a reason or a hint.
const MAX_SENTENCE_BYTES: usize = 1000;
/// Characters of a value that a message repeats.
const MAX_SHOWN: usize = 60;

/// One key that a target lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lack {
    /// The path of its section and its name: `services.*.ports[].protocol`, `havre.yaml: rollout.strategy`.
    pub key: String,
    /// Only these values of it, or these items of its list; one that ends in `*` stands for all that begin
    /// so. Empty: whatever its value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// Why; follows a colon, without a period.
    pub reason: String,
    /// What to do instead.
    pub hint: String,
}

/// What a target can do: everything but what it lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Sent")]
pub struct Capabilities {
    target: String,
    lacks: Vec<Lack>,
}

/// As they arrive from elsewhere.
#[derive(Deserialize)]
struct Sent {
    target: String,
    #[serde(default)]
    lacks: Vec<Lack>,
}

/// Why a target cannot declare that it lacks something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LackError {
    /// No table has the key.
    UnknownKey(String),
    /// The key is refused, ignored or settled by the reader: no target gets to see it.
    NeverSeen(String),
    /// A text is empty, or it or a list is longer than it may be.
    OutOfBounds {
        /// Which key, or which target.
        of: String,
        /// Which list or text.
        what: &'static str,
        /// Its length.
        length: usize,
        /// What it may be.
        bounds: RangeInclusive<usize>,
    },
}

impl fmt::Display for LackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey(key) => write!(f, "there is no key {key:?}"),
            Self::NeverSeen(key) => write!(f, "no target gets to see the key {key:?}"),
            Self::OutOfBounds {
                of,
                what,
                length,
                bounds,
            } => {
                let (least, most) = (bounds.start(), bounds.end());
                write!(
                    f,
                    "{of:?} has {length} {what}; {least} to {most} are allowed"
                )
            }
        }
    }
}

impl Error for LackError {}

/// Something that a project asks for and its target cannot do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// What, whose, where and why.
    pub message: String,
    /// What to do instead.
    pub hint: String,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Whose a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner<'a> {
    Project,
    Service(&'a str),
    Network(&'a str),
    Volume(&'a str),
    Secret(&'a str),
    Config(&'a str),
}

impl fmt::Display for Owner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = match self {
            Self::Project => return Ok(()),
            Self::Service(name) => ("service", name),
            Self::Network(name) => ("network", name),
            Self::Volume(name) => ("volume", name),
            Self::Secret(name) => ("secret", name),
            Self::Config(name) => ("config", name),
        };
        write!(f, " of {kind} `{name}`")
    }
}

impl Default for Capabilities {
    /// This machine's: it lacks nothing that the reader takes.
    fn default() -> Self {
        Self {
            target: "this machine".to_owned(),
            lacks: Vec::new(),
        }
    }
}

/// The keys that a target may lack, by their full names.
pub fn target_keys() -> Vec<String> {
    let keys = key::all().map(|(key, _)| key);
    keys.filter(|key| key::standing(key) == Standing::Asked)
        .collect()
}

impl Capabilities {
    /// Those of `target` (`Docker Swarm`), which cannot do `lacks`.
    pub fn new(target: &str, lacks: Vec<Lack>) -> Result<Self, LackError> {
        for lack in &lacks {
            match key::standing(&lack.key) {
                Standing::Asked => {}
                Standing::NeverSeen => return Err(LackError::NeverSeen(lack.key.clone())),
                Standing::Unknown => return Err(LackError::UnknownKey(lack.key.clone())),
            }
        }
        let capabilities = Self {
            target: target.to_owned(),
            lacks,
        };
        capabilities.in_bounds()?;
        Ok(capabilities)
    }

    /// The target's name, as people call it.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The keys that it lacks.
    pub fn lacks(&self) -> &[Lack] {
        &self.lacks
    }

    /// What `project` asks for and the target cannot do; without places, which only the reader knows. What
    /// is as it is without the key is not asked for.
    pub fn refuse(&self, project: &Project) -> Vec<Unsupported> {
        if self.lacks.is_empty() {
            return Vec::new();
        }
        let mut told = BTreeSet::new();
        let mut refused = Vec::new();
        for asked in asked::of(project) {
            let Some(lack) = self.lack_of(&asked) else {
                continue;
            };
            let value = asked.value.as_deref().filter(|_| !lack.values.is_empty());
            let key = Key::parse(&lack.key).shown(&[]);
            if told.insert((asked.owner, key.clone(), value.map(str::to_owned))) {
                refused.push(self.unsupported(lack, &key, asked.owner, value));
            }
        }
        refused
    }

    /// Why the target cannot do it: where several keys ask for the same, each of them is lacking.
    fn lack_of(&self, asked: &Asked<'_>) -> Option<&Lack> {
        let lack_of = |key: &&str| {
            let mut lacks = self.lacks.iter();
            lacks.find(|lack| lack.refuses(key, asked.value.as_deref()))
        };
        let lacks: Option<Vec<&Lack>> = asked.keys.iter().map(lack_of).collect();
        lacks?.first().copied()
    }

    fn unsupported(
        &self,
        lack: &Lack,
        key: &str,
        owner: Owner<'_>,
        value: Option<&str>,
    ) -> Unsupported {
        let value: String = value.map_or_else(String::new, |value| {
            let shown: String = value.chars().take(MAX_SHOWN).collect();
            format!(": {shown}")
        });
        let (target, reason) = (&self.target, &lack.reason);
        Unsupported {
            message: format!("`{key}{value}`{owner} is not possible on {target}: {reason}"),
            hint: lack.hint.clone(),
        }
    }

    fn in_bounds(&self) -> Result<(), LackError> {
        let target = &self.target;
        text(target, "bytes of a name", target, MAX_NAME_BYTES)?;
        list(target, "keys", self.lacks.len(), MAX_LACKS)?;
        for lack in &self.lacks {
            let key = &lack.key;
            text(key, "bytes", key, MAX_NAME_BYTES)?;
            text(key, "bytes of a reason", &lack.reason, MAX_SENTENCE_BYTES)?;
            text(key, "bytes of a hint", &lack.hint, MAX_SENTENCE_BYTES)?;
            list(key, "values", lack.values.len(), MAX_VALUES)?;
            for value in &lack.values {
                text(key, "bytes of a value", value, MAX_NAME_BYTES)?;
            }
        }
        Ok(())
    }
}

/// A text says something.
fn text(of: &str, what: &'static str, text: &str, most: usize) -> Result<(), LackError> {
    within(of, what, text.len(), 1..=most)
}

fn list(of: &str, what: &'static str, length: usize, most: usize) -> Result<(), LackError> {
    within(of, what, length, 0..=most)
}

fn within(
    of: &str,
    what: &'static str,
    length: usize,
    bounds: RangeInclusive<usize>,
) -> Result<(), LackError> {
    if bounds.contains(&length) {
        return Ok(());
    }
    Err(LackError::OutOfBounds {
        of: of.chars().take(MAX_SHOWN).collect(),
        what,
        length,
        bounds,
    })
}

impl TryFrom<Sent> for Capabilities {
    type Error = LackError;

    /// A key that this version does not know is in no file that it reads: a newer target may lack it.
    fn try_from(sent: Sent) -> Result<Self, LackError> {
        let Sent { target, lacks } = sent;
        let mut capabilities = Self { target, lacks };
        capabilities.in_bounds()?;
        let known = |lack: &Lack| key::standing(&lack.key) == Standing::Asked;
        capabilities.lacks.retain(known);
        Ok(capabilities)
    }
}

impl Lack {
    /// Whether it covers the key, or what stands below it, with that value.
    fn refuses(&self, key: &str, value: Option<&str>) -> bool {
        let Some(below) = key.strip_prefix(&self.key) else {
            return false;
        };
        match self.values.is_empty() {
            true => below.is_empty() || below.starts_with(['.', '[']),
            false => below.is_empty() && value.is_some_and(|value| self.covers(value)),
        }
    }

    /// Whether it is one of the values.
    fn covers(&self, value: &str) -> bool {
        let value = plain(value);
        self.values.iter().any(|lacking| {
            let lacking = plain(lacking);
            if let Some(start) = lacking.strip_suffix('*') {
                let same = |head: &str| head.eq_ignore_ascii_case(start);
                return value.get(..start.len()).is_some_and(same);
            }
            let truth = scalar::truth(value);
            value.eq_ignore_ascii_case(lacking)
                || truth.is_some() && truth == scalar::truth(lacking)
        })
    }
}

/// Capabilities of the kernel are written with and without their prefix.
fn plain(value: &str) -> &str {
    value.strip_prefix("CAP_").unwrap_or(value)
}
