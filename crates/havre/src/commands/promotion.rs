//! `havre env`, `promote`, `approve`, `reject` and `freeze`.

mod render;

use std::time::Duration;

use havre_api::{
    Client, EnvironmentFreeze, EnvironmentId, EnvironmentInfo, EnvironmentReport, Environments,
    EnvironmentsApply, FreezeOrder, FreezeRequest, GateState, GatesRequest, Promote,
    PromoteRequest, PromotionAnswer, PromotionApprove, PromotionId, PromotionReject,
    PromotionState, PromotionStatus, Promotions, PromotionsQuery, ReleaseId, Status, StatusQuery,
    TestReportRequest, Timestamp,
};
use havre_model::{EnvironmentName, Project};

use super::up::of_step;
use crate::cli::promotion::{
    AnswerArgs, EnvApplyArgs, EnvCommand, EnvListArgs, EnvReportArgs, FreezeArgs, PromoteArgs,
};
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::exit::Exit;
use crate::target::LoadArgs;
use crate::ui::Ui;
use crate::{connect, origin, outputs, sending};

use render::{closed, listed, shown, when};

/// Between two looks at a rollout.
const LOOK_EVERY: Duration = Duration::from_millis(250);

pub async fn env(context: &Context, command: EnvCommand) -> Outcome {
    match command {
        EnvCommand::Ls(args) => list(context, args).await,
        EnvCommand::Show { promotion, json } => {
            let (client, _) = connect::running(context).await?;
            let found = find(&client, promotion).await?;
            match json.json {
                true => context.ui.json(&found)?,
                false => context.ui.data(&shown(&found, context.ui.out))?,
            }
            Ok(Exit::Ok)
        }
        EnvCommand::Apply(args) => apply(context, *args).await,
        EnvCommand::Report(args) => report(context, args).await,
    }
}

async fn list(context: &Context, args: EnvListArgs) -> Outcome {
    let (project, environment) = args.folder.project.filter()?;
    let query = StatusQuery {
        project,
        environment,
    };
    let (client, _) = connect::running(context).await?;
    let all = client.call::<Environments>(&query).await?;
    print(context.ui, args.json.json, &all)
}

fn print(ui: Ui, json: bool, all: &[EnvironmentInfo]) -> Outcome {
    match json {
        true => ui.json(&all)?,
        false => ui.data(&listed(all, ui.out, Timestamp::now()))?,
    }
    Ok(Exit::Ok)
}

async fn apply(context: &Context, args: EnvApplyArgs) -> Outcome {
    let project = args.load.load(context).await?;
    let request = GatesRequest {
        project: project.name,
        gates: project.gates,
    };
    let client = connect::started(context).await?;
    let all = client.call::<EnvironmentsApply>(&request).await?;
    let ui = context.ui;
    ui.say(&format!(
        "what havre.yaml says of the environments of {} is in force",
        request.project
    ));
    print(ui, args.json.json, &all)
}

async fn report(context: &Context, args: EnvReportArgs) -> Outcome {
    let request = TestReportRequest {
        environment: args.project.environment()?,
        release: args.release.map(ReleaseId),
        test: args.test,
        passed: args.passed,
        run: args.run.or_else(|| origin::of_job()?.run),
    };
    let (client, _) = connect::running(context).await?;
    client.call::<EnvironmentReport>(&request).await?;
    let verdict = if request.passed { "passed" } else { "failed" };
    let (test, environment) = (&request.test, &request.environment);
    let ui = context.ui;
    ui.say(&format!(
        "{environment}: `{test}` {verdict}, for the images that it saw"
    ));
    Ok(Exit::Ok)
}

pub async fn promote(context: &Context, args: PromoteArgs) -> Outcome {
    let ui = context.ui;
    let mut named = args.project.clone();
    if named
        .environment
        .as_ref()
        .is_some_and(|named| *named != args.to)
    {
        return Err(
            Failure::new(Exit::Usage, "-E and --to name two environments")
                .hint("leave out -E: --to says where it comes to, --from where it comes from"),
        );
    }
    named.environment = Some(args.to.clone());
    let mut project = LoadArgs::of(named).load(context).await?;
    let from = match &args.from {
        Some(from) => EnvironmentName::new(from),
        None => above(&project)?,
    };
    let client = connect::started(context).await?;
    if !context.is_here() {
        sending::send(context, &client, &mut project).await?;
    }
    let request = PromoteRequest {
        project,
        from,
        release: args.release.0.map(ReleaseId),
        origin: origin::of_job(),
        entry: args.entry.entry,
        dry_run: args.dry_run,
    };
    let status = client.call::<Promote>(&request).await?;
    if !args.json.json {
        ui.data(&shown(&status, ui.out))?;
    }
    if args.dry_run {
        if args.json.json {
            ui.json(&status)?;
        }
        return Ok(Exit::Ok);
    }
    followed(ui, &client, status, args.detach, args.json.json).await
}

/// Where releases come from, by the files: what the environment needs, or the one above it.
fn above(project: &Project) -> Result<EnvironmentName, Failure> {
    let own = project
        .gates
        .iter()
        .position(|gates| gates.name == project.environment);
    let needed = own.and_then(|own| project.gates[own].needs.first());
    let before = match own {
        Some(own) => own.checked_sub(1).map(|index| &project.gates[index].name),
        // Production need not be written.
        None => project.gates.last().map(|gates| &gates.name),
    };
    needed.or(before).cloned().ok_or_else(|| {
        let message = format!("where does it come from to {}?", project.environment);
        Failure::new(Exit::Usage, message)
            .hint("name it with --from; in havre.yaml it stands above, under `environments`")
    })
}

pub async fn approve(context: &Context, args: AnswerArgs) -> Outcome {
    let ui = context.ui;
    let (client, _) = connect::running(context).await?;
    let found = find(&client, args.promotion).await?;
    if !args.json.json {
        // What is agreed to stands above the agreement.
        ui.data(&shown(&found, ui.out))?;
    }
    let answer = answer(&found, &args);
    let status = client.call::<PromotionApprove>(&answer).await?;
    followed(ui, &client, status, args.detach, args.json.json).await
}

pub async fn reject(context: &Context, args: AnswerArgs) -> Outcome {
    let ui = context.ui;
    let (client, _) = connect::running(context).await?;
    let found = find(&client, args.promotion).await?;
    let answer = answer(&found, &args);
    let status = client.call::<PromotionReject>(&answer).await?;
    ui.say(&format!("promotion {} is rejected", args.promotion));
    if args.json.json {
        ui.json(&status)?;
    }
    Ok(Exit::Ok)
}

fn answer(found: &PromotionStatus, args: &AnswerArgs) -> PromotionAnswer {
    PromotionAnswer {
        environment: found.environment.clone(),
        promotion: args.promotion,
        comment: args.comment.clone(),
    }
}

pub async fn freeze(context: &Context, args: FreezeArgs) -> Outcome {
    let mut named = args.project;
    named.environment = Some(args.name);
    let order = FreezeOrder {
        until: args.until,
        reason: args.reason,
    };
    let request = FreezeRequest {
        environment: named.environment()?,
        freeze: (!args.off).then_some(order),
    };
    let client = connect::started(context).await?;
    let told = client.call::<EnvironmentFreeze>(&request).await?;
    let ui = context.ui;
    ui.say(&match &told.frozen {
        Some(frozen) => format!(
            "{} is frozen: {}",
            told.id,
            when(&frozen.reason, frozen.until)
        ),
        None => format!("{} is not frozen", told.id),
    });
    if args.json.json {
        ui.json(&told)?;
    }
    Ok(Exit::Ok)
}

async fn find(client: &Client, promotion: PromotionId) -> Result<PromotionStatus, Failure> {
    let query = PromotionsQuery {
        promotion: Some(promotion),
        ..PromotionsQuery::default()
    };
    let found = client.call::<Promotions>(&query).await?;
    found
        .into_iter()
        .next()
        .ok_or_else(|| Failure::new(Exit::NotFound, format!("there is no promotion {promotion}")))
}

/// Waits for the end of a rollout that has begun, and says what came of it.
async fn followed(
    ui: Ui,
    client: &Client,
    mut status: PromotionStatus,
    detach: bool,
    json: bool,
) -> Outcome {
    let id = status.promotion.unwrap_or(PromotionId(0));
    while !detach && goes_on(&status) {
        tokio::time::sleep(LOOK_EVERY).await;
        status = find(client, id).await?;
    }
    if json {
        ui.json(&status)?;
    }
    let environment = &status.environment;
    let ended = |exit, what: &str| {
        let mut failure = Failure::new(exit, format!("promotion {id} to {environment} {what}"));
        failure.causes.extend(status.reason.clone());
        Err(failure)
    };
    match status.state {
        PromotionState::Waiting => {
            let waits = status.gates.iter().filter_map(closed);
            let waits: Vec<String> = waits.collect();
            ui.say(&format!(
                "promotion {id} to {environment} waits for {}",
                waits.join("; ")
            ));
            let asks = status
                .gates
                .iter()
                .any(|gate| gate.gate == "approval" && gate.state == GateState::Waits);
            if asks {
                ui.note(&format!(
                    "`havre approve {id}` agrees with it, `havre env show {id}` shows it"
                ));
            }
        }
        PromotionState::Approved if status.job.is_some() => {
            ui.say(&format!("promotion {id}: the job may begin"));
        }
        PromotionState::Approved | PromotionState::RollingOut => ui.say(&format!(
            "promotion {id} to {environment} rolls out; `havre status` shows its progress"
        )),
        PromotionState::RolledOut => {
            let release = status.result.map(|release| format!("release {release}"));
            let release = release.unwrap_or_else(|| "it".to_owned());
            ui.say(&format!(
                "{environment}: {release} serves, by promotion {id}"
            ));
            tell_step(client, &status).await?;
        }
        PromotionState::Entered => ui.say(&format!("promotion {id}: the job may begin")),
        PromotionState::Failed => return ended(Exit::RolledBack, "failed"),
        PromotionState::Rejected => return ended(Exit::Busy, "was rejected"),
        PromotionState::Refused => return ended(Exit::Busy, "was refused"),
        PromotionState::Superseded => return ended(Exit::Busy, "was superseded"),
        PromotionState::Expired => return ended(Exit::Busy, "expired: nobody had agreed in time"),
    }
    Ok(Exit::Ok)
}

/// What later steps of a job want to know.
async fn tell_step(client: &Client, status: &PromotionStatus) -> Result<(), Failure> {
    let (Some(release), true) = (status.result, outputs::are_wanted()) else {
        return Ok(());
    };
    let query = StatusQuery {
        project: Some(status.environment.project.clone()),
        environment: Some(status.environment.environment.clone()),
    };
    let found = client.call::<Status>(&query).await?;
    let routes = found.iter().flat_map(|environment| &environment.routes);
    // The most general one.
    let url = routes.map(|route| &route.url).min_by_key(|url| url.len());
    outputs::tell(&of_step(release, url))
}

/// A job's is over once it may begin: that is the pipeline's to do.
fn goes_on(status: &PromotionStatus) -> bool {
    status.job.is_none()
        && matches!(
            status.state,
            PromotionState::Approved | PromotionState::RollingOut
        )
}

/// The environment that a release belongs to, and its number, for `havre releases provenance`.
pub async fn provenance(context: &Context, environment: EnvironmentId, release: u64) -> Outcome {
    let query = havre_api::ProvenanceQuery {
        environment,
        release: ReleaseId(release),
    };
    let (client, _) = connect::running(context).await?;
    let statement = client.call::<havre_api::Provenance>(&query).await?;
    context.ui.json(&statement)?;
    Ok(Exit::Ok)
}
