//! What a resolver and its helper have to complain about: lines on standard error, which is a log.

use std::io::{self, Write as _};

/// Writes a line to the log. Unlike with `eprintln!`, a full disk does not end the resolver.
pub fn complain(line: &str) {
    writeln!(io::stderr(), "{line}").unwrap_or_default();
}

/// An error with its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        source = cause.source();
    }
    line
}
