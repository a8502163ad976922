//! `docker` in a `run` step of a job: the few of its commands that make and move images.

mod options;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use havre_job::images::{Answer, Ask, Build, Image, Pull};
use serde_json::Value;

use super::client::Client;
use super::wanted::{self, Output, Wanted};
use super::{build, deliver, login, own_platform};
use crate::failure::{Failure, refused};
use crate::step::Step;
use options::Options;

const MOST_PASSWORD: u64 = 64 << 10;

/// Carries a command of `docker` out; 125 is what docker ends with for what it cannot do.
pub fn main(args: &[OsString]) -> ExitCode {
    let words: Vec<String> = args
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    match run(&words, &Step::of_process()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Failure::Built { .. } = &failure {
                complain(&failure.screen());
            }
            complain(&format!("docker: {}", havre_base::one_line(&failure)));
            ExitCode::from(match failure {
                Failure::Refused(_) => 125,
                _ => 1,
            })
        }
    }
}

fn complain(text: &str) {
    // Nobody reads: there is nobody to tell that either.
    if writeln!(std::io::stderr().lock(), "{text}").is_err() {}
}

fn run(words: &[String], step: &Step) -> Result<(), Failure> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["build" | "b", rest @ ..] | ["buildx" | "image" | "builder", "build" | "b", rest @ ..] => {
            build_image(rest, step)
        }
        ["push", rest @ ..] | ["image", "push", rest @ ..] => push(rest, step),
        ["pull", rest @ ..] | ["image", "pull", rest @ ..] => pull(rest, step),
        ["tag", rest @ ..] | ["image", "tag", rest @ ..] => tag(rest, step),
        ["save", rest @ ..] | ["image", "save", rest @ ..] => save(rest, step),
        ["login", rest @ ..] => log_in(rest, step),
        ["logout", rest @ ..] => log_out(rest, step),
        ["version" | "--version" | "-v", ..] | ["buildx", "version", ..] => {
            step.say(&format!(
                "Docker's commands build, push, pull, tag, save, login and logout, by Havre {}",
                env!("CARGO_PKG_VERSION")
            ));
            Ok(())
        }
        ["compose", ..] => refused(
            "there is no Docker in a job of Havre: `havre up` runs what the compose file says, in a job with \
             `environment:`; what a test needs beside it goes into `services:`",
        ),
        other => refused(format!(
            "`docker {}` is not there in a job of Havre, which has no Docker: build, push, pull, tag, save, login and \
             logout are. Run a container by `container:`, `services:` or a step with `uses: docker://IMAGE`",
            other.first().copied().unwrap_or_default()
        )),
    }
}

fn here() -> Result<PathBuf, Failure> {
    std::env::current_dir().map_err(Failure::io("find the working directory"))
}

fn build_image(words: &[&str], step: &Step) -> Result<(), Failure> {
    let mut options = Options::read(words, &options::BUILD)?;
    let mut tags = options.all("--tag");
    let mut push = options.flag("--push")?;
    let quiet = options.flag("--quiet")?;
    let mut files = Vec::new();
    options.flag("--load")?;
    for text in options.all("--output") {
        match wanted::output(&text, &mut tags)? {
            Output::Push => push = true,
            Output::Load => {}
            Output::File(path) => files.push(path),
        }
    }
    let warn = |text: &str| complain(&format!("WARNING: {text}"));
    for name in ["--cache-from", "--cache-to"] {
        for text in options.all(name) {
            if let Some(warning) = wanted::cache(name, &text)? {
                warn(&warning);
            }
        }
    }
    let own = own_platform();
    if let Some(other) = options
        .all("--platform")
        .iter()
        .flat_map(|all| all.split(','))
        .find(|it| *it != own && format!("linux/{it}") != own)
    {
        return refused(format!(
            "`--platform {other}`: images are built for {own} only"
        ));
    }
    let mut hosts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for text in options.all("--add-host") {
        let (host, address) = wanted::host(&text)?;
        hosts.entry(host).or_default().push(address);
    }
    let mut contexts = BTreeMap::new();
    for text in options.all("--build-context") {
        contexts.extend([wanted::named_context(&text)?]);
    }
    let mut secrets = BTreeMap::new();
    for text in options.all("--secret") {
        secrets.extend([secret(&text, step)?]);
    }
    let labels = options.all("--label");
    let labels = labels.iter().map(|line| {
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        (key.to_owned(), value.to_owned())
    });
    let wanted = Wanted {
        folder: here()?,
        file: options.one("--file").map(PathBuf::from),
        build: Build {
            target: options.one("--target"),
            labels: labels.collect(),
            annotations: build::annotations(&options.all("--annotation"), &warn)?,
            args: build::arguments(&options.all("--build-arg"), &|name| step.var(name)),
            secrets,
            pull: options.flag("--pull")?,
            no_cache: options.flag("--no-cache")?,
            offline: build::offline(&options.one("--network").unwrap_or_default())?,
            hosts,
            shm_bytes: options
                .one("--shm-size")
                .map(|text| wanted::bytes(&text))
                .transpose()?,
            contexts,
            tags,
            ..wanted::nothing()
        },
        push,
        files,
        logins: login::credentials(step)?,
        context: match options.words.as_slice() {
            [context] if context == "-" || context.contains("://") => {
                return refused(format!("the context `{context}` must be a folder"));
            }
            [context] => PathBuf::from(context),
            _ => return refused("`docker build` needs one build context: a folder"),
        },
    };
    let (id_file, metadata_file) = (options.one("--iidfile"), options.one("--metadata-file"));
    let names = wanted.build.tags.join(",");
    let say = |text: &str| {
        if !quiet {
            complain(text);
        }
    };
    let hear = |answer: &Answer| wanted::hearing(&say, &warn)(answer);
    let image = wanted.carry_out(&build::client(step)?, &hear, &say)?;
    if quiet {
        step.say(&image.id);
    }
    if let Some(path) = id_file {
        std::fs::write(&path, &image.id).map_err(Failure::io(format!("write {path}")))?;
    }
    if let Some(path) = metadata_file {
        let text = serde_json::json!({
            "containerimage.config.digest": image.id, "containerimage.digest": image.digest, "image.name": names,
        });
        std::fs::write(&path, text.to_string()).map_err(Failure::io(format!("write {path}")))?;
    }
    Ok(())
}

/// `id=ID,src=FILE` or `id=ID,env=NAME`.
fn secret(text: &str, step: &Step) -> Result<(String, String), Failure> {
    let mut parts = wanted::parts(text);
    let mut take = |key: &str| parts.remove(key);
    let (id, file, variable) = (
        take("id"),
        take("src").or_else(|| take("source")),
        take("env"),
    );
    take("type");
    if let Some(key) = parts.keys().next() {
        return refused(format!("`--secret {text}`: there is no `{key}`"));
    }
    let value = match (&id, file, variable) {
        (_, Some(path), None) => havre_base::read_small(std::path::Path::new(&path), 1 << 20)
            .map_err(Failure::io(format!("read {path}")))?,
        (_, None, Some(name)) => step.needed(&name)?.to_owned(),
        (Some(name), None, None) => step.needed(name)?.to_owned(),
        _ => {
            return refused(format!(
                "`--secret {text}` needs `id=`, and `src=` or `env=`"
            ));
        }
    };
    match id {
        Some(id) => Ok((id, value)),
        None => refused(format!("`--secret {text}` needs `id=`")),
    }
}

fn found(client: &Client, name: &str) -> Result<Image, Failure> {
    client.image(&Ask::Find(name.to_owned()), None, &|_| {})
}

fn push(words: &[&str], step: &Step) -> Result<(), Failure> {
    let options = Options::read(words, &options::PUSH)?;
    let [name] = options.words.as_slice() else {
        return refused("`docker push` needs one name");
    };
    let client = build::client(step)?;
    let image = found(&client, name)?;
    let names = std::slice::from_ref(name);
    let logins = login::credentials(step)?;
    deliver::push(&client, &image.digest, names, &logins, &|text| {
        step.say(text)
    })
}

fn pull(words: &[&str], step: &Step) -> Result<(), Failure> {
    let options = Options::read(words, &options::PULL)?;
    let [name] = options.words.as_slice() else {
        return refused("`docker pull` needs one name");
    };
    let image = pulled(
        &build::client(step)?,
        name,
        true,
        &login::credentials(step)?,
    )?;
    step.say(&format!("{name}: {}", image.digest));
    Ok(())
}

/// Fetches an image for this job.
pub(crate) fn pulled(
    client: &Client,
    name: &str,
    fresh: bool,
    logins: &Value,
) -> Result<Image, Failure> {
    let (say, warn) = (complain, |text: &str| complain(&format!("WARNING: {text}")));
    let pull = Pull {
        name: name.to_owned(),
        fresh,
        logins: serde_json::json!({"auths": logins}).to_string(),
    };
    client.image(&Ask::Pull(pull), None, &|answer: &Answer| {
        wanted::hearing(&say, &warn)(answer);
    })
}

fn tag(words: &[&str], step: &Step) -> Result<(), Failure> {
    let options = Options::read(words, &options::NONE)?;
    let [image, name] = options.words.as_slice() else {
        return refused("`docker tag` needs two names");
    };
    let ask = Ask::Tag {
        image: image.clone(),
        names: vec![name.clone()],
    };
    build::client(step)?.image(&ask, None, &|_| {}).map(drop)
}

fn save(words: &[&str], step: &Step) -> Result<(), Failure> {
    let mut options = Options::read(words, &options::SAVE)?;
    let (Some(path), [name]) = (options.one("--output"), options.words.as_slice()) else {
        return refused("`docker save` needs `--output FILE`, and one name");
    };
    let client = build::client(step)?;
    let image = found(&client, name)?;
    let path = here()?.join(path);
    deliver::save(&client, &image.digest, std::slice::from_ref(name), &path)
}

fn log_in(words: &[&str], step: &Step) -> Result<(), Failure> {
    let mut options = Options::read(words, &options::LOGIN)?;
    let server = match options.words.as_slice() {
        [] => String::new(),
        [server] => server.clone(),
        _ => return refused("`docker login` takes one server"),
    };
    let from_input = options.flag("--password-stdin")?;
    let password = match (options.one("--password"), from_input) {
        (Some(password), false) => password,
        (None, true) => {
            let mut text = String::new();
            std::io::stdin()
                .take(MOST_PASSWORD)
                .read_to_string(&mut text)
                .map_err(Failure::io("read the password"))?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
        _ => return refused("`docker login` needs `--password-stdin` or `--password`"),
    };
    let Some(user) = options.one("--username").filter(|_| !password.is_empty()) else {
        return refused("`docker login` needs `--username`, and a password");
    };
    let registry = login::known_as(&server);
    login::keep(step, &registry, &user, &password)?;
    step.say("Login kept; whether the password is right shows when it is used.");
    Ok(())
}

fn log_out(words: &[&str], step: &Step) -> Result<(), Failure> {
    let options = Options::read(words, &options::NONE)?;
    let server = options.words.first().map_or("", String::as_str);
    let registry = login::known_as(server);
    match login::forget(step, &registry)? {
        true => step.say(&format!("Logged out of {registry}.")),
        false => step.say(&format!("Not logged in to {registry}.")),
    }
    Ok(())
}
