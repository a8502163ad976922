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
//! Calls block. Those that move files of one owner wait for each other; [`Store::hold`] and
//! [`Store::remember`] wait for none of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant, SystemTime};

use havre_base::{Durability, replace};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, StatVfs, openat2, statvfs};

use crate::digest::{Digest, Hasher};
use crate::tree::{Limits, Node, Tree, TreeError};

mod make;

/// Most files that one owner may be about to send: those of a few offers.
const MAX_WANTED: usize = 300_000;
/// The same of all owners: anybody who may deploy to names of their choice is any number of them.
const MAX_WANTED_OF_ALL: usize = 1_000_000;

/// What of the disk an upload leaves free: the database and the containers' output need some. A twentieth
/// of it, within these bounds.
const FREE_SHARE: u64 = 20;
const LEAST_FREE_BYTES: u64 = 256 << 20;
const MOST_FREE_BYTES: u64 = 1 << 30;
/// The same of the number of its files, where the file system has one.
const MOST_FREE_FILES: u64 = 50_000;
/// What an entry takes of the disk besides its bytes: a file's last block, a folder, a link, its inode.
const ENTRY_BYTES: u64 = 4096;

/// Most trees that an owner may have asked for within [`GRACE`], those of its last deployment aside.
const MAX_UNUSED: usize = 256;

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
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// More was sent than is ever used.
    #[error("{most} other contexts and mounts were sent within the last hour")]
    TooMany {
        /// How many may be.
        most: usize,
    },
    /// A file that was there has changed.
    #[error("{} is not what was sent", path.display())]
    Spoilt {
        /// Which.
        path: PathBuf,
        /// Whether it was removed, so that it is lacking from now on.
        removed: bool,
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

/// What the disk has no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// Bytes.
    #[error("{needed} bytes are to come, and the disk has room for {room}")]
    Bytes {
        /// To come.
        needed: u64,
        /// What may be used.
        room: u64,
    },
    /// Files, folders and links, however short.
    #[error("{needed} files are to come, and the disk has room for {room}")]
    Files {
        /// To come.
        needed: u64,
        /// What may be used.
        room: u64,
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
    /// There is no room for it: somebody else has used it since the offer.
    #[error(transparent)]
    NoRoom(NoRoom),
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
    /// As long as anything is under way for them. Locked after one of them is, if both are.
    owners: Mutex<BTreeMap<String, Arc<Owner>>>,
}

/// What is under way for one owner.
#[derive(Debug, Default)]
struct Owner {
    /// Files that have been offered and are not there. Locked as long as files of the owner are written,
    /// copied or removed.
    wanted: Mutex<Wanted>,
    /// How many are about to use trees. Nothing is waited for under it.
    held: Mutex<usize>,
    /// Who writes `latest.json`.
    latest: Mutex<()>,
}

/// Files that are about to be sent. Who goes on with one that is forgotten is told to offer it again.
#[derive(Debug, Default)]
struct Wanted {
    /// With their lengths.
    files: BTreeMap<Digest, u64>,
    /// When they were last offered.
    offered: Option<Instant>,
}

impl Wanted {
    /// Whether anybody may be sending any of it.
    fn is_awaited(&self, now: Instant) -> bool {
        let age = |offered| now.saturating_duration_since(offered);
        !self.files.is_empty()
            && self
                .offered
                .is_some_and(|offered| age(offered) < PART_GRACE)
    }
}

/// As long as it is there nothing of its owner is removed.
#[derive(Debug)]
pub struct Held(Arc<Owner>);

impl Drop for Held {
    fn drop(&mut self) {
        *lock(&self.0.held) -= 1;
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
        let mut wanted = lock(&state.wanted);
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
        if new.len().saturating_add(place.unused(SystemTime::now())) > MAX_UNUSED {
            return Err(OfferError::TooMany { most: MAX_UNUSED });
        }
        let needed = files_of(&new)?;
        let kept = place.contents(&needed).map_err(place.failed())?;
        let mut lacking = Vec::new();
        let mut to_come: u64 = 0;
        for (digest, size_bytes) in &needed {
            // What has no content needs not be sent.
            if *size_bytes == 0 || kept.contains_key(digest) {
                continue;
            }
            let have_bytes = place.have(digest, *size_bytes).map_err(place.failed())?;
            if have_bytes == *size_bytes {
                continue;
            }
            to_come = to_come.saturating_add(size_bytes - have_bytes);
            lacking.push(Lacking {
                digest: *digest,
                have_bytes,
            });
        }
        let bytes = new.iter().map(|(_, tree)| tree.bytes());
        let bytes = bytes.fold(to_come, u64::saturating_add);
        let entries = new.iter().map(|(_, tree)| tree.entries.len());
        let files = entries.fold(lacking.len(), usize::saturating_add) as u64;
        let bytes = bytes.saturating_add(files.saturating_mul(ENTRY_BYTES));
        place.check_room(bytes, files)?;
        if !lacking.is_empty() {
            if wanted.files.len() + lacking.len() > MAX_WANTED {
                wanted.files.clear();
            }
            self.forget_others(owner, wanted.files.len() + lacking.len(), MAX_WANTED_OF_ALL);
            let sizes = lacking
                .iter()
                .map(|file| (file.digest, needed[&file.digest]));
            wanted.files.extend(sizes);
            wanted.offered = Some(Instant::now());
            return Ok(Offered { unknown, lacking });
        }
        for (id, tree) in &new {
            make::tree(&place, id, tree, &kept)?;
        }
        for digest in needed.keys() {
            wanted.files.remove(digest);
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
        let mut wanted = lock(&state.wanted);
        let place = Place(self.of(owner));
        let digest = piece.digest;
        let Some(size_bytes) = wanted.files.get(&digest).copied() else {
            return Err(PutError::Unawaited { digest });
        };
        let path = place.part(&digest);
        let failed = |source| PutError::Io {
            path: path.clone(),
            source,
        };
        // Others may have used since what there was at the offer.
        let bytes = (piece.bytes.len() as u64).saturating_add(ENTRY_BYTES);
        if let Some(lack) = place.lack(bytes, 1).map_err(failed)? {
            return Err(PutError::NoRoom(lack));
        }
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
        if !place.complete(&digest).map_err(failed)? {
            return Err(PutError::Differs { digest });
        }
        wanted.files.remove(&digest);
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
        *lock(&state.held) += 1;
        Held(state)
    }

    /// Remembers the trees of the last deployment: they stay, so that the next sends what is new. They are
    /// held meanwhile ([`Self::hold`]).
    pub fn remember(&self, owner: &str, trees: &BTreeSet<Digest>) -> io::Result<()> {
        let state = self.owner(owner);
        let _one_at_a_time = lock(&state.latest);
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
    /// still there, so that its last deployment counts. What fails is told, and the rest removed. Nothing is
    /// while something is being sent.
    pub fn sweep(
        &self,
        owner: &str,
        used: &BTreeSet<Digest>,
        known: bool,
        now: SystemTime,
    ) -> Vec<SweepError> {
        let state = self.owner(owner);
        let mut errors = Vec::new();
        let Some(_nothing_is_sent) = try_lock(&state.wanted) else {
            return errors;
        };
        if *lock(&state.held) > 0 {
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
                        // Who holds it from here on finds that it is gone.
                        let unheld = match *lock(&state.held) {
                            0 => place.unname(&id).map(Some),
                            _ => Ok(None),
                        };
                        told(&path, unheld.and_then(|gone| place.remove(&id, gone)));
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
        let held = lock(&state.held);
        let is_empty = || place.listed("trees").is_empty() && place.listed("parts").is_empty();
        if *held == 0 && !known && is_empty() {
            told(&place.0, remove(&place.0));
        }
        errors
    }

    fn owner(&self, owner: &str) -> Arc<Owner> {
        debug_assert!(is_owner(owner), "{owner:?} is no name of a folder");
        let mut owners = lock(&self.owners);
        let now = Instant::now();
        // Whose only place is in the list nobody has locked.
        owners.retain(|_, own| Arc::strong_count(own) > 1 || lock(&own.wanted).is_awaited(now));
        Arc::clone(owners.entry(owner.to_owned()).or_default())
    }

    /// Forgets what others wanted longest ago, so that with `own` files of this owner there are at most `most`.
    /// Those that send just now keep theirs.
    fn forget_others(&self, owner: &str, own: usize, most: usize) {
        let owners = lock(&self.owners);
        let others = owners.iter().filter(|(name, _)| *name != owner);
        let mut others: Vec<_> = others
            .filter_map(|(_, own)| try_lock(&own.wanted))
            .collect();
        let of_others = others.iter().map(|wanted| wanted.files.len());
        let mut all = of_others.fold(own, usize::saturating_add);
        others.sort_by_key(|wanted| wanted.offered);
        for wanted in &mut others {
            if all <= most {
                return;
            }
            all -= std::mem::take(&mut wanted.files).len();
        }
    }
}

/// Files of trees, with their lengths. The same content has one length.
fn files_of(trees: &[(Digest, Tree)]) -> Result<BTreeMap<Digest, u64>, TreeError> {
    let mut files = BTreeMap::new();
    for (_, tree) in trees {
        for entry in &tree.entries {
            let Node::File { size_bytes, digest } = entry.node else {
                continue;
            };
            if *files.entry(digest).or_insert(size_bytes) != size_bytes {
                return Err(TreeError::two_lengths(&entry.path));
            }
        }
    }
    Ok(files)
}

/// What a disk has no room for. It keeps some free for all else.
fn lack_on(disk: &StatVfs, bytes: u64, files: u64) -> Option<NoRoom> {
    let share = disk.f_blocks.saturating_mul(disk.f_frsize) / FREE_SHARE;
    let keep = share.clamp(LEAST_FREE_BYTES, MOST_FREE_BYTES);
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let room = free.saturating_sub(keep);
    if bytes > room {
        let needed = bytes;
        return Some(NoRoom::Bytes { needed, room });
    }
    // Some file systems have as many as there are bytes for, and say 0.
    let keep = (disk.f_files / FREE_SHARE).min(MOST_FREE_FILES);
    let room = disk.f_favail.saturating_sub(keep);
    let needed = files;
    (disk.f_files > 0 && needed > room).then_some(NoRoom::Files { needed, room })
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

    /// How much there is of a file of this length. What cannot be its begin is removed.
    fn have(&self, digest: &Digest, size_bytes: u64) -> io::Result<u64> {
        match fs::metadata(self.whole(digest)) {
            Ok(whole) if whole.len() == size_bytes => return Ok(size_bytes),
            Ok(_) => self.drop_whole(digest)?,
            Err(_) => {}
        }
        let part = self.part(digest);
        let have_bytes = fs::metadata(&part).map_or(0, |found| found.len());
        // Somebody died before it got its name.
        if have_bytes == size_bytes {
            return Ok(if self.complete(digest)? {
                size_bytes
            } else {
                0
            });
        }
        if have_bytes > size_bytes {
            fs::remove_file(&part)?;
            return Ok(0);
        }
        Ok(have_bytes)
    }

    /// Calls a part whole, of which nothing more is to come; `false`: it is something else, and gone.
    fn complete(&self, digest: &Digest) -> io::Result<bool> {
        let part = self.part(digest);
        let mut file = File::open(&part)?;
        if hash(&mut file)? != *digest {
            fs::remove_file(&part)?;
            return Ok(false);
        }
        // It is not looked at again: what has the name is on the disk.
        file.sync_data()?;
        fs::rename(&part, self.whole(digest))?;
        Ok(true)
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

    /// Where such files are in the trees that are there. The latest are the likeliest to have them, and no
    /// more is read than it takes.
    fn contents(&self, needed: &BTreeMap<Digest, u64>) -> io::Result<BTreeMap<Digest, PathBuf>> {
        let mut contents = BTreeMap::new();
        let mut trees = self.trees();
        trees.sort_by_key(|tree| std::cmp::Reverse(tree.2));
        for (path, id, _) in trees {
            if contents.len() == needed.len() {
                break;
            }
            let tree: Tree = serde_json::from_slice(&fs::read(self.manifest(&id))?)?;
            for entry in tree.entries {
                if let Node::File { digest, .. } = entry.node
                    && needed.contains_key(&digest)
                {
                    contents.insert(digest, path.join(entry.path));
                }
            }
        }
        Ok(contents)
    }

    /// The trees that are there: path, name, when each was last asked for.
    fn trees(&self) -> Vec<(PathBuf, Digest, SystemTime)> {
        let listed = self.listed("trees").into_iter();
        let trees = listed.filter_map(|(path, name, changed)| {
            let id = name.parse().ok()?;
            let asked = modified(&self.manifest(&id)).unwrap_or(changed);
            Some((path, id, asked))
        });
        trees.collect()
    }

    /// How many trees are there for their grace alone, at most.
    fn unused(&self, now: SystemTime) -> usize {
        let latest = self.read_latest();
        let graced = |(_, id, asked): &(PathBuf, Digest, SystemTime)| {
            !latest.contains(id) && stays(false, *asked, now, GRACE)
        };
        self.trees().iter().filter(|tree| graced(tree)).count()
    }

    fn check_room(&self, bytes: u64, files: u64) -> Result<(), OfferError> {
        match self.lack(bytes, files).map_err(self.failed())? {
            Some(lack) => Err(lack.into()),
            None => Ok(()),
        }
    }

    /// What the disk has no room for, of what is to come.
    fn lack(&self, bytes: u64, files: u64) -> io::Result<Option<NoRoom>> {
        Ok(lack_on(&statvfs(&self.0)?, bytes, files))
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

    /// Takes a tree its name, and says where it is: what is half removed is no tree.
    fn unname(&self, id: &Digest) -> io::Result<PathBuf> {
        let gone = self.0.join("trees").join(format!("{id}.gone"));
        fs::rename(self.tree(id), &gone)?;
        Ok(gone)
    }

    /// Removes a tree without a name; `None`: it has kept it.
    fn remove(&self, id: &Digest, gone: Option<PathBuf>) -> io::Result<()> {
        let Some(gone) = gone else { return Ok(()) };
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

/// `None`: somebody has it.
fn try_lock<T>(value: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match value.try_lock() {
        Ok(value) => Some(value),
        Err(TryLockError::Poisoned(value)) => Some(value.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_uses_trees_waits_for_nobody_who_sends() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().join("sources"));
        let owner = store.owner("shop.production");
        store.offer("shop.production", Vec::new()).unwrap();
        // As a copy has it.
        let _copying = lock(&owner.wanted);
        let held = store.hold("shop.production");
        store.remember("shop.production", &BTreeSet::new()).unwrap();
        drop(held);
        let swept = store.sweep(
            "shop.production",
            &BTreeSet::new(),
            false,
            SystemTime::now(),
        );
        assert!(swept.is_empty(), "{swept:?}");
        assert!(store.of("shop.production").exists());
    }

    #[test]
    fn no_more_trees_are_sent_than_anybody_uses() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().join("sources"));
        store.offer("shop.production", Vec::new()).unwrap();
        let place = Place(store.of("shop.production"));
        let trees: BTreeSet<Digest> = (0..MAX_UNUSED)
            .map(|number| Digest::of(&number.to_le_bytes()))
            .collect();
        for id in &trees {
            fs::create_dir(place.tree(id)).unwrap();
            fs::write(place.manifest(id), r#"{"entries":[]}"#).unwrap();
        }
        let offer = || {
            let root = crate::tree::Entry {
                path: String::new(),
                mode: 0o755,
                modified: 0,
                modified_nanos: 0,
                node: Node::Folder,
            };
            let tree = Tree {
                entries: vec![root],
            };
            let offer = Offer {
                id: tree.digest(),
                tree: Some(tree),
            };
            store.offer("shop.production", vec![offer])
        };
        let refused = offer();
        assert!(
            matches!(refused, Err(OfferError::TooMany { .. })),
            "{refused:?}"
        );
        // Those of the last deployment are used.
        store.remember("shop.production", &trees).unwrap();
        assert_eq!(offer().unwrap(), Offered::default());
    }

    #[test]
    fn nobody_is_awaited_forever_or_in_any_number() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().join("sources"));
        let offer = |owner: &str| {
            let entry = |path: &str, node| crate::tree::Entry {
                path: path.to_owned(),
                mode: 0o755,
                modified: 0,
                modified_nanos: 0,
                node,
            };
            let (size_bytes, digest) = (7, Digest::of(b"content"));
            let file = Node::File { size_bytes, digest };
            let tree = Tree {
                entries: vec![entry("", Node::Folder), entry("file", file)],
            };
            let offer = Offer {
                id: tree.digest(),
                tree: Some(tree),
            };
            let offered = store.offer(owner, vec![offer]).unwrap();
            assert_eq!(offered.lacking.len(), 1);
        };
        let put = |owner: &str| {
            let (digest, offset) = (Digest::of(b"content"), 0);
            let bytes = b"con";
            store.put(
                owner,
                &Piece {
                    digest,
                    offset,
                    bytes,
                },
            )
        };
        let known = || lock(&store.owners).keys().cloned().collect::<Vec<_>>();

        // Who has offered nothing is not remembered.
        for number in 0..9 {
            assert!(put(&format!("shop.pr-{number}")).is_err());
        }
        offer("shop.a");
        assert_eq!(known(), ["shop.a"]);
        offer("shop.b");
        offer("shop.c");
        store.forget_others("shop.c", 1, 2);
        let unawaited = put("shop.a");
        assert!(
            matches!(unawaited, Err(PutError::Unawaited { .. })),
            "{unawaited:?}"
        );
        assert_eq!(put("shop.b").unwrap(), 3);
        assert_eq!(known(), ["shop.b", "shop.c"]);
        // Who sends just now goes on.
        let b = store.owner("shop.b");
        let sending = lock(&b.wanted);
        store.forget_others("shop.a", 9, 1);
        assert_eq!(sending.files.len(), 1);
        assert!(put("shop.c").is_err());

        let (now, later) = (Instant::now(), Instant::now() + PART_GRACE);
        assert!(sending.is_awaited(now) && !sending.is_awaited(later));
    }

    #[test]
    fn some_of_the_disk_stays_free_of_bytes_and_of_files() {
        const GIB: u64 = 1 << 30;
        let folder = tempfile::tempdir().unwrap();
        let mut disk = statvfs(folder.path()).unwrap();
        (disk.f_frsize, disk.f_blocks, disk.f_bavail) = (4096, 100 * GIB / 4096, 3 * GIB / 4096);
        (disk.f_files, disk.f_favail) = (1000, 60);
        assert_eq!(lack_on(&disk, 2 * GIB, 10), None);
        let (needed, room) = (2 * GIB + 1, 2 * GIB);
        let lack = Some(NoRoom::Bytes { needed, room });
        assert_eq!(lack_on(&disk, needed, 10), lack);
        let (needed, room) = (11, 10);
        let lack = Some(NoRoom::Files { needed, room });
        assert_eq!(lack_on(&disk, 0, needed), lack);
        // As many as there are bytes for.
        (disk.f_files, disk.f_favail) = (0, 0);
        assert_eq!(lack_on(&disk, 0, needed), None);
    }
}
