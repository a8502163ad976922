//! Every key of a workflow file: its shape, which contexts its expressions may use, and what becomes
//! of it here.
//!
//! The reader refuses, warns and accepts from [`ROOT`] and from nothing else; the documentation and
//! the comparison with GitHub's published schema read the same table.

mod action;
mod events;
mod jobs;
mod steps;

pub use action::ACTION;
pub use events::ON;
pub use havre_yaml::Support;
pub use jobs::{CALLING_JOB, JOB};
pub use steps::{CANCEL, PARALLEL, RUN, USES, WAIT, WAIT_ALL};

/// What expressions may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Contexts; without one, there may be no expression at all.
    pub contexts: &'static [&'static str],
    /// Functions beside those that are allowed everywhere ([`FUNCTIONS`]), each with the most
    /// arguments it takes.
    pub functions: &'static [(&'static str, usize)],
}

/// Functions that every expression may call.
pub const FUNCTIONS: &[&str] = &[
    "case",
    "contains",
    "endsWith",
    "format",
    "fromJSON",
    "join",
    "startsWith",
    "toJSON",
];

/// What a value has to look like.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// Anything, also lists and mappings.
    Any,
    /// Empty.
    Null,
    /// A single value, as text.
    Text,
    /// As [`Shape::Text`], but not empty.
    NonEmpty,
    /// Text that is an expression, with or without `${{ }}`.
    Condition,
    /// A single value of any kind.
    Scalar,
    /// `true` or `false`.
    Boolean,
    /// A number.
    Number,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A list.
    List(&'static Shape),
    /// A mapping of names of one's own.
    Map(&'static Shape),
    /// A mapping of names of one's own beside known keys.
    Open(&'static Section, &'static Shape),
    /// A mapping of known keys.
    Section(&'static Section),
    /// A mapping of known keys, which tell which of these it is.
    Variants(&'static [&'static Section]),
    /// The first that fits by kind: empty, single value, list, mapping.
    OneOf(&'static [Shape]),
}

/// One key of a [`Section`].
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// As written in the file.
    pub name: &'static str,
    /// What its value looks like.
    pub shape: Shape,
    /// Whether it has to be there.
    pub required: bool,
    /// What its expressions, and those below it, may use; `None`: what those around it may.
    pub allowed: Option<&'static Allowed>,
    /// What becomes of it.
    pub support: Support,
}

/// The keys of one kind of mapping.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// Where it stands, e.g. `jobs.*.strategy`.
    pub path: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
}

impl Section {
    /// The entry of a key.
    pub fn find(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

/// A key that is honoured.
const fn key(name: &'static str, shape: Shape) -> Key {
    Key {
        name,
        shape,
        required: false,
        allowed: None,
        support: Support::Honoured,
    }
}

impl Key {
    const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    const fn allows(mut self, allowed: &'static Allowed) -> Self {
        self.allowed = Some(allowed);
        self
    }

    const fn partly(mut self, how: &'static str) -> Self {
        self.support = Support::Partly(how);
        self
    }

    const fn quiet(mut self, why: &'static str) -> Self {
        self.support = Support::Quiet(why);
        self
    }

    const fn ignored(mut self, why: &'static str) -> Self {
        self.support = Support::Ignored(why);
        self
    }
}

const fn contexts(contexts: &'static [&'static str]) -> Allowed {
    Allowed {
        contexts,
        functions: &[],
    }
}

/// No expressions.
pub const NOTHING: Allowed = contexts(&[]);
const WORKFLOW: Allowed = contexts(&["github", "inputs", "vars"]);
const WORKFLOW_ENV: Allowed = contexts(&["github", "inputs", "vars", "secrets"]);

/// A list of non-empty texts, or one of them.
const NAMES: Shape = Shape::OneOf(&[Shape::NonEmpty, Shape::List(&Shape::NonEmpty)]);
const RUN_DEFAULTS: Section = Section {
    path: "defaults.run",
    keys: &[
        key("shell", Shape::NonEmpty),
        key("working-directory", Shape::NonEmpty),
    ],
};
const DESCRIPTION: Key = key("description", Shape::Text).quiet("only people read it");
const CACHE_MODE: Key = key(
    "cache-mode",
    Shape::Word(&["read", "write", "write-only", "none"]),
);

/// The file itself.
pub const ROOT: Section = Section {
    path: "",
    keys: &[
        key("name", Shape::Text),
        DESCRIPTION,
        key("run-name", Shape::Text).allows(&WORKFLOW),
        key(
            "on",
            Shape::OneOf(&[
                Shape::Word(events::NAMES),
                Shape::List(&Shape::Word(events::NAMES)),
                Shape::Section(&ON),
            ]),
        )
        .required(),
        key("permissions", PERMISSIONS_SHAPE),
        key("env", Shape::Map(&Shape::Text)).allows(&WORKFLOW_ENV),
        key("defaults", Shape::Section(&DEFAULTS)),
        key(
            "concurrency",
            Shape::OneOf(&[Shape::Text, Shape::Section(&CONCURRENCY)]),
        )
        .allows(&WORKFLOW),
        CACHE_MODE,
        key("jobs", Shape::Map(&Shape::Variants(&[&JOB, &CALLING_JOB]))).required(),
    ],
};

/// `defaults` of the workflow.
pub const DEFAULTS: Section = Section {
    path: "defaults",
    keys: &[key("run", Shape::Section(&RUN_DEFAULTS))],
};

/// `concurrency` of a workflow or a job.
pub const CONCURRENCY: Section = Section {
    path: "concurrency",
    keys: &[
        key("group", Shape::NonEmpty).required(),
        key("cancel-in-progress", Shape::Boolean),
        key("queue", Shape::Word(&["single", "max"])),
    ],
};

const PERMISSIONS_SHAPE: Shape = Shape::OneOf(&[
    Shape::Word(&["read-all", "write-all"]),
    Shape::Section(&PERMISSIONS),
]);

const fn permission(name: &'static str, levels: &'static [&'static str]) -> Key {
    key(name, Shape::Word(levels))
        .quiet("nothing here is guarded by it; called workflows are held to it")
}

const ANY_LEVEL: &[&str] = &["read", "write", "none"];

/// `permissions` of a workflow or a job.
pub const PERMISSIONS: Section = Section {
    path: "permissions",
    keys: &[
        permission("actions", ANY_LEVEL),
        permission("artifact-metadata", ANY_LEVEL),
        permission("attestations", ANY_LEVEL),
        permission("checks", ANY_LEVEL),
        permission("code-quality", ANY_LEVEL),
        key("contents", Shape::Word(ANY_LEVEL)),
        permission("copilot-requests", &["write", "none"]),
        permission("deployments", ANY_LEVEL),
        permission("discussions", ANY_LEVEL),
        permission("drives", ANY_LEVEL),
        key("id-token", Shape::Word(&["write", "none"])),
        permission("issues", ANY_LEVEL),
        permission("models", &["read", "none"]),
        key("packages", Shape::Word(ANY_LEVEL)),
        permission("pages", ANY_LEVEL),
        permission("pull-requests", ANY_LEVEL),
        permission("repository-projects", ANY_LEVEL),
        permission("security-events", ANY_LEVEL),
        permission("statuses", ANY_LEVEL),
        permission("vulnerability-alerts", &["read", "none"]),
    ],
};

/// Every section, for documentation and tests, with what expressions may use where it stands first.
pub fn sections() -> Vec<(&'static Section, &'static Allowed)> {
    let mut found: Vec<(&'static Section, &'static Allowed)> = vec![(&ROOT, &NOTHING)];
    let mut next = 0;
    while let Some((section, around)) = found.get(next).copied() {
        for key in section.keys {
            collect(&key.shape, key.allowed.unwrap_or(around), &mut found);
        }
        next += 1;
    }
    found
}

fn collect(
    shape: &'static Shape,
    allowed: &'static Allowed,
    found: &mut Vec<(&'static Section, &'static Allowed)>,
) {
    let mut take = |section: &'static Section| {
        if !found.iter().any(|(known, _)| known.path == section.path) {
            found.push((section, allowed));
        }
    };
    match shape {
        Shape::Section(section) => take(section),
        Shape::Variants(sections) => sections.iter().for_each(|section| take(section)),
        Shape::Open(section, inner) => {
            take(section);
            collect(inner, allowed, found);
        }
        Shape::List(inner) | Shape::Map(inner) => collect(inner, allowed, found),
        Shape::OneOf(shapes) => shapes
            .iter()
            .for_each(|shape| collect(shape, allowed, found)),
        Shape::Any
        | Shape::Null
        | Shape::Text
        | Shape::NonEmpty
        | Shape::Condition
        | Shape::Scalar
        | Shape::Boolean
        | Shape::Number
        | Shape::Word(_) => {}
    }
}
