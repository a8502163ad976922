//! Collects findings while the files are read: all of them, not only the first.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::diagnostic::{Diagnostic, Severity, plain};
use crate::source::{LineColumn, SourceId, Sources, Span};
use crate::suggest;

/// Characters of a message.
const MAX_MESSAGE: usize = 600;
/// Findings of one severity kept at most; a broken file says enough by then.
const MAX_FINDINGS: usize = 200;

/// The codes that a report itself has to know.
#[derive(Clone, Copy, Debug)]
pub struct Codes {
    /// Says that more was found than is shown.
    pub more: &'static str,
    /// What [`Report::mark_broken`] is used for; no consequence of itself.
    pub breaking: &'static [&'static str],
}

/// The files and what is wrong with them.
#[derive(Debug)]
pub struct Report {
    /// The files that were read.
    pub sources: Sources,
    codes: Codes,
    errors: Vec<Finding>,
    warnings: Vec<Finding>,
    /// In a list of their own: many of them must not crowd warnings out.
    notes: Vec<Finding>,
    /// The service that is being read, if any.
    pub subject: Option<String>,
    /// Values that an error has been recorded for: what follows from it is not worth saying.
    broken: HashSet<(SourceId, LineColumn)>,
    /// Takes what is said after a list is full.
    overflow: Option<Diagnostic>,
    suppressed: usize,
    /// The worst of what was suppressed.
    worst: Severity,
}

#[derive(Debug)]
struct Finding {
    diagnostic: Diagnostic,
    subject: Option<String>,
}

/// A moment, to which [`Report::retain_since`] goes back.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    errors: usize,
    warnings: usize,
}

impl Report {
    /// Nothing found yet; `root` is the folder that paths are shown relative to.
    pub fn new(root: PathBuf, codes: Codes) -> Self {
        Self {
            codes,
            sources: Sources::new(root),
            errors: Vec::new(),
            warnings: Vec::new(),
            notes: Vec::new(),
            subject: None,
            broken: HashSet::new(),
            overflow: None,
            suppressed: 0,
            worst: Severity::Note,
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

    /// Records a finding of any severity; chain `.hint(…)`.
    pub fn record(
        &mut self,
        severity: Severity,
        code: &'static str,
        at: impl Into<Option<Span>>,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.push(severity, code, at.into(), message.into())
    }

    /// Whether an error was recorded.
    pub fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }

    /// Takes a file's text.
    pub fn add_source(&mut self, path: &Path, text: String) -> SourceId {
        self.sources.add(path, text)
    }

    /// A path as people should see it.
    pub fn shown(&self, path: &Path) -> String {
        self.sources.shown(path).display().to_string()
    }

    /// Adds to the hint of the last error of this code, in the order in which errors are shown; `text` is
    /// told how many others there are.
    pub fn hint_at_last(&mut self, code: &str, text: impl FnOnce(usize) -> String) {
        let place = |finding: &Finding| {
            let at = finding.diagnostic.location.as_ref();
            at.map_or((u32::MAX, 0), |at| (at.line, at.column))
        };
        let of_code = |finding: &&mut Finding| finding.diagnostic.code == code;
        let count = self.errors.iter_mut().filter(of_code).count();
        let last = self.errors.iter_mut().filter(of_code);
        if let Some(last) = last.max_by_key(|finding| place(finding)) {
            let hint = last.diagnostic.hint.take().unwrap_or_default();
            last.diagnostic.hint(format!("{hint}{}", text(count - 1)));
        }
    }

    /// Whether a further finding would only be counted: then its place need not be sought.
    pub fn is_full(&self, severity: Severity) -> bool {
        match severity {
            Severity::Error => self.errors.len() >= MAX_FINDINGS,
            Severity::Warning => self.warnings.len() >= MAX_FINDINGS,
            Severity::Note => self.notes.len() >= MAX_FINDINGS,
        }
    }

    /// The candidate nearest to `word`, for the hint of a finding; not sought where that would only be counted.
    pub fn nearest<'c>(
        &self,
        severity: Severity,
        word: &str,
        candidates: impl IntoIterator<Item = &'c str>,
    ) -> Option<&'c str> {
        match self.is_full(severity) {
            true => None,
            false => suggest::nearest(word, candidates),
        }
    }

    /// This moment.
    pub fn mark(&self) -> Mark {
        Mark {
            errors: self.errors.len(),
            warnings: self.warnings.len(),
        }
    }

    /// Forgets what was recorded from `from` up to `to`.
    pub fn forget_between(&mut self, from: Mark, to: Mark) {
        let lists = [
            (&mut self.errors, from.errors, to.errors),
            (&mut self.warnings, from.warnings, to.warnings),
        ];
        for (list, from, to) in lists {
            let to = to.min(list.len());
            list.drain(from.min(to)..to);
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

    /// Forgets warnings of this code.
    pub fn drop_warnings(&mut self, code: &str) {
        self.warnings
            .retain(|finding| finding.diagnostic.code != code);
    }

    /// Whether every error is of one of these codes.
    pub fn has_only_errors_of(&self, codes: &[&str]) -> bool {
        let known = |finding: &Finding| codes.contains(&finding.diagnostic.code);
        self.errors.iter().all(known)
    }

    /// Says that the value at `span` could not be read, so that nothing else is said about it.
    pub fn mark_broken(&mut self, span: Span) {
        self.broken.insert((span.source, span.start));
    }

    /// Gives findings since `mark` other codes.
    pub fn recode_since(&mut self, mark: Mark, code: fn(&'static str) -> &'static str) {
        let errors = self.errors.iter_mut().skip(mark.errors);
        for finding in errors.chain(self.warnings.iter_mut().skip(mark.warnings)) {
            finding.diagnostic.code = code(finding.diagnostic.code);
        }
    }

    /// `(errors, warnings)`, each ordered by place where the places are in one file; notes follow
    /// the warnings.
    pub fn finish(self) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
        let (mut errors, mut warnings) = (ordered(self.errors), ordered(self.warnings));
        warnings.extend(ordered(self.notes));
        if self.suppressed > 0 {
            let (list, severity) = if errors.is_empty() {
                (&mut warnings, self.worst)
            } else {
                (&mut errors, Severity::Error)
            };
            list.push(Diagnostic {
                severity,
                code: self.codes.more,
                message: format!("{} more findings are not shown", self.suppressed),
                location: None,
                hint: None,
            });
        }
        (errors, warnings)
    }

    fn push(
        &mut self,
        severity: Severity,
        code: &'static str,
        at: Option<Span>,
        message: String,
    ) -> &mut Diagnostic {
        // A variable is reported for each service that uses it: one of them may be disabled.
        let breaking = self.codes.breaking.contains(&code);
        let broken = at.is_some_and(|at| self.broken.contains(&(at.source, at.start)));
        let consequence = broken && !breaking;
        let full = consequence || self.is_full(severity);
        let (message, location) = match full {
            true => (String::new(), None),
            false => (
                presentable(message),
                at.map(|span| self.sources.location(span)),
            ),
        };
        let diagnostic = Diagnostic {
            severity,
            code,
            message,
            location,
            hint: None,
        };
        if full {
            if !consequence {
                self.suppressed += 1;
                self.worst = self.worst.max(severity);
            }
            return self.overflow.insert(diagnostic);
        }
        let list = match severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
            Severity::Note => &mut self.notes,
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

/// Names in messages come from the files, and may be of any length.
fn presentable(message: String) -> String {
    let mut message = plain(&message);
    if let Some((end, _)) = message.char_indices().nth(MAX_MESSAGE) {
        message.truncate(end);
        message.push('…');
    }
    message
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
    // One finding of an anchor's text comes once from each alias.
    let mut once: Vec<Diagnostic> = Vec::with_capacity(list.len());
    for finding in list {
        let same_place = once
            .iter()
            .rev()
            .take_while(|d| d.location == finding.location);
        if !same_place.into_iter().any(|d| *d == finding) {
            once.push(finding);
        }
    }
    once
}
