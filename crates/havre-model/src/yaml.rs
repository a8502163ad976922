//! YAML as compose files have it: merge keys, tags that steer merging, and what other parsers take.

use std::path::PathBuf;

use havre_yaml::tree::{Dialect, Tags};
pub(crate) use havre_yaml::tree::{Directive, Entry, Map, Node, Value, count, same};

use crate::report::{Codes, Report};
use crate::source::SourceId;

/// Largest file read, in bytes.
pub(crate) const MAX_FILE_BYTES: u64 = 2 << 20;

const COMPOSE: Dialect = Dialect {
    max_depth: 48,
    merges: true,
    relaxed: true,
    tags: Tags::Compose,
};

const CODES: Codes = Codes {
    more: "compose/more",
    breaking: &[
        "compose/unset-variable",
        "compose/required-variable",
        "compose/interpolation",
    ],
};

/// Parses every document of a file; `None` after an error was reported.
pub(crate) fn parse(source: SourceId, report: &mut Report) -> Option<Vec<Node>> {
    havre_yaml::tree::parse(source, &COMPOSE, report)
}

/// A report about a project's files; `root` is the folder that paths are shown relative to.
pub(crate) fn report(root: PathBuf) -> Report {
    Report::new(root, CODES)
}
