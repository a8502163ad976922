//! Actions that Havre brings along: what they take, and what they do inside a box.

/// An action that Havre brings along.
#[derive(Debug)]
pub struct BuiltIn {
    /// How it is called: `job-action NAME main|post`.
    pub name: &'static str,
    /// All that it takes.
    pub inputs: &'static [Input],
    /// Whether there is something to do after the job's last step: on which condition.
    pub post: Option<&'static str>,
}

/// An input of a built-in action.
#[derive(Debug)]
pub struct Input {
    /// As workflows spell it.
    pub name: &'static str,
    /// Where it is not given; may hold an expression.
    pub default: Option<&'static str>,
    /// Whether it has to be given.
    pub required: bool,
    /// What becomes of it.
    pub handled: Handled,
}

/// What becomes of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handled {
    /// As documented.
    Yes,
    /// Nothing, and why.
    Ignored(&'static str),
    /// An error, and why.
    Refused(&'static str),
}

/// The action that stands for one of another repository, whatever its version.
pub fn find(owner: &str, repository: &str, path: &str) -> Option<&'static BuiltIn> {
    let asked = (owner.to_lowercase(), repository.to_lowercase(), path);
    let asked = (asked.0.as_str(), asked.1.as_str(), asked.2);
    TABLE
        .iter()
        .find(|(key, _)| *key == asked)
        .map(|(_, found)| found)
}

type Key = (&'static str, &'static str, &'static str);

const TABLE: &[(Key, BuiltIn)] = &[(
    ("havre", "example", ""),
    BuiltIn {
        name: "example",
        inputs: &[
            input("greeting", Some("hello ${{ github.actor }}"), Handled::Yes),
            input("old", None, Handled::Ignored("nothing depends on it")),
            input(
                "never",
                None,
                Handled::Refused("there is no such thing here"),
            ),
        ],
        post: Some("success()"),
    },
)];

const fn input(name: &'static str, default: Option<&'static str>, handled: Handled) -> Input {
    Input {
        name,
        default,
        required: false,
        handled,
    }
}
