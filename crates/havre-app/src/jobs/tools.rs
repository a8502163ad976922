//! Tools that jobs keep for later ones: of each ref its own, which that ref alone adds to; all see those of the default
//! branch.
//!
//! ```text
//! <dir>/<project>/<digest of ref>/NAME/VERSION/ARCHITECTURE
//! <dir>/<project>/<digest of ref>.ref      the ref; changed when it was last used
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use havre_box::Tools;
use sha2::{Digest as _, Sha256};

/// How long those of a ref are kept that nobody uses.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// A job that begins is not in sight yet.
const BEGINS: Duration = Duration::from_secs(600);
const MARK: &str = "ref";
/// Longest ref that is noted.
const MAX_REF: u64 = 4096;
/// Tools of a ref that are named.
const NAMED: usize = 100;

/// All that is kept.
#[derive(Clone)]
pub(crate) struct ToolCaches {
    dir: PathBuf,
    /// Bytes of a project, and of one of its refs.
    most: u64,
    /// Held while a place is chosen, or goes.
    one: Arc<Mutex<()>>,
}

/// Tools that are kept of a ref.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// To remove them by.
    pub(crate) id: i64,
    pub(crate) scope: String,
    /// `NAME VERSION`.
    pub(crate) names: Vec<String>,
    pub(crate) bytes: u64,
    pub(crate) used: SystemTime,
    folder: PathBuf,
}

impl ToolCaches {
    pub(crate) fn new(dir: PathBuf, most: u64) -> Self {
        Self {
            dir,
            most,
            one: Arc::default(),
        }
    }

    /// What a job sees and adds to. `scopes` are refs, its own first; a job that `adds` nothing sees all the same.
    pub(crate) fn of_job(&self, project: &str, scopes: &[&str], adds: bool) -> io::Result<Tools> {
        let _one = self.lock();
        fs::create_dir_all(&self.dir)?;
        let dir = fs::canonicalize(&self.dir)?.join(project);
        fs::create_dir_all(&dir)?;
        let mut shown: Vec<PathBuf> = Vec::new();
        for scope in scopes.iter().skip(usize::from(!adds)) {
            let folder = dir.join(name_of(scope));
            if shown.contains(&folder) {
                continue;
            }
            // Its time is when it was last used.
            fs::write(folder.with_extension(MARK), scope)?;
            fs::create_dir_all(&folder)?;
            shown.push(folder);
        }
        Ok(Tools {
            keep: shown.first().filter(|_| adds).cloned(),
            shown,
            most: self.most,
        })
    }

    /// What is kept of a project, the last used first.
    pub(crate) fn list(&self, project: &str) -> io::Result<Vec<Kept>> {
        let mut all = Vec::new();
        let entries = match fs::read_dir(self.dir.join(project)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(all),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let mark = entry?.path();
            if mark.extension().is_some_and(|it| it == MARK) {
                all.push(kept(&mark)?);
            }
        }
        all.sort_by_key(|it| std::cmp::Reverse(it.used));
        Ok(all)
    }

    /// Removes those of an id; `false`: there are none, or a job uses them.
    pub(crate) fn remove(
        &self,
        project: &str,
        id: i64,
        used: &BTreeSet<PathBuf>,
    ) -> io::Result<bool> {
        let _one = self.lock();
        let found = self.list(project)?.into_iter().find(|it| it.id == id);
        let found = found.filter(|it| !used.contains(&it.folder));
        found.map_or(Ok(false), |it| remove(&it).map(|()| true))
    }

    /// Removes what nobody used for long, and what is more than a project may keep, the least used first.
    pub(crate) fn tend(&self, used: &BTreeSet<PathBuf>) -> io::Result<()> {
        let projects = match fs::read_dir(&self.dir) {
            Ok(projects) => projects,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for project in projects {
            let project = project?;
            let _one = self.lock();
            remove_strays(&project.path(), used)?;
            let all = self.list(&project.file_name().to_string_lossy())?;
            for gone in too_much(all, self.most, SystemTime::now(), used) {
                tracing::info!(
                    scope = gone.scope,
                    bytes = gone.bytes,
                    "tools of jobs go to make room"
                );
                remove(&gone)?;
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.one.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which go: not used for long, or beyond `most` counted from the last used on.
fn too_much(all: Vec<Kept>, most: u64, now: SystemTime, used: &BTreeSet<PathBuf>) -> Vec<Kept> {
    let mut bytes = 0_u64;
    let beyond = |it: &Kept| {
        bytes = bytes.saturating_add(it.bytes);
        let age = now.duration_since(it.used).unwrap_or_default();
        let goes = bytes > most || age > KEPT;
        goes && age > BEGINS && !used.contains(&it.folder)
    };
    all.into_iter().filter(beyond).collect()
}

fn kept(mark: &Path) -> io::Result<Kept> {
    let folder = mark.with_extension("");
    let mut names = Vec::new();
    for tool in fs::read_dir(&folder).into_iter().flatten().flatten() {
        for version in fs::read_dir(tool.path()).into_iter().flatten().flatten() {
            if names.len() < NAMED {
                let (tool, version) = (tool.file_name(), version.file_name());
                names.push(format!(
                    "{} {}",
                    tool.to_string_lossy(),
                    version.to_string_lossy()
                ));
            }
        }
    }
    names.sort();
    Ok(Kept {
        id: id_of(&folder),
        scope: havre_base::read_small(mark, MAX_REF)?,
        names,
        bytes: havre_box::disk_of(&folder)?,
        used: fs::metadata(mark)?.modified()?,
        folder,
    })
}

/// A number that no cache of artifacts has.
fn id_of(folder: &Path) -> i64 {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let digits = name.get(..8).unwrap_or_default();
    i64::from(u32::from_str_radix(digits, 16).unwrap_or_default()) + (1 << 40)
}

fn remove(kept: &Kept) -> io::Result<()> {
    fs::remove_file(kept.folder.with_extension(MARK))?;
    havre_image::remove_tree(&kept.folder)
}

/// What is no ref's: of an interrupted removal, or of a version that kept those of all refs together.
fn remove_strays(project: &Path, used: &BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(project)? {
        let path = entry?.path();
        let is_mark = path.extension().is_some_and(|it| it == MARK);
        let is_known = is_mark || path.with_extension(MARK).is_file();
        if !is_known && !used.contains(&path) {
            havre_image::remove_tree(&path)?;
        }
    }
    Ok(())
}

fn name_of(scope: &str) -> String {
    let digest = Sha256::digest(scope.as_bytes());
    digest[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIN: &str = "refs/heads/main";
    const BRANCH: &str = "refs/heads/x";

    fn caches(dir: &Path) -> ToolCaches {
        ToolCaches::new(dir.join("tools"), 1000)
    }

    #[test]
    fn a_ref_adds_to_its_own_and_sees_the_default_branchs() {
        let dir = tempfile::tempdir().unwrap();
        let caches = caches(dir.path());
        let main = caches.of_job("shop", &[MAIN], true).unwrap();
        assert_eq!(
            (main.shown.len(), main.keep.as_ref()),
            (1, main.shown.first())
        );
        let branch = caches.of_job("shop", &[BRANCH, MAIN], true).unwrap();
        assert_eq!(branch.shown[1..], main.shown);
        assert_eq!(branch.keep.as_ref(), branch.shown.first());
        assert_ne!(branch.keep, main.keep);
        // From outside of the repository: it sees what is there, and leaves nothing.
        let foreign = caches
            .of_job("shop", &["refs/pull/1", MAIN], false)
            .unwrap();
        assert_eq!((&foreign.shown, &foreign.keep), (&main.shown, &None));
        let other = caches.of_job("other", &[MAIN], true).unwrap();
        assert_ne!(other.keep, main.keep);
    }

    #[test]
    fn what_is_kept_is_listed_bounded_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let caches = caches(dir.path());
        for scope in [MAIN, BRANCH] {
            let tools = caches.of_job("shop", &[scope], true).unwrap();
            let place = tools.keep.unwrap().join("node/22.1.0/x64");
            fs::create_dir_all(&place).unwrap();
            fs::write(place.join("node"), vec![1; 4000]).unwrap();
        }
        fs::create_dir_all(dir.path().join("tools/shop/node/20.0.0")).unwrap();
        let all = caches.list("shop").unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].names, ["node 22.1.0"]);
        assert!(all.iter().all(|it| it.bytes >= 4000), "{all:?}");
        let nobody = BTreeSet::new();
        // Both were used just now.
        caches.tend(&nobody).unwrap();
        assert_eq!(caches.list("shop").unwrap(), all);
        assert!(!dir.path().join("tools/shop/node").exists());
        let later = SystemTime::now() + Duration::from_secs(3600);
        let goes = |used: &BTreeSet<PathBuf>, most| {
            let gone = too_much(all.clone(), most, later, used);
            gone.into_iter().map(|it| it.scope).collect::<Vec<_>>()
        };
        let first = all[0].bytes;
        assert_eq!(goes(&nobody, first), [all[1].scope.clone()]);
        assert_eq!(goes(&nobody, first * 2), [""; 0]);
        assert_eq!(goes(&[all[1].folder.clone()].into(), first), [""; 0]);
        assert!(caches.remove("shop", all[0].id, &nobody).unwrap());
        assert!(!caches.remove("shop", all[0].id, &nobody).unwrap());
        assert_eq!(caches.list("shop").unwrap(), all[1..]);
    }
}
