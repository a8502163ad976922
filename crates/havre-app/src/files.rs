//! Small files that containers get: secrets and configs, from where the project says that they come.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use havre_api::EnvironmentId;
use havre_engine::{Confidential, MAX_CONFIDENTIAL};
use havre_model::{Allow, FileSource, Project, Service, ServiceName, host_path};
use havre_secrets::{Scope, SecretError, SecretName};
use zeroize::Zeroizing;

use crate::contents::ContentsError;
use crate::platform::Platform;
use crate::root::{OwnFolders, Root};
use crate::secrets::needed::Values;
use crate::secrets::scope::scope_of;
use crate::variables::{NoVariable, variable_key, variable_value};

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
    #[error("secret `{name}` cannot be variable `{variable}` of service `{service}`")]
    Variable {
        name: String,
        variable: String,
        service: ServiceName,
        source: NoVariable,
    },
    #[error(
        "secrets and configs of service `{service}` take {bytes} bytes; a container gets at most {MAX_CONFIDENTIAL}"
    )]
    TooMuch { service: ServiceName, bytes: u64 },
    #[error("cannot keep {kind} `{name}`")]
    Keep {
        kind: &'static str,
        name: String,
        source: ContentsError,
    },
}

/// What the machine's store has for an environment.
pub(crate) type Stored<'a> = &'a dyn Fn(&SecretName) -> Result<Zeroizing<Vec<u8>>, SecretError>;

fn read_stored(
    stored: Stored<'_>,
    kind: &'static str,
    name: &str,
) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let error = |source| FileError::Stored {
        kind,
        name: name.to_owned(),
        source,
    };
    let parsed = name.parse().map_err(|source| FileError::Name { source })?;
    stored(&parsed).map_err(error)
}

/// Which files a service may have read for it: the reader is root.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    /// The project's folder, without links.
    own: PathBuf,
    /// What is Havre's, wherever its folders are.
    of_havre: OwnFolders,
    /// havre.yaml lets it have the machine's.
    host_paths: bool,
    /// The project was sent: nothing outside of its folder is its own, wherever links in it lead.
    sent: bool,
}

impl Reach {
    /// What is read for several services at once must be allowed to each.
    pub(crate) fn new<'a>(
        root: &Root,
        project: &Project,
        services: impl IntoIterator<Item = &'a Service>,
    ) -> Self {
        let mut services = services.into_iter().peekable();
        let any = services.peek().is_some();
        let own = &project.directory;
        Self {
            // A link of the project's folder itself leads to where its files are.
            own: fs::canonicalize(own).unwrap_or_else(|_| own.clone()),
            of_havre: root.own_folders(),
            host_paths: any && services.all(|service| service.allow.contains(&Allow::HostPaths)),
            sent: project.sent,
        }
    }

    /// Whether what is open at this path, without links, may be read.
    pub(crate) fn covers(&self, real: &Path) -> bool {
        match self.sent {
            true => real.starts_with(&self.own),
            false => {
                let endangered = || host_path::endangered_by_reading(real, &self.own).is_some();
                self.host_paths || !(self.of_havre.touch(real) || endangered())
            }
        }
    }
}

/// Keeps the secrets and configs of a project and returns their fingerprints by service and target. `values`: those
/// that it needs of the store.
pub(crate) fn keep_files(
    platform: &Platform,
    project: &Project,
    values: &Values,
) -> Result<FileDigests, FileError> {
    files_of(platform, project, values, |scope, content| {
        platform.contents.keep(scope, content)
    })
}

/// As [`keep_files`], keeping nothing.
pub(crate) fn fingerprints(
    platform: &Platform,
    project: &Project,
    values: &Values,
) -> Result<FileDigests, FileError> {
    files_of(platform, project, values, |scope, content| {
        platform.contents.fingerprint(scope, content)
    })
}

/// Fingerprints of contents by service and target, or variable.
type FileDigests = BTreeMap<ServiceName, BTreeMap<String, String>>;

fn files_of(
    platform: &Platform,
    project: &Project,
    values: &Values,
    fingerprint: impl Fn(&Scope, &[u8]) -> Result<String, ContentsError>,
) -> Result<FileDigests, FileError> {
    let scope = scope_of(Some(&EnvironmentId {
        project: project.name.clone(),
        environment: project.environment.clone(),
    }));
    let stored = |name: &SecretName| {
        let value = values.get(name.as_str()).cloned();
        value.ok_or_else(|| SecretError::NotFound {
            scope: scope.clone(),
            name: name.clone(),
        })
    };
    let fingerprint = |kind, name: &str, content: &[u8]| {
        fingerprint(&scope, content).map_err(|source| FileError::Keep {
            kind,
            name: name.to_owned(),
            source,
        })
    };
    let mut fingerprints = FileDigests::new();
    for (service, config) in &project.services {
        let own = fingerprints.entry(service.clone()).or_default();
        let reach = Reach::new(&platform.root, project, [config]);
        // As a container is given them: a file once, wherever it stands, and each variable.
        let (mut bytes, mut counted) = (0, BTreeSet::new());
        for (kind, grants, sources) in [
            ("secret", &config.secrets, &project.secrets),
            ("config", &config.configs, &project.configs),
        ] {
            for grant in grants {
                let name = &grant.source;
                if let Some(source) = sources.get(name) {
                    let content = content(kind, name, source, &reach, &stored)?;
                    if counted.insert((kind, name)) {
                        bytes += Confidential::bytes_of(&content_name(kind, name), &content);
                        fits(service, bytes)?;
                    }
                    own.insert(grant.target.clone(), fingerprint(kind, name, &content)?);
                }
            }
        }
        for (variable, name) in &config.secret_environment {
            if let Some(source) = project.secrets.get(name) {
                let content = content("secret", name, source, &reach, &stored)?;
                let value = variable_value(variable, &content);
                let value = value.map_err(|source| FileError::Variable {
                    name: name.clone(),
                    variable: variable.clone(),
                    service: service.clone(),
                    source,
                })?;
                bytes += Confidential::bytes_of(variable, value.as_bytes());
                fits(service, bytes)?;
                let kept = fingerprint("secret", name, &content)?;
                own.insert(variable_key(variable), kept);
            }
        }
    }
    Ok(fingerprints)
}

/// Whether a container can be given so many bytes.
fn fits(service: &ServiceName, bytes: u64) -> Result<(), FileError> {
    let service = service.clone();
    match bytes <= MAX_CONFIDENTIAL {
        true => Ok(()),
        false => Err(FileError::TooMuch { service, bytes }),
    }
}

/// What a container knows the content of a secret or config by.
pub(crate) fn content_name(kind: &str, source: &str) -> String {
    format!("{kind} {source}")
}

/// The content of `source`.
pub(crate) fn content(
    kind: &'static str,
    name: &str,
    source: &FileSource,
    reach: &Reach,
    stored: Stored<'_>,
) -> Result<Zeroizing<Vec<u8>>, FileError> {
    match source {
        FileSource::File { path } => read_small(kind, name, path, reach).map(Zeroizing::new),
        FileSource::Sent { content, .. } => Ok(Zeroizing::new(content.clone())),
        FileSource::Environment { value, .. } => Ok(Zeroizing::new(value.clone().into_bytes())),
        FileSource::Content { content } => Ok(Zeroizing::new(content.clone().into_bytes())),
        FileSource::Store { name: secret } => read_stored(stored, kind, secret),
    }
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
    fn a_link_that_takes_the_place_of_a_secret_gives_nothing_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let source = FileSource::File { path: path.clone() };
        let world = crate::fake::Stage::new();
        let none = Values::new();
        let stored = |name: &SecretName| Ok(none[name.as_str()].clone());
        let read_as = |host_paths, sent| {
            let own = folder.path().to_owned();
            let reach = Reach {
                own,
                of_havre: world.daemon.platform.root.own_folders(),
                host_paths,
                sent,
            };
            content("secret", "password", &source, &reach, &stored)
        };
        let read = |host_paths| read_as(host_paths, false);
        fs::write(&path, "mine").unwrap();
        assert_eq!(*read(false).unwrap(), b"mine");
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/shadow", &path).unwrap();
        assert!(matches!(read(false), Err(FileError::NotAllowed { .. })));
        assert!(read(true).is_ok());
        // What was sent leads nowhere else, whatever it says of itself.
        let refused = read_as(true, true);
        assert!(matches!(refused, Err(FileError::NotAllowed { .. })));
    }

    #[test]
    fn havres_own_files_are_no_secrets_of_a_project_wherever_its_folders_are() {
        let stage = crate::fake::Stage::new();
        let platform = &stage.daemon.platform;
        let (root, folder) = (&platform.root, stage.folder().join("project"));
        let disk = tempfile::tempdir().unwrap();
        fs::create_dir(&folder).unwrap();
        fs::create_dir_all(root.etc_dir()).unwrap();
        let key = root.etc_dir().join("seal-1.key");
        fs::write(&key, "key").unwrap();
        std::os::unix::fs::symlink(&key, folder.join("link")).unwrap();
        // Somebody keeps the keys of TLS on another disk.
        fs::write(disk.path().join("ca.key"), "key").unwrap();
        let tls = root.state_dir().join("tls");
        std::os::unix::fs::symlink(disk.path(), &tls).unwrap();
        fs::write(folder.join("own"), "mine").unwrap();
        let mut project = stage.project("services: {web: {image: 'web:1'}}");
        project.directory.clone_from(&folder);
        let service = project.services.values_mut().next().unwrap();
        let variables = &mut service.secret_environment;
        variables.insert("TOKEN".to_owned(), "token".to_owned());
        let mut read = |path: PathBuf, allow: &[Allow]| {
            let service = project.services.values_mut().next().unwrap();
            service.allow = allow.iter().copied().collect();
            let source = FileSource::File { path };
            project.secrets.insert("token".to_owned(), source);
            keep_files(platform, &project, &Values::new())
        };
        for path in [
            folder.join("link"),
            tls.join("ca.key"),
            root.state_dir().join("state.db"),
        ] {
            let refused = read(path.clone(), &[]).expect_err("refused");
            let is_refused = matches!(refused, FileError::NotAllowed { .. });
            assert!(is_refused, "{path:?}: {refused}");
        }
        assert!(read(folder.join("own"), &[]).is_ok());
        assert!(read(folder.join("link"), &[Allow::HostPaths]).is_ok());
    }

    #[test]
    fn what_a_container_cannot_be_given_is_refused_before_anything_is_kept() {
        let stage = crate::fake::Stage::new();
        let platform = &stage.daemon.platform;
        let mut project = stage.project("services: {web: {image: 'web:1'}}");
        let service = project.services.values_mut().next().unwrap();
        let variables = &mut service.secret_environment;
        variables.insert("TOKEN".to_owned(), "token".to_owned());
        let mut of = |name: &str, content: Vec<u8>| {
            let source = FileSource::Sent {
                content,
                path: PathBuf::from("token"),
            };
            project.secrets.insert(name.to_owned(), source);
            [
                keep_files(platform, &project, &Values::new()),
                fingerprints(platform, &project, &Values::new()),
            ]
        };
        for content in [b"a\0b".to_vec(), b"\xff".to_vec(), vec![b'x'; 1 << 17]] {
            for refused in of("token", content) {
                let error = refused.expect_err("refused");
                assert!(matches!(error, FileError::Variable { .. }), "{error}");
            }
        }
        for taken in of("token", b"sound\n".to_vec()) {
            taken.expect("taken");
        }
        let kept = fs::read_dir(platform.root.state_dir().join("contents")).unwrap();
        assert_eq!(kept.count(), 1);
        let service = project.services.values_mut().next().unwrap();
        service.secrets = vec![havre_model::FileGrant {
            source: "large".to_owned(),
            target: "/run/secrets/large".to_owned(),
            uid: havre_model::Account::Number(0),
            gid: havre_model::Account::Number(0),
            mode: 0o444,
        }];
        let content = vec![0; MAX_CONFIDENTIAL as usize];
        let path = PathBuf::from("large");
        let large = FileSource::Sent { content, path };
        project.secrets.insert("large".to_owned(), large);
        let error = keep_files(platform, &project, &Values::new()).expect_err("refused");
        assert!(matches!(error, FileError::TooMuch { .. }), "{error}");
    }
}
