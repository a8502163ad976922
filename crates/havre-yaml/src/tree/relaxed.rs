//! A second chance for files that YAML 1.2 refuses and that libyaml, go-yaml and PyYAML read alike:
//! what is in brackets or quotes may go on in a line that is not indented, or indented with a tab,
//! and a comment may follow a bracket or a quote without a space.
//!
//! White space at the start of such a line means nothing, so the same text is written with more of
//! it. What this reads wrong is refused as before: the parser has the last word.

/// Most text that is written anew, in bytes.
const MAX_BYTES: usize = 8 << 20;

/// A text that the parser takes where the file's own says the same.
pub(super) struct Relaxed {
    pub text: String,
    /// Columns that were put before each line.
    added: Vec<u32>,
}

impl Relaxed {
    /// By how many columns a line (from 1) was moved.
    pub fn added(&self, line: u32) -> u32 {
        let index = line.saturating_sub(1) as usize;
        self.added.get(index).copied().unwrap_or(0)
    }
}

/// `None` where there is nothing to relax, or too much.
pub(super) fn relaxed(text: &str) -> Option<Relaxed> {
    // The parser counts lines by these as well.
    let bare_return = text.bytes().zip(text.bytes().skip(1));
    if bare_return
        .into_iter()
        .any(|pair| pair.0 == b'\r' && pair.1 != b'\n')
    {
        return None;
    }
    let mut lines = Lines {
        out: String::with_capacity(text.len() + 256),
        added: Vec::new(),
        open: Open::default(),
        block: Block::None,
        changed: false,
    };
    for line in text.split_inclusive('\n') {
        lines.line(line);
        if lines.out.len() > MAX_BYTES {
            return None;
        }
    }
    let Lines {
        out: text,
        added,
        changed,
        ..
    } = lines;
    changed.then_some(Relaxed { text, added })
}

/// What is open at a line's end.
#[derive(Default)]
struct Open {
    /// Brackets and braces.
    depth: usize,
    /// The quote that has to come.
    quote: Option<char>,
    /// Where the outermost of them stands: what goes on belongs at least there.
    column: usize,
    /// Whether a value may begin here, as after a colon or a comma.
    before_value: bool,
}

/// A text behind `|` or `>`: nothing in it is quoted.
enum Block {
    None,
    /// Its first line says how far it is indented; beyond the key's line.
    Announced {
        beyond: usize,
    },
    Inside {
        indent: usize,
    },
}

struct Lines {
    out: String,
    added: Vec<u32>,
    open: Open,
    block: Block,
    changed: bool,
}

impl Lines {
    fn line(&mut self, line: &str) {
        let indent = line.chars().take_while(|c| matches!(c, ' ' | '\t')).count();
        let blank = line.trim().is_empty();
        let goes_on = self.open.depth > 0 || self.open.quote.is_some();
        if blank || !goes_on && self.is_block_text(indent) {
            self.added.push(0);
            self.out.push_str(line);
            return;
        }
        // Both spaces and tabs are one byte.
        let mut rest = &line[indent..];
        let marks = indent == 0 && (rest.starts_with("---") || rest.starts_with("..."));
        if goes_on && !marks {
            let wanted = indent.max(self.open.column);
            self.changed |= line[..indent].contains('\t') || wanted > indent;
            self.added.push((wanted - indent) as u32);
            self.out.extend(std::iter::repeat_n(' ', wanted));
        } else {
            self.added.push(0);
            self.out.push_str(&line[..indent]);
            self.open.before_value = true;
        }
        let mut column = indent;
        while let Some(c) = rest.chars().next() {
            let taken = self.token(c, rest, column, indent);
            column += rest[..taken].chars().count();
            rest = &rest[taken..];
        }
    }

    fn is_block_text(&mut self, indent: usize) -> bool {
        match self.block {
            Block::None => false,
            Block::Announced { beyond } if indent > beyond => {
                self.block = Block::Inside { indent };
                true
            }
            Block::Inside { indent: own } if indent >= own => true,
            Block::Announced { .. } | Block::Inside { .. } => {
                self.block = Block::None;
                false
            }
        }
    }

    /// Copies what begins with `c`; returns its bytes.
    fn token(&mut self, c: char, rest: &str, column: usize, indent: usize) -> usize {
        let (depth, quote) = (self.open.depth, self.open.quote);
        let length = if let Some(quote) = quote {
            self.quoted(quote, rest)
        } else if self.open.before_value {
            self.value(c, rest, column, indent)
        } else {
            self.after_value(c, rest)
        };
        self.out.push_str(&rest[..length]);
        let unquoted = quote.is_some() && self.open.quote.is_none();
        let closed = self.open.depth < depth || quote.is_none() && c == ',' && depth > 0;
        if (closed || unquoted) && rest[length..].starts_with('#') {
            self.out.push(' ');
            self.changed = true;
        }
        length
    }

    /// Up to the closing quote, or the line's end.
    fn quoted(&mut self, quote: char, rest: &str) -> usize {
        let mut characters = rest.char_indices().peekable();
        while let Some((at, c)) = characters.next() {
            if quote == '"' && c == '\\' {
                characters.next();
            } else if c == quote {
                if quote == '\'' && characters.peek().is_some_and(|(_, next)| *next == '\'') {
                    characters.next();
                    continue;
                }
                self.open.quote = None;
                return at + 1;
            }
        }
        rest.len()
    }

    fn value(&mut self, c: char, rest: &str, column: usize, indent: usize) -> usize {
        let behind = rest[c.len_utf8()..].chars().next();
        let spaced = behind.is_none_or(char::is_whitespace);
        match c {
            _ if c.is_whitespace() => c.len_utf8(),
            '#' => rest.len(),
            '-' | '?' | ':' if spaced => 1,
            ',' if self.open.depth > 0 => 1,
            // A tag or an anchor stands before what it is about.
            '!' | '&' => rest.find(char::is_whitespace).unwrap_or(rest.len()),
            '"' | '\'' => {
                self.begin(column);
                self.open.quote = Some(c);
                self.open.before_value = false;
                1
            }
            '[' | '{' => {
                self.begin(column);
                self.open.depth += 1;
                1
            }
            '|' | '>' if self.open.depth == 0 => {
                self.block = Block::Announced { beyond: indent };
                rest.len()
            }
            _ => {
                self.open.before_value = false;
                self.after_value(c, rest)
            }
        }
    }

    /// In a plain text, or behind anything else that is a value.
    fn after_value(&mut self, c: char, rest: &str) -> usize {
        let flow = self.open.depth > 0;
        let behind = rest[c.len_utf8()..].chars().next();
        match c {
            ':' if behind.is_none_or(char::is_whitespace) || flow && before_quote(&self.out) => {
                self.open.before_value = true;
            }
            ',' if flow => self.open.before_value = true,
            '[' | '{' if flow => {
                self.open.depth += 1;
                self.open.before_value = true;
            }
            ']' | '}' if flow => self.open.depth -= 1,
            '#' if self.out.ends_with([' ', '\t']) => return rest.len(),
            _ => {}
        }
        c.len_utf8()
    }

    fn begin(&mut self, column: usize) {
        if self.open.depth == 0 && self.open.quote.is_none() {
            self.open.column = column;
        }
    }
}

/// Whether a quote was closed just before, as in `{"a":1}`.
fn before_quote(out: &str) -> bool {
    out.ends_with(['"', '\''])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let found = relaxed(text);
        let found = found.as_ref().map_or(text, |found| found.text.as_str());
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn what_goes_on_is_moved_behind_its_beginning() {
        check("a: [\n\"b\"\n]\n", "a: [\n   \"b\"\n   ]\n");
        check("a: {\n\tb: c\n}\n", "a: {\n   b: c\n   }\n");
        check(
            "a: \"b\n c\nd: e\"\nf: g\n",
            "a: \"b\n   c\n   d: e\"\nf: g\n",
        );
        check("a: 'it''s\nb'\n", "a: 'it''s\n   b'\n");
        check("a: \"b\\\"\nc\"\n", "a: \"b\\\"\n   c\"\n");
        check("- !x [\n- &y b\n]\n", "- !x [\n     - &y b\n     ]\n");
        let moved = relaxed("a: [\n b\n]\n").unwrap();
        assert_eq!([1, 2, 3, 4].map(|line| moved.added(line)), [0, 2, 3, 0]);
    }

    #[test]
    fn a_comment_gets_its_space() {
        check("a: \"b\"#c\n", "a: \"b\" #c\n");
        check("a: ['b',#c\n   d]#e\n", "a: ['b', #c\n   d] #e\n");
        check("a: {b: c}#d\n", "a: {b: c} #d\n");
    }

    #[test]
    fn the_rest_stays() {
        for text in [
            "a: it's\nb: it's#x\n",
            "a: b # [\nc: d\n",
            "# \"\na: b\n",
            "a: |\n  \"\n  [\nb: c\n",
            "- >-\n  it's [\n- b\n",
            "a: [b, c] # it's\nd: e\n",
            "a: {\"b\":\"c\"}\nd: e\n",
            "\"a\": 'b'\nc: \"d\" # \"\ne: f\n",
            "a: \"b\n\n    c\"\n",
            "a: [\r  'b']\n",
        ] {
            check(text, text);
        }
    }
}
