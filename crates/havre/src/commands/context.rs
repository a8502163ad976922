//! `havre context`: where commands go.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use havre_api::Address;
use serde::Serialize;

use crate::cli::{ContextAdd, ContextCommand};
use crate::context::{Context, unknown};
use crate::contexts::{ConfigFolder, ConfigFolderError, LOCAL, Saved, is_name};
use crate::error::{Failure, Outcome};
use crate::exit::Exit;
use crate::table::Table;

/// A context as a program sees it.
#[derive(Serialize)]
struct Shown {
    name: String,
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_file: Option<PathBuf>,
    /// Whether a token is kept for it.
    token: bool,
    /// Whether it is meant where none is named.
    current: bool,
}

pub fn run(context: &Context, command: ContextCommand) -> Outcome {
    let folder = ConfigFolder::of_user().map_err(|error| failed(&error))?;
    match command {
        ContextCommand::Add(args) => add(context, &folder, args),
        ContextCommand::Ls(json) => {
            let shown = all(context, &folder)?;
            match json.json {
                true => context.ui.json(&shown)?,
                false => context.ui.data(&render(context, &shown))?,
            }
            Ok(Exit::Ok)
        }
        ContextCommand::Use { name } => switch(context, &folder, &name),
        ContextCommand::Rm { names } => remove(context, &folder, &names),
        ContextCommand::Show { name, json } => {
            let shown = all(context, &folder)?;
            let names: Vec<String> = shown.iter().map(|shown| shown.name.clone()).collect();
            let chosen = shown.into_iter().find(|shown| match &name {
                Some(name) => *name == shown.name,
                None => shown.current,
            });
            let Some(shown) = chosen else {
                return Err(unknown(&name.unwrap_or_default(), names.iter()));
            };
            match json.json {
                true => context.ui.json(&shown)?,
                false => context.ui.data(&render(context, &[shown]))?,
            }
            Ok(Exit::Ok)
        }
    }
}

fn failed(error: &ConfigFolderError) -> Failure {
    let mut failure = Failure::new(Exit::Failed, error.to_string());
    if let Some(source) = std::error::Error::source(error) {
        failure = failure.caused_by(source);
    }
    failure
}

fn add(context: &Context, folder: &ConfigFolder, args: ContextAdd) -> Outcome {
    let ContextAdd {
        name,
        address,
        ca_file,
        r#use,
        replace,
    } = args;
    if !is_name(&name) {
        let message = format!("{name:?} is not a name for a context");
        let hint = "it has small letters, digits, `-`, `_` and `.`";
        return Err(Failure::new(Exit::Usage, message).hint(hint));
    }
    if name == LOCAL {
        return Err(Failure::new(Exit::Usage, "`local` is this machine, always"));
    }
    let address: Address = address
        .parse()
        .map_err(|error: havre_api::AddressError| Failure::new(Exit::Usage, error.to_string()))?;
    if let Address::Unix(_) = address {
        let message = "unix:// is for the jobs of a pipeline, which are told by HAVRE_CONTEXT";
        return Err(Failure::new(Exit::Usage, message));
    }
    if ca_file.is_some() && !matches!(address, Address::Https(_)) {
        let message = "--ca-file is about https://; ssh knows servers by keys of its own";
        return Err(Failure::new(Exit::Usage, message));
    }
    let ca_file = ca_file.as_deref().map(authorities).transpose()?;
    let saved = Saved {
        address: address.to_string(),
        ca_file,
        issuer: None,
    };
    let added = folder.change(|contexts| {
        let known = contexts.contexts.entry(name.clone());
        let known = known.or_insert_with(|| saved.clone());
        if known.address != saved.address || known.ca_file != saved.ca_file {
            if !replace {
                return false;
            }
            *known = saved;
        }
        if r#use {
            contexts.current = Some(name.clone());
        }
        true
    });
    if !added.map_err(|error| failed(&error))? {
        let message = format!("there is a context {name} with another address");
        return Err(
            Failure::new(Exit::Busy, message).hint("give this one another name, or say --replace")
        );
    }
    if replace {
        // It showed another server who asks.
        let forgotten = folder.forget_token(&name).map_err(|error| failed(&error))?;
        if forgotten {
            context.ui.say("the token that was kept for it is gone");
        }
    }
    let next = match address {
        Address::Https(_) => format!("`havre -c {name} login` keeps a token for it"),
        Address::Socket(_) | Address::Ssh(_) | Address::Unix(_) => {
            format!("try `havre -c {name} status`")
        }
    };
    context.ui.say(&format!("added {name}: {address}; {next}"));
    Ok(Exit::Ok)
}

/// A file that holds certificates, by its full path.
fn authorities(path: &Path) -> Result<PathBuf, Failure> {
    let failed = |error: &std::io::Error| {
        let message = format!("cannot read certificates from {}", path.display());
        Failure::new(Exit::NotFound, message).caused_by(error)
    };
    let path = std::fs::canonicalize(path).map_err(|error| failed(&error))?;
    let text = std::fs::read_to_string(&path).map_err(|error| failed(&error))?;
    match text.contains("-----BEGIN CERTIFICATE-----") {
        true => Ok(path),
        false => Err(failed(&std::io::Error::other("it holds none"))),
    }
}

fn switch(context: &Context, folder: &ConfigFolder, name: &str) -> Outcome {
    let switched = folder.change(|contexts| {
        if name == LOCAL {
            contexts.current = None;
            return Ok(None);
        }
        let Some(saved) = contexts.contexts.get(name) else {
            return Err(unknown(name, contexts.contexts.keys()));
        };
        contexts.current = Some(name.to_owned());
        Ok(Some(saved.address.clone()))
    });
    let address = switched.map_err(|error| failed(&error))??;
    context.ui.say(&match address {
        Some(address) => format!("commands go to {name}: {address}"),
        None => "commands go to this machine".to_owned(),
    });
    Ok(Exit::Ok)
}

fn remove(context: &Context, folder: &ConfigFolder, names: &[String]) -> Outcome {
    let removed = folder.change(|contexts| {
        let lacking = names
            .iter()
            .find(|name| !contexts.contexts.contains_key(*name));
        if let Some(name) = lacking {
            return Err(unknown(name, contexts.contexts.keys()));
        }
        for name in names {
            contexts.contexts.remove(name);
        }
        let was_current = contexts.current.take_if(|current| names.contains(current));
        Ok(was_current.is_some())
    });
    let was_current = removed.map_err(|error| failed(&error))??;
    for name in names {
        folder.forget_token(name).map_err(|error| failed(&error))?;
    }
    if was_current {
        context.ui.say("commands go to this machine from now on");
    }
    Ok(Exit::Ok)
}

/// This machine first.
fn all(context: &Context, folder: &ConfigFolder) -> Result<Vec<Shown>, Failure> {
    let contexts = folder.read().map_err(|error| failed(&error))?;
    let current = contexts.current.as_deref().unwrap_or(LOCAL).to_owned();
    let here = Shown {
        name: LOCAL.to_owned(),
        address: context.root.api_socket().display().to_string(),
        ca_file: None,
        token: false,
        current: current == LOCAL,
    };
    let saved: BTreeMap<String, Saved> = contexts.contexts;
    let mut shown = vec![here];
    for (name, saved) in saved {
        let token = match saved.address.parse() {
            Ok(address) => folder.token(&name, &address),
            // Nobody goes there.
            Err(_) => Ok(None),
        };
        let token = token.map_err(|error| failed(&error))?;
        shown.push(Shown {
            current: name == current,
            token: token.is_some(),
            address: saved.address,
            ca_file: saved.ca_file,
            name,
        });
    }
    Ok(shown)
}

fn render(context: &Context, shown: &[Shown]) -> String {
    let mut table = Table::new(["", "NAME", "ADDRESS", "TOKEN", "AUTHORITIES"]);
    for shown in shown {
        let token = match shown.token {
            true => "kept",
            false => "",
        };
        let mark = if shown.current { "*" } else { " " };
        let ca_file = shown
            .ca_file
            .as_deref()
            .map(|path| path.display().to_string());
        table.row([
            mark.to_owned(),
            shown.name.clone(),
            shown.address.clone(),
            token.to_owned(),
            ca_file.unwrap_or_default(),
        ]);
    }
    table.render(context.ui.out, "")
}
