//! An issuer of identities on loopback: it serves its configuration and its keys, and signs what it is told.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use data_encoding::BASE64URL_NOPAD;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use ring::{hmac, rand};
use serde_json::{Value, json};

/// Made for these tests; ring makes no RSA keys.
const RSA: &[u8] = include_bytes!("../data/rsa-test-key.pkcs8");

pub const AUDIENCE: &str = "https://havre.example.org";

/// Signs, by the name of its key.
pub enum Signer {
    Ec(String, Box<EcdsaKeyPair>),
    Rsa(String, Box<RsaKeyPair>),
}

impl Signer {
    pub fn ec(id: &str) -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
        let key = EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random).expect("a key");
        Self::Ec(id.to_owned(), Box::new(key))
    }

    pub fn rsa(id: &str) -> Self {
        let key = RsaKeyPair::from_pkcs8(RSA).expect("a key");
        Self::Rsa(id.to_owned(), Box::new(key))
    }

    fn id(&self) -> &str {
        match self {
            Self::Ec(id, _) | Self::Rsa(id, _) => id,
        }
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Ec(..) => "ES256",
            Self::Rsa(..) => "RS256",
        }
    }

    /// As the issuer publishes it.
    pub fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
        match self {
            Self::Ec(id, key) => {
                let point = key.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "use": "sig", "kid": id,
                       "x": text(&point[1..33]), "y": text(&point[33..])})
            }
            Self::Rsa(id, key) => {
                let public = PublicKeyComponents::<Vec<u8>>::from(key.public());
                let (n, e) = (&public.n, &public.e);
                json!({"kty": "RSA", "alg": "RS256", "use": "sig", "kid": id,
                       "n": text(n), "e": text(e)})
            }
        }
    }

    pub fn sign(&self, claims: &Value) -> String {
        self.sign_as("JWT", claims)
    }

    /// The same as another kind of token.
    pub fn sign_as(&self, kind: &str, claims: &Value) -> String {
        let head = json!({"alg": self.algorithm(), "kid": self.id(), "typ": kind});
        let signed = unsigned(&head, claims);
        let random = rand::SystemRandom::new();
        let signature = match self {
            Self::Ec(_, key) => {
                let signature = key.sign(&random, signed.as_bytes()).expect("signed");
                signature.as_ref().to_vec()
            }
            Self::Rsa(_, key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(
                    &RSA_PKCS1_SHA256,
                    &random,
                    signed.as_bytes(),
                    &mut signature,
                )
                .expect("signed");
                signature
            }
        };
        format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
    }

    /// The same text with the public key as the secret of a MAC: what a verifier believes that lets the
    /// token choose.
    pub fn mac(&self, claims: &Value) -> String {
        let head = json!({"alg": "HS256", "kid": self.id()});
        let signed = unsigned(&head, claims);
        let secret = serde_json::to_vec(&self.jwk()).expect("JSON");
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let mac = hmac::sign(&key, signed.as_bytes());
        format!("{signed}.{}", BASE64URL_NOPAD.encode(mac.as_ref()))
    }
}

/// Head and body of a token.
pub fn unsigned(head: &Value, claims: &Value) -> String {
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    format!("{}.{}", part(head), part(claims))
}

/// The issuer.
pub struct Issuer {
    published: Arc<Published>,
}

#[derive(Default)]
struct Published {
    base: Mutex<String>,
    keys: Mutex<Vec<Value>>,
    asked: AtomicUsize,
    is_down: AtomicBool,
}

impl Issuer {
    pub async fn start(signers: &[&Signer]) -> Self {
        let published = Arc::new(Published::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a port");
        let address = listener.local_addr().expect("an address");
        *lock(&published.base) = format!("http://{address}");
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(configuration))
            .route("/jwks", get(keys))
            .with_state(Arc::clone(&published));
        tokio::spawn(async move { axum::serve(listener, router).await.expect("served") });
        let issuer = Self { published };
        issuer.publish(signers);
        issuer
    }

    pub fn url(&self) -> String {
        lock(&self.published.base).clone()
    }

    /// These are its keys from now on.
    pub fn publish(&self, signers: &[&Signer]) {
        *lock(&self.published.keys) = signers.iter().map(|signer| signer.jwk()).collect();
    }

    /// It claims to be another one.
    pub fn pretend(&self, url: &str) {
        url.clone_into(&mut lock(&self.published.base));
    }

    pub fn is_down(&self, is_down: bool) {
        self.published.is_down.store(is_down, Ordering::Relaxed);
    }

    /// How often its keys were asked for.
    pub fn asked(&self) -> usize {
        self.published.asked.load(Ordering::Relaxed)
    }

    /// What a workflow's token says.
    pub fn claims(&self, id: &str) -> Value {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970")
            .as_secs();
        json!({
            "iss": self.url(), "aud": AUDIENCE, "jti": id,
            "iat": now, "nbf": now, "exp": now + 300,
            "sub": "repo:acme-3/shop-7:ref:refs/heads/main",
            "repository": "acme/shop", "repository_id": "7",
            "repository_owner": "acme", "repository_owner_id": "3",
            "ref": "refs/heads/main", "workflow_ref": "acme/shop/.github/workflows/d.yaml@refs/heads/main",
        })
    }
}

async fn configuration(State(published): State<Arc<Published>>) -> Result<Json<Value>, StatusCode> {
    if published.is_down.load(Ordering::Relaxed) {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    let base = lock(&published.base).clone();
    Ok(Json(
        json!({"issuer": base, "jwks_uri": format!("{base}/jwks")}),
    ))
}

async fn keys(State(published): State<Arc<Published>>) -> Json<Value> {
    published.asked.fetch_add(1, Ordering::Relaxed);
    Json(json!({ "keys": *lock(&published.keys) }))
}

fn lock<T>(value: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
