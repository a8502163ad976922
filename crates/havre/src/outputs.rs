//! What later steps of a workflow's job learn of a command: outputs of the step that runs it.

use std::fs::OpenOptions;
use std::io::Write as _;

use crate::error::Failure;
use crate::exit::Exit;

/// The file that the runner reads, GitHub's or ours; no other program's jobs have one.
const FILE: &str = "GITHUB_OUTPUT";

/// Whether this is a step of a job.
pub fn are_wanted() -> bool {
    file().is_some()
}

/// Tells what is known, if this is a step of a job.
pub fn tell(outputs: &[(&str, String)]) -> Result<(), Failure> {
    let Some(path) = file() else {
        return Ok(());
    };
    let opened = OpenOptions::new().append(true).open(&path);
    let written = opened.and_then(|mut file| file.write_all(lines(outputs).as_bytes()));
    written.map_err(|error| {
        let message = format!("cannot write the outputs of this step to {path}");
        Failure::new(Exit::Failed, message).caused_by(&error)
    })
}

fn file() -> Option<String> {
    std::env::var(FILE).ok().filter(|path| !path.is_empty())
}

/// A line each. What has a line feed would be read as more than one, and is left out. Pure.
fn lines(outputs: &[(&str, String)]) -> String {
    let whole = outputs
        .iter()
        .filter(|(_, value)| !value.contains(['\n', '\r']));
    whole
        .map(|(name, value)| format!("{name}={value}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_output_is_a_line() {
        let outputs = [
            ("url", "https://shop.localhost:8443/?a=b".to_owned()),
            ("odd", "1\nurl=https://elsewhere".to_owned()),
            ("release", "7".to_owned()),
        ];
        assert_eq!(
            super::lines(&outputs),
            "url=https://shop.localhost:8443/?a=b\nrelease=7\n"
        );
    }
}
