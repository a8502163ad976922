//! `havre ci cancel`, `rerun`, `start` and `event`.

use havre_api::{
    RerunWhat, RunCancel, RunCancelRequest, RunDispatch, RunDispatchRequest, RunEvent,
    RunEventRequest, RunRerun, RunRerunRequest,
};

use super::{project, short_commit, short_reference};
use crate::cli::runs::{RunCancelArgs, RunEventArgs, RunRerunArgs, RunStartArgs};
use crate::connect;
use crate::context::Context;
use crate::error::Outcome;
use crate::exit::Exit;

pub async fn cancel(context: &Context, args: RunCancelArgs) -> Outcome {
    let ui = context.ui;
    let request = RunCancelRequest {
        project: project(&args.project)?,
        number: args.number,
        force: args.force,
    };
    let (client, _) = connect::running(context).await?;
    let outcome = client.call::<RunCancel>(&request).await?;
    let number = request.number;
    match (args.json.json, outcome.changed, request.force) {
        (true, _, _) => ui.json(&outcome)?,
        (false, false, _) => ui.note(&format!(
            "nothing to cancel: run {number} has ended, or ends"
        )),
        (false, true, true) => ui.note(&format!("run {number} ends at once")),
        (false, true, false) => ui.note(&format!(
            "run {number} is cancelled: steps that clean up go on; --force ends them too"
        )),
    }
    Ok(Exit::Ok)
}

pub async fn rerun(context: &Context, args: RunRerunArgs) -> Outcome {
    let ui = context.ui;
    let request = RunRerunRequest {
        project: project(&args.project)?,
        number: args.number,
        what: match (args.job, args.failed) {
            (Some(job), _) => RerunWhat::Job(job),
            (None, true) => RerunWhat::Failed,
            (None, false) => RerunWhat::All,
        },
    };
    let (client, _) = connect::running(context).await?;
    let outcome = client.call::<RunRerun>(&request).await?;
    let number = request.number;
    match args.json.json {
        true => ui.json(&outcome)?,
        false => ui.note(&format!(
            "attempt {} of run {number} began: `havre ci logs {number} -f` follows it",
            outcome.attempt
        )),
    }
    Ok(Exit::Ok)
}

pub async fn start(context: &Context, args: RunStartArgs) -> Outcome {
    let ui = context.ui;
    let request = RunDispatchRequest {
        project: project(&args.project)?,
        workflow: args.workflow,
        reference: args.reference,
        inputs: args.input.into_iter().collect(),
    };
    let (client, _) = connect::running(context).await?;
    let begun = client.call::<RunDispatch>(&request).await?;
    match args.json.json {
        true => ui.json(&begun)?,
        false => {
            ui.data(&format!("{}\n", begun.number))?;
            ui.note(&format!(
                "{} runs on {} ({}): `havre ci logs {} -f` follows it",
                begun.workflow,
                short_reference(&begun.reference),
                short_commit(&begun.commit),
                begun.number
            ));
        }
    }
    Ok(Exit::Ok)
}

pub async fn event(context: &Context, args: RunEventArgs) -> Outcome {
    let ui = context.ui;
    let request = RunEventRequest {
        project: project(&args.project)?,
        kind: args.kind,
        payload: args.payload.unwrap_or_default(),
    };
    let (client, _) = connect::running(context).await?;
    let begun = client.call::<RunEvent>(&request).await?;
    if args.json.json {
        ui.json(&begun)?;
        return Ok(Exit::Ok);
    }
    if begun.is_empty() {
        let kind = &request.kind;
        ui.note(&format!(
            "nothing begins: no workflow of the default branch has `repository_dispatch` for {kind}"
        ));
    }
    for one in &begun {
        ui.data(&format!("{}\n", one.number))?;
        let (workflow, number) = (&one.workflow, one.number);
        ui.note(&format!(
            "{workflow} runs on {} ({}): `havre ci logs {number} -f` follows it",
            short_reference(&one.reference),
            short_commit(&one.commit),
        ));
    }
    Ok(Exit::Ok)
}
