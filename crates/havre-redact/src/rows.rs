//! Base64 and hex on lines, as they would be without the line ends.
//!
//! A line end is passed over where [`ROW`] letters or more of these encodings stand before it, and letters
//! go on after it: so whatever an encoder began with and however wide its lines are, a form that goes on
//! in the next line is found as if it stood in one. Lines of other output hardly ever end so.

use std::ops::Range;

use zeroize::Zeroizing;

use crate::forms::MAX_FORM;

/// The narrowest lines: `xxd -p` and Ruby have 60 letters, PEM 64, MIME and `base64` 76.
pub const ROW: usize = 60;

/// Most bytes of line ends within a form, each of which may be two.
const MAX_ENDS: usize = 2 * MAX_FORM.div_ceil(ROW);

/// Most bytes that a [`Stream`](crate::Stream) holds back.
pub const MAX_HELD: usize = MAX_FORM - 1 + MAX_ENDS;

/// Letters that are looked at together, which bounds what is copied of a text.
const MOST: usize = 4096;

/// Rows of a text in a row.
#[derive(Debug)]
pub struct Rows {
    /// Never grows: a copy that is left behind would not be wiped.
    letters: Zeroizing<Vec<u8>>,
    /// Where each begins: in the letters, and in the text.
    begin: Vec<(usize, usize)>,
}

impl Rows {
    fn with_capacity(letters: usize) -> Self {
        Self {
            letters: Zeroizing::new(Vec::with_capacity(letters)),
            begin: Vec::new(),
        }
    }

    /// Without the line ends.
    pub fn letters(&self) -> &[u8] {
        &self.letters
    }

    /// Where the letter stands in the text.
    pub fn place(&self, letter: usize) -> usize {
        let after = self.begin.partition_point(|(begin, _)| *begin <= letter);
        let (begin, place) = self.begin[after - 1];
        place + letter - begin
    }

    /// Where the last row begins in the letters.
    pub fn last(&self) -> usize {
        self.begin.last().map_or(0, |(begin, _)| *begin)
    }

    fn push(&mut self, text: &[u8], row: Range<usize>) {
        self.begin.push((self.letters.len(), row.start));
        self.letters.extend_from_slice(&text[row]);
    }

    fn clear(&mut self) {
        self.letters.clear();
        self.begin.clear();
    }

    /// Whether another row and what ends the rows have room.
    fn has_room(&self) -> bool {
        self.letters.len() + 2 * MAX_FORM <= MOST
    }

    /// Keeps, of what is before the last row, what may be the beginning of a form that goes on in it.
    fn keep_end_before_last(&mut self) {
        let last = self.last();
        let cut = last.saturating_sub(MAX_FORM - 1);
        let place = self.place(cut);
        self.begin.pop();
        self.letters.truncate(last);
        self.letters.drain(..cut);
        self.begin.retain(|(begin, _)| *begin > cut);
        self.begin.iter_mut().for_each(|(begin, _)| *begin -= cut);
        self.begin.insert(0, (0, place));
    }
}

/// All rows of `text` that go on in another, with as much around them as a form can have; `before` letters
/// stand before the text.
pub fn each(text: &[u8], before: usize, mut found: impl FnMut(&Rows)) {
    let mut rows = None;
    // Where the line begins in which the rows go on.
    let mut next = None;
    let mut finish = |rows: &mut Rows, next: usize| {
        rows.push(text, next..next + letters_after(&text[next..], MAX_FORM));
        found(rows);
    };
    for end in memchr::memchr_iter(b'\n', text) {
        let Some(row) = row_before(text, end, before) else {
            continue;
        };
        let rows = rows.get_or_insert_with(|| Rows::with_capacity(MOST));
        match next {
            Some(next) if next != row.start => {
                finish(rows, next);
                rows.clear();
            }
            Some(next) if !rows.has_room() => {
                finish(rows, next);
                rows.keep_end_before_last();
            }
            _ => {}
        }
        rows.push(text, row);
        next = Some(end + 1);
    }
    if let (Some(rows), Some(next)) = (&mut rows, next) {
        finish(rows, next);
    }
}

/// The rows at the end of `text`, as far back as what may become a form; the last is empty where a line has
/// ended. `None` where they are not several.
pub fn at_end(text: &[u8], before: usize) -> Option<Rows> {
    let mut parts = Vec::new();
    let (mut end, mut left) = (text.len(), MAX_FORM - 1);
    loop {
        let row = end - letters_before(&text[..end], left)..end;
        left -= row.len();
        let start = row.start;
        parts.push(row);
        end = match &text[..start] {
            [rest @ .., b'\r', b'\n'] | [rest @ .., b'\n'] => rest.len(),
            [rest @ .., b'\r'] if start == text.len() => rest.len(),
            _ => break,
        };
        if left == 0 || carried(&text[..end], before) < ROW {
            break;
        }
    }
    if parts.len() < 2 {
        return None;
    }
    let mut rows = Rows::with_capacity(MAX_FORM);
    for row in parts.into_iter().rev() {
        rows.push(text, row);
    }
    Some(rows)
}

/// How many letters `text` ends with, at most [`ROW`] of them, where `before` stand before it.
pub fn carried(text: &[u8], before: usize) -> usize {
    with_before(letters_before(text, ROW), text, before)
}

fn with_before(letters: usize, text: &[u8], before: usize) -> usize {
    match letters == text.len() {
        true => (letters + before).min(ROW),
        false => letters.min(ROW),
    }
}

/// The letters before the line end, if they fill a row; no more than a form has.
fn row_before(text: &[u8], line_end: usize, before: usize) -> Option<Range<usize>> {
    let text = &text[..line_end];
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    let letters = letters_before(text, MAX_FORM);
    let full = with_before(letters, text, before) == ROW;
    full.then(|| text.len() - letters..text.len())
}

/// How many letters `text` ends with, counting so many at most.
fn letters_before(text: &[u8], most: usize) -> usize {
    let text = &text[text.len().saturating_sub(most)..];
    // Most lines end in something else.
    if !text.last().is_some_and(|last| is_letter(*last)) {
        return 0;
    }
    let blocks = text.rchunks_exact(BLOCK);
    let known = BLOCK * blocks.take_while(|block| all_letters(block)).count();
    let rest = text[..text.len() - known].iter().rev();
    known + rest.take_while(|byte| is_letter(**byte)).count()
}

/// How many letters `text` begins with, counting so many at most.
fn letters_after(text: &[u8], most: usize) -> usize {
    let text = &text[..text.len().min(most)];
    let blocks = text.chunks_exact(BLOCK);
    let known = BLOCK * blocks.take_while(|block| all_letters(block)).count();
    let rest = text[known..].iter();
    known + rest.take_while(|byte| is_letter(**byte)).count()
}

/// Bytes that are looked at in one step.
const BLOCK: usize = 8;

fn all_letters(block: &[u8]) -> bool {
    block.iter().fold(true, |all, byte| all & is_letter(*byte))
}

/// Of base64, in both alphabets, and hex.
const fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() | matches!(byte, b'+' | b'/' | b'-' | b'_')
}
