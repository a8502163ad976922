//! The files of a box: folders for what it changes, and what of the host is mounted in it.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use havre_engine::{IdRange, MountSpec};
use havre_image::overlay::{Overlay, Writable};
use havre_job::paths;

use crate::error::BoxError;
use crate::ground::Grounds;
use crate::request::{BoxRequest, Ground, Workspace};
use crate::runtime::Runtime;
use crate::tools;

/// Names the look at the machine that a box stands on.
pub const GROUND: &str = "ground";
/// Says what is kept of the box's tools; what is new of them is in a folder that begins so.
pub const TOOLS: &str = "tools";

/// Where the files of one box are, and what they are made of.
pub struct Layout<'a> {
    /// The box's own folder.
    pub dir: &'a Path,
    /// Users of boxes.
    pub ids: IdRange,
    /// Looks at the machine.
    pub grounds: &'a Grounds,
    /// The runner.
    pub runtime: &'a Runtime,
}

/// What is made at the same time as the network.
pub struct Files {
    /// Of the runner's container.
    pub rootfs: Overlay,
    /// In it.
    pub mounts: Vec<MountSpec>,
    /// Of each service, in their order.
    pub services: Vec<Overlay>,
    /// [`Grounds::renew`] is due.
    pub ground_is_old: bool,
}

impl Layout<'_> {
    /// Folders for changes, and what is mounted.
    pub fn files(&self, request: &BoxRequest) -> Result<Files, BoxError> {
        let dir = self.dir.to_owned();
        let made = |name: &str| {
            let what = format!("make the folders of {}", dir.display());
            writable(&dir, name).map_err(BoxError::files(what))
        };
        let mut mounts = Vec::new();
        let mut ground_is_old = false;
        let lower = match &request.ground {
            Ground::Host => {
                let (ground, old) = self.grounds.claim(&dir.join(GROUND))?;
                ground_is_old = old;
                let parts = ground.mounts(|name| writable(&dir, name));
                mounts.extend(parts.map_err(BoxError::files("make the folders of the box"))?);
                vec![ground.lower()]
            }
            Ground::Image(image) => image.lower.clone(),
        };
        mounts.extend(self.work(request, &dir)?);
        mounts.extend(self.runtime.mounts());
        for (path, target) in [
            (&request.repository, paths::REPOSITORY),
            (&request.results, paths::RESULTS_FOLDER),
        ] {
            if let Some(path) = path {
                mounts.push(shown(path, target)?);
            }
        }
        let services = request
            .services
            .iter()
            .enumerate()
            .map(|(number, service)| {
                Ok(Overlay {
                    lower: service.image.lower.clone(),
                    upper: Some(made(&format!("service{number}"))?),
                })
            });
        Ok(Files {
            rootfs: Overlay {
                lower,
                upper: Some(made("root")?),
            },
            mounts,
            services: services.collect::<Result<_, BoxError>>()?,
            ground_is_old,
        })
    }

    /// The folders in which the job works.
    fn work(&self, request: &BoxRequest, dir: &Path) -> Result<Vec<MountSpec>, BoxError> {
        let work = dir.join("work");
        let below = |path: &str| {
            let rest = path.strip_prefix(paths::WORK).unwrap_or(path);
            work.join(rest.trim_start_matches('/'))
        };
        let workspace = &request.document.runner.workspace;
        for path in [paths::WORK, paths::TEMP, paths::ACTIONS, workspace] {
            self.give_folder(&work, &below(path))?;
        }
        let bind = |source: PathBuf, target: &str| MountSpec::Bind {
            source,
            target: target.to_owned(),
            read_only: false,
            subpath: None,
        };
        let mut mounts = vec![bind(work.clone(), paths::WORK)];
        mounts.push(match &request.tools.shown[..] {
            [] => {
                let tools = dir.join("tools");
                self.give_folder(&tools, &tools)?;
                bind(tools, paths::TOOL_CACHE)
            }
            shown => {
                for folder in shown {
                    self.give_folder(folder, folder)?;
                }
                let note = serde_json::to_vec(&request.tools).map_err(io::Error::from);
                let note = note.and_then(|note| fs::write(dir.join(TOOLS), note));
                note.map_err(BoxError::files("note the tools of the box"))?;
                let upper = writable(dir, TOOLS).map_err(BoxError::files("make the tools"))?;
                MountSpec::Layers {
                    lower: shown.to_vec(),
                    upper: Some(upper),
                    target: paths::TOOL_CACHE.to_owned(),
                    owner: (self.ids.first, self.ids.first),
                }
            }
        });
        if let Workspace::Copy(tree) = &request.workspace {
            let upper =
                writable(dir, "workspace").map_err(BoxError::files("make the workspace"))?;
            mounts.push(changeable(tree, upper, workspace)?);
        }
        for (number, action) in request.actions.iter().enumerate() {
            self.give_folder(&work, &below(&action.target))?;
            let made = writable(dir, &format!("action{number}"));
            let upper = made.map_err(BoxError::files("make the folders of an action"))?;
            mounts.push(changeable(&action.files, upper, &action.target)?);
        }
        Ok(mounts)
    }

    /// Makes a folder, and those above it from `top` on, and gives them to the box's root, unless a user of boxes
    /// has them.
    fn give_folder(&self, top: &Path, path: &Path) -> Result<(), BoxError> {
        let given = tools::give_folders(top, path, self.ids);
        given.map_err(BoxError::files(format!(
            "give {} to the box",
            path.display()
        )))
    }
}

/// Folders for the changes of an overlay.
pub fn writable(dir: &Path, name: &str) -> io::Result<Writable> {
    let folder = |kind: &str| {
        let path = dir.join(format!("{name}.{kind}"));
        fs::create_dir(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok::<_, io::Error>(path)
    };
    Ok(Writable {
        upper: folder("changes")?,
        work: folder("scratch")?,
    })
}

/// Something of the host for reading, as if root of the box had it.
fn shown(path: &Path, target: &str) -> Result<MountSpec, BoxError> {
    layers(path, None, target)
}

/// The same, with changes that are the box's own.
fn changeable(path: &Path, upper: Writable, target: &str) -> Result<MountSpec, BoxError> {
    layers(path, Some(upper), target)
}

fn layers(path: &Path, upper: Option<Writable>, target: &str) -> Result<MountSpec, BoxError> {
    let what = format!("find {}", path.display());
    let meta = fs::symlink_metadata(path).map_err(BoxError::files(what))?;
    Ok(MountSpec::Layers {
        lower: vec![path.to_owned()],
        upper,
        target: target.to_owned(),
        owner: (meta.uid(), meta.gid()),
    })
}
