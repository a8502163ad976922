//! `havre secret`.

mod export;
mod import;
mod rotate;
mod scan;
mod seal;

pub use scan::scan_folder;

use std::collections::BTreeSet;

use havre_api::{
    Client, EnvironmentId, SecretDiffers, SecretGet, SecretGetRequest, SecretHistory, SecretList,
    SecretListQuery, SecretOrigin, SecretQuery, SecretRemove, SecretRemoveRequest, SecretRollback,
    SecretRollbackRequest, SecretSet, SecretSetRequest, SecretSummary, SecretUse, SecretUses,
    SecretVersion, Timestamp,
};

use crate::cli::secret::{GetArgs, RemoveArgs, RollbackArgs, SecretCommand, SetArgs};
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::exit::Exit;
use crate::paint::Paint;
use crate::table::Table;
use crate::ui::Ui;
use crate::{connect, human, secret_input};

pub async fn run(context: &Context, command: SecretCommand) -> Outcome {
    let ui = context.ui;
    match command {
        SecretCommand::Set(args) => set(context, args).await,
        SecretCommand::Get(args) => get(context, args).await,
        SecretCommand::Ls(args) => {
            let environment = args.project.one_environment()?;
            let (client, _) = connect::running(context).await?;
            let query = SecretListQuery { environment };
            let secrets = client.call::<SecretList>(&query).await?;
            if args.json.json {
                ui.json(&secrets)?;
            } else {
                let nothing_known = secrets.iter().all(|one| one.current.is_none());
                for problem in problems(&secrets) {
                    let hint = "`havre secret seal status` says what opens them";
                    ui.warn(problem, nothing_known.then_some(hint));
                }
                ui.data(&list(&secrets, ui.out, Timestamp::now()))?;
            }
            Ok(Exit::Ok)
        }
        SecretCommand::History(args) => {
            let query = SecretQuery {
                environment: args.project.one_environment()?,
                name: args.name,
            };
            let (client, _) = connect::running(context).await?;
            let versions = client.call::<SecretHistory>(&query).await?;
            if args.json.json {
                ui.json(&versions)?;
            } else {
                ui.data(&history(&versions, ui.out, Timestamp::now()))?;
            }
            Ok(Exit::Ok)
        }
        SecretCommand::Rollback(args) => rollback(context, args).await,
        SecretCommand::Rotate(args) => rotate::run(context, args).await,
        SecretCommand::Rm(args) => remove(context, args).await,
        SecretCommand::Who(args) => {
            let query = SecretQuery {
                environment: args.project.one_environment()?,
                name: args.name,
            };
            let (client, _) = connect::running(context).await?;
            let uses = client.call::<SecretUses>(&query).await?;
            if args.json.json {
                ui.json(&uses)?;
            } else if uses.is_empty() {
                ui.say(&format!(
                    "no environment that is up has `{}` from the store",
                    query.name
                ));
            } else {
                ui.data(&who(&uses, ui.out))?;
                let all = || uses.iter();
                let differing: Vec<SecretDiffers> =
                    all().flat_map(|one| one.differing.clone()).collect();
                if !differing.is_empty() {
                    ui.data("\n")?;
                    ui.data(&differs(&differing, ui.out))?;
                }
                // Those of all environments are the same, but for one that has its own.
                let mut rotations: Vec<_> = all().filter_map(|one| one.rotation.as_ref()).collect();
                rotations.dedup();
                for rotation in rotations {
                    ui.say(&rotate::sentence(&query.name, rotation, Timestamp::now()));
                }
            }
            Ok(Exit::Ok)
        }
        SecretCommand::Import(args) => import::run(context, args).await,
        SecretCommand::Export(args) => export::run(context, args).await,
        SecretCommand::Scan(args) => scan::run(context, &args).await,
        SecretCommand::Seal(command) => seal::run(context, command).await,
    }
}

async fn set(context: &Context, args: SetArgs) -> Outcome {
    let ui = context.ui;
    let environment = args.project.one_environment()?;
    let client = connect::started(context).await?;
    let (value, origin) = match secret_input::given(&args.value)? {
        Some(given) => given,
        None => {
            let question = format!("value of {}: ", args.name);
            (secret_input::asked(&question)?, SecretOrigin::Set)
        }
    };
    let request = SecretSetRequest {
        environment,
        name: args.name,
        value,
        origin,
    };
    let set = client.call::<SecretSet>(&request).await?;
    for warning in &set.warnings {
        ui.warn(warning, None);
    }
    let (name, whose) = (&request.name, whose(request.environment.as_ref()));
    match set.unchanged {
        true => ui.say(&format!("`{name}` {whose} has this value already")),
        false => ui.say(&format!(
            "`{name}` {whose} has version {}: what runs gets it with the next `havre up`",
            set.version
        )),
    }
    if args.json.json {
        ui.json(&set)?;
    }
    Ok(Exit::Ok)
}

async fn get(context: &Context, args: GetArgs) -> Outcome {
    let environment = args.project.one_environment()?;
    let reason = match args.reason {
        Some(reason) => Some(reason),
        None => secret_input::shown("why do you need it? ")?,
    };
    let reason = reason
        .filter(|reason| !reason.trim().is_empty())
        .ok_or_else(|| {
            Failure::new(Exit::Usage, "a secret is told only for a reason")
                .hint("say it with --reason: it is kept with your name")
        })?;
    let (client, _) = connect::running(context).await?;
    let request = SecretGetRequest {
        environment,
        name: args.name,
        version: args.version,
        reason,
    };
    let got = client.call::<SecretGet>(&request).await?;
    print(context.ui, got.value.bytes())?;
    Ok(Exit::Ok)
}

/// As it is where a program reads it; a person gets a line.
fn print(ui: Ui, value: &[u8]) -> std::io::Result<()> {
    use std::io::{IsTerminal as _, Write as _};
    let mut out = std::io::stdout().lock();
    out.write_all(value)?;
    if std::io::stdout().is_terminal() && !value.ends_with(b"\n") {
        out.write_all(b"\n")?;
    }
    out.flush()?;
    drop(out);
    if std::str::from_utf8(value).is_err() {
        ui.say("(it is no text)");
    }
    Ok(())
}

async fn rollback(context: &Context, args: RollbackArgs) -> Outcome {
    let ui = context.ui;
    let request = SecretRollbackRequest {
        environment: args.project.one_environment()?,
        name: args.name,
        version: args.to,
    };
    let (client, _) = connect::running(context).await?;
    let done = client.call::<SecretRollback>(&request).await?;
    ui.say(&format!(
        "version {} of `{}` {} is in use: what runs gets it with the next `havre up`",
        done.version,
        request.name,
        whose(request.environment.as_ref())
    ));
    if args.json.json {
        ui.json(&done)?;
    }
    Ok(Exit::Ok)
}

async fn remove(context: &Context, args: RemoveArgs) -> Outcome {
    let request = SecretRemoveRequest {
        environment: args.project.one_environment()?,
        name: args.name,
        force: args.force,
    };
    let client: Client = connect::running(context).await?.0;
    client.call::<SecretRemove>(&request).await?;
    let whose = whose(request.environment.as_ref());
    context
        .ui
        .say(&format!("`{}` {whose} is gone", request.name));
    Ok(Exit::Ok)
}

fn whose(environment: Option<&EnvironmentId>) -> String {
    match environment {
        Some(id) => format!("of {id}"),
        None => "of this machine (for all environments that have no own)".to_owned(),
    }
}

/// Replicas that have another version than they are to have.
pub fn differs(differing: &[SecretDiffers], paint: Paint) -> String {
    let mut table = Table::new(["REPLICA", "SECRET", "RUNNING", "WANTED", ""]);
    for one in differing {
        let running = one.running.map(|version| version.to_string());
        table.row([
            one.replica.clone(),
            one.secret.clone(),
            running.unwrap_or_else(|| "?".to_owned()),
            one.wanted.to_string(),
            match one.reloading {
                true => "not reloaded yet".to_owned(),
                false => String::new(),
            },
        ]);
    }
    table.render(paint, "")
}

/// Why nothing is known of some, each once: of a locked store it is one reason for all.
fn problems(secrets: &[SecretSummary]) -> BTreeSet<&str> {
    let all = secrets.iter();
    all.filter_map(|one| one.problem.as_deref()).collect()
}

fn list(secrets: &[SecretSummary], paint: Paint, now: Timestamp) -> String {
    let mut table = Table::new(["NAME", "OF", "VERSION", "SIZE", "AGE", "BY"]);
    for secret in secrets {
        let of = match &secret.environment {
            Some(id) => id.to_string(),
            None => "machine".to_owned(),
        };
        let [mut version, size, age, by] = match &secret.current {
            Some(version) => [
                version.version.to_string(),
                human::count(u64::from(version.size_bytes), "byte"),
                human::age(version.set_at.age_at(now)),
                version.set_by.clone(),
            ],
            None => ["?".to_owned(), String::new(), String::new(), String::new()],
        };
        if let Some(rotation) = &secret.rotation {
            version.push_str(&format!(" ({} to {})", rotation.step.word(), rotation.to));
        }
        table.row([secret.name.clone(), of, version, size, age, by]);
    }
    table.render(paint, "")
}

fn history(versions: &[SecretVersion], paint: Paint, now: Timestamp) -> String {
    let mut table = Table::new(["VERSION", "SIZE", "AGE", "BY", "HOW", ""]);
    for version in versions.iter().rev() {
        let mark = if version.current { "in use" } else { "" };
        table.row([
            version.version.to_string(),
            human::count(u64::from(version.size_bytes), "byte"),
            human::age(version.set_at.age_at(now)),
            version.set_by.clone(),
            version.origin.clone(),
            mark.to_owned(),
        ]);
    }
    table.render(paint, "")
}

fn who(uses: &[SecretUse], paint: Paint) -> String {
    let mut table = Table::new([
        "ENVIRONMENT",
        "RELEASE",
        "SERVICES",
        "OF",
        "VERSION",
        "NEXT",
    ]);
    for one in uses {
        let services = one.services.iter().map(ToString::to_string);
        let services = services.collect::<Vec<_>>().join(", ");
        table.row([
            one.environment.to_string(),
            one.release.to_string(),
            match services.is_empty() {
                true => "builds".to_owned(),
                false => services,
            },
            match one.own {
                true => one.environment.to_string(),
                false => "machine".to_owned(),
            },
            one.version.to_string(),
            match (one.next, &one.problem) {
                (Some(next), _) if next == one.version && !one.next_differs => String::new(),
                (Some(next), _) if next == one.version => format!("{next} (another value)"),
                (Some(next), _) => next.to_string(),
                (None, Some(problem)) => problem.clone(),
                (None, None) => "missing".to_owned(),
            },
        ]);
    }
    table.render(paint, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locked_store_is_told_once_and_the_names_stay_readable() {
        let secret = |name: &str| SecretSummary {
            environment: None,
            name: name.to_owned(),
            rotation: None,
            current: None,
            problem: Some("the secrets of this machine are locked: its key is gone".to_owned()),
        };
        let secrets = [secret("api/key"), secret("db")];
        assert_eq!(
            Vec::from_iter(problems(&secrets)),
            ["the secrets of this machine are locked: its key is gone"]
        );
        insta::assert_snapshot!(list(&secrets, Paint::plain(), Timestamp::now()), @r"
        NAME      OF        VERSION   SIZE   AGE   BY
        api/key   machine   ?         -      -     -
        db        machine   ?         -      -     -
        ");
    }
}
