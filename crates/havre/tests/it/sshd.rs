//! A real sshd for one test: no port is opened, each connection starts one (`ProxyCommand sshd -i`).

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::program::program;

const SSHD: &str = "/usr/sbin/sshd";

/// Keys and configuration of both ends; the server's shells find `havre` and this root.
pub struct Sshd {
    folder: tempfile::TempDir,
}

impl Sshd {
    /// `None`, and says so, where there is none.
    pub fn of(root: &Path) -> Option<Self> {
        if !Path::new(SSHD).exists() || !rustix::process::geteuid().is_root() {
            println!("skipped: needs root and openssh-server");
            return None;
        }
        // As its unit of systemd does before each start.
        fs::create_dir_all("/run/sshd").unwrap();
        let folder = tempfile::Builder::new().prefix("hv").tempdir().unwrap();
        let at = folder.path().display().to_string();
        for (key, kind) in [("host", "ed25519"), ("other", "ed25519"), ("id", "ed25519")] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-N", "", "-C", "test", "-t", kind, "-f"])
                .arg(folder.path().join(key))
                .status()
                .unwrap();
            assert!(made.success());
        }
        for name in ["bin", "shell"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        symlink(program(), folder.path().join("bin/havre")).unwrap();
        let sshd = Self { folder };
        let server = format!(
            "HostKey {at}/host\nAuthorizedKeysFile {at}/id.pub\nStrictModes no\nUsePAM no\n\
             PermitRootLogin prohibit-password\nLogLevel VERBOSE\n\
             SetEnv HAVRE_ROOT={} PATH={at}/bin:/usr/bin:/bin\n",
            root.display()
        );
        sshd.write("sshd_config", &server);
        let client = format!(
            "Host *\n ProxyCommand {SSHD} -i -f {at}/sshd_config -E {at}/sshd.log\n\
             IdentityFile {at}/id\n IdentitiesOnly yes\n UserKnownHostsFile {at}/known\n\
             GlobalKnownHostsFile /dev/null\n StrictHostKeyChecking yes\n"
        );
        sshd.write("ssh_config", &client);
        sshd.knows("host");
        let ssh = format!("#!/bin/sh\nexec /usr/bin/ssh -F {at}/ssh_config \"$@\"\n");
        sshd.program("shell/ssh", &ssh);
        Some(sshd)
    }

    /// What the client takes for the key of `example.test`.
    pub fn knows(&self, key: &str) {
        let key = self.read(&format!("{key}.pub"));
        self.write("known", &format!("example.test {key}"));
    }

    /// The client knows no server.
    pub fn knows_nobody(&self) {
        self.write("known", "");
    }

    /// Nobody is let in any more.
    pub fn forgets_users(&self) {
        self.write("id.pub", "");
    }

    /// What the server's shells run as `havre`; nothing: there is none.
    pub fn havre_is(&self, script: &str) {
        fs::remove_file(self.folder.path().join("bin/havre")).unwrap();
        if !script.is_empty() {
            self.program("bin/havre", script);
        }
    }

    /// How often somebody was let in.
    pub fn logins(&self) -> usize {
        self.read("sshd.log").matches("Accepted publickey").count()
    }

    /// The program on a laptop: no root folder, and contexts of its own.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = laptop(self.folder.path(), args);
        let path = std::env::var("PATH").unwrap();
        let shell = self.folder.path().join("shell");
        command.env("PATH", format!("{}:{path}", shell.display()));
        command
    }

    /// A folder that ends with it.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    fn program(&self, name: &str, script: &str) {
        self.write(name, script);
        let path = self.folder.path().join(name);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }
}

/// The program as on a laptop: without a root, and with `home` for its configuration.
pub fn laptop(home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(args).stdin(Stdio::null());
    for name in [
        "HAVRE_ROOT",
        "HAVRE_ENVIRONMENT",
        "HAVRE_CONTEXT",
        "HAVRE_TOKEN",
        "XDG_RUNTIME_DIR",
        "NO_COLOR",
        "COMPOSE_PROJECT_NAME",
    ] {
        command.env_remove(name);
    }
    command.env("XDG_CONFIG_HOME", home.join("config"));
    command
}
