//! A database's password and a session key are rotated under load while the daemon and the command are killed
//! at each step.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use havre_testing::load::{Shot, Visitor};
use serde_json::{Value, json};

use super::figures::{mention, print_figure};
use super::installation::Installation;
use super::kill::{Dice, Victim, kill};
use super::load::{Load, print_report};
use crate::demo::HOST;
use crate::shell::{read, say, wait_until};

/// A little above what is promised, since a pace is never met exactly.
const RATE: f64 = 205.0;
/// Requests a second that there must have been.
const LEAST_RATE: f64 = 200.0;
/// A command that lost its daemon is given again, so often.
const TRIES: u32 = 12;
const TRACE: &str = "trace";
/// Longer than any rollout of these.
const DEADLINE: Duration = Duration::from_secs(120);

/// When somebody is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// The script takes this step.
    Script(&'static str),
    /// The new version is in use, and environments move to it.
    Switched,
    /// Nobody.
    Never,
}

/// Who.
#[derive(Clone, Copy, Debug)]
enum Killed {
    Command,
    Daemon,
    Both,
}

/// What is rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Secret {
    Database,
    Session,
}

impl Secret {
    fn name(self) -> &'static str {
        match self {
            Self::Database => "database-url",
            Self::Session => "session-key",
        }
    }
}

pub fn measure(place: &Installation) -> Result<Value> {
    let mut dice = Dice::new();
    prepare(place)?;
    let load = load(place)?;
    let begun = Instant::now();
    let moments = [
        Moment::Never,
        Moment::Script("add"),
        Moment::Script("verify"),
        Moment::Switched,
        Moment::Script("retire"),
    ];
    let (mut rotations, mut kills, mut stuck) = (0_u32, 0_u32, 0_u32);
    let rotated: Result<()> = (|| {
        for moment in moments {
            for killed in [Killed::Command, Killed::Daemon, Killed::Both] {
                for secret in [Secret::Database, Secret::Session] {
                    if matches!(
                        (moment, killed),
                        (Moment::Never, Killed::Daemon | Killed::Both)
                    ) {
                        continue;
                    }
                    say(&format!("{}: {killed:?} at {moment:?}", secret.name()));
                    let outcome = rotate(place, secret, moment, killed, &mut dice)?;
                    rotations += 1;
                    kills += outcome.kills;
                    stuck += u32::from(!outcome.is_done);
                }
            }
        }
        Ok(())
    })();
    let took = begun.elapsed();
    let report = load.finish()?;
    rotated?;
    print_report(&report);
    print_figure("rotations that are stuck", f64::from(stuck), "", 0.0);
    mention("rotations", f64::from(rotations), "");
    mention("kills", f64::from(kills), "");
    mention("all together", took.as_secs_f64(), "s");
    Ok(json!({
        "bench": "rotate",
        "failed": report.failed,
        "stuck": stuck,
        "rotations": rotations,
        "kills": kills,
        "requests": report.requests,
    }))
}

/// The example with two users of its database, and a service with a session key.
fn prepare(place: &Installation) -> Result<()> {
    place.bring_up()?;
    for (name, text) in [
        ("rotate.yaml", include_str!("rotate/compose.yaml")),
        ("session.py", include_str!("rotate/session.py")),
        ("rotate.sh", include_str!("rotate/rotate.sh")),
        ("traced.sh", include_str!("rotate/traced.sh")),
        ("havre.yaml", &settings()),
        (TRACE, ""),
    ] {
        let path = place.project.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {name}"))?;
        if name.ends_with(".sh") {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
    }
    // The script calls it by its name.
    let bin = place.project.join("bin");
    fs::create_dir_all(&bin)?;
    let link = bin.join("havre");
    std::os::unix::fs::symlink(&place.instance.binary, &link).context("cannot name the binary")?;
    let roles =
        "CREATE ROLE shop_a NOLOGIN IN ROLE novels; CREATE ROLE shop_b LOGIN IN ROLE novels";
    read(&mut place.havre(&[
        "exec", "db", "psql", "-h", "/tmp", "-U", "novels", "novels", "-c", roles,
    ]))?;
    let first = new_value(place, Secret::Database)?;
    let psql = [
        "exec", "-i", "db", "psql", "-h", "/tmp", "-U", "novels", "novels",
    ];
    let first_login = &format!(
        "ALTER ROLE shop_b NOLOGIN; ALTER ROLE shop_a LOGIN PASSWORD '{}'",
        password(&first)?
    );
    fed(place.havre(&psql), first_login)?;
    for (secret, value) in [
        (Secret::Database, first),
        (Secret::Session, new_value(place, Secret::Session)?),
    ] {
        let set = [
            "secret",
            "set",
            secret.name(),
            "-E",
            "production",
            "--stdin",
        ];
        // A root that is kept may have one of a bench before.
        let remove = ["secret", "rm", secret.name(), "-E", "production", "--force"];
        fed(place.havre(&remove), "").ok();
        fed(place.havre(&set), &value)?;
    }
    place.up()?;
    place.wait_until_calm(DEADLINE)?;
    Ok(())
}

fn settings() -> String {
    format!(
        "compose: [docker-compose.yml, docker-compose.prod.yml, rotate.yaml]\n\
         domain: {HOST}\n\
         routes:\n\
         - {{path: /, service: frontend, port: 3000}}\n\
         - {{path: /api, service: backend, port: 5000}}\n\
         - {{path: /session, service: session, port: 8000}}\n\
         rollout: {{bake: 2s, ready_timeout: 60s}}\n\
         services:\n\
         \x20 backend: {{environment: {{DATABASE_URL: {{secret: database-url}}}}}}\n\
         \x20 worker: {{environment: {{DATABASE_URL: {{secret: database-url}}}}}}\n\
         \x20 session: {{secrets: {{reload: SIGHUP}}}}\n"
    )
}

/// What became of one rotation.
struct Outcome {
    kills: u32,
    is_done: bool,
}

/// Begins a rotation, kills, and goes on until it is over.
fn rotate(
    place: &Installation,
    secret: Secret,
    moment: Moment,
    killed: Killed,
    dice: &mut Dice,
) -> Result<Outcome> {
    let value = new_value(place, secret)?;
    fs::write(place.project.join(TRACE), "")?;
    let before = version(place, secret)?;
    let mut command = begin(place, secret, &value)?;
    let mut kills = 0;
    if until(place, secret, moment, &mut command)? {
        std::thread::sleep(dice.moment(Duration::from_millis(300)));
        if matches!(killed, Killed::Command | Killed::Both) {
            command.kill().context("cannot kill the command")?;
            kills += 1;
        }
        if matches!(killed, Killed::Daemon | Killed::Both)
            && let Some(pid) = Victim::Daemon.choose(place, dice)?
        {
            kills += u32::from(kill(pid));
        }
    }
    let mut is_done = command.wait()?.success();
    // The same command, with another value that is not looked at. One that was killed after the last step has
    // nothing to go on with, which is as good.
    for _ in 0..TRIES {
        if is_done || rotation(place, secret).is_ok_and(|step| step.is_none()) {
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
        is_done = begin(place, secret, "not-looked-at-00")?.wait()?.success();
    }
    let after = version(place, secret)?;
    let over = rotation(place, secret)?.is_none() && after == before + 1;
    let known = knows(place, secret, &value);
    if let Err(error) = &known {
        say(&format!("version {after}, {before} before: {error:#}"));
    }
    Ok(Outcome {
        kills,
        is_done: over && known.is_ok(),
    })
}

fn begin(place: &Installation, secret: Secret, value: &str) -> Result<Child> {
    let rotate = [
        "--quiet",
        "secret",
        "rotate",
        secret.name(),
        "-E",
        "production",
        "--stdin",
        "--with",
        "./traced.sh",
    ];
    let mut command = with_path(place, place.havre(&rotate))?;
    command
        .stdin(Stdio::from(input(value)?))
        .spawn()
        .context("cannot run the command")
}

/// Waits for the moment; whether it came before the end of the command.
fn until(
    place: &Installation,
    secret: Secret,
    moment: Moment,
    command: &mut Child,
) -> Result<bool> {
    let begun = Instant::now();
    loop {
        let is_it = match moment {
            Moment::Never => return Ok(false),
            Moment::Script(step) => {
                let trace = fs::read_to_string(place.project.join(TRACE))?;
                trace.lines().any(|line| line == step)
            }
            Moment::Switched => rotation(place, secret)?.as_deref() == Some("switched"),
        };
        if is_it || command.try_wait()?.is_some() {
            return Ok(is_it);
        }
        if begun.elapsed() > DEADLINE {
            bail!("the rotation never came to {moment:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn listed(place: &Installation, secret: Secret) -> Result<Value> {
    let all = place.json(&["secret", "ls", "-E", "production"])?;
    let all = all.as_array().context("secret ls printed no list")?;
    let one = all.iter().find(|one| one["name"] == secret.name());
    one.cloned().context("the secret is not listed")
}

/// How far a rotation is that is under way.
fn rotation(place: &Installation, secret: Secret) -> Result<Option<String>> {
    let step = listed(place, secret)?["rotation"]["step"].clone();
    Ok(step.as_str().map(str::to_owned))
}

fn version(place: &Installation, secret: Secret) -> Result<u64> {
    let mut found = Ok(0);
    // A daemon that was killed a moment ago does not answer.
    wait_until("the daemon answers", DEADLINE, || {
        found = listed(place, secret).and_then(|one| {
            let version = one["current"]["version"].as_u64();
            version.context("the secret has no version")
        });
        Ok(found.is_ok().then_some(()))
    })?;
    found
}

/// Whether what has the secret knows the value.
fn knows(place: &Installation, secret: Secret, value: &str) -> Result<()> {
    place.wait_until_calm(DEADLINE)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let visitor: Visitor = place.visitor()?;
    let get = |path: &str| {
        let answer = runtime.block_on(visitor.get(path));
        answer.map_err(anyhow::Error::msg)
    };
    match secret {
        Secret::Session => {
            let wanted = fed(Command::new("sha256sum"), value)?;
            let wanted = wanted.split(' ').next().unwrap_or_default();
            for _ in 0..8 {
                let (status, text) = get("/session")?;
                ensure!(
                    status == 200 && text == wanted,
                    "another session key is in use"
                );
            }
        }
        Secret::Database => {
            let (status, _) = get("/api/v1/jobs")?;
            ensure!(status == 200, "the database answers {status}");
            let users = "SELECT string_agg(DISTINCT usename, ' ') FROM pg_stat_activity WHERE usename LIKE 'shop_%'";
            let users = read(&mut place.havre(&[
                "exec",
                "db",
                "psql",
                "--no-align",
                "--tuples-only",
                "-h",
                "/tmp",
                "-U",
                "novels",
                "novels",
                "-c",
                users,
            ]))?;
            ensure!(
                !users.trim().is_empty() && value.contains(&format!("//{}:", users.trim())),
                "connections are of {}",
                users.trim()
            );
        }
    }
    Ok(())
}

fn new_value(place: &Installation, secret: Secret) -> Result<String> {
    match secret {
        Secret::Session => Ok(read(Command::new("openssl").args(["rand", "-hex", "32"]))?
            .trim()
            .to_owned()),
        Secret::Database => {
            let mut new = Command::new(place.project.join("rotate.sh"));
            new.arg("new").current_dir(&place.project);
            // As `havre` gets them.
            for (name, value) in place.havre(&[]).get_envs() {
                if let Some(value) = value {
                    new.env(name, value);
                }
            }
            read(&mut with_path(place, new)?)
        }
    }
}

fn with_path(place: &Installation, mut command: Command) -> Result<Command> {
    let path = std::env::var("PATH").context("there is no PATH")?;
    let bin = place.project.join("bin");
    command
        .env("PATH", format!("{}:{path}", bin.display()))
        .env("BENCH_TRACE", place.project.join(TRACE));
    Ok(command)
}

/// What a program prints that reads this text.
fn fed(mut program: Command, text: &str) -> Result<String> {
    let output = program.stdin(Stdio::from(input(text)?)).output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program:?}: {}", error.trim());
    Ok(String::from_utf8(output.stdout)?)
}

/// Text as a program's input.
fn input(text: &str) -> Result<std::io::PipeReader> {
    let (reader, mut writer) = std::io::pipe()?;
    writer.write_all(text.as_bytes())?;
    Ok(reader)
}

fn password(address: &str) -> Result<&str> {
    let rest = address
        .split_once("//")
        .and_then(|(_, rest)| rest.split_once(':'));
    let password = rest.and_then(|(_, rest)| rest.split_once('@'));
    password
        .map(|(password, _)| password)
        .context("no address of a database")
}

fn load(place: &Installation) -> Result<Load> {
    let mut plan = place.plan()?;
    plan.rate = RATE;
    plan.shots = [
        ("/", 2),
        ("/session", 4),
        ("/api/v1/jobs", 2),
        ("/api/v1/health/live", 2),
    ]
    .into_iter()
    .map(|(path, weight)| Shot {
        weight,
        ..Shot::get(path)
    })
    .collect();
    Load::of(plan, LEAST_RATE)
}
