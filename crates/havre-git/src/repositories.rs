//! The repositories of this machine: made, found, measured, and kept in order.

use std::collections::HashMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use havre_base::{blocking, one_line};

use crate::objects::Objects;
use crate::process::{Call, GitError, Processes};
use crate::settings::Settings;
use crate::{Name, size};

/// What a repository's folder ends with.
const ENDING: &str = ".git";
/// What one ends with while it is made.
const UNFINISHED: &str = ".git.new";
/// What git calls the folders in which it keeps what a push has sent and nobody has accepted yet.
const INCOMING: [&str; 2] = ["tmp_objdir-", "incoming-"];
const MAKING: Duration = Duration::from_secs(30);
/// Longest look after one repository.
const TIDYING: Duration = Duration::from_secs(1800);
/// Loose objects from which on they are packed.
const LOOSE: &str = "gc.auto=2000";

/// Why a repository cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// There are enough.
    #[error("there are {most} repositories already, as many as there may be")]
    TooMany {
        /// How many there may be.
        most: usize,
    },
    /// Its folder cannot be made.
    #[error("cannot make the folder of repository {name}")]
    Folder {
        /// Which.
        name: Name,
        /// The reason.
        source: io::Error,
    },
    /// Git does not make it.
    #[error("cannot make repository {name}")]
    Git {
        /// Which.
        name: Name,
        /// The reason.
        source: GitError,
    },
}

/// The repositories of this machine. Cheap to clone.
#[derive(Clone)]
pub struct Repositories(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    most: usize,
    processes: Processes,
    /// One is made at a time.
    making: tokio::sync::Mutex<()>,
    /// How many pushes each has now.
    busy: Mutex<HashMap<Name, usize>>,
    /// Bytes of each, when it was last looked at: before each push, and by whoever tidies.
    sizes: Mutex<HashMap<Name, u64>>,
}

impl Repositories {
    pub(crate) fn open(settings: &Settings, processes: Processes) -> io::Result<Self> {
        let folder = settings.folder.clone();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)?;
        Ok(Self(Arc::new(Inner {
            folder,
            most: settings.most_repositories,
            processes,
            making: tokio::sync::Mutex::default(),
            busy: Mutex::default(),
            sizes: Mutex::default(),
        })))
    }

    /// Whether there is one of that name.
    pub fn exists(&self, name: &Name) -> bool {
        self.path(name).is_dir()
    }

    /// All of them, by name.
    pub fn names(&self) -> io::Result<Vec<Name>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.0.folder)? {
            let name = entry?.file_name();
            let name = name.to_str().and_then(|name| name.strip_suffix(ENDING));
            names.extend(name.and_then(|name| name.parse().ok()));
        }
        names.sort();
        Ok(names)
    }

    /// What one takes on disk, in bytes.
    pub async fn size(&self, name: &Name) -> io::Result<u64> {
        let path = self.path(name);
        blocking(move || size::of(&path))
            .await
            .map_err(io::Error::other)?
    }

    /// What all take on disk, in bytes, where one takes `size` now: the others as they were when somebody last pushed
    /// to them, or tidied.
    pub(crate) async fn total(&self, name: &Name, size: u64) -> io::Result<u64> {
        self.sizes().insert(name.clone(), size);
        let mut total = 0_u64;
        for other in self.names()? {
            let known = self.sizes().get(&other).copied();
            let bytes = match known {
                Some(bytes) => bytes,
                None => self.measured(&other).await?,
            };
            total = total.saturating_add(bytes);
        }
        Ok(total)
    }

    async fn measured(&self, name: &Name) -> io::Result<u64> {
        let bytes = self.size(name).await?;
        self.sizes().insert(name.clone(), bytes);
        Ok(bytes)
    }

    /// It is looked at once more, when somebody next asks.
    pub(crate) fn has_changed(&self, name: &Name) {
        self.sizes().remove(name);
    }

    fn sizes(&self) -> MutexGuard<'_, HashMap<Name, u64>> {
        // Whole after every statement.
        self.0.sizes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is in one; whether it exists shows when it is read.
    pub fn objects(&self, name: &Name) -> Objects {
        Objects::new(self.0.processes.clone(), self.path(name), None)
    }

    /// Makes one, where there is none: empty, its branch is `main`.
    pub async fn create(&self, name: &Name) -> Result<(), CreateError> {
        let _one = self.0.making.lock().await;
        if self.exists(name) {
            return Ok(());
        }
        let failed = |source| CreateError::Folder {
            name: name.clone(),
            source,
        };
        let most = self.0.most;
        if self.names().map_err(failed)?.len() >= most {
            return Err(CreateError::TooMany { most });
        }
        let unfinished = self.0.folder.join(format!("{name}{UNFINISHED}"));
        self.0.processes.fresh(&unfinished).map_err(failed)?;
        let call = Call {
            args: vec!["--quiet", "--bare", "--template=", "--initial-branch=main"],
            most: 4096,
            within: MAKING,
            ..Call::default()
        };
        let made = self.0.processes.run(unfinished.clone(), "init", call).await;
        let made = made.and_then(|printed| printed.ok("init"));
        made.map_err(|source| CreateError::Git {
            name: name.clone(),
            source,
        })?;
        fs::rename(&unfinished, self.path(name)).map_err(failed)
    }

    /// Packs what has become many files, and removes what nothing leads to any more and what broken pushes left,
    /// of all repositories. Errors are logged: the next time is another.
    pub async fn tidy(&self) {
        let names = match self.names() {
            Ok(names) => names,
            Err(error) => {
                tracing::warn!(%error, "repositories cannot be listed");
                return;
            }
        };
        for name in names {
            if let Err(error) = self.remove_incoming(&name) {
                tracing::warn!(%name, %error, "what a broken push left stays");
            }
            let call = Call {
                settings: vec![LOOSE.to_owned()],
                args: vec!["--auto", "--quiet"],
                most: 65536,
                within: TIDYING,
                ..Call::default()
            };
            let ran = self.0.processes.run(self.path(&name), "gc", call).await;
            self.has_changed(&name);
            if let Err(error) = ran.and_then(|printed| printed.ok("gc")) {
                let error = one_line(&error);
                tracing::warn!(%name, error, "a repository was not tidied");
            }
        }
    }

    /// What pushes have left that were broken off; not while there is one.
    fn remove_incoming(&self, name: &Name) -> io::Result<()> {
        let busy = self.busy();
        if busy.contains_key(name) {
            return Ok(());
        }
        for entry in fs::read_dir(self.path(name).join("objects"))? {
            let entry = entry?;
            let file = entry.file_name();
            let file = file.to_string_lossy();
            let is_incoming = INCOMING.iter().any(|start| file.starts_with(start));
            if is_incoming && entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }

    /// What is there from a daemon that died.
    pub(crate) fn recover(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.0.folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().ends_with(UNFINISHED) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        self.names()?
            .iter()
            .try_for_each(|name| self.remove_incoming(name))
    }

    pub(crate) fn quarantined(&self, name: &Name, incoming: String) -> Objects {
        Objects::new(self.0.processes.clone(), self.path(name), Some(incoming))
    }

    pub(crate) fn path(&self, name: &Name) -> PathBuf {
        self.0.folder.join(format!("{name}{ENDING}"))
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.0.folder
    }

    /// Nothing of a push is removed while this is held.
    pub(crate) fn hold(&self, name: &Name) -> Held {
        *self.busy().entry(name.clone()).or_default() += 1;
        Held {
            name: name.clone(),
            of: self.clone(),
        }
    }

    fn busy(&self) -> MutexGuard<'_, HashMap<Name, usize>> {
        // Whole after every statement.
        self.0.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A push is under way.
pub(crate) struct Held {
    name: Name,
    of: Repositories,
}

impl Drop for Held {
    fn drop(&mut self) {
        // What it brought counts when somebody next asks.
        self.of.has_changed(&self.name);
        let mut busy = self.of.busy();
        if let Some(count) = busy.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                busy.remove(&self.name);
            }
        }
    }
}

/// Whether it is what git calls such a folder, and nothing else.
pub(crate) fn is_incoming(name: &str) -> bool {
    let is_plain = name.len() <= 64
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    is_plain && INCOMING.iter().any(|start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_git_s_own_folder_is_a_quarantine() {
        assert!(is_incoming("tmp_objdir-incoming-Ab3_x"));
        assert!(is_incoming("incoming-abc"));
        for bad in [
            "",
            "..",
            "pack",
            "incoming-/../..",
            "incoming-a:/etc",
            "tmp_objdir-\n",
        ] {
            assert!(!is_incoming(bad), "{bad}");
        }
    }
}
