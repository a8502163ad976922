//! What a box is to be: plain data, and what of it cannot be carried out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use havre_engine::SharedFilter;
use havre_image::config::RunConfig;
use havre_job::Document;

use crate::error::BoxError;
use crate::options::CreateOptions;
use crate::tools::Tools;

/// Longest id of a box.
const MAX_ID: usize = 48;
/// Most services of one box.
pub const MAX_SERVICES: usize = 16;

/// A box that is to be made, and what is to run in it.
pub struct BoxRequest {
    /// Names all that belongs to it: 1 to 48 of `a-z`, `0-9`, `.` and `-`, the first and last a letter or digit.
    pub id: String,
    /// What the runner is told. It is in no file. Its `runner.workspace` is where [`BoxRequest::workspace`] will be,
    /// which is below [`havre_job::paths::WORK`].
    pub document: Document,
    /// Masks what the runner prints before it is written.
    pub filter: Option<SharedFilter>,
    /// What it stands on.
    pub ground: Ground,
    /// What its workspace holds at first.
    pub workspace: Workspace,
    /// A bare repository, seen at [`havre_job::paths::REPOSITORY`], without links in its path.
    pub repository: Option<PathBuf>,
    /// A folder with a Unix socket `results.sock`, seen at [`havre_job::paths::RESULTS_FOLDER`], without links in its
    /// path. The socket may be replaced.
    pub results: Option<PathBuf>,
    /// What is seen at [`havre_job::paths::TOOL_CACHE`], and what is kept of it.
    pub tools: Tools,
    /// Actions of other repositories, each of which the job may change for itself.
    pub actions: Vec<Action>,
    /// Options of `container:`; those of the machine's own box are empty.
    pub options: CreateOptions,
    /// What runs beside it.
    pub services: Vec<Service>,
    /// What each of its containers may use.
    pub limits: Caps,
}

/// An action of another repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// Its repository's files, without links in the path; nobody changes them while the box is there.
    pub files: PathBuf,
    /// Where the box sees them, below [`havre_job::paths::ACTIONS`].
    pub target: String,
}

/// What a box stands on.
#[derive(Clone, Debug)]
pub enum Ground {
    /// The machine's own programs.
    Host,
    /// An image.
    Image(Box<Image>),
}

/// An image that is here.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its layers, the topmost first; they have the owners of the image.
    pub lower: Vec<PathBuf>,
    /// How it is to be run.
    pub run: RunConfig,
}

/// What a workspace holds at first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Workspace {
    /// Nothing.
    Empty,
    /// What this folder of the host has, which is never written to. No links are in its path. Whoever has the
    /// folder is root in the box.
    Copy(PathBuf),
}

/// A service beside a box.
#[derive(Clone, Debug)]
pub struct Service {
    /// By which it is reached: a host name.
    pub name: String,
    /// What it runs.
    pub image: Image,
    /// Variables beside the image's.
    pub env: Vec<(String, String)>,
    /// Instead of the image's.
    pub entrypoint: Option<Vec<String>>,
    /// Instead of the image's.
    pub command: Option<Vec<String>>,
    /// Ports that the workflow names.
    pub ports: Vec<Port>,
    /// As of `docker create`.
    pub options: CreateOptions,
}

/// A port of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// Where a box of the machine's own reaches it on localhost; `None`: where the service has it.
    pub host: Option<u16>,
    /// Where the service has it.
    pub container: u16,
    /// UDP instead of TCP.
    pub udp: bool,
}

/// A container beside a box.
#[derive(Clone, Debug)]
pub struct Beside {
    /// What it runs.
    pub image: Image,
    /// Instead of the image's.
    pub entrypoint: Option<Vec<String>>,
    /// Instead of the image's; empty: the image's own.
    pub args: Vec<String>,
    /// Beside the image's.
    pub env: BTreeMap<String, String>,
    /// Where it begins; `None`: where the image says.
    pub folder: Option<String>,
    /// Folders as the box's runner sees them, and where they are in the container.
    pub folders: Vec<(String, String)>,
}

/// What a container may use at most, and its share when others want the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Share of CPU against that of a service (100).
    pub cpu_weight: u64,
    /// Share of I/O against that of a service (100).
    pub io_weight: u64,
}

impl Caps {
    /// As builds have them: a tenth of a service's share, half of the machine's memory, but 1 GiB at least, or all
    /// there is.
    pub fn of_this_machine() -> Self {
        let info = rustix::system::sysinfo();
        let total = info.totalram.saturating_mul(u64::from(info.mem_unit));
        Self {
            memory_bytes: (total / 2).max((1 << 30).min(total)),
            pids: 4096,
            cpu_weight: 10,
            io_weight: 10,
        }
    }
}

/// Refuses an id that would not name everything safely.
pub fn check_id(id: &str) -> Result<(), BoxError> {
    let ends = |it: Option<char>| it.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c);
    let good = id.len() <= MAX_ID
        && id.chars().all(inside)
        && ends(id.chars().next())
        && ends(id.chars().last());
    match good && !id.contains("..") {
        true => Ok(()),
        false => Err(BoxError::refused(format!(
            "{id:?} cannot be the id of a box: 1 to {MAX_ID} of a-z, 0-9, '.' and '-'"
        ))),
    }
}

/// Refuses what cannot be carried out, before anything is made.
pub fn check(request: &BoxRequest) -> Result<(), BoxError> {
    check_id(&request.id)?;
    let workspace = &request.document.runner.workspace;
    let below = workspace.strip_prefix(havre_job::paths::WORK);
    let plain = |rest: &str| {
        let mut parts = rest.split('/').skip(1);
        rest.starts_with('/') && parts.all(|part| !part.is_empty() && part != "." && part != "..")
    };
    if !below.is_some_and(plain) {
        return Err(BoxError::refused(format!(
            "the workspace {workspace:?} is not below {}",
            havre_job::paths::WORK
        )));
    }
    if request.services.len() > MAX_SERVICES {
        let count = request.services.len();
        let text = format!("{count} services; {MAX_SERVICES} are the most");
        return Err(BoxError::refused(text));
    }
    let mut names = BTreeSet::new();
    for service in &request.services {
        check_service(service)?;
        if !names.insert(&service.name) {
            let text = format!("two services are called {}", service.name);
            return Err(BoxError::refused(text));
        }
    }
    match request.ground {
        Ground::Host => check_localhost(&request.services),
        Ground::Image(_) => Ok(()),
    }
}

/// What has no effect; an error of what would mislead.
pub fn warnings(request: &BoxRequest) -> Result<Vec<String>, BoxError> {
    let CreateOptions {
        user,
        entrypoint,
        health,
        aliases,
        workdir,
        ..
    } = &request.options;
    let root = user.as_deref().is_none_or(|user| {
        let name = user.split(':').next().unwrap_or_default();
        matches!(name, "" | "0" | "root")
    });
    for (good, text) in [
        (root, "--user: jobs run as root of their own box"),
        (
            entrypoint.is_none(),
            "--entrypoint: a job's container runs its steps",
        ),
        (
            *health == Default::default(),
            "--health-…: only services are awaited",
        ),
        (
            aliases.is_empty(),
            "--network-alias: only services are reached by name",
        ),
        (workdir.is_none(), "--workdir: steps say where they run"),
    ] {
        if !good {
            return Err(BoxError::refused(format!(
                "options of the job's container: {text}"
            )));
        }
    }
    let of_services = request.services.iter();
    let of_services = of_services.flat_map(|service| {
        let name = &service.name;
        service
            .options
            .warnings
            .iter()
            .map(move |text| format!("service {name}: {text}"))
    });
    Ok(request
        .options
        .warnings
        .iter()
        .cloned()
        .chain(of_services)
        .collect())
}

fn check_service(service: &Service) -> Result<(), BoxError> {
    let name = &service.name;
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if name.is_empty() || name.len() > 63 || !name.bytes().all(inside) {
        let text = format!("{name:?} cannot be the name of a service");
        return Err(BoxError::refused(text));
    }
    match service.image.lower.is_empty() {
        true => Err(BoxError::refused(format!("service {name} has no image"))),
        false => Ok(()),
    }
}

/// In a box of the machine's own, services are on its localhost with the ports that they listen on.
fn check_localhost(services: &[Service]) -> Result<(), BoxError> {
    let mut taken = BTreeSet::new();
    for service in services {
        for port in &service.ports {
            let name = &service.name;
            if let Some(host) = port.host.filter(|host| *host != port.container) {
                return Err(BoxError::refused(format!(
                    "service {name}: port {host} cannot lead to its port {}: without `container:` services are on \
                     localhost with their own ports, so write {}:{} and use that",
                    port.container, port.container, port.container
                )));
            }
            if !taken.insert((port.container, port.udp)) {
                return Err(BoxError::refused(format!(
                    "service {name}: port {} is another service's already; with `container:` each service has \
                     an address of its own",
                    port.container
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, ports: &[(Option<u16>, u16)]) -> Service {
        let port = |(host, container): &(Option<u16>, u16)| Port {
            host: *host,
            container: *container,
            udp: false,
        };
        Service {
            name: name.to_owned(),
            image: Image {
                lower: vec!["/x".into()],
                run: RunConfig::default(),
            },
            env: Vec::new(),
            entrypoint: None,
            command: None,
            ports: ports.iter().map(port).collect(),
            options: CreateOptions::default(),
        }
    }

    #[test]
    fn ids_name_containers_networks_and_folders() {
        for good in ["a", "r12.a1-ubuntu", "0"] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        let long = "x".repeat(MAX_ID + 1);
        for bad in [
            "",
            "A",
            "a..b",
            "-a",
            "a.",
            "a_b",
            "a/b",
            ".",
            long.as_str(),
        ] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ports_on_localhost_are_those_of_the_services() {
        let check = |services: &[Service]| {
            let result = check_localhost(services);
            result.map_err(|error| error.to_string())
        };
        let db = service("db", &[(Some(5432), 5432), (None, 8080)]);
        assert_eq!(
            check(&[db.clone(), service("cache", &[(None, 6379)])]),
            Ok(())
        );
        let moved = check(&[service("db", &[(Some(5433), 5432)])]).expect_err("moved");
        assert!(
            moved.contains("5433") && moved.contains("5432:5432"),
            "{moved}"
        );
        let twice = check(&[db, service("other", &[(None, 5432)])]).expect_err("twice");
        assert!(twice.contains("another service's"), "{twice}");
        for bad in ["", "a b", "a.b", "a\n"] {
            assert!(check_service(&service(bad, &[])).is_err(), "{bad:?}");
        }
    }
}
