//! Broken variants of every case: the reader says something about each, and never panics or hangs.
//! `HAVRE_SEED` repeats a run; `HAVRE_FUZZ_SECONDS` makes it longer.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use havre_model::{EnvironmentName, LoadOptions, load};

/// For one variant, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Inserted at random places.
const PIECES: &[&str] = &[
    "${",
    "}",
    "$$",
    "${A:-",
    "${A:?x}",
    "&a ",
    "*a",
    "<<: *a",
    "!reset ",
    "!override ",
    "!!str ",
    "? ",
    "- ",
    ": ",
    "[",
    "]",
    "{",
    "}",
    "|\n",
    ">-\n",
    "\"",
    "'",
    "#",
    "\t",
    "\u{feff}",
    "\0",
    "null",
    "~",
    "0",
    "-1",
    "1e9",
    "99999999999999999999",
    "é",
    "\u{202e}",
    "---\n",
    "...\n",
    "%YAML 1.1\n",
    "x-a: ",
    "include: [compose.yaml]\n",
    "extends: web",
    "\r\n",
    "  ",
    "\\",
];

/// xorshift64*: small and repeatable.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let value = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d);
        (value % limit.max(1) as u64) as usize
    }
}

#[test]
fn broken_files_are_refused_and_nothing_worse() {
    let seed = match std::env::var("HAVRE_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 | 1,
    };
    println!("HAVRE_SEED={seed}");
    let seconds = std::env::var("HAVRE_FUZZ_SECONDS").map_or(5, |text| text.parse().unwrap());
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let texts = originals();
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random(seed | 1);
    let (mut rounds, mut loaded) = (0, 0);
    while Instant::now() < deadline {
        let compose = mutated(&texts, &mut random);
        fs::write(folder.path().join("compose.yaml"), &compose).unwrap();
        // One in eight rounds each; else the file is not there.
        for name in ["havre.yaml", ".env"] {
            let path = folder.path().join(name);
            match random.below(8) {
                0 => fs::write(path, mutated(&texts, &mut random)).unwrap(),
                _ if path.exists() => fs::remove_file(path).unwrap(),
                _ => {}
            }
        }
        loaded += usize::from(survives(folder.path(), &compose));
        rounds += 1;
    }
    println!("{rounds} variants, {loaded} of them valid");
    assert!(rounds > 10, "only {rounds} variants");
    assert!(
        loaded > 0,
        "no variant is valid: the mutations are too coarse to reach anything"
    );
}

/// Whether the variant loads; panics (with the text) when the reader panics or hangs.
fn survives(folder: &Path, text: &str) -> bool {
    let (sender, receiver) = mpsc::channel();
    let options = LoadOptions {
        directory: folder.to_owned(),
        project_name: Some("case".into()),
        environment: Some(EnvironmentName::new("staging")),
        profiles: vec!["*".into()],
        variables: [("HOME".to_owned(), "/root".to_owned())].into(),
        ..LoadOptions::default()
    };
    let worker = std::thread::spawn(move || {
        let outcome = load(&options);
        let shown = match &outcome {
            Ok(loaded) => serde_json::to_string(&loaded.project).unwrap().len(),
            Err(failure) => {
                assert!(!failure.errors.is_empty());
                failure.to_string().len()
            }
        };
        // The receiver is gone only when the test has failed already.
        sender.send((outcome.is_ok(), shown)).unwrap_or_default();
    });
    match receiver.recv_timeout(PATIENCE) {
        Ok((loaded, _)) => {
            worker.join().unwrap();
            loaded
        }
        Err(error) => panic!("{error}\n{text}"),
    }
}

fn originals() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compose");
    let mut files: Vec<PathBuf> = Vec::new();
    for case in fs::read_dir(root).unwrap() {
        let inside = fs::read_dir(case.unwrap().path())
            .unwrap()
            .map(|e| e.unwrap().path());
        files.extend(inside.filter(|path| {
            let extension = path.extension().and_then(|e| e.to_str());
            matches!(extension, Some("yaml" | "yml"))
        }));
    }
    files.sort();
    files
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .collect()
}

fn mutated(texts: &[String], random: &mut Random) -> String {
    let mut text = texts[random.below(texts.len())].clone();
    for _ in 0..=random.below(6) {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let at = random.below(lines.len());
        match random.below(8) {
            0 if !lines.is_empty() => drop(lines.remove(at)),
            1 if !lines.is_empty() => lines.insert(at, lines[at].clone()),
            2 if !lines.is_empty() => lines[at].insert_str(0, "  "),
            3 if !lines.is_empty() => lines[at] = lines[at].replacen("  ", "", 1),
            4 => {
                let other: Vec<&str> = texts[random.below(texts.len())].lines().collect();
                let from = random.below(other.len());
                let taken = other.iter().skip(from).take(random.below(12));
                lines.extend(taken.map(|line| (*line).to_owned()));
            }
            _ => {
                let piece = PIECES[random.below(PIECES.len())];
                let line = lines.get_mut(at);
                if let Some(line) = line {
                    let places: Vec<usize> = line.char_indices().map(|(i, _)| i).collect();
                    let place = places.get(random.below(places.len())).copied().unwrap_or(0);
                    line.insert_str(place, piece);
                }
            }
        }
        text = lines.join("\n");
    }
    text
}
