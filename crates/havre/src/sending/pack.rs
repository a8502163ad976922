//! What of a project's files is sent, and what its paths become.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use havre_api::SOURCE_ROOT;
use havre_image::builder::{ContextError, context_paths};
use havre_model::{Build, BuildContext, FileSource, Mount, Project, Service, Tls};
use havre_sources::{Digest, Snapshot, SnapshotError};

use crate::error::Failure;
use crate::exit::Exit;
use crate::ui::Ui;

/// Most bytes of a secret or config, as the daemon has it.
const MAX_SECRET_BYTES: u64 = 1 << 20;

/// Trees to send.
#[derive(Debug, Default)]
pub(super) struct Parcels {
    /// By name.
    pub trees: BTreeMap<Digest, Snapshot>,
    /// Contexts that were read, with the Dockerfile whose rules hold there.
    contexts: BTreeMap<(PathBuf, Option<PathBuf>), Digest>,
}

/// Reads what the project needs of this machine and names it by what it holds. Blocks.
pub(super) fn pack(project: &mut Project, ui: Ui) -> Result<Parcels, Failure> {
    let mut parcels = Parcels::default();
    let own = project.directory.clone();
    for (name, service) in &mut project.services {
        if let Some(build) = &mut service.build {
            parcels.build(build)?;
        }
        parcels.mounts(name.as_str(), service, &own, ui)?;
    }
    for volume in project.volumes.values() {
        if let Some(backing) = volume
            .backing
            .as_deref()
            .filter(|path| path.starts_with(&own))
        {
            let message = format!("a volume is {}, which is this machine's", backing.display());
            return Err(Failure::new(Exit::Project, message)
                .hint("leave its `driver_opts` out, so that it is kept on the server"));
        }
    }
    let secrets = project.secrets.iter_mut();
    for (name, source) in secrets.chain(project.configs.iter_mut()) {
        content(name, source)?;
    }
    if let Tls::Files { certificate, key } = &mut project.tls {
        for path in [certificate, key] {
            if path.starts_with(&own) {
                *path = parcels.file(path)?;
            }
        }
    }
    project.directory = PathBuf::from(SOURCE_ROOT);
    Ok(parcels)
}

impl Parcels {
    fn build(&mut self, build: &mut Build) -> Result<(), Failure> {
        if build.git.is_none() {
            let context = build.context.clone();
            let dockerfile = match &build.dockerfile_inline {
                Some(_) => None,
                None => Some(plain(&context.join(&build.dockerfile))),
            };
            build.context = self.context(&context, dockerfile.as_deref())?;
            if let Some(dockerfile) = dockerfile {
                build.dockerfile = match dockerfile.strip_prefix(plain(&context)) {
                    Ok(below) => below.to_owned(),
                    Err(_) => self.dockerfile(&dockerfile)?,
                };
            }
        }
        for context in build.contexts.values_mut() {
            if let BuildContext::Folder { path } = context {
                *path = self.context(&path.clone(), None)?;
            }
        }
        Ok(())
    }

    fn context(&mut self, folder: &Path, dockerfile: Option<&Path>) -> Result<PathBuf, Failure> {
        let key = (folder.to_owned(), dockerfile.map(Path::to_owned));
        if let Some(id) = self.contexts.get(&key) {
            return Ok(root_of(id));
        }
        let paths = context_paths(folder, dockerfile).map_err(|error| unread(&error))?;
        let snapshot = Snapshot::of_paths(folder, paths);
        let id = self.add(snapshot.map_err(|error| failed(&error))?);
        self.contexts.insert(key, id);
        Ok(root_of(&id))
    }

    /// One that lies outside of its context, with its own rules of what is left out.
    fn dockerfile(&mut self, path: &Path) -> Result<PathBuf, Failure> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            let message = format!("{} is no Dockerfile", path.display());
            return Err(Failure::new(Exit::Project, message));
        };
        let mut ignore = name.to_owned();
        ignore.push(".dockerignore");
        let mut names = vec![PathBuf::from(name)];
        names.extend(
            folder
                .join(&ignore)
                .is_file()
                .then(|| PathBuf::from(&ignore)),
        );
        let snapshot = Snapshot::of_paths(folder, names).map_err(|error| failed(&error))?;
        let id = self.add(snapshot);
        Ok(root_of(&id).join(name))
    }

    fn file(&mut self, path: &Path) -> Result<PathBuf, Failure> {
        let snapshot = Snapshot::of_file(path).map_err(|error| failed(&error))?;
        let id = self.add(snapshot);
        Ok(root_of(&id).join(path.file_name().unwrap_or_default()))
    }

    fn add(&mut self, snapshot: Snapshot) -> Digest {
        let id = snapshot.tree.digest();
        self.trees.insert(id, snapshot);
        id
    }

    fn mounts(
        &mut self,
        service: &str,
        config: &mut Service,
        own: &Path,
        ui: Ui,
    ) -> Result<(), Failure> {
        for mount in &mut config.mounts {
            let Mount::Bind {
                source,
                target,
                read_only,
                ..
            } = mount
            else {
                continue;
            };
            let shown = source
                .strip_prefix(own)
                .unwrap_or(source)
                .display()
                .to_string();
            if !source.starts_with(own) {
                refuse_neighbour(service, source, own)?;
                continue;
            }
            let is_folder = source.is_dir();
            let is_data = match is_folder {
                true => !*read_only && is_empty(source),
                false => !source.exists(),
            };
            if is_data {
                let message =
                    format!("{service}: ./{shown} is to hold what the service writes at {target}");
                return Err(Failure::new(Exit::Project, message).hint(
                    "a server that is elsewhere has no such folder: make it a named volume",
                ));
            }
            if !*read_only {
                *read_only = true;
                if is_folder {
                    ui.warn(
                        &format!(
                            "{service}: ./{shown} is sent, and cannot be written to at {target}"
                        ),
                        Some(
                            "say so with `:ro`; what a service writes belongs into a named volume",
                        ),
                    );
                }
            }
            *source = match is_folder {
                true => {
                    let snapshot = Snapshot::of_folder(source).map_err(|error| failed(&error))?;
                    root_of(&self.add(snapshot))
                }
                false => self.file(source)?,
            };
        }
        Ok(())
    }
}

/// A path of the server and one beside the project's folder look alike: the latter is not sent, and the
/// server has none.
fn refuse_neighbour(service: &str, source: &Path, own: &Path) -> Result<(), Failure> {
    let beside = own.parent().filter(|folder| *folder != Path::new("/"));
    if beside.is_none_or(|folder| !source.starts_with(folder)) || !source.exists() {
        return Ok(());
    }
    let message = format!(
        "{service}: {} lies outside of the project's folder, and is not sent",
        source.display()
    );
    Err(Failure::new(Exit::Project, message)
        .hint("move it into the project's folder, or name a path of the server"))
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

/// Its content goes with the project: it is on no disk but where secrets are kept.
pub(super) fn content(name: &str, source: &mut FileSource) -> Result<(), Failure> {
    let FileSource::File { path } = source else {
        return Ok(());
    };
    let cannot = |error: &std::io::Error| {
        let message = format!("cannot read {}, the source of `{name}`", path.display());
        Failure::new(Exit::Project, message).caused_by(error)
    };
    let file = File::open(&*path).map_err(|error| cannot(&error))?;
    let mut content = Vec::new();
    let read = file.take(MAX_SECRET_BYTES + 1).read_to_end(&mut content);
    read.map_err(|error| cannot(&error))?;
    if content.len() as u64 > MAX_SECRET_BYTES {
        let message = format!("`{name}` is larger than {MAX_SECRET_BYTES} bytes");
        return Err(Failure::new(Exit::Project, message));
    }
    *source = FileSource::Sent {
        path: path.clone(),
        content,
    };
    Ok(())
}

fn root_of(id: &Digest) -> PathBuf {
    Path::new(SOURCE_ROOT).join(id.to_string())
}

/// By the letter, without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

pub(super) fn failed(error: &SnapshotError) -> Failure {
    let mut failure = Failure::new(Exit::Project, error.to_string());
    if let Some(source) = std::error::Error::source(error) {
        failure = failure.caused_by(source);
    }
    failure
}

fn unread(error: &ContextError) -> Failure {
    let mut failure = Failure::new(Exit::Project, error.to_string());
    if let Some(source) = std::error::Error::source(error) {
        failure = failure.caused_by(source);
    }
    failure
}
