//! Values of ARG and ENV: who wins, and what a RUN step sees.

use std::cell::Cell;
use std::collections::BTreeMap;

use crate::Platform;
use crate::dockerfile::{Dockerfile, DockerfileError, Instruction, Lookup, Problem, expand};

use super::problem::problem_at;

/// Arguments every build may be given without an ARG, in any case; they reach RUN steps, in upper and
/// in lower case, but neither the cache key nor the image.
const PROXY_ARGS: [&str; 5] = [
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "no_proxy",
    "all_proxy",
];

/// By how many bytes variables may make a stage, those it stands on included, larger than its text.
const MAX_GROWTH: usize = 1 << 20;

/// How much larger than its text expansion has made something so far.
#[derive(Debug, Default)]
pub(super) struct Growth(Cell<usize>);

impl From<usize> for Growth {
    fn from(bytes: usize) -> Self {
        Self(Cell::new(bytes))
    }
}

impl Growth {
    /// In bytes.
    pub fn bytes(&self) -> usize {
        self.0.get()
    }

    /// Expands `word`; all that is expanded is counted, as most of it is kept.
    pub fn expand(&self, word: &str, escape: char, lookup: Lookup<'_>) -> Result<String, Problem> {
        let text = expand(word, escape, lookup)?;
        self.count(word, text.len())?;
        Ok(text)
    }

    /// Counts what became of `word`.
    pub fn count(&self, word: &str, bytes: usize) -> Result<(), Problem> {
        let grown = self.0.get() + bytes.saturating_sub(word.len());
        self.0.set(grown);
        if grown > MAX_GROWTH {
            return Err(Problem::Grown {
                limit_kib: MAX_GROWTH >> 10,
            });
        }
        Ok(())
    }
}

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
        let growth = Growth::default();
        for step in &dockerfile.global_args {
            let Instruction::Arg(names) = &step.instruction else {
                continue;
            };
            for (name, default) in names {
                let value = match (given.get(name), default) {
                    (Some(value), _) => Some(value.clone()),
                    (None, Some(default)) => {
                        let lookup = |name: &str| globals.lookup(name);
                        let value = growth.expand(default, dockerfile.escape, &lookup);
                        Some(value.map_err(|problem| {
                            problem_at(dockerfile, step.span, &step.text, problem)
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

    /// Proxies the caller gave, each under both of its names: programs disagree about the case.
    pub fn proxies(&self) -> BTreeMap<String, String> {
        let mut proxies = BTreeMap::new();
        // In their order, so that of two spellings the lower case wins.
        for (name, value) in &self.given {
            if is_proxy(name) && !value.is_empty() {
                proxies.insert(name.to_ascii_uppercase(), value.clone());
                proxies.insert(name.to_ascii_lowercase(), value.clone());
            }
        }
        proxies
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
        let known =
            |name: &String| declared.contains(&name) || is_proxy(name) || name == SOURCE_DATE_EPOCH;
        self.given
            .keys()
            .filter(|name| !known(name))
            .cloned()
            .collect()
    }
}

fn is_proxy(name: &str) -> bool {
    PROXY_ARGS
        .iter()
        .any(|known| known.eq_ignore_ascii_case(name))
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
