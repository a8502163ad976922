//! A signed token of OpenID Connect: its parts, and what each must be. Pure.
//!
//! Two algorithms are known, both with a public key; the key says which one it is for. A token can choose
//! neither another nor none.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::BASE64URL_NOPAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde_json::{Map, Value};

/// Most bytes of a token.
const MAX_BYTES: usize = 16 * 1024;
/// How far the clocks of issuer and machine may be apart.
const SKEW: Duration = Duration::from_secs(60);

/// Why a token proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// It has not the form of a signed token.
    #[error("it is no signed token: {0}")]
    Malformed(&'static str),
    /// Signed in a way that is not known, or not at all.
    #[error("it is signed by {0:?}; only RS256 and ES256 are taken")]
    Algorithm(String),
    /// The signature is not the key's.
    #[error("its signature is wrong")]
    Signature,
    /// It is for somebody else.
    #[error("it is not for {0:?} (its audience)")]
    Audience(String),
    /// Its time is over.
    #[error("it has expired, or this machine's clock is wrong")]
    Expired,
    /// Its time has not come.
    #[error("it holds from later on, or this machine's clock is wrong")]
    TooEarly,
}

/// How a token is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Es256,
}

/// A token that was taken apart; nothing in it is proven.
pub(super) struct Claimed<'a> {
    pub(super) algorithm: Algorithm,
    /// Which key it says that it is signed with.
    pub(super) key_id: String,
    pub(super) claims: Map<String, Value>,
    /// What is signed.
    pub(super) signed: &'a str,
    signature: Vec<u8>,
}

/// A key of an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// An uncompressed point of P-256.
    P256(Vec<u8>),
}

/// Takes a token apart.
pub(super) fn read(text: &str) -> Result<Claimed<'_>, Unproven> {
    if text.len() > MAX_BYTES {
        return Err(Unproven::Malformed("it is too long"));
    }
    let (signed, signature) = text
        .rsplit_once('.')
        .ok_or(Unproven::Malformed("it has not three parts"))?;
    let (head, body) = signed
        .split_once('.')
        .filter(|(_, body)| !body.contains('.'))
        .ok_or(Unproven::Malformed("it has not three parts"))?;
    let head = object(head)?;
    let text = |name| head.get(name).and_then(Value::as_str);
    let algorithm = match text("alg").unwrap_or_default() {
        "RS256" => Algorithm::Rs256,
        "ES256" => Algorithm::Es256,
        other => return Err(Unproven::Algorithm(other.chars().take(20).collect())),
    };
    // It lets its holder use an interface; it does not say who they are (RFC 9068).
    let kind = text("typ").unwrap_or_default().to_ascii_lowercase();
    if matches!(kind.as_str(), "at+jwt" | "application/at+jwt") {
        return Err(Unproven::Malformed(
            "it is an access token, and no ID token",
        ));
    }
    if head.contains_key("crit") {
        return Err(Unproven::Malformed("its head demands what is not known"));
    }
    let key_id = text("kid").filter(|id| !id.is_empty() && id.len() <= 256);
    let key_id = key_id.ok_or(Unproven::Malformed("it does not say with which key"))?;
    let key_id = key_id.to_owned();
    Ok(Claimed {
        algorithm,
        key_id,
        claims: object(body)?,
        signed,
        signature: decoded(signature)?,
    })
}

impl Claimed<'_> {
    /// A claim that is a text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.claims.get(name).and_then(Value::as_str)
    }

    /// Whether it is signed with that key, and in the way that the key is for.
    pub(super) fn verify(&self, key: &Key) -> Result<(), Unproven> {
        let (signed, signature) = (self.signed.as_bytes(), &self.signature);
        let verified = match (self.algorithm, key) {
            (Algorithm::Rs256, Key::Rsa { modulus, exponent }) => {
                let key = RsaPublicKeyComponents {
                    n: modulus,
                    e: exponent,
                };
                key.verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature)
            }
            (Algorithm::Es256, Key::P256(point)) => {
                let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
                key.verify(signed, signature)
            }
            (Algorithm::Rs256, Key::P256(_)) | (Algorithm::Es256, Key::Rsa { .. }) => {
                return Err(Unproven::Signature);
            }
        };
        verified.map_err(|_| Unproven::Signature)
    }

    /// Whether it is for us and of this time; until when it is.
    pub(super) fn holds(
        &self,
        audience: &str,
        client_id: Option<&str>,
        now: SystemTime,
    ) -> Result<SystemTime, Unproven> {
        let (is_for_us, has_others) = match self.claims.get("aud") {
            Some(Value::String(one)) => (one == audience, false),
            Some(Value::Array(all)) => (
                all.iter().any(|one| one.as_str() == Some(audience)),
                all.iter().any(|one| one.as_str() != Some(audience)),
            ),
            _ => (false, false),
        };
        // Of one that is for others too it is said to whom it was given (OpenID Connect Core, 3.1.3.7).
        let is_given_to_us = !has_others
            || self
                .text("azp")
                .is_some_and(|to| to == audience || Some(to) == client_id);
        if !is_for_us || !is_given_to_us {
            return Err(Unproven::Audience(audience.to_owned()));
        }
        let expires = self.time("exp")?;
        let expires = expires.ok_or(Unproven::Malformed("it never expires"))?;
        if now >= expires + SKEW {
            return Err(Unproven::Expired);
        }
        let issued = self.time("iat")?;
        let issued = issued.ok_or(Unproven::Malformed("it does not say since when it holds"))?;
        let begins = self
            .time("nbf")?
            .map_or(issued, |begins| begins.max(issued));
        if begins > now + SKEW {
            return Err(Unproven::TooEarly);
        }
        Ok(expires)
    }

    /// A moment in seconds since 1970, with or without a fraction.
    fn time(&self, name: &str) -> Result<Option<SystemTime>, Unproven> {
        let Some(value) = self.claims.get(name) else {
            return Ok(None);
        };
        // Up to the year 9999: nothing overflows.
        let seconds = value
            .as_f64()
            .filter(|s| (0.0..253_402_300_800.0).contains(s));
        let seconds = seconds.ok_or(Unproven::Malformed("it has a time that is none"))?;
        Ok(Some(UNIX_EPOCH + Duration::from_secs_f64(seconds)))
    }
}

impl Key {
    /// A key of a JWK Set that signatures can be verified with; `None` for any other.
    pub(super) fn read(jwk: &Value) -> Option<Self> {
        let text = |name| jwk.get(name).and_then(Value::as_str);
        let bytes = |name| text(name).and_then(|value| decoded(value).ok());
        let is_for = |algorithm| text("alg").is_none_or(|alg| alg == algorithm);
        if text("use").is_some_and(|usage| usage != "sig") {
            return None;
        }
        match text("kty")? {
            "RSA" if is_for("RS256") => Some(Self::Rsa {
                modulus: bytes("n")?,
                exponent: bytes("e")?,
            }),
            "EC" if is_for("ES256") && text("crv") == Some("P-256") => {
                let (x, y) = (bytes("x")?, bytes("y")?);
                let whole = x.len() == 32 && y.len() == 32;
                whole.then(|| Self::P256([&[4][..], &x, &y].concat()))
            }
            _ => None,
        }
    }
}

fn object(part: &str) -> Result<Map<String, Value>, Unproven> {
    let no_object = Unproven::Malformed("a part of it is no JSON object");
    match serde_json::from_slice(&decoded(part)?) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) | Err(_) => Err(no_object),
    }
}

fn decoded(text: &str) -> Result<Vec<u8>, Unproven> {
    let decoded = BASE64URL_NOPAD.decode(text.as_bytes());
    decoded.map_err(|_| Unproven::Malformed("a part of it is not base64url"))
}
