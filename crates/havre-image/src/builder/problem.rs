//! What is wrong at a place of a Dockerfile, as an error.

use crate::dockerfile::{Dockerfile, DockerfileError, Problem, Span, excerpt};

/// An error at a place of the Dockerfile.
pub(super) fn problem_at(
    dockerfile: &Dockerfile,
    span: Span,
    text: &str,
    problem: Problem,
) -> DockerfileError {
    DockerfileError {
        file: dockerfile.file.clone(),
        line: span.line,
        text: excerpt(text),
        problem: Box::new(problem),
    }
}
