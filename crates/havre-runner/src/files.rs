//! The files by which a step says something: fresh for each, read when it ended.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use havre_base::read_small;
use havre_job::MAX_SUMMARY;

use crate::artifacts;
use crate::pairs;

/// Most bytes of a file of variables, outputs or state.
const MAX_PAIRS: u64 = 16 << 20;
/// Most bytes of a file of folders.
const MAX_PATHS: u64 = 1 << 20;
/// What `GITHUB_ENV` may not set: with it, whoever can write the file runs code in every action.
const FORBIDDEN: &str = "NODE_OPTIONS";

/// A step's files.
pub(crate) struct Files {
    paths: [PathBuf; 6],
    /// What the job made so far, for reading.
    list: PathBuf,
}

/// Keys of `github`; the variables are `GITHUB_` and the same in capitals.
pub(crate) const KEYS: [&str; 6] = [
    "env",
    "path",
    "output",
    "state",
    "step_summary",
    "artifacts",
];

/// The same for the one that is for reading.
const LIST: &str = "artifacts_list";

/// What a step wrote.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Variables for the steps that follow.
    pub env: Vec<(String, String)>,
    /// Folders for the front of PATH.
    pub paths: Vec<String>,
    /// Outputs.
    pub outputs: Vec<(String, String)>,
    /// State for the post step.
    pub state: Vec<(String, String)>,
    /// Markdown.
    pub summary: Option<String>,
    /// As it is in the file.
    pub artifacts: String,
    /// What fails the step.
    pub errors: Vec<String>,
    /// What is not done, without failing the step.
    pub refused: Vec<String>,
}

impl Files {
    /// Makes them, empty; `number` is different for each process. `list` is what the job made so far.
    pub fn make(temp: &Path, number: u32, list: &str) -> io::Result<Self> {
        let folder = temp.join("_runner_file_commands");
        fs::create_dir_all(&folder)?;
        let paths = KEYS.map(|key| folder.join(format!("{key}_{number}")));
        for path in &paths {
            fs::File::create_new(path)?;
        }
        let path = folder.join(format!("{LIST}_{number}"));
        fs::write(&path, list)?;
        Ok(Self { paths, list: path })
    }

    /// Keys and paths.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let paths = self.paths.iter().map(PathBuf::as_path);
        KEYS.into_iter()
            .zip(paths)
            .chain([(LIST, self.list.as_path())])
    }

    /// Reads them and takes them away.
    pub fn read(self) -> Written {
        let mut written = Written::default();
        let [env, path, output, state, summary, artifacts] = &self.paths;
        for (name, value) in written.pairs("GITHUB_ENV", env) {
            if name.eq_ignore_ascii_case(FORBIDDEN) {
                let text = format!(
                    "`{FORBIDDEN}` cannot be set by $GITHUB_ENV; set it by `env:` in the workflow"
                );
                written.refused.push(text);
            } else {
                written.env.push((name, value));
            }
        }
        written.outputs = written.pairs("GITHUB_OUTPUT", output);
        written.state = written.pairs("GITHUB_STATE", state);
        let paths = written.text("GITHUB_PATH", path, MAX_PATHS);
        let folders = paths.trim_start_matches('\u{feff}').lines();
        let folders = folders.filter(|folder| !folder.is_empty());
        written.paths = folders.map(str::to_owned).collect();
        let text = written.text("GITHUB_STEP_SUMMARY", summary, MAX_SUMMARY as u64);
        written.summary = (!text.is_empty()).then_some(text);
        written.artifacts = written.text("GITHUB_ARTIFACTS", artifacts, artifacts::MAX_FILE);
        for path in self.paths.iter().chain([&self.list]) {
            // A step may have taken it away, or put a folder there: the next has files of its own.
            fs::remove_file(path).unwrap_or_default();
        }
        written
    }
}

impl Written {
    fn pairs(&mut self, name: &str, path: &Path) -> Vec<(String, String)> {
        let text = self.text(name, path, MAX_PAIRS);
        match pairs::parse(&text) {
            Ok(pairs) => pairs,
            Err(why) => {
                self.errors.push(format!("${name} cannot be used: {why}"));
                Vec::new()
            }
        }
    }

    fn text(&mut self, name: &str, path: &Path, most: u64) -> String {
        match read_small(path, most) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => {
                let size = fs::metadata(path).map_or(0, |found| found.len());
                self.errors.push(match size > most {
                    true => format!("${name} holds more than {most} bytes, which is too much"),
                    false => format!("${name} cannot be read: {error}"),
                });
                String::new()
            }
        }
    }
}
