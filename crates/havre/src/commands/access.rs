//! `havre token` and `havre user`: who else has access, and to what.

use havre_api::{
    Client, EnvironmentPattern, Grant, KnownBy, MachineQuery, Timestamp, TokenCreate,
    TokenCreateRequest, TokenInfo, TokenRevoke, TokenRevokeRequest, Tokens, UserAdd,
    UserAddRequest, UserInfo, UserRemove, UserRemoveRequest, Users,
};

use crate::cli::{GrantArgs, TokenCommand, UserCommand};
use crate::connect;
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::exit::Exit;
use crate::human;
use crate::paint::Paint;
use crate::table::Table;
use crate::target::ProjectArgs;

pub async fn token(context: &Context, command: TokenCommand) -> Outcome {
    let ui = context.ui;
    match command {
        TokenCommand::Create {
            name,
            grant,
            expires,
            json,
        } => {
            let grant = read_grant(grant)?;
            let (client, _) = connect::running(context).await?;
            let request = TokenCreateRequest {
                name: name.unwrap_or_else(|| own_name(&grant)),
                grant,
                lifetime_s: expires.0.map(|lifetime| lifetime.as_secs()),
            };
            let issued = client.call::<TokenCreate>(&request).await?;
            let info = &issued.info;
            let until = match info.expires {
                Some(at) => format!("until {at:.0}"),
                None => "until it is revoked".to_owned(),
            };
            ui.say(&format!("token {} is {} {until}", info.name, info.grant));
            ui.say("it is shown this once, and kept nowhere");
            if json.json {
                ui.json(&issued)?;
            } else {
                ui.data(&format!("{}\n", issued.token.reveal()))?;
            }
        }
        TokenCommand::Ls(json) => {
            let (client, _) = connect::running(context).await?;
            let tokens = client.call::<Tokens>(&MachineQuery {}).await?;
            if json.json {
                ui.json(&tokens)?;
            } else {
                ui.data(&list_tokens(&tokens, ui.out, Timestamp::now()))?;
            }
        }
        TokenCommand::Revoke { tokens, json } => {
            let (client, _) = connect::running(context).await?;
            let revoke = async |token: String| {
                let request = TokenRevokeRequest { token };
                let revoked = client.call::<TokenRevoke>(&request).await?;
                Ok(revoked.name)
            };
            let (revoked, failed) = each(tokens, revoke).await;
            if json.json {
                ui.json(&serde_json::json!({ "revoked": revoked }))?;
            } else {
                ui.data(&lines(&revoked))?;
            }
            return failed.map_or(Ok(Exit::Ok), Err);
        }
    }
    Ok(Exit::Ok)
}

pub async fn user(context: &Context, command: UserCommand) -> Outcome {
    let ui = context.ui;
    match command {
        UserCommand::Add {
            name,
            grant,
            issuer,
            subject,
            json,
        } => {
            let grant = read_grant(grant)?;
            let (client, _) = connect::running(context).await?;
            let known_by = match issuer.zip(subject) {
                Some((issuer, subject)) => KnownBy::Oidc { issuer, subject },
                None => KnownBy::Local,
            };
            let request = UserAddRequest {
                name,
                known_by,
                grant,
            };
            let user = client.call::<UserAdd>(&request).await?;
            ui.say(&format!("{} is {}", user.name, user.grant));
            if user.known_by == KnownBy::Local {
                ui.say(&format!(
                    "the daemon's socket is for members of the group havre: usermod -aG havre {}",
                    user.name
                ));
            }
            if json.json {
                ui.json(&user)?;
            } else {
                ui.data(&format!("{}\n", user.name))?;
            }
        }
        UserCommand::Ls(json) => {
            let (client, _) = connect::running(context).await?;
            let users = client.call::<Users>(&MachineQuery {}).await?;
            if json.json {
                ui.json(&users)?;
            } else {
                ui.data(&list_users(&users, ui.out, Timestamp::now()))?;
            }
        }
        UserCommand::Rm { names, json } => {
            let (client, _) = connect::running(context).await?;
            let remove = async |name: String| remove_user(&client, name).await;
            let (removed, failed) = each(names, remove).await;
            if json.json {
                ui.json(&serde_json::json!({ "removed": removed }))?;
            } else {
                ui.data(&lines(&removed))?;
            }
            return failed.map_or(Ok(Exit::Ok), Err);
        }
    }
    Ok(Exit::Ok)
}

async fn remove_user(client: &Client, name: String) -> Result<String, Failure> {
    let request = UserRemoveRequest { name };
    let removed = client.call::<UserRemove>(&request).await?;
    Ok(removed.name)
}

/// Does it for each; the first that failed, with what was said of the others.
async fn each(
    names: Vec<String>,
    act: impl AsyncFn(String) -> Result<String, Failure>,
) -> (Vec<String>, Option<Failure>) {
    let (mut done, mut failed) = (Vec::new(), None::<Failure>);
    for name in names {
        match (act(name).await, &mut failed) {
            (Ok(name), _) => done.push(name),
            (Err(failure), Some(first)) => first.causes.push(failure.message),
            (Err(failure), None) => failed = Some(failure),
        }
    }
    (done, failed)
}

/// Environments may be named without their project, which is the folder's then.
fn read_grant(args: GrantArgs) -> Result<Grant, Failure> {
    let of_folder = ProjectArgs {
        project: args.project,
        ..ProjectArgs::default()
    };
    let mut environments = Vec::new();
    for place in args.environments {
        let text = match place == "*" || place.contains('/') {
            true => place,
            false => format!("{}/{place}", of_folder.environment()?.project),
        };
        let read = text.parse::<EnvironmentPattern>();
        environments.push(read.map_err(|error| Failure::new(Exit::Usage, error.to_string()))?);
    }
    Ok(Grant {
        role: args.role,
        environments,
    })
}

/// What a token is called that was not named: `deployer-shop-production`.
fn own_name(grant: &Grant) -> String {
    let place = match &grant.environments[..] {
        [only] if !only.is_all() => only.to_string(),
        _ => return grant.role.to_string(),
    };
    let place = place.replace('*', "").replace('/', "-");
    let name = format!("{}-{place}", grant.role);
    let name: String = name.chars().take(40).collect();
    name.trim_end_matches('-').to_owned()
}

fn list_tokens(tokens: &[TokenInfo], paint: Paint, now: Timestamp) -> String {
    let mut table = Table::new(["ID", "NAME", "ROLE", "WHERE", "EXPIRES", "USED"]);
    for token in tokens {
        let name = match &token.issuer {
            Some(issuer) => format!("{issuer}:{}", token.name),
            None => token.name.clone(),
        };
        let expires = match token.expires {
            Some(at) if at > now => format!("in {}", human::age(now.age_at(at))),
            Some(_) => "expired".to_owned(),
            None => "never".to_owned(),
        };
        let used = token.last_used.map(|at| human::age(at.age_at(now)));
        table.row([
            token.id.clone(),
            name,
            token.grant.role.to_string(),
            places(&token.grant),
            expires,
            used.map_or_else(String::new, |age| format!("{age} ago")),
        ]);
    }
    table.render(paint, "")
}

fn list_users(users: &[UserInfo], paint: Paint, now: Timestamp) -> String {
    let mut table = Table::new(["NAME", "KNOWN BY", "ROLE", "WHERE", "SINCE"]);
    for user in users {
        let known_by = match &user.known_by {
            KnownBy::Local => "group havre".to_owned(),
            KnownBy::Oidc { issuer, subject } => format!("{issuer}:{subject}"),
        };
        table.row([
            user.name.clone(),
            known_by,
            user.grant.role.to_string(),
            places(&user.grant),
            human::age(user.created.age_at(now)),
        ]);
    }
    table.render(paint, "")
}

fn places(grant: &Grant) -> String {
    let places: Vec<String> = grant.environments.iter().map(ToString::to_string).collect();
    places.join(", ")
}

fn lines(names: &[String]) -> String {
    names.iter().map(|name| format!("{name}\n")).collect()
}

#[cfg(test)]
mod tests {
    use havre_api::Role;

    use super::*;

    fn grant(role: Role, places: &[&str]) -> Grant {
        let environments = places.iter().map(|place| place.parse().expect("sound"));
        Grant {
            role,
            environments: environments.collect(),
        }
    }

    #[test]
    fn a_token_without_a_name_is_called_by_what_it_may_do() {
        let name = |role, places: &[&str]| own_name(&grant(role, places));
        assert_eq!(
            name(Role::Deployer, &["shop/production"]),
            "deployer-shop-production"
        );
        assert_eq!(name(Role::Viewer, &["shop/*"]), "viewer-shop");
        assert_eq!(name(Role::Viewer, &["*/staging"]), "viewer--staging");
        assert_eq!(name(Role::Admin, &["*"]), "admin");
        assert_eq!(name(Role::Viewer, &["a/b", "c/d"]), "viewer");
        let long = format!("{}/production", "x".repeat(60));
        assert!(name(Role::Deployer, &[&long]).len() <= 40);
    }

    #[test]
    fn tokens_fit_on_a_terminal() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let token =
            |name: &str, issuer: Option<&str>, grant: Grant, expires: Option<&str>| TokenInfo {
                id: "0a1b2c3d".to_owned(),
                name: name.to_owned(),
                issuer: issuer.map(ToOwned::to_owned),
                grant,
                created: at("2026-05-01T10:00:00Z"),
                created_by: "root".to_owned(),
                expires: expires.map(at),
                last_used: Some(at("2026-05-01T10:00:00Z")),
            };
        let tokens = [
            token(
                "ci",
                None,
                grant(Role::Deployer, &["shop/production"]),
                None,
            ),
            token(
                "acme/shop:refs/heads/main",
                Some("github"),
                grant(Role::Deployer, &["shop/production", "shop/staging"]),
                Some("2026-05-01T12:20:00Z"),
            ),
        ];
        let now = at("2026-05-01T12:00:00Z");
        insta::assert_snapshot!(list_tokens(&tokens, Paint::plain_within(80), now), @r"
        ID       NAME                   ROLE     WHERE                 EXPIRES   USED
        0a1b2c3d ci                     deployer shop/production       never     2 h ago
        0a1b2c3d github:acme/shop:refs/ deployer shop/production,      in 20 min 2 h ago
                 heads/main                      shop/staging
        ");
    }
}
