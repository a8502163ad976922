//! `havre login`: has a token kept for a context, once its daemon has taken it.

use havre_api::{Address, Client, Empty, Endpoint, Info, Token};

use crate::cli::LoginArgs;
use crate::context::{Context, Destination};
use crate::contexts::ConfigFolder;
use crate::error::{Failure, Outcome};
use crate::exit::Exit;
use crate::prompt;

pub async fn run(context: &Context, args: LoginArgs) -> Outcome {
    let (name, endpoint) = over_https(context)?;
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
    let tried = Client::of(Endpoint {
        token: Some(token.clone()),
        ..endpoint.clone()
    });
    tried.call::<Info>(&Empty {}).await?;
    let kept = ConfigFolder::of_user().and_then(|folder| folder.keep_token(name, &token));
    kept.map_err(|error| Failure::new(Exit::Failed, "the token cannot be kept").caused_by(&error))?;
    context.ui.say(&format!(
        "{endpoint} takes the token; it is kept for you alone"
    ));
    Ok(Exit::Ok)
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
