//! The machine's own programs, as boxes see them.
//!
//! ```text
//! /            a folder of ours: /etc and small state of packages copied, all else empty   (cached)
//! /usr /opt …  a read-only mount of the machine's, below a layer that hides what not everybody may read
//! ```
//! Root of a box is shown the machine's root's files as its own, and may read whatever it is shown. So what not everybody may
//! read on the machine is not there: no file without `o+r`, no folder without `o+rx`, no socket, pipe or device.
//! `/etc` is copied, since that is where secrets come and go: none that comes later is seen. In the other
//! folders, what is made secret after the look is hidden from boxes that start after the next one.
//!
//! Nothing else of the machine is there: no home folders, nothing of `/srv`, `/mnt`, `/run`, `/tmp`, and of `/var`
//! the state of packages only. A look takes some hundred milliseconds, so it is kept for five minutes, and then
//! replaced behind the back of who asks.

mod copy;
mod fresh;
mod trust;
mod walk;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use havre_engine::MountSpec;
use havre_image::overlay::Writable;

/// How long a look is good for.
const KEPT: Duration = Duration::from_secs(300);

/// Folders of the machine that are shown where they are.
const SHOWN: [&str; 8] = [
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt",
];
/// State of packages, for those that a job installs.
const STATE: [&str; 2] = ["/var/lib/dpkg", "/var/lib/apt"];
/// What is copied.
const COPIED: [&str; 6] = [
    "/etc",
    "/var/cache/debconf",
    "/var/lib/ucf",
    "/var/lib/pam",
    "/var/lib/xml-core",
    "/var/lib/sgml-base",
];
/// Never shown, whatever its mode.
const SECRET: [&str; 9] = [
    "/etc/havre",
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/ssl/private",
    "/etc/letsencrypt",
];
/// Of each box, not of the machine.
const OWN: [&str; 4] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/hostname",
    "/etc/mtab",
];

/// The machine's files could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum GroundError {
    /// A file or folder.
    #[error("cannot {what} {}", path.display())]
    File {
        /// Verb.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Changes cannot be kept in a folder that is shown.
    #[error("boxes cannot be kept in {}: they are shown what is in {below}", path.display())]
    Shown {
        /// Where they were to be.
        path: PathBuf,
        /// What is shown.
        below: &'static str,
    },
    /// More than is looked at.
    #[error("{} has more than {most} {what}", path.display())]
    TooMuch {
        /// The folder.
        path: PathBuf,
        /// Of what.
        what: &'static str,
        /// How much is.
        most: u64,
    },
}

impl GroundError {
    fn file<E: Into<io::Error>>(what: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        let path = path.to_owned();
        move |source| Self::File {
            what,
            path,
            source: source.into(),
        }
    }
}

/// Looks at the machine, kept for a while.
#[derive(Debug)]
pub struct Grounds {
    dir: PathBuf,
    hidden: BTreeSet<PathBuf>,
    trusted: Option<PathBuf>,
    current: Mutex<Current>,
    /// Held while a look is chosen and noted.
    claims: Mutex<()>,
}

#[derive(Debug, Default)]
struct Current {
    ground: Option<Arc<Ground>>,
    /// Somebody looks already.
    looking: bool,
}

/// What one look has found.
#[derive(Debug)]
pub(crate) struct Ground {
    /// Its folder's name, below that of all.
    pub name: String,
    dir: PathBuf,
    parts: Vec<Part>,
    at: Instant,
}

/// A folder of the machine, with what hides some of it.
#[derive(Debug)]
struct Part {
    path: &'static str,
    mask: Option<PathBuf>,
}

impl Grounds {
    /// Keeps looks in `dir`. `hidden` are absolute paths that are never shown, whatever their mode.
    pub fn new(
        dir: PathBuf,
        hidden: impl IntoIterator<Item = PathBuf>,
    ) -> Result<Self, GroundError> {
        fs::create_dir_all(&dir).map_err(GroundError::file("make", &dir))?;
        // What is mounted has no links in its path.
        let dir = fs::canonicalize(&dir).map_err(GroundError::file("find", &dir))?;
        refuse_shown(&dir)?;
        // Of a predecessor that was killed while it looked, or removed.
        for entry in fs::read_dir(&dir).map_err(GroundError::file("list", &dir))? {
            let path = entry.map_err(GroundError::file("list", &dir))?.path();
            if path
                .file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
            {
                havre_image::remove_tree(&path).map_err(GroundError::file("remove", &path))?;
            }
        }
        let mut all: BTreeSet<PathBuf> = SECRET.iter().map(PathBuf::from).collect();
        for path in hidden.into_iter().chain([dir.clone()]) {
            // By whatever name it is found.
            all.extend(fs::canonicalize(&path).ok());
            all.insert(path);
        }
        Ok(Self {
            dir,
            hidden: all,
            trusted: None,
            current: Mutex::default(),
            claims: Mutex::default(),
        })
    }

    /// Boxes trust the certificate in this file too, where it is there when the machine is looked at.
    pub fn trusting(mut self, certificate: PathBuf) -> Self {
        self.trusted = Some(certificate);
        self
    }

    /// The newest look, noted at `note` as in use; blocks where there is none. The other is whether it is old: then
    /// it is good for the last time, and [`Grounds::renew`] is due, by the one who is told so.
    pub(crate) fn claim(&self, note: &Path) -> Result<(Arc<Ground>, bool), GroundError> {
        // Not swept before it is noted; and who comes while somebody looks needs not look too.
        let _claim = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        let (ground, old) = self.get()?;
        fs::write(note, &ground.name).map_err(GroundError::file("write", note))?;
        Ok((ground, old))
    }

    /// Looks now, unless it was looked before.
    pub(crate) fn warm(&self) -> Result<(), GroundError> {
        let _claim = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        self.get().map(drop)
    }

    fn get(&self) -> Result<(Arc<Ground>, bool), GroundError> {
        {
            let mut current = self.current();
            if let Some(ground) = current.ground.clone() {
                let age = ground.at.elapsed();
                if age <= KEPT {
                    let due = age > KEPT / 2 && !current.looking;
                    current.looking |= due;
                    return Ok((ground, due));
                }
                // What became secret since must not be shown, however long nobody came.
            }
        }
        let ground = Arc::new(self.look()?);
        self.current().ground = Some(Arc::clone(&ground));
        Ok((ground, false))
    }

    /// Looks anew. Blocks.
    pub(crate) fn renew(&self) {
        let found = self.look();
        let mut current = self.current();
        current.looking = false;
        match found {
            Ok(ground) => current.ground = Some(Arc::new(ground)),
            Err(error) => {
                // The next box looks itself, and says why it cannot.
                current.ground = None;
                tracing::warn!(
                    error = havre_base::one_line(&error),
                    "cannot look at this machine's files"
                );
            }
        }
    }

    /// Removes looks that are in no box's name, and not the newest. Blocks.
    pub(crate) fn sweep(
        &self,
        used: impl FnOnce() -> io::Result<BTreeSet<String>>,
    ) -> Vec<io::Error> {
        self.set_aside(used).unwrap_or_else(|error| vec![error])
    }

    fn set_aside(
        &self,
        used: impl FnOnce() -> io::Result<BTreeSet<String>>,
    ) -> io::Result<Vec<io::Error>> {
        let claim = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        let used = used()?;
        let newest = self.current().ground.as_ref().map(|it| it.name.clone());
        let mut aside = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            // One that is being made, or removed, has a dot.
            if name.starts_with('.') || used.contains(&name) || newest.as_ref() == Some(&name) {
                continue;
            }
            let hidden = self.dir.join(format!(".old-{name}"));
            fs::rename(self.dir.join(&name), &hidden)?;
            aside.push(hidden);
        }
        drop(claim);
        let removed = aside.iter().map(|path| havre_image::remove_tree(path));
        Ok(removed.filter_map(Result::err).collect())
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        // Each change is whole.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks now.
    fn look(&self) -> Result<Ground, GroundError> {
        let made = new_name();
        let unfinished = self.dir.join(format!(".{made}"));
        let result = self.look_into(&unfinished, &made);
        if result.is_err()
            && let Err(error) = havre_image::remove_tree(&unfinished)
        {
            tracing::warn!(%error, "cannot remove a look at this machine's files");
        }
        result
    }

    fn look_into(&self, unfinished: &Path, name: &str) -> Result<Ground, GroundError> {
        let root = unfinished.join("root");
        fs::create_dir_all(&root).map_err(GroundError::file("make", &root))?;
        fresh::skeleton(&root)?;
        for path in COPIED {
            let secret = |path: &Path| {
                let own = OWN.iter().any(|own| path == Path::new(own));
                own || self.hidden.contains(path)
            };
            copy::tree(Path::new(path), &root, &secret)?;
        }
        fresh::accounts(&root)?;
        if let Some(certificate) = &self.trusted {
            trust::add(&root, certificate)?;
        }
        let mut parts = Vec::new();
        for path in SHOWN.into_iter().chain(STATE) {
            let Some(found) = self.part(path, &root, unfinished)? else {
                continue;
            };
            parts.push(found);
        }
        let dir = self.dir.join(name);
        fs::rename(unfinished, &dir).map_err(GroundError::file("keep", &dir))?;
        for part in &mut parts {
            let moved = part.mask.take();
            part.mask = moved.map(|mask| dir.join(mask.strip_prefix(unfinished).unwrap_or(&mask)));
        }
        Ok(Ground {
            name: name.to_owned(),
            dir,
            parts,
            at: Instant::now(),
        })
    }

    /// A folder is mounted, a link copied.
    fn part(
        &self,
        path: &'static str,
        root: &Path,
        unfinished: &Path,
    ) -> Result<Option<Part>, GroundError> {
        let source = Path::new(path);
        let target = root.join(path.trim_start_matches('/'));
        let meta = match fs::symlink_metadata(source) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(GroundError::file("look at", source)(error)),
        };
        if meta.is_symlink() {
            let to = fs::read_link(source).map_err(GroundError::file("read", source))?;
            std::os::unix::fs::symlink(to, &target).map_err(GroundError::file("make", &target))?;
            return Ok(None);
        }
        let above = self.hidden.iter().any(|hidden| source.starts_with(hidden));
        if !meta.is_dir() || above || walk::judge(&meta) == walk::Verdict::Hide {
            return Ok(None);
        }
        fresh::folder(&target, 0o755)?;
        let mask = unfinished
            .join("masks")
            .join(path.trim_start_matches('/').replace('/', "."));
        let hides = walk::mask(source, &mask, &|path| self.hidden.contains(path))?;
        Ok(Some(Part {
            path,
            mask: hides.then_some(mask),
        }))
    }
}

/// Refuses a folder, without links in its path, that boxes would be shown: an overlay takes none of its own parts.
pub(crate) fn refuse_shown(dir: &Path) -> Result<(), GroundError> {
    let mut shown = SHOWN.into_iter().chain(STATE);
    match shown.find(|shown| dir.starts_with(shown)) {
        None => Ok(()),
        Some(below) => Err(GroundError::Shown {
            path: dir.to_owned(),
            below,
        }),
    }
}

/// Names what is made now, unlike all before.
fn new_name() -> String {
    let now = std::time::SystemTime::now();
    let since = now
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    format!("{}-{}", since.as_nanos(), std::process::id())
}

impl Ground {
    /// The layer of the root file system.
    pub fn lower(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// What is mounted in it; `writable` makes folders for the changes of one.
    pub fn mounts(
        &self,
        mut writable: impl FnMut(&str) -> io::Result<Writable>,
    ) -> io::Result<Vec<MountSpec>> {
        let mount = |part: &Part| {
            let name = part.path.trim_start_matches('/').replace('/', ".");
            Ok(MountSpec::Layers {
                lower: part
                    .mask
                    .iter()
                    .cloned()
                    .chain([part.path.into()])
                    .collect(),
                upper: Some(writable(&name)?),
                target: part.path.to_owned(),
                owner: (0, 0),
            })
        };
        self.parts.iter().map(mount).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_not_kept_in_what_they_see() {
        for shown in ["/usr/local/havre", "/opt", "/var/lib/dpkg/x"] {
            let error = refuse_shown(Path::new(shown)).expect_err(shown);
            assert!(error.to_string().contains(shown), "{error}");
        }
        for own in ["/var/lib/havre", "/srv/havre", "/optional"] {
            assert!(refuse_shown(Path::new(own)).is_ok(), "{own}");
        }
    }
}
