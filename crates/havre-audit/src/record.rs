//! What is written down of an event, and the form that is hashed.

use std::time::SystemTime;

use havre_base::time::rfc3339;
use serde::{Deserialize, Serialize};

/// Most bytes of a name, an address, an action.
const MAX_WORD_BYTES: usize = 256;
/// Most bytes of a detail.
const MAX_DETAIL_BYTES: usize = 1024;
/// Digits of a second.
const DIGITS: usize = 3;

/// Who did something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    // In the order of the canonical form.
    /// What tells it from others of its name: a user's number, a token's id, an issuer and a subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// How it was recognised.
    pub kind: Kind,
    /// What people call it.
    pub name: String,
}

/// How a principal was recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A process of this machine, by its kernel.
    Local,
    /// By a token.
    Token,
    /// By an identity that another issuer vouches for.
    Oidc,
    /// The daemon itself.
    Havre,
    /// Not at all.
    Anonymous,
}

impl Principal {
    /// The daemon itself.
    pub fn havre() -> Self {
        Self {
            id: None,
            kind: Kind::Havre,
            name: "havre".to_owned(),
        }
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is about to be done. A record with its number in `of` tells what came of it; where there is none,
    /// the daemon died before the end.
    Begun,
    /// It was done.
    Ok,
    /// It was tried, and failed.
    Failed,
    /// It was not allowed, and nothing was done.
    Refused,
    /// Somebody stopped it.
    Cancelled,
}

/// An event to be written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Who did it.
    pub principal: Principal,
    /// From where: an address, or what is known of the other end of a socket.
    pub from: Option<String>,
    /// What was done, as a call is named: `up`, `secret/get`.
    pub action: String,
    /// In which project.
    pub project: Option<String>,
    /// In which environment.
    pub environment: Option<String>,
    /// To what: a service, a secret's name, a token's name, a host. Never a value.
    pub subject: Option<String>,
    /// What came of it.
    pub outcome: Outcome,
    /// The record whose outcome this is.
    pub of: Option<u64>,
    /// What else is to be said. Never a value.
    pub detail: Option<String>,
}

impl Entry {
    /// With nothing but who, what and what came of it.
    pub fn new(principal: Principal, action: impl Into<String>, outcome: Outcome) -> Self {
        Self {
            principal,
            from: None,
            action: action.into(),
            project: None,
            environment: None,
            subject: None,
            outcome,
            of: None,
            detail: None,
        }
    }
}

/// An event as it stands in the trail. Fields may be added, in the order of their names; what is stored
/// is the text, which is never written anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    // In the order of the canonical form: RFC 8785 sorts names.
    /// See [`Entry::action`].
    pub action: String,
    /// When: RFC 3339 in UTC, with milliseconds.
    pub at: String,
    /// See [`Entry::detail`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// See [`Entry::environment`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// See [`Entry::from`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// See [`Entry::of`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u64>,
    /// See [`Entry::outcome`].
    pub outcome: Outcome,
    /// See [`Entry::principal`].
    pub principal: Principal,
    /// See [`Entry::project`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Its number: one more than that of the record before it.
    pub sequence: u64,
    /// See [`Entry::subject`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

impl Record {
    /// Of an event; texts that are too long are cut, and end with `…`.
    pub(crate) fn new(entry: Entry, sequence: u64, at: SystemTime) -> Self {
        let word = |text: String| clipped(text, MAX_WORD_BYTES);
        Self {
            action: word(entry.action),
            at: rfc3339(at, DIGITS),
            detail: entry.detail.map(|text| clipped(text, MAX_DETAIL_BYTES)),
            environment: entry.environment.map(word),
            from: entry.from.map(word),
            of: entry.of,
            outcome: entry.outcome,
            principal: Principal {
                id: entry.principal.id.map(word),
                kind: entry.principal.kind,
                name: word(entry.principal.name),
            },
            project: entry.project.map(word),
            sequence,
            subject: entry.subject.map(word),
        }
    }

    /// The text that is hashed: RFC 8785. There are only texts and whole numbers below 2^53 in it, for
    /// which `serde_json` writes what that asks for.
    pub(crate) fn canonical(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }
}

fn clipped(mut text: String, most: usize) -> String {
    if text.len() > most {
        text.truncate(havre_base::clipped(&text, most - '…'.len_utf8()).len());
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn full() -> Entry {
        let principal = Principal {
            id: Some("tok_1".into()),
            kind: Kind::Token,
            name: "ci \"main\"".into(),
        };
        Entry {
            from: Some("203.0.113.7".into()),
            project: Some("shop".into()),
            environment: Some("production".into()),
            subject: Some("datenbank/paß\u{1}".into()),
            of: Some(6),
            detail: Some("zwei\nZeilen/…".into()),
            ..Entry::new(principal, "secret/get", Outcome::Ok)
        }
    }

    #[test]
    fn the_canonical_form_is_stable() {
        let at = UNIX_EPOCH + Duration::from_millis(1_764_460_800_123);
        let text = Record::new(full(), 7, at).canonical().unwrap();
        // A change of this text makes every trail that was ever written unreadable.
        assert_eq!(
            text,
            r#"{"action":"secret/get","at":"2025-11-30T00:00:00.123Z","detail":"zwei\nZeilen/…","environment":"production","from":"203.0.113.7","of":6,"outcome":"ok","principal":{"id":"tok_1","kind":"token","name":"ci \"main\""},"project":"shop","sequence":7,"subject":"datenbank/paß\u0001"}"#
        );
        let least = Entry::new(Principal::havre(), "heal", Outcome::Ok);
        let text = Record::new(least, 1, at).canonical().unwrap();
        assert_eq!(
            text,
            r#"{"action":"heal","at":"2025-11-30T00:00:00.123Z","outcome":"ok","principal":{"kind":"havre","name":"havre"},"sequence":1}"#
        );
    }

    #[test]
    fn names_are_in_the_order_that_rfc_8785_asks_for() {
        let text = Record::new(full(), 7, UNIX_EPOCH).canonical().unwrap();
        // Without `preserve_order`, serde_json's maps are sorted.
        let sorted: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(sorted.to_string(), text);
    }

    #[test]
    fn texts_have_bounds() {
        let mut entry = full();
        entry.detail = Some("é".repeat(5000));
        entry.subject = Some("s".repeat(300));
        let record = Record::new(entry, 1, UNIX_EPOCH);
        let detail = record.detail.unwrap();
        assert!(detail.len() <= MAX_DETAIL_BYTES && detail.ends_with("é…"));
        assert_eq!(record.subject.unwrap().len(), MAX_WORD_BYTES);
    }
}
