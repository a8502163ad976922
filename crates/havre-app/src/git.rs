//! Build contexts that are git repositories: fetched by the machine's git, which gets as little as can
//! be of what a repository's owner could use against the machine.
//!
//! ```text
//! up ─► the host looked up ─► a folder of its own ─► git fetch, git checkout, confined ─► subfolder
//! ```

mod address;
mod confine;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use havre_api::{ApiError, ErrorCode, Event, EventSink};
use havre_confine::GIT_USER;
use havre_engine::{Engine, Group, Limits};
use havre_image::builder::{BuildRequest, DockerfileSource, NamedContext, Reach};
use havre_model::{Build, BuildContext, GitContext};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::process::{Pid, Signal};
use tokio_util::sync::CancellationToken;

use crate::host::Host;
use crate::pressure;
use crate::steps::BUILD_ENVIRONMENT;
use address::{AddressError, ResolvedRemote};

/// Longest fetch.
const DEADLINE: Duration = Duration::from_secs(600);
/// Most bytes on disk, with what git keeps beside the files.
const MOST_BYTES: u64 = 4 << 30;
/// Most files and folders.
const MOST_FILES: u64 = 400_000;
/// Most processes and threads at once.
const MOST_TASKS: u64 = 64;
/// Between two looks at what has been fetched.
const LOOK: Duration = Duration::from_millis(500);
/// Between two looks whether git has ended.
const POLL: Duration = Duration::from_millis(20);
/// Shown of what git has to say.
const LAST_WORDS: u64 = 2000;
/// What of a Dockerfile is read.
const LARGEST_DOCKERFILE: u64 = 1 << 20;

/// What git is told, whatever is configured: no other transport, no hook, no program of the
/// repository's choice, no question.
const SETTINGS: [&str; 17] = [
    "protocol.allow=never",
    "protocol.https.allow=always",
    "protocol.http.allow=always",
    "protocol.git.allow=always",
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "credential.helper=",
    "fetch.recurseSubmodules=false",
    "submodule.recurse=false",
    "gc.auto=0",
    "advice.detachedHead=false",
    // Elsewhere than the host that was looked up.
    "http.followRedirects=false",
    // Little memory.
    "core.packedGitWindowSize=32m",
    "core.packedGitLimit=256m",
    "core.bigFileThreshold=64m",
    "pack.threads=2",
];

/// Variables of the daemon that name a proxy …
const PROXIES: [&str; 5] = [
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "HTTPS_PROXY",
    "ALL_PROXY",
];
/// … and those that say what else there is to know of the network.
const OF_THE_NETWORK: [&str; 3] = ["no_proxy", "NO_PROXY", "GIT_SSL_CAINFO"];
/// In what git says of an answer that leads elsewhere.
const REDIRECTED: &str = "returned error: 30";

/// Why a context cannot be fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GitError {
    #[error("git is not installed, which fetches {url}")]
    NoGit { url: String },
    #[error("cannot fetch {url}: {said}")]
    Git { url: String, said: String },
    #[error("cannot fetch {url}")]
    Address { url: String, source: AddressError },
    #[error("{url} is more than a build context may be: {what}")]
    TooLarge { url: String, what: String },
    #[error("{url} was not fetched within {} s", DEADLINE.as_secs())]
    TooLate { url: String },
    #[error("cancelled")]
    Cancelled,
    #[error("cannot {attempt} {path}", path = path.display())]
    Files {
        attempt: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{url} has no folder {subdir}, or a link is on the way to it")]
    NoFolder { url: String, subdir: String },
    #[error("{url} has no file {file}, or a link is on the way to it")]
    NoDockerfile { url: String, file: String },
}

/// A context that is on disk until this is dropped.
#[derive(Debug)]
pub(crate) struct Checkout {
    folder: Option<tempfile::TempDir>,
    url: String,
    /// The context itself, below `folder`.
    context: PathBuf,
    /// It names further repositories, which are not fetched.
    has_submodules: bool,
}

impl Checkout {
    /// Fetches it, into a folder below `parent`. Blocks.
    pub(crate) fn fetch(
        git: &GitContext,
        parent: &Path,
        engine: Option<&Engine>,
        cancel: &CancellationToken,
    ) -> Result<Self, GitError> {
        let url = git.url.clone();
        let proxied = variables(&PROXIES).next().is_some();
        let place = address::find(&url, proxied, address::look_up).map_err(|source| {
            let url = url.clone();
            GitError::Address { url, source }
        })?;
        let folder = private_folder(parent)?;
        let tree = folder.path().join("context");
        make(&tree)?;
        let group = engine.and_then(|engine| bounded(engine, folder.path()));
        let run = Run {
            group,
            git,
            place,
            folder: folder.path(),
            tree: &tree,
            cancel,
            until: Instant::now() + DEADLINE,
        };
        run.git(&["init", "--quiet", "--template="])?;
        run.fetch()?;
        run.git(&["checkout", "--quiet", "--detach", "FETCH_HEAD"])?;
        let own = tree.join(".git");
        fs::remove_dir_all(&own).map_err(failed("remove", &own))?;
        let context = match &git.subdir {
            None => tree.clone(),
            Some(subdir) => {
                let no_folder = || GitError::NoFolder {
                    url: url.clone(),
                    subdir: subdir.clone(),
                };
                open_inside(&tree, subdir, OFlags::DIRECTORY).map_err(|_| no_folder())?;
                tree.join(subdir)
            }
        };
        Ok(Self {
            has_submodules: tree.join(".gitmodules").symlink_metadata().is_ok(),
            url,
            context,
            folder: Some(folder),
        })
    }

    /// Makes it the context of a request.
    pub(crate) fn give(&self, request: &mut BuildRequest) -> Result<(), GitError> {
        if let DockerfileSource::Path(path) = &request.dockerfile {
            request.dockerfile = DockerfileSource::Inline(self.dockerfile(path)?);
        }
        request.context.clone_from(&self.context);
        self.admit(request)
    }

    /// Makes it one of a request's further contexts.
    pub(crate) fn give_as(&self, name: &str, request: &mut BuildRequest) -> Result<(), GitError> {
        let folder = NamedContext::Folder(self.context.clone());
        request.contexts.insert(name.to_owned(), folder);
        self.admit(request)
    }

    fn admit(&self, request: &mut BuildRequest) -> Result<(), GitError> {
        // It lies among Havre's own files.
        let real = fs::canonicalize(&self.context).map_err(failed("find", &self.context))?;
        let others = request.reach.clone();
        request.reach = Reach::new(move |path| match path.starts_with(&real) {
            true => Ok(()),
            false => others.check(path),
        });
        Ok(())
    }

    /// The text of a Dockerfile in the context: nothing outside of it, whatever links say.
    fn dockerfile(&self, path: &Path) -> Result<String, GitError> {
        let missing = |_| GitError::NoDockerfile {
            url: self.url.clone(),
            file: path.display().to_string(),
        };
        let file = open_inside(&self.context, path, OFlags::RDONLY).map_err(missing)?;
        let mut text = String::new();
        fs::File::from(file)
            .take(LARGEST_DOCKERFILE)
            .read_to_string(&mut text)
            .map_err(failed("read", path))?;
        Ok(text)
    }
}

impl Drop for Checkout {
    /// Many files take their time, which whoever drops this may not have.
    fn drop(&mut self) {
        let Some(folder) = self.folder.take() else {
            return;
        };
        let remove = move || {
            if let Err(error) = folder.close() {
                tracing::warn!(%error, "what was fetched by git stays until the next start");
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

/// The context of a build that is fetched, if it is.
pub(crate) async fn context(
    build: &Build,
    host: &Host,
    events: &EventSink,
) -> Result<Option<Checkout>, ApiError> {
    match &build.git {
        Some(git) => fetched(git, host, events).await.map(Some),
        None => Ok(None),
    }
}

/// The others that a build names, by these names.
pub(crate) async fn further_contexts(
    build: &Build,
    host: &Host,
    events: &EventSink,
) -> Result<BTreeMap<String, Checkout>, ApiError> {
    let mut all = BTreeMap::new();
    for (name, context) in &build.contexts {
        if let BuildContext::Git(git) = context {
            all.insert(name.clone(), fetched(git, host, events).await?);
        }
    }
    Ok(all)
}

/// All that a build has fetched.
pub(crate) fn contexts(build: &Build) -> impl Iterator<Item = &GitContext> {
    let further = build.contexts.values().filter_map(|context| match context {
        BuildContext::Git(git) => Some(git),
        BuildContext::Folder { .. } | BuildContext::Image { .. } | BuildContext::Service { .. } => {
            None
        }
    });
    build.git.iter().chain(further)
}

async fn fetched(git: &GitContext, host: &Host, events: &EventSink) -> Result<Checkout, ApiError> {
    let git = git.clone();
    let parent = host.platform.root.git_dir();
    let engine = host.engine.clone();
    let cancel = events.cancellation().child_token();
    let ended = cancel.clone();
    let into = parent.clone();
    let mut fetch =
        tokio::task::spawn_blocking(move || Checkout::fetch(&git, &into, Some(&engine), &ended));
    let fetched = tokio::select! {
        fetched = &mut fetch => fetched,
        // The folder itself is made by the first fetch.
        refusal = pressure::short(parent.parent().unwrap_or(&parent), "fetching a repository") => {
            cancel.cancel();
            if let Ok(Err(error)) = fetch.await {
                tracing::debug!(%error, "a fetch was given up");
            }
            return Err(refusal);
        }
    };
    let fetched = fetched.map_err(|error| ApiError::from_error(ErrorCode::Failed, &error))?;
    let checkout = fetched.map_err(|error| refusal(&error))?;
    if checkout.has_submodules {
        events.emit(Event::Warning {
            message: format!("{}: its submodules are not fetched", checkout.url),
            hint: None,
        });
    }
    Ok(checkout)
}

/// As a person is told.
pub(crate) fn refusal(error: &GitError) -> ApiError {
    let told = ApiError::from_error(ErrorCode::Failed, error);
    match error {
        GitError::NoGit { .. } => told.with_hint("install git on this machine"),
        GitError::Git { .. } => told.with_hint(
            "only public repositories are fetched; others are cloned first, and built from the folder",
        ),
        GitError::Address {
            source: AddressError::Own { .. },
            ..
        } => told.with_hint("clone it, and build from the folder"),
        GitError::Address { .. }
        | GitError::TooLarge { .. }
        | GitError::TooLate { .. }
        | GitError::Cancelled
        | GitError::Files { .. }
        | GitError::NoFolder { .. }
        | GitError::NoDockerfile { .. } => told,
    }
}

/// One fetch.
struct Run<'a> {
    /// `None` where this machine has none.
    group: Option<Group>,
    git: &'a GitContext,
    place: ResolvedRemote,
    /// Holds the tree.
    folder: &'a Path,
    tree: &'a Path,
    cancel: &'a CancellationToken,
    until: Instant,
}

impl Run<'_> {
    fn fetch(&self) -> Result<(), GitError> {
        match self.fetch_from(&self.place.url) {
            Err(GitError::Git { said, .. }) if said.contains(REDIRECTED) => {
                let url = self.place.url.trim_end_matches('/');
                // As some servers do for a repository that is named without its ending.
                let fetched = match url.ends_with(".git") {
                    true => Err(()),
                    false => self.fetch_from(&format!("{url}.git")).map_err(drop),
                };
                fetched.map_err(|()| GitError::Git {
                    url: self.git.url.clone(),
                    said: format!("{said}; write the address that it leads to, no other is asked"),
                })
            }
            fetched => fetched,
        }
    }

    fn fetch_from(&self, url: &str) -> Result<(), GitError> {
        let reference = self.git.reference.as_deref().unwrap_or("HEAD");
        let fetch = |more: &[&str]| {
            let mut args = vec!["fetch", "--quiet", "--no-tags"];
            args.extend(more);
            args.extend(["--end-of-options", url, reference]);
            self.git(&args)
        };
        match fetch(&["--depth=1"]) {
            // Plain files over HTTP know no depth.
            Err(GitError::Git { said, .. }) if said.contains("shallow") => fetch(&[]).map(drop),
            fetched => fetched.map(drop),
        }
    }

    /// Runs git in the tree; what it prints.
    fn git(&self, args: &[&str]) -> Result<String, GitError> {
        let beside = |name| self.folder.join(name);
        let (printed, said) = (beside("printed"), beside("said"));
        let mut child = self.spawn(args, &printed, &said)?;
        let ended = self.wait(&mut child);
        if ended.is_err() {
            end(&mut child);
        }
        match ended? {
            true => tail(&printed),
            false if self.group.as_ref().is_some_and(Group::ran_out_of_memory) => {
                Err(GitError::TooLarge {
                    url: self.git.url.clone(),
                    what: format!(
                        "git needs more than {} GiB of memory",
                        confine::MOST_MEMORY >> 30
                    ),
                })
            }
            false => Err(GitError::Git {
                url: self.git.url.clone(),
                said: last_line(&tail(&said)?),
            }),
        }
    }

    fn spawn(&self, args: &[&str], printed: &Path, said: &Path) -> Result<Child, GitError> {
        let output = |path: &Path| fs::File::create(path).map_err(failed("create", path));
        let mut command = Command::new("git");
        for setting in SETTINGS.into_iter().chain(self.place.setting.as_deref()) {
            command.args(["-c", setting]);
        }
        let host = self.place.host.iter();
        command
            .args(args)
            .env_clear()
            .envs(variables(&PROXIES))
            .envs(variables(&OF_THE_NETWORK))
            .envs(host.map(|host| ("GIT_OVERRIDE_VIRTUAL_HOST", host)))
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", confine::TREE)
            .env("LC_ALL", "C")
            .env("GIT_ALLOW_PROTOCOL", "https:http:git")
            .env("GIT_ASKPASS", "/bin/false")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .stdin(Stdio::null())
            .stdout(output(printed)?)
            .stderr(output(said)?)
            .process_group(0);
        confine::confine(&mut command, self.folder, MOST_BYTES, self.group.as_ref())
            .map_err(failed("show git", self.folder))?;
        command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => GitError::NoGit {
                url: self.git.url.clone(),
            },
            _ => failed("run git in", self.tree)(error),
        })
    }

    /// Whether it succeeded.
    fn wait(&self, child: &mut Child) -> Result<bool, GitError> {
        let check = || check_size(self.tree, &self.git.url);
        let mut look = Instant::now() + LOOK;
        loop {
            if let Some(status) = child
                .try_wait()
                .map_err(failed("wait for git in", self.tree))?
            {
                check()?;
                return Ok(status.success());
            }
            if self.cancel.is_cancelled() {
                return Err(GitError::Cancelled);
            }
            if Instant::now() >= self.until {
                return Err(GitError::TooLate {
                    url: self.git.url.clone(),
                });
            }
            if Instant::now() >= look {
                check()?;
                look = Instant::now() + LOOK;
            }
            std::thread::sleep(POLL);
        }
    }
}

/// The bounds that git and all it starts have together. Without control groups for them each process
/// has bounds of its own, as it has anyway.
fn bounded(engine: &Engine, folder: &Path) -> Option<Group> {
    let limits = Limits {
        memory_bytes: Some(confine::MOST_MEMORY),
        pids: Some(MOST_TASKS),
        ..Limits::default()
    };
    // Unlike any other folder's.
    let name = folder.file_name()?.to_string_lossy();
    let made = engine.group(BUILD_ENVIRONMENT, &name, &limits);
    made.inspect_err(|error| {
        let error: &dyn std::error::Error = error;
        tracing::warn!(error, "the processes of a git have no bound together");
    })
    .ok()
}

/// Ends git and what it has started.
fn end(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw)
        && let Err(error) = rustix::process::kill_process_group(group, Signal::KILL)
    {
        tracing::warn!(%error, "cannot end git");
    }
    if let Err(error) = child.wait() {
        tracing::warn!(%error, "cannot wait for git");
    }
}

fn variables(names: &[&'static str]) -> impl Iterator<Item = (&'static str, OsString)> {
    let value = |name: &&'static str| Some((*name, std::env::var_os(name)?));
    names.iter().filter_map(value)
}

/// A folder that root alone may change, and through which git's user gets to its own.
fn private_folder(parent: &Path) -> Result<tempfile::TempDir, GitError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(parent)
        .map_err(failed("make", parent))?;
    let folder = tempfile::Builder::new()
        .prefix("fetch-")
        .tempdir_in(parent)
        .map_err(failed("make a folder in", parent))?;
    let open = fs::Permissions::from_mode(0o711);
    fs::set_permissions(folder.path(), open).map_err(failed("open", folder.path()))?;
    Ok(folder)
}

fn make(tree: &Path) -> Result<(), GitError> {
    fs::create_dir(tree).map_err(failed("make", tree))?;
    fs::set_permissions(tree, fs::Permissions::from_mode(0o700)).map_err(failed("close", tree))?;
    std::os::unix::fs::chown(tree, Some(GIT_USER), Some(GIT_USER))
        .map_err(failed("hand over", tree))
}

/// Opens what is below a folder, by way of no link.
fn open_inside(folder: &Path, below: impl rustix::path::Arg, flags: OFlags) -> io::Result<OwnedFd> {
    let top = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(folder, top, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    // A FIFO must not be waited for.
    let flags = flags | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::openat2(
        root,
        below,
        flags,
        Mode::empty(),
        resolve,
    )?)
}

/// An error where what is below is more than may be. What git has moved or removed meanwhile is not
/// there any more; what cannot be counted otherwise might be any number.
fn check_size(folder: &Path, url: &str) -> Result<(), GitError> {
    let too_large = |what: String| GitError::TooLarge {
        url: url.to_owned(),
        what,
    };
    let (mut bytes, mut files) = (0_u64, 0);
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        let count = |error| failed("count what is in", &folder)(error);
        let Some(entries) = still_there(fs::read_dir(&folder)).map_err(count)? else {
            continue;
        };
        for entry in entries {
            let Some(entry) = still_there(entry).map_err(count)? else {
                continue;
            };
            let Some(meta) = still_there(entry.metadata()).map_err(count)? else {
                continue;
            };
            files += 1;
            bytes = bytes.saturating_add(meta.len());
            if meta.is_dir() {
                open.push(entry.path());
            }
            if files > MOST_FILES {
                return Err(too_large(format!("more than {MOST_FILES} files")));
            }
            if bytes > MOST_BYTES {
                return Err(too_large(format!("more than {} GiB", MOST_BYTES >> 30)));
            }
        }
    }
    Ok(())
}

fn still_there<T>(looked: io::Result<T>) -> io::Result<Option<T>> {
    match looked {
        Ok(found) => Ok(Some(found)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
            _ => Err(error),
        },
    }
}

fn tail(path: &Path) -> Result<String, GitError> {
    use std::io::{Seek as _, SeekFrom};
    let read = || -> io::Result<Vec<u8>> {
        let mut file = fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LAST_WORDS)))?;
        let mut text = Vec::new();
        file.take(LAST_WORDS).read_to_end(&mut text)?;
        Ok(text)
    };
    let text = read().map_err(failed("read", path))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// What git says last says most.
fn last_line(text: &str) -> String {
    let mut lines = text.lines().map(str::trim);
    let last = lines.rfind(|line| line.starts_with("fatal:") || line.starts_with("error:"));
    last.unwrap_or(text.trim())
        .chars()
        .filter(|c| !c.is_control() || *c == '\n')
        .collect()
}

fn failed(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> GitError {
    let path = path.to_owned();
    move |source| GitError::Files {
        attempt,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(args: &[&str], at: &Path) {
        let ran = Command::new("git").args(args).current_dir(at).output();
        let ran = ran.expect("git");
        assert!(ran.status.success(), "{ran:?}");
    }

    /// Should an address pass the reader that must not, git refuses it.
    #[test]
    #[allow(clippy::disallowed_macros, reason = "its output is for a person")]
    fn git_itself_opens_nothing_of_this_machine() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: needs root");
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("open");
        git(&["init", "--quiet", "--bare", "a.git"], folder.path());
        let here = folder.path().join("a.git");
        let mark = folder.path().join("mark");
        for url in [
            here.display().to_string(),
            format!("file://{}", here.display()),
            format!("ext::sh -c touch% {}", mark.display()),
            format!("--upload-pack=touch {}", mark.display()),
        ] {
            let context = GitContext {
                url: url.clone(),
                reference: None,
                subdir: None,
            };
            let fetched = Checkout::fetch(&context, folder.path(), None, &CancellationToken::new());
            assert!(
                matches!(fetched, Err(GitError::Git { .. })),
                "{url}: {fetched:?}"
            );
            assert!(!mark.exists(), "{url}");
        }
    }

    #[test]
    fn what_cannot_be_counted_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let gone = folder.path().join("gone");
        check_size(&gone, "url").expect("git has removed it");
        std::os::unix::fs::symlink("loop", folder.path().join("loop")).expect("a link");
        let error = check_size(&folder.path().join("loop"), "url").expect_err("an error");
        assert!(matches!(error, GitError::Files { .. }), "{error}");
    }

    #[test]
    fn what_git_says_last_says_most() {
        let text = "hint: more\nfatal: repository \u{1b}[31mnot found\n";
        assert_eq!(last_line(text), "fatal: repository [31mnot found");
        assert_eq!(last_line("nothing known\n"), "nothing known");
    }
}
