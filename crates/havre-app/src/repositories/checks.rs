//! Workflow files of a commit, checked before a branch moves to it.

use std::path::PathBuf;

use havre_base::{blocking, one_line};
use havre_git::{EntryKind, ObjectError, Objects, Oid};
use havre_model::{Diagnostic, EnvironmentGates};
use havre_workflow::Limits;
use havre_workflow::calls::Policy;
use havre_workflow::lock;
use havre_workflow::repository::{self, File};

/// Where workflow files are.
const FOLDER: &str = ".github/workflows";
/// Files of the folder.
const MOST_FILES: usize = 1000;
/// Bytes of all workflow files together.
const MOST_BYTES: usize = 16 << 20;
/// Errors that a pusher is shown.
const MOST_SHOWN: usize = 50;

/// What says what has to hold in environments.
const GATES: &str = "havre.yaml";
const MOST_GATES_BYTES: u64 = 1 << 20;

/// What has to hold in environments, as a commit says; lines about what is wrong with that.
pub(crate) async fn gates(
    objects: &Objects,
    commit: &Oid,
) -> Result<Vec<EnvironmentGates>, Vec<String>> {
    let file = objects.file(commit, GATES, MOST_GATES_BYTES).await;
    let file = file.map_err(|error| vec![format!("{GATES}:1:1: {}", one_line(&error))])?;
    let Some(bytes) = file else {
        return Ok(Vec::new());
    };
    let read = blocking(move || havre_model::gates_of(&String::from_utf8_lossy(&bytes))).await;
    match read {
        Ok(Ok(gates)) => Ok(gates),
        Ok(Err(failure)) => Err(told(&failure.errors)),
        Err(error) => Err(vec![format!("{GATES} cannot be checked: {error}")]),
    }
}

/// Lines about what is wrong with the workflow files of a commit; none where nothing is.
pub(crate) async fn wrong(objects: &Objects, commit: &Oid) -> Vec<String> {
    let files = match files(objects, commit).await {
        Ok(files) => files,
        Err(line) => return vec![line],
    };
    let checked =
        blocking(move || repository::check(&files, Policy::Permissive, &Limits::default()));
    match checked.await {
        Ok(findings) => told(&findings.errors),
        Err(error) => vec![format!("{FOLDER} cannot be checked: {error}")],
    }
}

/// The workflow files of a commit and their lock file; a line about why they cannot be had.
pub(crate) async fn files(objects: &Objects, commit: &Oid) -> Result<Vec<File>, String> {
    let failed = |error: &ObjectError| format!("{FOLDER} cannot be read: {}", one_line(error));
    let listed = objects.folder(commit, FOLDER, MOST_FILES).await;
    let listed = listed.map_err(|error| failed(&error))?.unwrap_or_default();
    let most = Limits::default().bytes as u64;
    let mut files = Vec::new();
    let mut bytes = 0;
    for entry in listed {
        let is_workflow = [".yml", ".yaml"]
            .iter()
            .any(|end| entry.name.ends_with(end));
        let is_lock = lock::PATH.strip_prefix(FOLDER) == Some(&format!("/{}", entry.name));
        if !(is_workflow || is_lock) || !matches!(entry.kind, EntryKind::File | EntryKind::Program)
        {
            continue;
        }
        let path = format!("{FOLDER}/{}", entry.name);
        let content = objects.blob(&entry.oid, most).await.map_err(|error| {
            let error = match error {
                ObjectError::TooLarge { size, most, .. } => {
                    format!("it has {size} bytes, and at most {most} are read")
                }
                error => one_line(&error),
            };
            format!("{path}:1:1: {error}")
        })?;
        bytes += content.len();
        if bytes > MOST_BYTES {
            let most = MOST_BYTES >> 20;
            return Err(format!(
                "{FOLDER} has more than {most} MiB of workflow files"
            ));
        }
        files.push(File {
            shown: PathBuf::from(&path),
            path: Some(path),
            bytes: content,
            wanted: true,
        });
    }
    Ok(files)
}

/// `FILE:LINE:COLUMN: MESSAGE`, a line each. Pure.
fn told(errors: &[Diagnostic]) -> Vec<String> {
    let mut lines = Vec::new();
    for error in errors.iter().take(MOST_SHOWN) {
        lines.push(match &error.location {
            Some(at) => {
                let file = at.file.display();
                format!("{file}:{}:{}: {}", at.line, at.column, error.message)
            }
            None => error.message.clone(),
        });
        if let Some(hint) = &error.hint {
            lines.extend(hint.lines().map(|line| format!("  hint: {line}")));
        }
    }
    let more = errors.len().saturating_sub(MOST_SHOWN);
    if more > 0 {
        lines.push(format!("… and {more} more errors"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_with_its_place() {
        let file = |text: &str| File {
            shown: PathBuf::from(".github/workflows/ci.yml"),
            path: Some(".github/workflows/ci.yml".to_owned()),
            bytes: text.as_bytes().to_vec(),
            wanted: true,
        };
        let check = |text: &str| {
            let files = [file(text)];
            told(&repository::check(&files, Policy::Permissive, &Limits::default()).errors)
        };
        let sound =
            "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: true\n";
        assert_eq!(check(sound), Vec::<String>::new());
        let lines = check(&sound.replace("steps", "stepz"));
        let place = ".github/workflows/ci.yml:5:5: ";
        assert!(
            lines.iter().any(|line| line.starts_with(place)),
            "{lines:?}"
        );
    }
}
