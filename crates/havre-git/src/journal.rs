//! Pushes that were accepted and are not done with, in files: what is found after a crash.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use havre_base::{Durability, read_small, replace};

use crate::push::Push;

/// Largest file that is read.
const MOST_BYTES: u64 = 4 << 20;

/// A folder of them.
#[derive(Clone, Debug)]
pub(crate) struct Journal(PathBuf);

impl Journal {
    /// In a folder of its own below that of the repositories.
    pub(crate) fn open(repositories: &Path) -> io::Result<Self> {
        let folder = repositories.join(".pushes");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)?;
        Ok(Self(folder))
    }

    pub(crate) fn write(&self, push: &Push) -> io::Result<()> {
        let bytes = serde_json::to_vec(push)?;
        replace(&self.file(&push.id), &bytes, 0o600, Durability::Durable)
    }

    pub(crate) fn remove(&self, id: &str) -> io::Result<()> {
        match fs::remove_file(self.file(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Those that are there; one that cannot be read is said and left.
    pub(crate) fn all(&self) -> io::Result<Vec<Push>> {
        let mut pushes = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let path = entry?.path();
            if path.extension().is_none_or(|ending| ending != "json") {
                continue;
            }
            let read = read_small(&path, MOST_BYTES)
                .and_then(|text| Ok(serde_json::from_str::<Push>(&text)?));
            match read {
                Ok(push) => pushes.push(push),
                Err(error) => {
                    let path = path.display();
                    tracing::error!(%path, %error, "a push cannot be read that was not done with");
                }
            }
        }
        Ok(pushes)
    }

    fn file(&self, id: &str) -> PathBuf {
        self.0.join(format!("{id}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push::Update;

    #[test]
    fn what_was_accepted_is_found_until_it_is_done_with() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Journal::open(folder.path()).expect("open");
        let push = Push {
            id: "abc".to_owned(),
            project: "shop".parse().expect("sound"),
            principal: "anna".to_owned(),
            updates: vec![Update {
                reference: "refs/heads/main".to_owned(),
                old: None,
                new: "a".repeat(40).parse().ok(),
                forced: false,
            }],
            options: vec!["a=b".to_owned()],
            mirrored: false,
            of_job: false,
        };
        journal.write(&push).expect("written");
        fs::write(folder.path().join(".pushes/torn.json"), "{").expect("written");
        assert_eq!(journal.all().expect("read"), [push]);
        journal.remove("abc").expect("removed");
        journal.remove("abc").expect("twice");
        assert_eq!(journal.all().expect("read"), []);
    }
}
