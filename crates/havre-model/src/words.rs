//! A command given as one text, split as a POSIX shell splits words, and nothing more: no
//! expansion, no operators.

/// The words, or `None` when a quote is not closed.
pub(crate) fn split(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next()? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next()? {
                        '"' => break,
                        '\\' => match characters.next()? {
                            c @ ('"' | '\\' | '$' | '`') => word.push(c),
                            '\n' => {}
                            c => word.extend(['\\', c]),
                        },
                        c => word.push(c),
                    }
                }
            }
            '\\' => match characters.next() {
                Some('\n') => {}
                Some(c) => word.get_or_insert_default().push(c),
                None => word.get_or_insert_default().push('\\'),
            },
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Some(words)
}

/// A word that only a shell would understand.
pub(crate) fn shell_operator(words: &[String]) -> Option<&str> {
    const OPERATORS: [&str; 8] = ["&&", "||", "|", ";", ">", ">>", "<", "2>&1"];
    let found = words
        .iter()
        .map(String::as_str)
        .find(|word| OPERATORS.contains(word));
    let shell = words.first().is_some_and(|program| {
        let name = program.rsplit('/').next().unwrap_or(program);
        matches!(name, "sh" | "bash" | "ash" | "dash" | "zsh")
    });
    if shell { None } else { found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_like_a_shell() {
        let check = |text: &str, expected: &[&str]| {
            assert_eq!(
                split(text).as_deref(),
                Some(&expected.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()[..]),
                "{text}"
            );
        };
        check("a b  c", &["a", "b", "c"]);
        check("sh -c 'a \"b\" && c'", &["sh", "-c", "a \"b\" && c"]);
        check(r#"a "b \"c\" \n" ''"#, &["a", "b \"c\" \\n", ""]);
        check("a\\ b 'c'd\"e\"", &["a b", "cde"]);
        check("", &[]);
        check("a \\\n b\n c", &["a", "b", "c"]);
        assert_eq!(split("a 'b"), None);
    }

    #[test]
    fn operators_outside_a_shell() {
        let find = |text: &str| {
            let words = split(text).unwrap();
            shell_operator(&words).map(str::to_owned)
        };
        assert_eq!(find("migrate && serve").as_deref(), Some("&&"));
        assert_eq!(find("sh -c 'a && b'"), None);
        assert_eq!(find("bash -c a && b"), None);
        assert_eq!(find("echo 'a && b'"), None);
    }
}
