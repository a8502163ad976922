//! `havre check` of a folder of other people's projects, beside docker compose: which of those that
//! docker compose takes are taken unedited, why the others are not, and where the two do not mean
//! the same by a file.
//!
//! What a corpus of compose files alone lacks (an env file, a build's folder, the value of a
//! variable) is no fault of the reader: a project that is refused for nothing else is counted apart,
//! and the share is told both ways. So is one that only its owner's word in havre.yaml lets in
//! (`allow:`), which nobody but the owner can give: a copy of the project is looked at again with the
//! lines that the refusal says to write, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;

use anyhow::{Context as _, Result, bail, ensure};
use havre_testing::compose;
use serde_json::{Value, json};

use crate::peers;
use crate::shell::{say, succeed};

/// Names that docker compose looks for in a folder.
const COMPOSE_FILES: [&str; 4] = [
    "compose.yaml",
    "compose.yml",
    "docker-compose.yml",
    "docker-compose.yaml",
];
/// Findings about what is not beside the files.
const SURROUNDINGS: [&str; 3] = [
    "compose/missing-file",
    "compose/required-variable",
    "compose/unset-variable",
];
/// The finding about what endangers the machine and is not allowed.
const NOT_ALLOWED: &str = "havre/not-allowed";
/// Deepest folder below the corpus in which a project is looked for.
const MAX_DEPTH: usize = 6;
/// Seconds for one run of one program.
const DEADLINE_SECONDS: &str = "30";
/// How `timeout` ends when the deadline passed.
const TIMED_OUT: i32 = 124;
/// Share of the projects that docker compose takes and that have all they need.
const BAR_PERCENT: f64 = 92.0;
/// Projects that are named for each reason.
const NAMED: usize = 5;

/// A project of the corpus.
#[derive(Debug)]
struct Project {
    /// Below the corpus.
    name: String,
    folder: PathBuf,
    /// Where it is a file by itself.
    file: Option<PathBuf>,
}

/// What became of a project.
#[derive(Debug)]
enum Outcome {
    PeerRefuses,
    Accepted {
        /// Paths of the configuration that differ.
        differing: BTreeSet<String>,
    },
    Refused {
        reasons: BTreeSet<String>,
        lacks: Lacks,
        /// What is left after the lines of the refusal were pasted; `None`: it has none.
        pasted: Option<BTreeSet<String>>,
    },
}

/// What a refused project would need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lacks {
    /// Nothing but what is not beside the files.
    Surroundings,
    /// Its owner's word, beside that.
    Word,
    Support,
}

pub fn measure(binary: &Path, corpus: &Path) -> Result<Value> {
    let Some(peer) = peers::compose()? else {
        bail!("docker compose is not to be had for this kind of machine");
    };
    let corpus = fs::canonicalize(corpus)
        .with_context(|| format!("cannot find the corpus {}", corpus.display()))?;
    let mut projects = Vec::new();
    find(&corpus, &corpus, 0, &mut projects)?;
    ensure!(
        !projects.is_empty(),
        "{} holds no compose file",
        corpus.display()
    );
    projects.sort_by(|a, b| b.name.cmp(&a.name));
    say(&format!("{} projects", projects.len()));
    let outcomes = run_all(binary, &peer, projects)?;
    Ok(tell(&outcomes))
}

/// Every compose file that stands by itself, and every folder with one.
fn find(corpus: &Path, folder: &Path, depth: usize, found: &mut Vec<Project>) -> Result<()> {
    let named = |path: &Path| {
        let below = path.strip_prefix(corpus).unwrap_or(path);
        below.display().to_string()
    };
    let standard = COMPOSE_FILES.iter().any(|name| folder.join(name).is_file());
    if standard {
        found.push(Project {
            name: named(folder),
            folder: folder.to_owned(),
            file: None,
        });
    }
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry
            .with_context(|| format!("cannot read {}", folder.display()))?
            .path();
        let yaml = path
            .extension()
            .is_some_and(|end| end == "yml" || end == "yaml");
        if path.is_dir() && depth < MAX_DEPTH {
            find(corpus, &path, depth + 1, found)?;
        } else if path.is_file() && yaml && !standard && holds_services(&path)? {
            found.push(Project {
                name: named(&path),
                folder: folder.to_owned(),
                file: Some(path),
            });
        }
    }
    Ok(())
}

/// Whether this is a compose file and no other YAML.
fn holds_services(path: &Path) -> Result<bool> {
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = String::from_utf8_lossy(&text);
    Ok(text.lines().any(|line| line.starts_with("services:")) || text.starts_with('{'))
}

fn run_all(
    binary: &Path,
    peer: &Path,
    projects: Vec<Project>,
) -> Result<BTreeMap<String, Outcome>> {
    let waiting = Mutex::new(projects);
    let found = Mutex::new(BTreeMap::new());
    let next = || match waiting.lock() {
        Ok(mut waiting) => waiting.pop(),
        Err(_) => None,
    };
    let work = || -> Result<()> {
        while let Some(project) = next() {
            let outcome = look(binary, peer, &project)
                .with_context(|| format!("cannot look at {}", project.name))?;
            if let Ok(mut found) = found.lock() {
                found.insert(project.name, outcome);
            }
        }
        Ok(())
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            match worker.join() {
                Ok(done) => done?,
                Err(_) => bail!("a worker ended by itself"),
            }
        }
        Ok(())
    })?;
    found
        .into_inner()
        .map_err(|_| anyhow::anyhow!("a worker ended by itself"))
}

fn look(binary: &Path, peer: &Path, project: &Project) -> Result<Outcome> {
    let mut theirs = program(peer, project);
    theirs.args(["--project-name", "corpus"]);
    if let Some(file) = &project.file {
        theirs.arg("--file").arg(file);
    }
    let theirs = output(theirs.args(["config", "--format", "json"]))?;
    if !theirs.status.success() {
        return Ok(Outcome::PeerRefuses);
    }
    let ours = |arguments: &[&str]| ours(binary, project, arguments);
    let checked = ours(&["check", "--json"])?;
    if !checked.status.success() {
        let findings = findings(&checked)?;
        let (reasons, lacks) = refused(&findings);
        ensure!(!reasons.is_empty(), "check fails without an error");
        let pasted = match to_paste(&findings) {
            Some(lines) => Some(with_settings(binary, project, lines)?),
            None => None,
        };
        return Ok(Outcome::Refused {
            reasons,
            lacks,
            pasted,
        });
    }
    let shown = ours(&["config", "--json", "--reveal"])?;
    ensure!(
        shown.status.success(),
        "config fails where check does not: {}",
        String::from_utf8_lossy(&shown.stderr).trim()
    );
    // Both double dollar signs, for their output to be read again.
    let read = |bytes: &[u8]| -> Result<Value> {
        let text = String::from_utf8_lossy(bytes).replace("$$", "$");
        serde_json::from_str(&text).context("the configuration is no JSON")
    };
    let (shown, other) = (read(&shown.stdout)?, read(&theirs.stdout)?);
    let differing = compose::differences("", &compose::havre(shown), &compose::peer(other));
    Ok(Outcome::Accepted {
        differing: differing
            .into_iter()
            .map(|(at, (ours, theirs))| {
                format!("{at}: {} here, {} there", cut(&ours), cut(&theirs))
            })
            .collect(),
    })
}

fn ours(binary: &Path, project: &Project, arguments: &[&str]) -> Result<Output> {
    let mut command = program(binary, project);
    command.args(arguments).args(["--project", "corpus"]);
    if let Some(file) = &project.file {
        command.arg("--file").arg(file);
    }
    output(command.arg(&project.folder))
}

/// The lines for havre.yaml in the one refusal that has them.
fn to_paste(findings: &[Value]) -> Option<&str> {
    let of_refusals = findings.iter().filter(|one| one["code"] == NOT_ALLOWED);
    let mut hints = of_refusals.filter_map(|one| one["hint"].as_str());
    hints.find_map(|hint| Some(hint.split_once("in havre.yaml:\n")?.1))
}

/// Why a copy of the project that has this havre.yaml is refused still.
fn with_settings(binary: &Path, project: &Project, lines: &str) -> Result<BTreeSet<String>> {
    let copy = tempfile::tempdir().context("cannot make a temporary folder")?;
    let folder = copy.path().join("project");
    succeed(
        Command::new("cp")
            .arg("-a")
            .arg(&project.folder)
            .arg(&folder),
    )?;
    let settings = folder.join("havre.yaml");
    fs::write(&settings, lines).with_context(|| format!("cannot write {}", settings.display()))?;
    let file = project.file.as_ref().and_then(|file| file.file_name());
    let pasted = Project {
        name: project.name.clone(),
        file: file.map(|name| folder.join(name)),
        folder,
    };
    let checked = ours(binary, &pasted, &["check", "--json"])?;
    Ok(refused(&findings(&checked)?).0)
}

fn cut(text: &str) -> String {
    text.chars().take(60).collect()
}

/// The program in the project's folder, without the caller's own variables: with those of a shell there.
fn program(program: &Path, project: &Project) -> Command {
    let mut command = Command::new("timeout");
    command
        .args(["--kill-after=1", DEADLINE_SECONDS])
        .arg(program)
        .current_dir(&project.folder)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", "/nonexistent")
        .env("PWD", &project.folder)
        .env("USER", "nobody")
        .stdin(Stdio::null());
    command
}

fn output(command: &mut Command) -> Result<Output> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    ensure!(
        output.status.code() != Some(TIMED_OUT),
        "{command:?} took longer than {DEADLINE_SECONDS} s"
    );
    Ok(output)
}

fn findings(checked: &Output) -> Result<Vec<Value>> {
    serde_json::from_slice(&checked.stdout).context("the findings are no list in JSON")
}

fn refused(findings: &[Value]) -> (BTreeSet<String>, Lacks) {
    let (mut reasons, mut lacks) = (BTreeSet::new(), Lacks::Surroundings);
    for finding in findings.iter().filter(|one| one["severity"] == "error") {
        let code = finding["code"].as_str().unwrap_or_default();
        let message = finding["message"].as_str().unwrap_or_default();
        let plain = SURROUNDINGS.contains(&code) || code == NOT_ALLOWED;
        lacks = match (lacks, plain) {
            (_, false) => Lacks::Support,
            (Lacks::Surroundings, true) if code == NOT_ALLOWED => Lacks::Word,
            (lacks, true) => lacks,
        };
        reasons.insert(match plain {
            true => code.to_owned(),
            false => format!("{code}: {}", kind(message)),
        });
    }
    (reasons, lacks)
}

/// A message without the name of the service it is about, for counting.
fn kind(message: &str) -> String {
    let named = ["service `", "network `", "volume `", "secret `", "config `"];
    let rest = named.iter().find_map(|start| {
        let (_, rest) = message.strip_prefix(start)?.split_once('`')?;
        Some(rest.trim_start_matches([':', ' ']))
    });
    rest.unwrap_or(message).chars().take(100).collect()
}

fn tell(outcomes: &BTreeMap<String, Outcome>) -> Value {
    let (mut peer_accepts, mut accepted, mut unequal) = (0, 0, 0);
    let (mut incomplete, mut not_allowed, mut with_allow) = (0, 0, 0);
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut apart: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, outcome) in outcomes {
        match outcome {
            Outcome::PeerRefuses => {}
            Outcome::Accepted { differing } => {
                peer_accepts += 1;
                accepted += 1;
                if !differing.is_empty() {
                    unequal += 1;
                    eprintln!("differs: {name}");
                    for one in differing {
                        eprintln!("    {one}");
                    }
                }
            }
            Outcome::Refused {
                reasons: own,
                lacks,
                pasted,
            } => {
                peer_accepts += 1;
                match pasted {
                    Some(left) if left.is_empty() => with_allow += 1,
                    Some(left) => eprintln!("refused with the lines to paste: {name}: {left:?}"),
                    None => {}
                }
                let counted = match lacks {
                    Lacks::Surroundings => {
                        incomplete += 1;
                        &mut apart
                    }
                    Lacks::Word => {
                        not_allowed += 1;
                        &mut apart
                    }
                    Lacks::Support => &mut reasons,
                };
                for reason in own {
                    counted.entry(reason).or_default().push(name);
                }
            }
        }
    }
    list("refused", &reasons);
    list(
        "refused until something is beside the files or allowed",
        &apart,
    );
    let of = |all: i32| percent(accepted, all);
    let (share, standalone) = (of(peer_accepts), of(peer_accepts - incomplete));
    let pasted = percent(accepted + with_allow, peer_accepts - incomplete);
    let supported = of(peer_accepts - incomplete - not_allowed);
    let verdict = match supported >= BAR_PERCENT {
        true => "held",
        false => "missed",
    };
    eprintln!(
        "{} projects, {peer_accepts} accepted by docker compose, {accepted} of them here ({share:.1} \
         %), {unequal} with another configuration",
        outcomes.len()
    );
    eprintln!("without {incomplete} that lack something beside the files: {standalone:.1} %");
    eprintln!(
        "without {not_allowed} more that wait for their owner's word: {supported:.1} %   bar ≥ \
         {BAR_PERCENT} %: {verdict}"
    );
    eprintln!("with the lines that the refusals say to paste: {pasted:.1} %");
    let counted: BTreeMap<_, _> = reasons
        .iter()
        .map(|(why, names)| (why, names.len()))
        .collect();
    json!({
        "projects": outcomes.len(),
        "peer_accepts": peer_accepts,
        "accepted": accepted,
        "unequal": unequal,
        "incomplete": incomplete,
        "not_allowed": not_allowed,
        "accepted_with_allow": with_allow,
        "accepted_percent": super::figures::rounded(share),
        "standalone_percent": super::figures::rounded(standalone),
        "supported_percent": super::figures::rounded(supported),
        "pasted_percent": super::figures::rounded(pasted),
        "refused": counted,
    })
}

fn percent(some: i32, all: i32) -> f64 {
    match all {
        0 => 0.0,
        all => f64::from(some) * 100.0 / f64::from(all),
    }
}

/// Reasons, the most frequent first, with some of the projects.
fn list(what: &str, reasons: &BTreeMap<&str, Vec<&str>>) {
    let mut sorted: Vec<_> = reasons.iter().collect();
    sorted.sort_by_key(|(_, names)| std::cmp::Reverse(names.len()));
    for (reason, names) in sorted {
        let shown = &names[..names.len().min(NAMED)];
        eprintln!(
            "{what}: {:>4} × {reason}   ({})",
            names.len(),
            shown.join(", ")
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_without_the_service() {
        for (message, expected) in [
            (
                "service `a`: `devices` is not supported",
                "`devices` is not supported",
            ),
            ("network `n`: `driver: x` is not", "`driver: x` is not"),
            (
                "several services could answer",
                "several services could answer",
            ),
        ] {
            assert_eq!(kind(message), expected);
        }
    }

    #[test]
    fn projects_are_folders_and_files_with_services() {
        let corpus = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = corpus.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("owner/repo/compose.yaml", "services: {}\n");
        write("owner/repo/other.yml", "services: {}\n");
        write("single.yml", "x: 1\nservices:\n");
        write("prometheus.yml", "scrape_configs: []\n");
        write("README.md", "services:\n");
        let mut found = Vec::new();
        find(corpus.path(), corpus.path(), 0, &mut found).unwrap();
        let mut names: Vec<_> = found.into_iter().map(|project| project.name).collect();
        names.sort();
        assert_eq!(names, ["owner/repo", "single.yml"]);
    }

    #[test]
    fn the_share_is_told_with_and_without_what_a_corpus_lacks() {
        let refused = |why: &str, lacks| Outcome::Refused {
            reasons: BTreeSet::from([why.to_owned()]),
            lacks,
            pasted: (why == NOT_ALLOWED).then(BTreeSet::new),
        };
        let accepted = |differing: &[&str]| Outcome::Accepted {
            differing: differing.iter().map(|one| (*one).to_owned()).collect(),
        };
        let outcomes = BTreeMap::from([
            ("a".to_owned(), accepted(&[])),
            ("b".to_owned(), accepted(&["/x"])),
            ("c".to_owned(), refused("y", Lacks::Support)),
            (
                "d".to_owned(),
                refused("compose/missing-file", Lacks::Surroundings),
            ),
            ("e".to_owned(), Outcome::PeerRefuses),
            ("f".to_owned(), refused(NOT_ALLOWED, Lacks::Word)),
        ]);
        let told = tell(&outcomes);
        let expected = [
            ("peer_accepts", 5),
            ("accepted", 2),
            ("unequal", 1),
            ("incomplete", 1),
            ("not_allowed", 1),
            ("accepted_with_allow", 1),
        ];
        for (key, value) in expected {
            assert_eq!(told[key], value, "{key}");
        }
        assert_eq!(told["standalone_percent"], 50.0);
        assert_eq!(told["supported_percent"], 66.667);
        assert_eq!(told["pasted_percent"], 75.0);
        assert_eq!(told["refused"], json!({"y": 1}));
    }
}
