//! `havre daemon`.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use havre_api::{Client, ClientError, DaemonInfo, Empty, Info, Shutdown, ShutdownRequest};
use havre_app::{CacheLimits, DaemonEnd, DaemonError, DaemonOptions};
use havre_model::machine::Settings;

use super::block_on;
use crate::cli::{DaemonArgs, DaemonCommand, DaemonSettings};
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::exit::Exit;

mod install;
mod settings;
mod status;
mod stop;

pub fn run(context: &Context, args: DaemonArgs) -> Outcome {
    if !matches!(args.command, Some(DaemonCommand::Status(_))) {
        let why = "who reaches a machine by its daemon alone could not start that again";
        context.only_here("starting and stopping a daemon", why)?;
    }
    match args.command {
        Some(DaemonCommand::Status(args)) => block_on(status::status(context, args.json)),
        Some(DaemonCommand::Stop { force }) => block_on(stop::stop(context, force)),
        Some(DaemonCommand::Install(args)) => block_on(install::install(context, args)),
        Some(DaemonCommand::Uninstall { force }) => block_on(install::uninstall(context, force)),
        None => {
            let options = options(context, args.settings)?;
            match havre_app::run(options).map_err(|error| failure(&error))? {
                DaemonEnd::Signal => Ok(Exit::Ok),
                // By this an init system knows that it is not to start another.
                DaemonEnd::Call => Ok(Exit::Interrupted),
            }
        }
    }
}

fn options(context: &Context, settings: DaemonSettings) -> Result<DaemonOptions, Failure> {
    let machine = machine_settings(context)?;
    let given = settings.variables();
    let or_port = |addresses: Vec<SocketAddr>, port| match addresses.as_slice() {
        [] => vec![
            (Ipv4Addr::UNSPECIFIED, port).into(),
            (Ipv6Addr::UNSPECIFIED, port).into(),
        ],
        _ => addresses,
    };
    let cache = CacheLimits::default();
    Ok(DaemonOptions {
        root: context.root.clone(),
        http: or_port(settings.http, 80),
        https: or_port(settings.https, 443),
        trusted_proxies: settings.trusted_proxies,
        connections_per_address: settings.connections_per_address,
        build_cache: CacheLimits {
            floor: settings.build_cache_floor.unwrap_or(cache.floor),
            ceiling: settings.build_cache_ceiling.unwrap_or(cache.ceiling),
        },
        machine,
        given,
    })
}

/// What `machine.yaml` says.
pub fn machine_settings(context: &Context) -> Result<Settings, Failure> {
    let read = havre_app::machine_settings(&context.root);
    let (settings, warnings) = read.map_err(super::machine_file_failure)?;
    for warning in warnings {
        context.ui.warn(&warning.to_string(), None);
    }
    Ok(settings)
}

fn failure(error: &DaemonError) -> Failure {
    let (exit, hint) = match error {
        DaemonError::NotRoot => (Exit::NotRoot, Some("run the command again with sudo")),
        DaemonError::Running { .. } => (Exit::Busy, Some("`havre daemon stop` ends it")),
        _ => (Exit::Failed, None),
    };
    let mut failure = Failure::new(exit, error.to_string());
    if let Some(source) = std::error::Error::source(error) {
        failure = failure.caused_by(source);
    }
    Failure {
        hint: hint.map(str::to_owned),
        ..failure
    }
}

/// What the daemon says of itself; `None` where none runs.
async fn answering(client: &Client) -> Result<Option<DaemonInfo>, Failure> {
    match client.call::<Info>(&Empty {}).await {
        Ok(info) => Ok(Some(info)),
        Err(ClientError::Unreachable { source, .. }) if source.means_nobody() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Has the daemon end with the edge, and waits until both are gone.
async fn shut_down(context: &Context, client: &Client, force: bool) -> Result<(), Failure> {
    let info = client.call::<Info>(&Empty {}).await?;
    client.call::<Shutdown>(&ShutdownRequest { force }).await?;
    let edge = info.edge.map(|edge| edge.pid);
    stop::has_ended(context, info.pid, edge).await
}
