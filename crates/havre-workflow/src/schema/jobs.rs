//! The keys of jobs.

use super::steps::ITEM;
use super::{
    Allowed, CACHE_MODE, CONCURRENCY, Key, NAMES, PERMISSIONS_SHAPE, RUN_DEFAULTS, Section, Shape,
    contexts, key,
};

const NEEDS: Allowed = contexts(&["github", "inputs", "vars", "needs"]);
const MATRIX_CONTEXT: Allowed =
    contexts(&["github", "inputs", "vars", "needs", "strategy", "matrix"]);
const MATRIX_AND_SECRETS: Allowed = contexts(&[
    "github", "inputs", "vars", "needs", "secrets", "strategy", "matrix",
]);
const RUN_CONTEXT: Allowed = contexts(&[
    "github", "inputs", "vars", "needs", "strategy", "matrix", "env",
]);
const RUNNER: Allowed = contexts(&[
    "github", "inputs", "vars", "needs", "strategy", "matrix", "secrets", "steps", "job", "runner",
    "env",
]);
const RUNNER_NO_SECRETS: Allowed = contexts(&[
    "github", "inputs", "vars", "needs", "strategy", "matrix", "steps", "job", "runner", "env",
]);
const CREDENTIALS_CONTEXT: Allowed = contexts(&["github", "inputs", "vars", "secrets", "env"]);
const JOB_IF: Allowed = Allowed {
    contexts: &["github", "inputs", "vars", "needs"],
    functions: &[
        ("always", 0),
        ("failure", usize::MAX),
        ("cancelled", 0),
        ("success", usize::MAX),
    ],
};

const JOB_NAME: Key = key("name", Shape::Text).allows(&MATRIX_CONTEXT);
const JOB_NEEDS: Key = key("needs", NAMES);
const IF: Key = key("if", Shape::Condition).allows(&JOB_IF);
const STRATEGY_KEY: Key = key("strategy", Shape::Section(&STRATEGY)).allows(&NEEDS);
const JOB_PERMISSIONS: Key = key("permissions", PERMISSIONS_SHAPE);
const JOB_CONCURRENCY: Key = key(
    "concurrency",
    Shape::OneOf(&[Shape::NonEmpty, Shape::Section(&CONCURRENCY)]),
)
.allows(&MATRIX_CONTEXT);

/// A job with steps.
pub const JOB: Section = Section {
    path: "jobs.*",
    keys: &[
        JOB_NAME,
        JOB_NEEDS,
        IF,
        STRATEGY_KEY,
        key(
            "runs-on",
            Shape::OneOf(&[
                Shape::NonEmpty,
                Shape::List(&Shape::NonEmpty),
                Shape::Section(&RUNS_ON),
            ]),
        )
        .required()
        .allows(&MATRIX_CONTEXT)
        .partly(
            "labels are images or `host` here; one for another system than Linux is warned about",
        ),
        key("timeout-minutes", Shape::Number).allows(&MATRIX_CONTEXT),
        key("cancel-timeout-minutes", Shape::Number)
            .allows(&MATRIX_CONTEXT)
            .ignored("a job that is cancelled has 10 seconds for its end"),
        key("continue-on-error", Shape::Boolean).allows(&MATRIX_CONTEXT),
        key(
            "container",
            Shape::OneOf(&[Shape::Text, Shape::Section(&CONTAINER)]),
        )
        .allows(&MATRIX_CONTEXT),
        key(
            "services",
            Shape::Map(&Shape::OneOf(&[Shape::NonEmpty, Shape::Section(&SERVICE)])),
        )
        .allows(&MATRIX_CONTEXT),
        key("env", Shape::Map(&Shape::Text)).allows(&MATRIX_AND_SECRETS),
        key(
            "environment",
            Shape::OneOf(&[Shape::Text, Shape::Section(&ENVIRONMENT)]),
        )
        .allows(&MATRIX_CONTEXT),
        JOB_PERMISSIONS,
        JOB_CONCURRENCY,
        key("outputs", Shape::Map(&Shape::Text)).allows(&RUNNER),
        key("defaults", Shape::Section(&JOB_DEFAULTS)),
        CACHE_MODE,
        key("steps", Shape::List(&ITEM)),
        key(
            "snapshot",
            Shape::OneOf(&[Shape::NonEmpty, Shape::Section(&SNAPSHOT)]),
        )
        .ignored("no image of a runner is made here; build one from a Dockerfile"),
    ],
};

/// A job that calls another workflow.
pub const CALLING_JOB: Section = Section {
    path: "jobs.* with uses",
    keys: &[
        JOB_NAME,
        key("uses", Shape::NonEmpty).required().partly(
            "`./.github/workflows/FILE`, `$/…` or `OWNER/REPOSITORY/.github/workflows/FILE@REF`",
        ),
        key("with", Shape::Map(&Shape::Scalar)).allows(&MATRIX_CONTEXT),
        key(
            "secrets",
            Shape::OneOf(&[Shape::Word(&["inherit"]), Shape::Map(&Shape::Scalar)]),
        )
        .allows(&MATRIX_AND_SECRETS),
        JOB_NEEDS,
        IF,
        JOB_PERMISSIONS,
        JOB_CONCURRENCY,
        STRATEGY_KEY,
        CACHE_MODE,
    ],
};

/// `strategy` of a job.
pub const STRATEGY: Section = Section {
    path: "jobs.*.strategy",
    keys: &[
        key("fail-fast", Shape::Boolean),
        key("max-parallel", Shape::Number),
        key("matrix", Shape::Open(&MATRIX, &Shape::List(&Shape::Any))),
    ],
};

/// `matrix` of a strategy: these beside vectors.
pub const MATRIX: Section = Section {
    path: "jobs.*.strategy.matrix",
    keys: &[
        key("include", Shape::List(&Shape::Map(&Shape::Any))),
        key("exclude", Shape::List(&Shape::Map(&Shape::Any))),
    ],
};

/// `runs-on` as a mapping.
pub const RUNS_ON: Section = Section {
    path: "jobs.*.runs-on",
    keys: &[
        key("group", Shape::NonEmpty).ignored("there are no groups of runners here; labels decide"),
        key("labels", NAMES),
    ],
};

const ENV: Key = key("env", Shape::Map(&Shape::Text)).allows(&RUNNER);
const IMAGE: Key = key("image", Shape::NonEmpty);
const OPTIONS: Key = key("options", Shape::Text)
    .partly("of `docker create`; which of them a job may have is not checked yet");
const PORTS: Key = key("ports", Shape::List(&Shape::NonEmpty));
const VOLUMES: Key = key("volumes", Shape::List(&Shape::NonEmpty)).partly(
    "a path of the machine is a folder of the job's own, empty at first; a container engine's socket is refused",
);
const CREDENTIALS_KEY: Key =
    key("credentials", Shape::Section(&CREDENTIALS)).allows(&CREDENTIALS_CONTEXT);

/// `container` of a job.
pub const CONTAINER: Section = Section {
    path: "jobs.*.container",
    keys: &[IMAGE, OPTIONS, ENV, PORTS, VOLUMES, CREDENTIALS_KEY],
};

/// One of a job's `services`.
pub const SERVICE: Section = Section {
    path: "jobs.*.services.*",
    keys: &[
        IMAGE,
        OPTIONS,
        ENV,
        PORTS,
        VOLUMES,
        CREDENTIALS_KEY,
        key("entrypoint", Shape::Text),
        key("command", Shape::Text),
    ],
};

/// `credentials` of a container.
pub const CREDENTIALS: Section = Section {
    path: "jobs.*.container.credentials",
    keys: &[
        key("username", Shape::NonEmpty),
        key("password", Shape::NonEmpty),
    ],
};

/// `environment` of a job as a mapping.
pub const ENVIRONMENT: Section = Section {
    path: "jobs.*.environment",
    keys: &[
        key("name", Shape::Text).required().allows(&MATRIX_CONTEXT),
        key("url", Shape::Text).allows(&RUNNER_NO_SECRETS),
        key("deployment", Shape::Boolean),
    ],
};

/// `defaults` of a job.
pub const JOB_DEFAULTS: Section = Section {
    path: "jobs.*.defaults",
    keys: &[key("run", Shape::Section(&RUN_DEFAULTS)).allows(&RUN_CONTEXT)],
};

/// `snapshot` as a mapping.
pub const SNAPSHOT: Section = Section {
    path: "jobs.*.snapshot",
    keys: &[
        key("image-name", Shape::NonEmpty).required(),
        key("if", Shape::Condition).allows(&MATRIX_CONTEXT),
        key("version", Shape::NonEmpty),
    ],
};
