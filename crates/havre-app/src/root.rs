//! The folders of one installation.

use std::fmt::Write as _;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::way::real_or_itself;

mod access;

/// Modes of what is this installation's own. A process of ours that gives up root can reach none of
/// it: it opens what it needs before, or gets it passed as a descriptor.
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Folders that are closed once more below the two that are closed anyway, so that a mode that
/// somebody gives to one of those opens nothing. The edge's files are the edge's to open and close.
const STATE_FOLDERS: [&str; 16] = [
    "images",
    "sources",
    "containers",
    "volumes",
    "logs",
    "secrets",
    "contents",
    "seal",
    "tls",
    "net",
    "build",
    "git",
    "repositories",
    "jobs",
    "results",
    "runs",
];
const RUN_FOLDERS: [&str; 5] = ["c", "net", "build", "git", "jobs"];
const STATE_FILES: [&str; 5] = [
    "state.db",
    "state.db-wal",
    "state.db-shm",
    "results.key",
    "daemon.log",
];

/// A folder or file of the installation is not as it must be.
#[derive(Debug, thiserror::Error)]
#[error("cannot prepare {path}", path = path.display())]
pub struct FolderError {
    /// Which.
    pub path: PathBuf,
    /// The reason.
    pub source: io::Error,
}

/// Where one installation keeps its files. Two roots on one machine do not see each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    base: Option<PathBuf>,
    state: PathBuf,
    run: PathBuf,
    etc: PathBuf,
}

impl Root {
    /// The machine's own folders, or all of them below `base`.
    pub fn new(base: Option<PathBuf>) -> Self {
        match base {
            Some(base) => {
                let base = std::path::absolute(&base).unwrap_or(base);
                Self {
                    state: base.join("lib"),
                    run: base.join("run"),
                    etc: base.join("etc"),
                    base: Some(base),
                }
            }
            None => Self {
                base: None,
                state: PathBuf::from("/var/lib/havre"),
                run: PathBuf::from("/run/havre"),
                etc: PathBuf::from("/etc/havre"),
            },
        }
    }

    /// The folder given by the user, if one was.
    pub fn base(&self) -> Option<&Path> {
        self.base.as_deref()
    }

    /// What must be kept: database, images, volumes, logs, certificates.
    pub fn state_dir(&self) -> &Path {
        &self.state
    }

    /// What may vanish at a reboot: sockets, shims, pinned namespaces.
    pub fn run_dir(&self) -> &Path {
        &self.run
    }

    /// What people configure: it is theirs to make.
    pub fn etc_dir(&self) -> &Path {
        &self.etc
    }

    /// What the machine is configured by, where there is such a file.
    pub fn machine_file(&self) -> PathBuf {
        self.etc.join("machine.yaml")
    }

    /// The edge's own part of the state folder: its last state, the access log.
    pub fn edge_state_dir(&self) -> PathBuf {
        self.state.join("edge")
    }

    /// The edge's own part of the run folder: its control sockets.
    pub fn edge_run_dir(&self) -> PathBuf {
        self.run.join("edge")
    }

    /// Repositories that are build contexts, until their build is over.
    pub fn git_dir(&self) -> PathBuf {
        self.state.join("git")
    }

    /// Repositories of projects, which are pushed to.
    pub(crate) fn repositories_dir(&self) -> PathBuf {
        self.state.join("repositories")
    }

    /// Of other servers: actions, and workflows that are called.
    pub(crate) fn remotes_dir(&self) -> PathBuf {
        self.state.join("remotes")
    }

    /// What git sees while it serves one of them.
    pub(crate) fn git_run_dir(&self) -> PathBuf {
        self.run.join("git")
    }

    /// All that is this installation's own, as it is now.
    pub(crate) fn own_folders(&self) -> OwnFolders {
        let top = [&self.state, &self.run, &self.etc].into_iter().cloned();
        let state = STATE_FOLDERS.iter().map(|name| self.state.join(name));
        let run = RUN_FOLDERS.iter().map(|name| self.run.join(name));
        let all = top.chain(state).chain(run);
        OwnFolders(all.map(|dir| real_or_itself(&dir)).collect())
    }

    /// What jobs on this machine's own programs never see, whatever its mode.
    pub(crate) fn hidden(&self) -> Vec<PathBuf> {
        let all = [&self.state, &self.run, &self.etc].into_iter();
        all.chain(self.base.as_ref()).cloned().collect()
    }

    /// The daemon's socket.
    pub fn api_socket(&self) -> PathBuf {
        self.run.join("api.sock")
    }

    /// The daemon's own log, where it is started in the background.
    pub fn daemon_log(&self) -> PathBuf {
        self.state.join("daemon.log")
    }

    /// Four hex digits that tell this installation's cgroups, network devices and firewall
    /// tables from those of others on the machine.
    pub fn instance(&self) -> String {
        let mut hex = String::with_capacity(4);
        for byte in &Sha256::digest(self.state.as_os_str().as_encoded_bytes())[..2] {
            // Writing to a String cannot fail.
            write!(hex, "{byte:02x}").ok();
        }
        hex
    }

    /// Makes the folders, for root only. Those that are there become so as well, whoever made
    /// them: what is below is nobody else's to read (environment values in the database), and a
    /// program with set-user-ID in a container's writable layer is nobody else's to run.
    pub fn create(&self) -> Result<(), FolderError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| FolderError { path, source }
        };
        for dir in [&self.state, &self.run] {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(FOLDER_MODE)
                .create(dir)
                .map_err(at(dir))?;
            access::close(dir, FOLDER_MODE).map_err(at(dir))?;
        }
        let state = STATE_FOLDERS.iter().map(|name| self.state.join(name));
        let run = RUN_FOLDERS.iter().map(|name| self.run.join(name));
        for dir in state.chain(run) {
            access::close_if_there(&dir, FOLDER_MODE).map_err(at(&dir))?;
        }
        for file in STATE_FILES.iter().map(|name| self.state.join(name)) {
            access::close_if_there(&file, FILE_MODE).map_err(at(&file))?;
        }
        Ok(())
    }

    /// Lets the members of a group reach the daemon's socket, and nothing else of the run folder.
    pub(crate) fn let_through(&self, group: u32) -> Result<(), FolderError> {
        access::let_through(&self.run, group).map_err(|source| FolderError {
            path: self.run.clone(),
            source,
        })
    }
}

/// An installation's own folders, without links: of a project nobody gets them without the owner's word.
#[derive(Clone, Debug)]
pub(crate) struct OwnFolders(Vec<PathBuf>);

impl OwnFolders {
    /// Whether what is at this path, without links, lies in one of them or holds one.
    pub(crate) fn touch(&self, real: &Path) -> bool {
        let mut all = self.0.iter();
        all.any(|own| real.starts_with(own) || own.starts_with(real))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn roots_have_instances_of_their_own() {
        let instance = |base: &str| Root::new(Some(base.into())).instance();
        assert_ne!(instance("/a"), instance("/b"));
        assert_eq!(instance("/a"), instance("/a"));
        assert_eq!(
            Root::new(None).api_socket(),
            Path::new("/run/havre/api.sock")
        );
    }

    #[test]
    fn its_own_folders_are_known_wherever_links_lead() {
        let base = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(base.path()).unwrap();
        let root = Root::new(Some(base.join("havre")));
        let disk = base.join("disk");
        for dir in ["state", "images"] {
            fs::create_dir_all(disk.join(dir)).unwrap();
        }
        fs::create_dir_all(root.etc_dir()).unwrap();
        symlink(disk.join("state"), root.state_dir()).unwrap();
        symlink(disk.join("images"), disk.join("state/images")).unwrap();
        let own = root.own_folders();
        for path in [
            "havre/etc/seal-1.key",
            "havre/run/api.sock",
            "havre",
            "disk/state/state.db",
            "disk/images/layer",
            "disk",
        ] {
            assert!(own.touch(&base.join(path)), "{path}");
        }
        for path in ["project", "havre-project/etc", "disk/other"] {
            assert!(!own.touch(&base.join(path)), "{path}");
        }
    }

    #[test]
    fn what_is_there_already_is_closed_to_others() {
        let base = tempfile::tempdir().unwrap();
        let root = Root::new(Some(base.path().to_owned()));
        let open = |path: &Path| {
            fs::create_dir_all(path).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o2777)).unwrap();
        };
        let database = root.state_dir().join("state.db");
        let folders = ["containers", "secrets"].map(|name| root.state_dir().join(name));
        for dir in [root.state_dir(), root.run_dir()] {
            open(dir);
        }
        folders.iter().for_each(|dir| open(dir));
        fs::write(&database, "values").unwrap();
        fs::set_permissions(&database, fs::Permissions::from_mode(0o644)).unwrap();
        // Somebody keeps the images on another disk.
        let elsewhere = base.path().join("disk");
        open(&elsewhere);
        symlink(&elsewhere, root.state_dir().join("images")).unwrap();
        root.create().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(root.state_dir()), 0o700);
        assert_eq!(mode(root.run_dir()), 0o700);
        assert_eq!(folders.each_ref().map(|dir| mode(dir)), [0o700, 0o700]);
        assert_eq!(mode(&elsewhere), 0o700);
        assert_eq!(mode(&database), 0o600);
    }
}
