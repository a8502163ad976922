//! Values of ARG and ENV: who wins, and what a RUN step sees.

use std::collections::BTreeMap;

use crate::Platform;
use crate::dockerfile::{Dockerfile, DockerfileError, Instruction, Problem, expand};

use super::plan::problem_at;

/// Arguments every build may be given without an ARG; they reach RUN steps but neither the cache
/// key nor the image.
const PROXY_ARGS: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// What the caller gave and what stands before the first FROM.
pub(super) struct Globals {
    /// `--build-arg`.
    pub given: BTreeMap<String, String>,
    /// `TARGETPLATFORM` and its family: in scope before the first FROM, and for stages that
    /// declare them.
    pub platform: BTreeMap<String, String>,
    /// Values of global ARGs.
    pub declared: BTreeMap<String, String>,
}

impl Globals {
    pub fn new(
        dockerfile: &Dockerfile,
        given: &BTreeMap<String, String>,
        target: Option<&str>,
    ) -> Result<Self, DockerfileError> {
        let mut globals = Self {
            given: given.clone(),
            platform: platform_args(target),
            declared: BTreeMap::new(),
        };
        for step in &dockerfile.global_args {
            let Instruction::Arg(names) = &step.instruction else {
                continue;
            };
            for (name, default) in names {
                let value = match (given.get(name), default) {
                    (Some(value), _) => Some(value.clone()),
                    (None, Some(default)) => {
                        let lookup = |name: &str| globals.lookup(name);
                        let value = expand(default, dockerfile.escape, &lookup);
                        Some(value.map_err(|error| {
                            problem_at(dockerfile, step.span, &step.text, Problem::from(error))
                        })?)
                    }
                    (None, None) => None,
                };
                if let Some(value) = value {
                    globals.declared.insert(name.clone(), value);
                }
            }
        }
        Ok(globals)
    }

    /// For FROM lines and global defaults.
    pub fn lookup(&self, name: &str) -> Option<String> {
        self.declared
            .get(name)
            .or_else(|| self.platform.get(name))
            .cloned()
    }

    /// The value an ARG in a stage gets, before its own default.
    pub fn given(&self, name: &str) -> Option<String> {
        self.given.get(name).cloned()
    }

    /// The value an ARG without a default inherits.
    pub fn inherited(&self, name: &str) -> Option<String> {
        self.lookup(name)
    }

    /// Proxies the caller gave.
    pub fn proxies(&self) -> BTreeMap<String, String> {
        PROXY_ARGS
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), self.given.get(*name)?.clone())))
            .collect()
    }

    /// Given names that no ARG mentions and that mean nothing by themselves.
    pub fn unused(&self, dockerfile: &Dockerfile) -> Vec<String> {
        let steps = dockerfile.stages.iter().flat_map(|stage| &stage.steps);
        let declared: Vec<&String> = steps
            .chain(&dockerfile.global_args)
            .filter_map(|step| match &step.instruction {
                Instruction::Arg(names) => Some(names.iter().map(|(name, _)| name)),
                _ => None,
            })
            .flatten()
            .collect();
        let known = |name: &String| {
            declared.contains(&name)
                || PROXY_ARGS.contains(&name.as_str())
                || name == SOURCE_DATE_EPOCH
        };
        self.given
            .keys()
            .filter(|name| !known(name))
            .cloned()
            .collect()
    }
}

/// Argument that fixes the times in the image's documents: seconds since 1970.
pub(super) const SOURCE_DATE_EPOCH: &str = "SOURCE_DATE_EPOCH";

fn platform_args(target: Option<&str>) -> BTreeMap<String, String> {
    let platform = Platform::of_this_machine();
    let mut args = BTreeMap::new();
    for side in ["BUILD", "TARGET"] {
        let mut set = |what: &str, value: &str| {
            args.insert(format!("{side}{what}"), value.to_owned());
        };
        set("PLATFORM", &platform.to_string());
        set("OS", &platform.os);
        set("ARCH", &platform.architecture);
        set("VARIANT", platform.variant.as_deref().unwrap_or_default());
    }
    args.insert(
        "TARGETSTAGE".to_owned(),
        target.unwrap_or("default").to_owned(),
    );
    args
}
