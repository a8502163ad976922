//! What prints without end, and what secrets do then.

use havre_job::{LineKind, MAX_PLAIN, MAX_TEXT, MAX_TOLD, Told, cost};
use libtest_mimic::{Failed, Trial};

use crate::runner::Given;

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("output: more than is told", endless),
        Trial::test("output: whatever is told, its end is told", ends),
        Trial::test("output: a long line is told in parts", long_line),
        Trial::test("output: lines that are commands", commands),
        Trial::test(
            "output: a secret in a line without end",
            secret_in_endless_line,
        ),
        Trial::test("output: bytes that are no text", no_text),
        Trial::test("output: progress that is written over", progress),
    ]
}

fn lines(told: &[Told], wanted: LineKind) -> Vec<&str> {
    let mut announced = false;
    let lines = told.iter().filter_map(|told| match told {
        Told::Line {
            kind: LineKind::EndGroup,
            ..
        } => {
            announced = true;
            None
        }
        Told::Line { kind, text, .. }
            if *kind == wanted && (announced || wanted != LineKind::Plain) =>
        {
            Some(text.as_str())
        }
        _ => None,
    });
    lines.collect()
}

fn endless() -> Result<(), Failed> {
    let given = Given::steps(
        "- run: head -c 80000000 /dev/zero | tr '\\0' x | fold -w 8000; echo; echo '::warning::still'\n- run: echo x",
    );
    let (told, code) = given.run();
    let bytes: usize = lines(&told, LineKind::Plain)
        .iter()
        .map(|line| line.len())
        .sum();
    let warnings = lines(&told, LineKind::Warning);
    let expected = [
        "the job printed more than 48 MiB: the rest of its output is left out",
        "still",
    ];
    if !(MAX_PLAIN * 9 / 10..=MAX_PLAIN).contains(&(bytes as u64))
        || warnings != expected
        || code != 0
    {
        return Err(format!("{bytes} bytes, {warnings:?}, exit code {code}").into());
    }
    Ok(())
}

/// What takes six times its length in the spool, errors, findings and summaries without end.
fn ends() -> Result<(), Failed> {
    let given = Given::steps(
        "- run: head -c 40000000 /dev/zero | tr '\\0' '\\001' | fold -b -w 8000; echo\n\
         - run: |\n    for i in 1 2 3 4 5 6 7; do yes '::error::wrong' | head -n 100000; done\n\
         - run: head -c 1000000 /dev/zero | tr '\\0' '\\001' >> $GITHUB_STEP_SUMMARY\n\
         - run: echo x",
    );
    let (told, code) = given.run();
    let spent: u64 = told
        .iter()
        .filter(|told| {
            matches!(
                told,
                Told::Line { .. } | Told::Annotation { .. } | Told::Summary { .. }
            )
        })
        .map(|told| cost(serde_json::to_vec(told).map_or(0, |line| line.len() + 1)))
        .sum();
    let ended = told
        .iter()
        .filter(|told| matches!(told, Told::StepEnded { .. }))
        .count();
    match spent <= MAX_TOLD && ended == 4 && code == 0 {
        true => Ok(()),
        false => Err(format!("{spent} bytes, {ended} steps ended, exit code {code}").into()),
    }
}

fn commands() -> Result<(), Failed> {
    let given = Given::steps(
        "- run: echo '[command]git fetch'; echo '##[command]make'; echo 'a [command]'",
    );
    let (told, _) = given.run();
    let found = (
        lines(&told, LineKind::Command),
        lines(&told, LineKind::Plain),
    );
    match found == (vec!["git fetch", "make"], vec!["a [command]"]) {
        true => Ok(()),
        false => Err(format!("{found:?}").into()),
    }
}

fn long_line() -> Result<(), Failed> {
    let given = Given::steps("- run: head -c 40000 /dev/zero | tr '\\0' x; echo; echo end");
    let (told, _) = given.run();
    let lengths: Vec<usize> = lines(&told, LineKind::Plain)
        .iter()
        .map(|line| line.len())
        .collect();
    match lengths == [MAX_TEXT, MAX_TEXT, 40_000 - 2 * MAX_TEXT, 3] {
        true => Ok(()),
        false => Err(format!("{lengths:?}").into()),
    }
}

fn secret_in_endless_line() -> Result<(), Failed> {
    let mut given = Given::steps(
        "- run: |\n    for i in 1 2 3; do head -c 1048570 /dev/zero | tr '\\0' x; printf 'correct-horse-battery'; printf 'p1n'; done; echo",
    );
    given
        .document
        .masks
        .push("correct-horse-battery".to_owned());
    given.document.masks.push("p1n".to_owned());
    let (told, _) = given.run();
    let text = lines(&told, LineKind::Plain).concat();
    let (masks, length) = (text.matches("***").count(), text.len());
    match masks == 6
        && !text.contains("correct")
        && !text.contains("p1n")
        && length == 3 * (1_048_570 + 6)
    {
        true => Ok(()),
        false => Err(format!("{masks} masks in {length} bytes").into()),
    }
}

fn progress() -> Result<(), Failed> {
    let given = Given::steps(
        "- run: printf '1%%\\r50%%\\r100%%\\nwhole\\r\\n::notice::told\\rrest\\rlast\\r'",
    );
    let (told, _) = given.run();
    let plain = lines(&told, LineKind::Plain);
    let notices = lines(&told, LineKind::Notice);
    match (plain.as_slice(), notices.as_slice()) {
        (["100%", "whole", "last"], ["told"]) => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

fn no_text() -> Result<(), Failed> {
    let given = Given::steps("- run: printf 'a\\377\\000b\\n'; echo 'A\\377=x' >> $GITHUB_ENV");
    let (told, _) = given.run();
    let plain = lines(&told, LineKind::Plain);
    match plain == ["a\u{fffd}\0b"] {
        true => Ok(()),
        false => Err(format!("{plain:?}").into()),
    }
}
