//! The files that were read and places in them.

use std::path::{Path, PathBuf};

use crate::diagnostic::{Location, plain};

/// Characters of a line that a [`Location`] keeps at most.
const LINE_WINDOW: usize = 160;
/// Characters from one mark of a file to the next: a line may be as long as the file, and is looked into for
/// every value in it.
const STRIDE: usize = 256;

/// A file that was read, by its place in [`Sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SourceId(u32);

/// Line and column, both from 1; the column counts characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LineColumn {
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
}

/// From `start` up to but without `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The file.
    pub source: SourceId,
    /// The first character.
    pub start: LineColumn,
    /// Behind the last one.
    pub end: LineColumn,
}

#[derive(Clone, Debug)]
struct SourceFile {
    path: PathBuf,
    text: String,
    /// Byte offset of each line's first character.
    lines: Vec<usize>,
    /// Byte offset of every [`STRIDE`]th character.
    marks: Vec<usize>,
}

/// Every file read during one load.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Vec<SourceFile>,
    /// Paths inside are shown relative to it.
    root: PathBuf,
}

impl Sources {
    /// No files yet.
    pub fn new(root: PathBuf) -> Self {
        Self {
            files: Vec::new(),
            root,
        }
    }

    /// Takes a file's text.
    pub fn add(&mut self, path: &Path, text: String) -> SourceId {
        let breaks = text
            .bytes()
            .enumerate()
            .filter(|(_, b)| *b == b'\n')
            .map(|(i, _)| i + 1);
        let lines = std::iter::once(0).chain(breaks).collect();
        let marks = text.char_indices().step_by(STRIDE);
        self.files.push(SourceFile {
            path: path.to_owned(),
            lines,
            marks: marks.map(|(at, _)| at).collect(),
            text,
        });
        SourceId((self.files.len() - 1) as u32)
    }

    /// A file's text.
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

    /// A span as people are shown it, with its line.
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

/// Follows a scalar's text through the file, where it may be indented, folded or escaped.
#[derive(Debug)]
pub struct Follow<'s> {
    source: SourceId,
    /// What is left of the file's characters.
    written: std::iter::Peekable<std::str::Chars<'s>>,
    at: LineColumn,
    /// What is left of the scalar's text, and how many bytes went before.
    text: &'s str,
    passed: usize,
}

impl<'s> Follow<'s> {
    /// `span` is where `text` stands.
    pub fn new(sources: &'s Sources, span: Span, text: &'s str) -> Self {
        let written = sources.written(span).unwrap_or_default();
        let mut follow = Self {
            source: span.source,
            written: written.chars().peekable(),
            at: span.start,
            text,
            passed: 0,
        };
        // `|-` and the like, which plain text cannot begin with.
        if written.starts_with(['|', '>']) {
            while follow.step().is_some_and(|c| c != '\n') {}
        }
        follow
    }

    /// The span of these bytes of the text; they must not lie before those asked for earlier.
    pub fn span(&mut self, from: usize, to: usize) -> Span {
        self.pass(from);
        self.reach();
        let start = self.at;
        self.pass(to);
        let end = self.at;
        Span {
            source: self.source,
            start,
            end: end.max(start),
        }
    }

    /// Leaves everything before that byte of the text behind.
    fn pass(&mut self, to: usize) {
        while self.passed < to {
            let Some(c) = self.text.chars().next() else {
                return;
            };
            if !c.is_whitespace() {
                self.reach();
                self.step();
            }
            self.text = &self.text[c.len_utf8()..];
            self.passed += c.len_utf8();
        }
    }

    /// Goes to where the next character of the text stands in the file.
    fn reach(&mut self) {
        let next = self.text.chars().find(|c| !c.is_whitespace());
        while self.written.peek().is_some_and(|c| Some(*c) != next) {
            self.step();
        }
    }

    fn step(&mut self) -> Option<char> {
        let c = self.written.next()?;
        if c == '\n' {
            self.at.line += 1;
            self.at.column = 1;
        } else {
            self.at.column += 1;
        }
        Some(c)
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
        let number = self.number(from)? + place.column.checked_sub(1)? as usize;
        let end = self.text.len();
        let Some(&mark) = self.marks.get(number / STRIDE) else {
            return Some(end);
        };
        let mut behind = self.text.get(mark..)?.char_indices();
        let within = behind.nth(number % STRIDE);
        Some(within.map_or(end, |(at, _)| mark + at))
    }

    /// How many characters stand before that byte.
    fn number(&self, offset: usize) -> Option<usize> {
        let Some(before) = self
            .marks
            .partition_point(|&at| at <= offset)
            .checked_sub(1)
        else {
            return Some(0);
        };
        let behind = self.text.get(self.marks[before]..offset)?;
        Some(before * STRIDE + behind.chars().count())
    }

    fn place(&self, offset: usize) -> LineColumn {
        let line = self.lines.partition_point(|&start| start <= offset);
        let from = self.lines.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let number = |offset| self.number(offset).unwrap_or_default();
        let column = number(offset) - number(from);
        LineColumn {
            line: line as u32,
            column: column as u32 + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where `needle` of `text` stands in `written`, which begins in line 1.
    fn check(written: &str, text: &str, needle: &str, line: u32, column: u32) {
        let mut sources = Sources::default();
        let source = sources.add(Path::new("a"), written.to_owned());
        let lines = written.lines().count() as u32;
        let span = Span {
            source,
            start: LineColumn { line: 1, column: 1 },
            end: LineColumn {
                line: lines,
                column: 1000,
            },
        };
        let at = text.find(needle).unwrap();
        let found = Follow::new(&sources, span, text).span(at, at + needle.len());
        assert_eq!(found.start, LineColumn { line, column }, "{written}");
        assert_eq!(sources.written(found).map(str::len), Some(needle.len()));
    }

    #[test]
    fn every_character_of_a_long_line_is_found() {
        let line: String = "aé😀".chars().cycle().take(3 * STRIDE + 1).collect();
        let text = format!("é\n{line}\nend");
        let mut sources = Sources::default();
        let source = sources.add(Path::new("a"), text.clone());
        let file = &sources.files[source.0 as usize];
        let ends = text[3..].char_indices().chain([(text.len() - 3, ' ')]);
        for (number, (at, _)) in ends.enumerate() {
            let column = number as u32 + 1;
            assert_eq!(file.offset(LineColumn { line: 2, column }), Some(3 + at));
            if number <= line.chars().count() {
                assert_eq!(file.place(3 + at), LineColumn { line: 2, column });
            }
        }
        let far = LineColumn {
            line: 3,
            column: 900,
        };
        assert_eq!(file.offset(far), Some(text.len()));
        let empty = sources.add(Path::new("b"), String::new());
        let top = LineColumn { line: 1, column: 1 };
        assert_eq!(sources.files[empty.0 as usize].offset(top), Some(0));
    }

    #[test]
    fn a_text_is_followed_through_the_file() {
        check("a b c", "a b c", "c", 1, 5);
        check("|-\n    one\n    two x\n", "one\ntwo x", "x", 2 + 1, 9);
        check(">\n  one\n  two", "one two", "two", 3, 3);
        check("\"a \\\"b\\\" c\"", "a \"b\" c", "c", 1, 10);
        check("'it''s c'", "it's c", "c", 1, 8);
    }
}
