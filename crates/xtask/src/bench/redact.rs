//! Masking output: 500 secrets in all their forms over a log, as the shim does it, beside `sed` and a
//! plain replacement, which know the values alone and none of their forms.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use havre_redact::{Filter, MASK, Stream};
use serde_json::{Value, json};

use super::figures::{cpu_time, median, mention, rounded};
use crate::shell::command;

const SECRETS: usize = 500;
const BYTES: usize = 256 << 20;
/// What the peers get, being slow.
const PEER_BYTES: usize = 8 << 20;
/// A read of the shim.
const CHUNK: usize = 16 * 1024;
/// One line in so many tells a secret.
const TELLING: usize = 200;
const RUNS: usize = 5;
const BAR_MB_PER_S: f64 = 400.0;

pub fn measure() -> Result<Value> {
    let mut random = Random(0x9e37_79b9);
    let secrets: Vec<String> = (0..SECRETS).map(|n| secret(n, &mut random)).collect();
    let log = log(&secrets, &mut random);
    let begun = cpu_time();
    let named = secrets.iter().map(|secret| ("name", secret.as_bytes()));
    let (filter, unmasked) = Filter::new(named);
    let build = cpu_time() - begun;
    ensure!(unmasked.is_empty(), "{unmasked:?} are not masked");

    let mut masked = Vec::with_capacity(log.len());
    let mut speeds = Vec::new();
    for _ in 0..RUNS {
        masked.clear();
        let begun = cpu_time();
        let mut stream = Stream::default();
        for chunk in log.as_bytes().chunks(CHUNK) {
            stream.feed(&filter, chunk, &mut masked);
        }
        stream.flush(&filter, &mut masked);
        speeds.push(mb_per_s(log.len(), cpu_time() - begun));
    }
    let (leaked, masks) = check(&masked, &secrets)?;
    ensure!(leaked == 0, "{leaked} secrets are in the output");
    ensure!(masks > BYTES / 100 / TELLING / 2, "only {masks} masks");

    let speed = median(&speeds);
    let verdict = if speed >= BAR_MB_PER_S {
        "held"
    } else {
        "missed"
    };
    eprintln!(
        "{SECRETS} secrets over {} MB of a log {speed:>10.0} MB/s   bar ≥ {BAR_MB_PER_S} MB/s: {verdict}",
        BYTES >> 20
    );
    let peer = &log[..log[..PEER_BYTES].rfind('\n').map_or(0, |end| end + 1)];
    let plain = plain_replacement(peer, &secrets);
    let sed = sed(peer, &secrets)?;
    mention("values alone, one after the other", plain, "MB/s");
    mention("values alone, by sed", sed, "MB/s");
    mention(
        "memory of the filter",
        filter.as_bytes().len() as f64 / 1024.0,
        "KiB",
    );
    mention("making it", build.as_secs_f64() * 1000.0, "ms");
    Ok(json!({
        "bench": "redact",
        "secrets": SECRETS,
        "mb_per_s": rounded(speed),
        "bar_mb_per_s": BAR_MB_PER_S,
        "plain_mb_per_s": rounded(plain),
        "sed_mb_per_s": rounded(sed),
        "filter_kib": filter.as_bytes().len() / 1024,
        "build_ms": rounded(build.as_secs_f64() * 1000.0),
        "leaked": leaked,
        "masks": masks,
    }))
}

fn mb_per_s(bytes: usize, time: Duration) -> f64 {
    bytes as f64 / 1e6 / time.as_secs_f64()
}

/// How many values are in the output, and how many masks.
fn check(masked: &[u8], secrets: &[String]) -> Result<(usize, usize)> {
    let text = std::str::from_utf8(masked).context("the output is no text any more")?;
    // A sample of them: looking for all takes minutes.
    let leaked = secrets
        .iter()
        .step_by(25)
        .filter(|secret| text.contains(secret.as_str()));
    Ok((leaked.count(), text.matches(MASK).count()))
}

fn plain_replacement(text: &str, secrets: &[String]) -> f64 {
    let begun = cpu_time();
    let mut text = text.to_owned();
    for secret in secrets {
        text = text.replace(secret.as_str(), MASK);
    }
    assert!(text.contains(MASK), "nothing was replaced");
    mb_per_s(PEER_BYTES, cpu_time() - begun)
}

fn sed(text: &str, secrets: &[String]) -> Result<f64> {
    let folder = tempfile::tempdir().context("cannot make a folder")?;
    let (script, input) = (folder.path().join("script"), folder.path().join("log"));
    let special = |c: char| "\\/.*[]^$&".contains(c);
    let rule = |secret: &String| {
        let escaped: String = secret
            .chars()
            .flat_map(|c| special(c).then_some('\\').into_iter().chain([c]))
            .collect();
        format!("s/{escaped}/{MASK}/g\n")
    };
    fs::write(&script, secrets.iter().map(rule).collect::<String>())
        .context("cannot write the script")?;
    fs::write(&input, text).context("cannot write the log")?;
    let begun = std::time::Instant::now();
    let mut sed = command("sed");
    sed.env("LC_ALL", "C")
        .arg("-f")
        .arg(&script)
        .arg(&input)
        .stdout(Stdio::null());
    let status = sed.status().context("cannot run sed")?;
    ensure!(status.success(), "sed failed");
    Ok(mb_per_s(text.len(), begun.elapsed()))
}

/// Passwords, tokens, addresses with passwords, keys in JSON.
fn secret(n: usize, random: &mut Random) -> String {
    match n % 5 {
        0 => random.text(12),
        1 => random.text(24),
        2 => format!("postgres://app:{}@db.internal:5432/app", random.text(16)),
        3 => format!("sk_live_{}", random.text(40)),
        _ => format!(
            "{{\"user\":\"app-{n}-{}\",\"password\":\"{}\"}}",
            random.text(6),
            random.text(20)
        ),
    }
}

/// Lines as services write them; some tell a secret, as it is or in base64.
fn log(secrets: &[String], random: &mut Random) -> String {
    use std::fmt::Write as _;
    let mut log = String::with_capacity(BYTES + 1024);
    let mut n = 0;
    while log.len() < BYTES {
        let (user, took) = (random.below(100_000), random.below(900));
        let (host, trace) = (random.below(250), random.text(16).to_lowercase());
        let written = match n % 4 {
            0 => writeln!(
                log,
                "10.1.2.{host} - - [30/Nov/2026:00:10:{:02} +0000] \"GET /api/v1/users/{user}?page=2 HTTP/1.1\" 200 {took} \"https://example.org/\" \"Mozilla/5.0\"",
                n % 60
            ),
            1 => writeln!(
                log,
                "{{\"level\":\"info\",\"time\":\"2026-11-30T00:10:{:02}.123Z\",\"msg\":\"request done\",\"trace_id\":\"{trace}\",\"user\":{user},\"ms\":{took}}}",
                n % 60
            ),
            2 => writeln!(
                log,
                "2026-11-30 00:10:{:02},042 INFO  [worker-{host}] com.example.Jobs: job {user} of queue default took {took} ms",
                n % 60
            ),
            _ if n % TELLING == 3 => {
                let secret = &secrets[random.below(SECRETS)];
                match n % 3 {
                    0 => writeln!(log, "connecting with {secret} failed: timeout"),
                    _ => writeln!(
                        log,
                        "authorization: Basic {}",
                        base64(format!("app:{secret}").as_bytes())
                    ),
                }
            }
            _ => writeln!(
                log,
                "postgres: duration: {took}.{host} ms statement: SELECT * FROM users WHERE id = {user} AND name LIKE 'a%'"
            ),
        };
        written.expect("a string takes everything");
        n += 1;
    }
    log
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let three = |chunk: &[u8]| {
        let bits = (0..3).fold(0u32, |bits, n| {
            bits << 8 | u32::from(*chunk.get(n).unwrap_or(&0))
        });
        (0..=chunk.len())
            .map(move |n| char::from(DIGITS[(bits >> (18 - 6 * n) & 63) as usize]))
            .collect::<String>()
    };
    bytes.chunks(3).map(three).collect()
}

/// The same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn text(&mut self, length: usize) -> String {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        (0..length)
            .map(|_| char::from(LETTERS[self.below(64)]))
            .collect()
    }
}
