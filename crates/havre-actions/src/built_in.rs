//! What is told of an action.

/// An action that Havre brings along.
#[derive(Debug)]
pub struct BuiltIn {
    /// `owner/repository` or `owner/repository/path`, in lower case.
    pub name: &'static str,
    /// All inputs there are, those of older versions included; another one is not known to the action.
    pub inputs: &'static [Input],
    /// Names of its outputs.
    pub outputs: &'static [&'static str],
    /// The condition of its post phase (an expression, as of `post-if`); `None`: it has none.
    pub post: Option<&'static str>,
    /// It is refused as a whole, before the job starts: what to do instead.
    pub refused: Option<&'static str>,
}

/// An input of an action.
#[derive(Debug)]
pub struct Input {
    /// As `action.yml` writes it.
    pub name: &'static str,
    /// May hold an expression, as in `action.yml`.
    pub default: Option<&'static str>,
    /// It must be given.
    pub required: bool,
    /// What becomes of it. Its default, or nothing, is accepted in any case.
    pub handled: Handled,
}

/// What becomes of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handled {
    /// It is honoured.
    Yes,
    /// It has no effect: why, for a warning.
    Ignored(&'static str),
    /// A value other than the default is an error before the job starts: what to do instead.
    Refused(&'static str),
}

/// What is wrong with an input as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// For a warning.
    Ignored(String),
    /// For an error.
    Refused(String),
}

impl BuiltIn {
    /// The input of this name, whatever its case.
    pub fn input(&self, name: &str) -> Option<&'static Input> {
        self.inputs
            .iter()
            .find(|input| input.name.eq_ignore_ascii_case(name))
    }

    /// Why it is refused as a whole, for an error.
    pub fn refusal(&self) -> Option<String> {
        let action = self.name;
        self.refused
            .map(|advice| format!("{action} is not supported: {advice}"))
    }

    /// What is wrong with an input that is given with this value, without expressions. Pure.
    pub fn judge(&self, name: &str, value: &str) -> Option<Finding> {
        let action = self.name;
        let Some(input) = self.input(name) else {
            return Some(Finding::Refused(format!("{action} has no input `{name}`")));
        };
        let value = value.trim();
        if value.is_empty()
            || input
                .default
                .is_some_and(|default| default.eq_ignore_ascii_case(value))
        {
            return None;
        }
        match input.handled {
            Handled::Yes => None,
            Handled::Ignored(why) => Some(Finding::Ignored(format!(
                "`{name}` of {action} has no effect: {why}"
            ))),
            Handled::Refused(advice) => Some(Finding::Refused(format!(
                "`{name}` of {action} is not supported: {advice}"
            ))),
        }
    }
}

pub(crate) const fn used(name: &'static str) -> Input {
    Input {
        name,
        default: None,
        required: false,
        handled: Handled::Yes,
    }
}

pub(crate) const fn ignored(name: &'static str, why: &'static str) -> Input {
    Input {
        name,
        default: None,
        required: false,
        handled: Handled::Ignored(why),
    }
}

pub(crate) const fn refused(name: &'static str, advice: &'static str) -> Input {
    Input {
        name,
        default: None,
        required: false,
        handled: Handled::Refused(advice),
    }
}

impl Input {
    /// Whether its default is to be evaluated.
    pub fn has_expression(&self) -> bool {
        self.default.is_some_and(|default| default.contains("${{"))
    }

    pub(crate) const fn or(self, default: &'static str) -> Self {
        Self {
            default: Some(default),
            ..self
        }
    }

    pub(crate) const fn required(self) -> Self {
        Self {
            required: true,
            ..self
        }
    }
}
