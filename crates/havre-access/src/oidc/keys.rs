//! The keys of one issuer, kept for an hour, and asked for again when one is named that is not known.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use tokio::time::{Duration, Instant};

use super::fetch::{FetchError, Fetcher};
use super::jwt::Key;

/// How long keys are believed without asking again.
const FRESH: Duration = Duration::from_secs(3600);
/// However many tokens name keys that are not known, the issuer is asked no more often.
const ASK_EVERY: Duration = Duration::from_secs(30);
/// Keys that are kept.
const MOST: usize = 100;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum NoKey {
    /// The issuer has no key of that name.
    #[error("its issuer has no such key")]
    Unknown,
    /// The issuer could not be asked.
    #[error("the keys of its issuer are not known")]
    Fetch(#[source] FetchError),
    /// It was asked just now, and it came to nothing.
    #[error("the keys of its issuer are not known; it is asked again in {0} s")]
    Later(u64),
}

pub(super) struct Keys {
    fetcher: Fetcher,
    known: Mutex<Known>,
    /// Held while the issuer is asked: once for all who wait.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    keys: HashMap<String, Key>,
    fetched: Option<Instant>,
    asked: Option<Instant>,
}

impl Keys {
    pub(super) fn new(fetcher: Fetcher) -> Self {
        Self {
            fetcher,
            known: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        }
    }

    /// The key of that name.
    pub(super) async fn get(&self, id: &str) -> Result<Key, NoKey> {
        if let Some(key) = self.fresh(id) {
            return Ok(key);
        }
        let _asking = self.asking.lock().await;
        // Somebody may have asked meanwhile.
        if let Some(key) = self.fresh(id) {
            return Ok(key);
        }
        if let Some(wait) = self.too_soon() {
            return match self.with(|known| known.keys.get(id).cloned()) {
                // Not fresh, and the issuer does not answer: believed until it does.
                Some(key) => Ok(key),
                None if self.with(|known| known.fetched == known.asked) => Err(NoKey::Unknown),
                None => Err(NoKey::Later(wait.as_secs() + 1)),
            };
        }
        self.with(|known| known.asked = Some(Instant::now()));
        match self.fetcher.keys().await {
            Ok(set) => {
                let keys = read(&set);
                self.with(|known| {
                    known.keys = keys;
                    known.fetched = known.asked;
                });
                self.with(|known| known.keys.get(id).cloned())
                    .ok_or(NoKey::Unknown)
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "an issuer's keys are not known"
                );
                let old = self.with(|known| known.keys.get(id).cloned());
                old.ok_or(NoKey::Fetch(error))
            }
        }
    }

    fn fresh(&self, id: &str) -> Option<Key> {
        self.with(|known| {
            let fetched = known.fetched?;
            (fetched.elapsed() < FRESH).then(|| known.keys.get(id).cloned())?
        })
    }

    /// How long to wait until the issuer may be asked again.
    fn too_soon(&self) -> Option<Duration> {
        let asked = self.with(|known| known.asked)?;
        ASK_EVERY
            .checked_sub(asked.elapsed())
            .filter(|wait| !wait.is_zero())
    }

    fn with<T>(&self, look: impl FnOnce(&mut Known) -> T) -> T {
        look(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The keys of a JWK Set that can be used; others are left out.
fn read(set: &Value) -> HashMap<String, Key> {
    let keys = set.get("keys").and_then(Value::as_array);
    let keys = keys.into_iter().flatten().take(MOST);
    let named = keys.filter_map(|jwk| {
        let id = jwk.get("kid").and_then(Value::as_str)?;
        Some((id.to_owned(), Key::read(jwk)?))
    });
    named.collect()
}
