//! What a resolver and its helper have to complain about: lines on standard error, which is a log.

use std::io::{self, Write as _};

/// Writes a line to the log. Unlike with `eprintln!`, a full disk does not end the resolver.
pub fn complain(line: &str) {
    writeln!(io::stderr(), "{line}").unwrap_or_default();
}
