//! `havre login`: has a token kept for a context, once its daemon has taken it.

use havre_api::{
    Address, Client, Empty, Endpoint, Info, IssuedToken, Login, LoginOidc, OidcLoginRequest,
    OidcOffer, Token,
};

use crate::cli::LoginArgs;
use crate::context::{Context, Destination};
use crate::contexts::ConfigFolder;
use crate::error::{Failure, Outcome};
use crate::exit::Exit;
use crate::identity::{self, Issuer, Way};
use crate::prompt;

pub async fn run(context: &Context, args: LoginArgs) -> Outcome {
    let (name, endpoint) = over_https(context)?;
    let (token, said) = match args.is_by_identity() {
        true => by_identity(context, endpoint, &args).await?,
        false => (
            by_token(endpoint, &args).await?,
            format!("{endpoint} takes the token; it is kept for you alone"),
        ),
    };
    let kept = ConfigFolder::of_user().and_then(|folder| folder.keep_token(name, &token));
    kept.map_err(|error| Failure::new(Exit::Failed, "the token cannot be kept").caused_by(&error))?;
    context.ui.say(&said);
    Ok(Exit::Ok)
}

/// One that somebody has, tried.
async fn by_token(endpoint: &Endpoint, args: &LoginArgs) -> Result<Token, Failure> {
    let text = match args.token_stdin {
        true => prompt::piped(),
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
) -> Result<(Token, String), Failure> {
    // Whatever token there is, it may be the one that has expired.
    let client = with(endpoint, None);
    let offers = client.call::<Login>(&Empty {}).await?.oidc;
    let is_job = identity::is_job();
    let offer = chosen(&offers, args.issuer.as_deref(), is_job)?;
    let token = match &args.id_token_file {
        Some(path) => std::fs::read_to_string(path).map_err(|error| {
            let message = format!("cannot read a token from {}", path.display());
            Failure::new(Exit::NotFound, message).caused_by(&error)
        })?,
        None if is_job => identity::of_job(&offer.audience).await?,
        None => {
            let issuer = Issuer {
                offer,
                ca_file: endpoint.ca_file.as_deref(),
            };
            let way = match args.device {
                true => Way::Device,
                false => Way::Browser,
            };
            issuer.of_person(way, context.ui).await?
        }
    };
    let request = OidcLoginRequest {
        token: token.trim().to_owned(),
    };
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
    Ok((token, said))
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
        (Address::Ssh(_) | Address::Socket(_), _) => Err(Failure::new(
            Exit::Usage,
            "ssh shows the server who you are: no login is needed",
        )),
    }
}
