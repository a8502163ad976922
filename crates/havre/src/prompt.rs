//! Asking a person for what nobody else may see.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// Most bytes of what is typed or piped.
const MAX_BYTES: u64 = 1 << 20;

/// Asks on the terminal, and does not show what is typed. The terminal is the process's own, whatever
/// its standard input is; without one it is an error.
pub fn hidden(question: &str) -> io::Result<String> {
    let mut terminal = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
    terminal.write_all(question.as_bytes())?;
    let quiet = Quiet::enter(&terminal)?;
    let mut line = String::new();
    let read = BufReader::new(&terminal)
        .take(MAX_BYTES)
        .read_line(&mut line);
    drop(quiet);
    // The line end that was typed was not shown either.
    terminal.write_all(b"\n")?;
    read?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// All of standard input, as text.
pub fn piped() -> io::Result<String> {
    let mut text = String::new();
    let mut input = io::stdin().lock().take(MAX_BYTES);
    input.read_to_string(&mut text)?;
    Ok(text)
}

/// A terminal that does not show what is typed, until dropped.
struct Quiet<'t> {
    terminal: &'t File,
    before: Termios,
}

impl<'t> Quiet<'t> {
    fn enter(terminal: &'t File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(terminal, OptionalActions::Flush, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        // A terminal that refuses has gone, and nobody is left to tell.
        tcsetattr(self.terminal, OptionalActions::Flush, &self.before).ok();
    }
}
