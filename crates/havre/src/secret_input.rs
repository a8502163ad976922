//! Values that nobody sees: a hidden prompt, standard input, a file.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::Path;

use havre_api::{SecretBytes, SecretOrigin, SecretText};
use zeroize::Zeroizing;

use crate::cli::secret::ValueArgs;
use crate::error::Failure;
use crate::exit::Exit;
use crate::prompt::{self, AskError};

/// What has more is refused: no part of it is what was meant.
const MOST_BYTES: usize = 2 * 1024 * 1024;

/// How else a value of several lines is given.
const SEVERAL_LINES: &str = "give it with --stdin or --from-file";

/// The value that the command line has or names a place of; none: neither.
pub fn given(from: &ValueArgs) -> Result<Option<(SecretBytes, SecretOrigin)>, Failure> {
    let (value, origin) = if from.stdin {
        (standard_input()?, SecretOrigin::Set)
    } else if let Some(path) = &from.from_file {
        (file(path)?, SecretOrigin::Set)
    } else if let Some(characters) = from.generate {
        (generated(characters)?, SecretOrigin::Generated)
    } else {
        return Ok(None);
    };
    Ok(Some((value, origin)))
}

/// A value that is asked for. What comes from a pipe is meant to be it, and is not left unread: it is refused.
pub fn asked(question: &str) -> Result<SecretBytes, Failure> {
    if !io::stdin().is_terminal() {
        let message = "a value is asked for at a terminal, and standard input is none";
        return Err(Failure::new(Exit::Usage, message).hint(
            "--stdin reads it from standard input, --from-file from a file, --generate makes one",
        ));
    }
    let typed = line(question, SEVERAL_LINES)?;
    Ok(SecretBytes::new(typed.text().as_bytes().to_vec()))
}

/// What is typed behind `question`, which is not shown.
pub fn hidden(question: &str) -> Result<SecretText, Failure> {
    line(question, "give one line, or pass it by --stdin")
}

fn line(question: &str, several: &str) -> Result<SecretText, Failure> {
    prompt::hidden(question)
        .map(SecretText::new)
        .map_err(|error| match error {
            AskError::SeveralLines => {
                Failure::new(Exit::Usage, format!("that has several lines: {several}"))
            }
            AskError::Terminal(error) => Failure::new(Exit::Usage, "cannot ask at a terminal")
                .caused_by(&error)
                .hint("pass the value by --stdin"),
        })
}

/// What is typed, seen as it is; none, where there is no terminal.
pub fn shown(prompt: &str) -> Result<Option<String>, Failure> {
    if !io::stdin().is_terminal() {
        return Ok(None);
    }
    eprint(prompt);
    let mut line = String::new();
    let read = io::stdin().read_line(&mut line);
    read.map_err(|error| {
        Failure::new(Exit::Failed, "cannot read what is typed").caused_by(&error)
    })?;
    Ok(Some(line.trim().to_owned()))
}

/// All of standard input, without the line break with which `echo` ends.
pub fn standard_input() -> Result<SecretBytes, Failure> {
    let mut bytes = whole(io::stdin().lock(), "standard input", |error| {
        Failure::new(Exit::Failed, "cannot read standard input").caused_by(&error)
    })?;
    if bytes.ends_with(b"\n") {
        bytes.pop();
    }
    Ok(SecretBytes::new(std::mem::take(&mut *bytes)))
}

/// As [`standard_input`], for what is text.
pub fn standard_text() -> Result<SecretText, Failure> {
    let bytes = standard_input()?;
    let text = std::str::from_utf8(bytes.bytes());
    let text = text.map_err(|_| Failure::new(Exit::Usage, "standard input is no UTF-8"))?;
    Ok(SecretText::new(text.to_owned()))
}

/// All of a file, as it is.
pub fn file(path: &Path) -> Result<SecretBytes, Failure> {
    let failed = |error: io::Error| {
        Failure::new(Exit::Usage, format!("cannot read {}", path.display())).caused_by(&error)
    };
    let file = File::open(path).map_err(failed)?;
    let mut bytes = whole(file, &path.display().to_string(), failed)?;
    Ok(SecretBytes::new(std::mem::take(&mut *bytes)))
}

/// All that is there, or a refusal where that is too much.
fn whole(
    from: impl io::Read,
    name: &str,
    failed: impl FnOnce(io::Error) -> Failure,
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    // At once: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MOST_BYTES + 1));
    from.take(MOST_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() > MOST_BYTES {
        let message = format!("{name} has more than {MOST_BYTES} bytes");
        return Err(Failure::new(Exit::Usage, message).hint("no secret is as large"));
    }
    Ok(bytes)
}

/// Letters and digits by chance.
pub fn generated(characters: u16) -> Result<SecretBytes, Failure> {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut value = Vec::with_capacity(usize::from(characters));
    while value.len() < usize::from(characters) {
        let mut random = [0; 64];
        let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random));
        read.map_err(|error| {
            Failure::new(Exit::Failed, "cannot read /dev/urandom").caused_by(&error)
        })?;
        // Each letter is as likely as any other.
        let fair = random.iter().filter(|byte| **byte < 248);
        let left = usize::from(characters) - value.len();
        value.extend(
            fair.take(left)
                .map(|byte| ALPHABET[usize::from(*byte % 62)]),
        );
    }
    Ok(SecretBytes::new(value))
}

fn eprint(text: &str) {
    let mut err = io::stderr().lock();
    // Who cannot be asked can answer still.
    err.write_all(text.as_bytes())
        .and_then(|()| err.flush())
        .ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_is_refused_and_not_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("value");
        for (length, is_read) in [(0, true), (MOST_BYTES, true), (MOST_BYTES + 1, false)] {
            std::fs::write(&path, vec![b'x'; length]).unwrap();
            let read = file(&path).map(|bytes| bytes.bytes().len());
            assert_eq!(read.ok(), is_read.then_some(length), "{length}");
        }
    }
}
