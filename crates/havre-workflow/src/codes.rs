//! What the codes of findings mean.

/// Code and meaning of every finding about workflows, in the order of the codes.
pub const CODES: &[(&str, &str)] = &[
    (
        "workflow/call",
        "What a workflow asks of another does not fit it",
    ),
    ("workflow/condition", "A condition that is always true"),
    ("workflow/conflict", "Two things that exclude each other"),
    (
        "workflow/context",
        "A context that is not available where it stands",
    ),
    ("workflow/cycle", "Jobs that wait for each other"),
    (
        "workflow/documents",
        "More than one YAML document in a file",
    ),
    (
        "workflow/duplicate-key",
        "A key that is written twice, in capital and in small letters",
    ),
    ("workflow/empty", "A file without a workflow"),
    ("workflow/encoding", "A file that is not UTF-8"),
    ("workflow/expression", "An expression that cannot be read"),
    (
        "workflow/expression-place",
        "An expression where there may be none",
    ),
    ("workflow/filter", "A filter that matches nothing"),
    ("workflow/foreign", "Something of another system than Linux"),
    (
        "workflow/function",
        "A function that is not available where it stands",
    ),
    (
        "workflow/id",
        "An id with characters that it may not have, or that is taken",
    ),
    ("workflow/ignored", "Something without effect here"),
    (
        "workflow/lock",
        "Something that the lock file of actions lacks, or says wrongly",
    ),
    (
        "workflow/matrix",
        "A matrix that makes no jobs, or leaves out what it does not have",
    ),
    ("workflow/missing-key", "A key that is needed and not there"),
    ("workflow/more", "More findings than are shown"),
    ("workflow/needs", "A job that is needed and not there"),
    (
        "workflow/number",
        "A number that becomes another text than what is written",
    ),
    (
        "workflow/schedule",
        "A time or a time zone that cannot be read",
    ),
    ("workflow/too-large", "A file larger than 1 MiB"),
    (
        "workflow/too-many-jobs",
        "More jobs than a workflow may have",
    ),
    ("workflow/type", "A value of another kind than is needed"),
    ("workflow/unknown-key", "A key that workflows do not have"),
    (
        "workflow/unknown-name",
        "A name in an expression that nothing gives",
    ),
    (
        "workflow/unsupported",
        "Something that is not supported here",
    ),
    (
        "workflow/uses",
        "An action or a workflow that is not named as one",
    ),
    ("workflow/value", "A value that is not allowed"),
    (
        "workflow/wait",
        "A step that waits for one that is not in the background",
    ),
];

/// What a code means.
pub fn meaning(code: &str) -> Option<&'static str> {
    let found = CODES.iter().find(|(known, _)| *known == code);
    found.map(|(_, meaning)| *meaning)
}
