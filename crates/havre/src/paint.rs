//! Colours, where the terminal has them and the user wants them.

use std::io::IsTerminal;
use std::os::fd::AsFd;

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ColorChoice {
    /// On terminals, unless NO_COLOR is set or the terminal is dumb.
    #[default]
    Auto,
    /// Also into files and pipes.
    Always,
    /// Never.
    Never,
}

/// Colours text, or leaves it as it is, and knows how much of it fits into a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paint {
    colours: bool,
    columns: Option<usize>,
}

impl Paint {
    /// For output to `stream`.
    pub fn for_stream(choice: ColorChoice, stream: &(impl IsTerminal + AsFd)) -> Self {
        let unwanted = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let colours = match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => stream.is_terminal() && !unwanted("NO_COLOR") && !is_dumb(),
        };
        // Fails where the stream is no terminal; some terminals do not know.
        let size = rustix::termios::tcgetwinsize(stream).ok();
        let columns = size.map(|size| usize::from(size.ws_col));
        Self {
            colours,
            columns: columns.filter(|columns| *columns > 0),
        }
    }

    /// Columns of the terminal, where there is one.
    pub fn columns(self) -> Option<usize> {
        self.columns
    }

    /// No colours.
    #[cfg(test)]
    pub const fn plain() -> Self {
        Self {
            colours: false,
            columns: None,
        }
    }

    /// No colours, on a terminal so wide.
    #[cfg(test)]
    pub const fn plain_within(columns: usize) -> Self {
        Self {
            colours: false,
            columns: Some(columns),
        }
    }

    /// `error:`, what failed.
    pub fn error(self, text: &str) -> String {
        self.wrap("1;31", text)
    }

    /// `warning:`, what is not well.
    pub fn warning(self, text: &str) -> String {
        self.wrap("1;33", text)
    }

    /// `hint:`, what to do.
    pub fn hint(self, text: &str) -> String {
        self.wrap("1;36", text)
    }

    /// What went well.
    pub fn good(self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// What matters.
    pub fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// What matters less.
    pub fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    /// The `index`th of a few colours that can be told apart.
    pub fn one_of(self, index: usize, text: &str) -> String {
        const CODES: [&str; 6] = ["36", "33", "32", "35", "34", "96"];
        self.wrap(CODES[index % CODES.len()], text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.colours && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.into()
        }
    }
}

/// Whether the terminal says that it cannot move its cursor.
pub fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}
