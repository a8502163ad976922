//! What a command fails with, and the one renderer of `error:` / `caused by:` / `hint:`.

use std::error::Error;
use std::fmt::Write as _;
use std::io;

use havre_api::{Address, ApiError, ClientError, FailureReport};
use serde_json::json;

use crate::exit::Exit;
use crate::paint::Paint;
use crate::table::{printable, printable_lines};

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub struct Failure {
    /// Exit code.
    pub exit: Exit,
    /// What was attempted and on what.
    pub message: String,
    /// What caused it, outermost first.
    pub causes: Vec<String>,
    /// What the user can do.
    pub hint: Option<String>,
    /// Shown before the error: findings in the project's files, ready for print.
    pub findings: Vec<String>,
    /// Reports that came before the error; already shown, kept for `--json`.
    pub reports: Vec<FailureReport>,
}

/// What every command ends with.
pub type Outcome = Result<Exit, Failure>;

impl Failure {
    /// A failure without causes and hint.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            causes: Vec::new(),
            hint: None,
            findings: Vec::new(),
            reports: Vec::new(),
        }
    }

    /// Adds `cause` and what caused it in turn.
    #[must_use]
    pub fn caused_by(mut self, cause: &dyn Error) -> Self {
        self.causes.push(cause.to_string());
        self.causes
            .extend(havre_base::causes(cause).map(ToString::to_string));
        self
    }

    /// Adds what the user can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether the reader of standard output has gone (`havre logs | head`): no error to a user.
    pub fn is_broken_pipe(&self) -> bool {
        self.message == BROKEN_PIPE
    }

    /// The text for a person.
    pub fn render(&self, paint: Paint) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            text.push_str(&printable_lines(finding));
            text.push_str("\n\n");
        }
        labelled(&mut text, &paint.error("error:"), 7, &self.message);
        for cause in &self.causes {
            labelled(&mut text, &paint.dim("  caused by:"), 13, cause);
        }
        if let Some(hint) = &self.hint {
            labelled(&mut text, &paint.hint("  hint:"), 8, hint);
        }
        text
    }

    /// The document for a program.
    pub fn json(&self) -> serde_json::Value {
        json!({ "error": {
            "exit": self.exit.code(),
            "message": self.message,
            "causes": self.causes,
            "hint": self.hint,
            "findings": self.findings,
            "failures": self.reports,
        }})
    }
}

/// `label text`, further lines of the text under its first. Much of it a server says.
fn labelled(out: &mut String, label: &str, indent: usize, text: &str) {
    let mut lines = text.lines().map(printable);
    // Writing to a String cannot fail.
    writeln!(out, "{label} {}", lines.next().unwrap_or_default()).ok();
    for line in lines {
        writeln!(out, "{:indent$}{line}", "").ok();
    }
}

const BROKEN_PIPE: &str = "nobody reads the output";

impl From<io::Error> for Failure {
    /// Errors of standard output; other I/O says what it was about.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(Exit::Ok, BROKEN_PIPE);
        }
        Self::new(Exit::Failed, "cannot write to standard output").caused_by(&error)
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let failure = Self::new(Exit::of(error.code), error.message);
        Self {
            causes: error.causes,
            hint: error.hint,
            ..failure
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let exit = Exit::of_client(&error);
        let hint = match &error {
            ClientError::Refused(_) => None,
            ClientError::Unreachable { source, .. } if source.means_forbidden() => {
                return Self::new(
                    Exit::NotRoot,
                    "the daemon answers only to root and the group havre",
                )
                .caused_by(&error)
                .hint("run the command again with sudo");
            }
            ClientError::Unreachable { endpoint, source } => match &endpoint.address {
                Address::Socket(_) => Some(
                    "`havre daemon` starts it, and so does `havre up`; \
                     applications go on without it"
                        .to_owned(),
                ),
                Address::Unix(_) => {
                    Some("unix:// is what a job of a pipeline reaches in its box".to_owned())
                }
                Address::Ssh(_) | Address::Https(_) => source.hint(),
            },
            ClientError::TimedOut { .. } => Some("see the daemon's log".to_owned()),
            ClientError::Lost { .. } | ClientError::CutShort => Some(
                "what was begun goes on without this command, and is taken up again when the daemon \
                 starts: see `havre status`"
                    .to_owned(),
            ),
            ClientError::Garbled { .. } => Some(
                "daemon and command are of different versions: see `havre version`".to_owned(),
            ),
        };
        if let ClientError::Refused(error) = error {
            return error.into();
        }
        let mut failure = Self::new(exit, error.to_string());
        if let Some(source) = error.source() {
            failure = failure.caused_by(source);
        }
        Self { hint, ..failure }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_is_text() {
        let mut failure = Failure::new(Exit::Failed, "no\x1b[2J\x1b[31m")
            .caused_by(&io::Error::other("b\x1b]0;title\x07ad\n\x1b[1Aworse"))
            .hint("run\r this");
        failure.findings.push("a\x1b[1m\nb".to_owned());
        insta::assert_snapshot!(failure.render(Paint::plain()), @r"
        a
        b

        error: no
          caused by: bad
                     worse
          hint: run this
        ");
    }

    #[test]
    fn one_form_for_every_error() {
        let failure = Failure::new(Exit::Failed, "cannot do it\nfor two reasons")
            .caused_by(&io::Error::other("disk is full"))
            .hint("make room\nthen try again");
        insta::assert_snapshot!(failure.render(Paint::plain()), @r"
        error: cannot do it
               for two reasons
          caused by: disk is full
          hint: make room
                then try again
        ");
    }
}
