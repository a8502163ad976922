//! What runs a script: from a `shell` to a command line.

/// A command line, in which `{0}` is the script's path, and what becomes of the script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shell {
    /// To be looked up in PATH; the first that is there.
    pub programs: Vec<String>,
    /// Each may hold `{0}`.
    pub arguments: Vec<String>,
    /// Of the script's file, with its dot.
    pub extension: &'static str,
    /// What stands around the script.
    pub around: (&'static str, &'static str),
}

/// The shell that `chosen` names; without one, bash, or `sh` in a container.
pub(crate) fn shell(chosen: Option<&str>, in_container: bool) -> Result<Shell, String> {
    let of = |programs: &[&str], arguments: &[&str], extension| Shell {
        programs: programs.iter().map(|&program| program.to_owned()).collect(),
        arguments: arguments.iter().map(|&part| part.to_owned()).collect(),
        extension,
        around: ("", ""),
    };
    let Some(chosen) = chosen.map(str::trim).filter(|chosen| !chosen.is_empty()) else {
        return Ok(match in_container {
            true => of(&["sh"], &["-e", "{0}"], ".sh"),
            false => of(&["bash", "sh"], &["-e", "{0}"], ".sh"),
        });
    };
    Ok(match chosen.to_lowercase().as_str() {
        "bash" => {
            let options = ["--noprofile", "--norc", "-e", "-o", "pipefail", "{0}"];
            of(&["bash"], &options, ".sh")
        }
        "sh" => of(&["sh"], &["-e", "{0}"], ".sh"),
        "python" => of(&["python", "python3"], &["{0}"], ".py"),
        "pwsh" => Shell {
            around: (
                "$ErrorActionPreference = 'stop'\n",
                "\nif ((Test-Path -LiteralPath variable:\\LASTEXITCODE)) { exit $LASTEXITCODE }",
            ),
            ..of(&["pwsh"], &["-command", ". '{0}'"], ".ps1")
        },
        "cmd" | "powershell" => {
            return Err(format!(
                "shell `{chosen}` is of Windows: use bash, sh, python or pwsh"
            ));
        }
        _ => custom(chosen)?,
    })
}

fn custom(line: &str) -> Result<Shell, String> {
    let mut words = words(line).into_iter();
    let program = words.next().unwrap_or_default();
    let arguments: Vec<String> = words.collect();
    if !arguments.iter().any(|word| word.contains("{0}")) {
        return Err(format!(
            "shell `{line}` has no `{{0}}`, where the script's path would stand: add it, or use bash, sh, python or pwsh"
        ));
    }
    Ok(Shell {
        programs: vec![program],
        arguments,
        extension: "",
        around: ("", ""),
    })
}

/// Separated by blanks, except within double quotes.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut begun) = (Vec::new(), String::new(), false, false);
    for c in line.chars() {
        match c {
            '"' => (quoted, begun) = (!quoted, true),
            c if c.is_whitespace() && !quoted => {
                if begun {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            c => {
                word.push(c);
                begun = true;
            }
        }
    }
    words.extend(begun.then_some(word));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(chosen: Option<&str>, in_container: bool) -> String {
        match shell(chosen, in_container) {
            Err(why) => why,
            Ok(shell) => format!(
                "{} {} {:?}",
                shell.programs.join("|"),
                shell.arguments.join(" "),
                shell.extension
            ),
        }
    }

    #[test]
    fn shells_are_githubs_command_lines() {
        for (chosen, in_container, expected) in [
            (None, false, r#"bash|sh -e {0} ".sh""#),
            (None, true, r#"sh -e {0} ".sh""#),
            (Some(""), false, r#"bash|sh -e {0} ".sh""#),
            (
                Some("Bash"),
                true,
                r#"bash --noprofile --norc -e -o pipefail {0} ".sh""#,
            ),
            (Some("sh"), false, r#"sh -e {0} ".sh""#),
            (Some("python"), false, r#"python|python3 {0} ".py""#),
            (Some("pwsh"), false, r#"pwsh -command . '{0}' ".ps1""#),
            (Some("perl {0}"), false, r#"perl {0} """#),
            (Some("a \"b c\" {0}"), false, r#"a b c {0} """#),
        ] {
            assert_eq!(check(chosen, in_container), expected);
        }
        assert!(check(Some("bash -x"), false).contains("has no `{0}`"));
        assert!(check(Some("cmd"), false).contains("of Windows"));
    }
}
