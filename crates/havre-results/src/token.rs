//! Who a job is: the token that it shows with every call.
//!
//! A JWT, since clients read the ids of run and job from it. What a job may do with caches is in the claim `ac` alone:
//! a list of scopes in the order they are looked through, each with bits for reading (1) and writing (2).

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use ring::hmac;
use serde::{Deserialize, Serialize};

/// Longest life of a token; GitHub's jobs may run for 35 days.
pub const MAX_LIFE: Duration = Duration::from_secs(36 * 24 * 3600);
/// Most bytes of a token.
const MAX_TOKEN: usize = 16 << 10;
/// Most scopes of a grant.
const MAX_SCOPES: usize = 16;
const MAX_ID: usize = 128;
const READ: u8 = 1;
const WRITE: u8 = 2;
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// What a job is given.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The run, one of its own per attempt: letters, digits, `-`, `_`, `.`; at most 128.
    pub run: String,
    /// The job in it, never used again for another: same alphabet. After a dot at its end stands the attempt: artifacts of
    /// an earlier one give way to those of a later.
    pub job: String,
    /// Whose caches it sees: any printable text of at most 128 bytes.
    pub repository: String,
    /// Refs whose caches it sees, in the order they are looked through: its own, the base's, the default branch's; and
    /// whether it may write there. It writes to the first that it may write to.
    pub scopes: Vec<(String, bool)>,
    /// What it may do with caches at all (`cache-mode:` of the workflow).
    pub cache: CacheMode,
    /// When it ends, in seconds since 1970; at most [`MAX_LIFE`] from now.
    pub expires: i64,
}

/// What a job may do with caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheMode {
    /// Restore.
    Read,
    /// Restore and save.
    Write,
    /// Save.
    WriteOnly,
    /// Nothing.
    None,
}

/// A grant that no token can say.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot make a job's token: {0}")]
pub struct GrantError(&'static str);

/// What a token that holds says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) run: String,
    pub(crate) job: String,
    pub(crate) repository: String,
    scopes: Vec<(String, u8)>,
    /// Seconds since 1970.
    pub(crate) expires: i64,
}

impl Caller {
    /// Where it may look, in order.
    pub(crate) fn readable(&self) -> Vec<String> {
        let readable = self.scopes.iter().filter(|(_, bits)| bits & READ != 0);
        readable.map(|(scope, _)| scope.clone()).collect()
    }

    /// Where it writes.
    pub(crate) fn writable(&self) -> Option<&str> {
        let mut writable = self.scopes.iter().filter(|(_, bits)| bits & WRITE != 0);
        writable.next().map(|(scope, _)| scope.as_str())
    }
}

/// Why a token is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("the token is not one of this machine's")]
    Forged,
    #[error("the token has expired")]
    Expired,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    scp: String,
    ac: String,
    repository_id: String,
    iat: i64,
    exp: i64,
}

#[derive(Serialize, Deserialize)]
struct Access {
    #[serde(rename = "Scope")]
    scope: String,
    #[serde(rename = "Permission")]
    permission: u8,
}

/// The token of a grant.
pub(crate) fn sign(key: &hmac::Key, grant: &Grant, now: i64) -> Result<String, GrantError> {
    if !is_id(&grant.run) || !is_id(&grant.job) {
        return Err(GrantError(
            "run and job are 1 to 128 letters, digits, '-', '_' or '.'",
        ));
    }
    let fits =
        |text: &str| !text.is_empty() && text.len() <= 256 && !text.contains(char::is_control);
    if !fits(&grant.repository) || !grant.scopes.iter().all(|(scope, _)| fits(scope)) {
        return Err(GrantError(
            "repository and scopes are 1 to 256 bytes without control characters",
        ));
    }
    if grant.scopes.len() > MAX_SCOPES {
        return Err(GrantError("there are more than 16 scopes"));
    }
    let longest = i64::try_from(MAX_LIFE.as_secs()).unwrap_or(i64::MAX);
    if grant.expires > now.saturating_add(longest) {
        return Err(GrantError("it would live for more than 36 days"));
    }
    let access: Vec<Access> = grant
        .scopes
        .iter()
        .map(|(scope, can_write)| Access {
            scope: scope.clone(),
            permission: permission(grant.cache, *can_write),
        })
        .filter(|access| access.permission != 0)
        .collect();
    let unsayable = |_| GrantError("it is no JSON");
    let claims = Claims {
        iss: "havre".to_owned(),
        scp: format!("Actions.Results:{}:{}", grant.run, grant.job),
        ac: serde_json::to_string(&access).map_err(unsayable)?,
        repository_id: grant.repository.clone(),
        iat: now,
        exp: grant.expires,
    };
    let claims = serde_json::to_vec(&claims).map_err(unsayable)?;
    let header = BASE64URL_NOPAD.encode(HEADER.as_bytes());
    let signed = format!("{header}.{}", BASE64URL_NOPAD.encode(&claims));
    let signature = hmac::sign(key, signed.as_bytes());
    Ok(format!(
        "{signed}.{}",
        BASE64URL_NOPAD.encode(signature.as_ref())
    ))
}

/// What a token says, if it is one that [`sign`] made and its time is not over.
pub(crate) fn verify(key: &hmac::Key, token: &str, now: i64) -> Result<Caller, TokenError> {
    let claims = claims(key, token).ok_or(TokenError::Forged)?;
    if claims.exp <= now {
        return Err(TokenError::Expired);
    }
    caller(claims).ok_or(TokenError::Forged)
}

fn claims(key: &hmac::Key, token: &str) -> Option<Claims> {
    if token.len() > MAX_TOKEN {
        return None;
    }
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).ok()?;
    hmac::verify(key, signed.as_bytes(), &signature).ok()?;
    // Another algorithm is no choice of the caller's.
    if BASE64URL_NOPAD.decode(header.as_bytes()).ok()? != HEADER.as_bytes() {
        return None;
    }
    serde_json::from_slice(&BASE64URL_NOPAD.decode(claims.as_bytes()).ok()?).ok()
}

fn caller(claims: Claims) -> Option<Caller> {
    let (run, job) = claims
        .scp
        .strip_prefix("Actions.Results:")?
        .split_once(':')?;
    let access: Vec<Access> = serde_json::from_str(&claims.ac).ok()?;
    Some(Caller {
        run: run.to_owned(),
        job: job.to_owned(),
        repository: claims.repository_id,
        scopes: access
            .into_iter()
            .map(|access| (access.scope, access.permission))
            .collect(),
        expires: claims.exp,
    })
}

fn permission(mode: CacheMode, can_write: bool) -> u8 {
    let writes = if can_write { WRITE } else { 0 };
    match mode {
        CacheMode::Read => READ,
        CacheMode::Write => READ | writes,
        CacheMode::WriteOnly => writes,
        CacheMode::None => 0,
    }
}

fn is_id(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !text.is_empty() && text.len() <= MAX_ID && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &[byte; 32])
    }

    fn grant(cache: CacheMode) -> Grant {
        Grant {
            run: "7".to_owned(),
            job: "7-2".to_owned(),
            repository: "shop".to_owned(),
            scopes: vec![
                ("refs/heads/x".to_owned(), true),
                ("refs/heads/main".to_owned(), false),
            ],
            cache,
            expires: 100,
        }
    }

    #[test]
    fn a_token_says_what_was_granted_and_no_more() {
        let both = ["refs/heads/x", "refs/heads/main"].as_slice();
        let own = Some("refs/heads/x");
        for (mode, readable, writable) in [
            (CacheMode::Read, both, None),
            (CacheMode::Write, both, own),
            (CacheMode::WriteOnly, &[][..], own),
            (CacheMode::None, &[][..], None),
        ] {
            let token = sign(&key(1), &grant(mode), 0).unwrap();
            let caller = verify(&key(1), &token, 99).unwrap();
            assert_eq!((caller.run.as_str(), caller.job.as_str()), ("7", "7-2"));
            assert_eq!(caller.readable(), readable, "{mode:?}");
            assert_eq!(caller.writable(), writable, "{mode:?}");
        }
    }

    #[test]
    fn what_is_expired_forged_or_of_another_algorithm_is_refused() {
        let token = sign(&key(1), &grant(CacheMode::Write), 0).unwrap();
        let check = |key: &hmac::Key, token: &str, now| verify(key, token, now).unwrap_err();
        assert_eq!(check(&key(1), &token, 100), TokenError::Expired);
        assert_eq!(check(&key(2), &token, 0), TokenError::Forged);
        for at in [3, 60, token.len() - 2] {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(check(&key(1), &changed, 0), TokenError::Forged, "{at}");
        }
        let none = BASE64URL_NOPAD.encode(br#"{"alg":"none","typ":"JWT"}"#);
        let claims = token.split('.').nth(1).unwrap();
        for made in [
            format!("{none}.{claims}."),
            String::new(),
            "a.b.c".to_owned(),
        ] {
            assert_eq!(check(&key(1), &made, 0), TokenError::Forged);
        }
    }

    #[test]
    fn what_no_token_can_say_is_refused() {
        for change in [
            (|grant: &mut Grant| grant.run = "7:8".to_owned()) as fn(&mut Grant),
            |grant| grant.job = "a b".to_owned(),
            |grant| grant.repository = "a\nb".to_owned(),
            |grant| grant.scopes = vec![("x".to_owned(), true); 17],
            |grant| grant.expires = i64::MAX,
        ] {
            let mut grant = grant(CacheMode::Write);
            change(&mut grant);
            assert!(sign(&key(1), &grant, 0).is_err(), "{grant:?}");
        }
    }
}
