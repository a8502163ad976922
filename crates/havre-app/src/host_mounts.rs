//! Mounts of the machine's own files, and its devices, looked at once more when a container starts: whoever can write to
//! a project's folder, and each container that has a part of it, may have put a link in a mount's place
//! since the files were read. What is looked at here is what is mounted: the engine follows no link.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use havre_model::{Allow, Device, Mount, Service, host_path};

use crate::root::OwnFolders;
use crate::way::{Way, real_or_itself, resolve};

/// A mount that is not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountRefused {
    /// havre.yaml does not allow it.
    #[error(
        "{path} leads to {real}, which is mounted only with `allow: [{needs}]` in havre.yaml",
        path = path.display(), real = real.display()
    )]
    NotAllowed {
        path: PathBuf,
        real: PathBuf,
        needs: Allow,
    },
    /// A container may have chosen where it leads.
    #[error(
        "{path} leads to {real} by the link {link}, which containers can write: name {real} itself, or \
         set `allow: [host-paths]` in havre.yaml",
        path = path.display(), real = real.display(), link = link.display()
    )]
    Planted {
        path: PathBuf,
        real: PathBuf,
        link: PathBuf,
    },
    /// A container may have chosen which device it is.
    #[error(
        "device {path} and {folder}, which containers can write, share a folder: it may be of their making: name one \
         of /dev, or set `allow: [host-paths]` in havre.yaml",
        path = path.display(), folder = folder.display()
    )]
    Made { path: PathBuf, folder: PathBuf },
    /// It cannot be said where it leads.
    #[error("cannot find out where {path} leads", path = path.display())]
    Unknown { path: PathBuf, source: io::Error },
}

/// The service with the sources of its mounts and devices free of links. Refused is what gives the machine away, Havre's
/// own folders, which `own` names (but for what the environment has sent: that is read in `sent`), and what leads out of a folder that one of the `neighbours` can write.
pub(crate) fn settle<'a>(
    service: &Service,
    own: OwnFolders,
    sent: &Path,
    neighbours: impl Iterator<Item = &'a Service>,
) -> Result<Service, MountRefused> {
    let rules = Rules {
        allow: &service.allow,
        own,
        sent: Some(real_or_itself(sent)),
        writable: writable(neighbours.flat_map(|service| &service.mounts)),
    };
    let mut settled = service.clone();
    for mount in &mut settled.mounts {
        rules.settle(mount)?;
    }
    for device in &mut settled.devices {
        rules.settle_device(device)?;
    }
    Ok(settled)
}

fn set_source(mount: &mut Mount, real: PathBuf) {
    match mount {
        Mount::Bind { source, .. } => *source = real,
        Mount::Volume { backing, .. } => *backing = Some(real),
        Mount::Anonymous { .. } | Mount::Tmpfs { .. } => {}
    }
}

/// What the mounts of one service may show.
struct Rules<'a> {
    allow: &'a BTreeSet<Allow>,
    /// Havre's folders.
    own: OwnFolders,
    /// Where what the environment has sent is.
    sent: Option<PathBuf>,
    /// Folders that containers can write.
    writable: Vec<PathBuf>,
}

impl Rules<'_> {
    /// Puts where it really leads in the place of its source.
    fn settle(&self, mount: &mut Mount) -> Result<(), MountRefused> {
        let Some((path, read_only)) = of_host(mount) else {
            return Ok(());
        };
        let path = path.to_owned();
        let Way { real, links } = resolve(&path).map_err(|source| MountRefused::Unknown {
            path: path.clone(),
            source,
        })?;
        let sent = self.sent.as_deref();
        if read_only && sent.is_some_and(|sent| real.starts_with(sent) && real != sent) {
            set_source(mount, real);
            return Ok(());
        }
        // What was written was looked at where the files were read: here counts where it leads now.
        let found = host_path::endangered(&real, read_only, &path)
            .or_else(|| host_path::endangered_inside(&real));
        let needs = match found {
            Some(found) => Some(found.needs),
            None => self.own.touch(&real).then_some(Allow::HostPaths),
        };
        if let Some(needs) = needs.filter(|needs| !self.allow.contains(needs)) {
            return Err(MountRefused::NotAllowed { path, real, needs });
        }
        self.refuse_planted(&path, &real, &links)?;
        set_source(mount, real);
        Ok(())
    }

    /// Links of `/dev` that stay in it are the engine's to follow, at each start: what is plugged in
    /// may have another name by then.
    fn settle_device(&self, device: &mut Device) -> Result<(), MountRefused> {
        let path = device.source.clone();
        let Way { real, links } = resolve(&path).map_err(|source| MountRefused::Unknown {
            path: path.clone(),
            source,
        })?;
        self.refuse_planted(&path, &real, &links)?;
        let own = |path: &PathBuf| path.starts_with("/dev");
        // Who can write to the machine's `/dev` has the machine already.
        let mut folders = self.writable.iter().filter(|folder| !own(folder));
        let made = folders.find(|folder| real.starts_with(folder) || folder.starts_with(&real));
        if let Some(folder) = made.filter(|_| !self.allow.contains(&Allow::HostPaths)) {
            let folder = folder.clone();
            return Err(MountRefused::Made { path, folder });
        }
        if !(own(&path) && own(&real) && links.iter().all(own)) {
            device.source = real;
        }
        Ok(())
    }

    fn refuse_planted(
        &self,
        path: &Path,
        real: &Path,
        links: &[PathBuf],
    ) -> Result<(), MountRefused> {
        if self.allow.contains(&Allow::HostPaths) {
            return Ok(());
        }
        match planted(links, real, &self.writable) {
            Some(link) => Err(MountRefused::Planted {
                path: path.to_owned(),
                real: real.to_owned(),
                link: link.to_owned(),
            }),
            None => Ok(()),
        }
    }
}

/// The folders of the machine that these mounts can write.
fn writable<'a>(mounts: impl Iterator<Item = &'a Mount>) -> Vec<PathBuf> {
    mounts
        .filter_map(of_host)
        .filter(|(_, read_only)| !read_only)
        .map(|(path, _)| real_or_itself(path))
        .collect()
}

/// What it mounts of the machine, and whether only to be read.
fn of_host(mount: &Mount) -> Option<(&Path, bool)> {
    match mount {
        Mount::Bind {
            source, read_only, ..
        } => Some((source, *read_only)),
        Mount::Volume {
            backing: Some(backing),
            read_only,
            ..
        } => Some((backing, *read_only)),
        Mount::Volume { .. } | Mount::Anonymous { .. } | Mount::Tmpfs { .. } => None,
    }
}

/// The link in a folder that a container can write and that leads out of that folder.
fn planted<'a>(links: &'a [PathBuf], real: &Path, writable: &[PathBuf]) -> Option<&'a PathBuf> {
    links.iter().find(|link| {
        let above = |folder: &&PathBuf| link.starts_with(folder) && *link != *folder;
        writable
            .iter()
            .filter(above)
            .any(|folder| !real.starts_with(folder))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::root::Root;

    /// Of an installation elsewhere.
    fn own() -> OwnFolders {
        Root::new(Some("/nowhere".into())).own_folders()
    }

    fn bind(source: &Path, read_only: bool) -> Mount {
        Mount::Bind {
            source: source.to_owned(),
            target: "/x".to_owned(),
            read_only,
            create_host_path: true,
        }
    }

    /// Where a mount of `path` leads while another container has `data`.
    fn settled(path: &Path, data: &Path, read_only: bool) -> Result<PathBuf, MountRefused> {
        let mut mount = bind(path, true);
        let rules = Rules {
            allow: &BTreeSet::new(),
            own: own(),
            sent: None,
            writable: writable([bind(data, read_only)].iter()),
        };
        rules.settle(&mut mount)?;
        let (real, _) = of_host(&mount).expect("of the host");
        Ok(real.to_owned())
    }

    #[test]
    fn links_of_the_host_are_resolved_and_those_of_containers_lead_nowhere() {
        let dir = tempfile::tempdir().expect("a folder");
        let dir = fs::canonicalize(dir.path()).expect("there");
        let (data, host) = (dir.join("data"), dir.join("host"));
        fs::create_dir_all(data.join("v1/deep")).expect("a folder");
        fs::create_dir_all(&host).expect("a folder");
        symlink(&data, dir.join("link")).expect("a link");
        symlink("v1", data.join("current")).expect("a link");
        symlink("current/..", data.join("round")).expect("a link");
        symlink(&host, data.join("trap")).expect("a link");
        symlink("../host", data.join("climb")).expect("a link");
        symlink("/etc/shadow", data.join("shadow")).expect("a link");
        symlink("loop", data.join("loop")).expect("a link");
        for (path, expected) in [
            ("link", "data"),
            ("link/current/deep", "data/v1/deep"),
            ("data/round/v1", "data/v1"),
            ("data/new/deep", "data/new/deep"),
            ("link/new", "data/new"),
            ("host/../data", "data"),
        ] {
            let real = settled(&dir.join(path), &data, false).expect("allowed");
            assert_eq!(real, dir.join(expected), "{path}");
        }
        for path in ["data/trap", "data/climb/new", "link/trap/new"] {
            let refused = settled(&dir.join(path), &dir.join("link"), false);
            assert!(
                matches!(refused, Err(MountRefused::Planted { .. })),
                "{path}"
            );
            // Nobody but the host's own people can have made it.
            let real = settled(&dir.join(path), &data, true).expect("allowed");
            assert!(real.starts_with(&host), "{path}");
        }
        symlink("/dev/null", data.join("null")).expect("a link");
        let device = |path: PathBuf, writable: &Path| {
            let mut device = Device {
                source: path,
                target: "/dev/given".to_owned(),
                permissions: "rwm".to_owned(),
            };
            let rules = Rules {
                allow: &BTreeSet::from([Allow::Devices]),
                own: own(),
                sent: None,
                writable: vec![writable.to_owned()],
            };
            rules.settle_device(&mut device).map(|()| device.source)
        };
        for path in ["data/null", "link/null", "data/trap"] {
            let refused = device(dir.join(path), &data);
            assert!(
                matches!(refused, Err(MountRefused::Planted { .. })),
                "{path}"
            );
        }
        for path in [data.join("v1"), dir.clone()] {
            let refused = device(path.clone(), &data);
            assert!(
                matches!(refused, Err(MountRefused::Made { .. })),
                "{path:?}"
            );
        }
        let real = device(dir.join("link/null"), &host).expect("the host's own link");
        assert_eq!(real, Path::new("/dev/null"));
        let real = device("/dev/null".into(), &host).expect("the device");
        assert_eq!(real, Path::new("/dev/null"));
        let refused = settled(&data.join("shadow"), &data, true);
        assert!(matches!(refused, Err(MountRefused::NotAllowed { .. })));
        let refused = settled(&data.join("loop"), &data, true);
        assert!(matches!(refused, Err(MountRefused::Unknown { .. })));
        let rules = Rules {
            allow: &BTreeSet::new(),
            own: Root::new(Some(data.join("v1"))).own_folders(),
            sent: None,
            writable: Vec::new(),
        };
        for own in ["current/lib/volumes", "v1/etc/seal-1.key", "v1"] {
            let refused = rules.settle(&mut bind(&data.join(own), true));
            let is_refused = matches!(refused, Err(MountRefused::NotAllowed { .. }));
            assert!(is_refused, "{own}");
        }
    }
}
