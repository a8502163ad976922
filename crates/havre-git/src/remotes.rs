//! Repositories of another server: fetched commit by commit, kept, and looked into like those of this machine.
//!
//! ```text
//! owner/repository@reference ─► ls-remote ─► commit ─► fetch, one commit deep ─► Objects, a folder with its files
//! ```
//!
//! Nobody answers for what is there: each git has bounds of time, memory and the size of a file, and what a commit
//! holds is counted before it is laid out.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::Oid;
use crate::bounds::{Bound, Bounds};
use crate::objects::{ObjectError, Objects};
use crate::process::{Call, GitError, Processes};
use crate::view::View;

/// Longest to ask a server, and to fetch one commit.
const ASKING: Duration = Duration::from_secs(30);
const FETCHING: Duration = Duration::from_secs(300);
const MAKING: Duration = Duration::from_secs(120);
/// Most that is fetched of one commit, packed; git's files are not larger.
const MOST_PACKED: u64 = 256 << 20;
/// Most that the files of a commit are, and how many.
const MOST_BYTES: u64 = 1 << 30;
const MOST_FILES: usize = 50_000;
/// What git prints of all references, and of all files of a commit.
const MOST_SAID: usize = 16 << 20;
/// Repositories that are kept, and for how long one that nobody uses; no job lasts as long.
const MOST_KEPT: usize = 500;
const KEPT: Duration = Duration::from_secs(14 * 24 * 3600);
/// How long a server's answer is good for jobs that begin at about the same time.
const FRESH: Duration = Duration::from_secs(20);
/// Variables of the machine by which git finds its way.
const WAYS: [&str; 10] = [
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
    "GIT_SSL_CAINFO",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// Something of another server cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// It cannot be on any server.
    #[error("`{0}` cannot be the name of an owner, a repository or a reference")]
    Name(String),
    /// The address is none that git is asked to fetch from.
    #[error(
        "`{0}` is no address of a server: it has to begin with https://, http://, git://, ssh:// or file://"
    )]
    Server(String),
    /// The server does not answer, or has no such repository.
    #[error("cannot ask {address}")]
    Ask {
        /// Of the repository.
        address: String,
        /// The reason.
        source: GitError,
    },
    /// The server has no such reference.
    #[error("{address} has no branch or tag `{reference}`")]
    Reference {
        /// Of the repository.
        address: String,
        /// What was sought.
        reference: String,
    },
    /// It cannot be fetched.
    #[error("cannot fetch {commit} of {address}")]
    Fetch {
        /// Of the repository.
        address: String,
        /// Which.
        commit: Oid,
        /// The reason.
        source: GitError,
    },
    /// It is larger than what is fetched.
    #[error("commit {commit} of {address} has {what}")]
    Large {
        /// Of the repository.
        address: String,
        /// Which.
        commit: Oid,
        /// How much.
        what: String,
    },
    /// It cannot be looked into.
    #[error("cannot look into {address}")]
    Look {
        /// Of the repository.
        address: String,
        /// The reason.
        source: ObjectError,
    },
    /// It cannot be kept.
    #[error("cannot keep {}", path.display())]
    Keep {
        /// Where.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// Where such repositories come from, and where they are kept.
#[derive(Clone, Debug)]
pub struct RemoteSettings {
    /// What `/owner/repository` is added to.
    pub server: String,
    /// Keeps them.
    pub folder: PathBuf,
    /// For what may vanish at a reboot, and the binary, by which git is confined to one repository: needs root. `None`:
    /// it runs as whoever asks.
    pub confined: Option<(PathBuf, PathBuf)>,
}

/// A repository of another server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RemoteName {
    owner: String,
    repository: String,
}

/// Repositories of another server. Cheap to clone.
#[derive(Clone)]
pub struct Remotes(Arc<Inner>);

struct Inner {
    server: String,
    folder: PathBuf,
    processes: Processes,
    /// One thing at a time is done in one repository.
    locks: Mutex<HashMap<RemoteName, Arc<tokio::sync::Mutex<()>>>>,
    answers: Mutex<HashMap<(RemoteName, String), (Instant, Oid)>>,
}

impl RemoteName {
    /// Both are in the shape of GitHub's names.
    pub fn new(owner: &str, repository: &str) -> Result<Self, RemoteError> {
        let is_sound = |name: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            !name.is_empty()
                && name.len() <= 100
                && !name.starts_with(['-', '.'])
                && name.chars().all(plain)
        };
        match is_sound(owner) && is_sound(repository) {
            true => Ok(Self {
                owner: owner.to_lowercase(),
                repository: repository.to_lowercase(),
            }),
            false => Err(RemoteError::Name(format!("{owner}/{repository}"))),
        }
    }
}

impl Remotes {
    /// Opens what is kept. Blocks.
    pub fn open(
        settings: RemoteSettings,
        bounds: Option<Arc<dyn Bounds>>,
    ) -> Result<Self, RemoteError> {
        let server = settings.server.trim_end_matches('/').to_owned();
        let schemes = ["https://", "http://", "git://", "ssh://", "file://"];
        let is_sound = !server.contains(|c: char| c.is_whitespace() || c.is_control());
        if !is_sound || !schemes.iter().any(|scheme| server.starts_with(scheme)) {
            return Err(RemoteError::Server(settings.server));
        }
        let kept = |source| RemoteError::Keep {
            path: settings.folder.clone(),
            source,
        };
        fs::create_dir_all(&settings.folder).map_err(kept)?;
        let view = match &settings.confined {
            Some((run, exe)) => Some(View::create(run, exe).map_err(kept)?),
            None => None,
        };
        Ok(Self(Arc::new(Inner {
            server,
            folder: settings.folder,
            processes: Processes::new(view, bounds.map(apart), MOST_PACKED),
            locks: Mutex::default(),
            answers: Mutex::default(),
        })))
    }

    /// What is asked.
    pub fn server(&self) -> &str {
        &self.0.server
    }

    /// The commit that a branch, a tag or a full commit is, by what the server says now; a tag comes before a branch.
    pub async fn resolve(&self, name: &RemoteName, reference: &str) -> Result<Oid, RemoteError> {
        if let Ok(commit) = reference.to_ascii_lowercase().parse() {
            return Ok(commit);
        }
        let is_sound = !reference.is_empty()
            && reference.len() <= 255
            && !reference.starts_with(['-', '/'])
            && !reference.contains("..")
            && !reference
                .contains(|c: char| c.is_whitespace() || c.is_control() || "~^:?*[\\".contains(c));
        if !is_sound {
            return Err(RemoteError::Name(reference.to_owned()));
        }
        let key = (name.clone(), reference.to_owned());
        let known = self.0.answers().get(&key).cloned();
        if let Some((_, commit)) = known.filter(|(at, _)| at.elapsed() < FRESH) {
            return Ok(commit);
        }
        let repository = self.made(name).await?;
        let address = self.address(name);
        let full = [
            format!("refs/tags/{reference}"),
            format!("refs/heads/{reference}"),
        ];
        let names = match reference.starts_with("refs/") {
            true => vec![reference.to_owned()],
            false => full.to_vec(),
        };
        let peeled: Vec<String> = names.iter().map(|name| format!("{name}^{{}}")).collect();
        let mut args = vec!["--quiet", "--", &address];
        args.extend(names.iter().chain(&peeled).map(String::as_str));
        let printed = self.run(&repository, "ls-remote", args, ASKING).await;
        let printed = printed.map_err(|source| RemoteError::Ask {
            address: address.clone(),
            source,
        })?;
        let text = String::from_utf8_lossy(&printed);
        let listed = |wanted: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once('\t'));
            let found = lines.find(|(_, name)| *name == wanted);
            found.and_then(|(oid, _)| oid.parse::<Oid>().ok())
        };
        let each = names.iter().zip(&peeled);
        let mut found = each.filter_map(|(name, peeled)| listed(peeled).or_else(|| listed(name)));
        let commit = found.next().ok_or_else(|| RemoteError::Reference {
            address,
            reference: reference.to_owned(),
        })?;
        let mut answers = self.0.answers();
        answers.retain(|_, (at, _)| at.elapsed() < FRESH);
        answers.insert(key, (Instant::now(), commit.clone()));
        Ok(commit)
    }

    /// A repository in which there is this commit: what is kept, or what the server has.
    pub async fn fetch(&self, name: &RemoteName, commit: &Oid) -> Result<Objects, RemoteError> {
        let lock = self.0.lock(name);
        let _held = lock.lock().await;
        let repository = self.made(name).await?;
        let objects = Objects::new(self.0.processes.clone(), repository.clone(), None);
        let address = self.address(name);
        let look = |source| RemoteError::Look {
            address: address.clone(),
            source,
        };
        if objects
            .resolve(commit.as_str())
            .await
            .map_err(look)?
            .as_ref()
            == Some(commit)
        {
            return Ok(objects);
        }
        let args = vec![
            "--quiet",
            "--depth=1",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-auto-maintenance",
            "--no-recurse-submodules",
            "--end-of-options",
            &address,
            commit.as_str(),
        ];
        let fetched = self.run(&repository, "fetch", args, FETCHING).await;
        fetched.map_err(|source| RemoteError::Fetch {
            address: address.clone(),
            commit: commit.clone(),
            source,
        })?;
        let found = objects.resolve(commit.as_str()).await.map_err(look)?;
        match found.as_ref() == Some(commit) {
            true => Ok(objects),
            // It is a tag, a file or a folder.
            false => Err(RemoteError::Reference {
                address,
                reference: commit.to_string(),
            }),
        }
    }

    /// A folder with the files of a commit, made once; who owns it owns all in it.
    pub async fn folder(&self, name: &RemoteName, commit: &Oid) -> Result<PathBuf, RemoteError> {
        let objects = self.fetch(name, commit).await?;
        let lock = self.0.lock(name);
        let _held = lock.lock().await;
        let repository = self.path(name);
        let folder = repository.join("trees").join(commit.as_str());
        let kept = |source| RemoteError::Keep {
            path: folder.clone(),
            source,
        };
        touch(&folder);
        if folder.is_dir() {
            return Ok(folder);
        }
        self.small(name, &objects, commit).await?;
        let trees = repository.join("trees");
        remove_old(&trees).map_err(kept)?;
        if !trees.is_dir() {
            self.0.processes.fresh(&trees).map_err(kept)?;
        }
        let unfinished = trees.join("new");
        self.0.processes.fresh(&unfinished).map_err(kept)?;
        let seen = self.0.processes.seen(&repository);
        let seen = seen.to_string_lossy();
        let call = Call {
            args: vec!["--quiet", "--force", commit.as_str(), "--", "."],
            environment: vec![
                ("GIT_WORK_TREE", format!("{seen}/trees/new")),
                ("GIT_INDEX_FILE", format!("{seen}/index.new")),
            ],
            most: 65536,
            within: MAKING,
            ..Call::default()
        };
        let laid = self.0.processes.run(repository.clone(), "checkout", call);
        let laid = laid.await.and_then(|printed| printed.ok("checkout"));
        laid.map_err(|source| RemoteError::Look {
            address: self.address(name),
            source: source.into(),
        })?;
        if let Err(error) = fs::remove_file(repository.join("index.new")) {
            tracing::debug!(%error, "git left no index");
        }
        havre_base::in_place(|| open_to_all(&unfinished)).map_err(kept)?;
        fs::rename(&unfinished, &folder).map_err(kept)?;
        Ok(folder)
    }

    /// Whether what a commit holds may be laid out.
    async fn small(
        &self,
        name: &RemoteName,
        objects: &Objects,
        commit: &Oid,
    ) -> Result<(), RemoteError> {
        let large = |what| RemoteError::Large {
            address: self.address(name),
            commit: commit.clone(),
            what,
        };
        let (files, bytes) = match objects.weigh(commit, MOST_SAID).await {
            Ok(weight) => weight,
            Err(ObjectError::Git(GitError::TooMuch { .. })) => (MOST_FILES + 1, 0),
            Err(source) => {
                let address = self.address(name);
                return Err(RemoteError::Look { address, source });
            }
        };
        if files > MOST_FILES {
            return Err(large(format!("more than {MOST_FILES} files")));
        }
        match bytes > MOST_BYTES {
            true => Err(large(format!(
                "files of more than {} MiB",
                MOST_BYTES >> 20
            ))),
            false => Ok(()),
        }
    }

    /// The repository's folder, made where it is not there.
    async fn made(&self, name: &RemoteName) -> Result<PathBuf, RemoteError> {
        let path = self.path(name);
        if path.is_dir() {
            touch(&path);
            return Ok(path);
        }
        let kept = |source| RemoteError::Keep {
            path: path.clone(),
            source,
        };
        self.make_room().map_err(kept)?;
        // Two may make it at once: the first that is done counts.
        let unfinished = tempfile_in(&self.0.folder).map_err(kept)?;
        self.0.processes.fresh(&unfinished).map_err(kept)?;
        let args = vec!["--quiet", "--bare", "--template=", "--initial-branch=main"];
        let made = self.run(&unfinished, "init", args, ASKING).await;
        made.map_err(|source| RemoteError::Ask {
            address: self.address(name),
            source,
        })?;
        match fs::rename(&unfinished, &path) {
            Err(_) if path.is_dir() => fs::remove_dir_all(&unfinished).map_err(kept)?,
            renamed => renamed.map_err(kept)?,
        }
        Ok(path)
    }

    /// Removes what nobody uses any more.
    fn make_room(&self) -> io::Result<()> {
        match remove_old(&self.0.folder)? < MOST_KEPT {
            true => Ok(()),
            false => Err(io::Error::other(format!(
                "there are {MOST_KEPT} repositories of {} already",
                self.0.server
            ))),
        }
    }

    async fn run(
        &self,
        repository: &Path,
        what: &'static str,
        args: Vec<&str>,
        within: Duration,
    ) -> Result<Vec<u8>, GitError> {
        let scheme = self.0.server.split(':').next().unwrap_or_default();
        let mut environment = vec![("GIT_ALLOW_PROTOCOL", scheme.to_owned())];
        let ways = WAYS
            .iter()
            .filter_map(|name| Some((*name, std::env::var(name).ok()?)));
        environment.extend(ways);
        let call = Call {
            settings: [
                "fetch.unpackLimit=1",
                "http.lowSpeedLimit=1000",
                "http.lowSpeedTime=30",
                "http.followRedirects=initial",
                "credential.helper=",
                "core.askPass=",
            ]
            .map(str::to_owned)
            .to_vec(),
            args,
            environment,
            most: MOST_SAID,
            within,
            ..Call::default()
        };
        let ran = self.0.processes.run(repository.to_owned(), what, call);
        ran.await?.ok(what)
    }

    fn path(&self, name: &RemoteName) -> PathBuf {
        // No owner has two minus signs in a row.
        let file = format!("{}--{}.git", name.owner, name.repository);
        self.0.folder.join(file)
    }

    fn address(&self, name: &RemoteName) -> String {
        format!("{}/{}/{}", self.0.server, name.owner, name.repository)
    }
}

impl Inner {
    fn lock(&self, name: &RemoteName) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(locks.entry(name.clone()).or_default())
    }

    fn answers(&self) -> std::sync::MutexGuard<'_, HashMap<(RemoteName, String), (Instant, Oid)>> {
        // Whole after every statement.
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Groups that are called otherwise than those of the repositories of this machine.
struct Apart(Arc<dyn Bounds>);

impl Bounds for Apart {
    fn group(&self, name: &str) -> Option<Bound> {
        self.0.group(&format!("remote-{name}"))
    }
}

fn apart(bounds: Arc<dyn Bounds>) -> Arc<dyn Bounds> {
    Arc::new(Apart(bounds))
}

/// A name that nobody else takes.
fn tempfile_in(folder: &Path) -> io::Result<PathBuf> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(folder.join(format!("{:016x}.new", u64::from_le_bytes(bytes))))
}

/// Removes folders that were not used for long; how many are left.
fn remove_old(folder: &Path) -> io::Result<usize> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut left = 0;
    for entry in entries {
        let entry = entry?;
        let used = entry.metadata()?.modified()?;
        match used.elapsed().is_ok_and(|since| since > KEPT) {
            true => fs::remove_dir_all(entry.path())?,
            false => left += 1,
        }
    }
    Ok(left)
}

/// Lets everybody read: who that is in a box decides its owner. Links are left alone.
fn open_to_all(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            open_to_all(&entry.path())?;
        } else if kind.is_file() {
            let is_program = entry.metadata()?.permissions().mode() & 0o100 != 0;
            let mode = if is_program { 0o755 } else { 0o644 };
            fs::set_permissions(entry.path(), fs::Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}

/// It was used now; where that cannot be written down, it goes sooner.
fn touch(path: &Path) {
    let set = fs::File::open(path).and_then(|folder| folder.set_modified(SystemTime::now()));
    if let Err(error) = set {
        tracing::debug!(%error, "cannot write down that a repository was used");
    }
}

#[cfg(test)]
mod tests;
