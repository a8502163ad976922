//! The files that were read and places in them.

use std::path::{Path, PathBuf};

use crate::diagnostic::{Location, plain};

/// Characters of a line that a [`Location`] keeps at most.
const LINE_WINDOW: usize = 160;

/// A file that was read, by its place in [`Sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SourceId(u32);

/// Line and column, both from 1; the column counts characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LineColumn {
    pub line: u32,
    pub column: u32,
}

/// From `start` up to but without `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub source: SourceId,
    pub start: LineColumn,
    pub end: LineColumn,
}

#[derive(Debug)]
struct SourceFile {
    path: PathBuf,
    text: String,
    /// Byte offset of each line's first character.
    lines: Vec<usize>,
}

/// Every file read during one load.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    files: Vec<SourceFile>,
    /// Paths inside are shown relative to it.
    root: PathBuf,
}

impl Sources {
    pub fn new(root: PathBuf) -> Self {
        Self {
            files: Vec::new(),
            root,
        }
    }

    pub fn add(&mut self, path: &Path, text: String) -> SourceId {
        let breaks = text
            .bytes()
            .enumerate()
            .filter(|(_, b)| *b == b'\n')
            .map(|(i, _)| i + 1);
        let lines = std::iter::once(0).chain(breaks).collect();
        self.files.push(SourceFile {
            path: path.to_owned(),
            text,
            lines,
        });
        SourceId((self.files.len() - 1) as u32)
    }

    pub fn text(&self, id: SourceId) -> &str {
        &self.files[id.0 as usize].text
    }

    /// How a path is shown to people.
    pub fn shown<'p>(&self, path: &'p Path) -> &'p Path {
        match path.strip_prefix(&self.root) {
            Ok(relative) if !relative.as_os_str().is_empty() => relative,
            _ => path,
        }
    }

    pub fn location(&self, span: Span) -> Location {
        let source = &self.files[span.source.0 as usize];
        let line = source.line(span.start.line);
        let length = if span.end.line == span.start.line {
            span.end.column.saturating_sub(span.start.column)
        } else {
            (line.trim_end().chars().count() as u32 + 1).saturating_sub(span.start.column)
        };
        let total = line.chars().count();
        let at = span.start.column.saturating_sub(1) as usize;
        let cut = if total <= LINE_WINDOW {
            0
        } else {
            at.saturating_sub(LINE_WINDOW / 2)
        };
        let shown = line.chars().skip(cut).take(LINE_WINDOW);
        let line_text = plain(&shown.collect::<String>());
        Location {
            file: self.shown(&source.path).to_owned(),
            line: span.start.line,
            column: span.start.column,
            length: length.max(1),
            line_text: line_text.trim_end().to_owned(),
            cut: cut as u32,
        }
    }

    /// What stands at `span` in the file.
    pub fn written(&self, span: Span) -> Option<&str> {
        let source = &self.files[span.source.0 as usize];
        let (from, to) = (source.offset(span.start)?, source.offset(span.end)?);
        source.text.get(from..to)
    }

    /// The span of `needle` inside `span`, searched in the text as it stands in the file; `None`
    /// where escapes or folding hide it.
    pub fn find(&self, span: Span, needle: &str) -> Option<Span> {
        let at = self.written(span)?.find(needle)?;
        let source = &self.files[span.source.0 as usize];
        let from = source.offset(span.start)?;
        let start = source.place(from + at);
        let end = source.place(from + at + needle.len());
        Some(Span {
            source: span.source,
            start,
            end,
        })
    }
}

impl SourceFile {
    fn line(&self, number: u32) -> &str {
        let index = number.saturating_sub(1) as usize;
        let Some(&from) = self.lines.get(index) else {
            return "";
        };
        let to = self
            .lines
            .get(index + 1)
            .copied()
            .unwrap_or(self.text.len());
        self.text
            .get(from..to)
            .unwrap_or_default()
            .trim_end_matches(['\n', '\r'])
    }

    fn offset(&self, place: LineColumn) -> Option<usize> {
        let from = *self.lines.get(place.line.checked_sub(1)? as usize)?;
        let rest = self.text.get(from..)?;
        let characters = place.column.checked_sub(1)? as usize;
        let within = rest
            .char_indices()
            .nth(characters)
            .map_or(rest.len(), |(i, _)| i);
        Some(from + within)
    }

    fn place(&self, offset: usize) -> LineColumn {
        let line = self.lines.partition_point(|&start| start <= offset);
        let from = self.lines.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let column = self.text.get(from..offset).map_or(0, |s| s.chars().count());
        LineColumn {
            line: line as u32,
            column: column as u32 + 1,
        }
    }
}
