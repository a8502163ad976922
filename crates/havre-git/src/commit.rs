//! What a commit says of itself, as git keeps it. Pure.

use std::time::{Duration, UNIX_EPOCH};

use crate::Oid;

/// A commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Its files.
    pub tree: Oid,
    /// The commits before it.
    pub parents: Vec<Oid>,
    /// Who wrote it.
    pub author: Signature,
    /// Who made the commit.
    pub committer: Signature,
    /// What it is for; bytes that are not UTF-8 are replaced.
    pub message: String,
}

/// Who did something, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Of the person, as they say.
    pub name: String,
    /// Their address.
    pub email: String,
    /// Seconds since 1970.
    pub seconds: i64,
    /// Minutes that their clock was ahead of UTC.
    pub offset_minutes: i32,
}

impl Signature {
    /// When, as RFC 3339 in UTC; empty where the calendar has no such time.
    pub fn rfc3339(&self) -> String {
        let seconds = u64::try_from(self.seconds).ok();
        let at = seconds.and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
        at.map(|at| havre_base::time::rfc3339(at, 0))
            .unwrap_or_default()
    }
}

/// Reads what `git cat-file commit` prints; `None`: it is no commit.
pub(crate) fn parse(bytes: &[u8]) -> Option<Commit> {
    let text = String::from_utf8_lossy(bytes);
    let (head, message) = text.split_once("\n\n").unwrap_or((&text, ""));
    let mut lines = head.lines();
    let tree = lines.next()?.strip_prefix("tree ")?.parse().ok()?;
    let mut parents = Vec::new();
    let (mut author, mut committer) = (None, None);
    for line in lines {
        // Those of a signature begin with a space.
        match line.split_once(' ') {
            Some(("parent", oid)) => parents.push(oid.parse().ok()?),
            Some(("author", who)) if author.is_none() => author = signature(who),
            Some(("committer", who)) if committer.is_none() => committer = signature(who),
            _ => {}
        }
    }
    Some(Commit {
        tree,
        parents,
        author: author?,
        committer: committer?,
        message: message.to_owned(),
    })
}

/// `NAME <EMAIL> SECONDS +HHMM`.
fn signature(text: &str) -> Option<Signature> {
    let (who, when) = text.rsplit_once('>')?;
    let (name, email) = who.split_once('<')?;
    let mut when = when.split_whitespace();
    let seconds = when.next()?.parse().ok()?;
    let zone: i32 = when.next()?.parse().ok()?;
    if zone.abs() > 9959 {
        return None;
    }
    Some(Signature {
        name: name.trim().to_owned(),
        email: email.to_owned(),
        seconds,
        offset_minutes: zone / 100 * 60 + zone % 100,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_read() {
        let oid = "a".repeat(40);
        let text = format!(
            "tree {oid}\nparent {oid}\nparent {oid}\nauthor A <B> C <a@b.c> 1700000000 -0230\n\
             committer D <d@e.f> 1700000001 +0100\ngpgsig -----BEGIN\n parent x\n -----END\n\nfirst\n\nsecond\n"
        );
        let commit = parse(text.as_bytes()).expect("a commit");
        assert_eq!(commit.parents.len(), 2);
        assert_eq!(commit.author.offset_minutes, -150);
        assert_eq!(commit.committer.name, "D");
        assert_eq!(commit.committer.email, "d@e.f");
        assert_eq!(commit.message, "first\n\nsecond\n");
        assert_eq!(parse(b"tag"), None);
        assert_eq!(parse(format!("tree {oid}\n\nno author").as_bytes()), None);
    }
}
