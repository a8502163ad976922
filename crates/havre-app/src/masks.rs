//! What is masked in the output of each environment: the values of its secrets.
//!
//! One filter for all containers of an environment, since any may print what another knows (a refused
//! connection names its password). It is made when what its releases have changes, and shared with
//! their shims as memory. Configs are no secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use havre_api::EnvironmentId;
use havre_engine::SharedFilter;
use havre_redact::{Filter, Why};
use havre_release::{Release, ServiceRelease};

use crate::contents::Contents;
use crate::variables::variable_key;

/// Of every environment that has started something.
#[derive(Debug, Default)]
pub(crate) struct Masks(Mutex<BTreeMap<EnvironmentId, Arc<Mask>>>);

/// Of one environment.
#[derive(Debug)]
pub(crate) struct Mask {
    /// Whose contents are masked.
    digests: BTreeSet<String>,
    filter: Filter,
    /// The same for shims.
    pub(crate) shared: SharedFilter,
}

impl Mask {
    fn new(contents: &Contents, digests: BTreeSet<String>) -> io::Result<Self> {
        let mut values = Vec::new();
        for digest in &digests {
            match contents.open(digest) {
                Ok(value) => values.push((digest.as_str(), value)),
                // Of a release that nobody can go back to any more.
                Err(error) if error.is_missing() => {}
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        let values = values.iter().map(|(name, value)| (*name, value.as_slice()));
        let (filter, _) = Filter::new(values);
        Ok(Self {
            shared: SharedFilter::new(&filter)?,
            digests,
            filter,
        })
    }

    /// A text without secrets.
    pub(crate) fn text(&self, text: String) -> String {
        self.filter.redact(&text).unwrap_or(text)
    }
}

impl Masks {
    /// For an environment with these releases, and whether it is another one than before.
    pub(crate) fn of<'a>(
        &self,
        contents: &Contents,
        id: &EnvironmentId,
        releases: impl IntoIterator<Item = &'a Release>,
    ) -> io::Result<(Arc<Mask>, bool)> {
        let digests = digests(releases);
        let mut masks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mask) = masks.get(id).filter(|mask| mask.digests == digests) {
            return Ok((Arc::clone(mask), false));
        }
        let mask = Arc::new(Mask::new(contents, digests)?);
        masks.insert(id.clone(), Arc::clone(&mask));
        Ok((mask, true))
    }

    /// The environment has gone.
    pub(crate) fn forget(&self, id: &EnvironmentId) {
        let mut masks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        masks.remove(id);
    }
}

/// Secrets of a service, as files and as variables: names and digests.
fn secrets_of(config: &ServiceRelease) -> impl Iterator<Item = (&str, &str)> {
    let files = config.service.secrets.iter();
    let files = files.map(|grant| (grant.source.as_str(), grant.target.clone()));
    let variables = config.service.secret_environment.iter();
    let variables = variables.map(|(name, secret)| (secret.as_str(), variable_key(name)));
    files
        .chain(variables)
        .filter_map(|(name, key)| Some((name, config.files.get(&key)?.as_str())))
}

/// Contents of the secrets of all services.
fn digests<'a>(releases: impl IntoIterator<Item = &'a Release>) -> BTreeSet<String> {
    let services = releases
        .into_iter()
        .flat_map(|release| release.services.values());
    services
        .flat_map(|config| secrets_of(config).map(|(_, digest)| digest.to_owned()))
        .collect()
}

/// Secrets of a release, by name, that are not masked or not wholly.
pub(crate) fn unmasked(
    contents: &Contents,
    release: &Release,
) -> io::Result<BTreeMap<String, Why>> {
    let mut found = BTreeMap::new();
    for config in release.services.values() {
        for (name, digest) in secrets_of(config) {
            let content = contents.open(digest).map_err(io::Error::other)?;
            if let Some(why) = havre_redact::judge(&content) {
                found.insert(name.to_owned(), why);
            }
        }
    }
    Ok(found)
}
