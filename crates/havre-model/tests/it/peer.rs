//! Beside a real peer: docker compose reads every case, too. Where both take the files they must
//! understand them alike, and where one refuses the other must, unless `peer-differences.json` has
//! the difference and says why. A difference that is gone must leave that file.
//!
//! Two comparisons, since each is blind where the other sees: what `config` of both shows, brought
//! to one form here and not by Havre's own reader; and the project that Havre reads from what the
//! peer shows. `HAVRE_BLESS=1` rewrites the file; what is new has no reason yet, and fails.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use havre_model::{ConfigView, LoadOptions, Project, config, load};
use havre_testing::compose as normal;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cases::{FOLDER, options, prune};

/// What `cargo xtask test` puts there; another version has other differences.
const PEER: &str = "docker-compose-2.40.3";
/// Cases in which it answers now so, now so: a chain of `extends` with marks in its middle
/// (docker/compose issues 11937 and 13346).
const UNSTEADY: [&str; 1] = ["extends-of-what-was-reset"];
/// Characters of a value that the list of differences shows.
const SHOWN: usize = 160;

/// One difference between the two.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Difference {
    case: String,
    /// `outcome`, or a path in `config` or `project`.
    at: String,
    havre: String,
    peer: String,
    #[serde(default)]
    why: String,
}

impl Difference {
    fn is_same(&self, other: &Self) -> bool {
        (&self.case, &self.at, &self.havre, &self.peer)
            == (&other.case, &other.at, &other.havre, &other.peer)
    }
}

#[test]
fn docker_compose_understands_every_case_alike() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let peer = root.join("../../target/peers").join(PEER);
    if !peer.is_file() {
        println!("skipped: needs {PEER}, which `cargo xtask test` fetches");
        return;
    }
    let found = differences(&root.join("tests/compose"), &peer);
    let list = root.join("tests/peer-differences.json");
    let text = fs::read_to_string(&list).unwrap();
    let known: Vec<Difference> = serde_json::from_str(&text).unwrap();
    let is_known = |one: &&Difference| known.iter().any(|known| known.is_same(one));
    let new: Vec<_> = found.iter().filter(|one| !is_known(one)).collect();
    let is_gone = |one: &&Difference| !found.iter().any(|found| found.is_same(one));
    let gone: Vec<_> = known.iter().filter(is_gone).collect();
    let unexplained: Vec<_> = known.iter().filter(|one| one.why.is_empty()).collect();
    if std::env::var_os("HAVRE_BLESS").is_some() {
        let kept = known.iter().filter(|one| !is_gone(one)).cloned();
        let mut all: Vec<_> = kept.chain(new.into_iter().cloned()).collect();
        all.sort();
        fs::write(&list, serde_json::to_string_pretty(&all).unwrap() + "\n").unwrap();
        return;
    }
    assert!(new.is_empty(), "new differences: {new:#?}");
    assert!(gone.is_empty(), "listed, but not there any more: {gone:#?}");
    assert!(unexplained.is_empty(), "without a reason: {unexplained:#?}");
}

fn differences(cases: &Path, peer: &Path) -> Vec<Difference> {
    let mut folders: Vec<PathBuf> = fs::read_dir(cases)
        .unwrap()
        .map(|entry| entry.unwrap().path().canonicalize().unwrap())
        // Only Havre reads that file.
        .filter(|folder| !folder.join("havre.yaml").exists())
        .filter(|folder| !UNSTEADY.iter().any(|name| folder.ends_with(name)))
        .collect();
    folders.sort();
    let (waiting, found) = (Mutex::new(folders), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some(folder) = waiting.lock().unwrap().pop() else {
                        return;
                    };
                    let differences = compare(&folder, peer);
                    found.lock().unwrap().extend(differences);
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap();
    found.sort();
    found
}

fn compare(folder: &Path, peer: &Path) -> Vec<Difference> {
    let options = options(folder);
    let view = ConfigView {
        reveal: true,
        sources: false,
    };
    let ours = config(&options, view);
    let theirs = run(peer, folder, &options);
    let mut found = BTreeMap::new();
    match (ours, theirs) {
        (Ok((loaded, shown)), Ok(text)) => {
            // Both double dollar signs, for their output to be read again.
            let plain = |text: &str| serde_json::from_str(&text.replace("$$", "$")).unwrap();
            let (shown, other) = (plain(&serde_json::to_string(&shown).unwrap()), plain(&text));
            let (shown, other) = (normal::havre(shown), normal::peer(other));
            found.extend(normal::differences("config", &shown, &other));
            let written = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
            let unnamed = normal::unnamed(serde_json::from_str(&text).unwrap());
            fs::write(written.path(), unnamed.to_string()).unwrap();
            let again = load(&LoadOptions {
                files: vec![written.path().to_owned()],
                env_files: Vec::new(),
                ..options
            });
            match again {
                Ok(again) => {
                    let mut again = again.project;
                    again.directory.clone_from(&loaded.project.directory);
                    let (read, again) = (as_value(&loaded.project), as_value(&again));
                    found.extend(normal::differences("project", &read, &again));
                }
                Err(failure) => {
                    let codes = failure.errors.iter().map(|error| error.message.as_str());
                    let codes: Vec<_> = codes.collect();
                    found.insert(
                        "project".to_owned(),
                        ("read".to_owned(), format!("refused: {}", codes.join("; "))),
                    );
                }
            }
        }
        (Ok(_), Err(message)) => {
            println!("{}: {message}", folder.display());
            found.insert(
                "outcome".to_owned(),
                ("read".to_owned(), "refused".to_owned()),
            );
        }
        (Err(failure), Ok(_)) => {
            let mut codes: Vec<_> = failure.errors.iter().map(|error| error.code).collect();
            codes.dedup();
            found.insert(
                "outcome".to_owned(),
                (format!("refused: {}", codes.join(", ")), "read".to_owned()),
            );
        }
        (Err(_), Err(_)) => {}
    }
    let case = folder.file_name().unwrap().to_string_lossy().into_owned();
    let plain = |text: String| {
        let text = text.replace(folder.to_str().unwrap(), FOLDER);
        text.chars().take(SHOWN).collect()
    };
    found
        .into_iter()
        .map(|(at, (havre, peer))| Difference {
            case: case.clone(),
            at: plain(at),
            havre: plain(havre),
            peer: plain(peer),
            why: String::new(),
        })
        .collect()
}

fn as_value(project: &Project) -> Value {
    prune(serde_json::to_value(project).unwrap())
}

/// What `config` of the peer prints, or the last line of why it does not.
fn run(peer: &Path, folder: &Path, options: &LoadOptions) -> Result<String, String> {
    let mut command = Command::new(peer);
    command
        .env_clear()
        .env("DOCKER_CONFIG", "/nonexistent")
        .envs(&options.variables)
        .stdin(Stdio::null());
    match options.directory.is_file() {
        true => command
            .current_dir(folder)
            .arg("--file")
            .arg(&options.directory),
        false => command.current_dir(&options.directory),
    };
    for file in &options.files {
        command.arg("--file").arg(file);
    }
    for file in &options.env_files {
        command.arg("--env-file").arg(file);
    }
    for profile in &options.profiles {
        command.args(["--profile", profile]);
    }
    if let Some(name) = &options.project_name {
        command.args(["--project-name", name]);
    }
    let output = command
        .args(["config", "--format", "json"])
        .output()
        .unwrap();
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout).unwrap());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let last = stderr.lines().rfind(|line| !line.starts_with("time="));
    Err(last.unwrap_or(&stderr).to_owned())
}
