//! A glance at a program's own source, in its build context: for advice only, bounded in depth,
//! number and size. What lies beyond the bounds stays unknown.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

/// Most entries of folders that are looked at.
const MAX_ENTRIES: usize = 5_000;
/// Most bytes that are read, of all files together.
const MAX_BYTES: usize = 8 << 20;
/// Most bytes of one file: what people write is smaller, what is generated says nothing.
const MAX_FILE: u64 = 256 << 10;
/// Folders below folders.
const MAX_DEPTH: usize = 8;
/// Folders that hold what others wrote, what was made, or what does not run in production.
const PASSED_OVER: [&str; 16] = [
    "__pycache__",
    "__tests__",
    "bower_components",
    "build",
    "coverage",
    "dist",
    "docs",
    "env",
    "node_modules",
    "site-packages",
    "target",
    "test",
    "tests",
    "vendor",
    "venv",
    "virtualenv",
];
/// Endings of files whose text is read.
const READ: [&str; 8] = ["cjs", "cts", "js", "jsx", "mjs", "py", "ts", "tsx"];

/// The files of a build context.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// Paths below the context, with `/` between their parts.
    paths: Vec<String>,
    /// Source files: their path, and what stands in them.
    texts: Vec<(String, String)>,
    /// Not all of it was looked at.
    is_cut: bool,
}

impl Sources {
    /// Reads what is below `context`. A folder that cannot be read has nothing in it.
    pub fn read(context: &Path) -> Self {
        let mut sources = Self::default();
        let mut folders = VecDeque::from([(context.to_owned(), String::new(), 0)]);
        let mut bytes = 0;
        while let Some((folder, below, depth)) = folders.pop_front() {
            for (name, path, kind) in entries(&folder) {
                if sources.paths.len() >= MAX_ENTRIES {
                    sources.is_cut = true;
                    return sources;
                }
                let inside = format!("{below}{name}");
                if kind.is_dir() {
                    let hidden = name.starts_with('.');
                    if !hidden && !PASSED_OVER.contains(&name.as_str()) && depth < MAX_DEPTH {
                        folders.push_back((path, format!("{inside}/"), depth + 1));
                    }
                } else if kind.is_file() {
                    let text = is_source(&name).then(|| small_text(&path)).flatten();
                    match text {
                        Some(text) if bytes + text.len() <= MAX_BYTES => {
                            bytes += text.len();
                            sources.texts.push((inside.clone(), text));
                        }
                        Some(_) => sources.is_cut = true,
                        None => {}
                    }
                    sources.paths.push(inside);
                }
            }
        }
        sources
    }

    /// A source file holds this text.
    pub fn mention(&self, what: &str) -> bool {
        self.texts.iter().any(|(_, text)| text.contains(what))
    }

    /// One source file holds all of these.
    pub fn mention_together(&self, what: &[&str]) -> bool {
        let together = |text: &str| what.iter().all(|what| text.contains(what));
        self.texts.iter().any(|(_, text)| together(text))
    }

    /// The first file whose path fits.
    pub fn find(&self, fits: impl Fn(&str) -> bool) -> Option<&str> {
        self.paths
            .iter()
            .map(String::as_str)
            .find(|path| fits(path))
    }

    /// Whether everything was looked at: only then does what was not found mean something.
    pub fn is_whole(&self) -> bool {
        !self.is_cut
    }
}

/// Entries of a folder by their names, links left out: they lead out of the context.
fn entries(folder: &Path) -> Vec<(String, PathBuf, fs::FileType)> {
    let Ok(list) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let known = list.take(MAX_ENTRIES + 1).flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        Some((name, entry.path(), entry.file_type().ok()?))
    });
    let mut known: Vec<_> = known.collect();
    known.sort_by(|one, other| one.0.cmp(&other.0));
    known
}

fn is_source(name: &str) -> bool {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    READ.contains(&ending) && !name.ends_with(".min.js")
}

fn small_text(path: &Path) -> Option<String> {
    let is_small = fs::symlink_metadata(path).ok()?.len() <= MAX_FILE;
    is_small
        .then(|| super::dockerfile::small_file(path))
        .flatten()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_what_people_wrote_and_only_below_the_context() {
        let folder = tempfile::tempdir().unwrap();
        let context = folder.path().join("app");
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("app/main.py", "one two");
        write("app/web/a.ts", "three");
        write("app/node_modules/x/b.js", "four");
        write("app/.git/c.py", "five");
        write("app/logo.svg", "six");
        write("secret.py", "seven");
        symlink(folder.path().join("secret.py"), context.join("link.py")).unwrap();
        symlink(folder.path(), context.join("up")).unwrap();
        let sources = Sources::read(&context);
        assert!(sources.mention("one") && sources.mention("three"));
        assert!(sources.mention_together(&["two", "one"]));
        assert!(!sources.mention_together(&["one", "three"]));
        for hidden in ["four", "five", "six", "seven"] {
            assert!(!sources.mention(hidden), "{hidden}");
        }
        let known = ["logo.svg", "main.py", "web/a.ts"];
        assert_eq!(sources.paths, known);
        assert!(sources.is_whole());
    }

    #[test]
    fn more_than_people_write_is_not_read_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..=MAX_ENTRIES {
            fs::write(folder.path().join(format!("{number}.txt")), "").unwrap();
        }
        assert!(!Sources::read(folder.path()).is_whole());
    }
}
