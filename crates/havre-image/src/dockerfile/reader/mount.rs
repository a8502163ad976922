//! The value of `RUN --mount`.

use super::super::error::Problem;
use super::super::instruction::{MountKind, RunMount};

pub(super) fn run_mount(value: &str) -> Result<RunMount, Problem> {
    let wrong = |reason: String| Problem::Flag {
        instruction: "RUN".to_owned(),
        flag: "mount".to_owned(),
        reason,
    };
    let mut kind = MountKind::Bind;
    let mut options = Vec::new();
    for field in value.split(',') {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.trim().to_ascii_lowercase(), Some(value.to_owned())),
            None => (field.trim().to_ascii_lowercase(), None),
        };
        if key == "type" {
            kind = match value.as_deref() {
                Some("bind") => MountKind::Bind,
                Some("cache") => MountKind::Cache,
                Some("tmpfs") => MountKind::Tmpfs,
                Some("secret") => MountKind::Secret,
                Some("ssh") => MountKind::Ssh,
                _ => {
                    return Err(wrong(
                        "type must be bind, cache, tmpfs, secret or ssh".into(),
                    ));
                }
            };
            continue;
        }
        options.push((key, value));
    }
    let known = mount_options(kind);
    if let Some((key, _)) = options
        .iter()
        .find(|(key, _)| !known.contains(&key.as_str()))
    {
        return Err(wrong(format!(
            "option {key:?} does not exist for this type; it has {}",
            known.join(", ")
        )));
    }
    let mount = RunMount { kind, options };
    let target = mount.option(&["target", "dst", "destination"]).is_some();
    if !target && matches!(kind, MountKind::Bind | MountKind::Cache | MountKind::Tmpfs) {
        return Err(wrong("needs target=".to_owned()));
    }
    if mount
        .option(&["from"])
        .is_some_and(|from| from.contains('$'))
    {
        return Err(wrong("from= takes no variables".to_owned()));
    }
    Ok(mount)
}

fn mount_options(kind: MountKind) -> &'static [&'static str] {
    match kind {
        MountKind::Bind => &[
            "target",
            "dst",
            "destination",
            "source",
            "src",
            "from",
            "ro",
            "readonly",
            "rw",
            "readwrite",
        ],
        MountKind::Cache => &[
            "target",
            "dst",
            "destination",
            "id",
            "ro",
            "readonly",
            "sharing",
            "from",
            "source",
            "src",
            "mode",
            "uid",
            "gid",
        ],
        MountKind::Tmpfs => &["target", "dst", "destination", "size"],
        MountKind::Secret => &[
            "id",
            "target",
            "dst",
            "destination",
            "required",
            "mode",
            "uid",
            "gid",
            "env",
        ],
        MountKind::Ssh => &[
            "id",
            "target",
            "dst",
            "destination",
            "required",
            "mode",
            "uid",
            "gid",
        ],
    }
}
