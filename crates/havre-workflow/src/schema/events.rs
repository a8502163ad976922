//! The keys of `on`: what starts a workflow.

use super::{Allowed, DESCRIPTION, Key, NAMES as LIST, Section, Shape, WORKFLOW, contexts, key};

/// A word or a list of them.
macro_rules! activities {
    ($words:expr) => {
        Shape::OneOf(&[Shape::Word(&$words), Shape::List(&Shape::Word(&$words))])
    };
}

/// Empty, or a mapping of these keys.
macro_rules! configured {
    ($section:expr) => {
        Shape::OneOf(&[Shape::Null, Shape::Section(&$section)])
    };
}

/// An event of GitHub's own.
const fn event(name: &'static str, shape: Shape) -> Key {
    key(name, shape).ignored("it happens at GitHub only; it starts nothing here")
}

/// All events.
pub(super) const NAMES: &[&str] = &[
    "branch_protection_rule",
    "check_run",
    "check_suite",
    "create",
    "delete",
    "deployment",
    "deployment_status",
    "discussion",
    "discussion_comment",
    "fork",
    "gollum",
    "image_version",
    "issue_comment",
    "issues",
    "label",
    "merge_group",
    "milestone",
    "page_build",
    "project",
    "project_card",
    "project_column",
    "public",
    "pull_request",
    "pull_request_comment",
    "pull_request_review",
    "pull_request_review_comment",
    "pull_request_target",
    "push",
    "registry_package",
    "release",
    "repository_dispatch",
    "schedule",
    "status",
    "watch",
    "workflow_call",
    "workflow_dispatch",
    "workflow_run",
];

/// What starts the workflow.
pub const ON: Section = Section {
    path: "on",
    keys: &[
        key("push", configured!(PUSH)),
        key("pull_request", configured!(PULL_REQUEST)).partly("of a branch that is pushed here"),
        key("workflow_dispatch", configured!(DISPATCH)),
        key("schedule", Shape::List(&Shape::Section(&SCHEDULE))),
        key("workflow_call", configured!(CALL)),
        key("repository_dispatch", configured!(REPOSITORY_DISPATCH)),
        key("workflow_run", configured!(WORKFLOW_RUN)),
        event(
            "branch_protection_rule",
            configured!(BRANCH_PROTECTION_RULE),
        ),
        event("check_run", configured!(CHECK_RUN)),
        event("check_suite", configured!(CHECK_SUITE)),
        event("create", Shape::Null),
        event("delete", Shape::Null),
        event("deployment", Shape::Null),
        event("deployment_status", Shape::Null),
        event("discussion", configured!(DISCUSSION)),
        event("discussion_comment", configured!(DISCUSSION_COMMENT)),
        event("fork", Shape::Null),
        event("gollum", Shape::Null),
        event("image_version", configured!(IMAGE_VERSION)),
        event("issue_comment", configured!(ISSUE_COMMENT)),
        event("issues", configured!(ISSUES)),
        event("label", configured!(LABEL)),
        event("merge_group", configured!(MERGE_GROUP)),
        event("milestone", configured!(MILESTONE)),
        event("page_build", Shape::Null),
        event("project", configured!(PROJECT)),
        event("project_card", configured!(PROJECT_CARD)),
        event("project_column", configured!(PROJECT_COLUMN)),
        event("public", Shape::Null),
        event("pull_request_comment", configured!(ISSUE_COMMENT)),
        event("pull_request_review", configured!(PULL_REQUEST_REVIEW)),
        event(
            "pull_request_review_comment",
            configured!(PULL_REQUEST_REVIEW_COMMENT),
        ),
        event("pull_request_target", configured!(PULL_REQUEST_TARGET)),
        event("registry_package", configured!(REGISTRY_PACKAGE)),
        event("release", configured!(RELEASE)),
        event("status", Shape::Null),
        event("watch", configured!(WATCH)),
    ],
};

const CREATED_EDITED_DELETED: Key = key("types", activities!(["created", "edited", "deleted"]));
const PULL_REQUEST_TYPES: Shape = activities!([
    "assigned",
    "unassigned",
    "labeled",
    "unlabeled",
    "opened",
    "edited",
    "closed",
    "reopened",
    "synchronize",
    "converted_to_draft",
    "locked",
    "unlocked",
    "enqueued",
    "dequeued",
    "milestoned",
    "demilestoned",
    "ready_for_review",
    "review_requested",
    "review_request_removed",
    "auto_merge_enabled",
    "auto_merge_disabled",
    "stacked"
]);
const BRANCHES: Key = key("branches", LIST);
const BRANCHES_IGNORE: Key = key("branches-ignore", LIST);
const PATHS: Key = key("paths", LIST);
const PATHS_IGNORE: Key = key("paths-ignore", LIST);

/// `on.push`
pub const PUSH: Section = Section {
    path: "on.push",
    keys: &[
        BRANCHES,
        BRANCHES_IGNORE,
        key("tags", LIST),
        key("tags-ignore", LIST),
        PATHS,
        PATHS_IGNORE,
    ],
};

/// `on.pull_request`
pub const PULL_REQUEST: Section = Section {
    path: "on.pull_request",
    keys: &[
        key("types", PULL_REQUEST_TYPES).partly(
            "`opened`, `synchronize` and `reopened`; a warning where none of them is there",
        ),
        BRANCHES,
        BRANCHES_IGNORE,
        PATHS,
        PATHS_IGNORE,
    ],
};

/// `on.workflow_dispatch`
pub const DISPATCH: Section = Section {
    path: "on.workflow_dispatch",
    keys: &[key(
        "inputs",
        Shape::OneOf(&[Shape::Null, Shape::Map(&Shape::Section(&DISPATCH_INPUT))]),
    )],
};

/// An input of `on.workflow_dispatch`
pub const DISPATCH_INPUT: Section = Section {
    path: "on.workflow_dispatch.inputs.*",
    keys: &[
        DESCRIPTION,
        key(
            "type",
            Shape::Word(&["string", "boolean", "number", "environment", "choice"]),
        ),
        key("required", Shape::Boolean),
        key("default", Shape::Scalar),
        key("options", Shape::List(&Shape::Text)),
    ],
};

/// `on.schedule`
pub const SCHEDULE: Section = Section {
    path: "on.schedule[]",
    keys: &[
        key("cron", Shape::NonEmpty).required(),
        key("timezone", Shape::NonEmpty),
    ],
};

/// `on.repository_dispatch`
pub const REPOSITORY_DISPATCH: Section = Section {
    path: "on.repository_dispatch",
    keys: &[key("types", Shape::List(&Shape::NonEmpty))],
};

/// `on.workflow_run`
pub const WORKFLOW_RUN: Section = Section {
    path: "on.workflow_run",
    keys: &[
        key(
            "types",
            activities!(["requested", "completed", "in_progress"]),
        ),
        key("workflows", LIST),
        BRANCHES,
        BRANCHES_IGNORE,
    ],
};

/// `on.workflow_call`
pub const CALL: Section = Section {
    path: "on.workflow_call",
    keys: &[
        key("inputs", Shape::Map(&Shape::Section(&CALL_INPUT))),
        key("secrets", Shape::Map(&configured!(CALL_SECRET))),
        key("outputs", Shape::Map(&Shape::Section(&CALL_OUTPUT))),
    ],
};

/// An input of `on.workflow_call`
pub const CALL_INPUT: Section = Section {
    path: "on.workflow_call.inputs.*",
    keys: &[
        DESCRIPTION,
        key("type", Shape::Word(&["string", "boolean", "number"])).required(),
        key("required", Shape::Boolean),
        key("default", Shape::Scalar).allows(&WORKFLOW),
    ],
};

/// A secret of `on.workflow_call`
pub const CALL_SECRET: Section = Section {
    path: "on.workflow_call.secrets.*",
    keys: &[DESCRIPTION, key("required", Shape::Boolean)],
};

/// An output of `on.workflow_call`
pub const CALL_OUTPUT: Section = Section {
    path: "on.workflow_call.outputs.*",
    keys: &[
        DESCRIPTION,
        key("value", Shape::Text).required().allows(&OUTPUT),
    ],
};

const OUTPUT: Allowed = contexts(&["github", "inputs", "vars", "jobs"]);

const BRANCH_PROTECTION_RULE: Section = Section {
    path: "on.branch_protection_rule",
    keys: &[CREATED_EDITED_DELETED],
};

const CHECK_RUN: Section = Section {
    path: "on.check_run",
    keys: &[key(
        "types",
        activities!(["completed", "created", "rerequested", "requested_action"]),
    )],
};

const CHECK_SUITE: Section = Section {
    path: "on.check_suite",
    keys: &[key("types", activities!(["completed"]))],
};

const DISCUSSION: Section = Section {
    path: "on.discussion",
    keys: &[key(
        "types",
        activities!([
            "created",
            "edited",
            "deleted",
            "transferred",
            "pinned",
            "unpinned",
            "labeled",
            "unlabeled",
            "locked",
            "unlocked",
            "category_changed",
            "answered",
            "unanswered"
        ]),
    )],
};

const DISCUSSION_COMMENT: Section = Section {
    path: "on.discussion_comment",
    keys: &[CREATED_EDITED_DELETED],
};

const IMAGE_VERSION: Section = Section {
    path: "on.image_version",
    keys: &[
        key("types", activities!(["created", "ready", "deleted"])),
        key("names", LIST),
        key("versions", LIST),
    ],
};

const ISSUE_COMMENT: Section = Section {
    path: "on.issue_comment",
    keys: &[CREATED_EDITED_DELETED],
};

const ISSUES: Section = Section {
    path: "on.issues",
    keys: &[key(
        "types",
        activities!([
            "opened",
            "edited",
            "deleted",
            "transferred",
            "pinned",
            "unpinned",
            "closed",
            "reopened",
            "assigned",
            "unassigned",
            "labeled",
            "unlabeled",
            "locked",
            "unlocked",
            "milestoned",
            "demilestoned",
            "field_added",
            "field_removed",
            "typed",
            "untyped"
        ]),
    )],
};

const LABEL: Section = Section {
    path: "on.label",
    keys: &[CREATED_EDITED_DELETED],
};

const MERGE_GROUP: Section = Section {
    path: "on.merge_group",
    keys: &[
        key("types", activities!(["checks_requested"])),
        BRANCHES,
        BRANCHES_IGNORE,
    ],
};

const MILESTONE: Section = Section {
    path: "on.milestone",
    keys: &[key(
        "types",
        activities!(["created", "closed", "opened", "edited", "deleted"]),
    )],
};

const PROJECT: Section = Section {
    path: "on.project",
    keys: &[key(
        "types",
        activities!(["created", "closed", "reopened", "edited", "deleted"]),
    )],
};

const PROJECT_CARD: Section = Section {
    path: "on.project_card",
    keys: &[key(
        "types",
        activities!(["created", "moved", "converted", "edited", "deleted"]),
    )],
};

const PROJECT_COLUMN: Section = Section {
    path: "on.project_column",
    keys: &[key(
        "types",
        activities!(["created", "updated", "moved", "deleted"]),
    )],
};

const PULL_REQUEST_REVIEW: Section = Section {
    path: "on.pull_request_review",
    keys: &[key(
        "types",
        activities!(["submitted", "edited", "dismissed"]),
    )],
};

const PULL_REQUEST_REVIEW_COMMENT: Section = Section {
    path: "on.pull_request_review_comment",
    keys: &[CREATED_EDITED_DELETED],
};

const PULL_REQUEST_TARGET: Section = Section {
    path: "on.pull_request_target",
    keys: &[
        key("types", PULL_REQUEST_TYPES),
        BRANCHES,
        BRANCHES_IGNORE,
        PATHS,
        PATHS_IGNORE,
    ],
};

const REGISTRY_PACKAGE: Section = Section {
    path: "on.registry_package",
    keys: &[key("types", activities!(["published", "updated"]))],
};

const RELEASE: Section = Section {
    path: "on.release",
    keys: &[key(
        "types",
        activities!([
            "published",
            "unpublished",
            "created",
            "edited",
            "deleted",
            "prereleased",
            "released"
        ]),
    )],
};

const WATCH: Section = Section {
    path: "on.watch",
    keys: &[key("types", activities!(["started"]))],
};
