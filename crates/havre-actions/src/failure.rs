//! Why an action fails.

use std::io;

use crate::http::HttpError;

/// Last lines of a build that are shown once more.
const MOST_LINES: usize = 20;

/// Why an action fails, for a person who reads the step's log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// What was asked for is not to be had; says what to do instead.
    #[error("{0}")]
    Refused(String),
    /// A file, a folder or a process could not be had.
    #[error("cannot {doing}")]
    Io { doing: String, source: io::Error },
    /// What serves artifacts and caches refused; a status of HTTP.
    #[error("the service of this run's results: {why}")]
    Service { why: String, status: u16 },
    /// There was no answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// An image was not built.
    #[error("the image was not built: {why}")]
    Built {
        why: String,
        /// A file and its line.
        place: Option<(String, u32)>,
        /// What stands there.
        instruction: Option<String>,
        /// The last that it printed.
        log: Vec<String>,
    },
    /// A program ended badly; it has said why itself.
    #[error("`{command}` ended with {status}")]
    Program { command: String, status: String },
}

impl Failure {
    /// All that is known of a build that failed, on one screen.
    pub(crate) fn screen(&self) -> String {
        let Self::Built {
            place,
            instruction,
            log,
            ..
        } = self
        else {
            return String::new();
        };
        let place = place.as_ref().map(|(file, line)| format!("{file}:{line}"));
        let mut lines: Vec<String> = place.into_iter().collect();
        lines.extend(instruction.iter().map(|text| format!("  {text}")));
        let last = log.len().saturating_sub(MOST_LINES);
        lines.extend(log[last..].iter().map(|text| format!("  | {text}")));
        lines.join("\n")
    }

    /// For `map_err`: names what was attempted.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}

pub(crate) fn refused<T>(why: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Refused(why.into()))
}

pub(crate) fn missing(action: &str) -> Failure {
    Failure::Refused(format!(
        "{action} cannot be carried out by this version of Havre"
    ))
}
