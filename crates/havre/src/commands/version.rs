//! `havre version`.

use havre_api::{ClientError, Empty, Info};
use serde_json::json;

use crate::cli::JsonArg;
use crate::context::Context;
use crate::error::Outcome;
use crate::exit::Exit;

pub async fn run(context: &Context, args: JsonArg) -> Outcome {
    let version = env!("CARGO_PKG_VERSION");
    let client = context.client();
    let daemon = match client.call::<Info>(&Empty {}).await {
        Ok(info) => Some(info),
        Err(ClientError::Unreachable { .. }) if context.is_here() => None,
        Err(error) => return Err(error.into()),
    };
    if args.json {
        context
            .ui
            .json(&json!({ "version": version, "daemon": daemon }))?;
        return Ok(Exit::Ok);
    }
    let daemon = match daemon {
        Some(info) => format!(
            "{} (pid {}, since {:.0})",
            info.version, info.pid, info.since
        ),
        None => "does not run, or answers only to root".to_owned(),
    };
    context
        .ui
        .data(&format!("havre {version}\ndaemon {daemon}\n"))?;
    Ok(Exit::Ok)
}
