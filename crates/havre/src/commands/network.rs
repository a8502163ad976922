//! `havre network`.

use havre_api::{
    Client, Empty, NetworkCreate, NetworkCreateRequest, NetworkRemove, NetworkRemoveRequest,
    Networks, SharedNetwork, Timestamp,
};

use crate::cli::NetworkCommand;
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::exit::Exit;
use crate::paint::Paint;
use crate::table::Table;
use crate::{connect, human};

pub async fn run(context: &Context, command: NetworkCommand) -> Outcome {
    let ui = context.ui;
    match command {
        NetworkCommand::Create {
            name,
            internal,
            json,
        } => {
            let client = connect::started(context).await?;
            let request = NetworkCreateRequest { name, internal };
            let network = client.call::<NetworkCreate>(&request).await?;
            let name = &network.name;
            ui.say(&format!(
                "environments whose compose file has `{name}` as an external network join with \
                 their next `havre up`"
            ));
            if json.json {
                ui.json(&network)?;
            } else {
                ui.data(&format!("{name}\n"))?;
            }
        }
        NetworkCommand::Ls(json) => {
            let (client, _) = connect::running(context).await?;
            let networks = client.call::<Networks>(&Empty {}).await?;
            if json.json {
                ui.json(&networks)?;
            } else {
                ui.data(&list(&networks, ui.out, Timestamp::now()))?;
            }
        }
        NetworkCommand::Inspect { name, json } => {
            let (client, _) = connect::running(context).await?;
            let networks = client.call::<Networks>(&Empty {}).await?;
            let Some(network) = networks.iter().find(|network| network.name == name) else {
                let message = format!("no network {name}");
                return Err(Failure::new(Exit::NotFound, message)
                    .hint("`havre network ls` lists those that environments share"));
            };
            if json.json {
                ui.json(network)?;
            } else {
                ui.data(&inspect(network, ui.out))?;
            }
        }
        NetworkCommand::Rm { names, json } => {
            let (client, _) = connect::running(context).await?;
            let (removed, failed) = remove(&client, names).await;
            if json.json {
                ui.json(&serde_json::json!({ "removed": removed }))?;
            } else {
                let names: String = removed.iter().map(|name| format!("{name}\n")).collect();
                ui.data(&names)?;
            }
            return failed.map_or(Ok(Exit::Ok), Err);
        }
    }
    Ok(Exit::Ok)
}

/// Removes all that can be; the first that could not be, with what was said of the others.
async fn remove(client: &Client, names: Vec<String>) -> (Vec<String>, Option<Failure>) {
    let mut removed = Vec::new();
    let mut failed: Option<Failure> = None;
    for name in names {
        let request = NetworkRemoveRequest { name };
        match client.call::<NetworkRemove>(&request).await {
            Ok(Empty {}) => removed.push(request.name),
            Err(error) => {
                let failure = Failure::from(error);
                match &mut failed {
                    Some(first) => first.causes.push(failure.message),
                    None => failed = Some(failure),
                }
            }
        }
    }
    (removed, failed)
}

fn list(networks: &[SharedNetwork], paint: Paint, now: Timestamp) -> String {
    let mut table = Table::new(["NAME", "WAY OUT", "AGE", "ENVIRONMENTS"]);
    for network in networks {
        let members = network.members.iter();
        let members: Vec<String> = members.map(|one| one.environment.to_string()).collect();
        table.row([
            network.name.clone(),
            way_out(network).to_owned(),
            human::age(network.created.age_at(now)),
            members.join(", "),
        ]);
    }
    table.render(paint, "")
}

fn way_out(network: &SharedNetwork) -> &'static str {
    if network.internal { "no" } else { "yes" }
}

fn inspect(network: &SharedNetwork, paint: Paint) -> String {
    let mut table = Table::new(["ENVIRONMENT", "SERVICE", "FULL NAME", "NAMES"]);
    for member in &network.members {
        for service in &member.services {
            table.row([
                member.environment.to_string(),
                service.service.to_string(),
                service.full_name.clone(),
                service.names.join(", "),
            ]);
        }
    }
    let about = format!("{} (way out: {})\n", network.name, way_out(network));
    match network.members.is_empty() {
        true => format!("{about}no environment is on it\n"),
        false => about + &table.render(paint, ""),
    }
}
