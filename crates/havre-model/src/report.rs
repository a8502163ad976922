//! Collects findings while the files are read: all of them, not only the first.

use std::path::{Path, PathBuf};

use crate::diagnostic::{Diagnostic, Severity};
use crate::source::{SourceId, Sources, Span};

/// Findings of one severity kept at most; a broken file says enough by then.
const MAX_FINDINGS: usize = 200;

/// The files and what is wrong with them.
#[derive(Debug)]
pub(crate) struct Report {
    pub sources: Sources,
    errors: Vec<Finding>,
    warnings: Vec<Finding>,
    /// The service that is being read, if any.
    pub subject: Option<String>,
    /// Takes what is said after a list is full.
    overflow: Option<Diagnostic>,
}

#[derive(Debug)]
struct Finding {
    diagnostic: Diagnostic,
    subject: Option<String>,
}

/// A moment, to which [`Report::retain_since`] goes back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    errors: usize,
    warnings: usize,
}

impl Report {
    pub fn new(root: PathBuf) -> Self {
        Self {
            sources: Sources::new(root),
            errors: Vec::new(),
            warnings: Vec::new(),
            subject: None,
            overflow: None,
        }
    }

    /// Records an error; chain `.hint(…)`.
    pub fn error(
        &mut self,
        code: &'static str,
        at: impl Into<Option<Span>>,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.push(Severity::Error, code, at.into(), message.into())
    }

    /// Records a warning; chain `.hint(…)`.
    pub fn warn(
        &mut self,
        code: &'static str,
        at: impl Into<Option<Span>>,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.push(Severity::Warning, code, at.into(), message.into())
    }

    pub fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }

    pub fn add_source(&mut self, path: &Path, text: String) -> SourceId {
        self.sources.add(path, text)
    }

    /// A path as people should see it.
    pub fn shown(&self, path: &Path) -> String {
        self.sources.shown(path).display().to_string()
    }

    pub fn mark(&self) -> Mark {
        Mark {
            errors: self.errors.len(),
            warnings: self.warnings.len(),
        }
    }

    /// Keeps, of what was recorded since `mark`, only what `keep` says.
    pub fn retain_since(&mut self, mark: Mark, keep: impl Fn(&Diagnostic) -> bool) {
        let lists = [
            (&mut self.errors, mark.errors),
            (&mut self.warnings, mark.warnings),
        ];
        for (list, from) in lists {
            let late = list.split_off(from.min(list.len()));
            list.extend(late.into_iter().filter(|finding| keep(&finding.diagnostic)));
        }
    }

    /// Forgets findings of this code about services that `dropped` names.
    pub fn drop_about(&mut self, code: &str, dropped: impl Fn(&str) -> bool) {
        for list in [&mut self.errors, &mut self.warnings] {
            list.retain(|finding| {
                let about = finding.subject.as_deref();
                finding.diagnostic.code != code || !about.is_some_and(&dropped)
            });
        }
    }

    /// Gives findings since `mark` other codes.
    pub fn recode_since(&mut self, mark: Mark, code: fn(&'static str) -> &'static str) {
        let errors = self.errors.iter_mut().skip(mark.errors);
        for finding in errors.chain(self.warnings.iter_mut().skip(mark.warnings)) {
            finding.diagnostic.code = code(finding.diagnostic.code);
        }
    }

    /// `(errors, warnings)`, each ordered by place where the places are in one file.
    pub fn finish(self) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
        (ordered(self.errors), ordered(self.warnings))
    }

    fn push(
        &mut self,
        severity: Severity,
        code: &'static str,
        at: Option<Span>,
        message: String,
    ) -> &mut Diagnostic {
        let full = match severity {
            Severity::Error => self.errors.len() >= MAX_FINDINGS,
            Severity::Warning => self.warnings.len() >= MAX_FINDINGS,
        };
        let location = if full {
            None
        } else {
            at.map(|span| self.sources.location(span))
        };
        let diagnostic = Diagnostic {
            severity,
            code,
            message,
            location,
            hint: None,
        };
        if full {
            return self.overflow.insert(diagnostic);
        }
        let list = match severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        let subject = self.subject.clone();
        list.push(Finding {
            diagnostic,
            subject,
        });
        let last = list.len() - 1;
        &mut list[last].diagnostic
    }
}

/// By file in the order of first mention, then by place; each finding once.
fn ordered(findings: Vec<Finding>) -> Vec<Diagnostic> {
    let mut list: Vec<Diagnostic> = findings.into_iter().map(|f| f.diagnostic).collect();
    let mut files: Vec<PathBuf> = Vec::new();
    for location in list.iter().filter_map(|d| d.location.as_ref()) {
        if !files.contains(&location.file) {
            files.push(location.file.clone());
        }
    }
    list.sort_by_key(|d| {
        d.location.as_ref().map_or((usize::MAX, 0, 0), |l| {
            let file = files
                .iter()
                .position(|f| *f == l.file)
                .unwrap_or(usize::MAX);
            (file, l.line, l.column)
        })
    });
    list.dedup();
    list
}
