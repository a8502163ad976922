//! `havre login`: has a token kept for a context, once its daemon has taken it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use data_encoding::BASE64URL_NOPAD;
use havre_api::{
    Address, Client, Empty, Endpoint, Info, IssuedToken, Login, LoginOidc, OidcLoginRequest,
    OidcOffer, Token,
};
use serde_json::Value;

use crate::cli::LoginArgs;
use crate::context::{Context, Destination};
use crate::contexts::{ConfigFolder, ConfigFolderError, Saved, SavedIssuer};
use crate::error::{Failure, Outcome};
use crate::exit::Exit;
use crate::identity::{self, Issuer, Way};
use crate::prompt;

pub async fn run(context: &Context, args: LoginArgs) -> Outcome {
    let (name, endpoint) = over_https(context)?;
    let failed = |error: &ConfigFolderError| {
        Failure::new(Exit::Failed, "the token cannot be kept").caused_by(error)
    };
    let folder = ConfigFolder::of_user().map_err(|error| failed(&error))?;
    let mut contexts = folder.read().map_err(|error| failed(&error))?;
    let known = Known {
        here: contexts.contexts.remove(name).and_then(|one| one.issuer),
        elsewhere: contexts.contexts,
    };
    let done = match args.is_by_identity() {
        true => by_identity(context, endpoint, &args, &known).await?,
        false => Done {
            token: by_token(endpoint, &args).await?,
            said: format!("{endpoint} takes the token; it is kept for you alone"),
            issuer: None,
        },
    };
    let same = |saved: &Saved| saved.address.parse().as_ref() == Ok(&endpoint.address);
    let kept = folder.change(|contexts| {
        let saved = contexts.contexts.get_mut(name);
        // It may have become another in the meantime.
        let Some(saved) = saved.filter(|saved| same(saved)) else {
            return Ok(false);
        };
        if done.issuer.is_some() {
            saved.issuer.clone_from(&done.issuer);
        }
        let kept = folder.keep_token(name, &endpoint.address, &done.token);
        kept.map(|()| true)
    });
    let kept = kept.and_then(|kept| kept).map_err(|error| failed(&error))?;
    if !kept {
        let message = format!("{name} is another context by now: no token is kept for it");
        return Err(Failure::new(Exit::Busy, message).hint("log in once more"));
    }
    context.ui.say(&done.said);
    Ok(Exit::Ok)
}

/// By whom people have logged in so far.
struct Known {
    /// To this context.
    here: Option<SavedIssuer>,
    /// The other contexts.
    elsewhere: BTreeMap<String, Saved>,
}

/// What a login gives.
struct Done {
    token: Token,
    /// What the user is told.
    said: String,
    /// Whom a person was asked by.
    issuer: Option<SavedIssuer>,
}

/// One that somebody has, tried.
async fn by_token(endpoint: &Endpoint, args: &LoginArgs) -> Result<Token, Failure> {
    let text = match args.token_stdin {
        true => prompt::piped().map_err(prompt::AskError::from),
        false => prompt::hidden(&format!("Token for {}: ", endpoint.address)),
    };
    let text = text.map_err(|error| {
        let failure = Failure::new(Exit::Failed, "cannot read the token").caused_by(&error);
        failure.hint("where nobody can type, pipe it in: havre login --token-stdin < FILE")
    })?;
    let token =
        Token::new(&text).ok_or_else(|| Failure::new(Exit::Usage, "what was given is no token"))?;
    let tried = with(endpoint, Some(token.clone()));
    tried.call::<Info>(&Empty {}).await?;
    Ok(token)
}

/// One that the daemon gives for what an issuer says of somebody.
async fn by_identity(
    context: &Context,
    endpoint: &Endpoint,
    args: &LoginArgs,
    known: &Known,
) -> Result<Done, Failure> {
    // Whatever token there is, it may be the one that has expired.
    let client = with(endpoint, None);
    let offers = client.call::<Login>(&Empty {}).await?.oidc;
    let is_job = identity::is_job();
    let offer = chosen(&offers, args.issuer.as_deref(), is_job)?;
    let mut asked = None;
    let token = match &args.id_token_file {
        Some(path) => std::fs::read_to_string(path).map_err(|error| {
            let message = format!("cannot read a token from {}", path.display());
            Failure::new(Exit::NotFound, message).caused_by(&error)
        })?,
        None if is_job => {
            let audience = audience(offer, &endpoint.address, args.audience.as_deref())?;
            identity::of_job(audience).await?
        }
        None => {
            asked = trusted(offer, known, &endpoint.address, args.new_issuer)?;
            let issuer = Issuer {
                offer,
                ca_file: endpoint.ca_file.as_deref(),
                here: is_here(&endpoint.address),
            };
            let way = match args.device {
                true => Way::Device,
                false => Way::Browser,
            };
            issuer.of_person(way, context.ui).await?
        }
    };
    let token = token.trim().to_owned();
    for_whom(&token, &endpoint.address, args.audience.as_deref())?;
    let request = OidcLoginRequest { token };
    let IssuedToken { token, info } = client.call::<LoginOidc>(&request).await?;
    let token = Token::new(token.reveal())
        .ok_or_else(|| Failure::new(Exit::Failed, "the server gave what is no token"))?;
    let until = info.expires.map(|at| format!(" until {at:.0}"));
    let said = format!(
        "{endpoint} knows you as {}, {}{}",
        info.name,
        info.grant,
        until.unwrap_or_default()
    );
    Ok(Done {
        token,
        said,
        issuer: asked,
    })
}

/// Whom a job's identity is shown to: the server, which says so before anybody knows it. With a token for
/// somebody else it could go to them in the job's name.
fn audience<'o>(
    offer: &'o OidcOffer,
    address: &Address,
    named: Option<&str>,
) -> Result<&'o str, Failure> {
    let own = address.to_string();
    let fits = match named {
        Some(named) => offer.audience == named,
        None => offer.audience.trim_end_matches('/') == own,
    };
    if fits {
        return Ok(&offer.audience);
    }
    let wanted = &offer.audience;
    let message = format!("the server at {own} wants to be shown an identity for {wanted}");
    let hint = "if it is meant to, say so: --audience AUDIENCE; else it may be another's server";
    Err(Failure::new(Exit::Failed, message).hint(hint))
}

/// Refuses to show a server an identity token that is for another server's address: it could log in there with
/// it. What it is for otherwise, and whether it is any, the server says.
fn for_whom(token: &str, address: &Address, named: Option<&str>) -> Result<(), Failure> {
    let claims = token.split('.').nth(1);
    let claims = claims.and_then(|part| BASE64URL_NOPAD.decode(part.as_bytes()).ok());
    let claims: Option<Value> = claims.and_then(|text| serde_json::from_slice(&text).ok());
    let audience = claims.as_ref().and_then(|claims| claims.get("aud"));
    let all: Vec<&str> = match audience {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let own = address.to_string();
    let is_meant = |one: &&str| match named {
        Some(named) => *one == named,
        None => one.trim_end_matches('/') == own,
    };
    let is_address = |one: &&str| one.starts_with("https://");
    match all.iter().find(|one| is_address(one)) {
        Some(other) if !all.iter().any(is_meant) => {
            let message = format!("the identity is for {other}, and the server is {own}");
            let hint = "if it is meant for this server, say so: --audience AUDIENCE; else it may be another's";
            Err(Failure::new(Exit::Failed, message).hint(hint))
        }
        _ => Ok(()),
    }
}

/// The issuer to be kept with the context: that of the first login, unless it is said that another is meant. Nor may
/// it be without that the one of another server: what it says of a person could log in there.
fn trusted(
    offer: &OidcOffer,
    known: &Known,
    address: &Address,
    is_new: bool,
) -> Result<Option<SavedIssuer>, Failure> {
    // Who has no client has no people either, which is told later.
    let Some(client_id) = offer.client_id.clone() else {
        return Ok(None);
    };
    let issuer = SavedIssuer {
        issuer: offer.issuer.clone(),
        client_id,
    };
    let is_elsewhere = |saved: &Saved| {
        saved.issuer.as_ref() == Some(&issuer) && saved.address.parse().as_ref() != Ok(address)
    };
    let mut others = known.elsewhere.iter();
    match (&known.here, others.find(|(_, saved)| is_elsewhere(saved))) {
        (None, Some((name, other))) if !is_new => {
            let message = format!(
                "the server names {} (client {}), by which you log in to {name} ({}): it could log in there as you",
                issuer.issuer, issuer.client_id, other.address
            );
            let hint = "if both are run by the same people, say so: --new-issuer";
            Err(Failure::new(Exit::Failed, message).hint(hint))
        }
        (Some(known), _) if *known != issuer && !is_new => {
            let message = format!(
                "the server names {} (client {}), and at the first login it was {} (client {})",
                issuer.issuer, issuer.client_id, known.issuer, known.client_id
            );
            let hint = "ask who runs it; --new-issuer logs in by the new one";
            Err(Failure::new(Exit::Failed, message).hint(hint))
        }
        _ => Ok(Some(issuer)),
    }
}

/// Whether an address is this machine's by what is written, whatever names lead to.
fn is_here(address: &Address) -> bool {
    let Address::Https(address) = address else {
        return false;
    };
    let loopback = |address: IpAddr| address.is_loopback();
    address.host == "localhost"
        || address.host.ends_with(".localhost")
        || address.host.parse().is_ok_and(loopback)
}

fn with(endpoint: &Endpoint, token: Option<Token>) -> Client {
    Client::of(Endpoint {
        token,
        ..endpoint.clone()
    })
}

/// The issuer that is meant: the one that is named, a job's own, or the only one there is.
fn chosen<'o>(
    offers: &'o [OidcOffer],
    named: Option<&str>,
    is_job: bool,
) -> Result<&'o OidcOffer, Failure> {
    let fits = |offer: &&OidcOffer| match (named, is_job) {
        (Some(name), _) => offer.name == name,
        (None, true) => offer.client_id.is_none() || offers.len() == 1,
        (None, false) => offer.client_id.is_some() || offers.len() == 1,
    };
    let mut fitting = offers.iter().filter(fits);
    match (fitting.next(), fitting.next()) {
        (Some(one), None) => Ok(one),
        (None, _) if offers.is_empty() => {
            let message = "the server takes no identities of others";
            Err(Failure::new(Exit::Failed, message)
                .hint("`oidc` in its machine.yaml names whose it takes"))
        }
        _ => {
            let names: Vec<&str> = offers.iter().map(|offer| offer.name.as_str()).collect();
            let message = "it is not clear by whom to log in";
            Err(Failure::new(Exit::Usage, message)
                .hint(format!("name one with --issuer: {}", names.join(", "))))
        }
    }
}

/// The context, which has to be one that asks for a token.
fn over_https(context: &Context) -> Result<(&str, &Endpoint), Failure> {
    let Destination::There(endpoint) = &context.to else {
        let message = "this machine's daemon knows its users from the kernel: no login is needed";
        return Err(Failure::new(Exit::Usage, message)
            .hint("name the context that it is for: havre -c NAME login"));
    };
    match (&endpoint.address, &endpoint.name) {
        (Address::Https(_), Some(name)) => Ok((name, endpoint)),
        (Address::Https(_), None) => Err(Failure::new(
            Exit::Usage,
            "a token is kept for a context, not for an address",
        )
        .hint("`havre context add NAME ADDRESS` makes one; HAVRE_TOKEN is for a single command")),
        (Address::Unix(_), _) => Err(Failure::new(
            Exit::Usage,
            "a job is told who it is by HAVRE_TOKEN: no login is needed",
        )),
        (Address::Ssh(_) | Address::Socket(_), _) => Err(Failure::new(
            Exit::Usage,
            "ssh shows the server who you are: no login is needed",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(audience: &str, client_id: &str) -> OidcOffer {
        OidcOffer {
            name: "company".to_owned(),
            issuer: "https://issuer.example.org".to_owned(),
            audience: audience.to_owned(),
            client_id: Some(client_id.to_owned()),
        }
    }

    #[test]
    fn a_job_shows_its_identity_to_whom_it_means_alone() {
        let address = "https://havre.example.org:8443".parse().unwrap();
        for (wanted, named, fits) in [
            ("https://havre.example.org:8443", None, true),
            ("https://havre.example.org:8443/", None, true),
            ("https://havre.example.org", None, false),
            ("sts.amazonaws.com", None, false),
            ("company", Some("company"), true),
            ("sts.amazonaws.com", Some("company"), false),
        ] {
            let found = audience(&offer(wanted, "x"), &address, named).is_ok();
            assert_eq!(found, fits, "{wanted} {named:?}");
        }
    }

    #[test]
    fn who_logs_people_in_stays_and_is_one_servers_own() {
        let address: Address = "https://havre.example.org".parse().unwrap();
        let mut known = Known {
            here: None,
            elsewhere: BTreeMap::new(),
        };
        let trusted = |known: &Known, client: &str, is_new| {
            trusted(&offer("", client), known, &address, is_new)
        };
        let first = trusted(&known, "havre", false).unwrap();
        known.here.clone_from(&first);
        assert_eq!(trusted(&known, "havre", false).unwrap(), first);
        let refused = trusted(&known, "other", false).expect_err("another");
        assert!(refused.message.contains("client other"), "{refused:?}");
        let next = trusted(&known, "other", true).unwrap();
        assert_ne!(next, first);
        // A server that hands on what another offers.
        known.here = None;
        let mut other = |address: &str| {
            let saved = Saved {
                address: address.to_owned(),
                ca_file: None,
                issuer: first.clone(),
            };
            known.elsewhere.insert("prod".to_owned(), saved);
            let found = trusted(&known, "havre", false);
            (found.is_ok(), trusted(&known, "havre", true).is_ok())
        };
        assert_eq!(other("https://real.example.org"), (false, true));
        assert_eq!(other("https://havre.example.org"), (true, true));
    }

    #[test]
    fn what_is_for_another_server_is_not_shown() {
        let address = "https://evil.example.org".parse().unwrap();
        let token = |audience: Value| {
            let claims = serde_json::json!({ "aud": audience }).to_string();
            format!("e30.{}.x", BASE64URL_NOPAD.encode(claims.as_bytes()))
        };
        for (audience, named, shown) in [
            (Value::from("https://havre.example.org"), None, false),
            (
                Value::from(vec!["x", "https://havre.example.org"]),
                None,
                false,
            ),
            (Value::from("https://evil.example.org/"), None, true),
            (
                Value::from("https://other.org"),
                Some("https://other.org"),
                true,
            ),
            (
                Value::from("https://other.org"),
                Some("https://x.org"),
                false,
            ),
            (Value::from("client-7"), None, true),
            (Value::Null, None, true),
        ] {
            let found = for_whom(&token(audience.clone()), &address, named);
            assert_eq!(found.is_ok(), shown, "{audience} {named:?}");
        }
        for opaque in ["", "x", "a.b.c"] {
            for_whom(opaque, &address, None).unwrap();
        }
    }

    #[test]
    fn names_lead_nowhere_by_themselves() {
        for (address, here) in [
            ("https://localhost", true),
            ("https://havre.localhost:8443", true),
            ("https://127.0.0.2", true),
            ("https://[::1]", true),
            ("https://example.org", false),
            ("https://localhost.example.org", false),
            ("https://10.0.0.1", false),
        ] {
            assert_eq!(is_here(&address.parse().unwrap()), here, "{address}");
        }
    }
}
