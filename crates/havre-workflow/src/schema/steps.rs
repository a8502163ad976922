//! The keys of steps.

use super::Key;
use super::{Allowed, NAMES, Section, Shape, key};

const HASH_FILES: (&str, usize) = ("hashFiles", 255);

const STEP: Allowed = Allowed {
    contexts: &[
        "github", "inputs", "vars", "needs", "strategy", "matrix", "secrets", "steps", "job",
        "runner", "env",
    ],
    functions: &[HASH_FILES],
};
const STEP_IF: Allowed = Allowed {
    contexts: &[
        "github", "inputs", "vars", "needs", "strategy", "matrix", "steps", "job", "runner", "env",
    ],
    functions: &[
        ("always", 0),
        ("failure", 0),
        ("cancelled", 0),
        ("success", 0),
        HASH_FILES,
    ],
};

const NAME: Key = key("name", Shape::Text).allows(&STEP);
const ID: Key = key("id", Shape::NonEmpty);
const IF: Key = key("if", Shape::Condition).allows(&STEP_IF);
const TIMEOUT: Key = key("timeout-minutes", Shape::Number).allows(&STEP);
const CONTINUE: Key = key("continue-on-error", Shape::Boolean).allows(&STEP);
const ENV: Key = key("env", Shape::Map(&Shape::Text)).allows(&STEP);
const BACKGROUND: Key = key("background", Shape::Boolean).partly("at most 10 steps at once");

/// Any step.
pub(super) const ITEM: Shape =
    Shape::Variants(&[&RUN, &USES, &WAIT, &WAIT_ALL, &CANCEL, &PARALLEL]);

/// A step that runs a script.
pub const RUN: Section = Section {
    path: "jobs.*.steps[] with run",
    keys: &[
        NAME,
        ID,
        IF,
        TIMEOUT,
        key("run", Shape::Text).required().allows(&STEP),
        CONTINUE,
        ENV,
        key("working-directory", Shape::Text).allows(&STEP),
        key("shell", Shape::NonEmpty),
        BACKGROUND,
    ],
};

/// A step that runs an action.
pub const USES: Section = Section {
    path: "jobs.*.steps[] with uses",
    keys: &[
        NAME,
        ID,
        IF,
        CONTINUE,
        TIMEOUT,
        key("uses", Shape::NonEmpty)
            .required()
            .partly("`OWNER/REPOSITORY[/PATH]@REF`, `./PATH`, `$/PATH` or `docker://IMAGE`"),
        key("with", Shape::Map(&Shape::Text)).allows(&STEP),
        ENV,
        BACKGROUND,
    ],
};

/// A step that waits for steps in the background.
pub const WAIT: Section = Section {
    path: "jobs.*.steps[] with wait",
    keys: &[NAME, ID, CONTINUE, key("wait", NAMES).required()],
};

/// A step that waits for all steps in the background.
pub const WAIT_ALL: Section = Section {
    path: "jobs.*.steps[] with wait-all",
    keys: &[
        NAME,
        ID,
        CONTINUE,
        key("wait-all", Shape::OneOf(&[Shape::Null, Shape::Boolean])).required(),
    ],
};

/// A step that ends a step in the background.
pub const CANCEL: Section = Section {
    path: "jobs.*.steps[] with cancel",
    keys: &[
        NAME,
        ID,
        CONTINUE,
        key("cancel", Shape::NonEmpty).required(),
    ],
};

/// Steps that run side by side.
pub const PARALLEL: Section = Section {
    path: "jobs.*.steps[] with parallel",
    keys: &[
        key("parallel", Shape::List(&Shape::Variants(&[&RUN, &USES])))
            .required()
            .partly("steps with `run` or `uses`, without `background`; at most 10 at once"),
    ],
};
