//! Contents of secrets and configs that releases need, each sealed in a file, so that a replica can be
//! started again from desired state alone.

mod before;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use havre_base::{Durability, replace};
use havre_secrets::{Scope, Seal, SealedError, SecretError, Secrets};
use zeroize::Zeroizing;

pub(crate) use before::take_over;

/// Why a content is not to be had, or not kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContentsError {
    #[error(transparent)]
    Fingerprint(#[from] SecretError),
    #[error(transparent)]
    Sealed(#[from] SealedError),
    #[error("cannot {attempt} {path}", path = path.display())]
    File {
        attempt: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("`{fingerprint}` stands for no content of {of}: the record that names it was edited")]
    Foreign { of: Scope, fingerprint: String },
}

impl ContentsError {
    /// Whether there is none of that fingerprint.
    pub(crate) fn is_missing(&self) -> bool {
        match self {
            Self::File { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::Fingerprint(_) | Self::Sealed(_) | Self::Foreign { .. } => false,
        }
    }
}

/// Contents by fingerprint, each in a sealed file.
#[derive(Debug)]
pub(crate) struct Contents {
    dir: PathBuf,
    seal: Seal,
    secrets: Secrets,
    /// How many are about to need contents that no release names yet.
    held: Mutex<usize>,
}

/// As long as it is there nothing is removed.
#[derive(Debug)]
pub(crate) struct Held<'a>(&'a Contents);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        *self.0.count() -= 1;
    }
}

/// The right to remove contents: nobody is about to need one, and nobody begins meanwhile.
#[derive(Debug)]
pub(crate) struct Sweep<'a> {
    dir: &'a Path,
    _none_held: MutexGuard<'a, usize>,
}

impl Contents {
    pub(crate) fn new(dir: PathBuf, seal: Seal, secrets: Secrets) -> Self {
        Self {
            dir,
            seal,
            secrets,
            held: Mutex::default(),
        }
    }

    fn count(&self) -> MutexGuard<'_, usize> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be had before contents are kept or looked for, until a release that is written down names
    /// them.
    pub(crate) fn hold(&self) -> Held<'_> {
        *self.count() += 1;
        Held(self)
    }

    /// `None` while somebody is about to need contents. To be had before it is asked which are used.
    pub(crate) fn sweep(&self) -> Option<Sweep<'_>> {
        let none_held = self.count();
        (*none_held == 0).then_some(Sweep {
            dir: &self.dir,
            _none_held: none_held,
        })
    }

    /// What stands for this content in the records of an environment.
    pub(crate) fn fingerprint(&self, of: &Scope, content: &[u8]) -> Result<String, ContentsError> {
        Ok(self.secrets.fingerprint(of, content)?)
    }

    /// Keeps a content for an environment, and returns its fingerprint.
    pub(crate) fn keep(&self, of: &Scope, content: &[u8]) -> Result<String, ContentsError> {
        let fingerprint = self.fingerprint(of, content)?;
        // One that is there and opens is as good; one that was cut off or edited is not.
        if self
            .unsealed(&fingerprint)
            .is_ok_and(|kept| *kept == content)
        {
            return Ok(fingerprint);
        }
        let path = self.path(&fingerprint);
        let error = |source| ContentsError::File {
            attempt: "keep",
            path: path.clone(),
            source,
        };
        let sealed = self.seal.seal(&context(&fingerprint), content)?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .map_err(error)?;
        replace(&path, &sealed, 0o400, Durability::Durable).map_err(error)?;
        Ok(fingerprint)
    }

    /// The content of an environment with this fingerprint. What is another's is not opened: records of releases,
    /// which name contents, are bound to nothing.
    pub(crate) fn open(
        &self,
        of: &Scope,
        fingerprint: &str,
    ) -> Result<Zeroizing<Vec<u8>>, ContentsError> {
        let foreign = || ContentsError::Foreign {
            of: of.clone(),
            fingerprint: fingerprint.to_owned(),
        };
        if !is_fingerprint(fingerprint) {
            return Err(foreign());
        }
        let content = self.unsealed(fingerprint)?;
        match self.secrets.is_fingerprint(of, &content, fingerprint)? {
            true => Ok(content),
            false => Err(foreign()),
        }
    }

    fn unsealed(&self, fingerprint: &str) -> Result<Zeroizing<Vec<u8>>, ContentsError> {
        let path = self.path(fingerprint);
        let sealed = fs::read(&path).map_err(|source| ContentsError::File {
            attempt: "read",
            path,
            source,
        })?;
        Ok(self.seal.open(&context(fingerprint), &sealed)?)
    }

    /// Whether it is there.
    pub(crate) fn has(&self, fingerprint: &str) -> bool {
        self.path(fingerprint).exists()
    }

    /// Seals anew what is under an older key of the seal; one that cannot be is no reason to leave the others.
    pub(crate) fn renew(&self) -> Vec<ContentsError> {
        // What is removed in between would come back.
        let _held = self.hold();
        let error = |source| ContentsError::File {
            attempt: "list",
            path: self.dir.clone(),
            source,
        };
        let entries = match fs::read_dir(&self.dir) {
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Vec::new(),
            Err(source) => return vec![error(source)],
            Ok(entries) => entries,
        };
        let mut left = Vec::new();
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry.file_name(),
                Err(source) => {
                    left.push(error(source));
                    continue;
                }
            };
            if let Some(fingerprint) = entry.to_str().filter(|name| is_fingerprint(name))
                && let Err(error) = self.renew_one(fingerprint)
            {
                left.push(error);
            }
        }
        left
    }

    fn renew_one(&self, fingerprint: &str) -> Result<(), ContentsError> {
        let path = self.path(fingerprint);
        let error = |source| ContentsError::File {
            attempt: "seal anew",
            path: path.clone(),
            source,
        };
        let mut file = File::open(&path).map_err(error)?;
        // Of most its beginning is enough, and there are many MiB of them.
        let mut sealed = Vec::new();
        let beginning = Seal::BEGINNING as u64;
        let read = file.by_ref().take(beginning).read_to_end(&mut sealed);
        read.map_err(error)?;
        if !self.seal.is_outdated(&sealed)? {
            return Ok(());
        }
        file.read_to_end(&mut sealed).map_err(error)?;
        if let Some(anew) = self.seal.renewed(&context(fingerprint), &sealed)? {
            replace(&path, &anew, 0o400, Durability::Durable).map_err(error)?;
        }
        Ok(())
    }

    fn path(&self, fingerprint: &str) -> PathBuf {
        self.dir.join(fingerprint)
    }
}

impl Sweep<'_> {
    /// Removes contents that are not in `used`.
    pub(crate) fn prune(&self, used: &BTreeSet<String>) -> io::Result<()> {
        let entries = match fs::read_dir(self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            if !name.to_str().is_some_and(|name| used.contains(name)) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

fn context(fingerprint: &str) -> String {
    format!("content/{fingerprint}")
}

/// 64 hex digits: the name of a file.
fn is_fingerprint(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests;
