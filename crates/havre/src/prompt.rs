//! Asking a person for what nobody else may see.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read as _, Write as _};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Signal, getpid, kill_process};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};

/// Most bytes of what is typed or piped.
const MAX_BYTES: u64 = 1 << 20;

/// What is pasted has gone on by then.
const PASTE_PAUSE: Duration = Duration::from_millis(150);

/// What is pasted for longer is not waited for.
const LONGEST_PASTE: Duration = Duration::from_secs(5);

/// Why nobody has answered.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// None of it is the answer: a part of a value is not what was meant.
    #[error("that has several lines, and a line is asked for")]
    SeveralLines,
    /// There is no terminal, or nothing can be read from it.
    #[error(transparent)]
    Terminal(#[from] io::Error),
}

/// Asks on the terminal, and does not show what is typed. The terminal is the process's own, whatever
/// its standard input is; without one it is an error. Ctrl-C ends the process, as it does elsewhere. More
/// lines than one, as somebody pastes them, are refused.
pub fn hidden(question: &str) -> Result<String, AskError> {
    let mut terminal = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
    terminal.write_all(question.as_bytes())?;
    let typed = typed(&terminal);
    // The line end that was typed was not shown either.
    terminal.write_all(b"\n")?;
    let failed = |kind, why: &str| AskError::Terminal(io::Error::new(kind, why));
    match typed? {
        Typed::Line(line) => String::from_utf8(line)
            .map_err(|_| failed(io::ErrorKind::InvalidData, "it is no UTF-8")),
        Typed::SeveralLines => Err(AskError::SeveralLines),
        Typed::Interrupt => {
            // By the signal that it would have been: who waits for this process is told why it ended.
            kill_process(getpid(), Signal::INT).map_err(io::Error::from)?;
            Err(failed(io::ErrorKind::Interrupted, "stopped by the user"))
        }
    }
}

/// What came from a terminal.
#[derive(Debug, PartialEq, Eq)]
enum Typed {
    Line(Vec<u8>),
    SeveralLines,
    /// Ctrl-C.
    Interrupt,
}

/// A line that is typed, without being shown. The terminal is as it was when this returns.
fn typed(terminal: &File) -> io::Result<Typed> {
    let quiet = Quiet::enter(terminal)?;
    let codes = &quiet.before.special_codes;
    let mut line = Vec::new();
    let mut keys = BufReader::new(terminal);
    for byte in keys.by_ref().take(MAX_BYTES).bytes() {
        let byte = byte?;
        // What a terminal leaves out is zero.
        let is = |code| byte != 0 && byte == codes[code];
        if is(SpecialCodeIndex::VINTR) {
            return Ok(Typed::Interrupt);
        } else if matches!(byte, b'\r' | b'\n') || is(SpecialCodeIndex::VEOF) {
            break;
        } else if is(SpecialCodeIndex::VERASE) || matches!(byte, 0x08 | 0x7f) {
            // All bytes of a character.
            while line.pop().is_some_and(|last: u8| last & 0xc0 == 0x80) {}
        } else if is(SpecialCodeIndex::VKILL) {
            line.clear();
        } else {
            line.push(byte);
        }
    }
    // Line ends behind the line are no lines.
    let is_line = |bytes: &[u8]| bytes.iter().any(|byte| !matches!(byte, b'\r' | b'\n'));
    let mut has_more = is_line(keys.buffer());
    // To the end of it: what is left would be a command to the shell.
    let began = Instant::now();
    let mut more = [0; 4096];
    while began.elapsed() < LONGEST_PASTE && goes_on(terminal)? {
        let mut terminal = terminal;
        match terminal.read(&mut more)? {
            0 => break,
            count => has_more |= is_line(&more[..count]),
        }
    }
    Ok(match has_more {
        true => Typed::SeveralLines,
        false => Typed::Line(line),
    })
}

/// Whether there is more to be read within a moment.
fn goes_on(terminal: &File) -> io::Result<bool> {
    let moment = Timespec::try_from(PASTE_PAUSE).map_err(io::Error::other)?;
    let mut fds = [PollFd::new(terminal, PollFlags::IN)];
    loop {
        match poll(&mut fds, Some(&moment)) {
            Err(Errno::INTR) => {}
            ready => return Ok(ready? > 0),
        }
    }
}

/// All of standard input, as text.
pub fn piped() -> io::Result<String> {
    let mut text = String::new();
    let mut input = io::stdin().lock().take(MAX_BYTES);
    input.read_to_string(&mut text)?;
    Ok(text)
}

/// A terminal that does not show what is typed, until dropped. Keys that would end or stop the process, which
/// would leave it so, are read as others are.
struct Quiet<'t> {
    terminal: &'t File,
    before: Termios,
}

impl<'t> Quiet<'t> {
    fn enter(terminal: &'t File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut quiet = before.clone();
        let modes = LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG | LocalModes::IEXTEN;
        quiet.local_modes.remove(modes);
        quiet.special_codes[SpecialCodeIndex::VMIN] = 1;
        quiet.special_codes[SpecialCodeIndex::VTIME] = 0;
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

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::{Duration, Instant};

    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    use super::*;

    /// What is read where this is typed, and what was shown meanwhile.
    fn read(keys: &[u8]) -> (Typed, String) {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let path = ptsname(&person, Vec::new()).unwrap();
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let mut terminal = options.open(path.to_str().unwrap()).unwrap();
        let modes = |terminal: &File| tcgetattr(terminal).unwrap().local_modes;
        let before = modes(&terminal);
        let mut person = File::from(person);
        let line = thread::scope(|scope| {
            let reads = scope.spawn(|| typed(&terminal).unwrap());
            // What is typed before is thrown away.
            let deadline = Instant::now() + Duration::from_secs(10);
            while modes(&terminal).contains(LocalModes::ECHO) {
                assert!(
                    Instant::now() < deadline,
                    "the terminal shows what is typed"
                );
                thread::yield_now();
            }
            person.write_all(keys).unwrap();
            reads.join().unwrap()
        });
        assert_eq!(modes(&terminal), before);
        terminal.write_all(b"#").unwrap();
        let mut shown = Vec::new();
        while !shown.ends_with(b"#") {
            let mut byte = [0];
            person.read_exact(&mut byte).unwrap();
            shown.extend(byte);
        }
        (line, String::from_utf8(shown).unwrap())
    }

    #[test]
    fn what_is_typed_is_not_shown_and_the_terminal_is_as_before() {
        let line = |text: &str| (Typed::Line(text.as_bytes().to_vec()), "#".to_owned());
        assert_eq!(read(b"secret\n"), line("secret"));
        assert_eq!(read(b"secret\r"), line("secret"));
        // Backspace takes a character, and Ctrl-U all.
        assert_eq!(read("wrong\x15sé\x7f\x7f\x7fit\n".as_bytes()), line("it"));
        assert_eq!(read(b"end\x04"), line("end"));
        let long = "x".repeat(10_000);
        assert_eq!(read(format!("{long}\n").as_bytes()), line(&long));
    }

    #[test]
    fn ctrl_c_leaves_a_terminal_that_shows_what_is_typed() {
        assert_eq!(read(b"half a sec\x03"), (Typed::Interrupt, "#".to_owned()));
    }

    #[test]
    fn several_lines_are_refused_whole() {
        let refused = (Typed::SeveralLines, "#".to_owned());
        assert_eq!(read(b"-----BEGIN-----\nabc\n-----END-----\n"), refused);
        assert_eq!(read(b"\nvalue\n"), refused);
        // More than is there at once.
        let long = format!("first\n{}\n", "x".repeat(10_000));
        assert_eq!(read(long.as_bytes()), refused);
        // As where a line is pasted with its end, and Enter pressed behind it.
        let line = (Typed::Line(b"value".to_vec()), "#".to_owned());
        assert_eq!(read(b"value\n\n"), line);
        assert_eq!(read(b"value\r\n"), line);
    }
}
