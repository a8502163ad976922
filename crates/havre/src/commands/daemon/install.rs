//! `havre daemon install` and `uninstall`: systemd keeps the daemon running, or no longer.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use havre_api::{Client, DaemonInfo, Empty, Info};
use rustix::process::{Pid, Signal, kill_process};

use super::stop::has_ended;
use super::{answering, shut_down};
use crate::cli::{DaemonSettings, InstallArgs};
use crate::connect::{self, require_root};
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::exit::Exit;
use crate::systemd::unit::{self, Start};
use crate::systemd::{self, systemctl};

/// Writes the unit and hands the daemon over to it. Until the unit is enabled a failure changes
/// nothing. Containers and edge go on throughout.
pub async fn install(context: &Context, args: InstallArgs) -> Outcome {
    require_root("installing a unit")?;
    let root = &context.root;
    let running = answering(&Client::new(root.api_socket())).await?;
    let unit = systemd::unit_name(root);
    let path = systemd::unit_path(root);
    let before = read_if_there(&path).map_err(|error| cannot("read", &path, &error))?;
    let start = start(context, args, running.as_ref(), before.as_deref())?;
    if !systemd::runs() {
        return Err(no_systemd(&start));
    }
    write(&path, &unit::text(&start)?)?;
    let enabled =
        systemctl(&["daemon-reload"]).and_then(|()| systemctl(&["enable", unit.as_str()]));
    if let Err(failure) = enabled {
        return Err(taken_back(failure, &path, before.as_deref()));
    }
    hand_over(context, &unit).await?;
    let info = Client::new(root.api_socket())
        .call::<Info>(&Empty {})
        .await?;
    context.ui.say(&format!(
        "{unit} keeps the daemon running (pid {}, HTTP {}, HTTPS {}; log: {})",
        info.pid,
        listed(&info.http),
        listed(&info.https),
        systemd::log_of(root),
    ));
    Ok(Exit::Ok)
}

/// Ends the daemon, disables the unit and removes it.
pub async fn uninstall(context: &Context, force: bool) -> Outcome {
    require_root("removing a unit")?;
    let root = &context.root;
    let path = systemd::unit_path(root);
    if !path.exists() {
        context.ui.say("no unit is installed");
        return Ok(Exit::Ok);
    }
    let Some(unit) = systemd::installed(root) else {
        return Err(Failure::new(Exit::Failed, "systemd does not run here")
            .hint(format!("the unit is the file {}", path.display())));
    };
    // Only the daemon knows what is up, and only it takes edge and networks down in order.
    match connect::started(context).await {
        Ok(client) => shut_down(context, &client, force).await?,
        Err(failure) if force => context.ui.warn(
            &format!("the daemon does not start: {}", failure.message),
            Some("what is up continues without it"),
        ),
        Err(failure) => {
            return Err(failure.hint(
                "only the daemon knows whether environments are up: --force removes the unit \
                 all the same",
            ));
        }
    }
    systemctl(&["disable", "--now", unit.as_str()])?;
    fs::remove_file(&path).map_err(|error| cannot("remove", &path, &error))?;
    systemctl(&["daemon-reload"])?;
    context.ui.say(&format!("removed {unit}"));
    Ok(Exit::Ok)
}

/// What was not given stays as it is: as the running daemon has it, else as the unit has.
fn start(
    context: &Context,
    args: InstallArgs,
    running: Option<&DaemonInfo>,
    before: Option<&str>,
) -> Result<Start, Failure> {
    let exe = std::env::current_exe().map_err(|error| {
        Failure::new(Exit::Failed, "cannot find this program's own file").caused_by(&error)
    })?;
    let unit = before.map(unit::settings).unwrap_or_default();
    let known = match running {
        Some(info) => match &info.given {
            Some(given) => DaemonSettings::of_variables(given),
            // Of an earlier version, which tells of its addresses only.
            None => DaemonSettings {
                http: info.http.clone(),
                https: info.https.clone(),
                ..unit
            },
        },
        None => unit,
    };
    Ok(Start {
        exe,
        root: context.root.clone(),
        settings: args.settings.or(known),
    })
}

fn no_systemd(start: &Start) -> Failure {
    Failure::new(Exit::Failed, "systemd does not run here").hint(format!(
        "let your init system run this as root, once the network is up, and again whenever it \
         ends with another code than {}:\n{}",
        Exit::Interrupted.code(),
        unit::command_line(start)
    ))
}

/// Ends the daemon, whoever started it, and starts the unit.
async fn hand_over(context: &Context, unit: &str) -> Result<(), Failure> {
    systemctl(&["stop", unit])?;
    let client = Client::new(context.root.api_socket());
    if let Some(info) = answering(&client).await? {
        let pid = i32::try_from(info.pid).ok().and_then(Pid::from_raw);
        // One that is gone has ended.
        if let Some(pid) = pid
            && let Err(error) = kill_process(pid, Signal::TERM)
            && error != rustix::io::Errno::SRCH
        {
            let message = format!("cannot end the running daemon (pid {})", info.pid);
            return Err(Failure::new(Exit::Failed, message).caused_by(&error));
        }
        has_ended(context, info.pid, None).await?;
    }
    systemctl(&["start", unit]).map_err(|failure| {
        failure.hint(format!(
            "see {}; systemd goes on trying until `havre daemon uninstall --force`",
            systemd::log_of(&context.root)
        ))
    })
}

/// Puts back what was there before a failure.
fn taken_back(failure: Failure, path: &Path, before: Option<&str>) -> Failure {
    let undone = match before {
        Some(text) => write(path, text),
        None => fs::remove_file(path).map_err(|error| cannot("remove", path, &error)),
    };
    match undone.and_then(|()| systemctl(&["daemon-reload"])) {
        Ok(()) => failure.hint("nothing was changed"),
        Err(second) => failure.hint(format!("undoing it failed as well: {}", second.message)),
    }
}

fn read_if_there(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// All of it or nothing, readable by everybody as units are.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let fresh = path.with_extension("service.new");
    let written = fs::write(&fresh, text)
        .and_then(|()| fs::set_permissions(&fresh, fs::Permissions::from_mode(0o644)))
        .and_then(|()| fs::rename(&fresh, path));
    written.map_err(|error| {
        let mut failure = cannot("write", path, &error);
        match fs::remove_file(&fresh) {
            Err(second) if second.kind() != io::ErrorKind::NotFound => {
                failure
                    .causes
                    .push(format!("{} stays: {second}", fresh.display()));
            }
            _ => {}
        }
        failure
    })
}

fn cannot(action: &str, path: &Path, error: &io::Error) -> Failure {
    let message = format!("cannot {action} {}", path.display());
    Failure::new(Exit::Failed, message).caused_by(error)
}

fn listed(addresses: &[std::net::SocketAddr]) -> String {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    addresses.join(", ")
}
