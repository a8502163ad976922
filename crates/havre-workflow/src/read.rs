//! The way in: a file's text becomes a workflow, or all that is wrong with it.

use std::path::{Path, PathBuf};

use havre_yaml::report::Codes;
use havre_yaml::tree::{Dialect, Tags, parse};
use havre_yaml::{Diagnostic, LineColumn, Node, Report, Sources, Span};

use crate::check::check;
use crate::decode::decode;
use crate::limits::Limits;
use crate::model::Workflow;

pub(crate) const CODES: Codes = Codes {
    more: "workflow/more",
    breaking: &[],
};

/// A workflow that can be run.
#[derive(Debug)]
pub struct Read {
    /// What the file says.
    pub workflow: Workflow,
    /// What has no effect or is risky.
    pub warnings: Vec<Diagnostic>,
    /// The file's text, for places.
    pub sources: Sources,
}

impl Read {
    /// Further warnings about the file, at these places.
    pub fn warnings_at(&self, code: &'static str, found: Vec<(Span, String)>) -> Vec<Diagnostic> {
        let mut report = Report::new(PathBuf::new(), CODES);
        report.sources = self.sources.clone();
        for (at, message) in found {
            report.warn(code, at, message);
        }
        report.finish().1
    }
}

/// Why a workflow cannot be run.
#[derive(Debug)]
pub struct Failure {
    /// At least one.
    pub errors: Vec<Diagnostic>,
    /// What else was found.
    pub warnings: Vec<Diagnostic>,
}

/// Reads the text of a workflow file; `path` is shown relative to `root`.
pub fn read(root: &Path, path: &Path, text: &str, limits: &Limits) -> Result<Read, Failure> {
    let mut report = Report::new(PathBuf::from(root), CODES);
    let workflow = tree(path, text, limits, &mut report);
    if let (Some(workflow), false) = (workflow, report.has_errors()) {
        let sources = report.sources.clone();
        let (_, warnings) = report.finish();
        return Ok(Read {
            workflow,
            warnings,
            sources,
        });
    }
    let (errors, warnings) = report.finish();
    Err(Failure { errors, warnings })
}

fn tree(path: &Path, text: &str, limits: &Limits, report: &mut Report) -> Option<Workflow> {
    let root = document(path, text, "a workflow file", limits, report)?;
    check(&root, report);
    Some(decode(&root, limits, report))
}

/// The one document of a file; `what` is what messages call it.
pub(crate) fn document(
    path: &Path,
    text: &str,
    what: &str,
    limits: &Limits,
    report: &mut Report,
) -> Option<Node> {
    let too_large = text.len() > limits.bytes;
    // Of a text that is not read, the first line is all that is shown.
    let kept = if too_large { "" } else { text };
    let source = report.add_source(path, kept.trim_start_matches('\u{feff}').to_owned());
    let start = LineColumn { line: 1, column: 1 };
    let top = Span {
        source,
        start,
        end: start,
    };
    if too_large {
        let message = format!("the file is larger than {} bytes", limits.bytes);
        report.error("workflow/too-large", top, message);
        return None;
    }
    let dialect = Dialect {
        max_depth: limits.depth,
        merges: false,
        relaxed: true,
        tags: Tags::Core,
    };
    let mut documents = parse(source, &dialect, report)?;
    if let Some(second) = documents.get(1) {
        let message = format!("{what} holds one document");
        report.error("workflow/documents", second.span, message);
        return None;
    }
    match documents.pop().filter(|root| !root.is_null()) {
        Some(root) => Some(root),
        None => {
            report.error("workflow/empty", top, "the file is empty");
            None
        }
    }
}
