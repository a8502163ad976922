//! What the sources of COPY and ADD name: patterns, folders, rules of what is left out.
//!
//! One walk serves both the cache key and the copy itself, so that the two never disagree.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FileType, Stat};
use tokio_util::sync::CancellationToken;

use crate::dockerfile::{Ignore, ParentMatches, has_wildcard, matches_name};

use super::action::CopyAction;
use super::copy_error::CopyError;
use super::root::{Root, kind, lstat, names, open_folder};

/// How deep folders may lie in each other. Whoever wrote the files chose the depth, and each level
/// takes a descriptor and a piece of the stack.
const MAX_DEPTH: usize = 400;

/// A file or folder that is copied.
pub(super) struct Selected<'a> {
    /// The folder it lies in.
    pub dir: &'a OwnedFd,
    /// Its name there.
    pub name: &'a OsStr,
    /// What it is; never a socket.
    pub stat: &'a Stat,
    /// Path below the root of the source, for messages and digests.
    pub source: &'a Path,
    /// Path below the destination; empty: the destination itself.
    pub target: &'a Path,
    /// A file that a source named directly: it may get the destination's name.
    pub named: bool,
}

/// Called for everything that is copied, folders before their content.
pub(super) type Visit<'v> = &'v mut dyn FnMut(&Selected<'_>) -> Result<(), CopyError>;

/// What is left out.
pub(super) struct Rules<'a> {
    /// `.dockerignore`; `None` where the source is no context.
    pub ignore: Option<&'a Ignore>,
    /// `--exclude`.
    pub exclude: Ignore,
    /// Stops the walk.
    pub cancel: &'a CancellationToken,
}

impl<'a> Rules<'a> {
    pub fn new(
        action: &CopyAction,
        ignore: Option<&'a Ignore>,
        cancel: &'a CancellationToken,
    ) -> Result<Self, CopyError> {
        let exclude = Ignore::from_patterns(&action.exclude)
            .map_err(|reason| CopyError::Exclude { reason })?;
        Ok(Self {
            ignore,
            exclude,
            cancel,
        })
    }
}

/// Visits what `sources` name below `root`; returns the sources that matched nothing although
/// they are patterns.
pub(super) fn select(
    root: &Root,
    action: &CopyAction,
    rules: &Rules<'_>,
    visit: Visit<'_>,
) -> Result<Vec<String>, CopyError> {
    let mut empty = Vec::new();
    for source in &action.sources {
        let mut matched = false;
        for path in matches(root, action, rules, source)? {
            matched |= walk_source(root, action, rules, source, &path, visit)?;
        }
        if matched {
            continue;
        }
        if !has_wildcard(source) {
            return Err(CopyError::NotFound {
                source_path: source.clone(),
                from: action.from.clone(),
                ignored: false,
            });
        }
        empty.push(source.clone());
    }
    Ok(empty)
}

/// Paths that a source names, in order. A plain path comes back cleaned, whether it exists or not.
fn matches(
    root: &Root,
    action: &CopyAction,
    rules: &Rules<'_>,
    source: &str,
) -> Result<Vec<PathBuf>, CopyError> {
    let mut parts: VecDeque<&str> = VecDeque::new();
    for part in source.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop_back();
            }
            part => parts.push_back(part),
        }
    }
    let mut found = vec![PathBuf::new()];
    while let Some(part) = parts.pop_front() {
        if action.parents && part.contains("**") {
            parts.push_front(part);
            let rest: Vec<&str> = parts.into();
            return at_any_depth(root, rules, found, source, &rest.join("/"));
        }
        if rules.cancel.is_cancelled() {
            return Err(CopyError::Cancelled);
        }
        if !has_wildcard(part) {
            found.iter_mut().for_each(|path| path.push(part));
            continue;
        }
        let mut next = Vec::new();
        for path in found {
            let folder = match root.spot(&path, true) {
                Ok(spot) if spot.is(FileType::Directory) => spot.open_folder(),
                Ok(_) => continue,
                Err(error) if missing(&error) => continue,
                Err(error) => Err(error),
            };
            let names = folder.and_then(|folder| names(&folder));
            for name in names.map_err(CopyError::io("list", &path))? {
                let text = name.to_string_lossy();
                let hit = matches_name(part, &text).map_err(|_| CopyError::Pattern {
                    pattern: source.to_owned(),
                })?;
                if hit {
                    next.push(path.join(&name));
                }
            }
        }
        found = next;
    }
    Ok(found)
}

/// Paths below `folders` that match a pattern in which `**` stands for any number of folders. Of a
/// folder that matches, everything is copied; links are not followed.
fn at_any_depth(
    root: &Root,
    rules: &Rules<'_>,
    folders: Vec<PathBuf>,
    source: &str,
    pattern: &str,
) -> Result<Vec<PathBuf>, CopyError> {
    // The dot keeps a `!` from meaning what it means at the start of a rule.
    let pattern = Ignore::from_patterns(&[format!("./{pattern}")]);
    let pattern = pattern.map_err(|_| CopyError::Pattern {
        pattern: source.to_owned(),
    })?;
    let mut found = Vec::new();
    for top in folders {
        let mut open = vec![PathBuf::new()];
        while let Some(below) = open.pop() {
            if rules.cancel.is_cancelled() {
                return Err(CopyError::Cancelled);
            }
            let here = top.join(&below);
            if below.components().count() > MAX_DEPTH {
                return Err(CopyError::TooDeep {
                    limit: MAX_DEPTH,
                    path: here,
                });
            }
            let folder = match root.spot(&here, below == Path::new("")) {
                Ok(spot) if spot.is(FileType::Directory) => spot.open_folder(),
                Ok(_) => continue,
                Err(error) if missing(&error) => continue,
                Err(error) => Err(error),
            };
            let names = folder.and_then(|folder| names(&folder));
            for name in names.map_err(CopyError::io("list", &here))? {
                let below = below.join(&name);
                match pattern.verdict(&text(&below), &ParentMatches::default()) {
                    (true, _) => found.push(top.join(&below)),
                    (false, _) => open.push(below),
                }
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Walks one matched path; `false` when nothing is there or nothing of it is copied.
fn walk_source(
    root: &Root,
    action: &CopyAction,
    rules: &Rules<'_>,
    source: &str,
    path: &Path,
    visit: Visit<'_>,
) -> Result<bool, CopyError> {
    let spot = match root.spot(path, true) {
        Ok(spot) => spot,
        Err(error) if missing(&error) => return Ok(false),
        Err(error) => return Err(CopyError::io("find", path)(error)),
    };
    let Some(stat) = spot.stat else {
        return Ok(false);
    };
    let is_dir = kind(&stat) == FileType::Directory;
    let hidden = rules
        .ignore
        .is_some_and(|ignore| !is_root(path) && ignore.ignores(&text(path)));
    if hidden && !(is_dir && may_return(rules, path)) {
        // A pattern just does not match what is ignored.
        if has_wildcard(source) {
            return Ok(false);
        }
        return Err(CopyError::NotFound {
            source_path: source.to_owned(),
            from: action.from.clone(),
            ignored: true,
        });
    }
    let kept = if action.parents {
        kept_parents(source, path)
    } else {
        PathBuf::new()
    };
    let target = match (action.parents, is_dir, path.file_name()) {
        (true, _, _) => kept,
        (false, false, Some(name)) => PathBuf::from(name),
        (false, _, _) => PathBuf::new(),
    };
    let pending = match action.parents {
        true => folders_above(root, path, &target)?,
        false => Vec::new(),
    };
    let mut walk = Walk {
        rules,
        visit,
        pending,
        visited: false,
    };
    let at = At {
        dir: spot.dir,
        name: spot.name,
        stat,
        source: path.to_owned(),
        target,
    };
    if is_dir {
        let parents = parent_matches(rules, path);
        let excluded = (PathBuf::new(), ParentMatches::default());
        walk.folder(at, hidden, &parents, &excluded, 0)?;
    } else {
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        if !rules.exclude.is_empty() && rules.exclude.ignores(&name.unwrap_or_default()) {
            return Ok(true);
        }
        walk.emit(&at, !action.parents)?;
    }
    Ok(walk.visited || is_dir)
}

fn is_root(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// With `--parents`: the part of the path that is kept, which starts behind `/./` where the source
/// has one.
fn kept_parents(source: &str, path: &Path) -> PathBuf {
    let dropped = source.split_once("/./").map_or(0, |(before, _)| {
        before
            .split('/')
            .filter(|part| !matches!(*part, "" | "."))
            .count()
    });
    path.components().skip(dropped).collect()
}

/// The folders between the destination and `target`, which is what `path` becomes: they are made as
/// the source has them.
fn folders_above(root: &Root, path: &Path, target: &Path) -> Result<Vec<At>, CopyError> {
    let mut folders = Vec::new();
    for (source, target) in path.ancestors().zip(target.ancestors()).skip(1) {
        if is_root(target) {
            break;
        }
        let spot = root
            .spot(source, true)
            .map_err(CopyError::io("find", source))?;
        let Some(stat) = spot.stat.filter(|stat| kind(stat) == FileType::Directory) else {
            continue;
        };
        folders.push(At {
            dir: spot.dir,
            name: spot.name,
            stat,
            source: source.to_owned(),
            target: target.to_owned(),
        });
    }
    folders.reverse();
    Ok(folders)
}

/// The rules that match the folders above `path` and itself.
fn parent_matches(rules: &Rules<'_>, path: &Path) -> ParentMatches {
    let mut parent = ParentMatches::default();
    let Some(ignore) = rules.ignore else {
        return parent;
    };
    let mut so_far = PathBuf::new();
    for part in path.components() {
        so_far.push(part);
        (_, parent) = ignore.verdict(&text(&so_far), &parent);
    }
    parent
}

fn may_return(rules: &Rules<'_>, path: &Path) -> bool {
    rules
        .ignore
        .is_some_and(|ignore| ignore.may_take_back_inside(&text(path)))
}

struct At {
    dir: Arc<OwnedFd>,
    name: OsString,
    stat: Stat,
    source: PathBuf,
    target: PathBuf,
}

struct Walk<'w, 'r, 'v> {
    rules: &'w Rules<'r>,
    visit: Visit<'v>,
    /// Ignored folders above, visited once something in them is.
    pending: Vec<At>,
    visited: bool,
}

impl Walk<'_, '_, '_> {
    fn emit(&mut self, at: &At, named: bool) -> Result<(), CopyError> {
        if self.rules.cancel.is_cancelled() {
            return Err(CopyError::Cancelled);
        }
        for folder in std::mem::take(&mut self.pending) {
            self.visit_one(&folder, false)?;
        }
        self.visit_one(at, named)
    }

    fn visit_one(&mut self, at: &At, named: bool) -> Result<(), CopyError> {
        self.visited = true;
        (self.visit)(&Selected {
            dir: &at.dir,
            name: &at.name,
            stat: &at.stat,
            source: &at.source,
            target: &at.target,
            named,
        })
    }

    fn folder(
        &mut self,
        at: At,
        hidden: bool,
        parents: &ParentMatches,
        excluded: &(PathBuf, ParentMatches),
        depth: usize,
    ) -> Result<(), CopyError> {
        if depth == MAX_DEPTH {
            return Err(CopyError::TooDeep {
                limit: MAX_DEPTH,
                path: at.source,
            });
        }
        let error = || CopyError::io("list", &at.source);
        let folder = open_folder(&at.dir, &at.name).map_err(error())?;
        let (source, target) = (at.source.clone(), at.target.clone());
        let names = names(&folder).map_err(error())?;
        let waiting = self.pending.len();
        if hidden {
            self.pending.push(at);
        } else {
            self.emit(&at, false)?;
        }
        for name in names {
            // Much may be looked at, and nothing of it copied.
            if self.rules.cancel.is_cancelled() {
                return Err(CopyError::Cancelled);
            }
            let path = source.join(&name);
            let Some(stat) = lstat(&folder, &name).map_err(CopyError::io("look at", &path))? else {
                return Err(CopyError::Changed);
            };
            let below = excluded.0.join(&name);
            let is_dir = kind(&stat) == FileType::Directory;
            let (hidden, matches) = match self.rules.ignore {
                Some(ignore) => ignore.verdict(&text(&path), parents),
                None => (false, ParentMatches::default()),
            };
            let (left_out, left_out_matches) =
                self.rules.exclude.verdict(&text(&below), &excluded.1);
            if left_out && !(is_dir && self.rules.exclude.may_take_back_inside(&text(&below))) {
                continue;
            }
            if hidden && !(is_dir && may_return(self.rules, &path)) {
                continue;
            }
            let target = target.join(&name);
            let at = At {
                dir: folder.clone(),
                name,
                stat,
                source: path,
                target,
            };
            match kind(&stat) {
                FileType::Directory => {
                    let excluded = (below, left_out_matches);
                    self.folder(at, hidden || left_out, &matches, &excluded, depth + 1)?;
                }
                // A socket means nothing without the process that made it.
                FileType::Socket => {}
                _ => self.emit(&at, false)?,
            }
        }
        self.pending.truncate(waiting);
        Ok(())
    }
}
