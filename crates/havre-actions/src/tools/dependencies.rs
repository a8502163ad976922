//! What package managers have fetched, kept as a cache under the hash of what says which packages there are.

use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

use super::install::architecture;
use super::program::{ask, which};
use crate::cache::Cache;
use crate::failure::{Failure, refused};
use crate::glob::Search;
use crate::http::hex;
use crate::step::Step;

/// A package manager.
pub(super) struct Manager {
    pub(super) name: &'static str,
    /// Files that say which packages there are, of which the first kind that is found counts.
    files: &'static [&'static str],
    /// Where it keeps packages: commands that say so, or folders.
    places: &'static [Place],
}

enum Place {
    /// A program and its arguments.
    Told(&'static str, &'static [&'static str]),
    Folder(&'static str),
}

const MANAGERS: &[Manager] = &[
    Manager {
        name: "npm",
        files: &["package-lock.json", "npm-shrinkwrap.json", "yarn.lock"],
        places: &[Place::Told("npm", &["config", "get", "cache"])],
    },
    Manager {
        name: "yarn",
        files: &["yarn.lock"],
        places: &[Place::Told("yarn", &["cache", "dir"])],
    },
    Manager {
        name: "pnpm",
        files: &["pnpm-lock.yaml"],
        places: &[Place::Told("pnpm", &["store", "path", "--silent"])],
    },
    Manager {
        name: "pip",
        files: &["**/requirements.txt", "**/pyproject.toml"],
        places: &[Place::Told("pip", &["cache", "dir"])],
    },
    Manager {
        name: "pipenv",
        files: &["**/Pipfile.lock"],
        places: &[Place::Folder("~/.local/share/virtualenvs")],
    },
    Manager {
        name: "poetry",
        files: &["**/poetry.lock"],
        places: &[Place::Folder("~/.cache/pypoetry")],
    },
    Manager {
        name: "go",
        files: &["**/go.sum"],
        places: &[
            Place::Told("go", &["env", "GOMODCACHE"]),
            Place::Told("go", &["env", "GOCACHE"]),
        ],
    },
    Manager {
        name: "maven",
        files: &["**/pom.xml"],
        places: &[Place::Folder("~/.m2/repository")],
    },
    Manager {
        name: "gradle",
        files: &[
            "**/*.gradle*",
            "**/gradle-wrapper.properties",
            "**/libs.versions.toml",
        ],
        places: &[
            Place::Folder("~/.gradle/caches"),
            Place::Folder("~/.gradle/wrapper"),
        ],
    },
    Manager {
        name: "sbt",
        files: &["**/*.sbt", "**/project/build.properties"],
        places: &[
            Place::Folder("~/.ivy2/cache"),
            Place::Folder("~/.sbt"),
            Place::Folder("~/.cache/coursier"),
        ],
    },
];

/// The manager of that name, if it is one of `allowed`.
pub(super) fn manager(name: &str, allowed: &[&str]) -> Result<&'static Manager, Failure> {
    match MANAGERS
        .iter()
        .find(|manager| manager.name == name && allowed.contains(&name))
    {
        Some(manager) => Ok(manager),
        None => refused(format!(
            "`cache: {name}` is not one of {}",
            allowed.join(", ")
        )),
    }
}

impl Manager {
    /// Whether there is anything that says which packages there are.
    pub(super) fn has_files(&self, step: &Step) -> Result<bool, Failure> {
        Ok(!self.files(step, &[])?.is_empty())
    }

    /// Restores what it had fetched, for `tool` in `version`; the programs of the step are first looked for in `bin`.
    pub(super) fn restore(
        &self,
        step: &Step,
        tool: &str,
        version: &str,
        named: &[String],
        bin: Option<PathBuf>,
    ) -> Result<(), Failure> {
        let files = self.files(step, named)?;
        if files.is_empty() {
            let names = if named.is_empty() {
                self.files.join(", ")
            } else {
                named.join(", ")
            };
            return refused(format!(
                "`cache: {}` needs a file that says which packages there are: none of {names} is there",
                self.name
            ));
        }
        let mut digests = Sha256::new();
        for file in &files {
            let text =
                std::fs::read(file).map_err(Failure::io(format!("read {}", file.display())))?;
            digests.update(Sha256::digest(&text));
        }
        let os = step.var("RUNNER_OS").unwrap_or("Linux");
        let begin = format!(
            "setup-{tool}-{os}-{}-{tool}-{version}-{}",
            architecture(),
            self.name
        );
        let key = format!("{begin}-{}", hex(&digests.finalize()));
        let paths = self.places(step, bin)?;
        // Only pip is as well off with the packages of another list.
        let restore = if self.name == "pip" {
            vec![begin]
        } else {
            Vec::new()
        };
        let cache = Cache {
            paths,
            key,
            restore,
        };
        step.keep("PACKAGES_KEY", &cache.key)?;
        step.keep("PACKAGES_PATHS", &cache.paths.join("\n"))?;
        let matched = cache.restore(step, false)?;
        let hit = matched.as_deref() == Some(cache.key.as_str());
        if let Some(matched) = &matched {
            step.keep("PACKAGES_MATCHED", matched)?;
        } else {
            step.say(&format!("No cache of packages of {}.", self.name));
        }
        step.output("cache-primary-key", &cache.key)?;
        step.output("cache-hit", if hit { "true" } else { "false" })
    }

    fn files(&self, step: &Step, named: &[String]) -> Result<Vec<PathBuf>, Failure> {
        let root = step.workspace()?;
        let search = Search {
            root: &root,
            home: step.var("HOME"),
            descend: false,
            hidden: true,
        };
        let find = |patterns: &[String]| -> Result<Vec<PathBuf>, Failure> {
            let found = search.find(patterns)?.paths;
            Ok(found.into_iter().filter(|path| path.is_file()).collect())
        };
        if !named.is_empty() {
            return find(named);
        }
        for pattern in self.files {
            let found = find(&[(*pattern).to_owned(), "!**/node_modules/**".to_owned()])?;
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }

    fn places(&self, step: &Step, bin: Option<PathBuf>) -> Result<Vec<String>, Failure> {
        let mut paths = Vec::new();
        for place in self.places {
            match place {
                Place::Folder(folder) => paths.push((*folder).to_owned()),
                Place::Told(program, args) => {
                    let own = bin
                        .as_ref()
                        .map(|bin| bin.join(program))
                        .filter(|path| path.is_file());
                    let told = own
                        .or_else(|| which(step, program))
                        .and_then(|program| ask(&program, args));
                    // Warnings may come before it.
                    match told
                        .as_deref()
                        .and_then(|text| text.lines().rfind(|line| line.starts_with('/')))
                    {
                        Some(path) => paths.push(path.to_owned()),
                        None => {
                            return refused(format!(
                                "`{program} {}` does not say where packages are kept",
                                args.join(" ")
                            ));
                        }
                    }
                }
            }
        }
        Ok(paths)
    }
}

/// Saves what is fetched now, if it was not found under that very key.
pub(crate) fn post(step: &Step) -> Result<(), Failure> {
    let (Some(key), Some(paths)) = (step.state("PACKAGES_KEY"), step.state("PACKAGES_PATHS"))
    else {
        return Ok(());
    };
    if step.state("PACKAGES_MATCHED") == Some(key) {
        step.say("The cache of packages was found, and is not saved again.");
        return Ok(());
    }
    if step.flag("cache-read-only", false)? {
        return Ok(());
    }
    let paths = paths.lines().map(str::to_owned).collect();
    Cache {
        paths,
        key: key.to_owned(),
        restore: Vec::new(),
    }
    .save(step)
}
