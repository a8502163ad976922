//! All workflow files of a repository, each for itself and for what they ask of each other.

use std::path::{Path, PathBuf};

use havre_yaml::{Diagnostic, LineColumn, Report, Span};

use crate::calls::{self, Called, Policy};
use crate::limits::Limits;
use crate::lock::{self, Lock};
use crate::model::CalledWorkflow;
use crate::read::{CODES, Read, read};

/// A workflow file, or the lock file beside them.
#[derive(Clone, Debug)]
pub struct File {
    /// As findings name it.
    pub shown: PathBuf,
    /// From the repository's root, e.g. `.github/workflows/ci.yml`; `None` where nobody knows the root.
    pub path: Option<String>,
    /// What it holds.
    pub bytes: Vec<u8>,
    /// Whether findings about it are wanted; others may still be called.
    pub wanted: bool,
}

/// What is wrong with the files that are wanted.
#[derive(Debug, Default)]
pub struct Findings {
    /// What keeps workflows from being run.
    pub errors: Vec<Diagnostic>,
    /// What has no effect or is risky.
    pub warnings: Vec<Diagnostic>,
}

/// Checks the workflow files of one repository.
pub fn check(files: &[File], policy: Policy, limits: &Limits) -> Findings {
    let mut findings = Findings::default();
    let mut known: Vec<(&File, Option<Read>)> = Vec::new();
    let (locks, files): (Vec<&File>, Vec<&File>) = files.iter().partition(|file| is_lock(file));
    let locks: Vec<(&File, Lock)> = locks
        .into_iter()
        .filter_map(|file| {
            let text = String::from_utf8_lossy(&file.bytes);
            match lock::read(&file.shown, &text) {
                Ok(lock) => Some((file, lock)),
                Err(failure) => {
                    findings.errors.extend(failure.errors);
                    None
                }
            }
        })
        .collect();
    for file in files {
        let (errors, warnings, found) = one(file, limits);
        if file.wanted {
            findings.errors.extend(errors);
            findings.warnings.extend(warnings);
        }
        known.push((file, found));
    }
    for (file, found) in &known {
        let Some(found) = found.as_ref().filter(|_| file.wanted) else {
            continue;
        };
        let find = |called: &CalledWorkflow| match called {
            CalledWorkflow::Remote(_) => Called::Elsewhere,
            CalledWorkflow::Local(_) if file.path.is_none() => Called::Elsewhere,
            CalledWorkflow::Local(path) => {
                let here = known
                    .iter()
                    .find(|(file, _)| file.path.as_ref() == Some(path));
                match here {
                    Some((_, Some(read))) => Called::Read(&read.workflow),
                    Some((_, None)) => Called::Broken,
                    None => Called::Missing,
                }
            }
        };
        findings
            .errors
            .extend(calls::check(found, policy, limits, &find));
        let beside = locks
            .iter()
            .find(|(lock, _)| lock.shown.parent() == file.shown.parent());
        if let (Some((_, lock)), Some(path)) = (beside, &file.path) {
            findings.errors.extend(lock::check(found, path, lock));
        }
    }
    findings
}

fn is_lock(file: &File) -> bool {
    file.path.as_deref() == Some(lock::PATH)
}

fn one(file: &File, limits: &Limits) -> (Vec<Diagnostic>, Vec<Diagnostic>, Option<Read>) {
    let text = String::from_utf8_lossy(&file.bytes);
    if let (Err(error), false) = (
        std::str::from_utf8(&file.bytes),
        file.bytes.len() > limits.bytes,
    ) {
        let error = not_utf8(&file.shown, &text, &file.bytes[..error.valid_up_to()]);
        return (error, Vec::new(), None);
    }
    match read(Path::new(""), &file.shown, &text, limits) {
        Ok(mut found) => {
            let warnings = std::mem::take(&mut found.warnings);
            (Vec::new(), warnings, Some(found))
        }
        Err(failure) => (failure.errors, failure.warnings, None),
    }
}

fn not_utf8(path: &Path, text: &str, valid: &[u8]) -> Vec<Diagnostic> {
    let mut report = Report::new(PathBuf::new(), CODES);
    let source = report.add_source(path, text.to_owned());
    let valid = String::from_utf8_lossy(valid);
    let line = valid.rsplit('\n').next().unwrap_or_default();
    let at = LineColumn {
        line: valid.matches('\n').count() as u32 + 1,
        column: line.chars().count() as u32 + 1,
    };
    let span = Span {
        source,
        start: at,
        end: at,
    };
    report.error("workflow/encoding", span, "the file is not UTF-8");
    report.finish().0
}
