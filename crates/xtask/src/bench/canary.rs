//! Secrets through a whole life (set, build, deploy, crash, rollback), with programs that print all they
//! know; then their values are looked for wherever Havre writes, answers or runs.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use data_encoding::{BASE64, HEXLOWER, HEXUPPER};
use serde_json::{Value, json};

use super::installation::{Installation, processes_of};
use super::kill::is_entry;
use crate::shell::{command, read, say, wait_until};

/// Of each way in which a secret comes and is given, how many there are.
const FILES: usize = 100;
const VARIABLES: usize = 40;
const BUILD: usize = 10;
/// From files beside the compose file, and from variables of whoever runs `up`.
const LOCAL_FILES: usize = 25;
const LOCAL_VARIABLES: usize = 25;
/// Set anew, so that there are versions.
const RENEWED: usize = 20;
/// A pattern that is shorter is found by chance.
const SHORTEST: usize = 16;
const CALM: Duration = Duration::from_secs(90);

/// What is looked for: texts, and what each is.
struct Canaries {
    values: Vec<(String, String)>,
}

impl Canaries {
    fn new() -> Self {
        Self { values: Vec::new() }
    }

    /// Another value, kept under a name for the report. Every third has more lines.
    fn hatch(&mut self, name: &str) -> Result<String> {
        let lines = match self.values.len() % 3 {
            0 => 3,
            _ => 1,
        };
        let lines: Result<Vec<String>> = (0..lines).map(|_| random_line()).collect();
        let value = lines?.join("\n");
        self.values.push((name.to_owned(), value.clone()));
        Ok(value)
    }

    /// Every form in which a value may come to light, by line.
    fn patterns(&self) -> Vec<(String, String)> {
        let mut patterns = Vec::new();
        for (name, value) in &self.values {
            for line in value.lines() {
                let mut add = |form: &str, text: String| {
                    if text.len() >= SHORTEST {
                        patterns.push((text, format!("{name}, {form}")));
                    }
                };
                add("as it is", line.to_owned());
                for skipped in 0..3 {
                    // Only whole groups: the last letters depend on what follows.
                    let bytes = &line.as_bytes()[skipped..];
                    let whole = &bytes[..bytes.len() / 3 * 3];
                    add("base64", BASE64.encode(whole));
                }
                add("hex", HEXLOWER.encode(line.as_bytes()));
                add("hex", HEXUPPER.encode(line.as_bytes()));
                add("a URL", percent(line));
                let quoted = Value::from(line).to_string();
                add("JSON", quoted.trim_matches('"').to_owned());
            }
        }
        patterns
    }
}

/// 32 letters and some that encodings change.
fn random_line() -> Result<String> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=&";
    let mut bytes = [0; 32];
    let mut random = fs::File::open("/dev/urandom").context("no random numbers")?;
    random.read_exact(&mut bytes)?;
    let letters = bytes.map(|byte| char::from(LETTERS[usize::from(byte) % LETTERS.len()]));
    Ok(letters.iter().collect())
}

fn percent(text: &str) -> String {
    text.bytes().fold(String::new(), |mut all, byte| {
        match byte.is_ascii_alphanumeric() {
            true => all.push(char::from(byte)),
            false => write!(all, "%{byte:02X}").unwrap_or_default(),
        }
        all
    })
}

pub fn measure(place: &Installation) -> Result<Value> {
    // As where a service manager lets everybody leave cores.
    let own = std::process::id().to_string();
    read(command("prlimit").args(["--pid", &own, "--core=unlimited:unlimited"]))?;
    let mut canaries = Canaries::new();
    place.have_base_image()?;
    write_project(place, &mut canaries)?;
    let scratch = tempfile::tempdir().context("no temporary folder")?;
    let answers = scratch.path().join("answers");
    fs::create_dir(&answers)?;
    let mut life = Life {
        place,
        answers: &answers,
        variables: Vec::new(),
        count: 0,
    };
    life.live(&mut canaries)?;
    life.ask()?;

    let patterns = canaries.patterns();
    let list = scratch.path().join("patterns");
    let texts: Vec<&str> = patterns.iter().map(|(text, _)| text.as_str()).collect();
    fs::write(&list, texts.join("\n") + "\n")?;
    // What is known to be there: a search that finds nothing anywhere is no proof.
    let control = search(&list, &[&place.project.join("secrets")])?;
    ensure!(
        control.len() >= LOCAL_FILES,
        "the search found {} of {LOCAL_FILES} files that are in clear",
        control.len()
    );
    let environs = scratch.path().join("environs");
    fs::create_dir(&environs)?;
    let processes = environments_of_processes(&environs)?;
    let aside = scratch.path().join("cores");
    fs::create_dir(&aside)?;
    let cores = cores(place, &aside)?;
    let root = &place.instance.root;
    let state = ["lib", "run", "etc"].map(|folder| root.join(folder));
    let places: Vec<&Path> = state
        .iter()
        .map(std::path::PathBuf::as_path)
        .filter(|folder| folder.exists())
        .chain([answers.as_path(), &environs, &aside])
        .collect();
    let found = search(&list, &places)?;
    for (file, text) in &found {
        let what = patterns.iter().find(|(pattern, _)| pattern == text);
        let what = what.map_or("?", |(_, what)| what);
        eprintln!("in clear: {what}: {file}");
    }
    let masked = masked_lines(place)?;
    ensure!(
        masked > 0,
        "nothing was masked: the programs printed nothing"
    );
    let verdict = if found.is_empty() { "held" } else { "missed" };
    eprintln!(
        "{} secrets, {} patterns, {} answers, {processes} processes, {cores} cores: {} in clear   bar 0: {verdict}",
        canaries.values.len(),
        patterns.len(),
        life.count,
        found.len()
    );
    Ok(json!({
        "bench": "canary",
        "secrets": FILES + VARIABLES + BUILD + LOCAL_FILES + LOCAL_VARIABLES,
        "plaintext_hits": found.len(),
        "patterns": patterns.len(),
        "answers": life.count,
        "processes": processes,
        "cores": cores,
        "masked_lines": masked,
        "control_hits": control.len(),
    }))
}

/// The files of a project whose service has all of them.
fn write_project(place: &Installation, canaries: &mut Canaries) -> Result<()> {
    let folder = &place.project;
    let secrets = folder.join("secrets");
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(&secrets)?;
    for (name, text) in [
        ("Dockerfile", include_str!("canary/Dockerfile")),
        ("canary.sh", include_str!("canary/canary.sh")),
        (".dockerignore", "secrets\n"),
    ] {
        fs::write(folder.join(name), text)?;
    }
    let mut declared = String::from("secrets:\n");
    let mut granted = Vec::new();
    for name in names("file", FILES) {
        writeln!(declared, "  {name}: {{external: true}}")?;
        granted.push(name);
    }
    for name in names("build", BUILD).chain(names("variable", VARIABLES)) {
        writeln!(declared, "  {name}: {{external: true}}")?;
    }
    for name in names("local", LOCAL_FILES) {
        fs::write(secrets.join(&name), canaries.hatch(&name)?)?;
        writeln!(declared, "  {name}: {{file: ./secrets/{name}}}")?;
        granted.push(name);
    }
    for (number, name) in names("shell", LOCAL_VARIABLES).enumerate() {
        writeln!(declared, "  {name}: {{environment: SHELL_{number}}}")?;
        granted.push(name);
    }
    let build: Vec<String> = names("build", BUILD).collect();
    let compose = format!(
        "name: canary\n\
         services:\n\
         \x20 app:\n\
         \x20   image: canary\n\
         \x20   build: {{context: ., secrets: [{}]}}\n\
         \x20   environment: {{MODE: \"${{MODE:-run}}\", PROBE: \"${{PROBE:-0}}\"}}\n\
         \x20   secrets: [{}]\n\
         \x20   stop_grace_period: 5s\n\
         \x20   healthcheck: {{test: [CMD, sh, /canary.sh, probe], interval: 2s, timeout: 10s, retries: 2}}\n\
         \x20   pre_start: [{{command: [sh, /canary.sh, show]}}]\n\
         {declared}",
        build.join(", "),
        granted.join(", "),
    );
    fs::write(folder.join("compose.yaml"), compose)?;
    let mut settings = String::from("services:\n  app:\n    environment:\n");
    for (number, name) in names("variable", VARIABLES).enumerate() {
        writeln!(settings, "      CANARY_{number}: {{secret: {name}}}")?;
    }
    fs::write(folder.join("havre.yaml"), settings)?;
    Ok(())
}

fn names(kind: &str, count: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |number| format!("{kind}-{number}"))
}

/// What is done with the secrets; all that is answered is kept.
struct Life<'a> {
    place: &'a Installation,
    answers: &'a Path,
    /// Of whoever runs the commands.
    variables: Vec<(String, String)>,
    count: usize,
}

impl Life<'_> {
    fn live(&mut self, canaries: &mut Canaries) -> Result<()> {
        say("setting the secrets");
        let stored = names("file", FILES)
            .chain(names("variable", VARIABLES))
            .chain(names("build", BUILD));
        for name in stored {
            self.set(&name, &canaries.hatch(&name)?)?;
        }
        for number in 0..LOCAL_VARIABLES {
            let value = canaries.hatch(&format!("shell-{number}"))?;
            self.variables.push((format!("SHELL_{number}"), value));
        }
        say("the first release, with a build");
        self.run(&["up"], &[], true)?;
        say("new values, and a second release");
        for name in names("file", RENEWED) {
            self.set(&name, &canaries.hatch(&name)?)?;
        }
        self.run(&["up"], &[], true)?;
        say("crashes of the daemon and of a shim");
        self.crash("daemon")?;
        // Who starts the next one has some of the secrets as variables.
        self.run(&["up"], &[], true)?;
        self.crash("shim")?;
        self.place.wait_until_calm(CALM)?;
        say("releases that crash, and whose probe fails");
        self.run(&["up"], &[("MODE", "crash")], false)?;
        self.run(&["up"], &[("PROBE", "1")], false)?;
        say("back to the first release");
        self.run(&["rollback", "1"], &[], true)?;
        self.place.wait_until_calm(CALM)?;
        Ok(())
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let arguments = [
            "secret",
            "set",
            name,
            "--stdin",
            "-p",
            "canary",
            "-E",
            "production",
        ];
        let mut havre = self.place.havre(&arguments);
        self.keep(havre.stdin(Stdio::piped()), Some(value), true)
    }

    fn run(&mut self, arguments: &[&str], variables: &[(&str, &str)], works: bool) -> Result<()> {
        let mut havre = self.place.havre(arguments);
        havre.envs(self.variables.iter().map(|(name, value)| (name, value)));
        havre.envs(variables.iter().copied()).stdin(Stdio::null());
        self.keep(&mut havre, None, works)
    }

    /// Runs it and keeps all that it says.
    fn keep(&mut self, command: &mut Command, input: Option<&str>, works: bool) -> Result<()> {
        let output = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = output
            .spawn()
            .with_context(|| format!("cannot run {command:?}"))?;
        if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
            stdin.write_all(input.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        self.count += 1;
        let file = self.answers.join(format!("{:04}", self.count));
        fs::write(&file, [output.stdout.as_slice(), &output.stderr].concat())?;
        ensure!(
            output.status.success() == works,
            "{:?} ended with {}: {}",
            command.get_args().collect::<Vec<_>>(),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// Ends a process of Havre as a fault of its own would, which leaves a core where it may.
    fn crash(&self, entry: &str) -> Result<()> {
        let processes = processes_of(&self.place.instance)?;
        let found = processes
            .iter()
            .find(|(_, arguments)| is_entry(arguments, entry));
        let Some((pid, _)) = found else {
            bail!("no {entry} runs");
        };
        let dead = Path::new("/proc").join(pid.to_string());
        read(command("kill").args(["-ABRT", &pid.to_string()]))?;
        wait_until(&format!("the {entry} is gone"), CALM, || {
            Ok((!dead.exists()).then_some(()))
        })
    }

    /// Everything that answers questions.
    fn ask(&mut self) -> Result<()> {
        let questions: &[&[&str]] = &[
            &["status", "--json"],
            &["status"],
            &["ps", "--all", "--json"],
            &["releases", "--json"],
            &["rollout", "history", "--json"],
            &["plan", "--json"],
            &["plan"],
            &["config"],
            &["check", "--json"],
            &["why", "app", "--json"],
            &["why", "app"],
            &["logs"],
            &["logs", "--timestamps"],
            &["audit", "log", "--json"],
            &["audit", "export"],
            &["image", "ls", "--json"],
            &["image", "prune", "--dry-run", "--json"],
            &["network", "ls", "--json"],
            &["daemon", "status", "--json"],
            &["secret", "ls", "--json"],
            &["secret", "history", "file-0", "-E", "production", "--json"],
            &["secret", "who", "file-0", "-E", "production", "--json"],
            &["secret", "seal", "status", "--json"],
            &["token", "ls", "--json"],
            &["cert", "ls", "--json"],
            &["doctor"],
        ];
        for question in questions {
            // Whether there is something to complain of is not the question here.
            let worked = self.run(question, &[], true);
            if let Err(error) = worked {
                say(&format!("{error:#}"));
            }
        }
        Ok(())
    }
}

/// The environment and the command line of each process on the host's side, as files; how many.
fn environments_of_processes(folder: &Path) -> Result<usize> {
    let host = fs::read_link("/proc/self/ns/pid")?;
    let own = std::process::id().to_string();
    let mut count = 0;
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.bytes().all(|byte| byte.is_ascii_digit()) || name == own {
            continue;
        }
        // In a container its own processes have their variables.
        let process = Path::new("/proc").join(&name);
        if !fs::read_link(process.join("ns/pid")).is_ok_and(|space| space == host) {
            continue;
        }
        let read = |file: &str| fs::read(process.join(file)).unwrap_or_default();
        fs::write(
            folder.join(&name),
            [read("environ"), read("cmdline")].concat(),
        )?;
        count += 1;
    }
    Ok(count)
}

/// Moves what crashes left where processes of Havre run; how many.
fn cores(place: &Installation, aside: &Path) -> Result<usize> {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern")?;
    if pattern.starts_with(['|', '/']) {
        say(&format!("cores go elsewhere: {}", pattern.trim()));
    }
    let mut moved = 0;
    let root = place.instance.root.as_path();
    for folder in [
        Path::new("/"),
        root,
        &root.join("lib"),
        &root.join("run"),
        &place.project,
    ] {
        let Ok(entries) = fs::read_dir(folder) else {
            continue;
        };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == "core" || name.starts_with("core.") {
                fs::copy(entry.path(), aside.join(format!("{moved}")))?;
                fs::remove_file(entry.path())?;
                moved += 1;
            }
        }
    }
    Ok(moved)
}

/// Which file has which of the texts.
fn search(list: &Path, places: &[&Path]) -> Result<BTreeSet<(String, String)>> {
    let output = command("grep")
        .env("LC_ALL", "C")
        .args(["-r", "-a", "-F", "-o", "-H", "-D", "skip", "-Z", "-f"])
        .arg(list)
        .args(places)
        .output()
        .context("cannot run grep")?;
    // A file went while it was read, or is a pinned namespace.
    let complaints = String::from_utf8_lossy(&output.stderr);
    let harmless = ["No such file or directory", "Invalid argument"];
    let serious = complaints
        .lines()
        .find(|line| !harmless.iter().any(|reason| line.ends_with(reason)));
    if let Some(line) = serious {
        bail!("grep did not read all: {line}");
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let hits = text.lines().filter_map(|line| line.split_once('\0'));
    Ok(hits
        .map(|(file, text)| (file.to_owned(), text.to_owned()))
        .collect())
}

/// Lines of the service's output in which something was masked.
fn masked_lines(place: &Installation) -> Result<usize> {
    let text = read(&mut place.havre(&["logs"]))?;
    Ok(text.lines().filter(|line| line.contains("***")).count())
}
