//! Quotes, escapes and variables of a word.
//!
//! `$x`, `${x}`, `${x:-word}`, `${x-word}`, `:+`, `+`, `:?`, `?`, `#`, `##`, `%`, `%%`, `/a/b` and
//! `//a/b`. Patterns know `*` and `?`. A name that is not set is empty.

/// Why a word cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// A quote without its end.
    #[error("the quote {0} has no end")]
    OpenQuote(char),
    /// `${` without `}`.
    #[error("${{ has no closing }}")]
    OpenBrace,
    /// `${x/a` without the second `/`.
    #[error("${{{0}/… needs a second /")]
    MissingSlash(String),
    /// `${}`, `${{…` or `${:…`.
    #[error("${{ must be followed by a variable's name")]
    BadSubstitution,
    /// `${x^y}` and the like.
    #[error("${{{name}{modifier}…}} is not a known form")]
    Modifier {
        /// The variable.
        name: String,
        /// What follows it.
        modifier: String,
    },
    /// `${x:?message}` of a variable without a value.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// As the author put it.
        message: String,
    },
    /// More levels of `${…}` than any author writes.
    #[error("${{…}} is nested more than {MAX_DEPTH} deep")]
    TooDeep,
    /// Variables in variables that make too much of a word.
    #[error("its variables expand to more than {} KiB", MAX_EXPANDED >> 10)]
    TooLarge,
    /// A value too long for patterns.
    #[error("the value of {0} is too long for # % and / forms")]
    TooLong(String),
    /// A backslash in a pattern before something else than `*`, `?` or `\`.
    #[error("pattern {0:?} has an escape that means nothing")]
    Pattern(String),
}

/// How deep `${a:-${b:-…}}` may go.
const MAX_DEPTH: usize = 100;
/// The most bytes that one word, or one heredoc beyond its own text, may expand to. The kernel takes
/// half of that as one variable of a program.
const MAX_EXPANDED: usize = 256 << 10;
/// The longest value, in characters, that patterns are applied to.
const MAX_PATTERN_VALUE: usize = 32 << 10;

/// Where values come from; `None` is unset.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Expands a word: quotes are removed.
pub fn expand(word: &str, escape: char, lookup: Lookup<'_>) -> Result<String, ExpandError> {
    Ok(Lexer::new(word, escape, true, lookup)
        .until(None, false)?
        .text)
}

/// Expands and then splits at white space that no quote protects.
pub fn expand_words(
    text: &str,
    escape: char,
    lookup: Lookup<'_>,
) -> Result<Vec<String>, ExpandError> {
    Ok(Lexer::new(text, escape, true, lookup)
        .until(None, false)?
        .words())
}

/// Expands the body of a heredoc: quotes are ordinary characters.
pub fn expand_heredoc(text: &str, lookup: Lookup<'_>) -> Result<String, ExpandError> {
    Ok(Lexer::new(text, '\\', false, lookup)
        .until(None, false)?
        .text)
}

struct Lexer<'a> {
    chars: Vec<char>,
    at: usize,
    escape: char,
    quotes: bool,
    depth: usize,
    /// The most bytes of a result.
    limit: usize,
    lookup: Lookup<'a>,
}

/// The same text twice: as one string and as words.
#[derive(Default)]
struct Output {
    text: String,
    done: Vec<String>,
    word: String,
}

impl Output {
    fn split(&mut self, c: char) {
        self.text.push(c);
        if c.is_whitespace() {
            if !self.word.is_empty() {
                self.done.push(std::mem::take(&mut self.word));
            }
        } else {
            self.word.push(c);
        }
    }

    fn whole(&mut self, text: &str) {
        self.text.push_str(text);
        self.word.push_str(text);
    }

    fn words(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.done.push(self.word);
        }
        self.done
    }
}

impl<'a> Lexer<'a> {
    fn new(text: &str, escape: char, quotes: bool, lookup: Lookup<'a>) -> Self {
        Self {
            chars: text.chars().collect(),
            at: 0,
            escape,
            quotes,
            depth: 0,
            limit: text.len() + MAX_EXPANDED,
            lookup,
        }
    }

    /// Variables can double with every line of a file; no result outgrows its limit.
    fn bounded(&self, length: usize) -> Result<(), ExpandError> {
        if length > self.limit {
            return Err(ExpandError::TooLarge);
        }
        Ok(())
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek();
        self.at += usize::from(c.is_some());
        c
    }

    /// Reads up to `stop` (which is consumed) or the end of the text. `raw` keeps escapes in the
    /// output, for patterns that interpret them later.
    fn until(&mut self, stop: Option<char>, raw: bool) -> Result<Output, ExpandError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(ExpandError::TooDeep);
        }
        let out = self.until_inner(stop, raw)?;
        self.depth -= 1;
        Ok(out)
    }

    fn until_inner(&mut self, stop: Option<char>, raw: bool) -> Result<Output, ExpandError> {
        let mut out = Output::default();
        while let Some(c) = self.next() {
            if Some(c) == stop {
                return Ok(out);
            }
            match c {
                '\'' if self.quotes => out.whole(&self.single_quoted()?),
                '"' if self.quotes => {
                    let text = self.double_quoted(raw)?;
                    self.bounded(out.text.len() + text.len())?;
                    out.whole(&text);
                }
                '$' => {
                    let value = self.dollar()?;
                    self.bounded(out.text.len() + value.len())?;
                    value.chars().for_each(|c| out.split(c));
                }
                c if c == self.escape => {
                    if raw {
                        out.whole(c.encode_utf8(&mut [0; 4]));
                    }
                    if let Some(escaped) = self.next() {
                        out.whole(escaped.encode_utf8(&mut [0; 4]));
                    }
                }
                c => out.split(c),
            }
        }
        match stop {
            None => Ok(out),
            Some('/') => Err(ExpandError::MissingSlash(String::new())),
            Some(_) => Err(ExpandError::OpenBrace),
        }
    }

    fn single_quoted(&mut self) -> Result<String, ExpandError> {
        let mut text = String::new();
        while let Some(c) = self.next() {
            if c == '\'' {
                return Ok(text);
            }
            text.push(c);
        }
        Err(ExpandError::OpenQuote('\''))
    }

    fn double_quoted(&mut self, raw: bool) -> Result<String, ExpandError> {
        let mut text = String::new();
        while let Some(c) = self.next() {
            match c {
                '"' => return Ok(text),
                '$' => {
                    text.push_str(&self.dollar()?);
                    self.bounded(text.len())?;
                }
                c if c == self.escape => {
                    let special = |n: char| n == '"' || n == '$' || n == self.escape;
                    match self.peek() {
                        Some(n) if special(n) => {
                            if raw {
                                text.push(c);
                            }
                            text.extend(self.next());
                        }
                        Some(_) => text.push(c),
                        None => {}
                    }
                }
                c => text.push(c),
            }
        }
        Err(ExpandError::OpenQuote('"'))
    }

    /// What stands behind a `$`.
    fn dollar(&mut self) -> Result<String, ExpandError> {
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            return Ok((self.lookup)(&name).unwrap_or_default());
        }
        self.at += 1;
        match self.peek() {
            None => return Err(ExpandError::OpenBrace),
            Some('{' | '}' | ':') => return Err(ExpandError::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        let value = (self.lookup)(&name);
        match self.next() {
            None => Err(ExpandError::OpenBrace),
            Some('}') => Ok(value.unwrap_or_default()),
            Some(':') => {
                let modifier = self.next().ok_or(ExpandError::OpenBrace)?;
                if !['-', '+', '?'].contains(&modifier) {
                    return Err(ExpandError::Modifier {
                        name,
                        modifier: format!(":{modifier}"),
                    });
                }
                self.conditional(&name, value.filter(|v| !v.is_empty()), modifier, "empty")
            }
            Some(modifier @ ('-' | '+' | '?')) => self.conditional(&name, value, modifier, "unset"),
            Some(side @ ('#' | '%')) => self.trimmed(&name, &value.unwrap_or_default(), side),
            Some('/') => self.replaced(&name, &value.unwrap_or_default()),
            Some(other) => Err(ExpandError::Modifier {
                name,
                modifier: other.to_string(),
            }),
        }
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self.peek() {
            let special = matches!(c, '@' | '*' | '#' | '?' | '-' | '$' | '!');
            if name.is_empty() && special {
                self.at += 1;
                return c.to_string();
            }
            let digits_only = name.starts_with(|d: char| d.is_ascii_digit());
            if !(c.is_alphanumeric() || c == '_') || (digits_only && !c.is_ascii_digit()) {
                break;
            }
            name.push(c);
            self.at += 1;
        }
        name
    }

    fn conditional(
        &mut self,
        name: &str,
        value: Option<String>,
        modifier: char,
        missing: &str,
    ) -> Result<String, ExpandError> {
        let word = self.until(Some('}'), false)?.text;
        match (modifier, value) {
            ('+', Some(_)) => Ok(word),
            ('+', None) => Ok(String::new()),
            ('-', None) => Ok(word),
            (_, Some(value)) => Ok(value),
            (_, None) => Err(ExpandError::Required {
                name: name.to_owned(),
                message: if word.is_empty() {
                    format!("is not allowed to be {missing}")
                } else {
                    word
                },
            }),
        }
    }

    /// `${x#p}`, `${x##p}`, `${x%p}`, `${x%%p}`.
    fn trimmed(&mut self, name: &str, value: &str, side: char) -> Result<String, ExpandError> {
        let word = self.until(Some('}'), true)?.text;
        let (longest, pattern) = match word.strip_prefix(side) {
            Some(pattern) => (true, pattern),
            None => (false, word.as_str()),
        };
        let mut pattern = Pattern::compile(pattern)?;
        let mut value = characters(name, value)?;
        // A suffix is a prefix of the reversed text.
        if side == '%' {
            pattern.0.reverse();
            value.reverse();
        }
        let ends = pattern.ends(&value);
        let cut = if longest { ends.last() } else { ends.first() };
        value.drain(..cut.copied().unwrap_or(0));
        if side == '%' {
            value.reverse();
        }
        Ok(value.into_iter().collect())
    }

    /// `${x/pattern/replacement}` and `${x//pattern/replacement}`.
    fn replaced(&mut self, name: &str, value: &str) -> Result<String, ExpandError> {
        let all = self.peek() == Some('/');
        self.at += usize::from(all);
        let named = |error| match error {
            ExpandError::MissingSlash(_) => ExpandError::MissingSlash(name.to_owned()),
            error => error,
        };
        let pattern = Pattern::compile(&self.until(Some('/'), true).map_err(named)?.text)?;
        let replacement = self.until(Some('}'), true)?.text;
        let value = characters(name, value)?;
        let mut out = String::new();
        let mut at = 0;
        while at < value.len() {
            match pattern.ends(&value[at..]).last().copied() {
                Some(length) if length > 0 => {
                    out.push_str(&replacement);
                    self.bounded(out.len())?;
                    at += length;
                    if !all {
                        break;
                    }
                }
                _ => {
                    out.push(value[at]);
                    at += 1;
                }
            }
        }
        out.extend(&value[at..]);
        Ok(out)
    }
}

fn characters(name: &str, value: &str) -> Result<Vec<char>, ExpandError> {
    let characters: Vec<char> = value.chars().collect();
    if characters.len() > MAX_PATTERN_VALUE {
        return Err(ExpandError::TooLong(name.to_owned()));
    }
    Ok(characters)
}

/// A shell pattern without brackets.
struct Pattern(Vec<Piece>);

enum Piece {
    One(char),
    AnyOne,
    AnyMany,
}

impl Pattern {
    fn compile(text: &str) -> Result<Self, ExpandError> {
        let mut pieces = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            pieces.push(match c {
                '*' => Piece::AnyMany,
                '?' => Piece::AnyOne,
                '\\' => match chars.next() {
                    Some(c @ ('*' | '?' | '\\' | '}' | '/')) => Piece::One(c),
                    _ => return Err(ExpandError::Pattern(text.to_owned())),
                },
                c => Piece::One(c),
            });
        }
        Ok(Self(pieces))
    }

    /// Lengths of all prefixes of `value` that match, ascending.
    fn ends(&self, value: &[char]) -> Vec<usize> {
        let mut reached = vec![0];
        for piece in &self.0 {
            reached = match piece {
                Piece::AnyMany => match reached.first() {
                    Some(first) => (*first..=value.len()).collect(),
                    None => break,
                },
                Piece::AnyOne => {
                    reached.retain(|at| *at < value.len());
                    reached.iter().map(|at| at + 1).collect()
                }
                Piece::One(c) => {
                    reached.retain(|at| value.get(*at) == Some(c));
                    reached.iter().map(|at| at + 1).collect()
                }
            };
        }
        reached
    }
}
