//! A folder as a list: what is in it, by path.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Hasher};

/// Bounds of a tree. What is beyond them is refused on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Files, folders and links.
    pub entries: usize,
    /// Bytes of all files together.
    pub bytes: u64,
    /// Folders in each other.
    pub depth: usize,
    /// Bytes of a path.
    pub path_bytes: usize,
}

impl Limits {
    /// What a tree may be at most.
    pub const MOST: Self = Self {
        entries: 60_000,
        bytes: 16 << 30,
        depth: 100,
        path_bytes: 2048,
    };
}

/// Most bytes of one name in a path, as file systems have it, and of what a link holds.
const MAX_NAME_BYTES: usize = 255;
const MAX_LINK_BYTES: usize = 4095;
/// Most characters of a path that are shown.
const MAX_SHOWN: usize = 200;

/// Permission bits.
const MODE_BITS: u32 = 0o7777;

/// A folder: its entries in the order of their paths, each behind the folder that it is in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// What is in it.
    pub entries: Vec<Entry>,
}

/// A file, folder or link of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Relative, with `/` between names; empty: the folder itself.
    pub path: String,
    /// Permission bits; a link has none.
    pub mode: u32,
    /// Seconds since 1970 at which it was last changed. No part of the tree's digest.
    pub modified: i64,
    /// The part of a second behind that.
    #[serde(default)]
    pub modified_nanos: u32,
    /// What it is.
    #[serde(flatten)]
    pub node: Node,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Node {
    /// A folder.
    Folder,
    /// A regular file.
    File {
        /// Its length.
        size_bytes: u64,
        /// Of its content.
        digest: Digest,
    },
    /// A symbolic link. Nobody follows it but what it is given to.
    Link {
        /// What it holds.
        target: String,
    },
}

/// What is wrong with a tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path:?} cannot be sent: {reason}")]
pub struct TreeError {
    /// Which entry.
    pub path: String,
    /// Why.
    pub reason: String,
}

impl TreeError {
    /// That a file has not the length that its content has elsewhere.
    pub(crate) fn two_lengths(path: &str) -> Self {
        Self {
            path: path.chars().take(MAX_SHOWN).collect(),
            reason: "its length is not that of its content".to_owned(),
        }
    }
}

impl Tree {
    /// By what it is called: paths, kinds, permission bits, contents and links; not times.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::default();
        for entry in &self.entries {
            hasher.add_field(entry.path.as_bytes());
            match &entry.node {
                Node::Folder => {
                    hasher.add_field(b"folder");
                    hasher.add_field(&entry.mode.to_le_bytes());
                }
                Node::File { digest, .. } => {
                    hasher.add_field(b"file");
                    hasher.add_field(&entry.mode.to_le_bytes());
                    hasher.add_field(digest.bytes());
                }
                Node::Link { target } => {
                    hasher.add_field(b"link");
                    hasher.add_field(target.as_bytes());
                }
            }
        }
        hasher.finish()
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        let sizes = self.entries.iter().map(|entry| match entry.node {
            Node::File { size_bytes, .. } => size_bytes,
            Node::Folder | Node::Link { .. } => 0,
        });
        sizes.fold(0, u64::saturating_add)
    }

    /// What is at a path.
    pub fn entry(&self, path: &str) -> Option<&Entry> {
        let at = self
            .entries
            .binary_search_by(|entry| order(&entry.path, path));
        Some(&self.entries[at.ok()?])
    }

    /// Puts entries into their order: that in which [`Tree::check`] wants them.
    pub fn sort(&mut self) {
        self.entries.sort_by(|a, b| order(&a.path, &b.path));
    }

    /// Whether it can be made as it says, within bounds, and within the folder it is made in.
    pub fn check(&self, limits: Limits) -> Result<(), TreeError> {
        let mut open: Vec<&str> = Vec::new();
        let mut before: Option<&str> = None;
        let mut sizes: BTreeMap<Digest, u64> = BTreeMap::new();
        if self.entries.len() > limits.entries {
            let path = self.entries[limits.entries].path.clone();
            let reason = format!("there are more than {} files", limits.entries);
            return Err(TreeError { path, reason });
        }
        for entry in &self.entries {
            let refused = |reason: String| TreeError {
                path: entry.path.chars().take(MAX_SHOWN).collect(),
                reason,
            };
            entry.check(limits).map_err(refused)?;
            if before.is_some_and(|before| order(before, &entry.path).is_ge()) {
                return Err(refused("it is not in its place, or there twice".to_owned()));
            }
            if let Node::File { size_bytes, digest } = entry.node
                && *sizes.entry(digest).or_insert(size_bytes) != size_bytes
            {
                return Err(TreeError::two_lengths(&entry.path));
            }
            match before {
                // All others are in it.
                None if entry.path.is_empty() && entry.node == Node::Folder => open.push(""),
                None => return Err(refused("the first entry is the folder itself".to_owned())),
                Some(_) => {
                    let folder = entry.path.rsplit_once('/').map_or("", |(folder, _)| folder);
                    while open.last().is_some_and(|last| *last != folder) {
                        open.pop();
                    }
                    if open.is_empty() {
                        return Err(refused("it is in no folder".to_owned()));
                    }
                    if entry.node == Node::Folder {
                        open.push(&entry.path);
                    }
                }
            }
            before = Some(&entry.path);
        }
        if before.is_none() {
            let reason = "there is nothing in it, not even itself".to_owned();
            let path = String::new();
            return Err(TreeError { path, reason });
        }
        if self.bytes() > limits.bytes {
            let reason = format!("its files have more than {} bytes", limits.bytes);
            return Err(TreeError {
                path: String::new(),
                reason,
            });
        }
        Ok(())
    }
}

impl Entry {
    fn check(&self, limits: Limits) -> Result<(), String> {
        if self.path.len() > limits.path_bytes {
            return Err(format!(
                "its path has more than {} bytes",
                limits.path_bytes
            ));
        }
        if self.path.split('/').count() > limits.depth {
            return Err(format!("it is more than {} folders deep", limits.depth));
        }
        let is_name = |name: &str| {
            !matches!(name, "" | "." | "..") && name.len() <= MAX_NAME_BYTES && !name.contains('\0')
        };
        if !self.path.is_empty() && !self.path.split('/').all(is_name) {
            return Err("its path is none below a folder".to_owned());
        }
        if self.mode & !MODE_BITS != 0 {
            return Err("its mode is none".to_owned());
        }
        if self.modified_nanos >= 1_000_000_000 {
            return Err("its time is none".to_owned());
        }
        match &self.node {
            Node::Link { target } if target.is_empty() || target.contains('\0') => {
                Err("it leads to nothing".to_owned())
            }
            Node::Link { target } if target.len() > MAX_LINK_BYTES => {
                Err(format!("it holds more than {MAX_LINK_BYTES} bytes"))
            }
            Node::Link { .. } | Node::File { .. } | Node::Folder => Ok(()),
        }
    }
}

/// Name by name, so that all that is in a folder comes right behind it.
fn order(a: &str, b: &str) -> std::cmp::Ordering {
    match (a.is_empty(), b.is_empty()) {
        (true, true) => std::cmp::Ordering::Equal,
        (true, false) => std::cmp::Ordering::Less,
        (false, true) => std::cmp::Ordering::Greater,
        (false, false) => a.split('/').cmp(b.split('/')),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(path: &str, node: Node) -> Entry {
        Entry {
            path: path.to_owned(),
            mode: 0o755,
            modified: 0,
            modified_nanos: 0,
            node,
        }
    }

    fn file() -> Node {
        Node::File {
            size_bytes: 1,
            digest: Digest::of(b"x"),
        }
    }

    fn link(target: &str) -> Node {
        Node::Link {
            target: target.to_owned(),
        }
    }

    fn refused(entries: Vec<Entry>) -> String {
        let tree = Tree { entries };
        tree.check(Limits::MOST).expect_err("refused").to_string()
    }

    #[test]
    fn what_leads_elsewhere_is_no_tree() {
        let root = || entry("", Node::Folder);
        for path in [
            "/etc/passwd",
            "../x",
            "a/../b",
            "a//b",
            "a/",
            ".",
            "..",
            "a\0b",
        ] {
            refused(vec![root(), entry("a", Node::Folder), entry(path, file())]);
        }
        let long = "x".repeat(256);
        refused(vec![root(), entry(&long, file())]);
        // Through a link, or below a file.
        let below = |node| vec![root(), entry("a", node), entry("a/b", file())];
        assert!(refused(below(link("/etc"))).contains("in no folder"));
        assert!(refused(below(file())).contains("in no folder"));
        assert!(refused(vec![root(), entry("a/b", file())]).contains("in no folder"));
        refused(vec![]);
        refused(vec![entry("a", file())]);
        refused(vec![entry("", file())]);
        refused(vec![root(), entry("a", file()), entry("a", link("b"))]);
        refused(vec![root(), entry("b", file()), entry("a", file())]);
        refused(vec![root(), root()]);
        let Node::File { digest, .. } = file() else {
            unreachable!("it is a file")
        };
        let longer = Node::File {
            size_bytes: 2,
            digest,
        };
        let two_lengths = vec![root(), entry("a", file()), entry("b", longer)];
        assert!(refused(two_lengths).contains("its length"));
        let mut wild = entry("a", file());
        wild.mode = 0o100_644;
        refused(vec![root(), wild]);
        let deep = "a/".repeat(200) + "b";
        assert!(refused(vec![root(), entry(&deep, file())]).contains("folders deep"));
        let many = Limits {
            entries: 1,
            ..Limits::MOST
        };
        let two = Tree {
            entries: vec![root(), entry("a", file())],
        };
        assert!(two.check(many).is_err());
        assert!(
            two.check(Limits {
                bytes: 0,
                ..Limits::MOST
            })
            .is_err()
        );
        assert_eq!(two.check(Limits::MOST), Ok(()));
    }

    #[test]
    fn its_name_says_all_but_times() {
        let tree = |entries| Tree { entries };
        let one = tree(vec![entry("", Node::Folder), entry("a", file())]);
        let mut later = one.clone();
        later.entries[1].modified = 7;
        assert_eq!(one.digest(), later.digest());
        let mut other = one.clone();
        other.entries[1].mode = 0o644;
        assert_ne!(one.digest(), other.digest());
        let linked = tree(vec![entry("", Node::Folder), entry("a", link("x"))]);
        assert_ne!(one.digest(), linked.digest());
        assert_eq!(one.entry("a").map(|entry| entry.path.as_str()), Some("a"));
        assert_eq!(one.entry("b"), None);
    }

    proptest! {
        #[test]
        fn a_sorted_tree_of_sound_paths_is_sound(
            paths in proptest::collection::btree_set("[a-c.-]{1,2}(/[a-c.-]{1,2}){0,3}", 0..20)
        ) {
            let mut tree = Tree { entries: vec![entry("", Node::Folder)] };
            let sound = |path: &&String| path.split('/').all(|name| name != "." && name != "..");
            let mut folders = std::collections::BTreeSet::new();
            for path in paths.iter().filter(sound) {
                for (at, _) in path.match_indices('/') {
                    folders.insert(path[..at].to_owned());
                }
            }
            for path in paths.iter().filter(sound) {
                if !folders.contains(path) {
                    tree.entries.push(entry(path, file()));
                }
            }
            for folder in folders {
                tree.entries.push(entry(&folder, Node::Folder));
            }
            tree.sort();
            prop_assert_eq!(tree.check(Limits::MOST), Ok(()));
            for entry in &tree.entries {
                prop_assert_eq!(tree.entry(&entry.path), Some(entry));
            }
        }
    }
}
