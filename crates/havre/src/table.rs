//! Aligned columns.

use unicode_width::UnicodeWidthStr;

use crate::paint::Paint;

/// Between two columns, where the terminal is narrow, and where it is narrower still.
const GAP: usize = 3;
const NARROW_GAP: usize = 2;
const TIGHT_GAP: usize = 1;
/// Columns are made no narrower than this to fit a terminal.
const NARROWEST: usize = 20;

/// Rows under a header; each column as wide as its widest cell, or as the terminal lets it be.
#[derive(Debug)]
pub struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with that header.
    pub fn new(header: impl Into<Vec<&'static str>>) -> Self {
        Self {
            header: header.into(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; `-` stands for an empty cell.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let dash = |cell: String| {
            if cell.is_empty() {
                "-".to_owned()
            } else {
                cell
            }
        };
        self.rows
            .push(cells.into_iter().map(printable).map(dash).collect());
    }

    /// Adds a line to the row before: one cell, the others empty.
    pub fn row_below(&mut self, column: usize, cell: String) {
        let mut cells = vec![String::new(); self.header.len()];
        cells[column] = printable(cell);
        self.rows.push(cells);
    }

    /// The text, each line after `indent`.
    pub fn render(&self, paint: Paint, indent: &str) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            let widest = cells.map(|cell| cell.width()).max().unwrap_or(0);
            widest.max(self.header[column].len())
        };
        let mut widths: Vec<usize> = (0..self.header.len()).map(width).collect();
        let columns = paint.columns();
        let columns = columns.map(|columns| columns.saturating_sub(indent.len()));
        let gap = columns.map_or(Some(GAP), |columns| fit(&mut widths, columns));
        let gap = gap.unwrap_or(TIGHT_GAP);
        let line = |cells: &[&str]| {
            let mut line = String::from(indent);
            for (column, cell) in cells.iter().enumerate() {
                line.push_str(cell);
                if column + 1 < cells.len() {
                    let gap = widths[column].saturating_sub(cell.width()) + gap;
                    line.extend(std::iter::repeat_n(' ', gap));
                }
            }
            line
        };
        let mut text = paint.dim(&line(&self.header));
        text.push('\n');
        for row in &self.rows {
            let cells: Vec<Vec<String>> = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| wrapped(cell, *width))
                .collect();
            for below in 0..cells.iter().map(Vec::len).max().unwrap_or(0) {
                let cells = cells.iter().map(|lines| lines.get(below));
                let cells: Vec<&str> = cells.map(|cell| cell.map_or("", |cell| cell)).collect();
                text.push_str(line(&cells).trim_end());
                text.push('\n');
            }
        }
        text
    }
}

/// Makes columns narrower, widest first, until they fit; answers with the gap between them. What
/// cannot fit stays as it is, for the terminal to break.
fn fit(widths: &mut [usize], columns: usize) -> Option<usize> {
    let gaps = widths.len().saturating_sub(1);
    let fits = |widths: &[usize], gap: usize| widths.iter().sum::<usize>() + gaps * gap <= columns;
    if fits(widths, GAP) {
        return Some(GAP);
    }
    let natural = widths.to_vec();
    for gap in [NARROW_GAP, TIGHT_GAP] {
        widths.copy_from_slice(&natural);
        while !fits(widths, gap) {
            // One at a time, so that columns of like width share what is missing.
            match widths.iter_mut().max() {
                Some(widest) if *widest > NARROWEST => *widest -= 1,
                Some(_) | None => break,
            }
        }
        if fits(widths, gap) {
            return Some(gap);
        }
    }
    widths.copy_from_slice(&natural);
    None
}

/// Lines of at most so many columns, broken at spaces where that can be.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    if text.width() <= columns {
        return vec![text.to_owned()];
    }
    let mut lines = vec![String::new()];
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let mut rest = word;
        while let Some(line) = lines.last_mut() {
            let gap = usize::from(!line.is_empty());
            if line.width() + gap + rest.width() <= columns {
                line.extend(std::iter::repeat_n(' ', gap));
                line.push_str(rest);
                break;
            }
            if !line.is_empty() {
                lines.push(String::new());
                continue;
            }
            let at = break_at(rest, columns);
            line.push_str(&rest[..at]);
            rest = &rest[at..];
            lines.push(String::new());
        }
    }
    lines
}

/// Where a word that is too long is broken: after at least one character.
fn break_at(word: &str, columns: usize) -> usize {
    let mut used = 0;
    let mut end = 0;
    for (at, c) in word.char_indices() {
        used += unicode_width::UnicodeWidthChar::width(c).unwrap_or(0);
        if used > columns && at > 0 {
            break;
        }
        end = at + c.len_utf8();
    }
    end
}

/// Characters that are not seen and change what is: they turn the direction of writing (Unicode's
/// `Bidi_Control`), format otherwise (category Cf), or end a line.
fn is_hidden(c: char) -> bool {
    matches!(c,
        '\u{ad}'
        | '\u{600}'..='\u{605}'
        | '\u{61c}'
        | '\u{6dd}'
        | '\u{70f}'
        | '\u{890}'..='\u{891}'
        | '\u{8e2}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{110bd}'
        | '\u{110cd}'
        | '\u{13430}'..='\u{1343f}'
        | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0001}'..='\u{e007f}')
}

/// Text from elsewhere without what would move the cursor, change colours, or show it otherwise than it is.
pub fn printable(text: impl AsRef<str>) -> String {
    let mut out = String::with_capacity(text.as_ref().len());
    let mut chars = text.as_ref().chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => skip_escape(&mut chars),
            '\t' => out.push_str("    "),
            c if c.is_control() || is_hidden(c) => {}
            c => out.push(c),
        }
    }
    out
}

/// The same of several lines.
pub fn printable_lines(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(printable).collect();
    lines.join("\n")
}

/// Skips the rest of an escape sequence: CSI up to its final byte, OSC up to its terminator,
/// others one character.
fn skip_escape(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match chars.next() {
        Some('[') => while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {},
        Some(']') => {
            while let Some(c) = chars.next() {
                if c == '\x07' {
                    break;
                }
                if c == '\x1b' {
                    chars.next_if_eq(&'\\');
                    break;
                }
            }
        }
        _ => {}
    }
}

/// As much of `text` as fits into `columns`, with `…` where something was cut.
pub fn clipped(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        let width = unicode_width::UnicodeWidthChar::width(c).unwrap_or(0);
        if used + width + 1 > columns {
            break;
        }
        used += width;
        out.push(c);
    }
    if columns > 0 {
        out.push('…');
    }
    out
}

/// `text` filled up with spaces to `columns`.
pub fn padded(text: &str, columns: usize) -> String {
    let gap = columns.saturating_sub(text.width());
    format!("{text}{:gap$}", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_is_in_them() {
        let mut table = Table::new(["NAME", "STATE"]);
        table.row(["数据库".into(), "running".into()]);
        table.row(["a-longer-name".into(), "".into()]);
        insta::assert_snapshot!(table.render(Paint::plain(), "  "), @r"
          NAME            STATE
          数据库          running
          a-longer-name   -
        ");
    }

    #[test]
    fn long_cells_are_broken_where_the_terminal_is_narrow() {
        let mut table = Table::new(["NAME", "AGE", "USED BY"]);
        let users = "shop/production, shop/staging, site/production";
        table.row(["shop-api:latest".into(), "8 s".into(), users.into()]);
        table.row(["site".into(), "8 s".into(), "x".repeat(45)]);
        insta::assert_snapshot!(table.render(Paint::plain_within(50), "  "), @r"
          NAME             AGE  USED BY
          shop-api:latest  8 s  shop/production,
                                shop/staging,
                                site/production
          site             8 s  xxxxxxxxxxxxxxxxxxxxxxxxxx
                                xxxxxxxxxxxxxxxxxxx
        ");
        let wide = table.render(Paint::plain(), "  ");
        assert_eq!(table.render(Paint::plain_within(90), "  "), wide);
        let tight = table.render(Paint::plain_within(40), "");
        assert!(tight.contains("site            8 s xxxx"), "{tight}");
        // Too narrow for any table: as it is.
        let too_narrow = table.render(Paint::plain_within(30), "");
        assert!(too_narrow.contains(users), "{too_narrow}");
        for columns in 1..40 {
            table.render(Paint::plain_within(columns), "  ");
        }
    }

    #[test]
    fn foreign_text_cannot_move_the_cursor() {
        assert_eq!(
            printable("\x1b[2J\x1b[31mred\x1b[0m\r\x07\tx\x1b]0;title\x07y"),
            "red    xy"
        );
        assert_eq!(printable("cut \x1b["), "cut ");
        assert_eq!(
            printable("a\u{202e}b\u{2066}c\u{2028}d\u{200b}e\u{feff}f\u{61c}g\u{e0041}h"),
            "abcdefgh"
        );
        assert_eq!(printable("日本語 é ع 🚢"), "日本語 é ع 🚢");
    }

    #[test]
    fn clipping_counts_columns() {
        assert_eq!(clipped("abc", 3), "abc");
        assert_eq!(clipped("abcd", 3), "ab…");
        assert_eq!(clipped("数据库", 5), "数据…");
        assert_eq!(clipped("abc", 0), "");
    }
}
