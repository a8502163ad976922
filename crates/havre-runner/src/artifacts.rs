//! What is written to `GITHUB_ARTIFACTS`: files and images that a job made, each by name and digest.

use std::path::Path;

use indexmap::IndexMap;

use crate::hash;

/// Most bytes of a step's file; GitHub's.
pub(crate) const MAX_FILE: u64 = 1 << 20;
/// Most subjects of a job; GitHub's.
const MAX_SUBJECTS: usize = 500;

/// What a job made so far, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subjects(IndexMap<String, Subject>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Subject {
    /// With its algorithm: `sha256:…`.
    digest: String,
    is_image: bool,
}

impl Subjects {
    /// Takes what a step wrote; how many are new. Of a text with a mistake, nothing is taken.
    pub fn add(&mut self, text: &str, workspace: &Path) -> Result<usize, String> {
        let mut found = Vec::new();
        for (number, line) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let subject =
                subject(line, workspace).map_err(|why| format!("line {number}: {why}"))?;
            found.push((number, subject));
        }
        let before = self.0.len();
        let mut all = self.0.clone();
        for (number, (name, subject)) in found {
            match all.get(&name) {
                Some(known) if known.digest == subject.digest => {}
                Some(known) => {
                    let (one, other) = (&known.digest, &subject.digest);
                    return Err(format!(
                        "line {number}: `{name}` is {one} already, it cannot be {other} as well"
                    ));
                }
                None if all.len() == MAX_SUBJECTS => {
                    return Err(format!(
                        "line {number}: a job may name {MAX_SUBJECTS} artifacts at most"
                    ));
                }
                None => drop(all.insert(name, subject)),
            }
        }
        self.0 = all;
        Ok(self.0.len() - before)
    }

    /// Names and digests of images.
    pub fn images(&self) -> Vec<(String, String)> {
        let images = self.0.iter().filter(|(_, subject)| subject.is_image);
        images
            .map(|(name, subject)| (name.clone(), subject.digest.clone()))
            .collect()
    }

    /// All of them by name, as JSON of GitHub's form.
    pub fn list(&self) -> String {
        let mut all: Vec<_> = self.0.iter().collect();
        all.sort_by_key(|(name, _)| name.as_str());
        let subjects = all.into_iter().map(|(name, subject)| {
            let kind = if subject.is_image { "oci" } else { "file" };
            serde_json::json!({"name": name, "digest": subject.digest, "kind": kind})
        });
        let subjects: Vec<serde_json::Value> = subjects.collect();
        serde_json::json!({"version": 1, "subjects": subjects}).to_string()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

fn subject(line: &str, workspace: &Path) -> Result<(String, Subject), String> {
    if line.contains('=') {
        return Err("`=` is reserved".to_owned());
    }
    if let Some(path) = after(line, "file://") {
        return match path.trim().is_empty() {
            true => Err("the path is missing behind `file://`".to_owned()),
            false => file(path, workspace),
        };
    }
    if let Some(rest) = after(line, "oci://") {
        let (name, algorithm, digest) =
            image(rest).ok_or("an image has to be `REFERENCE@sha256:HEX` (or sha384, sha512)")?;
        if digest.len() != length(algorithm) {
            let expected = length(algorithm);
            return Err(format!(
                "a digest of {algorithm} has {expected} letters of hex"
            ));
        }
        return Ok(made(name, algorithm, digest));
    }
    if has_scheme(line) {
        return Err("there are file:// and oci:// only".to_owned());
    }
    match image(line) {
        Some((name, algorithm, digest)) if digest.len() == length(algorithm) => {
            Ok(made(name, algorithm, digest))
        }
        _ => file(line, workspace),
    }
}

fn made(name: &str, algorithm: &str, digest: &str) -> (String, Subject) {
    let subject = Subject {
        digest: format!("{algorithm}:{}", digest.to_lowercase()),
        is_image: true,
    };
    (name.to_owned(), subject)
}

fn after<'t>(line: &'t str, scheme: &str) -> Option<&'t str> {
    let head = line.get(..scheme.len())?;
    head.eq_ignore_ascii_case(scheme)
        .then(|| &line[scheme.len()..])
}

fn has_scheme(line: &str) -> bool {
    let Some((scheme, _)) = line.split_once("://") else {
        return false;
    };
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(inner)
}

/// Name, algorithm and digest.
fn image(text: &str) -> Option<(&str, &'static str, &str)> {
    let (name, digest) = text.rsplit_once('@')?;
    let (algorithm, hex) = digest.split_once(':')?;
    let algorithms = ["sha256", "sha384", "sha512"];
    let algorithm = algorithms.into_iter().find(|known| *known == algorithm)?;
    let is_hex = !hex.is_empty() && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_hex && !name.is_empty()).then_some((name, algorithm, hex))
}

fn length(algorithm: &str) -> usize {
    match algorithm {
        "sha512" => 128,
        "sha384" => 96,
        _ => 64,
    }
}

fn file(path: &str, workspace: &Path) -> Result<(String, Subject), String> {
    let full = workspace.join(path);
    match std::fs::metadata(&full) {
        Ok(found) if found.is_file() => {}
        Ok(_) => return Err(format!("`{path}` is no file")),
        Err(error) => {
            return Err(format!(
                "`{path}` (from the workspace) cannot be read: {error}"
            ));
        }
    }
    let digest = hash::sha256(&full, None);
    let digest = digest.map_err(|error| format!("`{path}` cannot be read: {error}"))?;
    let name = full.file_name().unwrap_or_default().to_string_lossy();
    let subject = Subject {
        digest: format!("sha256:{}", hash::hex(&digest)),
        is_image: false,
    };
    Ok((name.into_owned(), subject))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(texts: &[&str]) -> String {
        let folder = tempfile::tempdir().expect("there is a folder for tests");
        std::fs::write(folder.path().join("app.tar"), "x").expect("written");
        let mut subjects = Subjects::default();
        let mut said = String::new();
        for text in texts {
            match subjects.add(text, folder.path()) {
                Ok(count) => said.push_str(&format!("{count} ")),
                Err(why) => return why,
            }
        }
        format!("{said}{:?}", subjects.images())
    }

    #[test]
    fn artifacts_are_files_and_images() {
        let hex = "ab".repeat(32);
        let other = "cd".repeat(32);
        let one = format!("[(\"r/a:1\", \"sha256:{hex}\")]");
        assert_eq!(check(&["# x\n\napp.tar\nfile://app.tar\n"]), "1 []");
        assert_eq!(check(&[&format!("r/a:1@sha256:{hex}")]), format!("1 {one}"));
        let upper = format!("OCI://r/a:1@sha256:{}", hex.to_uppercase());
        assert_eq!(check(&[&upper, &upper]), format!("1 0 {one}"));
        let conflict = format!("r/a@sha256:{hex}\nr/a@sha256:{other}");
        assert!(check(&[&conflict]).starts_with("line 2: `r/a` is sha256:ab"));
        assert!(check(&["a=b"]).contains("`=` is reserved"));
        assert!(check(&["https://x"]).contains("file:// and oci:// only"));
        assert!(check(&["nope"]).contains("cannot be read"));
        assert!(check(&["."]).contains("is no file"));
        assert!(check(&["file://"]).contains("path is missing"));
        assert!(check(&["oci://r/a@sha256:ab"]).contains("64 letters"));
        assert!(check(&["oci://r/a"]).contains("REFERENCE@sha256"));
        assert!(check(&["r/a@sha256:ab"]).contains("cannot be read"));
        let many: String = (0..501).map(|n| format!("r/{n}@sha256:{hex}\n")).collect();
        assert!(check(&[&many]).starts_with("line 501"));
    }
}
