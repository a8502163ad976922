//! Words of an instruction: quoted words, flags, JSON arrays and the words that start heredocs.

/// A `<<WORD` found in an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeredocWord {
    /// Without quotes.
    pub name: String,
    /// `<<-`.
    pub strip_tabs: bool,
    /// False where any part of the word was quoted.
    pub expand: bool,
}

/// Splits at white space outside quotes; quotes and escapes stay in the words.
pub(super) fn split(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut started = false;
    let mut quote: Option<char> = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == escape && quote != Some('\'') {
            match chars.next() {
                Some(escaped) => word.extend([c, escaped]),
                None => break,
            }
            started = true;
            continue;
        }
        match quote {
            Some(open) => {
                if c == open {
                    quote = None;
                }
                word.push(c);
            }
            None if c.is_whitespace() => {
                if started {
                    words.push(std::mem::take(&mut word));
                }
                started = false;
            }
            None => {
                if c == '"' || c == '\'' {
                    quote = Some(c);
                }
                word.push(c);
                started = true;
            }
        }
    }
    if started {
        words.push(word);
    }
    words
}

/// Cuts leading `--name[=value]` words off; returns them and the trimmed rest.
pub(super) fn flags(rest: &str, escape: char) -> (Vec<String>, &str) {
    let mut flags = Vec::new();
    let mut rest = rest.trim_start();
    while rest.starts_with("--") {
        let end = word_end(rest, escape);
        let word = &rest[..end];
        rest = rest[end..].trim_start();
        if word == "--" {
            break;
        }
        flags.push(unquote(&word[2..], escape));
    }
    (flags, rest)
}

/// Byte length of the first word, which may contain quoted white space.
fn word_end(text: &str, escape: char) -> usize {
    let mut quote: Option<char> = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if c == escape && quote != Some('\'') {
            escaped = true;
        } else if let Some(open) = quote {
            if c == open {
                quote = None;
            }
        } else if c == '"' || c == '\'' {
            quote = Some(c);
        } else if c.is_whitespace() {
            return at;
        }
    }
    text.len()
}

/// Removes quotes; variables stay as they are.
fn unquote(word: &str, escape: char) -> String {
    let mut out = String::new();
    let mut quote: Option<char> = None;
    let mut chars = word.chars().peekable();
    while let Some(c) = chars.next() {
        if c == escape && quote != Some('\'') {
            // An escaped `$` keeps its escape for the expansion that follows.
            match chars.peek() {
                Some('$') => out.push(c),
                Some('"' | '\'') | None => {}
                Some(next) if *next == escape => out.push(c),
                Some(_) => {}
            }
            out.extend(chars.next());
            continue;
        }
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '"' || c == '\'' => quote = Some(c),
            _ => out.push(c),
        }
    }
    out
}

/// The outcome of trying to read a JSON array of strings.
pub(super) enum Json {
    /// It is one.
    Strings(Vec<String>),
    /// It is an array with something else in it.
    NotStrings,
}

/// Reads `["a", "b"]`; `None` when the text is not a JSON array at all.
pub(super) fn json_array(text: &str) -> Option<Json> {
    let text = text.trim_start();
    if !text.starts_with('[') {
        return None;
    }
    let values: Vec<serde_json::Value> = serde_json::from_str(text).ok()?;
    let mut strings = Vec::with_capacity(values.len());
    for value in values {
        match value {
            serde_json::Value::String(string) => strings.push(string),
            _ => return Some(Json::NotStrings),
        }
    }
    Some(Json::Strings(strings))
}

/// The heredoc words of an instruction, in order.
pub(super) fn heredocs(text: &str, escape: char) -> Vec<HeredocWord> {
    split(text, escape)
        .iter()
        .filter_map(|word| heredoc_word(word))
        .collect()
}

/// Reads `3<<-"WORD"`; what follows an unquoted `;`, `|`, `&`, `>`, `(` or `)` is the shell's.
pub(super) fn heredoc_word(word: &str) -> Option<HeredocWord> {
    let rest = word
        .trim_start_matches(|c: char| c.is_ascii_digit())
        .strip_prefix("<<")?;
    let (strip_tabs, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let mut name = String::new();
    let mut expand = true;
    let mut quote: Option<char> = None;
    let mut chars = rest.chars();
    while let Some(c) = chars.next() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => name.push(c),
            None => match c {
                '"' | '\'' => {
                    quote = Some(c);
                    expand = false;
                }
                '\\' => {
                    expand = false;
                    name.extend(chars.next());
                }
                '<' => return None,
                ';' | '|' | '&' | '>' | '(' | ')' => break,
                c => name.push(c),
            },
        }
    }
    (quote.is_none() && !name.is_empty()).then_some(HeredocWord {
        name,
        strip_tabs,
        expand,
    })
}
