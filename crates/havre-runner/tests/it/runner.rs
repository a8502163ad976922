//! A runner in a temporary folder: what it is given, what it told.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use havre_job::{Actions, Document, Results, Runner, Sources, Told, VERSION};

/// What a runner is given.
pub struct Given {
    pub folder: tempfile::TempDir,
    pub document: Document,
    /// A program that starts the runner, with its arguments.
    pub starter: Vec<String>,
}

impl Given {
    /// A workflow with one job, `a`.
    pub fn workflow(text: &str) -> Self {
        let folder = tempfile::tempdir().expect("there is a folder for tests");
        let place = |name: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(&path).expect("it can be made");
            path.to_string_lossy().into_owned()
        };
        let runner = Runner {
            name: "box".to_owned(),
            arch: "X64".to_owned(),
            workspace: place("w"),
            temp: place("t"),
            tool_cache: place("c"),
            in_container: false,
            job_context: r#"{"container": {"id": "c1"}}"#.to_owned(),
        };
        let actions = Actions {
            server: format!("file://{}", place("server")),
            folder: place("actions"),
            ..Actions::default()
        };
        let github = r#"{"actor": "ada", "repository": "ada/shop", "sha": "", "event": {"n": 1}}"#;
        let document = Document {
            version: VERSION,
            path: ".github/workflows/ci.yml".to_owned(),
            workflow: text.to_owned(),
            job: "a".to_owned(),
            contexts: BTreeMap::from([("github".to_owned(), github.to_owned())]),
            masks: Vec::new(),
            runner,
            sources: Sources::Tree,
            results: None::<Results>,
            doors: Vec::new(),
            actions,
            env: BTreeMap::new(),
            debug: false,
        };
        Self {
            folder,
            document,
            starter: Vec::new(),
        }
    }

    /// The same, by the steps alone.
    pub fn steps(text: &str) -> Self {
        let indented = text.lines().map(|line| format!("      {line}\n"));
        let steps: String = indented.collect();
        Self::workflow(&format!(
            "on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n{steps}"
        ))
    }

    /// A file of the workspace.
    pub fn file(&self, path: &str, text: &str) {
        let path = self.workspace().join(path);
        let folder = path.parent().expect("it is in a folder");
        fs::create_dir_all(folder).expect("it can be made");
        fs::write(path, text).expect("it can be written");
    }

    pub fn workspace(&self) -> PathBuf {
        self.folder.path().join("w")
    }

    /// Starts the runner.
    pub fn start(&self) -> Started {
        let own = std::env::current_exe().expect("the own program is known");
        let path = std::env::var("PATH").unwrap_or_default();
        let mut line = self.starter.clone();
        line.push(own.to_string_lossy().into_owned());
        let mut child = Command::new(&line[0])
            .args(&line[1..])
            .arg("job-runner")
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the runner starts");
        let text = serde_json::to_vec(&self.document).expect("a document is JSON");
        let mut input = child.stdin.take().expect("it has an input");
        input.write_all(&text).expect("it takes the document");
        drop(input);
        let output = BufReader::new(child.stdout.take().expect("it has an output"));
        Started {
            child,
            lines: output.lines(),
            told: Vec::new(),
        }
    }

    /// Runs it; all that was told, and its exit code.
    pub fn run(&self) -> (Vec<Told>, i32) {
        self.start().finish()
    }

    /// Runs it; all that was told, as text.
    pub fn shown(&self) -> String {
        let (told, _) = self.run();
        shown(&told, self.folder.path(), false)
    }
}

/// A runner that runs.
pub struct Started {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    told: Vec<Told>,
}

impl Started {
    /// Reads on until this is a line of output.
    pub fn until(&mut self, text: &str) {
        while let Some(told) = self.next() {
            if matches!(&told, Told::Line { text: line, .. } if line == text) {
                return;
            }
        }
        panic!("`{text}` was never told: {:#?}", self.told);
    }

    /// To the runner, which may be the child of its starter.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = self.child.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        let name = fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
        let id = match name.trim() {
            "unshare" => children.expect("it has a child").trim().to_owned(),
            _ => id.to_string(),
        };
        let id: i32 = id.parse().expect("it is an id");
        let id = rustix::process::Pid::from_raw(id).expect("it is an id");
        rustix::process::kill_process(id, signal).expect("it can be signalled");
    }

    fn next(&mut self) -> Option<Told> {
        let line = self.lines.next()?.expect("what is told can be read");
        let told: Told = serde_json::from_str(&line).expect("what is told is JSON");
        self.told.push(told.clone());
        Some(told)
    }

    pub fn finish(mut self) -> (Vec<Told>, i32) {
        while self.next().is_some() {}
        let status = self.child.wait().expect("it ends");
        let told = std::mem::take(&mut self.told);
        (told, status.code().unwrap_or(-1))
    }
}

/// Told as text, a line each; what runs is announced in a group, which is left out unless `all` is wanted.
pub fn shown(told: &[Told], folder: &Path, all: bool) -> String {
    let mut text = String::new();
    let mut announcing: Vec<u32> = Vec::new();
    for told in told {
        if let (
            Told::Line {
                step: Some(step),
                kind,
                text,
            },
            false,
        ) = (told, all)
        {
            let kind = word(kind);
            if kind == "group" && text.starts_with("Run ") {
                announcing.push(*step);
                continue;
            }
            if let Some(at) = announcing.iter().position(|other| other == step) {
                if kind == "end_group" {
                    announcing.remove(at);
                }
                continue;
            }
        }
        text.push_str(&line(told));
        text.push('\n');
    }
    text.replace(&folder.to_string_lossy().into_owned(), "$")
}

fn line(told: &Told) -> String {
    let place = |step: &Option<u32>| step.map_or("-".to_owned(), |step| step.to_string());
    match told {
        Told::Began { steps, .. } => format!("began {}", steps.join(" | ")),
        Told::StepBegan { step, name, .. } => format!("{step} > {name}"),
        Told::Line { step, kind, text } => match word(kind).as_str() {
            "plain" => format!("{}   {text}", place(step)),
            kind => format!("{} {kind}: {text}", place(step)),
        },
        Told::Annotation { step, annotation } => {
            let a = annotation;
            let number = |number: Option<u32>| number.map_or("-".to_owned(), |n| n.to_string());
            format!(
                "{} annotation {} {}:{}-{}:{}-{} {} {}",
                place(step),
                word(&a.level),
                a.file.as_deref().unwrap_or("-"),
                number(a.line),
                number(a.end_line),
                number(a.column),
                number(a.end_column),
                a.title.as_deref().unwrap_or("-"),
                a.message
            )
        }
        Told::Summary { step, text } => format!("{step} summary {text:?}"),
        Told::StepEnded {
            step,
            outcome,
            conclusion,
            exit_code,
            why,
            ..
        } => {
            let mut text = format!("{step} < {}", word(outcome));
            if outcome != conclusion {
                text.push_str(&format!(" but {}", word(conclusion)));
            }
            if let Some(code) = exit_code.filter(|code| *code != 0) {
                text.push_str(&format!(" {code}"));
            }
            if let Some(why) = why {
                text.push_str(&format!(" ({why})"));
            }
            text
        }
        Told::Ended {
            result,
            outputs,
            environment_url,
            images,
            ..
        } => {
            let mut text = format!("ended {}", word(result));
            for (name, value) in outputs {
                text.push_str(&format!(" {name}={value:?}"));
            }
            if let Some(url) = environment_url {
                text.push_str(&format!(" at {url}"));
            }
            for (name, digest) in images {
                text.push_str(&format!(" image {name}@{digest:.12}"));
            }
            text
        }
    }
}

fn word(value: &impl serde::Serialize) -> String {
    let text = serde_json::to_string(value).expect("it is JSON");
    text.trim_matches('"').to_owned()
}
