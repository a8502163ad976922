//! A lock file as GitHub's own tool writes it: sorted, in quotes, four blanks deep.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Lock, Locked};

const HEAD: &str = "# Written by `havre ci lock`, in the form of GitHub's `gh actions-lock`: do not edit it by hand.\n";

impl Lock {
    /// The file's text.
    pub fn text(&self) -> String {
        let mut text = HEAD.to_owned();
        line(
            &mut text,
            0,
            format_args!("version: {}", quoted(&self.version)),
        );
        if !self.workflows.is_empty() {
            line(&mut text, 0, format_args!("workflows:"));
        }
        let workflows: BTreeMap<_, _> = self.workflows.iter().collect();
        for (path, pins) in workflows {
            let mut keys: Vec<&str> = pins.iter().map(|pin| pin.value.as_str()).collect();
            keys.sort_unstable();
            keys.dedup();
            let none = if keys.is_empty() { " []" } else { "" };
            line(&mut text, 1, format_args!("{}:{none}", quoted(path)));
            each(&mut text, 2, &keys);
        }
        if !self.dependencies.is_empty() {
            line(&mut text, 0, format_args!("dependencies:"));
        }
        let dependencies: BTreeMap<_, _> = self.dependencies.iter().collect();
        for (key, locked) in dependencies {
            line(&mut text, 1, format_args!("{}:", quoted(key)));
            entry(&mut text, locked);
        }
        text
    }
}

fn entry(text: &mut String, locked: &Locked) {
    let kind = if locked.commit.len() == 64 {
        "sha256"
    } else {
        "sha1"
    };
    let commit = quoted(&format!("{kind}-{}", locked.commit));
    line(text, 2, format_args!("ref: {}", quoted(&locked.reference)));
    line(text, 2, format_args!("commit: {commit}"));
    for (name, number) in [("owner_id", locked.owner), ("repo_id", locked.repository)] {
        if let Some(number) = number {
            line(text, 2, format_args!("{name}: {number}"));
        }
    }
    let mut uses: Vec<&str> = locked.uses.iter().map(String::as_str).collect();
    uses.sort_unstable();
    uses.dedup();
    if !uses.is_empty() {
        line(text, 2, format_args!("uses:"));
        each(text, 3, &uses);
    }
}

fn each(text: &mut String, depth: usize, keys: &[&str]) {
    for key in keys {
        line(text, depth, format_args!("- {}", quoted(key)));
    }
}

fn line(text: &mut String, depth: usize, what: std::fmt::Arguments<'_>) {
    let blanks = "    ".repeat(depth);
    // Writing to a text does not fail.
    writeln!(text, "{blanks}{what}").unwrap_or_default();
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
