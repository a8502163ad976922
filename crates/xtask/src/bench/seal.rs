//! Opening the seal and a thousand secrets under it, each environment's as `up` does.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use havre_secrets::{Place, SCHEMA, Scope, Seal, SecretName, Secrets};
use havre_store::{Store, now};
use serde_json::{Value, json};

use super::figures::{median, rounded};

const SECRETS: usize = 1000;
const ENVIRONMENTS: usize = 10;
const RUNS: usize = 5;
const BAR_MS: f64 = 50.0;
const PASSPHRASE: &str = "five words that nobody guesses";

pub fn measure() -> Result<Value> {
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let place = || Place {
        state: folder.path().join("seal"),
        machine: folder.path().join("etc"),
    };
    let database = folder.path().join("state.db");
    let store = Arc::new(Store::open(&database, &[SCHEMA])?);
    let seal = Seal::start(place(), false, now());
    if let Some(reason) = seal.locked() {
        anyhow::bail!("no seal: {reason}");
    }
    let secrets = Secrets::new(Arc::clone(&store), seal.clone());
    let value = |number: usize| format!("{number:04}").repeat(12);
    let begun = Instant::now();
    for number in 0..SECRETS {
        let (scope, name) = place_of(number)?;
        secrets.set(&scope, &name, value(number).as_bytes(), "bench", "set")?;
    }
    let set_ms = ms(begun) / SECRETS as f64;
    let begun = Instant::now();
    seal.add_passphrase(PASSPHRASE, PASSPHRASE, now())?;
    // Derived when it is made, and once more to see that it opens.
    let kdf_ms = ms(begun) / 2.0;
    drop((secrets, seal, store));

    let (mut opened, mut locked) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let store = Arc::new(Store::open(&database, &[SCHEMA])?);
        let begun = Instant::now();
        let seal = Seal::start(place(), true, now());
        let secrets = Secrets::new(store, seal);
        for environment in 0..ENVIRONMENTS {
            let numbers = (environment..SECRETS).step_by(ENVIRONMENTS);
            let places: Result<Vec<_>> = numbers.clone().map(place_of).collect();
            let (scopes, names): (Vec<_>, Vec<_>) = places?.into_iter().unzip();
            let read = secrets.resolve_all(&scopes[0], &names)?;
            for (number, read) in numbers.zip(read) {
                ensure!(
                    **read?.plain == *value(number).as_bytes(),
                    "secret {number} is another value"
                );
            }
        }
        opened.push(ms(begun));
        // A machine slot that is lost.
        let away = folder.path().join("away");
        std::fs::rename(place().machine, &away)?;
        let seal = Seal::start(place(), true, now());
        ensure!(
            seal.locked().is_some(),
            "it opened without the machine's key"
        );
        let begun = Instant::now();
        seal.unlock(PASSPHRASE, now())?;
        locked.push(ms(begun));
        std::fs::rename(&away, place().machine)?;
    }
    let open_ms = median(&opened);
    let verdict = if open_ms <= BAR_MS { "held" } else { "missed" };
    eprintln!("{SECRETS} secrets opened in {open_ms:.1} ms   bar ≤ {BAR_MS} ms: {verdict}");
    Ok(json!({
        "bench": "seal",
        "secrets": SECRETS,
        "open_ms": rounded(open_ms),
        "set_ms": rounded(set_ms),
        "kdf_ms": rounded(kdf_ms),
        "unlock_ms": rounded(median(&locked)),
    }))
}

fn place_of(number: usize) -> Result<(Scope, SecretName)> {
    let scope = Scope::Environment {
        project: "shop".to_owned(),
        environment: format!("environment-{}", number % ENVIRONMENTS),
    };
    Ok((scope, format!("folder/secret-{number}").parse()?))
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}
