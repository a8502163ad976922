//! `actions/github-script`: a script for Node.js, with the little around it that scripts use.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::failure::{Failure, refused};
use crate::step::Step;

/// Reads the script from a variable, and tells by the step's files and its standard output.
const SHIM: &str = include_str!("script/shim.js");

pub(crate) fn main(step: &Step) -> Result<(), Failure> {
    if !matches!(
        step.input("result-encoding").as_str(),
        "" | "json" | "string"
    ) {
        return refused("`result-encoding` must be json or string");
    }
    let path = step
        .temp()?
        .join(format!("{}.cjs", step.fresh_name("script")));
    std::fs::write(&path, SHIM).map_err(Failure::io(format!("write {}", path.display())))?;
    let status = Command::new("node")
        .arg(&path)
        .current_dir(step.workspace()?)
        .stdin(Stdio::null())
        .status();
    remove(&path)?;
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::Program {
            command: "node".to_owned(),
            status: status.to_string(),
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => refused(
            "there is no node here to run the script with: put `actions/setup-node` before, or choose an image of \
             Node.js (`container:`)",
        ),
        Err(source) => Err(Failure::Io {
            doing: "start node".to_owned(),
            source,
        }),
    }
}

fn remove(path: &Path) -> Result<(), Failure> {
    std::fs::remove_file(path).map_err(Failure::io(format!("remove {}", path.display())))
}
