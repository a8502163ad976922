//! Which stages are built, on what, and what they take from each other. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::dockerfile::{
    Dockerfile, DockerfileError, Instruction, MountKind, Problem, RunNetwork, Stage, Step, closest,
    expand,
};
use crate::{Digest, Platform};

use super::NamedContext;
use super::problem::problem_at;
use super::scope::Globals;

/// What is to be built.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Reachable stages; each comes after all it needs.
    pub stages: Vec<Planned>,
    /// The stage whose image is the result.
    pub target: usize,
    /// Instructions in all, FROM included.
    pub steps: usize,
}

/// A reachable stage.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Planned {
    /// Position in the file.
    pub index: usize,
    /// What it starts from.
    pub base: Origin,
}

/// Where files come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Nothing.
    Scratch,
    /// An earlier stage.
    Stage(usize),
    /// An image, as written.
    Image(String),
    /// A stored image.
    Stored(Digest),
}

/// Where files are taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Files {
    /// A stage or image.
    Of(Origin),
    /// The folder of this name among the contexts.
    Folder(String),
}

/// What FROM and `--from=` may name beside stages and images.
pub(super) type Contexts = BTreeMap<String, NamedContext>;

/// Decides what to build.
pub(super) fn plan(
    dockerfile: &Dockerfile,
    globals: &Globals,
    contexts: &Contexts,
    target: Option<&str>,
) -> Result<Plan, DockerfileError> {
    let target = target_stage(dockerfile, target)?;
    plan_stage(dockerfile, globals, contexts, target)
}

/// What one stage needs, itself included.
pub(super) fn plan_stage(
    dockerfile: &Dockerfile,
    globals: &Globals,
    contexts: &Contexts,
    target: usize,
) -> Result<Plan, DockerfileError> {
    let mut bases = BTreeMap::new();
    let mut open = vec![target];
    while let Some(index) = open.pop() {
        if bases.contains_key(&index) {
            continue;
        }
        let stage = &dockerfile.stages[index];
        let at = |problem| problem_at(dockerfile, stage.span, &stage.text, problem);
        let base = base(dockerfile, stage, globals, contexts).map_err(at)?;
        let mut needs = BTreeSet::new();
        for step in &stage.steps {
            let at = |problem| problem_at(dockerfile, step.span, &step.text, problem);
            refuse(step).map_err(at)?;
            for from in froms(step) {
                let files = files(dockerfile, contexts, index, from).map_err(at)?;
                if let Files::Of(Origin::Stage(index)) = files {
                    needs.insert(index);
                }
            }
        }
        if let Origin::Stage(index) = base {
            needs.insert(index);
        }
        bases.insert(index, base);
        open.extend(needs);
    }
    let steps = bases
        .keys()
        .map(|index| 1 + dockerfile.stages[*index].steps.len())
        .sum();
    // A stage can only need earlier ones, so the order of the file is an order of work.
    let stages = bases
        .into_iter()
        .map(|(index, base)| Planned { index, base })
        .collect();
    Ok(Plan {
        stages,
        target,
        steps,
    })
}

/// What `from` means in the stage `index`: a context of that name, an earlier stage by name or
/// number, else an image.
pub(super) fn files(
    dockerfile: &Dockerfile,
    contexts: &Contexts,
    index: usize,
    from: &str,
) -> Result<Files, Problem> {
    match context(contexts, from) {
        Some((name, NamedContext::Folder(_))) => Ok(Files::Folder(name.clone())),
        Some((_, NamedContext::Image(image))) => Ok(Files::Of(Origin::Image(image.clone()))),
        Some((_, NamedContext::Stored(digest))) => Ok(Files::Of(Origin::Stored(*digest))),
        None => origin(dockerfile, index, from).map(Files::Of),
    }
}

fn context<'a>(contexts: &'a Contexts, name: &str) -> Option<(&'a String, &'a NamedContext)> {
    contexts
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
}

fn origin(dockerfile: &Dockerfile, index: usize, from: &str) -> Result<Origin, Problem> {
    let wrong = |reason: String| Err(Problem::Stage { reason });
    if let Ok(number) = from.parse::<usize>() {
        return match dockerfile.stages.get(number) {
            Some(_) if number < index => Ok(Origin::Stage(number)),
            Some(_) => wrong(format!("stage {number} does not stand before this one")),
            None => wrong(format!("there is no stage {number}; the first is 0")),
        };
    }
    if let Some(stage) = stage_named(&dockerfile.stages[..index], from) {
        return Ok(Origin::Stage(stage));
    }
    if let Some(later) = stage_named(&dockerfile.stages[index..], from) {
        let line = dockerfile.stages[index + later].span.line;
        return wrong(match later {
            0 => format!("stage {from} cannot take files from itself"),
            _ => format!("stage {from} (line {line}) stands behind this one; move it before"),
        });
    }
    Ok(Origin::Image(from.to_owned()))
}

/// A stage that `name`, which names no stage, may be meant for.
pub(super) fn similar_stage(dockerfile: &Dockerfile, name: &str) -> Option<String> {
    let names = dockerfile.stages.iter();
    let names = names.filter_map(|stage| stage.name.as_deref());
    closest(&name.to_ascii_lowercase(), names).map(str::to_owned)
}

/// The last stage of that name, as later twins hide earlier ones.
fn stage_named(stages: &[Stage], name: &str) -> Option<usize> {
    let same = |stage: &Stage| {
        stage
            .name
            .as_ref()
            .is_some_and(|n| n.eq_ignore_ascii_case(name))
    };
    stages.iter().rposition(same)
}

fn target_stage(dockerfile: &Dockerfile, target: Option<&str>) -> Result<usize, DockerfileError> {
    let stages = &dockerfile.stages;
    let Some(target) = target else {
        return Ok(stages.len() - 1);
    };
    let number = target
        .parse::<usize>()
        .ok()
        .filter(|number| *number < stages.len());
    if let Some(index) = stage_named(stages, target).or(number) {
        return Ok(index);
    }
    let names: Vec<&str> = stages
        .iter()
        .filter_map(|stage| stage.name.as_deref())
        .collect();
    let known = match (closest(target, names.iter().copied()), names.as_slice()) {
        (Some(name), _) => format!("did you mean {name}?"),
        (None, []) => "no stage has a name".to_owned(),
        (None, names) => format!("there are {}", names.join(", ")),
    };
    let last = &stages[stages.len() - 1];
    let reason = format!("there is no stage {target:?} to build; {known}");
    Err(problem_at(
        dockerfile,
        last.span,
        &last.text,
        Problem::Stage { reason },
    ))
}

fn base(
    dockerfile: &Dockerfile,
    stage: &Stage,
    globals: &Globals,
    contexts: &Contexts,
) -> Result<Origin, Problem> {
    let lookup = |name: &str| globals.lookup(name);
    if let Some(platform) = &stage.platform {
        supported_platform(&expand(platform, dockerfile.escape, &lookup)?)?;
    }
    let base = expand(&stage.base, dockerfile.escape, &lookup)?;
    if base.is_empty() {
        return Err(Problem::Stage {
            reason: format!(
                "the image {} is empty; declare the variable with ARG before the first FROM",
                stage.base
            ),
        });
    }
    if base == "scratch" {
        return Ok(Origin::Scratch);
    }
    match context(contexts, &base) {
        Some((name, NamedContext::Folder(_))) => {
            return Err(Problem::Stage {
                reason: format!(
                    "the context {name} is a folder, not an image; take its files with COPY \
                     --from={name}"
                ),
            });
        }
        Some((_, NamedContext::Image(image))) => return Ok(Origin::Image(image.clone())),
        Some((_, NamedContext::Stored(digest))) => return Ok(Origin::Stored(*digest)),
        None => {}
    }
    let earlier = stage_named(&dockerfile.stages[..stage.index], &base);
    Ok(earlier.map_or(Origin::Image(base), Origin::Stage))
}

fn supported_platform(text: &str) -> Result<(), Problem> {
    let here = Platform::of_this_machine();
    let fits = text
        .parse::<Platform>()
        .is_ok_and(|wanted| wanted.os == here.os && wanted.architecture == here.architecture);
    if fits || text == here.os {
        return Ok(());
    }
    Err(Problem::Unsupported {
        what: format!("FROM --platform={text}"),
        hint: format!("images are built for {here}, the platform of this machine"),
    })
}

/// The values of `--from` and `from=` of an instruction.
pub(super) fn froms(step: &Step) -> Vec<&str> {
    match &step.instruction {
        Instruction::Copy(copy) => copy.flags.from.as_deref().into_iter().collect(),
        Instruction::Run(run) => run
            .mounts
            .iter()
            .filter_map(|mount| mount.option(&["from"]))
            .collect(),
        _ => Vec::new(),
    }
}

/// Refuses what is correct but cannot be executed here.
pub(super) fn refuse(step: &Step) -> Result<(), Problem> {
    let unsupported = |what: &str, hint: &str| {
        Err(Problem::Unsupported {
            what: what.to_owned(),
            hint: hint.to_owned(),
        })
    };
    match &step.instruction {
        Instruction::Run(run) => {
            if run.insecure {
                return unsupported(
                    "RUN --security=insecure",
                    "steps run with a container's default privileges",
                );
            }
            if run.network == RunNetwork::Host {
                return unsupported(
                    "RUN --network=host",
                    "steps have a network of their own with a way out; leave the flag away",
                );
            }
            for mount in &run.mounts {
                let switched = |names: &[&str]| mount.switch(names) == Some(true);
                match mount.kind {
                    MountKind::Ssh => {
                        return unsupported(
                            "RUN --mount=type=ssh",
                            "fetch private sources before the build and COPY them",
                        );
                    }
                    MountKind::Bind if switched(&["rw", "readwrite"]) => {
                        return unsupported(
                            "a writable RUN --mount=type=bind",
                            "mount it read-only and copy what you change",
                        );
                    }
                    MountKind::Cache if mount.option(&["from", "source", "src"]).is_some() => {
                        return unsupported(
                            "RUN --mount=type=cache with from= or source=",
                            "the cache starts empty; fill it in the step",
                        );
                    }
                    MountKind::Bind | MountKind::Cache | MountKind::Tmpfs | MountKind::Secret => {}
                }
            }
            Ok(())
        }
        Instruction::Add(add) if add.flags.keep_git_dir => unsupported(
            "ADD --keep-git-dir",
            "clone the repository before the build",
        ),
        Instruction::Add(add) if add.flags.checksum.is_some() => unsupported(
            "ADD --checksum",
            "only remote files have one, and ADD fetches none",
        ),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::dockerfile::parse;

    fn check(text: &str, target: Option<&str>, args: &[(&str, &str)], expected: &str) {
        let dockerfile = parse("Dockerfile", text).expect("it parses");
        let given: BTreeMap<String, String> = args
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let outcome = Globals::new(&dockerfile, &given, target)
            .and_then(|globals| plan(&dockerfile, &globals, &Contexts::new(), target));
        let shown = match outcome {
            Ok(plan) => {
                let stages: Vec<String> = plan
                    .stages
                    .iter()
                    .map(|stage| format!("{}:{:?}", stage.index, stage.base))
                    .collect();
                format!("{} -> {} in {}", stages.join(" "), plan.target, plan.steps)
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(shown, expected, "for\n{text}");
    }

    #[test]
    fn only_what_the_target_needs_is_built() {
        let text = "FROM a AS base\nFROM base AS unused\nRUN x\nFROM b AS tool\nFROM base\n\
                    COPY --from=tool /x /x\n";
        check(
            text,
            None,
            &[],
            "0:Image(\"a\") 2:Image(\"b\") 3:Stage(0) -> 3 in 4",
        );
        check(text, Some("TOOL"), &[], "2:Image(\"b\") -> 2 in 1");
        check(text, Some("1"), &[], "0:Image(\"a\") 1:Stage(0) -> 1 in 3");
        check(
            text,
            Some("nope"),
            &[],
            "Dockerfile:5: there is no stage \"nope\" to build; there are base, unused, tool\n  \
             5 | FROM base",
        );
    }

    #[test]
    fn sources_are_stages_by_name_or_number_or_images() {
        check(
            "FROM a\nFROM scratch\nCOPY --from=0 /x /x\nRUN --mount=from=busybox,target=/b y",
            None,
            &[],
            "0:Image(\"a\") 1:Scratch -> 1 in 4",
        );
        check(
            "FROM a\nCOPY --from=1 /x /x\nFROM b",
            Some("0"),
            &[],
            "Dockerfile:2: stage 1 does not stand before this one\n  2 | COPY --from=1 /x /x",
        );
        check(
            "FROM a\nCOPY --from=7 /x /x",
            None,
            &[],
            "Dockerfile:2: there is no stage 7; the first is 0\n  2 | COPY --from=7 /x /x",
        );
        check(
            "FROM a as x\nCOPY --from=y /x /x\nFROM b as y\nCOPY --from=x /x /x",
            None,
            &[],
            "Dockerfile:2: stage y (line 3) stands behind this one; move it before\n  \
             2 | COPY --from=y /x /x",
        );
        check(
            "FROM a as x\nCOPY --from=x /x /x",
            None,
            &[],
            "Dockerfile:2: stage x cannot take files from itself\n  2 | COPY --from=x /x /x",
        );
    }

    #[test]
    fn bases_are_expanded_from_global_arguments() {
        let text = "ARG V=1\nARG IMAGE=deb:${V}\nFROM --platform=$TARGETPLATFORM ${IMAGE}";
        check(text, None, &[], "0:Image(\"deb:1\") -> 0 in 1");
        check(text, None, &[("V", "2")], "0:Image(\"deb:2\") -> 0 in 1");
        check(text, None, &[("IMAGE", "x")], "0:Image(\"x\") -> 0 in 1");
        check(
            "FROM $NOPE",
            None,
            &[],
            "Dockerfile:1: the image $NOPE is empty; declare the variable with ARG before the \
             first FROM\n  1 | FROM $NOPE",
        );
    }

    #[test]
    fn what_cannot_be_executed_is_refused_where_it_is_needed() {
        for (step, what) in [
            (
                "RUN --mount=type=ssh x",
                "RUN --mount=type=ssh is not supported",
            ),
            (
                "RUN --mount=target=/x,rw x",
                "a writable RUN --mount=type=bind is not supported",
            ),
            (
                "RUN --network=host x",
                "RUN --network=host is not supported",
            ),
            (
                "RUN --security=insecure x",
                "RUN --security=insecure is not supported",
            ),
            (
                "ADD --checksum=sha256:0 a b",
                "ADD --checksum is not supported",
            ),
            (
                "RUN --mount=type=cache,target=/x,from=b y",
                "RUN --mount=type=cache with from=",
            ),
        ] {
            let text = format!("FROM a\n{step}\nFROM b AS other");
            let dockerfile = parse("Dockerfile", &text).expect("it parses");
            let globals = Globals::new(&dockerfile, &BTreeMap::new(), None).expect("no arguments");
            let contexts = Contexts::new();
            assert!(
                plan(&dockerfile, &globals, &contexts, Some("other")).is_ok(),
                "{step}"
            );
            let error = plan(&dockerfile, &globals, &contexts, Some("0"))
                .unwrap_err()
                .to_string();
            assert!(
                error.starts_with(&format!("Dockerfile:2: {what}")),
                "{error}"
            );
        }
        let text = "FROM --platform=linux/s390x a";
        check(
            text,
            None,
            &[],
            &format!(
                "Dockerfile:1: FROM --platform=linux/s390x is not supported: images are built for \
                 {}, the platform of this machine\n  1 | {text}",
                Platform::of_this_machine()
            ),
        );
    }
}
