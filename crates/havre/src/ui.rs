//! The two streams: standard output for data, standard error for talk.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::paint::{ColorChoice, Paint, is_dumb};
use crate::table::printable_lines;

/// How to speak to whoever called.
#[derive(Clone, Copy, Debug)]
pub struct Ui {
    /// Colours of standard output.
    pub out: Paint,
    /// Colours of standard error.
    pub err: Paint,
    /// Print errors only.
    pub quiet: bool,
}

impl Ui {
    /// By the user's wish and what the streams are.
    pub fn new(color: ColorChoice, quiet: bool) -> Self {
        Self {
            out: Paint::for_stream(color, &io::stdout()),
            err: Paint::for_stream(color, &io::stderr()),
            quiet,
        }
    }

    /// Whether talk may be drawn over.
    pub fn live(&self) -> bool {
        !self.quiet && io::stderr().is_terminal() && !is_dumb()
    }

    /// Writes data.
    pub fn data(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// Writes data as one indented JSON document.
    pub fn json(&self, value: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_string_pretty(value)?;
        text.push('\n');
        self.data(&text)
    }

    /// Says something, unless quiet. What cannot be said is lost: there is nobody to tell.
    pub fn say(&self, text: &str) {
        if !self.quiet {
            self.note(text);
        }
    }

    /// Warns, also when quiet.
    pub fn warn(&self, message: &str, hint: Option<&str>) {
        self.painted(&warning(self.err, message, hint));
    }

    /// Says something in any case. It may come from elsewhere: nothing in it moves the cursor.
    pub fn note(&self, text: &str) {
        self.painted(&printable_lines(text));
    }

    /// Shows what is ready for a terminal, with colours.
    pub fn painted(&self, text: &str) {
        let mut err = io::stderr().lock();
        err.write_all(format!("{text}\n").as_bytes()).ok();
    }
}

fn warning(paint: Paint, message: &str, hint: Option<&str>) -> String {
    let message = printable_lines(message);
    let mut text = format!("{} {message}", paint.warning("warning:"));
    if let Some(hint) = hint {
        let hint = printable_lines(hint);
        text.push_str(&format!("\n  {} {hint}", paint.hint("hint:")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_from_elsewhere_is_text() {
        let text = warning(
            Paint::plain(),
            "one\x1b[2J\x1b]0;title\x07\ntwo\r",
            Some("three\x1b[1A"),
        );
        assert_eq!(text, "warning: one\ntwo\n  hint: three");
    }
}
