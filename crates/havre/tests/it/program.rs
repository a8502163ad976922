//! Running the program.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use havre_testing::api::{FakeDaemon, Script};

/// What the program did.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output in UTF-8");
        Self {
            code: output.status.code().expect("an exit code"),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}

/// The program with a fake daemon, in a folder that holds a project named `shop`.
pub struct World {
    pub daemon: FakeDaemon,
    pub folder: tempfile::TempDir,
}

pub const COMPOSE: &str = "\
name: shop
services:
  web:
    image: example.test/web:1
    expose: [80]
";

impl World {
    pub fn new(backend: Script) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("compose.yaml"), COMPOSE).unwrap();
        Self {
            daemon: FakeDaemon::start(backend),
            folder,
        }
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = command(&self.daemon.root(), args);
        command.current_dir(self.folder.path());
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        self.command(args).output().unwrap().into()
    }
}

/// The program without a terminal and without the caller's settings.
pub fn command(root: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program());
    command
        .arg("--root")
        .arg(root)
        .args(args)
        .stdin(Stdio::null());
    for name in [
        "HAVRE_ROOT",
        "HAVRE_ENVIRONMENT",
        "HAVRE_CONTEXT",
        "HAVRE_TOKEN",
        "NO_COLOR",
        "COMPOSE_PROJECT_NAME",
    ] {
        command.env_remove(name);
    }
    command
}

pub fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_havre"))
}
