//! Files by patterns, as @actions/glob finds them: `*`, `?`, `[…]`, `**`, `!` excludes, `#` begins a comment.

mod pattern;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::failure::{Failure, refused};
use pattern::Pattern;

/// Most files and folders that are looked at.
const MOST: usize = 2_000_000;
/// How deep folders are looked into: links may lead in circles.
const DEPTH: usize = 200;

/// What to look for.
pub(crate) struct Search<'a> {
    /// What patterns are relative to: absolute.
    pub(crate) root: &'a Path,
    /// What `~` stands for.
    pub(crate) home: Option<&'a str>,
    /// A folder that is found stands for all that is in it.
    pub(crate) descend: bool,
    /// Names that begin with a dot are found.
    pub(crate) hidden: bool,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Absolute, in order.
    pub(crate) paths: Vec<PathBuf>,
    /// Where was looked: absolute; none is below another.
    pub(crate) places: Vec<PathBuf>,
}

impl Search<'_> {
    pub(crate) fn find(&self, lines: &[String]) -> Result<Found, Failure> {
        let patterns = self.patterns(lines)?;
        let mut places: Vec<PathBuf> = patterns
            .iter()
            .filter(|pattern| !pattern.negated)
            .map(Pattern::place)
            .collect();
        places.sort();
        places.dedup();
        let all = places.clone();
        places.retain(|place| {
            !all.iter()
                .any(|other| other != place && place.starts_with(other))
        });
        let mut walk = Walk {
            search: self,
            patterns: &patterns,
            seen: 0,
            paths: BTreeSet::new(),
        };
        for place in &places {
            if place.symlink_metadata().is_ok() {
                walk.visit(place, 0)?;
            }
        }
        Ok(Found {
            paths: walk.paths.into_iter().collect(),
            places,
        })
    }

    fn patterns(&self, lines: &[String]) -> Result<Vec<Pattern>, Failure> {
        let mut patterns = Vec::new();
        for line in lines.iter().map(|line| line.trim()) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bangs = line.len() - line.trim_start_matches('!').len();
            let text = self.absolute(line[bangs..].trim())?;
            let pattern = Pattern::new(bangs % 2 == 1, &text);
            if self.descend && !pattern.ends_anywhere() {
                patterns.push(pattern.with_all_below());
            }
            patterns.push(pattern);
        }
        Ok(patterns)
    }

    fn absolute(&self, text: &str) -> Result<String, Failure> {
        let trailing = if text.ends_with('/') { "/" } else { "" };
        let path = match text.strip_prefix('~') {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => match self.home {
                Some(home) => format!("{home}{rest}"),
                None => return refused(format!("`{text}` cannot be found: HOME is not set")),
            },
            _ => text.to_owned(),
        };
        Ok(format!(
            "{}{trailing}",
            normal(&self.root.join(path)).display()
        ))
    }
}

struct Walk<'s> {
    search: &'s Search<'s>,
    patterns: &'s [Pattern],
    seen: usize,
    paths: BTreeSet<PathBuf>,
}

impl Walk<'_> {
    fn visit(&mut self, path: &Path, depth: usize) -> Result<(), Failure> {
        self.seen += 1;
        if self.seen > MOST || depth > DEPTH {
            return refused(format!(
                "{} holds too much to look for files in",
                path.display()
            ));
        }
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy())
            .unwrap_or_default();
        if !self.search.hidden && name.starts_with('.') {
            return Ok(());
        }
        // Links are followed; one that leads nowhere is as if it were not there.
        let Ok(about) = fs::metadata(path) else {
            return Ok(());
        };
        let text = path.to_string_lossy();
        let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
        let is_folder = about.is_dir();
        let mut wanted = false;
        for pattern in self.patterns {
            if pattern.matches(&parts, is_folder) {
                wanted = !pattern.negated;
            }
        }
        if wanted {
            self.paths.insert(path.to_owned());
        }
        if !is_folder
            || !self
                .patterns
                .iter()
                .any(|pattern| !pattern.negated && pattern.leads_to(&parts))
        {
            return Ok(());
        }
        let entries =
            fs::read_dir(path).map_err(Failure::io(format!("look into {}", path.display())))?;
        for entry in entries {
            let entry = entry.map_err(Failure::io(format!("look into {}", path.display())))?;
            self.visit(&entry.path(), depth + 1)?;
        }
        Ok(())
    }
}

/// Without `.` and `..`, by its text alone.
pub(crate) fn normal(path: &Path) -> PathBuf {
    let mut whole = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => whole.push(name),
            Component::ParentDir => {
                whole.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    whole
}

/// Whether a name is of this pattern; `*` stands for anything.
pub(crate) fn name_matches(pattern: &str, name: &str) -> bool {
    pattern::part_matches(pattern, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(descend: bool, hidden: bool, lines: &[&str], expected: &[&str]) {
        let folder = tempfile::tempdir().unwrap();
        let root = &folder.path().join("root");
        for path in [
            "a.txt",
            "b.log",
            "dir/c.txt",
            "dir/.env",
            "dir/deep/d.txt",
            ".git/e.txt",
        ] {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let search = Search {
            root,
            home: root.to_str(),
            descend,
            hidden,
        };
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        let found = search.find(&lines).unwrap();
        let relative = |path: &PathBuf| {
            path.strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        };
        assert_eq!(
            found.paths.iter().map(relative).collect::<Vec<_>>(),
            expected
        );
    }

    #[test]
    fn files_are_found_as_the_toolkit_finds_them() {
        check(false, true, &["*.txt"], &["a.txt"]);
        check(false, true, &["dir"], &["dir"]);
        check(false, true, &["./dir/*/"], &["dir/deep"]);
        check(
            true,
            true,
            &["dir"],
            &["dir", "dir/.env", "dir/c.txt", "dir/deep", "dir/deep/d.txt"],
        );
        check(
            true,
            false,
            &["dir"],
            &["dir", "dir/c.txt", "dir/deep", "dir/deep/d.txt"],
        );
        check(
            false,
            true,
            &["**/*.txt"],
            &[".git/e.txt", "a.txt", "dir/c.txt", "dir/deep/d.txt"],
        );
        check(
            false,
            false,
            &["**/*.txt"],
            &["a.txt", "dir/c.txt", "dir/deep/d.txt"],
        );
        check(
            true,
            false,
            &["**/*.txt", "!dir/deep", "# no"],
            &["a.txt", "dir/c.txt"],
        );
        check(true, false, &["!dir/deep", "**/d.txt"], &["dir/deep/d.txt"]);
        check(false, true, &["~/[ab].???"], &["a.txt", "b.log"]);
        check(false, true, &["dir/../b.log", "gone"], &["b.log"]);
    }
}
