//! Where the trees of all environments are kept.
//!
//! ```text
//! <folder>/<owner>/parts/<digest>         a file of which more is to come
//!                  parts/<digest>.whole   all of it, checked
//!                  trees/<id>/            a tree; it is there once it has this name
//!                  trees/<id>.json        what it holds; its time is when it was last asked for
//!                  latest.json            the trees of the last deployment
//! ```
//!
//! Calls block. Those about one owner wait for each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use havre_base::{Durability, replace};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2, statvfs};

use crate::digest::{Digest, Hasher};
use crate::tree::{Limits, Node, Tree, TreeError};

mod make;

/// Most files that one owner may be about to send: those of a few offers.
const MAX_WANTED: usize = 300_000;

/// What of the disk an upload leaves free: the database and the containers' output need some. A twentieth
/// of it, within these bounds.
const FREE_SHARE: u64 = 20;
const LEAST_FREE_BYTES: u64 = 256 << 20;
const MOST_FREE_BYTES: u64 = 1 << 30;

/// How long what nothing needs stays: it may be part of what is still being sent, or of what is sent next.
const GRACE: Duration = Duration::from_secs(3600);
/// The same for files of which more is to come.
const PART_GRACE: Duration = Duration::from_secs(24 * 3600);

/// A tree that is offered: by name, or with what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its name.
    pub id: Digest,
    /// What it holds; `None`: it may be known.
    pub tree: Option<Tree>,
}

/// What is lacking of an offer. Nothing: its trees are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offered {
    /// Trees that are not known by their names.
    pub unknown: Vec<Digest>,
    /// Files of the others.
    pub lacking: Vec<Lacking>,
}

/// A file that is not there, or not all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lacking {
    /// Its content.
    pub digest: Digest,
    /// Bytes from its begin that are there.
    pub have_bytes: u64,
}

/// A part of a file.
#[derive(Clone, Debug)]
pub struct Piece<'b> {
    /// Its content, once it is whole.
    pub digest: Digest,
    /// How many bytes come before this.
    pub offset: u64,
    /// The bytes.
    pub bytes: &'b [u8],
}

/// Why an offer is refused.
#[derive(Debug, thiserror::Error)]
pub enum OfferError {
    /// What is offered is no tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// It holds something else than its name says.
    #[error("what is offered as {id} is {found}")]
    Misnamed {
        /// As it was called.
        id: Digest,
        /// What it is.
        found: Digest,
    },
    /// There is no room for it.
    #[error("{needed} bytes are to come, and the disk has room for {room}")]
    NoRoom {
        /// To come.
        needed: u64,
        /// What may be used.
        room: u64,
    },
    /// A file of a tree that was there has changed.
    #[error("{} is not what was sent", path.display())]
    Spoilt {
        /// Which.
        path: PathBuf,
    },
    /// The disk or the folder fails.
    #[error("cannot keep what is sent in {}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Why a piece is refused.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// Nobody has offered a tree with such a file, or it has come since.
    #[error("no file {digest} is awaited")]
    Unawaited {
        /// Which.
        digest: Digest,
    },
    /// Another piece comes next.
    #[error("of the file {digest} there are {have_bytes} bytes, and the piece begins elsewhere")]
    Elsewhere {
        /// Which.
        digest: Digest,
        /// What is there.
        have_bytes: u64,
    },
    /// The file is shorter, or another.
    #[error("the file {digest} is not what was offered")]
    Differs {
        /// Which.
        digest: Digest,
    },
    /// The disk or the folder fails.
    #[error("cannot write to {}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Why there is no such path.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// The tree, or what is named of it, is not there, or only by a link.
    #[error("{path} of what was sent is not there")]
    Missing {
        /// As it was named.
        path: String,
        /// Why.
        source: io::Error,
    },
}

/// Why not all could be removed that nothing needs.
#[derive(Debug, thiserror::Error)]
#[error("cannot remove {}", path.display())]
pub struct SweepError {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// Trees by owner.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    owners: Mutex<BTreeMap<String, Arc<Mutex<Owner>>>>,
}

/// What is under way for one owner.
#[derive(Debug, Default)]
struct Owner {
    /// Files that have been offered and are not there, with their lengths.
    wanted: BTreeMap<Digest, u64>,
    /// How many are about to use trees.
    held: usize,
}

/// As long as it is there nothing of its owner is removed.
#[derive(Debug)]
pub struct Held(Arc<Mutex<Owner>>);

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.0).held -= 1;
    }
}

impl Store {
    /// In this folder, which need not exist.
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            owners: Mutex::default(),
        }
    }

    /// The folder of an owner: all trees are in it.
    pub fn of(&self, owner: &str) -> PathBuf {
        self.folder.join(owner)
    }

    /// The folder of all owners.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Says what is lacking; where nothing is, makes the trees.
    pub fn offer(&self, owner: &str, offers: Vec<Offer>) -> Result<Offered, OfferError> {
        let state = self.owner(owner);
        let mut state = lock(&state);
        let place = Place(self.of(owner));
        place.prepare().map_err(place.failed())?;
        let mut unknown = Vec::new();
        let mut new: Vec<(Digest, Tree)> = Vec::new();
        for Offer { id, tree } in offers {
            if place.has(&id) {
                place.touch(&id).map_err(place.failed())?;
                continue;
            }
            match tree {
                None => unknown.push(id),
                Some(tree) => {
                    tree.check(Limits::MOST)?;
                    let found = tree.digest();
                    if found != id {
                        return Err(OfferError::Misnamed { id, found });
                    }
                    if !new.iter().any(|(known, _)| *known == id) {
                        new.push((id, tree));
                    }
                }
            }
        }
        if new.is_empty() {
            return Ok(Offered {
                unknown,
                ..Offered::default()
            });
        }
        let kept = place.contents().map_err(place.failed())?;
        let mut needed = BTreeMap::new();
        for (_, tree) in &new {
            needed.extend(tree.entries.iter().filter_map(|entry| match entry.node {
                Node::File { size_bytes, digest } => Some((digest, size_bytes)),
                Node::Folder | Node::Link { .. } => None,
            }));
        }
        let mut lacking = Vec::new();
        let mut to_come = 0;
        for (digest, size_bytes) in &needed {
            // What has no content needs not be sent.
            if *size_bytes == 0 || kept.contains_key(digest) || place.is_whole(digest) {
                continue;
            }
            let have_bytes = place.part_bytes(digest).min(*size_bytes);
            to_come += size_bytes - have_bytes;
            lacking.push(Lacking {
                digest: *digest,
                have_bytes,
            });
        }
        let copies: u64 = new.iter().map(|(_, tree)| tree.bytes()).sum();
        place.check_room(to_come.saturating_add(copies))?;
        if !lacking.is_empty() {
            if state.wanted.len() + lacking.len() > MAX_WANTED {
                state.wanted.clear();
            }
            let sizes = lacking
                .iter()
                .map(|file| (file.digest, needed[&file.digest]));
            state.wanted.extend(sizes);
            return Ok(Offered { unknown, lacking });
        }
        for (id, tree) in &new {
            make::tree(&place, id, tree, &kept)?;
        }
        for digest in needed.keys() {
            state.wanted.remove(digest);
            place.drop_whole(digest).map_err(place.failed())?;
        }
        Ok(Offered {
            unknown,
            lacking: Vec::new(),
        })
    }

    /// Takes a piece of a file that is lacking, and says how much of it is there now.
    pub fn put(&self, owner: &str, piece: &Piece<'_>) -> Result<u64, PutError> {
        let state = self.owner(owner);
        let mut state = lock(&state);
        let place = Place(self.of(owner));
        let digest = piece.digest;
        let Some(size_bytes) = state.wanted.get(&digest).copied() else {
            return Err(PutError::Unawaited { digest });
        };
        let path = place.part(&digest);
        let failed = |source| PutError::Io {
            path: path.clone(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        let have_bytes = file.metadata().map_err(failed)?.len();
        if have_bytes != piece.offset {
            return Err(PutError::Elsewhere { digest, have_bytes });
        }
        let after = have_bytes.saturating_add(piece.bytes.len() as u64);
        if after > size_bytes {
            return Err(PutError::Differs { digest });
        }
        if let Err(source) = file.write_all(piece.bytes) {
            // What was written of it may be the begin of it or not.
            return Err(failed(file.set_len(have_bytes).err().unwrap_or(source)));
        }
        if after < size_bytes {
            return Ok(after);
        }
        file.rewind().map_err(failed)?;
        if hash(&mut file).map_err(failed)? != digest {
            fs::remove_file(&path).map_err(failed)?;
            return Err(PutError::Differs { digest });
        }
        fs::rename(&path, place.whole(&digest)).map_err(failed)?;
        state.wanted.remove(&digest);
        Ok(after)
    }

    /// Where a file or folder of a tree is. No link leads there.
    pub fn path(&self, owner: &str, id: &Digest, below: &str) -> Result<PathBuf, PathError> {
        let place = Place(self.of(owner));
        let missing = |source: io::Error| PathError::Missing {
            path: below.to_owned(),
            source,
        };
        let tree = place.tree(id);
        let opened = rustix::fs::openat(
            CWD,
            &tree,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        );
        let opened = opened.map_err(|error| missing(error.into()))?;
        if below.is_empty() {
            return Ok(tree);
        }
        let within =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let found = openat2(
            &opened,
            below,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
            within,
        );
        let found = found.map_err(|error| missing(error.into()))?;
        let kind = rustix::fs::fstat(&found).map_err(|error| missing(error.into()))?;
        match rustix::fs::FileType::from_raw_mode(kind.st_mode) {
            rustix::fs::FileType::Symlink => Err(missing(io::Error::other("it is a link"))),
            _ => Ok(tree.join(below)),
        }
    }

    /// To be had before trees are used, until what names them is written down.
    pub fn hold(&self, owner: &str) -> Held {
        let state = self.owner(owner);
        lock(&state).held += 1;
        Held(state)
    }

    /// Remembers the trees of the last deployment: they stay, so that the next sends what is new.
    pub fn remember(&self, owner: &str, trees: &BTreeSet<Digest>) -> io::Result<()> {
        let state = self.owner(owner);
        let _one_at_a_time = lock(&state);
        let place = Place(self.of(owner));
        let text = serde_json::to_vec(trees)?;
        replace(&place.latest(), &text, 0o600, Durability::Durable)
    }

    /// Owners that have anything here.
    pub fn all(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut owners = Vec::new();
        for entry in entries {
            owners.extend(entry?.file_name().into_string());
        }
        Ok(owners)
    }

    /// Removes trees of an owner that are not `used`, and parts that nobody goes on with. `known`: it is
    /// still there, so that its last deployment counts. What fails is told, and the rest removed.
    pub fn sweep(
        &self,
        owner: &str,
        used: &BTreeSet<Digest>,
        known: bool,
        now: SystemTime,
    ) -> Vec<SweepError> {
        let state = self.owner(owner);
        let state = lock(&state);
        let mut errors = Vec::new();
        if state.held > 0 {
            return errors;
        }
        let place = Place(self.of(owner));
        let latest = match known {
            true => place.read_latest(),
            false => BTreeSet::new(),
        };
        let mut told = |path: &Path, done: io::Result<()>| match done {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => errors.push(SweepError {
                path: path.to_owned(),
                source,
            }),
            Ok(()) => {}
        };
        for (path, name, changed) in place.listed("trees") {
            let (stem, end) = name.split_once('.').unwrap_or((&name, ""));
            match (stem.parse::<Digest>(), end) {
                (Ok(id), "") => {
                    let stamp = modified(&place.manifest(&id)).unwrap_or(changed);
                    if !stays(
                        used.contains(&id) || latest.contains(&id),
                        stamp,
                        now,
                        GRACE,
                    ) {
                        told(&path, place.remove(&id));
                    }
                }
                (Ok(id), "json") if place.has(&id) => {}
                // What was being made, or removed, when somebody died.
                _ => told(&path, remove(&path)),
            }
        }
        for (path, _, changed) in place.listed("parts") {
            if !stays(false, changed, now, PART_GRACE) {
                told(&path, fs::remove_file(&path));
            }
        }
        if place.listed("trees").is_empty() && place.listed("parts").is_empty() && !known {
            told(&place.0, remove(&place.0));
        }
        errors
    }

    fn owner(&self, owner: &str) -> Arc<Mutex<Owner>> {
        debug_assert!(is_owner(owner), "{owner:?} is no name of a folder");
        Arc::clone(lock(&self.owners).entry(owner.to_owned()).or_default())
    }
}

/// Whether something that is needed or not, and was last asked for then, stays.
fn stays(needed: bool, asked: SystemTime, now: SystemTime, grace: Duration) -> bool {
    // A clock that went back makes nothing old.
    needed || now.duration_since(asked).unwrap_or_default() < grace
}

fn is_owner(owner: &str) -> bool {
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    !owner.is_empty() && !owner.starts_with('.') && owner.chars().all(sound)
}

/// The folder of one owner.
#[derive(Debug)]
struct Place(PathBuf);

impl Place {
    fn prepare(&self) -> io::Result<()> {
        for name in ["parts", "trees"] {
            let path = self.0.join(name);
            DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        }
        Ok(())
    }

    fn failed(&self) -> impl FnOnce(io::Error) -> OfferError + use<> {
        let path = self.0.clone();
        move |source| OfferError::Io { path, source }
    }

    fn part(&self, digest: &Digest) -> PathBuf {
        self.0.join("parts").join(digest.to_string())
    }

    fn whole(&self, digest: &Digest) -> PathBuf {
        self.0.join("parts").join(format!("{digest}.whole"))
    }

    fn tree(&self, id: &Digest) -> PathBuf {
        self.0.join("trees").join(id.to_string())
    }

    fn manifest(&self, id: &Digest) -> PathBuf {
        self.0.join("trees").join(format!("{id}.json"))
    }

    fn latest(&self) -> PathBuf {
        self.0.join("latest.json")
    }

    fn has(&self, id: &Digest) -> bool {
        self.tree(id).is_dir()
    }

    fn is_whole(&self, digest: &Digest) -> bool {
        self.whole(digest).is_file()
    }

    fn part_bytes(&self, digest: &Digest) -> u64 {
        fs::metadata(self.part(digest)).map_or(0, |found| found.len())
    }

    fn drop_whole(&self, digest: &Digest) -> io::Result<()> {
        match fs::remove_file(self.whole(digest)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// It was asked for just now.
    fn touch(&self, id: &Digest) -> io::Result<()> {
        File::open(self.manifest(id))?.set_modified(SystemTime::now())
    }

    /// What the last deployment used; nothing where nobody can say.
    fn read_latest(&self) -> BTreeSet<Digest> {
        let text = fs::read(self.latest()).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Files of the trees that are there, by content.
    fn contents(&self) -> io::Result<BTreeMap<Digest, PathBuf>> {
        let mut contents = BTreeMap::new();
        for (path, name, _) in self.listed("trees") {
            let Ok(id) = name.parse::<Digest>() else {
                continue;
            };
            let tree: Tree = serde_json::from_slice(&fs::read(self.manifest(&id))?)?;
            for entry in tree.entries {
                if let Node::File { digest, .. } = entry.node {
                    contents.insert(digest, path.join(entry.path));
                }
            }
        }
        Ok(contents)
    }

    fn check_room(&self, needed: u64) -> Result<(), OfferError> {
        let disk = statvfs(&self.0).map_err(|error| self.failed()(error.into()))?;
        let share = disk.f_blocks.saturating_mul(disk.f_frsize) / FREE_SHARE;
        let keep = share.clamp(LEAST_FREE_BYTES, MOST_FREE_BYTES);
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let room = free.saturating_sub(keep);
        match needed <= room {
            true => Ok(()),
            false => Err(OfferError::NoRoom { needed, room }),
        }
    }

    /// What is in a folder of it: path, name, when it was last changed. What cannot be listed is not there.
    fn listed(&self, name: &str) -> Vec<(PathBuf, String, SystemTime)> {
        let entries = fs::read_dir(self.0.join(name)).into_iter().flatten();
        let known = |entry: io::Result<fs::DirEntry>| {
            let entry = entry.ok()?;
            let changed = entry.metadata().ok()?.modified().ok()?;
            Some((entry.path(), entry.file_name().into_string().ok()?, changed))
        };
        entries.filter_map(known).collect()
    }

    /// Its name goes first: what is half removed is no tree.
    fn remove(&self, id: &Digest) -> io::Result<()> {
        let gone = self.0.join("trees").join(format!("{id}.gone"));
        fs::rename(self.tree(id), &gone)?;
        fs::remove_file(self.manifest(id))?;
        fs::remove_dir_all(&gone)
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path)?.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

fn hash(file: &mut File) -> io::Result<Digest> {
    let mut hasher = Hasher::default();
    let mut piece = vec![0; 256 * 1024];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hasher.finish()),
            count => hasher.add(&piece[..count]),
        }
    }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is locked is whole after every statement.
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
