//! What killed containers, builds and daemons have left: out of the way before anything is served,
//! removed while it is.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use havre_image::{Images, remove_all_in, set_aside};

use crate::root::Root;

/// Where such folders wait, beside those they were among: on the same disk, under a name that no
/// container has.
const ASIDE: &str = ".leftovers";

/// Folders that wait for their end.
pub(crate) struct Leftovers {
    aside: Vec<PathBuf>,
    images: Images,
}

impl Leftovers {
    /// Takes the folders of containers out of the way that the engine knows nothing of, and those
    /// of steps of builds and of repositories, of which none is in use.
    pub(crate) fn set_aside(root: &Root, images: &Images) -> Self {
        let containers = root.run_dir().join("c");
        // One that cannot be looked for is there.
        let known = |name: &OsStr| containers.join(name).try_exists().unwrap_or(true);
        let state = root.state_dir();
        let aside = vec![
            move_all(&state.join("containers"), known),
            move_all(&state.join("build"), |_| false),
            move_all(&root.git_dir(), |_| false),
        ];
        // A version before kept the secrets of steps there, in clear.
        let secrets = root.run_dir().join("build");
        if let Err(error) = havre_image::remove_tree(&secrets) {
            tracing::warn!(path = %secrets.display(), %error, "secrets of builds stay");
        }
        let images = images.clone();
        Self { aside, images }
    }

    /// Removes them, on a thread of its own that ends with the process: the next daemon goes on.
    pub(crate) fn remove(self) {
        let work = move || {
            let mut folders: Vec<&Path> = self.aside.iter().map(PathBuf::as_path).collect();
            let images = self.images.set_aside();
            folders.push(&images);
            folders.retain(|folder| has_some(folder));
            if folders.is_empty() {
                return;
            }
            tracing::info!("removing what killed containers and builds have left");
            for (path, error) in folders.into_iter().flat_map(remove_all_in) {
                tracing::warn!(path = %path.display(), %error, "leftover stays");
            }
            tracing::info!("removed what killed containers and builds had left");
        };
        let thread = std::thread::Builder::new().name("leftovers".into());
        if let Err(error) = thread.spawn(work) {
            tracing::warn!(%error, "what killed containers and builds have left stays");
        }
    }
}

fn move_all(dir: &Path, keep: impl Fn(&OsStr) -> bool) -> PathBuf {
    let aside = dir.join(ASIDE);
    if let Err(error) = set_aside(dir, &aside, keep) {
        tracing::warn!(path = %dir.display(), %error, "leftovers stay where they are");
    }
    aside
}

fn has_some(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_builds_of_a_version_before_are_removed() {
        let stage = crate::fake::Stage::new();
        let platform = &stage.daemon.platform;
        let folder = platform.root.run_dir().join("build");
        std::fs::create_dir_all(folder.join("1")).expect("made");
        std::fs::write(folder.join("1/key"), "secret").expect("written");
        for _ in 0..2 {
            Leftovers::set_aside(&platform.root, &platform.images);
            assert!(!folder.exists());
        }
    }
}
