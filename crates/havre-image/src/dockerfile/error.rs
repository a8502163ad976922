//! What can be wrong in a Dockerfile.

use super::expand::ExpandError;

/// A problem at a line of a Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {}\n  {line} | {text}", cut(&problem.to_string(), MAX_PROBLEM))]
pub struct DockerfileError {
    /// The file's name as the user gave it.
    pub file: String,
    /// Line, counted from 1.
    pub line: u32,
    /// The line itself, as [`excerpt`] shows it.
    pub text: String,
    /// What is wrong with it.
    pub problem: Box<Problem>,
}

/// What is wrong with an instruction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The file has no instruction.
    #[error("the file has no instructions; a Dockerfile starts with FROM")]
    Empty,
    /// A word that is no instruction.
    #[error("unknown instruction {word}{}", did_you_mean(.suggestion))]
    UnknownInstruction {
        /// As written.
        word: String,
        /// The instruction it is closest to.
        suggestion: Option<&'static str>,
    },
    /// An instruction other than ARG before the first FROM.
    #[error("{instruction} before the first FROM; only ARG may stand there")]
    BeforeFrom {
        /// The instruction.
        instruction: String,
    },
    /// A parser directive with a wrong value or given twice.
    #[error("parser directive {name}: {reason}")]
    Directive {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
    /// A flag this instruction does not have.
    #[error("{instruction} has no flag --{flag}{}", flag_list(.known))]
    UnknownFlag {
        /// The instruction.
        instruction: String,
        /// Name of the flag.
        flag: String,
        /// The flags it has.
        known: Vec<&'static str>,
    },
    /// A flag with a wrong value.
    #[error("{instruction} --{flag}: {reason}")]
    Flag {
        /// The instruction.
        instruction: String,
        /// Name of the flag.
        flag: String,
        /// Why.
        reason: String,
    },
    /// Too few or too many words.
    #[error("{instruction} {reason}")]
    Arguments {
        /// The instruction.
        instruction: String,
        /// What it needs.
        reason: String,
    },
    /// The end of a heredoc is missing.
    #[error("the heredoc <<{name} has no line {name} that ends it")]
    UnterminatedHeredoc {
        /// The word after `<<`.
        name: String,
    },
    /// A correct instruction that the builder cannot execute.
    #[error("{what} is not supported: {hint}")]
    Unsupported {
        /// What was asked for.
        what: String,
        /// What to do about it.
        hint: String,
    },
    /// A stage that does not exist (yet).
    #[error("{reason}")]
    Stage {
        /// Why.
        reason: String,
    },
    /// A variable could not be expanded.
    #[error("{0}")]
    Expand(#[from] ExpandError),
    /// Variables made too much of the file.
    #[error("variables make this stage more than {limit_kib} KiB larger than its text")]
    Grown {
        /// The limit.
        limit_kib: usize,
    },
    /// Stages that describe too much.
    #[error(
        "the variables, labels and histories of this file's stages take more than {limit_mib} MiB"
    )]
    Described {
        /// The limit.
        limit_mib: usize,
    },
    /// More stages or instructions than anybody writes.
    #[error("the file has more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// A value that makes no sense after expansion.
    #[error("{instruction} {value:?}: {reason}")]
    Value {
        /// The instruction.
        instruction: String,
        /// The value.
        value: String,
        /// Why.
        reason: String,
    },
}

/// The most characters of a line that are shown.
const MAX_EXCERPT: usize = 200;
/// The same of what is said about it, in which words of the line may be.
const MAX_PROBLEM: usize = 400;

/// A line as it is shown: on one line, and cut where nobody would read on.
pub fn excerpt(text: &str) -> String {
    cut(text, MAX_EXCERPT)
}

fn cut(text: &str, most: usize) -> String {
    let mut words: String = text
        .chars()
        .take(most)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().nth(most).is_some() {
        words.push('…');
    }
    words
}

fn did_you_mean(suggestion: &Option<&'static str>) -> String {
    suggestion.map_or_else(String::new, |word| format!("; did you mean {word}?"))
}

fn flag_list(flags: &[&'static str]) -> String {
    match flags {
        [] => " (it has none)".to_owned(),
        flags => {
            let list: Vec<String> = flags.iter().map(|f| format!("--{f}")).collect();
            format!("; it has {}", list.join(", "))
        }
    }
}
