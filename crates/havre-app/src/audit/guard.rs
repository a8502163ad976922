//! The one place where calls are written down: around the guard that decides on them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use havre_api::{
    Admission, ApiError, Asked, Credential, Ended, ErrorCode, Guard, LocalPeer, Outcome, Principal,
    Scope, Who,
};
use havre_audit::{Entry, Kind, Trail};

use super::note;
use super::rules::{Rule, action, rule};

/// Milliseconds of a call that are worth saying.
const LONG_MS: u128 = 1000;

/// Writes down what the guard inside lets in and refuses.
pub(crate) struct Recording {
    trail: Trail,
    inner: Arc<dyn Guard>,
    /// Calls that went on and could not be written down, since one last could.
    unrecorded: AtomicU64,
}

impl Recording {
    pub(crate) fn new(trail: Trail, inner: Arc<dyn Guard>) -> Self {
        Self {
            trail,
            inner,
            unrecorded: AtomicU64::new(0),
        }
    }

    /// Writes that a call is about to be done.
    fn begin(&self, asked: &Asked, rule: Rule) -> Result<Option<u64>, ApiError> {
        match self.trail.append(entry(asked, havre_audit::Outcome::Begun)) {
            Ok(number) => {
                self.own_up();
                Ok(number)
            }
            Err(error) if rule == Rule::Mends => {
                self.unrecorded.fetch_add(1, Ordering::Relaxed);
                let (by, subject) = (&asked.principal, &asked.subject);
                let error = havre_base::one_line(&error);
                tracing::error!(path = asked.path, %by, subject, error, "not in the audit trail");
                Ok(None)
            }
            Err(error) => {
                let message = format!(
                    "{} is not done: nothing may go unrecorded",
                    action(asked.path)
                );
                Err(ApiError::new(ErrorCode::Failed, message)
                    .caused_by(Some(&error))
                    .with_hint(
                        "make room on the disk; these go on without a record: `havre down`, `restart`, `rollback`, \
                         `rollout`, `image rm`, `image prune`, `token revoke`, `daemon stop`",
                    ))
            }
        }
    }

    /// Says how many calls could not be written down, now that one could.
    fn own_up(&self) {
        let missed = self.unrecorded.swap(0, Ordering::Relaxed);
        if missed == 0 {
            return;
        }
        let havre = havre_audit::Principal::havre();
        let told = self.trail.append(Entry {
            detail: Some(format!(
                "{missed} calls before this were done and could not be written down: the daemon's log has them"
            )),
            ..Entry::new(havre, "audit/unrecorded", havre_audit::Outcome::Failed)
        });
        if told.is_err() {
            self.unrecorded.fetch_add(missed, Ordering::Relaxed);
        }
    }
}

impl Guard for Recording {
    fn authenticate(&self, credential: &Credential) -> Result<Principal, ApiError> {
        let found = self.inner.authenticate(credential);
        // Who has failed too often is told so without a look at what they show: whoever floods the door does
        // not flood the trail.
        if let Err(error) = &found
            && error.code != ErrorCode::TooMany
        {
            let entry = Entry {
                from: Some(from(credential)),
                detail: Some(error.message.clone()),
                ..Entry::new(
                    stranger(credential),
                    "authenticate",
                    havre_audit::Outcome::Refused,
                )
            };
            note(&self.trail, entry);
        }
        found
    }

    fn hear(&self, asked: &Asked) -> Result<(), ApiError> {
        self.inner.hear(asked)
    }

    fn admit(&self, asked: &Asked) -> Result<Admission, ApiError> {
        let admission = self.inner.admit(asked)?;
        let record = match rule(asked.path, asked.role) {
            Rule::Looks | Rule::Proves => None,
            rule @ (Rule::Recorded | Rule::Mends) => self.begin(asked, rule)?,
        };
        Ok(Admission {
            record,
            ..admission
        })
    }

    fn ended(&self, asked: &Asked, ended: Ended) {
        self.inner.ended(asked, ended);
        let (outcome, mut said) = told(ended.outcome);
        let is_written = match rule(asked.path, asked.role) {
            // Whoever asks too much does not flood the trail with it.
            _ if ended.outcome == Outcome::Failed(ErrorCode::TooMany) => ended.record.is_some(),
            Rule::Proves => true,
            Rule::Looks | Rule::Recorded | Rule::Mends => {
                ended.record.is_some() || outcome == havre_audit::Outcome::Refused
            }
        };
        if !is_written {
            return;
        }
        let ms = ended.elapsed.as_millis();
        if ms >= LONG_MS {
            said.push(format!("{}.{} s", ms / 1000, ms % 1000 / 100));
        }
        let entry = Entry {
            of: ended.record,
            detail: (!said.is_empty()).then(|| said.join(", ")),
            ..entry(asked, outcome)
        };
        note(&self.trail, entry);
    }
}

/// What a call is.
fn entry(asked: &Asked, outcome: havre_audit::Outcome) -> Entry {
    let (project, environment) = match &asked.scope {
        Scope::Environment(id) => (
            Some(id.project.to_string()),
            Some(id.environment.to_string()),
        ),
        Scope::Visible | Scope::Machine => (None, None),
    };
    Entry {
        from: Some(
            asked
                .address
                .map_or("socket".to_owned(), |address| address.to_string()),
        ),
        project,
        environment,
        subject: (!asked.subject.is_empty()).then(|| asked.subject.clone()),
        ..Entry::new(principal(&asked.principal.who), action(asked.path), outcome)
    }
}

/// How a call ended, in the trail's words, and what else is to be said.
fn told(outcome: Outcome) -> (havre_audit::Outcome, Vec<String>) {
    use havre_audit::Outcome as Told;
    match outcome {
        Outcome::Done => (Told::Ok, Vec::new()),
        Outcome::Exit(code) => (Told::Ok, vec![format!("exit {code}")]),
        Outcome::Left => (Told::Cancelled, vec!["the caller went away".to_owned()]),
        Outcome::Failed(code) => {
            let (outcome, why) = match code {
                ErrorCode::Unauthenticated => (Told::Refused, "not recognised"),
                ErrorCode::Forbidden => (Told::Refused, "not allowed"),
                ErrorCode::TooMany => (Told::Refused, "too often"),
                ErrorCode::Cancelled => (Told::Cancelled, ""),
                ErrorCode::Invalid => (Told::Failed, "asked wrongly"),
                ErrorCode::NotFound => (Told::Failed, "not found"),
                ErrorCode::Conflict => (Told::Failed, "held by something else"),
                ErrorCode::RolledBack => (Told::Failed, "rolled back"),
                ErrorCode::Unavailable => (Told::Failed, "the daemon was not ready"),
                ErrorCode::Failed => (Told::Failed, ""),
                ErrorCode::Internal => (Told::Failed, "a fault of havre"),
            };
            let said = (!why.is_empty()).then(|| why.to_owned());
            (outcome, said.into_iter().collect())
        }
    }
}

fn principal(who: &Who) -> havre_audit::Principal {
    match who {
        Who::Local(peer) => local(peer),
        Who::Token { id, name } => havre_audit::Principal {
            id: Some(id.clone()),
            kind: Kind::Token,
            name: name.clone(),
        },
        Who::Login {
            id,
            issuer,
            subject,
        } => havre_audit::Principal {
            id: Some(id.clone()),
            kind: Kind::Oidc,
            name: format!("{issuer}:{subject}"),
        },
        _ => anonymous(),
    }
}

fn local(peer: &LocalPeer) -> havre_audit::Principal {
    let number = || format!("uid {}", peer.uid);
    havre_audit::Principal {
        id: Some(peer.uid.to_string()),
        kind: Kind::Local,
        name: peer.name.clone().unwrap_or_else(number),
    }
}

fn anonymous() -> havre_audit::Principal {
    havre_audit::Principal {
        id: None,
        kind: Kind::Anonymous,
        name: "nobody".to_owned(),
    }
}

/// Who was not let in.
fn stranger(credential: &Credential) -> havre_audit::Principal {
    match credential {
        Credential::Local(peer) => local(peer),
        Credential::Remote(_) => anonymous(),
    }
}

fn from(credential: &Credential) -> String {
    credential
        .address()
        .map_or("socket".to_owned(), |address| address.to_string())
}

#[cfg(test)]
mod tests;
