//! The lock file of actions, `.github/workflows/actions.lock`: which commit each `uses` is.
//!
//! Source: GitHub's published schema of it, v0.0.2 and v0.0.3. A workflow that is listed has to find there all actions
//! of other repositories that its steps use; one that is not listed is as if there were no file. Calls of workflows
//! are pinned where they stand there, and need not; what a called workflow uses stands in the lock file of its own
//! repository. GitHub's numbers of owners and repositories are kept, and not needed where they are not GitHub's.

mod check;
mod write;

use std::path::{Path, PathBuf};

use havre_yaml::{LineColumn, Node, Report, Sources, Span};
use indexmap::IndexMap;

use crate::limits::Limits;
use crate::model::{Remote, Spanned};
use crate::read::{CODES, Failure, document};

pub use check::{check, of_steps, used};

/// Where it is, from the repository's root.
pub const PATH: &str = ".github/workflows/actions.lock";
/// The forms that are read; the first is what is written where nothing was before.
pub const VERSIONS: [&str; 2] = ["v0.0.2", "v0.0.3"];
/// The one server whose actions need no `hostname`.
const HOME: &str = "github.com";
/// Code of all findings.
pub const CODE: &str = "workflow/lock";
/// Most entries of it.
const MAX_ENTRIES: usize = 5000;

/// What a lock file says.
#[derive(Clone, Debug)]
pub struct Lock {
    /// One of [`VERSIONS`].
    pub version: String,
    /// By path from the repository's root: all that a workflow uses, directly or not, as keys.
    pub workflows: IndexMap<String, Vec<Spanned<String>>>,
    /// By key.
    pub dependencies: IndexMap<String, Locked>,
    /// The file's text, for places.
    pub sources: Sources,
}

/// One entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Locked {
    /// Where its key stands.
    pub key: Span,
    /// What the commit was found by.
    pub reference: String,
    /// In hex, in small letters: 40 or 64 digits.
    pub commit: String,
    /// GitHub's number of the owner.
    pub owner: Option<u64>,
    /// GitHub's number of the repository.
    pub repository: Option<u64>,
    /// Keys of what it uses itself.
    pub uses: Vec<String>,
}

impl Lock {
    /// One that lists nothing.
    pub fn empty() -> Self {
        Self {
            version: VERSIONS[0].to_owned(),
            workflows: IndexMap::new(),
            dependencies: IndexMap::new(),
            sources: Sources::new(PathBuf::new()),
        }
    }

    /// Whether all that a workflow uses has to stand here.
    pub fn lists(&self, workflow: &str) -> bool {
        self.workflows.contains_key(workflow)
    }

    /// The commit that a listed workflow gets for a key.
    pub fn commit(&self, workflow: &str, key: &str) -> Option<&str> {
        let listed = self.workflows.get(workflow)?;
        let is_listed = listed.iter().any(|pin| pin.value == key);
        let locked = self.dependencies.get(key).filter(|_| is_listed)?;
        Some(&locked.commit)
    }
}

/// How a lock file names something of another repository: owner and repository in small letters, no path in it.
pub fn key(remote: &Remote) -> String {
    let (owner, repository) = (&remote.owner, &remote.repository);
    let place = format!("{owner}/{repository}").to_lowercase();
    format!("{place}@{}", remote.reference)
}

/// Reads the text of a lock file; `path` is how it is shown.
pub fn read(path: &Path, text: &str) -> Result<Lock, Failure> {
    let mut report = Report::new(PathBuf::new(), CODES);
    let limits = Limits::default();
    let root = document(path, text, "a lock file", &limits, &mut report);
    let lock = root.and_then(|root| decode(&root, &mut report));
    match lock {
        Some(mut lock) if !report.has_errors() => {
            lock.sources = report.sources.clone();
            Ok(lock)
        }
        _ => {
            let (errors, warnings) = report.finish();
            Err(Failure { errors, warnings })
        }
    }
}

fn decode(root: &Node, report: &mut Report) -> Option<Lock> {
    let Some(map) = root.as_map() else {
        report.error(CODE, root.span, "the lock file must be a mapping");
        return None;
    };
    keys(root, &["version", "workflows", "dependencies"], report);
    let version = map.get("version").and_then(Node::text).unwrap_or_default();
    if !VERSIONS.contains(&version) {
        let message = format!("version `{version:.40}` of lock files is not known");
        let at = map.get("version").map_or(root.span, |node| node.span);
        report
            .error(CODE, at, message)
            .hint(format!("`havre ci lock` writes {}", VERSIONS[0]));
        return None;
    }
    let mut lock = Lock {
        version: version.to_owned(),
        ..Lock::empty()
    };
    for (path, node) in entries(map.get("workflows"), "workflows", report) {
        let pins = pins(node, report);
        lock.workflows.insert(path.to_owned(), pins);
    }
    let dependencies = map.get("dependencies").and_then(Node::as_map);
    for (name, node) in entries(map.get("dependencies"), "dependencies", report) {
        let span = dependencies.and_then(|map| map.key_span(name));
        let span = span.unwrap_or(node.span);
        let Some(key) = canonical(name, span, report) else {
            continue;
        };
        if let Some(locked) = locked(node, span, report)
            && lock.dependencies.insert(key, locked).is_some()
        {
            report.error(CODE, span, format!("`{name:.200}` stands here twice"));
        }
    }
    if !report.has_errors() {
        complete(&lock, report);
    }
    Some(lock)
}

/// Whether all that is listed stands there.
fn complete(lock: &Lock, report: &mut Report) {
    for pin in lock.workflows.values().flatten() {
        if !lock.dependencies.contains_key(&pin.value) {
            let message = format!("`{}` is not in `dependencies`", pin.value);
            report
                .error(CODE, pin.span, message)
                .hint("`havre ci lock` makes the file anew");
        }
    }
}

fn entries<'n>(
    node: Option<&'n Node>,
    what: &str,
    report: &mut Report,
) -> impl Iterator<Item = (&'n str, &'n Node)> + use<'n> {
    let node = node.filter(|node| !node.is_null());
    let map = node.and_then(Node::as_map);
    if let (Some(node), None) = (node, map) {
        report.error(CODE, node.span, format!("`{what}` must be a mapping"));
    }
    if let Some(map) = map.filter(|map| map.entries.len() > MAX_ENTRIES) {
        let span = map.entries.values().next().map(|entry| entry.key);
        let message = format!("`{what}` has more than {MAX_ENTRIES} entries");
        report.error(CODE, span, message);
    }
    let entries = map.into_iter().flat_map(|map| &map.entries);
    entries
        .take(MAX_ENTRIES)
        .map(|(name, entry)| (name.as_str(), &entry.value))
}

fn keys(node: &Node, known: &[&str], report: &mut Report) {
    let entries = node.as_map().into_iter().flat_map(|map| &map.entries);
    for (name, entry) in entries {
        if !known.contains(&name.as_str()) {
            let message = format!("the lock file has unknown key `{name:.100}`");
            report.error(CODE, entry.key, message);
        }
    }
}

fn pins(node: &Node, report: &mut Report) -> Vec<Spanned<String>> {
    if node.is_null() {
        return Vec::new();
    }
    let Some(items) = node.as_list() else {
        report.error(CODE, node.span, "what a workflow uses must be a list");
        return Vec::new();
    };
    let each = items.iter().take(MAX_ENTRIES).filter_map(|item| {
        let value = canonical(item.text().unwrap_or_default(), item.span, report)?;
        let span = item.span;
        Some(Spanned { value, span })
    });
    each.collect()
}

/// `owner/repository@reference`, as [`key`] writes it.
fn canonical(text: &str, span: Span, report: &mut Report) -> Option<String> {
    let parts = text.split_once('@').and_then(|(place, reference)| {
        let (owner, repository) = place.split_once('/')?;
        let is_sound = |part: &str| !part.is_empty() && !part.contains(['/', ':', ' ']);
        let is_pin = is_sound(owner)
            && is_sound(repository)
            && !reference.is_empty()
            && !reference.contains([':', ' ']);
        is_pin.then(|| format!("{}@{reference}", place.to_lowercase()))
    });
    if parts.is_none() {
        let message = format!("`{text:.200}` is not of the form `OWNER/REPOSITORY@REF`");
        report.error(CODE, span, message);
    }
    parts
}

fn locked(node: &Node, key: Span, report: &mut Report) -> Option<Locked> {
    let Some(map) = node.as_map() else {
        report.error(CODE, node.span, "an entry must be a mapping");
        return None;
    };
    let known = ["ref", "commit", "owner_id", "repo_id", "hostname", "uses"];
    keys(node, &known, report);
    let text = |name: &str| map.get(name).and_then(Node::text);
    let at = |name: &str| map.get(name).map_or(key, |node| node.span);
    if let Some(host) = text("hostname").filter(|host| *host != HOME) {
        let message =
            format!("actions of `{host:.100}` are not fetched: one server is asked for all");
        report.error(CODE, at("hostname"), message);
    }
    let Some(reference) = text("ref").filter(|text| !text.is_empty()) else {
        report.error(CODE, key, "the entry lacks `ref`");
        return None;
    };
    let commit = text("commit").and_then(commit_of);
    let Some(commit) = commit else {
        let message = "`commit` must be `sha1-` with 40 hex digits, or `sha256-` with 64";
        report.error(CODE, at("commit"), message);
        return None;
    };
    let mut number = |name: &str| {
        let text = text(name)?;
        let number = text.parse().ok().filter(|number| *number > 0);
        if number.is_none() {
            let message = format!("`{name}` must be a number, at least 1");
            report.error(CODE, at(name), message);
        }
        number
    };
    let (owner, repository) = (number("owner_id"), number("repo_id"));
    let uses = map.get("uses").map(|node| pins(node, report));
    let uses = uses.into_iter().flatten().map(|pin| pin.value);
    Some(Locked {
        key,
        reference: reference.to_owned(),
        commit,
        owner,
        repository,
        uses: uses.collect(),
    })
}

fn commit_of(text: &str) -> Option<String> {
    let (kind, digits) = text.split_once('-')?;
    let length = match kind {
        "sha1" => 40,
        "sha256" => 64,
        _ => return None,
    };
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    (digits.len() == length && is_hex).then(|| digits.to_ascii_lowercase())
}

/// The place of an entry that was made, not read.
pub fn nowhere() -> Span {
    let mut report = Report::new(PathBuf::new(), CODES);
    let start = LineColumn { line: 1, column: 1 };
    Span {
        source: report.add_source(Path::new(PATH), String::new()),
        start,
        end: start,
    }
}

#[cfg(test)]
mod tests;
