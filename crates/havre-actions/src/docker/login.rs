//! `docker/login-action`: credentials in the file where programs that deal with images look for them.

use std::fs;
use std::path::{Path, PathBuf};

use data_encoding::BASE64;
use havre_base::Durability;
use serde_json::{Value, json};

use crate::failure::{Failure, refused};
use crate::step::Step;

/// Docker Hub's name in that file.
const HUB: &str = "https://index.docker.io/v1/";
const MOST: u64 = 1 << 20;

pub(crate) fn main(step: &Step) -> Result<(), Failure> {
    let (Some(user), Some(password)) = (step.given("username"), step.given("password")) else {
        return refused("`username` and `password` must be given");
    };
    let registry = registry(step);
    keep(step, &registry, &user, &password)?;
    step.say(&format!(
        "Logged in to {registry} as {user}; whether the password is right shows when it is used."
    ));
    step.keep("registry", &registry)
}

/// Writes a login down.
pub(super) fn keep(step: &Step, registry: &str, user: &str, password: &str) -> Result<(), Failure> {
    step.mask(password);
    let auth = BASE64.encode(format!("{user}:{password}").as_bytes());
    step.mask(&auth);
    let path = path(step)?;
    let mut config = read(&path)?;
    if !config["auths"].is_object() {
        config["auths"] = json!({});
    }
    config["auths"][registry] = json!({"auth": auth});
    write(&path, &config)
}

/// Removes what the main phase wrote, and nothing else.
pub(crate) fn post(step: &Step) -> Result<(), Failure> {
    let Some(registry) = step.state("registry") else {
        return Ok(());
    };
    if !step.flag("logout", true)? {
        return Ok(());
    }
    if forget(step, registry)? {
        step.say(&format!("Logged out of {registry}."));
    }
    Ok(())
}

/// Removes a login; whether there was one.
pub(super) fn forget(step: &Step, registry: &str) -> Result<bool, Failure> {
    let path = path(step)?;
    let mut config = read(&path)?;
    let auths = config["auths"].as_object_mut();
    let was = auths.is_some_and(|auths| auths.remove(registry).is_some());
    if was {
        write(&path, &config)?;
    }
    Ok(was)
}

/// Credentials of all registries, by their names.
pub(super) fn credentials(step: &Step) -> Result<Value, Failure> {
    let logins = read(&path(step)?)?["auths"].take();
    Ok(if logins.is_object() {
        logins
    } else {
        json!({})
    })
}

fn registry(step: &Step) -> String {
    known_as(&step.input("registry"))
}

/// How that file calls a registry.
pub(super) fn known_as(asked: &str) -> String {
    let bare = asked.trim_start_matches("https://").trim_end_matches('/');
    match bare {
        "" | "docker.io" | "index.docker.io" | "index.docker.io/v1" => HUB.to_owned(),
        other => other.to_owned(),
    }
}

fn path(step: &Step) -> Result<PathBuf, Failure> {
    let folder = match step.var("DOCKER_CONFIG") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(step.needed("HOME")?).join(".docker"),
    };
    Ok(folder.join("config.json"))
}

fn read(path: &Path) -> Result<Value, Failure> {
    if !path.exists() {
        return Ok(json!({}));
    }
    let text = havre_base::read_small(path, MOST)
        .map_err(Failure::io(format!("read {}", path.display())))?;
    match serde_json::from_str(&text) {
        Ok(config @ Value::Object(_)) => Ok(config),
        Ok(_) | Err(_) => refused(format!("{} is not what Docker writes", path.display())),
    }
}

fn write(path: &Path, config: &Value) -> Result<(), Failure> {
    let folder = path.parent().map(fs::create_dir_all).unwrap_or(Ok(()));
    let written = folder.and_then(|()| {
        havre_base::replace(
            path,
            config.to_string().as_bytes(),
            0o600,
            Durability::UntilReboot,
        )
    });
    written.map_err(Failure::io(format!("write {}", path.display())))
}
