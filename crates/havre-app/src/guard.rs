//! Who is let in by the API: by the socket root and the group `havre`, by a token whoever holds it.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use havre_access::{
    Attempts, Failures, Group, Holder, Register, TokenRecord, TooMany, names_of_member,
};
use havre_api::{
    Admission, ApiError, Asked, Credential, Ended, ErrorCode, Grant, Guard, LocalPeer, Outcome,
    Principal, RemotePeer, Role, Who, permit, permit_somewhere,
};
use havre_base::network;

/// Asks the register of tokens and users, and counts who is wrong.
pub(crate) struct Doorkeeper {
    pub(crate) register: Arc<Register>,
    attempts: Mutex<Attempts>,
}

impl Doorkeeper {
    pub(crate) fn new(register: Arc<Register>) -> Self {
        Self {
            register,
            attempts: Mutex::default(),
        }
    }

    /// Calls that came to nothing because of who asked.
    pub(crate) fn failures(&self) -> Failures {
        self.attempts().failures()
    }

    /// Root and the daemon's own user may do everything. So may a member of the group `havre`, unless
    /// they are entered as a user: then what that says.
    fn local(&self, peer: &LocalPeer) -> Result<Principal, ApiError> {
        let grant = match is_owner(peer) {
            true => Some(Grant::everywhere(Role::Admin)),
            false => self.of_group(peer)?,
        };
        let who = Who::Local(peer.clone());
        let known = grant.map(|grant| Principal { who, grant });
        known.ok_or_else(|| {
            self.attempts().failed(None, Instant::now());
            tracing::warn!(
                uid = peer.uid,
                "a user was refused who is not in the group havre"
            );
            let message = "the daemon answers only to root and members of the group havre";
            ApiError::new(ErrorCode::Unauthenticated, message)
                .with_hint("use sudo, or have root run: usermod -aG havre USER")
        })
    }

    fn of_group(&self, peer: &LocalPeer) -> Result<Option<Grant>, ApiError> {
        let unknown = |error| ApiError::from_error(ErrorCode::Internal, &error);
        let group = Group::read().map_err(unknown)?;
        let Some(group) = group else {
            return Ok(None);
        };
        let names = names_of_member(peer.uid, &group).map_err(unknown)?;
        match names.is_empty() {
            true => Ok(None),
            false => self.of_member(peer, &names).map(Some),
        }
    }

    /// What a member may do who has those names now. Whoever cannot be told from one who may do less is refused.
    fn of_member(&self, peer: &LocalPeer, names: &[String]) -> Result<Grant, ApiError> {
        let refused = |why: String, hint: &str| {
            self.attempts().failed(None, Instant::now());
            tracing::warn!(
                uid = peer.uid,
                why,
                "a member of the group havre was refused"
            );
            ApiError::new(ErrorCode::Unauthenticated, why).with_hint(hint)
        };
        // The name that history shows is of when they connected.
        if !peer.name.as_ref().is_some_and(|name| names.contains(name)) {
            let why = format!(
                "the user {} is called otherwise than when this began",
                peer.uid
            );
            return Err(refused(why, "try again"));
        }
        let entered = names
            .iter()
            .filter_map(|name| self.register.local_user(name));
        let mut grants = entered.map(|user| user.grant);
        let Some(grant) = grants.next() else {
            return Ok(Grant::everywhere(Role::Admin));
        };
        if grants.any(|other| other != grant) {
            let names = names.join(", ");
            let why = format!("the user {} is entered as several: {names}", peer.uid);
            let hint = "have root give them the same rights: `havre user add`";
            return Err(refused(why, hint));
        }
        Ok(grant)
    }

    /// A token that holds lets in whatever else comes from that address: it cannot be guessed, and others there,
    /// behind one router, are not to lock it out.
    fn remote(&self, peer: &RemotePeer) -> Result<Principal, ApiError> {
        let refused = |why: String| {
            self.attempts().failed(Some(peer.address), Instant::now());
            tracing::warn!(address = %peer.address, why, "a call was refused");
            ApiError::new(ErrorCode::Unauthenticated, why).with_hint(
                "log in (havre -c NAME login), or have an admin make a token (havre token create)",
            )
        };
        let bearer = peer.bearer.as_ref();
        let known = bearer.map(|bearer| self.register.look_up(bearer, SystemTime::now()));
        let why = match known {
            Some(Ok(known)) => return Ok(principal(known.record)),
            Some(Err(why)) => why.to_string(),
            None => "the call has no token".to_owned(),
        };
        self.may_try(peer.address)?;
        Err(refused(why))
    }

    fn may_try(&self, address: IpAddr) -> Result<(), ApiError> {
        let tried = self.attempts().may_try(address, Instant::now());
        tried.map_err(|wait| too_many("too many wrong tokens came from this address", wait))
    }

    fn attempts(&self) -> MutexGuard<'_, Attempts> {
        // Counters, whole after every statement.
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guard for Doorkeeper {
    fn authenticate(&self, credential: &Credential) -> Result<Principal, ApiError> {
        match credential {
            Credential::Local(peer) => self.local(peer),
            Credential::Remote(peer) => self.remote(peer),
        }
    }

    fn hear(&self, asked: &Asked) -> Result<(), ApiError> {
        // Of another call it was asked when it was found out who makes it.
        if let (None, Some(address)) = (asked.role, asked.address) {
            self.may_try(address)?;
        }
        if let Some(key) = bucket(asked) {
            let called = self.attempts().calls(&key, Instant::now());
            called.map_err(|wait| too_many("too much was asked in a short time", wait))?;
        }
        permit_somewhere(asked)
    }

    fn admit(&self, asked: &Asked) -> Result<Admission, ApiError> {
        permit(asked)?;
        match &asked.principal.who {
            Who::Token { id, .. } | Who::Login { id, .. } => {
                // Revoked since it was looked up.
                let gone = || ApiError::new(ErrorCode::Unauthenticated, "the token was revoked");
                let lost = self.register.lost(id).ok_or_else(gone)?;
                Ok(Admission {
                    lost,
                    ..Admission::default()
                })
            }
            _ => Ok(Admission::default()),
        }
    }

    fn ended(&self, asked: &Asked, ended: Ended) {
        let is_in_vain = match ended.outcome {
            // Counted where it was decided.
            Outcome::Failed(ErrorCode::TooMany) | Outcome::Done | Outcome::Exit(_) => false,
            // Not theirs: the issuer is down, or this daemon fails.
            Outcome::Failed(ErrorCode::Unavailable | ErrorCode::Internal) => false,
            Outcome::Failed(_) | Outcome::Left => true,
        };
        // Of strangers, whatever they were wrong in: each costs a look, and most a line.
        if asked.role.is_none() && is_in_vain {
            self.attempts().failed(asked.address, Instant::now());
        }
        let outcome = match ended.outcome {
            Outcome::Done => "done".to_owned(),
            Outcome::Exit(code) => format!("exit {code}"),
            Outcome::Failed(code) => format!("{code:?}"),
            Outcome::Left => "left".to_owned(),
        };
        tracing::debug!(
            path = asked.path,
            by = %asked.principal,
            subject = asked.subject,
            outcome,
            elapsed = ?ended.elapsed,
            "call ended"
        );
    }
}

/// Who shows a token, and what it lets them do.
fn principal(record: TokenRecord) -> Principal {
    let id = record.id;
    let who = match record.holder {
        Holder::Token => Who::Token {
            id,
            name: record.name,
        },
        Holder::Login { issuer, .. } => Who::Login {
            id,
            issuer,
            subject: record.name,
        },
    };
    Principal {
        who,
        grant: record.grant,
    }
}

/// Whose calls are counted together; root's are not.
fn bucket(asked: &Asked) -> Option<String> {
    match &asked.principal.who {
        Who::Local(peer) if is_owner(peer) => None,
        Who::Local(peer) => Some(format!("uid {}", peer.uid)),
        Who::Token { id, .. } | Who::Login { id, .. } => Some(format!("token {id}")),
        _ => Some(format!("at {:?}", asked.address.map(network))),
    }
}

fn is_owner(peer: &LocalPeer) -> bool {
    peer.uid == 0 || peer.uid == rustix::process::geteuid().as_raw()
}

fn too_many(what: &str, wait: TooMany) -> ApiError {
    let seconds = wait.retry_after.as_secs() + 1;
    let message = format!("{what}: try again in {seconds} s");
    ApiError::new(ErrorCode::TooMany, message)
}

#[cfg(test)]
mod tests;
