//! What would come of one branch merged into another: a commit that no branch leads to, as GitHub makes it for pull
//! requests.

use std::time::Duration;

use crate::process::Call;
use crate::{ObjectError, Objects, Oid};

/// Large trees take a while.
const WITHIN: Duration = Duration::from_secs(120);
const MOST_SAID: usize = 64 << 10;
/// As whom the merge is made: nobody's own name stands for what a machine did.
const MAKER: (&str, &str) = ("havre", "havre@localhost");

/// What comes of a merge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Merged {
    /// A commit with both as its parents. Of the same two it is the same.
    Commit(Oid),
    /// There is nothing to merge.
    Nothing,
    /// They change the same lines, or have no history in common; what git says.
    Conflict(String),
}

impl Objects {
    /// Merges `head` into `base`, and has `reference` (`refs/pull/…`) lead to what comes of it.
    pub async fn merge(
        &self,
        base: &Oid,
        head: &Oid,
        message: &str,
        reference: &str,
    ) -> Result<Merged, ObjectError> {
        if self.is_ancestor(head, base).await? {
            return Ok(Merged::Nothing);
        }
        let when = self.commit(head).await?.committer;
        let args = vec![
            "--write-tree",
            "--no-messages",
            base.as_str(),
            head.as_str(),
        ];
        let merged = self.called("merge-tree", args, Vec::new()).await?;
        let text = String::from_utf8_lossy(&merged.out).into_owned();
        let first = text.lines().next().unwrap_or_default().to_owned();
        match merged.code {
            Some(0) => {}
            // The tree, and the files that both change.
            Some(1) => {
                let files = text
                    .lines()
                    .skip(1)
                    .filter_map(|line| line.split('\t').nth(1));
                let mut files: Vec<&str> = files.collect();
                files.dedup();
                files.truncate(5);
                return Ok(Merged::Conflict(format!(
                    "both change {}",
                    files.join(", ")
                )));
            }
            _ => return Ok(Merged::Conflict(crate::plain(&merged.said))),
        }
        let date = format!("{} +0000", when.seconds);
        let environment = vec![
            ("GIT_AUTHOR_NAME", MAKER.0.to_owned()),
            ("GIT_AUTHOR_EMAIL", MAKER.1.to_owned()),
            ("GIT_AUTHOR_DATE", date.clone()),
            ("GIT_COMMITTER_NAME", MAKER.0.to_owned()),
            ("GIT_COMMITTER_EMAIL", MAKER.1.to_owned()),
            ("GIT_COMMITTER_DATE", date),
        ];
        let args = vec![
            "-p",
            base.as_str(),
            "-p",
            head.as_str(),
            "-m",
            message,
            &first,
        ];
        let made = self.called("commit-tree", args, environment).await?;
        let made = made.ok("commit-tree")?;
        let made = String::from_utf8_lossy(&made).trim().to_owned();
        let commit: Oid = made.parse().map_err(|_| ObjectError::Other {
            what: made,
            wanted: "commit",
        })?;
        self.point(reference, &commit).await?;
        Ok(Merged::Commit(commit))
    }

    /// Has a reference that is no branch and no tag lead to a commit.
    pub async fn point(&self, reference: &str, to: &Oid) -> Result<(), ObjectError> {
        let args = vec![reference, to.as_str()];
        let printed = self.called("update-ref", args, Vec::new()).await?;
        printed.ok("update-ref")?;
        Ok(())
    }

    async fn called(
        &self,
        what: &'static str,
        args: Vec<&str>,
        environment: Vec<(&'static str, String)>,
    ) -> Result<crate::process::Printed, ObjectError> {
        self.call(
            what,
            Call {
                args,
                environment,
                most: MOST_SAID,
                within: WITHIN,
                ..Call::default()
            },
        )
        .await
    }
}
