//! `RUN --mount` with its variables filled in.

use crate::dockerfile::{MountKind, Problem, RunMount};

use super::super::action::{CACHE_MODE, MountAction};
use super::{State, absolute};

impl State<'_> {
    pub(super) fn mount(&self, mount: &RunMount) -> Result<MountAction, Problem> {
        let wrong = |reason: &str| {
            Err(Problem::Flag {
                instruction: "RUN".to_owned(),
                flag: "mount".to_owned(),
                reason: reason.to_owned(),
            })
        };
        let value = |names: &[&str]| -> Result<Option<String>, Problem> {
            mount
                .option(names)
                .map(|text| self.expand(text))
                .transpose()
        };
        let target = value(&["target", "dst", "destination"])?.unwrap_or_default();
        let number = |name: &str, radix: u32| -> Result<Option<u32>, Problem> {
            let Some(text) = value(&[name])? else {
                return Ok(None);
            };
            match u32::from_str_radix(&text, radix) {
                Ok(number) => Ok(Some(number)),
                Err(_) => {
                    wrong(&format!("{name}={text} is not a number"))?;
                    Ok(None)
                }
            }
        };
        if mount.kind == MountKind::Secret {
            let base = target.rsplit('/').next().unwrap_or_default().to_owned();
            let id = value(&["id"])?.filter(|id| !id.is_empty()).unwrap_or(base);
            if id.is_empty() {
                return wrong("a secret needs id= or target=");
            }
            let env = value(&["env"])?.filter(|name| !name.is_empty());
            let target = match (target.as_str(), &env) {
                ("", Some(_)) => None,
                ("", None) => Some(format!("/run/secrets/{id}")),
                (target, _) => Some(absolute(self.cwd(), target)),
            };
            return Ok(MountAction::Secret {
                id,
                target,
                env,
                required: mount.switch(&["required"]) == Some(true),
                mode: number("mode", 8)?.unwrap_or(0o400) & 0o7777,
                uid: number("uid", 10)?.unwrap_or(0),
                gid: number("gid", 10)?.unwrap_or(0),
            });
        }
        if target.is_empty() {
            return wrong("target= is empty");
        }
        let target = absolute(self.cwd(), &target);
        if target == "/" {
            return wrong("target= cannot be /");
        }
        match mount.kind {
            MountKind::Cache => {
                let exclusive = match value(&["sharing"])?.as_deref() {
                    None | Some("shared") => false,
                    // A private cache must not be seen by two steps at a time; waiting for the
                    // other step gives that without a second copy.
                    Some("locked" | "private") => true,
                    Some(_) => return wrong("sharing must be shared, private or locked"),
                };
                Ok(MountAction::Cache {
                    id: value(&["id"])?
                        .filter(|id| !id.is_empty())
                        .unwrap_or(target.clone()),
                    target,
                    exclusive,
                    read_only: mount.switch(&["ro", "readonly"]) == Some(true),
                    mode: number("mode", 8)?.unwrap_or(CACHE_MODE) & 0o7777,
                    uid: number("uid", 10)?.unwrap_or(0),
                    gid: number("gid", 10)?.unwrap_or(0),
                })
            }
            MountKind::Tmpfs => {
                let size_bytes = match value(&["size"])? {
                    None => None,
                    Some(text) => match byte_size(&text) {
                        Some(bytes) => Some(bytes),
                        None => return wrong(&format!("size={text} is not a size like 64m")),
                    },
                };
                Ok(MountAction::Tmpfs { target, size_bytes })
            }
            MountKind::Bind | MountKind::Secret | MountKind::Ssh => Ok(MountAction::Bind {
                from: mount.option(&["from"]).map(str::to_owned),
                source: value(&["source", "src"])?.unwrap_or_else(|| "/".to_owned()),
                target,
            }),
        }
    }
}

/// `64m`, `1G`, `4096`.
fn byte_size(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let lower = lower.strip_suffix('b').unwrap_or(&lower);
    let (digits, shift) = match lower.char_indices().last()? {
        (at, 'k') => (&lower[..at], 10),
        (at, 'm') => (&lower[..at], 20),
        (at, 'g') => (&lower[..at], 30),
        _ => (lower, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}
