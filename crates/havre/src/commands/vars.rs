//! `havre vars`.

use havre_api::{
    Timestamp, VarInfo, Vars, VarsQuery, VarsRemove, VarsRemoveRequest, VarsSet, VarsSetRequest,
};
use havre_model::{EnvironmentName, ProjectName};

use crate::cli::vars::{VarsCommand, VarsListArgs, VarsRemoveArgs, VarsScope, VarsSetArgs};
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::exit::Exit;
use crate::paint::Paint;
use crate::table::Table;
use crate::{connect, human};

/// Longest value that is shown in a list, in characters; `--json` has all of it.
const SHOWN: usize = 60;

pub async fn run(context: &Context, command: VarsCommand) -> Outcome {
    match command {
        VarsCommand::Set(args) => set(context, args).await,
        VarsCommand::Ls(args) => list(context, args).await,
        VarsCommand::Rm(args) => remove(context, args).await,
    }
}

fn whose(scope: &VarsScope) -> Result<(ProjectName, Option<EnvironmentName>), Failure> {
    let (_, environment) = scope.project.filter()?;
    Ok((scope.project.environment()?.project, environment))
}

async fn set(context: &Context, args: VarsSetArgs) -> Outcome {
    let ui = context.ui;
    let (project, environment) = whose(&args.scope)?;
    let client = connect::started(context).await?;
    let request = VarsSetRequest {
        project,
        environment,
        vars: args.vars,
    };
    let set = client.call::<VarsSet>(&request).await?;
    let of = place(&request.project, request.environment.as_ref());
    match set.changed {
        0 => ui.say(&format!("{of} has these values already")),
        changed => ui.say(&format!(
            "{of}: {} set; runs that begin from now on read them",
            human::count(changed.into(), "variable")
        )),
    }
    if args.json.json {
        ui.json(&set)?;
    }
    Ok(Exit::Ok)
}

async fn list(context: &Context, args: VarsListArgs) -> Outcome {
    let ui = context.ui;
    let (project, environment) = whose(&args.scope)?;
    let (client, _) = connect::running(context).await?;
    let query = VarsQuery {
        project,
        environment,
    };
    let vars = client.call::<Vars>(&query).await?;
    match args.json.json {
        true => ui.json(&vars)?,
        false => ui.data(&table(&vars, ui.out, Timestamp::now()))?,
    }
    Ok(Exit::Ok)
}

async fn remove(context: &Context, args: VarsRemoveArgs) -> Outcome {
    let (project, environment) = whose(&args.scope)?;
    let (client, _) = connect::running(context).await?;
    let request = VarsRemoveRequest {
        project,
        environment,
        names: args.names,
    };
    client.call::<VarsRemove>(&request).await?;
    let of = place(&request.project, request.environment.as_ref());
    let names = request.names.join(", ");
    context.ui.say(&format!("{of}: removed {names}"));
    Ok(Exit::Ok)
}

fn place(project: &ProjectName, environment: Option<&EnvironmentName>) -> String {
    match environment {
        Some(environment) => format!("{project}/{environment}"),
        None => project.to_string(),
    }
}

fn table(vars: &[VarInfo], paint: Paint, now: Timestamp) -> String {
    let mut table = Table::new(["NAME", "VALUE", "ENVIRONMENT", "SET", "BY"]);
    for one in vars {
        let line = one.value.lines().next().unwrap_or_default();
        let mut value: String = line.chars().take(SHOWN).collect();
        if value.len() < one.value.len() {
            value.push('…');
        }
        let environment = one.environment.as_ref();
        table.row([
            one.name.clone(),
            value,
            environment.map_or_else(|| "(all)".to_owned(), ToString::to_string),
            human::age(one.set.age_at(now)),
            one.by.clone(),
        ]);
    }
    table.render(paint, "")
}
