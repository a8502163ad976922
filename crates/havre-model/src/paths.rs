//! What a project asks of the machine that it is run on: paths of its disk, and rights.

use std::path::PathBuf;

use crate::decode::is_of_machine;
use crate::project::{Build, BuildContext, FileSource, Mount, Project, Service, Shares, Tls};

/// What a path is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathUse {
    /// The folder of a build, or a further one.
    Context,
    /// A Dockerfile; it may be relative to its context.
    Dockerfile,
    /// Content of a secret or config.
    File,
    /// Mounted into a container.
    Bind {
        /// And not written to.
        read_only: bool,
    },
    /// What a named volume is.
    Backing,
    /// A device.
    Device,
    /// A certificate, or its key.
    Certificate,
}

/// Visits every path of the machine that a project names, and may put another in its place.
pub fn each_path<E>(
    project: &mut Project,
    visit: &mut dyn FnMut(PathUse, &mut PathBuf) -> Result<(), E>,
) -> Result<(), E> {
    for service in project.services.values_mut() {
        if let Some(build) = &mut service.build {
            build_paths(build, visit)?;
        }
        for mount in &mut service.mounts {
            match mount {
                Mount::Bind {
                    source, read_only, ..
                } => {
                    let read_only = *read_only;
                    visit(PathUse::Bind { read_only }, source)?;
                }
                Mount::Volume { backing, .. } => {
                    if let Some(path) = backing {
                        visit(PathUse::Backing, path)?;
                    }
                }
                Mount::Anonymous { .. } | Mount::Tmpfs { .. } => {}
            }
        }
        for device in &mut service.devices {
            visit(PathUse::Device, &mut device.source)?;
        }
    }
    for volume in project.volumes.values_mut() {
        if let Some(path) = &mut volume.backing {
            visit(PathUse::Backing, path)?;
        }
    }
    for source in project
        .secrets
        .values_mut()
        .chain(project.configs.values_mut())
    {
        match source {
            FileSource::File { path } => visit(PathUse::File, path)?,
            FileSource::Sent { .. }
            | FileSource::Environment { .. }
            | FileSource::Store { .. }
            | FileSource::Content { .. } => {}
        }
    }
    if let Tls::Files { certificate, key } = &mut project.tls {
        visit(PathUse::Certificate, certificate)?;
        visit(PathUse::Certificate, key)?;
    }
    Ok(())
}

fn build_paths<E>(
    build: &mut Build,
    visit: &mut dyn FnMut(PathUse, &mut PathBuf) -> Result<(), E>,
) -> Result<(), E> {
    // What is fetched has an address there.
    if build.git.is_none() {
        visit(PathUse::Context, &mut build.context)?;
    }
    if build.dockerfile_inline.is_none() {
        visit(PathUse::Dockerfile, &mut build.dockerfile)?;
    }
    for context in build.contexts.values_mut() {
        match context {
            BuildContext::Folder { path } => visit(PathUse::Context, path)?,
            BuildContext::Git(_) | BuildContext::Image { .. } | BuildContext::Service { .. } => {}
        }
    }
    Ok(())
}

/// What a service asks for by which the machine could be taken over, apart from paths; by its words. It
/// is asked of the service itself, whatever `allow` says.
pub fn rights_over_machine(service: &Service) -> Vec<String> {
    let Shares { network, pid, ipc } = service.shares;
    let mut asked: Vec<String> = [
        (service.privileged, "privileged"),
        (network, "network_mode: host"),
        (pid, "pid: host"),
        (ipc, "ipc: host"),
        (!service.devices.is_empty(), "devices"),
        (!service.device_rules.is_empty(), "device_cgroup_rules"),
        (
            service.seccomp_unconfined,
            "security_opt: seccomp:unconfined",
        ),
    ]
    .into_iter()
    .filter(|(asked, _)| *asked)
    .map(|(_, word)| word.to_owned())
    .collect();
    let capabilities = service.cap_add.iter().filter(|name| is_of_machine(name));
    asked.extend(capabilities.map(|name| format!("cap_add: {name}")));
    asked.extend(
        service
            .allow
            .iter()
            .map(|allow| format!("allow: {}", allow.word())),
    );
    asked
}
