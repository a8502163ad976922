//! What is in a repository, read by git, bounded.

use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use crate::Oid;
use crate::commit::{self, Commit};
use crate::process::{Call, GitError, Printed, Processes, last_line, last_words};
use crate::view::REPOSITORY;

const WITHIN: Duration = Duration::from_secs(60);
/// Longest time that all files of a commit may take.
const ARCHIVE_WITHIN: Duration = Duration::from_secs(1800);
/// Of a list of names that git prints.
const MOST_LISTED: usize = 8 << 20;
const MOST_COMMIT: usize = 1 << 20;
const MOST_PATH_BYTES: usize = 4096;

/// Why something cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// Git does not read it.
    #[error(transparent)]
    Git(#[from] GitError),
    /// It is not there.
    #[error("there is no {what}")]
    Missing {
        /// As it was asked for.
        what: String,
    },
    /// It is something else.
    #[error("{what} is no {wanted}")]
    Other {
        /// As it was asked for.
        what: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// There is more of it than is read.
    #[error("{what} has {size} bytes, and at most {most} are read")]
    TooLarge {
        /// As it was asked for.
        what: String,
        /// Its size.
        size: u64,
        /// What is read.
        most: u64,
    },
    /// A path that no file can have.
    #[error("no file can have that path")]
    Path,
    /// It does not go where it is to go.
    #[error("cannot pass on the files of a commit")]
    Output(#[source] std::io::Error),
}

/// What is in a repository. Cheap to clone; each question is a run of git.
#[derive(Clone)]
pub struct Objects {
    processes: Processes,
    path: PathBuf,
    /// Of a push that is not accepted yet: the folder below `objects`.
    incoming: Option<String>,
}

/// What a folder of a commit holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Without the folder's; bytes that are not UTF-8 are replaced.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
    /// Where it is.
    pub oid: Oid,
    /// Of a file, in bytes.
    pub size: Option<u64>,
}

/// What something in a folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A file.
    File,
    /// A file that is a program.
    Program,
    /// A symbolic link.
    Link,
    /// A folder.
    Folder,
    /// A commit of another repository.
    Submodule,
}

impl Objects {
    pub(crate) fn new(processes: Processes, path: PathBuf, incoming: Option<String>) -> Self {
        Self {
            processes,
            path,
            incoming,
        }
    }

    /// What a folder of a commit holds (`.github/workflows`; empty: its root), at most `most` entries; `None` where there is no such folder.
    pub async fn folder(
        &self,
        commit: &Oid,
        path: &str,
        most: usize,
    ) -> Result<Option<Vec<Entry>>, ObjectError> {
        let what = within(commit, path)?;
        let Some(found) = self.look(&what).await? else {
            return Ok(None);
        };
        if found.kind != "tree" {
            return Ok(None);
        }
        let args = vec!["-z", "--long", "--full-tree", found.oid.as_str()];
        let listed = self.run("ls-tree", args, MOST_LISTED).await?;
        let entries = entries(&listed.ok("ls-tree")?);
        match entries.len() > most {
            true => Err(ObjectError::TooLarge {
                what,
                size: entries.len() as u64,
                most: most as u64,
            }),
            false => Ok(Some(entries)),
        }
    }

    /// A file's content, of at most `most` bytes.
    pub async fn blob(&self, oid: &Oid, most: u64) -> Result<Vec<u8>, ObjectError> {
        let found = self.look(oid.as_str()).await?;
        let found = found.ok_or_else(|| missing(oid.as_str()))?;
        self.content(found, oid.as_str(), most).await
    }

    /// The content of a file of a commit, of at most `most` bytes; `None` where there is no such file. A link is
    /// not followed: its content is where it leads.
    pub async fn file(
        &self,
        commit: &Oid,
        path: &str,
        most: u64,
    ) -> Result<Option<Vec<u8>>, ObjectError> {
        let what = within(commit, path)?;
        match self.look(&what).await? {
            Some(found) if found.kind == "blob" => self.content(found, &what, most).await.map(Some),
            _ => Ok(None),
        }
    }

    async fn content(&self, found: Found, what: &str, most: u64) -> Result<Vec<u8>, ObjectError> {
        if found.kind != "blob" {
            return Err(ObjectError::Other {
                what: what.to_owned(),
                wanted: "file",
            });
        }
        let room = usize::try_from(most).unwrap_or(usize::MAX - 1);
        if found.size > most {
            return Err(ObjectError::TooLarge {
                what: what.to_owned(),
                size: found.size,
                most,
            });
        }
        let args = vec!["blob", found.oid.as_str()];
        Ok(self.run("cat-file", args, room).await?.ok("cat-file")?)
    }

    /// How many files a commit has, and how many bytes they are together; git says at most `most` bytes of it.
    pub(crate) async fn weigh(
        &self,
        commit: &Oid,
        most: usize,
    ) -> Result<(usize, u64), ObjectError> {
        let args = vec!["-r", "-z", "--long", "--full-tree", commit.as_str()];
        let entries = entries(&self.run("ls-tree", args, most).await?.ok("ls-tree")?);
        let sizes = entries.iter().filter_map(|entry| entry.size);
        Ok((entries.len(), sizes.fold(0, u64::saturating_add)))
    }

    /// What a commit says of itself.
    pub async fn commit(&self, oid: &Oid) -> Result<Commit, ObjectError> {
        let found = self.look(oid.as_str()).await?;
        if found.ok_or_else(|| missing(oid.as_str()))?.kind != "commit" {
            return Err(no_commit(oid));
        }
        let printed = self.run("cat-file", vec!["commit", oid.as_str()], MOST_COMMIT);
        let bytes = printed.await?.ok("cat-file")?;
        commit::parse(&bytes).ok_or_else(|| no_commit(oid))
    }

    /// The commit that a reference (`refs/heads/main`, `refs/tags/v1`, `HEAD`) or a tag object leads to, if it leads to one.
    pub async fn resolve(&self, reference: &str) -> Result<Option<Oid>, ObjectError> {
        let is_name = reference == "HEAD"
            || reference.starts_with("refs/")
            || reference.parse::<Oid>().is_ok();
        if !is_name || !is_path(reference) || reference.contains("@{") || reference.contains('^') {
            return Err(ObjectError::Path);
        }
        let found = self.look(&format!("{reference}^{{commit}}")).await?;
        Ok(found.map(|found| found.oid))
    }

    /// Paths that differ between two commits, or that a first commit has; `None` where that is not known: one of
    /// them is not there, or more than `most` differ.
    pub async fn changed(
        &self,
        old: Option<&Oid>,
        new: &Oid,
        most: usize,
    ) -> Result<Option<Vec<String>>, ObjectError> {
        for oid in old.into_iter().chain([new]) {
            if self.look(oid.as_str()).await?.is_none() {
                return Ok(None);
            }
        }
        let (what, args) = match old {
            Some(old) => (
                "diff-tree",
                vec![
                    "-r",
                    "-z",
                    "--name-only",
                    "--no-renames",
                    old.as_str(),
                    new.as_str(),
                ],
            ),
            None => (
                "ls-tree",
                vec!["-r", "-z", "--name-only", "--full-tree", new.as_str()],
            ),
        };
        let printed = match self.run(what, args, MOST_LISTED).await {
            Err(ObjectError::Git(GitError::TooMuch { .. })) => return Ok(None),
            printed => printed?.ok(what)?,
        };
        let paths = printed
            .split(|byte| *byte == 0)
            .filter(|path| !path.is_empty());
        let paths: Vec<String> = paths
            .map(|path| String::from_utf8_lossy(path).into_owned())
            .collect();
        Ok((paths.len() <= most).then_some(paths))
    }

    /// Whether `old` is `new` or one of the commits before it; one that is not there is not.
    pub async fn is_ancestor(&self, old: &Oid, new: &Oid) -> Result<bool, ObjectError> {
        if self.look(old.as_str()).await?.is_none() {
            return Ok(false);
        }
        let args = vec!["--is-ancestor", old.as_str(), new.as_str()];
        let printed = self.run("merge-base", args, 4096).await?;
        match printed.code {
            Some(1) => Ok(false),
            _ => Ok(printed.ok("merge-base").map(|_| true)?),
        }
    }

    /// Branches that a commit is on, without `refs/heads/`.
    pub async fn branches_containing(&self, commit: &Oid) -> Result<Vec<String>, ObjectError> {
        let contains = format!("--contains={commit}");
        let args = vec!["--format=%(refname:lstrip=2)", &contains, "refs/heads/"];
        let printed = self.run("for-each-ref", args, MOST_LISTED).await?;
        let printed = printed.ok("for-each-ref")?;
        let text = String::from_utf8_lossy(&printed);
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// All references, in full, and what they point to.
    pub async fn references(&self) -> Result<Vec<(String, Oid)>, ObjectError> {
        let args = vec!["--format=%(objectname) %(refname)"];
        let printed = self.run("for-each-ref", args, MOST_LISTED).await?;
        let printed = printed.ok("for-each-ref")?;
        let text = String::from_utf8_lossy(&printed);
        let pair = |line: &str| {
            let (oid, name) = line.split_once(' ')?;
            Some((name.to_owned(), oid.parse().ok()?))
        };
        Ok(text.lines().filter_map(pair).collect())
    }

    /// All files of a commit as a tar archive (POSIX, with git's global header), into `out`; attributes of the
    /// repository that leave files out hold.
    pub async fn archive(
        &self,
        commit: &Oid,
        out: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), ObjectError> {
        const WHAT: &str = "archive";
        let call = Call {
            args: vec!["--format=tar", commit.as_str()],
            environment: self.environment(),
            ..Call::default()
        };
        let mut running = self.processes.start(&self.path, WHAT, &call)?;
        drop(running.child.stdin.take());
        let gone = || std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        let failed = |source| ObjectError::from(GitError::Run { what: WHAT, source });
        let mut stdout = running.child.stdout.take().ok_or_else(|| failed(gone()))?;
        let stderr = running.child.stderr.take().ok_or_else(|| failed(gone()))?;
        let passed = async {
            let (passed, said) = tokio::join!(pass(&mut stdout, out), last_words(stderr));
            passed.map(|()| said)
        };
        let passed = tokio::time::timeout(ARCHIVE_WITHIN, passed).await;
        let said = match passed {
            Ok(Ok(said)) => said,
            Ok(Err(error)) => {
                running.end().await;
                return Err(ObjectError::Output(error));
            }
            Err(_) => {
                running.end().await;
                let after = ARCHIVE_WITHIN;
                return Err(GitError::TooLate { what: WHAT, after }.into());
            }
        };
        match running.child.wait().await.map_err(failed)?.success() {
            true => Ok(()),
            false => Err(GitError::Failed {
                what: WHAT,
                said: last_line(&said),
            }
            .into()),
        }
    }

    /// The branch that a clone checks out, whether it has a commit or not.
    pub async fn default_branch(&self) -> Result<String, ObjectError> {
        let printed = self.run("symbolic-ref", vec!["--short", "HEAD"], 4096);
        let name = printed.await?.ok("symbolic-ref")?;
        Ok(String::from_utf8_lossy(&name).trim().to_owned())
    }

    /// Makes `branch` the one that a clone checks out, where the present one is not there.
    pub(crate) async fn begin_with(&self, branch: &str) -> Result<(), ObjectError> {
        if self.resolve("HEAD").await?.is_some() {
            return Ok(());
        }
        self.check_out(branch).await
    }

    /// Makes `branch` the one that a clone checks out.
    pub(crate) async fn check_out(&self, branch: &str) -> Result<(), ObjectError> {
        let reference = format!("refs/heads/{branch}");
        let printed = self.run("symbolic-ref", vec!["HEAD", &reference], 4096);
        printed.await?.ok("symbolic-ref")?;
        Ok(())
    }

    async fn look(&self, what: &str) -> Result<Option<Found>, ObjectError> {
        let call = Call {
            args: vec!["--batch-check=%(objectname) %(objecttype) %(objectsize)"],
            environment: self.environment(),
            input: format!("{what}\n").into_bytes(),
            most: 2 * MOST_PATH_BYTES,
            within: WITHIN,
            ..Call::default()
        };
        let printed = self
            .processes
            .run(self.path.clone(), "cat-file", call)
            .await?;
        Ok(found(&String::from_utf8_lossy(&printed.ok("cat-file")?)))
    }

    async fn run(
        &self,
        what: &'static str,
        args: Vec<&str>,
        most: usize,
    ) -> Result<Printed, ObjectError> {
        let call = Call {
            args,
            most,
            within: WITHIN,
            ..Call::default()
        };
        self.call(what, call).await
    }

    pub(crate) async fn call(
        &self,
        what: &'static str,
        mut call: Call<'_>,
    ) -> Result<Printed, ObjectError> {
        call.environment.extend(self.environment());
        Ok(self.processes.run(self.path.clone(), what, call).await?)
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let Some(incoming) = &self.incoming else {
            return Vec::new();
        };
        let objects = format!("{REPOSITORY}/objects");
        vec![
            ("GIT_OBJECT_DIRECTORY", format!("{objects}/{incoming}")),
            ("GIT_ALTERNATE_OBJECT_DIRECTORIES", objects),
        ]
    }
}

async fn pass(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> std::io::Result<()> {
    tokio::io::copy(from, to).await?;
    to.flush().await
}

#[derive(Debug, PartialEq, Eq)]
struct Found {
    oid: Oid,
    kind: String,
    size: u64,
}

/// A line of `cat-file --batch-check`.
fn found(line: &str) -> Option<Found> {
    let mut words = line.trim_end().split(' ');
    let oid = words.next()?.parse().ok()?;
    let kind = words.next()?.to_owned();
    let size = words.next()?.parse().ok()?;
    Some(Found { oid, kind, size })
}

/// What `ls-tree -z --long` prints: `MODE TYPE OID SIZE\tNAME`.
fn entries(listed: &[u8]) -> Vec<Entry> {
    let entry = |line: &[u8]| {
        let line = String::from_utf8_lossy(line);
        let (facts, name) = line.split_once('\t')?;
        let mut facts = facts.split_whitespace();
        let kind = match facts.next()? {
            "040000" => EntryKind::Folder,
            "100755" => EntryKind::Program,
            "120000" => EntryKind::Link,
            "160000" => EntryKind::Submodule,
            _ => EntryKind::File,
        };
        facts.next()?;
        Some(Entry {
            name: name.to_owned(),
            kind,
            oid: facts.next()?.parse().ok()?,
            size: facts.next()?.parse().ok(),
        })
    };
    listed.split(|byte| *byte == 0).filter_map(entry).collect()
}

fn within(commit: &Oid, path: &str) -> Result<String, ObjectError> {
    match path.is_empty() || is_path(path) {
        true => Ok(format!("{commit}:{path}")),
        false => Err(ObjectError::Path),
    }
}

/// One line, relative, and without steps back.
fn is_path(path: &str) -> bool {
    path.len() <= MOST_PATH_BYTES
        && !path.contains(|c: char| c.is_control())
        && path
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..")
}

fn missing(what: &str) -> ObjectError {
    ObjectError::Missing {
        what: format!("object {what}"),
    }
}

fn no_commit(oid: &Oid) -> ObjectError {
    ObjectError::Other {
        what: oid.to_string(),
        wanted: "commit",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_s_lines_are_read() {
        let oid: Oid = "b".repeat(40).parse().expect("sound");
        let line = format!("{oid} blob 12\n");
        assert_eq!(found(&line).expect("there").size, 12);
        assert_eq!(found("abc:x missing\n"), None);
        let listed = format!(
            "100644 blob {oid}      12\ta b.yml\0040000 tree {oid}       -\tc\0120000 blob {oid} 3\td\0"
        );
        let kinds: Vec<_> = entries(listed.as_bytes())
            .into_iter()
            .map(|entry| (entry.name, entry.kind, entry.size))
            .collect();
        let expected = [
            ("a b.yml", EntryKind::File, Some(12)),
            ("c", EntryKind::Folder, None),
            ("d", EntryKind::Link, Some(3)),
        ];
        assert_eq!(
            kinds,
            expected.map(|(name, kind, size)| (name.to_owned(), kind, size))
        );
    }

    #[test]
    fn a_path_leads_to_a_file_and_nowhere_else() {
        for bad in ["/etc", "a/../b", "./a", "a//b", "a\nHEAD", "..", "a/"] {
            assert!(!is_path(bad), "{bad:?}");
        }
        assert!(is_path(".github/workflows"));
    }
}
