//! `hashFiles`: SHA-256 over the SHA-256 of each file, in the order in which they are found.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use crate::pattern::Patterns;

/// Most files and folders that are looked at.
const MAX_ENTRIES: usize = 1_000_000;
/// Deepest folder.
const MAX_DEPTH: usize = 200;
/// Longest time; GitHub's.
const MAX_TIME: Duration = Duration::from_secs(120);

/// The hash of all files in the workspace that match, in hex; empty where none does.
pub(crate) fn hash_files(workspace: &Path, arguments: &[&str]) -> Result<String, String> {
    let (follows, texts) = match arguments {
        [option, rest @ ..] if option.starts_with("--") => {
            if !option.eq_ignore_ascii_case("--follow-symbolic-links") {
                return Err(format!("there is no option `{option:.60}`"));
            }
            (true, rest)
        }
        all => (false, all),
    };
    let root = workspace.to_string_lossy();
    let patterns = Patterns::parse(texts.iter().copied(), &root)?;
    let mut walk = Walk {
        workspace,
        patterns: &patterns,
        follows,
        until: Instant::now() + MAX_TIME,
        left: MAX_ENTRIES,
        hash: Sha256::new(),
        found: false,
    };
    for root in patterns.roots() {
        let segments: Vec<&str> = root.split('/').filter(|part| !part.is_empty()).collect();
        walk.at(&workspace.join(&root), &segments)?;
    }
    Ok(match walk.found {
        true => hex(&walk.hash.finalize()),
        false => String::new(),
    })
}

struct Walk<'a> {
    workspace: &'a Path,
    patterns: &'a Patterns,
    follows: bool,
    until: Instant,
    left: usize,
    hash: Sha256,
    found: bool,
}

impl Walk<'_> {
    fn at(&mut self, path: &Path, segments: &[&str]) -> Result<(), String> {
        self.left = self.left.checked_sub(1).ok_or_else(|| {
            format!("it came to more than {MAX_ENTRIES} files: use narrower patterns")
        })?;
        if Instant::now() > self.until {
            let seconds = MAX_TIME.as_secs();
            return Err(format!(
                "it took more than {seconds} seconds: use narrower patterns"
            ));
        }
        let found = match self.follows {
            true => fs::metadata(path),
            false => fs::symlink_metadata(path),
        };
        let Ok(found) = found else {
            // Not there, or no longer.
            return Ok(());
        };
        if found.is_dir() {
            return self.folder(path, segments);
        }
        if self.patterns.matches(segments) {
            self.file(path)?;
        }
        Ok(())
    }

    fn folder(&mut self, path: &Path, segments: &[&str]) -> Result<(), String> {
        if segments.len() > MAX_DEPTH || !self.patterns.reaches(segments) {
            return Ok(());
        }
        let failed = |error: std::io::Error| format!("{}: {error}", self.shown(path));
        let entries = fs::read_dir(path).map_err(failed)?;
        let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
        let mut names = names.collect::<Result<Vec<_>, _>>().map_err(failed)?;
        names.sort();
        for name in names {
            let text = name.to_string_lossy();
            let mut below = segments.to_vec();
            below.push(&text);
            self.at(&path.join(&name), &below)?;
        }
        Ok(())
    }

    fn file(&mut self, path: &Path) -> Result<(), String> {
        // A link may lead to what is no file; that is not waited for.
        if !fs::metadata(path).is_ok_and(|found| found.is_file()) {
            return Ok(());
        }
        let digest = sha256(path, Some(self.until));
        let digest = digest.map_err(|error| format!("{}: {error}", self.shown(path)))?;
        self.hash.update(digest);
        self.found = true;
        Ok(())
    }

    fn shown(&self, path: &Path) -> String {
        let inside = path.strip_prefix(self.workspace).unwrap_or(path);
        inside.display().to_string()
    }
}

/// Of a file's content.
pub(crate) fn sha256(path: &Path, until: Option<Instant>) -> std::io::Result<[u8; 32]> {
    let mut file = fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(hash.finalize().into());
        }
        if until.is_some_and(|until| Instant::now() > until) {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        hash.update(&buffer[..count]);
    }
}

/// In small letters.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(arguments: &[&str]) -> String {
        let folder = tempfile::tempdir().expect("there is a folder for tests");
        for (path, text) in [("a.txt", "a"), ("d/b.txt", "b"), ("d/c.md", "c")] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("it is in a folder")).expect("made");
            fs::write(path, text).expect("written");
        }
        std::os::unix::fs::symlink("/dev/zero", folder.path().join("z.txt")).expect("linked");
        hash_files(folder.path(), arguments).unwrap_or_else(|why| why)
    }

    fn expected(contents: &[&str]) -> String {
        let mut hash = Sha256::new();
        for content in contents {
            hash.update(Sha256::digest(content.as_bytes()));
        }
        hex(&hash.finalize())
    }

    #[test]
    fn files_are_hashed_as_github_does() {
        assert_eq!(check(&["a.txt"]), expected(&["a"]));
        assert_eq!(check(&["**/*.txt"]), expected(&["a", "b"]));
        assert_eq!(check(&["**", "!d/*.md"]), expected(&["a", "b"]));
        assert_eq!(check(&["d\na.txt"]), expected(&["a", "b", "c"]));
        assert_eq!(
            check(&["--follow-symbolic-links", "*.txt"]),
            expected(&["a"])
        );
        assert_eq!(check(&["nope"]), "");
        assert!(check(&["--x", "a"]).contains("no option"));
        assert!(check(&["../a"]).contains("`..`"));
    }
}
