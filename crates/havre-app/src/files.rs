//! Small files that containers get: secrets and configs, kept by content so that a replica can be
//! started again from desired state alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use havre_base::{Durability, replace};
use havre_model::{Allow, FileSource, Project, Service, ServiceName, host_path};
use havre_secrets::{Scope, SecretError, Secrets};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// Most bytes of a secret or config, as in Docker Swarm.
const MAX_BYTES: u64 = 1024 * 1024;

/// Why a secret or config is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("cannot read {path}, the source of {kind} `{name}`", path = path.display())]
    Read {
        kind: &'static str,
        name: String,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "{kind} `{name}` leads to {real}, which is read only with `allow: [host-paths]` in havre.yaml",
        real = real.display()
    )]
    NotAllowed {
        kind: &'static str,
        name: String,
        real: PathBuf,
    },
    #[error("{kind} `{name}` cannot be had from the machine's store")]
    Stored {
        kind: &'static str,
        name: String,
        source: SecretError,
    },
    #[error(transparent)]
    Name { source: havre_secrets::NameError },
    #[error("{kind} `{name}` is larger than {MAX_BYTES} bytes")]
    TooLarge { kind: &'static str, name: String },
    #[error("cannot keep {kind} `{name}` in {path}", path = path.display())]
    Keep {
        kind: &'static str,
        name: String,
        path: PathBuf,
        source: io::Error,
    },
}

/// What the machine's store has for an environment.
pub(crate) struct Stored<'a> {
    pub(crate) secrets: &'a Secrets,
    pub(crate) scope: Scope,
}

impl Stored<'_> {
    fn read(&self, kind: &'static str, name: &str) -> Result<Vec<u8>, FileError> {
        let error = |source| FileError::Stored {
            kind,
            name: name.to_owned(),
            source,
        };
        let parsed = name.parse().map_err(|source| FileError::Name { source })?;
        let value = self.secrets.resolve(&self.scope, &parsed).map_err(error)?;
        Ok(value.plain.to_vec())
    }
}

/// Which files a service may have read for it: the reader is root.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    /// The project's folder, without links.
    own: PathBuf,
    /// havre.yaml lets it have the machine's.
    host_paths: bool,
    /// The project was sent: nothing outside of its folder is its own, wherever links in it lead.
    sent: bool,
}

impl Reach {
    /// What is read for several services at once must be allowed to each.
    pub(crate) fn new<'a>(
        project: &Project,
        services: impl IntoIterator<Item = &'a Service>,
    ) -> Self {
        let mut services = services.into_iter().peekable();
        let any = services.peek().is_some();
        let own = &project.directory;
        Self {
            // A link of the project's folder itself leads to where its files are.
            own: fs::canonicalize(own).unwrap_or_else(|_| own.clone()),
            host_paths: any && services.all(|service| service.allow.contains(&Allow::HostPaths)),
            sent: project.sent,
        }
    }

    /// Whether what is open at this path, without links, may be read.
    pub(crate) fn covers(&self, real: &Path) -> bool {
        match self.sent {
            true => real.starts_with(&self.own),
            false => self.host_paths || host_path::endangered_by_reading(real, &self.own).is_none(),
        }
    }
}

/// Contents by digest, each in a file that only root can read.
#[derive(Debug)]
pub(crate) struct FileVault {
    dir: PathBuf,
    /// How many are about to need contents that no release names yet.
    held: Mutex<usize>,
}

/// As long as it is there nothing is removed.
#[derive(Debug)]
pub(crate) struct Held<'a>(&'a FileVault);

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

impl FileVault {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
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

    /// Keeps the content of `source` and returns its digest.
    pub(crate) fn keep(
        &self,
        kind: &'static str,
        name: &str,
        source: &FileSource,
        reach: &Reach,
        stored: &Stored<'_>,
    ) -> Result<String, FileError> {
        let (content, digest) = content(kind, name, source, reach, stored)?;
        let path = self.path(&digest);
        let error = |source| FileError::Keep {
            kind,
            name: name.to_owned(),
            path: self.dir.clone(),
            source,
        };
        if !path.exists() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&self.dir)
                .map_err(error)?;
            replace(&path, &content, 0o400, Durability::Durable).map_err(error)?;
        }
        Ok(digest)
    }

    /// The content with `digest`.
    pub(crate) fn read(&self, digest: &str) -> io::Result<Zeroizing<Vec<u8>>> {
        fs::read(self.path(digest)).map(Zeroizing::new)
    }

    /// Where the content with `digest` is.
    pub(crate) fn path(&self, digest: &str) -> PathBuf {
        self.dir.join(digest)
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
            if !entry
                .file_name()
                .to_str()
                .is_some_and(|name| used.contains(name))
            {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

/// Keeps the secrets and configs of a project and returns their digests by service and target.
pub(crate) fn keep_files(
    vault: &FileVault,
    project: &Project,
    stored: &Stored<'_>,
) -> Result<FileDigests, FileError> {
    files_of(project, |kind, name, source, reach| {
        vault.keep(kind, name, source, reach, stored)
    })
}

/// As [`keep_files`], keeping nothing.
pub(crate) fn file_digests(
    project: &Project,
    stored: &Stored<'_>,
) -> Result<FileDigests, FileError> {
    files_of(project, |kind, name, source, reach| {
        Ok(content(kind, name, source, reach, stored)?.1)
    })
}

/// Where the digest of a variable's value stands among those of files.
pub(crate) fn variable_key(name: &str) -> String {
    format!("${name}")
}

/// A variable's value: a secret's content, without the line end that a file has.
pub(crate) fn variable_value(content: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(content).ok()?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    (!text.contains('\0')).then_some(text)
}

/// Content digests by service and target, or variable.
type FileDigests = BTreeMap<ServiceName, BTreeMap<String, String>>;

fn files_of(
    project: &Project,
    digest: impl Fn(&'static str, &str, &FileSource, &Reach) -> Result<String, FileError>,
) -> Result<FileDigests, FileError> {
    let mut digests = FileDigests::new();
    for (name, service) in &project.services {
        let own = digests.entry(name.clone()).or_default();
        let reach = Reach::new(project, [service]);
        for (kind, grants, sources) in [
            ("secret", &service.secrets, &project.secrets),
            ("config", &service.configs, &project.configs),
        ] {
            for grant in grants {
                if let Some(source) = sources.get(&grant.source) {
                    own.insert(
                        grant.target.clone(),
                        digest(kind, &grant.source, source, &reach)?,
                    );
                }
            }
        }
        for (variable, secret) in &service.secret_environment {
            if let Some(source) = project.secrets.get(secret) {
                own.insert(
                    variable_key(variable),
                    digest("secret", secret, source, &reach)?,
                );
            }
        }
    }
    Ok(digests)
}

/// The content of `source` and its digest, the name in the vault.
pub(crate) fn content(
    kind: &'static str,
    name: &str,
    source: &FileSource,
    reach: &Reach,
    stored: &Stored<'_>,
) -> Result<(Vec<u8>, String), FileError> {
    let content = match source {
        FileSource::File { path } => read_small(kind, name, path, reach)?,
        FileSource::Sent { content, .. } => content.clone(),
        FileSource::Environment { value, .. } => value.clone().into_bytes(),
        FileSource::Content { content } => content.clone().into_bytes(),
        FileSource::Store { name: secret } => stored.read(kind, secret)?,
    };
    let digest = Sha256::digest(&content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok((content, digest))
}

fn read_small(
    kind: &'static str,
    name: &str,
    path: &Path,
    reach: &Reach,
) -> Result<Vec<u8>, FileError> {
    let error = |source| FileError::Read {
        kind,
        name: name.to_owned(),
        path: path.to_owned(),
        source,
    };
    let file = havre_image::regular::open(path).map_err(error)?;
    // Where it is now: a link may have taken the place of what was looked at with the files.
    let real = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(error)?;
    if !reach.covers(&real) {
        return Err(FileError::NotAllowed {
            kind,
            name: name.to_owned(),
            real,
        });
    }
    let mut content = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut content)
        .map_err(error)?;
    if content.len() as u64 > MAX_BYTES {
        return Err(FileError::TooLarge {
            kind,
            name: name.to_owned(),
        });
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_goes_while_somebody_is_about_to_need_it() {
        let folder = tempfile::tempdir().unwrap();
        let vault = FileVault::new(folder.path().join("secrets"));
        let content = FileSource::Content {
            content: "a secret".to_owned(),
        };
        let reach = Reach {
            own: folder.path().to_owned(),
            host_paths: false,
            sent: false,
        };
        let world = crate::fake::Stage::new();
        let stored = world.stored_secrets("production");
        let first = vault.hold();
        let digest = vault
            .keep("secret", "password", &content, &reach, &stored)
            .unwrap();
        let second = vault.hold();
        drop(first);
        assert!(vault.sweep().is_none());
        drop(second);
        let used = BTreeSet::from([digest.clone()]);
        vault.sweep().unwrap().prune(&used).unwrap();
        assert!(vault.path(&digest).exists());
        vault.sweep().unwrap().prune(&BTreeSet::new()).unwrap();
        assert!(!vault.path(&digest).exists());
    }

    #[test]
    fn a_link_that_takes_the_place_of_a_secret_gives_nothing_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let source = FileSource::File { path: path.clone() };
        let world = crate::fake::Stage::new();
        let stored = world.stored_secrets("production");
        let reach = |host_paths, sent| Reach {
            own: folder.path().to_owned(),
            host_paths,
            sent,
        };
        let read_as =
            |reach| content("secret", "password", &source, &reach, &stored).map(|read| read.0);
        let read = |host_paths| read_as(reach(host_paths, false));
        fs::write(&path, "mine").unwrap();
        assert_eq!(read(false).unwrap(), b"mine");
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/shadow", &path).unwrap();
        assert!(matches!(read(false), Err(FileError::NotAllowed { .. })));
        assert!(read(true).is_ok());
        // What was sent leads nowhere else, whatever it says of itself.
        let refused = read_as(reach(true, true));
        assert!(matches!(refused, Err(FileError::NotAllowed { .. })));
    }
}
