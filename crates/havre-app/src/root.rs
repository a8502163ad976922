//! The folders of one installation.

use std::fmt::Write as _;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// Where one installation keeps its files. Two roots on one machine do not see each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    base: Option<PathBuf>,
    state: PathBuf,
    run: PathBuf,
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
                    base: Some(base),
                }
            }
            None => Self {
                base: None,
                state: PathBuf::from("/var/lib/havre"),
                run: PathBuf::from("/run/havre"),
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

    /// Makes the folders, for root only.
    pub fn create(&self) -> io::Result<()> {
        for dir in [&self.state, &self.run] {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
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
}
