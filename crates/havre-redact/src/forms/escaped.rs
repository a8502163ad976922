//! What formats and shells make of characters that mean something to them.

use std::fmt::Write as _;

/// JSON, XML, shell and programs' own quotes.
pub fn all(text: &str, mut add: impl FnMut(Vec<u8>)) {
    for json in json(text) {
        // In a string of a document that is a string itself, as in logs of logs.
        let twice = json.replace('\\', r"\\").replace('"', "\\\"");
        add(twice.into_bytes());
        add(json.into_bytes());
    }
    for xml in xml(text).into_iter().chain(shell(text)).chain(quoted(text)) {
        add(xml.into_bytes());
    }
}

/// The least that is needed; everything in ASCII, as Python has it; safe for HTML, as Go has it; `\/` of PHP.
fn json(text: &str) -> [String; 5] {
    let escape = |ascii: bool, html: bool, upper: bool, slash: bool| {
        let mut out = String::new();
        let unit = |out: &mut String, unit: u32| {
            let written = match upper {
                true => write!(out, "\\u{unit:04X}"),
                false => write!(out, "\\u{unit:04x}"),
            };
            written.expect("a string takes everything");
        };
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                '/' if slash => out.push_str("\\/"),
                '<' | '>' | '&' if html => unit(&mut out, c as u32),
                c if c < ' ' => unit(&mut out, c as u32),
                c if ascii && !c.is_ascii() => {
                    for half in c.encode_utf16(&mut [0; 2]) {
                        unit(&mut out, u32::from(*half));
                    }
                }
                c => out.push(c),
            }
        }
        out
    };
    [
        escape(false, false, false, false),
        escape(true, false, false, false),
        escape(false, true, false, false),
        escape(true, true, true, false),
        escape(true, false, false, true),
    ]
}

/// Quotes are as they are, have a name, or a number.
fn xml(text: &str) -> Vec<String> {
    let base = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let mut all = Vec::new();
    for double in ["\"", "&quot;", "&#34;"] {
        for single in ["'", "&apos;", "&#39;", "&#x27;"] {
            all.push(base.replace('"', double).replace('\'', single));
        }
    }
    all
}

/// In single and double quotes, and without.
fn shell(text: &str) -> [String; 5] {
    let special =
        |c: char| c.is_ascii() && !c.is_ascii_alphanumeric() && !"_-.,/:@%+=\n".contains(c);
    let bare = |special: &dyn Fn(char) -> bool| {
        let mut out = String::new();
        for c in text.chars() {
            if special(c) {
                out.push('\\');
            }
            out.push(c);
        }
        out
    };
    [
        text.replace('\'', r"'\''"),
        text.replace('\'', "'\"'\"'"),
        bare(&|c| "\"$`\\".contains(c)),
        bare(&special),
        bash(text),
    ]
}

/// `printf %q` of bash. It escapes a `#` or `~` at the beginning too: what follows it is found all the same.
fn bash(text: &str) -> String {
    let mut out = String::new();
    let mut before = ' ';
    for c in text.chars() {
        let is_home = c == '~' && (before == ':' || before == '=');
        if is_home || " '\"\\|&;()<>!{}*[]?^$`,".contains(c) {
            out.push('\\');
        }
        out.push(c);
        before = c;
    }
    out
}

/// What is no ASCII, by its bytes: `$'…'` of bash where the locale is C, and bytes as Python shows them.
pub fn bytes(value: &[u8], mut add: impl FnMut(Vec<u8>)) {
    if value.is_ascii() {
        return;
    }
    // Python takes the other quotes where there are but single ones.
    let either = !value.contains(&b'"');
    for (octal, quote) in [(true, true), (false, !either)] {
        let mut out = String::new();
        for byte in value {
            match byte {
                b'\\' => out.push_str(r"\\"),
                b'\'' if quote => out.push_str(r"\'"),
                b'\n' => out.push_str(r"\n"),
                b'\r' => out.push_str(r"\r"),
                b'\t' => out.push_str(r"\t"),
                b' '..=b'~' => out.push(char::from(*byte)),
                _ => {
                    let written = match octal {
                        true => write!(out, "\\{byte:03o}"),
                        false => write!(out, "\\x{byte:02x}"),
                    };
                    written.expect("a string takes everything");
                }
            }
        }
        add(out.into_bytes());
    }
}

/// As programs print a text between quotes: `repr` of Python, SQL.
fn quoted(text: &str) -> [String; 2] {
    let control = text
        .replace('\\', r"\\")
        .replace('\n', r"\n")
        .replace('\t', r"\t");
    [
        control.replace('\r', r"\r").replace('\'', r"\'"),
        text.replace('\'', "''"),
    ]
}
