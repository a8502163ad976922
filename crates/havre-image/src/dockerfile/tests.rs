//! All cases of the reader: `tests/dockerfile/*.txt`, blocks of a Dockerfile and what it means.
//!
//! A block is `=== title`, the file, `---`, the expected outcome. `HAVRE_UPDATE=1` writes the
//! outcomes anew; read the difference before you commit it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::*;

fn cases(file: &str, outcome: impl Fn(&str) -> String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/dockerfile")
        .join(file);
    let text = std::fs::read_to_string(&path).expect("the case file is readable");
    let mut fresh = String::new();
    let mut wrong = Vec::new();
    let mut count = 0;
    for block in text.split("=== ").skip(1) {
        let (title, rest) = block.split_once('\n').expect("a block has a title");
        let (input, expected) = rest.split_once("---\n").expect("a block has ---");
        // `\r`, tab and trailing space are hard to see; they are written as ␍, ␉ and ␠.
        let input = input
            .replace('␍', "\r")
            .replace('␉', "\t")
            .replace('␠', " ");
        let actual = outcome(&input);
        count += 1;
        if actual.trim_end() != expected.trim_end() {
            wrong.push(format!("{title}\nexpected:\n{expected}\nactual:\n{actual}"));
        }
        let shown = rest.split_once("---\n").map_or("", |(shown, _)| shown);
        write!(fresh, "=== {title}\n{shown}---\n{}\n\n", actual.trim_end()).expect("to a String");
    }
    assert!(count > 0, "no cases in {file}");
    if std::env::var_os("HAVRE_UPDATE").is_some() {
        std::fs::write(&path, fresh.trim_end().to_owned() + "\n").expect("the file is writable");
        return;
    }
    assert!(
        wrong.is_empty(),
        "{} of {count} cases differ\n\n{}",
        wrong.len(),
        wrong.join("\n\n")
    );
}

fn dump(text: &str) -> String {
    let dockerfile = match parse("Dockerfile", text) {
        Ok(dockerfile) => dockerfile,
        Err(error) => return format!("error: {error}"),
    };
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    if dockerfile.escape != '\\' {
        line(format!("escape {}", dockerfile.escape));
    }
    for step in &dockerfile.global_args {
        line(show(step));
    }
    for stage in &dockerfile.stages {
        let name = stage
            .name
            .as_ref()
            .map_or(String::new(), |n| format!(" as {n}"));
        let platform = stage
            .platform
            .as_ref()
            .map_or(String::new(), |p| format!(" on {p}"));
        line(format!(
            "{} stage {} from {}{name}{platform}",
            span(stage.span),
            stage.index,
            stage.base
        ));
        for step in &stage.steps {
            line(show(step));
        }
    }
    for warning in &dockerfile.warnings {
        line(format!("warning {}: {}", warning.line, warning.message));
    }
    out
}

fn span(span: Span) -> String {
    if span.line == span.end {
        span.line.to_string()
    } else {
        format!("{}-{}", span.line, span.end)
    }
}

fn show(step: &Step) -> String {
    let mut out = format!("{} {}", span(step.span), step.instruction.keyword());
    match &step.instruction {
        Instruction::Run(run) => {
            write!(out, " {}", command(&run.command)).expect("to a String");
            for mount in &run.mounts {
                write!(out, " {:?}{:?}", mount.kind, mount.options).expect("to a String");
            }
            if run.network != RunNetwork::Default {
                write!(out, " network={:?}", run.network).expect("to a String");
            }
            if run.insecure {
                out.push_str(" insecure");
            }
            out.push_str(&documents(&run.heredocs));
        }
        Instruction::Cmd(line) | Instruction::Entrypoint(line) => {
            write!(out, " {}", command(line)).expect("to a String");
        }
        Instruction::Env(pairs) | Instruction::Label(pairs) => {
            for (name, value) in pairs {
                write!(out, " {name}={value}").expect("to a String");
                out.push(';');
            }
        }
        Instruction::Arg(names) => {
            for (name, default) in names {
                write!(out, " {name}").expect("to a String");
                if let Some(default) = default {
                    write!(out, "={default}").expect("to a String");
                }
                out.push(';');
            }
        }
        Instruction::Copy(copy) | Instruction::Add(copy) => {
            write!(out, " {:?} -> {:?}", copy.sources, copy.destination).expect("to a String");
            let flags = format!("{:?}", copy.flags);
            if copy.flags != CopyFlags::default() {
                write!(out, "\n    {flags}").expect("to a String");
            }
            out.push_str(&documents(&copy.heredocs));
        }
        Instruction::User(text)
        | Instruction::Workdir(text)
        | Instruction::StopSignal(text)
        | Instruction::Onbuild(text)
        | Instruction::Maintainer(text) => write!(out, " {text:?}").expect("to a String"),
        Instruction::Expose(list) | Instruction::Volume(list) | Instruction::Shell(list) => {
            write!(out, " {list:?}").expect("to a String");
        }
        Instruction::Healthcheck(Health::None) => out.push_str(" none"),
        Instruction::Healthcheck(Health::Check {
            command: line,
            times,
        }) => {
            write!(out, " {}", command(line)).expect("to a String");
            if *times != HealthTimes::default() {
                write!(out, "\n    {times:?}").expect("to a String");
            }
        }
    }
    out
}

fn command(line: &CommandLine) -> String {
    match line {
        CommandLine::Shell(text) => format!("shell {text:?}"),
        CommandLine::Exec(argv) => format!("exec {argv:?}"),
    }
}

fn documents(heredocs: &[Heredoc]) -> String {
    heredocs
        .iter()
        .map(|doc| {
            let how = if doc.expand { "" } else { " verbatim" };
            format!("\n    <<{}{how} {:?}", doc.name, doc.content)
        })
        .collect()
}

#[test]
fn files_are_read() {
    cases("reader.txt", dump);
}

#[test]
fn mistakes_are_named() {
    cases("errors.txt", dump);
}

/// Input: lines `NAME=value` set variables, `> word` expands one, `>> words` splits, `>| text` is
/// the body of a heredoc.
#[test]
fn words_are_expanded() {
    cases("expand.txt", |input| {
        let mut values = BTreeMap::new();
        let mut escape = '\\';
        let mut out = String::new();
        for line in input.lines() {
            let lookup = |name: &str| values.get(name).cloned();
            let result = if let Some(text) = line.strip_prefix(">> ") {
                expand_words(text, escape, &lookup).map(|words| format!("{words:?}"))
            } else if let Some(text) = line.strip_prefix(">| ") {
                expand_heredoc(text, &lookup).map(|text| format!("{text:?}"))
            } else if let Some(text) = line.strip_prefix("> ") {
                expand(text, escape, &lookup).map(|text| format!("{text:?}"))
            } else if let Some(text) = line.strip_prefix("escape ") {
                escape = text.chars().next().unwrap_or('\\');
                continue;
            } else {
                let (name, value) = line.split_once('=').expect("NAME=value");
                values.insert(name.to_owned(), value.to_owned());
                continue;
            };
            let shown = result.unwrap_or_else(|error| format!("error: {error}"));
            writeln!(out, "{line}  =>  {shown}").expect("to a String");
        }
        out
    });
}

#[test]
fn triggers_are_read_where_they_fire() {
    let span = Span { line: 7, end: 7 };
    let step = parse_trigger("Dockerfile", "COPY <<EOF /x\nhello\nEOF", span).expect("it parses");
    assert_eq!(show(&step), "7 COPY [] -> \"/x\"\n    <<EOF \"hello\\n\"");
    let error = parse_trigger("Dockerfile", "COPY x", span).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Dockerfile:7: COPY needs a source and a destination\n  7 | COPY x"
    );
}

/// What users are shown must build: no mistake and no warning in the examples.
#[test]
fn the_examples_are_read() {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")];
    let mut read = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default().to_owned();
            if path.is_dir() && name != "node_modules" {
                folders.push(path);
            } else if name == "Dockerfile" {
                let text = std::fs::read_to_string(&path).expect("a file");
                let dockerfile = parse(&path.display().to_string(), &text)
                    .unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(dockerfile.warnings, [], "{}", path.display());
                read += 1;
            } else if name == ".dockerignore" {
                let text = std::fs::read_to_string(&path).expect("a file");
                Ignore::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            }
        }
    }
    assert!(read > 0, "no Dockerfile in examples/");
}

mod hostile {
    use proptest::prelude::*;

    use crate::dockerfile::{Ignore, expand, expand_words, parse};

    proptest! {
        /// Whatever is in a file, reading it ends and does not panic.
        #[test]
        fn any_text_is_read_or_refused(
            text in "((FROM|RUN|COPY|ENV|ARG|ONBUILD|HEALTHCHECK|LABEL|#) ?[ -~\\\\\n<\"'$\\[\\]{}=]{0,30}\\n){0,6}",
        ) {
            if let Err(error) = parse("Dockerfile", &text) {
                prop_assert!(error.to_string().starts_with("Dockerfile:"));
            }
        }

        #[test]
        fn any_word_is_expanded_or_refused(word in "[a-z$\\{\\}:+\\-?#%/*\\\\'\"é ]{0,40}") {
            let lookup = |name: &str| (name.len() == 1).then(|| "a/bc.d".to_owned());
            prop_assert!(expand(&word, '\\', &lookup).map_or(true, |text| text.len() < 10_000));
            prop_assert!(expand_words(&word, '`', &lookup).map_or(true, |list| list.len() < 1_000));
        }

        #[test]
        fn any_ignore_rules_are_applied(text in "[a-c!*?/\\[\\]\\\\.\n-]{0,30}", path in "[a-c]{1,3}(/[a-c.]{1,3}){0,3}") {
            if let Ok(ignore) = Ignore::parse(&text) {
                let ignored = ignore.ignores(&path);
                prop_assert!(!(ignored && ignore.is_empty()));
            }
        }
    }

    #[test]
    fn deep_nesting_is_refused() {
        let word = "${a:-".repeat(100_000) + &"}".repeat(100_000);
        let error = expand(&word, '\\', &|_| None).unwrap_err();
        assert_eq!(error.to_string(), "${…} is nested more than 100 deep");
        let many = format!("FROM a\n{}RUN x", "ONBUILD ".repeat(10_000));
        assert!(parse("Dockerfile", &many).is_err());
        assert!(
            parse(
                "Dockerfile",
                &format!("FROM a\nCMD {}", "[".repeat(100_000))
            )
            .is_ok()
        );
    }
}
