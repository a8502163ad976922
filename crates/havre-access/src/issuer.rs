//! This machine as an issuer of identities (OpenID Connect): what it says of its jobs, signed, so that others believe it
//! who know its public keys.
//!
//! ```text
//! claims of a job ─► the newest key that signs (sealed in state.db) ─► JWT, ES256
//! whoever is shown it ─► issuer/.well-known/openid-configuration ─► JWKS: public keys
//! ```
//!
//! A key is published a day before it signs and a day after its last token, so that nobody who keeps what is published
//! meets one that they do not know.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use havre_base::Sealing;
use havre_store::rusqlite::params;
use havre_store::{Store, StoreError};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

/// How long a token holds.
pub const IDENTITY_LIFE: Duration = Duration::from_secs(300);
/// How long one key signs.
const SIGNS_FOR: Duration = Duration::from_secs(90 * 24 * 3600);
/// How long before and after it is published.
const BESIDE: Duration = Duration::from_secs(24 * 3600);
/// How far others' clocks may be behind.
const SKEW: Duration = Duration::from_secs(60);

/// Why there is no token, or no key.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// The database.
    #[error("cannot keep the keys of identity tokens")]
    Store(#[from] StoreError),
    /// The seal is locked, or its key is damaged.
    #[error("the key of identity tokens is sealed: {0}")]
    Sealed(String),
    /// It is no key.
    #[error("the key of identity tokens cannot be used")]
    Key,
    /// The kernel has none.
    #[error("there are no random bytes")]
    Random,
}

/// A key, as people are shown it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerKey {
    /// What tokens call it.
    pub id: String,
    /// When it was made.
    pub made: SystemTime,
    /// From when on it signs.
    pub signs_from: SystemTime,
    point: Vec<u8>,
}

/// Signs what this machine says.
#[derive(Clone)]
pub struct Issuer {
    store: Arc<Store>,
    sealing: Arc<dyn Sealing>,
}

impl Issuer {
    /// With keys in a store that has this crate's tables.
    pub fn new(store: Arc<Store>, sealing: Arc<dyn Sealing>) -> Self {
        Self { store, sealing }
    }

    /// A token with these claims, `iss` and `aud` among them; the times and its own id come to them. Blocks.
    pub fn token(
        &self,
        mut claims: Map<String, Value>,
        now: SystemTime,
    ) -> Result<String, IssuerError> {
        let key = self.signing(now)?;
        let opened = self.sealing.open(&context(&key.id), &self.sealed(&key.id)?);
        let pkcs8 = zeroize::Zeroizing::new(opened.map_err(IssuerError::Sealed)?);
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8, &random);
        let pair = pair.map_err(|_| IssuerError::Key)?;
        let mut id = [0; 16];
        random.fill(&mut id).map_err(|_| IssuerError::Random)?;
        let seconds = |at: SystemTime| millis(at) / 1000;
        claims.insert("jti".to_owned(), json!(HEXLOWER.encode(&id)));
        claims.insert("iat".to_owned(), json!(seconds(now)));
        claims.insert("nbf".to_owned(), json!(seconds(now - SKEW)));
        claims.insert("exp".to_owned(), json!(seconds(now + IDENTITY_LIFE)));
        let head = json!({"typ": "JWT", "alg": "ES256", "kid": key.id});
        let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let signed = format!("{}.{}", part(&head), part(&Value::Object(claims)));
        let signature = pair.sign(&random, signed.as_bytes());
        let signature = signature.map_err(|_| IssuerError::Key)?;
        let signature = BASE64URL_NOPAD.encode(signature.as_ref());
        Ok(format!("{signed}.{signature}"))
    }

    /// The keys that are published, the newest first. Blocks.
    pub fn keys(&self, now: SystemTime) -> Result<Vec<IssuerKey>, IssuerError> {
        let all = self.all()?;
        let mut published = Vec::new();
        let mut followed: Option<SystemTime> = None;
        for key in all {
            let is_over = followed.is_some_and(|from| now >= from + BESIDE);
            followed = Some(key.signs_from);
            if !is_over {
                published.push(key);
            }
        }
        Ok(published)
    }

    /// The same as a JWK Set (RFC 7517). Blocks.
    pub fn published(&self, now: SystemTime) -> Result<Value, IssuerError> {
        let keys = self.keys(now)?;
        let keys: Vec<Value> = keys.iter().map(IssuerKey::published).collect();
        Ok(json!({ "keys": keys }))
    }

    /// Another key signs from now on, and no other one is believed any more. Blocks.
    pub fn rotate(&self, now: SystemTime) -> Result<IssuerKey, IssuerError> {
        self.make(now, now, true)
    }

    /// Seals keys anew that are under an older root key. Blocks.
    pub fn seal_anew(&self) -> Result<(), IssuerError> {
        for key in self.all()? {
            let before = self.sealed(&key.id)?;
            let after = self.sealing.renewed(&context(&key.id), &before);
            let Some(after) = after.map_err(IssuerError::Sealed)? else {
                continue;
            };
            self.store.run("seal a key anew", move |db| {
                let update = "UPDATE access_issuer_keys SET sealed = ?2 WHERE id = ?1";
                db.execute(update, params![key.id, after]).map(drop)
            })?;
        }
        Ok(())
    }

    /// The key that signs now; its successor is made in time.
    fn signing(&self, now: SystemTime) -> Result<IssuerKey, IssuerError> {
        let all = self.all()?;
        let signing = all.iter().find(|key| key.signs_from <= now);
        let Some(signing) = signing else {
            // One that is to sign later cannot be the only one: the clock was set back.
            return self.make(now, now, false);
        };
        let is_newest = all.first() == Some(signing);
        if is_newest && now >= signing.signs_from + (SIGNS_FOR - BESIDE) {
            self.make(now, now + BESIDE, false)?;
        }
        Ok(signing.clone())
    }

    fn make(
        &self,
        now: SystemTime,
        signs_from: SystemTime,
        alone: bool,
    ) -> Result<IssuerKey, IssuerError> {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random);
        let pkcs8 = pkcs8.map_err(|_| IssuerError::Random)?;
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random);
        let pair = pair.map_err(|_| IssuerError::Key)?;
        let point = pair.public_key().as_ref().to_vec();
        let id = HEXLOWER.encode(&Sha256::digest(&point)[..16]);
        let sealed = self.sealing.seal(&context(&id), pkcs8.as_ref());
        let sealed = sealed.map_err(IssuerError::Sealed)?;
        let key = IssuerKey {
            id,
            made: now,
            signs_from,
            point,
        };
        let (row, over) = (key.clone(), millis(now - (SIGNS_FOR + BESIDE + BESIDE)));
        self.store.run("keep a key of identity tokens", move |db| {
            let change = db.transaction()?;
            match alone {
                true => change.execute("DELETE FROM access_issuer_keys", [])?,
                false => change.execute(
                    "DELETE FROM access_issuer_keys WHERE signs_from < ?1",
                    [over],
                )?,
            };
            change.execute(
                "INSERT INTO access_issuer_keys (id, point, sealed, made_at, signs_from)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    row.id,
                    row.point,
                    sealed,
                    millis(row.made),
                    millis(row.signs_from)
                ],
            )?;
            change.commit()
        })?;
        Ok(key)
    }

    fn all(&self) -> Result<Vec<IssuerKey>, StoreError> {
        self.store.run("read the keys of identity tokens", |db| {
            db.prepare(
                "SELECT id, point, made_at, signs_from FROM access_issuer_keys
                 ORDER BY signs_from DESC, made_at DESC",
            )?
            .query_map([], |row| {
                Ok(IssuerKey {
                    id: row.get(0)?,
                    point: row.get(1)?,
                    made: time(row.get(2)?),
                    signs_from: time(row.get(3)?),
                })
            })?
            .collect()
        })
    }

    fn sealed(&self, id: &str) -> Result<Vec<u8>, StoreError> {
        let id = id.to_owned();
        self.store.run("read a key of identity tokens", move |db| {
            let select = "SELECT sealed FROM access_issuer_keys WHERE id = ?1";
            db.query_row(select, [id], |row| row.get(0))
        })
    }
}

impl IssuerKey {
    fn published(&self) -> Value {
        let half = self.point.len().saturating_sub(1) / 2;
        let coordinate = |from: usize| {
            let part = self.point.get(from..from + half).unwrap_or_default();
            BASE64URL_NOPAD.encode(part)
        };
        json!({
            "kty": "EC",
            "crv": "P-256",
            "alg": "ES256",
            "use": "sig",
            "kid": self.id,
            "x": coordinate(1),
            "y": coordinate(1 + half),
        })
    }
}

/// What an issuer at this address publishes of itself (OpenID Connect Discovery 1.0). Pure.
pub fn discovery(issuer: &str) -> Value {
    json!({
        "issuer": issuer,
        "jwks_uri": format!("{issuer}/.well-known/jwks"),
        "subject_types_supported": ["public"],
        "response_types_supported": ["id_token"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "scopes_supported": ["openid"],
        "claims_supported": [
            "actor", "actor_id", "aud", "base_ref", "environment", "event_name", "exp", "head_ref", "iat", "iss",
            "job_workflow_ref", "job_workflow_sha", "jti", "nbf", "ref", "ref_protected", "ref_type", "repository",
            "repository_id", "repository_owner", "repository_owner_id", "repository_visibility", "run_attempt",
            "run_id", "run_number", "runner_environment", "sha", "sub", "workflow", "workflow_ref", "workflow_sha",
        ],
    })
}

fn context(id: &str) -> String {
    format!("identity/{id}")
}

fn millis(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn time(millis: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oidc::verified_by;

    /// Fake: turns each byte over.
    struct Turned;

    impl Sealing for Turned {
        fn seal(&self, context: &str, plain: &[u8]) -> Result<Vec<u8>, String> {
            Ok([context.as_bytes(), b"\0", &turned(plain)].concat())
        }

        fn open(&self, context: &str, sealed: &[u8]) -> Result<Vec<u8>, String> {
            let rest = sealed.strip_prefix(context.as_bytes());
            let rest = rest.and_then(|rest| rest.strip_prefix(b"\0"));
            rest.map(turned).ok_or_else(|| "another's".to_owned())
        }

        fn renewed(&self, _: &str, _: &[u8]) -> Result<Option<Vec<u8>>, String> {
            Ok(None)
        }
    }

    fn turned(bytes: &[u8]) -> Vec<u8> {
        bytes.iter().map(|byte| !byte).collect()
    }

    fn issuer(folder: &tempfile::TempDir) -> Issuer {
        let store = Store::open(&folder.path().join("state.db"), &[crate::SCHEMA]);
        Issuer::new(Arc::new(store.expect("a database")), Arc::new(Turned))
    }

    fn claims() -> Map<String, Value> {
        let claims = json!({"iss": "https://example.org", "aud": "x", "sub": "repo:shop/shop:ref:refs/heads/main"});
        claims.as_object().cloned().expect("an object")
    }

    fn days(count: u64) -> Duration {
        Duration::from_secs(count * 24 * 3600)
    }

    #[test]
    fn a_token_is_believed_by_who_knows_what_is_published() {
        let folder = tempfile::tempdir().expect("a folder");
        let issuer = issuer(&folder);
        let now = SystemTime::now();
        assert_eq!(issuer.published(now).expect("read"), json!({"keys": []}));
        let token = issuer.token(claims(), now).expect("signed");
        let published = issuer.published(now).expect("read");
        assert_eq!(verified_by(&token, &published, "x", now), Ok(()));
        assert!(verified_by(&token, &published, "y", now).is_err());
        assert!(verified_by(&token, &published, "x", now + Duration::from_secs(600)).is_err());
        let other = issuer.token(claims(), now).expect("signed");
        assert_ne!(token, other, "each has an id of its own");
    }

    #[test]
    fn a_key_is_published_before_it_signs_and_after() {
        let folder = tempfile::tempdir().expect("a folder");
        let issuer = issuer(&folder);
        let begin = SystemTime::now();
        issuer.token(claims(), begin).expect("signed");
        let first = issuer.keys(begin).expect("read");
        assert_eq!(first.len(), 1);
        let before = begin + days(89);
        let token = issuer.token(claims(), before).expect("signed");
        let both = issuer.published(before).expect("read");
        assert_eq!(both["keys"].as_array().expect("keys").len(), 2);
        assert_eq!(
            verified_by(&token, &json!({"keys": [both["keys"][1]]}), "x", before),
            Ok(())
        );
        let after = begin + days(90) + Duration::from_secs(1);
        let token = issuer.token(claims(), after).expect("signed");
        assert_eq!(
            verified_by(&token, &json!({"keys": [both["keys"][0]]}), "x", after),
            Ok(())
        );
        assert_eq!(issuer.keys(after).expect("read").len(), 2);
        let later = begin + days(92);
        issuer.token(claims(), later).expect("signed");
        assert_eq!(issuer.keys(later).expect("read").len(), 1);
    }

    #[test]
    fn a_rotation_leaves_no_earlier_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let issuer = issuer(&folder);
        let now = SystemTime::now();
        let token = issuer.token(claims(), now).expect("signed");
        issuer.rotate(now).expect("rotated");
        let published = issuer.published(now).expect("read");
        assert!(verified_by(&token, &published, "x", now).is_err());
        let token = issuer.token(claims(), now).expect("signed");
        assert_eq!(verified_by(&token, &published, "x", now), Ok(()));
    }
}
