//! The functions there are.

use std::fmt;

/// A function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Function {
    /// `contains(text or list, part)`
    Contains,
    /// `startsWith(text, start)`
    StartsWith,
    /// `endsWith(text, end)`
    EndsWith,
    /// `format(text with {0}, value…)`
    Format,
    /// `join(list, separator)`
    Join,
    /// `toJSON(value)`
    ToJson,
    /// `fromJSON(text)`
    FromJson,
    /// `hashFiles(pattern…)`
    HashFiles,
    /// `case(condition, value, …, value otherwise)`
    Case,
    /// `success()`; of a job, `success(job…)`
    Success,
    /// `failure()`; of a job, `failure(job…)`
    Failure,
    /// `cancelled()`
    Cancelled,
    /// `always()`
    Always,
}

impl Function {
    /// Each of them.
    pub const ALL: [Self; 13] = [
        Self::Contains,
        Self::StartsWith,
        Self::EndsWith,
        Self::Format,
        Self::Join,
        Self::ToJson,
        Self::FromJson,
        Self::HashFiles,
        Self::Case,
        Self::Success,
        Self::Failure,
        Self::Cancelled,
        Self::Always,
    ];

    /// By its name, without regard to case.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|function| function.name().eq_ignore_ascii_case(name))
    }

    /// As GitHub's documentation writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Contains => "contains",
            Self::StartsWith => "startsWith",
            Self::EndsWith => "endsWith",
            Self::Format => "format",
            Self::Join => "join",
            Self::ToJson => "toJSON",
            Self::FromJson => "fromJSON",
            Self::HashFiles => "hashFiles",
            Self::Case => "case",
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Cancelled => "cancelled",
            Self::Always => "always",
        }
    }

    /// Whether an `if` that has it decides by itself what becomes of failures.
    pub fn is_status(self) -> bool {
        matches!(
            self,
            Self::Success | Self::Failure | Self::Cancelled | Self::Always
        )
    }

    /// How many arguments it takes, where it does not take so many.
    pub(crate) fn refuses(self, arguments: usize) -> Option<&'static str> {
        let (takes, words) = match self {
            Self::Contains | Self::StartsWith | Self::EndsWith => (arguments == 2, "2 arguments"),
            Self::ToJson | Self::FromJson => (arguments == 1, "1 argument"),
            Self::Join => ((1..=2).contains(&arguments), "1 or 2 arguments"),
            Self::Format | Self::HashFiles => {
                ((1..=255).contains(&arguments), "1 to 255 arguments")
            }
            Self::Case => (
                arguments >= 3 && arguments % 2 == 1,
                "pairs of condition and value, and a value for otherwise",
            ),
            Self::Success | Self::Failure => (true, "any arguments"),
            Self::Cancelled | Self::Always => (arguments == 0, "no arguments"),
        };
        (!takes).then_some(words)
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
