//! `cargo xtask fuzz`: the fuzz targets of `fuzz/`, each for a while, from seeds that are the
//! cases of the compose reader. What crashes one is kept under `fuzz/artifacts/`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::shell::{command, has, say, succeed, workspace};

const TARGETS: [&str; 4] = ["yaml", "interpolation", "merge", "dotenv"];
/// Largest input, in bytes.
const MAX_INPUT: usize = 64 << 10;
/// More is a crash.
const MAX_MEMORY_MIB: usize = 1024;
/// A target measures its own computing time; this is for what never comes back.
const MAX_SECONDS: usize = 20;

#[derive(Args)]
pub struct Options {
    /// Which ones; all when none is named.
    #[arg(value_parser = TARGETS)]
    targets: Vec<String>,
    /// How long each of them, in seconds.
    #[arg(long, default_value_t = 600)]
    seconds: u32,
}

pub fn run(options: &Options) -> Result<()> {
    if !has("cargo-fuzz") {
        bail!("fuzzing needs cargo-fuzz: cargo install --locked cargo-fuzz");
    }
    let targets: Vec<&str> = match options.targets.as_slice() {
        [] => TARGETS.to_vec(),
        some => some.iter().map(String::as_str).collect(),
    };
    let seeds = seeds(&workspace().join("crates/havre-model/tests/compose"))?;
    for target in targets {
        let corpus = workspace().join("fuzz/corpus").join(target);
        fs::create_dir_all(&corpus).with_context(|| format!("cannot make {}", corpus.display()))?;
        for (number, seed) in seeds.get(target).into_iter().flatten().enumerate() {
            let path = corpus.join(format!("seed-{number}"));
            fs::write(&path, seed).with_context(|| format!("cannot write {}", path.display()))?;
        }
        say(&format!("{target}: {} s", options.seconds));
        // The stable compiler has what coverage counters need, behind flags of the nightly one.
        succeed(
            command("cargo")
                .env("RUSTC_BOOTSTRAP", "1")
                .args([
                    "fuzz",
                    "run",
                    "--sanitizer",
                    "none",
                    "-O",
                    "--debug-assertions",
                    target,
                    "--",
                ])
                .arg(format!("-max_total_time={}", options.seconds))
                .arg(format!("-max_len={MAX_INPUT}"))
                .arg(format!("-rss_limit_mb={MAX_MEMORY_MIB}"))
                .arg(format!("-timeout={MAX_SECONDS}")),
        )?;
    }
    Ok(())
}

/// What each target begins with.
fn seeds(cases: &Path) -> Result<BTreeMap<&'static str, Vec<Vec<u8>>>> {
    let mut seeds: BTreeMap<&'static str, Vec<Vec<u8>>> = BTreeMap::new();
    let mut add = |target, seed| seeds.entry(target).or_default().push(seed);
    for case in list(cases)? {
        let mut compose = Vec::new();
        for path in files(&case)? {
            let text =
                fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.ends_with(".yaml") || name.ends_with(".yml") {
                for line in text.split(|byte| *byte == b'\n') {
                    if line.contains(&b'$') {
                        add("interpolation", line.to_vec());
                    }
                }
                add("yaml", text.clone());
                compose.push(text);
            } else if name.ends_with("env") {
                add("dotenv", text);
            }
        }
        let mut compose = compose.into_iter();
        if let Some(first) = compose.next() {
            let second = compose.next().unwrap_or_else(|| b"{}".to_vec());
            add("merge", [&first[..], b"\n%%%\n", &second].concat());
        }
    }
    Ok(seeds)
}

/// All files below a folder, in the order of their names.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in list(folder)? {
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}
