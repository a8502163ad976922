//! `havre ca`: the machine's own authority, and making this machine trust it.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use havre_api::{Ca, Empty};

use crate::cli::CaCommand;
use crate::connect::{self, require_root};
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::exit::Exit;

/// A folder of further authorities, and the program that takes them over.
struct Store {
    folder: &'static str,
    program: &'static str,
    /// What the program needs to hear where an authority was removed.
    after_removal: &'static [&'static str],
}

/// Debian and its like; Red Hat and its like.
const STORES: [Store; 2] = [
    Store {
        folder: "/usr/local/share/ca-certificates",
        program: "update-ca-certificates",
        // Otherwise the link to what was removed stays.
        after_removal: &["--fresh"],
    },
    Store {
        folder: "/etc/pki/ca-trust/source/anchors",
        program: "update-ca-trust",
        after_removal: &[],
    },
];

pub async fn run(context: &Context, command: CaCommand) -> Outcome {
    match command {
        CaCommand::Export { output } => export(context, output.as_deref()).await,
        CaCommand::Trust { .. } if !context.is_here() => {
            let why = "this machine would believe all that the other one signs";
            context.only_here("`havre ca trust`", why)?;
            Ok(Exit::Ok)
        }
        CaCommand::Trust { remove: false } => trust(context).await,
        CaCommand::Trust { remove: true } => distrust(context),
    }
}

async fn export(context: &Context, output: Option<&Path>) -> Outcome {
    let pem = certificate(context).await?;
    match output {
        Some(path) => {
            std::fs::write(path, pem).map_err(|error| cannot_write(path, &error))?;
            context.ui.say(&format!("wrote {}", path.display()));
        }
        None => context.ui.data(&pem)?,
    }
    Ok(Exit::Ok)
}

async fn trust(context: &Context) -> Outcome {
    require_root("changing what this machine trusts")?;
    let store = store()?;
    let pem = certificate(context).await?;
    let path = certificate_path(context, store);
    std::fs::write(&path, pem).map_err(|error| cannot_write(&path, &error))?;
    update(store, &[])?;
    context
        .ui
        .say(&format!("this machine's programs trust {}", path.display()));
    context.ui.say(
        "browsers keep lists of their own: import the file of `havre ca export` there\n\
         (Chromium: certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n havre -i FILE, \
         from libnss3-tools;\n Firefox: Settings, Certificates, Authorities, Import; \
         other machines: the same file)",
    );
    Ok(Exit::Ok)
}

fn distrust(context: &Context) -> Outcome {
    require_root("changing what this machine trusts")?;
    let store = store()?;
    let path = certificate_path(context, store);
    match std::fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            context.ui.say("this machine does not trust it");
            return Ok(Exit::Ok);
        }
        Err(error) => {
            let message = format!("cannot remove {}", path.display());
            return Err(Failure::new(Exit::Failed, message).caused_by(&error));
        }
    }
    update(store, store.after_removal)?;
    context.ui.say("this machine's programs trust it no longer");
    Ok(Exit::Ok)
}

async fn certificate(context: &Context) -> Result<String, Failure> {
    let client = connect::started(context).await?;
    Ok(client.call::<Ca>(&Empty {}).await?.pem)
}

fn store() -> Result<&'static Store, Failure> {
    STORES
        .iter()
        .find(|store| Path::new(store.folder).is_dir())
        .ok_or_else(|| {
            Failure::new(
                Exit::Failed,
                "this machine has no list of authorities that Havre knows",
            )
            .hint("install the package ca-certificates, or import the file of `havre ca export`")
        })
}

/// One name per installation, so that several can be trusted side by side.
fn certificate_path(context: &Context, store: &Store) -> PathBuf {
    let name = match context.root.base() {
        Some(_) => format!("havre-{}.crt", context.root.instance()),
        None => "havre.crt".to_owned(),
    };
    Path::new(store.folder).join(name)
}

fn update(store: &Store, args: &[&str]) -> Result<(), Failure> {
    let cannot = || Failure::new(Exit::Failed, format!("cannot run {}", store.program));
    let output = Command::new(store.program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| cannot().caused_by(&error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(cannot().caused_by(&io::Error::other(format!(
        "{}: {}",
        output.status,
        said.trim()
    ))))
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot write {}", path.display())).caused_by(error)
}
