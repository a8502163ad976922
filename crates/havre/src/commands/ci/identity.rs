//! `havre ci identity`.

use havre_api::{Empty, IdentityIssuer, IdentityRotate, IdentityShow, MachineQuery, Timestamp};

use crate::cli::runs::IdentityArgs;
use crate::context::Context;
use crate::error::Outcome;
use crate::exit::Exit;
use crate::paint::Paint;
use crate::table::Table;
use crate::{connect, human};

pub async fn run(context: &Context, args: IdentityArgs) -> Outcome {
    let ui = context.ui;
    let (client, _) = connect::running(context).await?;
    let shown = match args.rotate {
        true => {
            let shown = client.call::<IdentityRotate>(&MachineQuery {}).await?;
            ui.say("another key signs from now on; tokens of those before it are believed no more");
            shown
        }
        false => client.call::<IdentityShow>(&Empty {}).await?,
    };
    match args.json.json {
        true => ui.json(&shown)?,
        false => ui.data(&text(&shown, ui.out, Timestamp::now()))?,
    }
    Ok(Exit::Ok)
}

fn text(shown: &IdentityIssuer, paint: Paint, now: Timestamp) -> String {
    let mut text = match &shown.issuer {
        Some(issuer) => format!(
            "issuer   {issuer}\nfound at {issuer}/.well-known/openid-configuration\nkeys     {issuer}/.well-known/jwks\n"
        ),
        None => "jobs get no identity tokens: machine.yaml has no `api:` with a host, where they could be verified\n"
            .to_owned(),
    };
    if !shown.keys.is_empty() {
        let mut table = Table::new(["KEY", "MADE", "SIGNS"]);
        for key in &shown.keys {
            let signs = match key.signs_from > now {
                true => format!("in {}", human::age(now.age_at(key.signs_from))),
                false => format!("since {}", human::age(key.signs_from.age_at(now))),
            };
            table.row([key.id.clone(), human::age(key.made.age_at(now)), signs]);
        }
        text.push('\n');
        text.push_str(&table.render(paint, ""));
    }
    text
}
