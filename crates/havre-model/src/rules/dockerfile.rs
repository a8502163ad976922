//! A glance at a Dockerfile, for advice only: what it does not make out stays unknown, and what is
//! wrong with the file is for the builder to say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::interpolate;
use crate::project::Build;
use crate::regular;
use crate::words;

/// Bytes of a file that is looked through.
const MAX_FILE: u64 = 1 << 20;
/// Most stages that start from one another.
const MAX_STAGES: usize = 64;

/// What the built stage is made of.
#[derive(Debug, Default)]
pub(super) struct Recipe {
    /// The file; `None`: inline.
    pub path: Option<PathBuf>,
    pub text: String,
    /// Images that stages of the build start from.
    pub bases: Vec<Said>,
    /// The image under the built stage; `None`: not known.
    pub base: Option<String>,
    /// All that its RUN, COPY and ADD say.
    pub steps: String,
    /// Arguments that FROM lines may use.
    pub globals: BTreeSet<String>,
    /// Arguments that a stage which the build needs declares, with their defaults.
    pub arguments: BTreeMap<String, Said>,
    /// Variables that a stage which the build needs sets: what its RUN steps see.
    pub build_environment: BTreeMap<String, Said>,
    pub user: Option<String>,
    pub working_dir: Option<String>,
    pub environment: BTreeMap<String, Said>,
    pub entrypoint: Option<Said>,
    pub command: Option<Said>,
    /// What its health check runs; `None`: it has none.
    pub healthcheck: Option<Said>,
    /// Files of the context, by their path in the image; a folder's ends with `/`.
    copied: Vec<(String, PathBuf)>,
}

/// A text and the line of the file that says it, from 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub text: String,
    pub line: u32,
}

struct Instruction {
    line: u32,
    name: String,
    rest: String,
}

#[derive(Default)]
struct Stage {
    name: Option<String>,
    /// What FROM names; `None`: it holds a variable that is not known.
    from: Option<String>,
    line: u32,
    instructions: Vec<Instruction>,
}

/// The stages in their order; `None` of one without a name.
pub(super) fn stage_names(build: &Build) -> Option<Vec<Option<String>>> {
    let (_, text) = text_of(build)?;
    let stages = stages(&text, &build.args).into_iter();
    Some(stages.map(|stage| stage.name).collect())
}

/// The Dockerfile, and its path unless it is inline.
fn text_of(build: &Build) -> Option<(Option<PathBuf>, String)> {
    if let Some(text) = &build.dockerfile_inline {
        return Some((None, text.clone()));
    }
    let path = crate::canonical::clean(&build.context.join(&build.dockerfile));
    let text = small_file(&path)?;
    Some((Some(path), text))
}

/// Reads the Dockerfile of `build`, where it can be read.
pub(super) fn read(build: &Build) -> Option<Recipe> {
    let (path, text) = text_of(build)?;
    let stages = stages(&text, &build.args);
    let target = match &build.target {
        Some(target) => stages
            .iter()
            .rposition(|stage| stage.name.as_deref() == Some(&target.to_ascii_lowercase()))?,
        None => stages.len().checked_sub(1)?,
    };
    let (chain, base) = chain(&stages, target);
    let needed = needed(&stages, target);
    let mut recipe = Recipe {
        path,
        bases: bases(&stages, &needed),
        base,
        globals: globals(&text),
        arguments: set_by(&stages, &needed, "ARG"),
        build_environment: set_by(&stages, &needed, "ENV"),
        ..Recipe::default()
    };
    for index in chain.into_iter().rev() {
        for instruction in &stages[index].instructions {
            recipe.take(instruction, &build.context);
        }
    }
    recipe.text = text;
    Some(recipe)
}

/// The text of a file that is small and regular.
pub(super) fn small_file(path: &Path) -> Option<String> {
    String::from_utf8(regular::read(path, MAX_FILE).ok()?).ok()
}

impl Recipe {
    fn take(&mut self, instruction: &Instruction, context: &Path) {
        let said = |text: String| Said {
            text,
            line: instruction.line,
        };
        let rest = instruction.rest.as_str();
        match instruction.name.as_str() {
            "RUN" => self.step(rest),
            "COPY" | "ADD" => {
                self.step(rest);
                self.copy(rest, context);
            }
            "USER" => self.user = Some(rest.trim().to_owned()),
            "WORKDIR" => {
                let path = Path::new(self.working_dir.as_deref().unwrap_or("/")).join(rest.trim());
                self.working_dir = Some(path.display().to_string());
            }
            "ENV" => {
                for (name, value) in variables(rest) {
                    self.environment.insert(name, said(value));
                }
            }
            "ENTRYPOINT" => {
                self.entrypoint = Some(said(command(rest)));
                self.command = None;
            }
            "CMD" => self.command = Some(said(command(rest))),
            "HEALTHCHECK" => self.healthcheck = healthcheck(rest).map(said),
            _ => {}
        }
    }

    fn step(&mut self, text: &str) {
        self.steps.push_str(text);
        self.steps.push('\n');
    }

    fn copy(&mut self, rest: &str, context: &Path) {
        let words: Vec<&str> = rest.split_whitespace().collect();
        let from_elsewhere = words.iter().any(|word| word.starts_with("--from"));
        let paths: Vec<&str> = words.into_iter().filter(|w| !w.starts_with("--")).collect();
        let Some((target, sources)) = paths.split_last() else {
            return;
        };
        if from_elsewhere || rest.trim_start().starts_with('[') {
            return;
        }
        let base = Path::new(self.working_dir.as_deref().unwrap_or("/"));
        for source in sources {
            let local = crate::canonical::clean(&context.join(source.trim_start_matches('/')));
            let mut inside = crate::canonical::clean(&base.join(target));
            let is_folder = local.is_dir();
            if !is_folder && (target.ends_with(['/', '.']) || sources.len() > 1) {
                inside.push(local.file_name().unwrap_or_default());
            }
            let mut inside = inside.display().to_string();
            if is_folder && !inside.ends_with('/') {
                inside.push('/');
            }
            self.copied.push((inside, local));
        }
    }

    /// The file of the context that is at `path` in the image; a bare name is looked for in every
    /// folder.
    pub fn file(&self, path: &str) -> Option<PathBuf> {
        self.copied.iter().rev().find_map(|(inside, local)| {
            let named = !path.contains('/') && inside.rsplit('/').next() == Some(path);
            if named || inside == path {
                return Some(local.clone());
            }
            let below = inside
                .ends_with('/')
                .then(|| path.strip_prefix(inside.as_str()))??;
            Some(local.join(below))
        })
    }
}

/// The stages from `target` down to the first that starts from an image, and that image.
fn chain(stages: &[Stage], target: usize) -> (Vec<usize>, Option<String>) {
    let mut chain = vec![target];
    let mut base = stages[target].from.clone();
    while let Some(below) = base
        .as_deref()
        .and_then(|name| find(stages, name, *chain.last()?))
        && chain.len() < MAX_STAGES
    {
        chain.push(below);
        base = stages[below].from.clone();
    }
    (chain, base)
}

/// The stages that the target is made of or takes files from, itself among them.
fn needed(stages: &[Stage], target: usize) -> BTreeSet<usize> {
    let mut needed = BTreeSet::from([target]);
    for index in (0..=target).rev() {
        if !needed.contains(&index) {
            continue;
        }
        let stage = &stages[index];
        let copied = stage
            .instructions
            .iter()
            .flat_map(|instruction| instruction.rest.split_whitespace())
            .filter_map(|word| word.split_once("from=").map(|(_, name)| name))
            .map(|name| name.split(',').next().unwrap_or(name));
        let names = copied.chain(stage.from.as_deref());
        needed.extend(names.filter_map(|name| find(stages, name, index)));
    }
    needed
}

/// What these stages set by an instruction, `ARG` or `ENV`; the last one counts.
fn set_by(stages: &[Stage], needed: &BTreeSet<usize>, name: &str) -> BTreeMap<String, Said> {
    let instructions = needed.iter().flat_map(|index| &stages[*index].instructions);
    let mut set = BTreeMap::new();
    for instruction in instructions.filter(|instruction| instruction.name == name) {
        let read = if name == "ARG" { arguments } else { variables };
        for (name, text) in read(&instruction.rest) {
            let line = instruction.line;
            set.insert(name, Said { text, line });
        }
    }
    set
}

/// Images that these stages start from.
fn bases(stages: &[Stage], needed: &BTreeSet<usize>) -> Vec<Said> {
    let named = needed.iter().filter_map(|&index| {
        let stage = &stages[index];
        let from = stage.from.as_ref()?;
        find(stages, from, index).is_none().then(|| Said {
            text: from.clone(),
            line: stage.line,
        })
    });
    named.collect()
}

/// The stage before `index` of that name or number.
fn find(stages: &[Stage], name: &str, index: usize) -> Option<usize> {
    let earlier = &stages[..index];
    let lower = name.to_ascii_lowercase();
    earlier
        .iter()
        .rposition(|stage| stage.name.as_deref() == Some(&lower))
        .or_else(|| name.parse().ok().filter(|number| *number < index))
}

fn stages(text: &str, args: &BTreeMap<String, String>) -> Vec<Stage> {
    let mut stages: Vec<Stage> = Vec::new();
    let mut defaults: BTreeMap<String, String> = BTreeMap::new();
    for instruction in instructions(text) {
        match (instruction.name.as_str(), stages.last_mut()) {
            ("FROM", _) => {
                let lookup = |name: &str| args.get(name).or_else(|| defaults.get(name)).cloned();
                let words: Vec<&str> = instruction
                    .rest
                    .split_whitespace()
                    .filter(|word| !word.starts_with("--"))
                    .collect();
                let mut seen = interpolate::Seen::default();
                let first = words.first();
                let from =
                    first.and_then(|word| interpolate::expand(word, &lookup, &mut seen).ok());
                let name = match words[..] {
                    [_, middle, name] if middle.eq_ignore_ascii_case("as") => Some(name),
                    _ => None,
                };
                stages.push(Stage {
                    name: name.map(str::to_ascii_lowercase),
                    from: from.filter(|_| seen.unset.is_empty()),
                    line: instruction.line,
                    instructions: Vec::new(),
                });
            }
            ("ARG", None) => defaults.extend(variables(&instruction.rest)),
            (_, Some(stage)) => stage.instructions.push(instruction),
            (_, None) => {}
        }
    }
    stages
}

/// Arguments that are declared before the first stage.
fn globals(text: &str) -> BTreeSet<String> {
    instructions(text)
        .into_iter()
        .take_while(|instruction| instruction.name != "FROM")
        .filter(|instruction| instruction.name == "ARG")
        .flat_map(|instruction| arguments(&instruction.rest))
        .map(|(name, _)| name)
        .collect()
}

/// Instructions with continued lines joined and the text of heredocs behind them.
fn instructions(text: &str) -> Vec<Instruction> {
    let mut found = Vec::new();
    let mut lines = (1u32..).zip(text.lines());
    while let Some((line, first)) = lines.next() {
        let trimmed = first.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let mut joined = trimmed.to_owned();
        while joined.ends_with('\\') {
            joined.pop();
            let next = lines
                .by_ref()
                .map(|(_, next)| next.trim())
                .find(|next| !next.starts_with('#'));
            let Some(next) = next else { break };
            joined.push(' ');
            joined.push_str(next);
        }
        let (name, rest) = joined
            .split_once(char::is_whitespace)
            .unwrap_or((&joined, ""));
        let (name, mut rest) = (name.to_ascii_uppercase(), rest.trim().to_owned());
        if matches!(name.as_str(), "RUN" | "COPY" | "ADD") {
            for end in heredocs(&rest) {
                for (_, next) in lines.by_ref() {
                    if next.trim() == end {
                        break;
                    }
                    rest.push('\n');
                    rest.push_str(next);
                }
            }
        }
        found.push(Instruction { line, name, rest });
    }
    found
}

/// The words that end the heredocs of an instruction.
fn heredocs(rest: &str) -> Vec<String> {
    let starts = rest.split_whitespace().filter_map(|word| {
        let (_, word) = word.split_once("<<")?;
        let word = word.trim_start_matches('-').trim_matches(['"', '\'']);
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        (!word.is_empty() && word.chars().all(plain)).then(|| word.to_owned())
    });
    starts.collect()
}

/// `NAME NAME=default …`; no default is an empty one.
fn arguments(rest: &str) -> Vec<(String, String)> {
    let words = words::split(rest).unwrap_or_default();
    let pairs = words.iter().map(|word| {
        let (name, default) = word.split_once('=').unwrap_or((word, ""));
        (name.to_owned(), default.to_owned())
    });
    pairs.collect()
}

/// `NAME=value …`, or the older `NAME value`.
fn variables(rest: &str) -> Vec<(String, String)> {
    let words = words::split(rest).unwrap_or_default();
    match (words.first(), rest.split_once(char::is_whitespace)) {
        (Some(first), Some((name, value))) if !first.contains('=') => {
            vec![(name.to_owned(), value.trim().to_owned())]
        }
        _ => words
            .iter()
            .filter_map(|word| word.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
    }
}

/// What a HEALTHCHECK runs, its options left out; nothing for NONE.
fn healthcheck(rest: &str) -> Option<String> {
    let (kind, rest) = rest
        .split_inclusive(char::is_whitespace)
        .map(|word| (word.trim(), word.len()))
        .scan(0, |at, (word, length)| {
            *at += length;
            Some((word, &rest[*at..]))
        })
        .find(|(word, _)| !word.is_empty() && !word.starts_with("--"))?;
    kind.eq_ignore_ascii_case("cmd").then(|| command(rest))
}

/// CMD or ENTRYPOINT, in the list's form or the shell's, as one line.
fn command(rest: &str) -> String {
    let rest = rest.trim();
    let Some(list) = rest
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    else {
        return rest.to_owned();
    };
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = list.chars();
    while let Some(c) = characters.next() {
        match (c, &mut word) {
            ('"', None) => word = Some(String::new()),
            ('"', Some(_)) => words.extend(word.take()),
            ('\\', Some(word)) => word.extend(characters.next()),
            (c, Some(word)) => word.push(c),
            (_, None) => {}
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(text: &str, target: Option<&str>) -> Recipe {
        let build = Build {
            context: "/nowhere".into(),
            git: None,
            dockerfile: "Dockerfile".into(),
            dockerfile_inline: Some(text.to_owned()),
            target: target.map(str::to_owned),
            args: BTreeMap::from([("TAG".to_owned(), "3.12".to_owned())]),
            tags: Vec::new(),
            labels: BTreeMap::new(),
            no_cache: false,
            host_ca: false,
            secrets: BTreeMap::new(),
            contexts: BTreeMap::new(),
            extra_hosts: BTreeMap::new(),
            shm_size_bytes: None,
            ulimits: BTreeMap::new(),
            offline: false,
        };
        read(&build).unwrap()
    }

    const STAGES: &str = r#"
ARG TAG=3
ARG KIND=slim
FROM golang AS tools
ARG API MODE=live
RUN go install x
FROM node:22 as unused
ARG OTHER
FROM --platform=$BUILDPLATFORM python:${TAG}-$KIND AS base
ENV A=1 B="two words"
WORKDIR /srv
RUN apt-get update \
 # a comment
 && apt-get install -y curl
USER app

FROM base AS final
COPY --from=tools /go/bin/x /bin/
COPY entry.sh app/
RUN <<EOF
USER root
EOF
ENTRYPOINT ["entry.sh", "--say", "a \"b\""]
CMD ["serve"]
FROM final
HEALTHCHECK CMD true
CMD gunicorn app
"#;

    #[test]
    fn the_built_stage_and_what_is_under_it() {
        let last = recipe(STAGES, None);
        assert_eq!(last.base.as_deref(), Some("python:3.12-slim"));
        let bases: Vec<_> = last
            .bases
            .iter()
            .map(|b| (b.text.as_str(), b.line))
            .collect();
        assert_eq!(bases, [("golang", 4), ("python:3.12-slim", 9)]);
        assert_eq!(last.user.as_deref(), Some("app"));
        assert!(last.steps.contains("install -y curl") && !last.steps.contains("comment"));
        assert_eq!(last.environment["B"].text, "two words");
        assert_eq!(
            last.entrypoint.as_ref().unwrap().text,
            "entry.sh --say a \"b\""
        );
        assert_eq!(
            last.command,
            Some(Said {
                text: "gunicorn app".into(),
                line: 27
            })
        );
        assert_eq!(last.healthcheck.as_ref().unwrap().text, "true");
        let known: Vec<_> = last.arguments.keys().collect();
        assert_eq!(known, ["API", "MODE"]);
        assert_eq!(last.arguments["MODE"].text, "live");
        let named = recipe(STAGES, Some("final"));
        assert_eq!(named.command.as_ref().unwrap().text, "serve");
        assert!(named.healthcheck.is_none());
        let copied = Some(PathBuf::from("/nowhere/entry.sh"));
        assert_eq!(named.file("entry.sh"), copied);
        assert_eq!(named.file("/srv/app/entry.sh"), copied);
    }

    #[test]
    fn health_checks_without_their_options() {
        for (rest, runs) in [
            ("CMD curl -f localhost", Some("curl -f localhost")),
            (
                "--interval=5s  --retries=3 CMD [\"a\", \"b c\"]",
                Some("a b c"),
            ),
            ("none", None),
            ("--interval=5s", None),
            ("", None),
        ] {
            assert_eq!(healthcheck(rest).as_deref(), runs, "{rest}");
        }
    }

    #[test]
    fn what_is_not_known_stays_unknown() {
        let build = |text| recipe(text, None);
        assert_eq!(build("FROM $WHATEVER\n").base, None);
        assert!(build("FROM scratch\nCOPY x").command.is_none());
        assert!(build("FROM a\nRUN <<EOF\nnever ends").command.is_none());
        assert!(build("FROM a\nCMD x\nENTRYPOINT y").command.is_none());
        assert!(build("FROM 0\nFROM 0\nFROM a AS a\nFROM a").base.is_some());
        assert!(build("FROM a\nRUN x \\").steps.contains('x'));
    }
}
