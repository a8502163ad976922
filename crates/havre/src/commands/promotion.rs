//! `havre env`, `promote`, `approve`, `reject` and `freeze`.

use std::fmt::Display;
use std::time::Duration;

use havre_api::{
    Client, EnvironmentFreeze, EnvironmentId, EnvironmentInfo, EnvironmentReport, Environments,
    EnvironmentsApply, FreezeOrder, FreezeRequest, GateState, GateStatus, GatesRequest, Promote,
    PromoteRequest, PromotionAnswer, PromotionApprove, PromotionId, PromotionReject,
    PromotionState, PromotionStatus, Promotions, PromotionsQuery, ReleaseId, StatusQuery,
    TestReportRequest, Timestamp,
};
use havre_model::{Approver, EnvironmentGates, EnvironmentName, Project};

use crate::cli::promotion::{
    AnswerArgs, EnvApplyArgs, EnvCommand, EnvListArgs, EnvReportArgs, FreezeArgs, PromoteArgs,
};
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::exit::Exit;
use crate::paint::Paint;
use crate::progress::verb;
use crate::table::{Table, printable, printable_lines};
use crate::target::LoadArgs;
use crate::ui::Ui;
use crate::{connect, human, origin, sending};

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
        PromotionState::Approved | PromotionState::RollingOut => ui.say(&format!(
            "promotion {id} to {environment} rolls out; `havre status` shows its progress"
        )),
        PromotionState::RolledOut => {
            let release = status.result.map(|release| format!("release {release}"));
            let release = release.unwrap_or_else(|| "it".to_owned());
            ui.say(&format!(
                "{environment}: {release} serves, by promotion {id}"
            ));
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

/// A job's is over once it may begin: that is the pipeline's to do.
fn goes_on(status: &PromotionStatus) -> bool {
    status.job.is_none()
        && matches!(
            status.state,
            PromotionState::Approved | PromotionState::RollingOut
        )
}

/// What a gate that is not open waits for.
fn closed(gate: &GateStatus) -> Option<String> {
    let why = gate.why.as_deref().unwrap_or_default();
    match gate.state {
        GateState::Open => None,
        GateState::Waits | GateState::Refused => {
            Some(format!("{}: {}", gate.gate, when(why, gate.until)))
        }
    }
}

fn when(why: &str, until: Option<Timestamp>) -> String {
    match until {
        Some(until) => format!("{why}, until {until:.0}"),
        None => why.to_owned(),
    }
}

fn listed(all: &[EnvironmentInfo], paint: Paint, now: Timestamp) -> String {
    let mut table = Table::new([
        "ENVIRONMENT",
        "RELEASE",
        "COMMIT",
        "COMES BY",
        "WAITS",
        "FOR",
    ]);
    for one in all {
        let origin = one.origin.as_ref();
        let commit = origin.and_then(|origin| origin.origin.commit.as_deref());
        let mut waits = one.waiting.iter().flat_map(|promotion| {
            let what = format!(
                "{}: {}, {} ago by {}",
                number(promotion),
                what(promotion),
                human::age(promotion.at.age_at(now)),
                promotion.by
            );
            let gates: Vec<String> = promotion.gates.iter().filter_map(closed).collect();
            let gates = if gates.is_empty() {
                vec![word(promotion.state).to_owned()]
            } else {
                gates
            };
            gates.into_iter().enumerate().map(move |(index, gate)| {
                (
                    if index == 0 {
                        what.clone()
                    } else {
                        String::new()
                    },
                    gate,
                )
            })
        });
        let frozen = one
            .frozen
            .as_ref()
            .map(|frozen| ("frozen".to_owned(), when(&frozen.reason, frozen.until)));
        let mut lines = frozen.into_iter().chain(&mut waits);
        let (first, gate) = lines.next().unwrap_or_default();
        table.row([
            one.id.to_string(),
            one.release
                .map(|release| release.to_string())
                .unwrap_or_default(),
            commit
                .map(|commit| commit.chars().take(12).collect())
                .unwrap_or_default(),
            one.gates.as_ref().map(asked).unwrap_or_default(),
            first,
            gate,
        ]);
        for (what, gate) in lines {
            table.row_below(4, what);
            table.row_below(5, gate);
        }
    }
    table.render(paint, "")
}

/// What has to hold, in few words.
fn asked(gates: &EnvironmentGates) -> String {
    let mut words = Vec::new();
    words.extend(gates.needs.iter().map(ToString::to_string));
    words.extend(gates.e2e.clone());
    if let Some(rule) = &gates.approval {
        let by: Vec<String> = rule.by.iter().map(Approver::to_string).collect();
        let by = if by.is_empty() {
            "deployers".to_owned()
        } else {
            by.join(", ")
        };
        words.push(format!(
            "{} of {by}",
            human::count(rule.count.into(), "approval")
        ));
    }
    words.extend(
        gates
            .wait
            .map(|wait| format!("wait {}", human::duration(wait))),
    );
    if !gates.freeze.is_empty() {
        words.push(human::count(gates.freeze.len() as u64, "freeze"));
    }
    words.join(" + ")
}

fn number(promotion: &PromotionStatus) -> String {
    match promotion.promotion {
        Some(id) => id.to_string(),
        None => "it".to_owned(),
    }
}

fn what(promotion: &PromotionStatus) -> String {
    match (&promotion.from, &promotion.job) {
        (Some(from), _) => format!("release {} of {}", from.release, from.environment),
        (None, Some(job)) => format!("job {} of run {}", job.job, job.run),
        (None, None) => "something".to_owned(),
    }
}

fn word(state: PromotionState) -> &'static str {
    match state {
        PromotionState::Waiting => "waiting",
        PromotionState::Approved => "approved",
        PromotionState::RollingOut => "rolling out",
        PromotionState::RolledOut => "rolled out",
        PromotionState::Entered => "let in",
        PromotionState::Failed => "failed",
        PromotionState::Rejected => "rejected",
        PromotionState::Refused => "refused",
        PromotionState::Superseded => "superseded",
        PromotionState::Expired => "expired",
    }
}

/// All that somebody who is to agree wants to know.
fn shown(promotion: &PromotionStatus, paint: Paint) -> String {
    let mut text = match promotion.promotion {
        Some(id) => format!("promotion {id}: {}", what(promotion)),
        None => what(promotion),
    };
    text.push_str(&format!(" → {}\n", promotion.environment));
    text = printable_lines(&text);
    let mut line = |name: &str, value: &dyn Display| {
        // What people said is one line, whatever it holds.
        let value = printable(value.to_string());
        text.push_str(&format!("  {name}: {value}\n"));
    };
    if promotion.promotion.is_some() {
        line("state", &word(promotion.state));
    }
    line("asked for by", &promotion.by);
    if let Some(reason) = &promotion.reason {
        line("because", reason);
    }
    if let Some(origin) = &promotion.origin {
        for (name, value) in [
            ("commit", &origin.commit),
            ("repository", &origin.repository),
            ("reference", &origin.reference),
            ("run", &origin.run),
            ("pushed by", &origin.actor),
        ] {
            if let Some(value) = value {
                line(name, value);
            }
        }
    }
    for gate in &promotion.gates {
        let state = closed(gate).unwrap_or_else(|| format!("{}: holds", gate.gate));
        line("gate", &state);
    }
    for approval in &promotion.approvals {
        let comment = approval.comment.as_ref().map(|said| format!(": {said}"));
        line(
            "agreed",
            &format!("{}{}", approval.by, comment.unwrap_or_default()),
        );
    }
    if !promotion.images.is_empty() {
        let mut table = Table::new(["SERVICE", "IMAGE NOW", "IMAGE THEN"]);
        for image in &promotion.images {
            table.row([
                image.service.to_string(),
                image
                    .before
                    .as_deref()
                    .map(human::digest)
                    .unwrap_or_default(),
                human::digest(&image.after),
            ]);
        }
        text.push_str(&table.render(paint, ""));
    }
    if !promotion.changes.is_empty() {
        let mut table = Table::new(["SERVICE", "ACTION", "HOW", "BECAUSE OF"]);
        for planned in &promotion.changes {
            let mut changes = planned.changes.iter().cloned();
            table.row([
                planned.service.to_string(),
                verb(planned.action).to_owned(),
                planned.strategy.clone().unwrap_or_default(),
                changes.next().unwrap_or_default(),
            ]);
            for change in changes {
                table.row_below(3, change);
            }
        }
        text.push_str(&table.render(paint, ""));
    }
    for other in &promotion.others {
        text.push_str(&format!("also: {}\n", printable(other)));
    }
    if let Some(from) = &promotion.from {
        for differs in &promotion.differs {
            let differs = printable(differs);
            text.push_str(&format!("not as in {}: {differs}\n", from.environment));
        }
    }
    text
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
