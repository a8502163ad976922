//! systemd, where it runs: a unit per installation, and the program that acts on it.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use havre_app::Root;

use crate::error::Failure;
use crate::exit::Exit;

pub mod unit;

/// Where an administrator's units live.
const FOLDER: &str = "/etc/systemd/system";

/// There exactly when systemd is the init system: sd_booted(3).
const BOOTED: &str = "/run/systemd/system";

/// Whether systemd runs this machine.
pub fn runs() -> bool {
    Path::new(BOOTED).is_dir()
}

/// The name of an installation's unit: several can be installed side by side.
pub fn unit_name(root: &Root) -> String {
    match root.base() {
        Some(_) => format!("havre-{}.service", root.instance()),
        None => "havre.service".to_owned(),
    }
}

/// The file of an installation's unit.
pub fn unit_path(root: &Root) -> PathBuf {
    Path::new(FOLDER).join(unit_name(root))
}

/// The name of the unit that keeps this installation's daemon running, where there is one.
pub fn installed(root: &Root) -> Option<String> {
    (runs() && unit_path(root).is_file()).then(|| unit_name(root))
}

/// Where to read what the daemon logs.
pub fn log_of(root: &Root) -> String {
    match installed(root) {
        Some(unit) => format!("`journalctl -u {unit}`"),
        None => root.daemon_log().display().to_string(),
    }
}

/// Runs `systemctl` and waits for it: at a start until the daemon answers, for at most as long as
/// the unit allows.
pub fn systemctl(args: &[&str]) -> Result<(), Failure> {
    let cannot = |error: &io::Error| {
        let message = format!("cannot run `systemctl {}`", args.join(" "));
        Failure::new(Exit::Failed, message).caused_by(error)
    };
    let output = Command::new("systemctl")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| cannot(&error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = format!("{}: {}", output.status, said.trim());
    Err(cannot(&io::Error::other(said)))
}
