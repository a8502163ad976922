//! What is written to `GITHUB_ENV`, `GITHUB_OUTPUT` and `GITHUB_STATE`: `NAME=VALUE`, and `NAME<<END` with lines.

/// Names and values, in their order; or what is wrong with the text.
pub(crate) fn parse(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    while !rest.is_empty() {
        let line;
        (line, rest) = first_line(rest);
        let line = line.strip_suffix('\n').unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        let (name, value) = match (line.find('='), line.find("<<")) {
            (Some(at), heredoc) if heredoc.is_none_or(|heredoc| at < heredoc) => {
                (&line[..at], line[at + 1..].to_owned())
            }
            (_, Some(at)) => {
                let (name, end) = (&line[..at], &line[at + 2..]);
                if name.is_empty() || end.is_empty() {
                    let why = "neither the name nor the delimiter may be empty";
                    return Err(format!("`{}`: {why}", shown(line)));
                }
                let value;
                (value, rest) = lines_until(end, rest)?;
                (name, value)
            }
            _ => {
                let form = "a line has to be `NAME=VALUE` or `NAME<<DELIMITER`";
                return Err(format!("`{}`: {form}", shown(line)));
            }
        };
        if name.is_empty() {
            return Err(format!("`{}`: the name may not be empty", shown(line)));
        }
        found.push((name.to_owned(), value));
    }
    Ok(found)
}

/// Up to and with its line feed, and what follows.
fn first_line(text: &str) -> (&str, &str) {
    let end = text.find('\n').map_or(text.len(), |at| at + 1);
    text.split_at(end)
}

/// What stands before a line that is `end`, without the last line feed, and what follows that line.
fn lines_until<'t>(end: &str, text: &'t str) -> Result<(String, &'t str), String> {
    let mut rest = text;
    let mut length = 0;
    while !rest.is_empty() {
        let (line, after) = first_line(rest);
        if line.strip_suffix('\n').unwrap_or(line) == end {
            let value = &text[..length];
            return Ok((value.strip_suffix('\n').unwrap_or(value).to_owned(), after));
        }
        length += line.len();
        rest = after;
    }
    Err(format!(
        "the delimiter `{}` has no line of its own",
        shown(end)
    ))
}

fn shown(text: &str) -> &str {
    havre_base::clipped(text, 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> String {
        match parse(text) {
            Ok(pairs) => format!("{pairs:?}"),
            Err(why) => why,
        }
    }

    #[test]
    fn files_are_read_as_github_reads_them() {
        for (text, expected) in [
            ("", "[]"),
            ("\n\n", "[]"),
            ("a=b", r#"[("a", "b")]"#),
            ("a=\nb=x=y\n", r#"[("a", ""), ("b", "x=y")]"#),
            ("a=b << c\n", r#"[("a", "b << c")]"#),
            (" a = b \n", r#"[(" a ", " b ")]"#),
            ("\u{feff}a=b", r#"[("a", "b")]"#),
            ("a<<E\nE", r#"[("a", "")]"#),
            ("a<<E\nx\nE", r#"[("a", "x")]"#),
            ("a<<E\n\nE\n", r#"[("a", "")]"#),
            (
                "a<<E\n x \n\ny\nE\nb=1\n",
                r#"[("a", " x \n\ny"), ("b", "1")]"#,
            ),
            ("a<<E\nx=y\nb<<F\nE\n", r#"[("a", "x=y\nb<<F")]"#),
            ("a<<E=F\nx\nE=F\n", r#"[("a", "x")]"#),
            ("a<<E\nx\r\nE\n", r#"[("a", "x\r")]"#),
            ("a=1\na=2", r#"[("a", "1"), ("a", "2")]"#),
            ("a<<E\nx\n E\n", "the delimiter `E` has no line of its own"),
            ("a<<E", "the delimiter `E` has no line of its own"),
            (
                "a<<\nx\n",
                "`a<<`: neither the name nor the delimiter may be empty",
            ),
            (
                "<<E\nx\nE",
                "`<<E`: neither the name nor the delimiter may be empty",
            ),
            ("=x", "`=x`: the name may not be empty"),
            (
                "abc",
                "`abc`: a line has to be `NAME=VALUE` or `NAME<<DELIMITER`",
            ),
        ] {
            assert_eq!(check(text), expected, "{text:?}");
        }
    }
}
