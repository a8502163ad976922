//! The keys of `action.yml`.

use super::{Allowed, DESCRIPTION, Key, Section, Shape, key};

const HASH_FILES: (&str, usize) = ("hashFiles", 255);

const INPUT: Allowed = Allowed {
    contexts: &["github", "strategy", "matrix", "job", "runner"],
    functions: &[HASH_FILES],
};
const INSIDE: Allowed = Allowed {
    contexts: &[
        "github", "inputs", "strategy", "matrix", "steps", "job", "runner", "env",
    ],
    functions: &[HASH_FILES],
};
const INSIDE_IF: Allowed = Allowed {
    contexts: INSIDE.contexts,
    functions: &[
        ("always", 0),
        ("failure", 0),
        ("cancelled", 0),
        ("success", 0),
        HASH_FILES,
    ],
};
const PHASE_IF: Allowed = Allowed {
    contexts: &[
        "github", "inputs", "strategy", "matrix", "job", "runner", "env", "steps",
    ],
    functions: INSIDE_IF.functions,
};

const NAME: Key = key("name", Shape::Text).allows(&INSIDE);
const ID: Key = key("id", Shape::NonEmpty);
const IF: Key = key("if", Shape::Condition).allows(&INSIDE_IF);
const ENV: Key = key("env", Shape::Map(&Shape::Text)).allows(&INSIDE);
const CONTINUE: Key = key("continue-on-error", Shape::Boolean).allows(&INSIDE);

const RUN: Section = Section {
    path: "runs.steps[] with run",
    keys: &[
        NAME,
        ID,
        IF,
        key("run", Shape::Text).required().allows(&INSIDE),
        ENV,
        CONTINUE,
        key("working-directory", Shape::Text).allows(&INSIDE),
        key("shell", Shape::NonEmpty).required().allows(&INSIDE),
    ],
};
const USES: Section = Section {
    path: "runs.steps[] with uses",
    keys: &[
        NAME,
        ID,
        IF,
        key("uses", Shape::NonEmpty).required(),
        key("with", Shape::Map(&Shape::Text)).allows(&INSIDE),
        ENV,
        CONTINUE,
    ],
};

const RUNS: Section = Section {
    path: "runs",
    keys: &[
        key("using", Shape::NonEmpty).required(),
        key("steps", Shape::List(&Shape::Variants(&[&RUN, &USES]))),
        key("main", Shape::NonEmpty),
        key("pre", Shape::NonEmpty),
        key("pre-if", Shape::Condition).allows(&PHASE_IF),
        key("post", Shape::NonEmpty),
        key("post-if", Shape::Condition).allows(&PHASE_IF),
        key("image", Shape::NonEmpty),
        key("entrypoint", Shape::Text),
        key("pre-entrypoint", Shape::Text),
        key("post-entrypoint", Shape::Text),
        key("args", Shape::Any).allows(&INSIDE),
        key("env", Shape::Map(&Shape::Text)).allows(&INSIDE),
    ],
};

/// GitHub takes any further key here, and actions in the wild have them (`type`).
const INPUT_KEYS: Section = Section {
    path: "inputs.*",
    keys: &[
        DESCRIPTION,
        key("required", Shape::Scalar),
        key("default", Shape::Text).allows(&INPUT),
        key("deprecationMessage", Shape::Text),
    ],
};

const OUTPUT: Section = Section {
    path: "outputs.*",
    keys: &[DESCRIPTION, key("value", Shape::Text).allows(&INSIDE)],
};

/// The file itself.
pub const ACTION: Section = Section {
    path: "action.yml",
    keys: &[
        key("name", Shape::Text),
        DESCRIPTION,
        key("author", Shape::Text),
        key("branding", Shape::Any),
        key(
            "inputs",
            Shape::OneOf(&[
                Shape::Null,
                Shape::Map(&Shape::OneOf(&[
                    Shape::Null,
                    Shape::Open(&INPUT_KEYS, &Shape::Any),
                ])),
            ]),
        ),
        key(
            "outputs",
            Shape::OneOf(&[Shape::Null, Shape::Map(&Shape::Section(&OUTPUT))]),
        ),
        key("runs", Shape::Section(&RUNS)).required(),
    ],
};
