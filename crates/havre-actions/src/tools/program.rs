//! Programs of the machine.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::failure::{Failure, refused};
use crate::step::Step;

/// Folders of PATH, in their order.
pub(super) fn folders(step: &Step) -> Vec<PathBuf> {
    std::env::split_paths(step.var("PATH").unwrap_or_default())
        .filter(|folder| folder.is_absolute())
        .collect()
}

/// Where a program is.
pub(super) fn which(step: &Step, name: &str) -> Option<PathBuf> {
    folders(step)
        .into_iter()
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// What a program prints on both its outputs, if it does not fail.
pub(super) fn ask(program: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = [output.stdout, output.stderr].concat();
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&text).trim().to_owned())
}

/// Runs a program, shown in the log, with a folder before all others in its PATH.
pub(super) fn run(
    step: &Step,
    first: Option<&Path>,
    program: &Path,
    args: &[&str],
) -> Result<(), Failure> {
    let name = program
        .file_name()
        .unwrap_or(program.as_os_str())
        .to_string_lossy();
    let shown = format!("{name} {}", args.join(" "));
    step.say(&format!("[command]{shown}"));
    let mut command = Command::new(program);
    if let Some(first) = first {
        let path = std::env::join_paths([first.to_owned()].into_iter().chain(folders(step)));
        let path = path.or_else(|_| refused("a folder of PATH has a colon in its name"))?;
        command.env("PATH", path);
    }
    let status = command
        .args(args)
        .stdin(Stdio::null())
        .status()
        .map_err(Failure::io(format!("start {name}")))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::Program {
        command: shown,
        status: status.to_string(),
    })
}
