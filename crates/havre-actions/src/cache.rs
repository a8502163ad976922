//! `actions/cache`, `/restore`, `/save`, and what other actions keep by it.

mod archive;

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::failure::{Failure, refused};
use crate::glob::Search;
use crate::http::hex;
use crate::results::{Hit, Results};
use crate::step::Step;
use archive::Method;

/// Part of each version: the client's own.
const SALT: &str = "1.0";
/// Most keys, and characters of each: the client's own.
const MOST_KEYS: usize = 10;
const MOST_KEY: usize = 512;
/// Bytes of a block, if `upload-chunk-size` says nothing else.
const BLOCK: u64 = 32 << 20;
const MOST_BLOCK: u64 = 128 << 20;

/// What is kept under which key.
pub(crate) struct Cache {
    pub(crate) paths: Vec<String>,
    pub(crate) key: String,
    pub(crate) restore: Vec<String>,
}

pub(crate) fn main(step: &Step) -> Result<(), Failure> {
    let cache = Cache::of(step)?;
    step.keep("CACHE_KEY", &cache.key)?;
    step.output("cache-primary-key", &cache.key)?;
    let Some(matched) = cache.restore(step, step.flag("lookup-only", false)?)? else {
        if step.flag("fail-on-cache-miss", false)? {
            return refused(format!(
                "there is no cache of `{}`, and `fail-on-cache-miss` is set",
                cache.key
            ));
        }
        step.say(&format!("No cache of {}.", keys(&cache)));
        return Ok(());
    };
    step.keep("CACHE_RESULT", &matched)?;
    step.output("cache-matched-key", &matched)?;
    step.output(
        "cache-hit",
        if same(&matched, &cache.key) {
            "true"
        } else {
            "false"
        },
    )
}

/// Saves if the very key was not found.
pub(crate) fn post(step: &Step) -> Result<(), Failure> {
    let mut cache = Cache::of(step)?;
    if let Some(key) = step.state("CACHE_KEY") {
        // As it was at the beginning: what it is computed from may have changed.
        cache.key = key.to_owned();
    }
    if step
        .state("CACHE_RESULT")
        .is_some_and(|matched| same(matched, &cache.key))
    {
        step.say(&format!(
            "The cache of {} was found, and is not saved again.",
            cache.key
        ));
        return Ok(());
    }
    cache.save(step)
}

pub(crate) fn save(step: &Step) -> Result<(), Failure> {
    Cache::of(step)?.save(step)
}

impl Cache {
    fn of(step: &Step) -> Result<Self, Failure> {
        let paths = step
            .lines("path")
            .into_iter()
            .map(|line| match line.strip_prefix('!') {
                Some(rest) => format!("!{}", rest.trim_start()),
                None => line,
            });
        let cache = Self {
            paths: paths.collect(),
            key: step.input("key"),
            restore: step.lines("restore-keys"),
        };
        cache.checked()
    }

    fn checked(self) -> Result<Self, Failure> {
        if self.restore.len() >= MOST_KEYS {
            return refused(format!(
                "there may be at most {MOST_KEYS} keys, `key` among them"
            ));
        }
        for key in self.restore.iter().chain([&self.key]) {
            if key.encode_utf16().count() > MOST_KEY || key.contains(',') {
                return refused(format!(
                    "the key `{key}` must have at most {MOST_KEY} characters and no comma"
                ));
            }
        }
        Ok(self)
    }

    /// The key that was found, and what is under it put where it was. What goes wrong is a warning: a job does
    /// without a cache.
    pub(crate) fn restore(
        &self,
        step: &Step,
        lookup_only: bool,
    ) -> Result<Option<String>, Failure> {
        if matches!(step.var("ACTIONS_CACHE_MODE"), Some("none" | "write-only")) {
            step.say("Caches may not be read in this job (`cache-mode`).");
            return Ok(None);
        }
        let Some(results) = Results::of(step)? else {
            step.warning("this run has no caches: nothing is restored");
            return Ok(None);
        };
        let method = Method::of_machine();
        let hit = match results.find_cache(&self.key, &self.restore, &version(&self.paths, method))
        {
            Ok(hit) => hit,
            Err(failure) => return Ok(warn(step, "the cache cannot be looked for", &failure)),
        };
        let Some(hit) = hit else { return Ok(None) };
        if lookup_only {
            step.say(&format!(
                "There is a cache of {}; it is not restored (`lookup-only`).",
                hit.key
            ));
            return Ok(Some(hit.key));
        }
        match self.unpack(step, &results, &hit) {
            Ok(()) => {
                step.say(&format!("The cache of {} was restored.", hit.key));
                Ok(Some(hit.key))
            }
            Err(failure) => Ok(warn(step, "the cache cannot be restored", &failure)),
        }
    }

    fn unpack(&self, step: &Step, results: &Results, hit: &Hit) -> Result<(), Failure> {
        let file = Scratch::new(step)?;
        results.fetch(&hit.url, &file.0)?;
        archive::unpack(&file.0, &step.workspace()?)
    }

    /// Keeps what the paths say now. What goes wrong is a warning.
    pub(crate) fn save(&self, step: &Step) -> Result<(), Failure> {
        if matches!(step.var("ACTIONS_CACHE_MODE"), Some("none" | "read")) {
            step.say("Caches may not be written in this job (`cache-mode`).");
            return Ok(());
        }
        let block = step.number("upload-chunk-size", 1, BLOCK)?.min(MOST_BLOCK);
        let Some(results) = Results::of(step)? else {
            step.warning("this run has no caches: nothing is saved");
            return Ok(());
        };
        match self.pack(step, &results, usize::try_from(block).unwrap_or(usize::MAX)) {
            Ok(said) => step.say(&said),
            Err(failure) => {
                warn(step, "the cache cannot be saved", &failure);
            }
        }
        Ok(())
    }

    fn pack(&self, step: &Step, results: &Results, block: usize) -> Result<String, Failure> {
        let workspace = step.workspace()?;
        let paths = self.found(step, &workspace)?;
        if paths.is_empty() {
            return refused("none of its paths is there");
        }
        let method = Method::of_machine();
        let version = version(&self.paths, method);
        let url = match results.begin_cache(&self.key, &version)? {
            Ok(url) => url,
            Err(why) => return Ok(format!("The cache of {} is not saved: {why}.", self.key)),
        };
        let file = Scratch::new(step)?;
        archive::pack(&file.0, &workspace, &paths, method)?;
        let bytes = std::fs::metadata(&file.0)
            .map_err(Failure::io("read the archive"))?
            .len();
        results.upload(&url, &file.0, block)?;
        results.end_cache(&self.key, &version, bytes)?;
        Ok(format!(
            "The cache of {} was saved: {bytes} bytes.",
            self.key
        ))
    }

    /// Relative to the workspace; none is below another.
    fn found(&self, step: &Step, workspace: &Path) -> Result<Vec<PathBuf>, Failure> {
        let search = Search {
            root: workspace,
            home: step.var("HOME"),
            descend: false,
            hidden: true,
        };
        let found = search.find(&self.paths)?.paths;
        let mut kept: Vec<PathBuf> = Vec::new();
        for path in found {
            // In order: what a folder holds comes behind it, though maybe not at once.
            if !path
                .ancestors()
                .skip(1)
                .any(|above| kept.iter().any(|other| other == above))
            {
                kept.push(path);
            }
        }
        Ok(kept.iter().map(|path| relative(workspace, path)).collect())
    }
}

/// What tells caches of other paths or another compression apart, as @actions/cache computes it.
fn version(paths: &[String], method: Method) -> String {
    let parts: Vec<&str> = paths
        .iter()
        .map(String::as_str)
        .chain([method.name(), SALT])
        .collect();
    hex(&Sha256::digest(parts.join("|").as_bytes()))
}

fn same(a: &str, b: &str) -> bool {
    a.to_lowercase() == b.to_lowercase()
}

fn keys(cache: &Cache) -> String {
    let mut all = vec![cache.key.as_str()];
    all.extend(cache.restore.iter().map(String::as_str));
    all.join(", ")
}

fn warn(step: &Step, what: &str, failure: &Failure) -> Option<String> {
    step.warning(&format!("{what}: {}", havre_base::one_line(failure)));
    None
}

/// From one folder to a path that need not be below it.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let common = from
        .components()
        .zip(to.components())
        .take_while(|(a, b)| a == b)
        .count();
    let up = from
        .components()
        .skip(common)
        .map(|_| Path::new("..").as_os_str());
    let path: PathBuf = up
        .chain(to.components().skip(common).map(|part| part.as_os_str()))
        .collect();
    if path.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        path
    }
}

/// A file in the job's scratch space that is removed in the end.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(step: &Step) -> Result<Self, Failure> {
        Ok(Self(step.temp()?.join(step.fresh_name("part"))))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It goes with the job at the latest.
        std::fs::remove_file(&self.0).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_the_clients() {
        // sha256 of "node_modules|dist|zstd-without-long|1.0", computed apart.
        let paths = ["node_modules".to_owned(), "dist".to_owned()];
        assert_eq!(
            version(&paths, Method::Zstd),
            "aea67a7fddb5ea7843c1a96ad41773aceaeb9c225be86ca52525288734eb3c7c"
        );
        assert_ne!(version(&paths, Method::Zstd), version(&paths, Method::Gzip));
    }

    #[test]
    fn paths_are_relative_to_the_workspace() {
        let check = |to: &str, expected: &str| {
            assert_eq!(
                relative(Path::new("/w/a"), Path::new(to)),
                Path::new(expected)
            )
        };
        check("/w/a/b", "b");
        check("/w/a", ".");
        check("/root/.npm", "../../root/.npm");
    }
}
