//! `havre git mirror`.

use havre_api::{
    Client, MirrorHook, MirrorHookShow, MirrorInfo, MirrorQuery, MirrorRemove, MirrorRun,
    MirrorSet, MirrorSetOutcome, MirrorSetRequest, MirrorWay, Mirrors, MirrorsQuery, Timestamp,
};
use havre_model::ProjectName;

use crate::cli::mirror::{MirrorArgs, MirrorCommand, MirrorSetArgs, Way};
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::exit::Exit;
use crate::paint::Paint;
use crate::table::Table;
use crate::target::ProjectArgs;
use crate::{connect, human};

pub async fn run(context: &Context, command: MirrorCommand) -> Outcome {
    match command {
        MirrorCommand::From(args) => set(context, MirrorWay::From, args).await,
        MirrorCommand::To(args) => set(context, MirrorWay::To, args).await,
        MirrorCommand::Ls { project, json } => {
            let named = project.project.is_some();
            let project = named.then(|| name(&project)).transpose()?;
            let (client, _) = connect::running(context).await?;
            let all = client.call::<Mirrors>(&MirrorsQuery { project }).await?;
            match json.json {
                true => context.ui.json(&all)?,
                false => context
                    .ui
                    .data(&list(&all, context.ui.out, Timestamp::now()))?,
            }
            Ok(Exit::Ok)
        }
        MirrorCommand::Show {
            hook,
            project,
            json,
        } => show(context, hook, &project, json.json).await,
        MirrorCommand::Now(args) => {
            let query = query(&args)?;
            let (client, _) = connect::running(context).await?;
            let mirror = client.call::<MirrorRun>(&query).await?;
            match args.json.json {
                true => context.ui.json(&mirror)?,
                false => context
                    .ui
                    .say("it is tried now; `havre git mirror show` tells how it went"),
            }
            Ok(Exit::Ok)
        }
        MirrorCommand::Rm(args) => {
            let query = query(&args)?;
            let (client, _) = connect::running(context).await?;
            client.call::<MirrorRemove>(&query).await?;
            if args.json.json {
                context.ui.json(&query)?;
            } else {
                let (project, way) = (&query.project, query.way);
                context.ui.say(&format!(
                    "{project} is mirrored {way} no other server any more; its repository stays"
                ));
            }
            Ok(Exit::Ok)
        }
    }
}

async fn set(context: &Context, way: MirrorWay, args: MirrorSetArgs) -> Outcome {
    let request = MirrorSetRequest {
        project: name(&args.project)?,
        way,
        url: args.url,
        user: args.user,
        token_secret: args.token_secret,
        every_s: args.every.map(|every| every.as_secs()),
        statuses: args.statuses,
        api: args.api,
        replace: args.replace,
    };
    let client = connect::started(context).await?;
    let outcome = client.call::<MirrorSet>(&request).await?;
    if args.json.json {
        context.ui.json(&outcome)?;
        return Ok(Exit::Ok);
    }
    let MirrorSetOutcome { mirror, hook } = outcome;
    let every = human::age(std::time::Duration::from_secs(mirror.every_s));
    let (project, url) = (&mirror.project, &mirror.url);
    context.ui.say(&match way {
        MirrorWay::From => format!("{project} is fetched from {url} now and every {every}"),
        MirrorWay::To => {
            format!("{project} is pushed to {url} now, after each push and every {every}")
        }
    });
    if let Some(hook) = hook {
        context.ui.data(&webhook(&hook))?;
    }
    Ok(Exit::Ok)
}

async fn show(context: &Context, hook: bool, project: &ProjectArgs, json: bool) -> Outcome {
    let project = name(project)?;
    let (client, _) = connect::running(context).await?;
    let query = MirrorsQuery {
        project: Some(project.clone()),
    };
    let all = client.call::<Mirrors>(&query).await?;
    if all.is_empty() {
        return Err(
            Failure::new(Exit::NotFound, format!("{project} has no mirror"))
                .hint("`havre git mirror from URL` makes one, of an admin of the machine"),
        );
    }
    let hook = match hook {
        true => Some(hook_of(&client, project).await?),
        false => None,
    };
    if json {
        context
            .ui
            .json(&serde_json::json!({ "mirrors": all, "hook": hook }))?;
        return Ok(Exit::Ok);
    }
    let now = Timestamp::now();
    let all: Vec<String> = all.iter().map(|mirror| shown(mirror, now)).collect();
    context.ui.data(&all.join("\n"))?;
    if let Some(hook) = hook {
        context.ui.data(&format!("\n{}", webhook(&hook)))?;
    }
    Ok(Exit::Ok)
}

async fn hook_of(client: &Client, project: ProjectName) -> Result<MirrorHook, Failure> {
    let query = MirrorQuery {
        project,
        way: MirrorWay::From,
    };
    Ok(client.call::<MirrorHookShow>(&query).await?)
}

fn name(project: &ProjectArgs) -> Result<ProjectName, Failure> {
    Ok(project.environment()?.project)
}

fn query(args: &MirrorArgs) -> Result<MirrorQuery, Failure> {
    Ok(MirrorQuery {
        project: name(&args.project)?,
        way: match args.way {
            Way::From => MirrorWay::From,
            Way::To => MirrorWay::To,
        },
    })
}

fn list(all: &[MirrorInfo], paint: Paint, now: Timestamp) -> String {
    let mut table = Table::new([
        "PROJECT",
        "WAY",
        "OTHER SIDE",
        "UP TO DATE",
        "NEXT",
        "STATE",
    ]);
    for mirror in all {
        table.row([
            mirror.project.to_string(),
            mirror.way.to_string(),
            mirror.url.clone(),
            mirror
                .done
                .map_or("never".to_owned(), |done| ago(done, now)),
            next(mirror, now),
            state(mirror),
        ]);
    }
    table.render(paint, "")
}

fn ago(at: Timestamp, now: Timestamp) -> String {
    format!("{} ago", human::age(at.age_at(now)))
}

fn next(mirror: &MirrorInfo, now: Timestamp) -> String {
    let wait = now.age_at(mirror.next);
    match wait.is_zero() {
        true => "now".to_owned(),
        false => format!("in {}", human::age(wait)),
    }
}

fn state(mirror: &MirrorInfo) -> String {
    match (&mirror.why, mirror.tried) {
        (Some(why), _) => format!("failed: {why}"),
        (None, None) => "not tried yet".to_owned(),
        (None, Some(_)) => "ok".to_owned(),
    }
}

/// One in full. Pure.
fn shown(mirror: &MirrorInfo, now: Timestamp) -> String {
    let mut text = format!("{} {} {}\n", mirror.project, mirror.way, mirror.url);
    let mut line = |name: &str, value: String| {
        text.push_str(&format!("  {name:<12} {value}\n"));
    };
    let never = || "never".to_owned();
    line(
        "up to date",
        mirror.done.map_or_else(never, |done| ago(done, now)),
    );
    line(
        "last try",
        mirror.tried.map_or_else(never, |tried| ago(tried, now)),
    );
    if let Some(why) = &mirror.why {
        let times = human::count(u64::from(mirror.failures), "time");
        line("failed", format!("{times}: {why}"));
    }
    let every = human::age(std::time::Duration::from_secs(mirror.every_s));
    line(
        "next try",
        format!("{}, then every {every}", next(mirror, now)),
    );
    let token = mirror.token_secret.as_ref();
    line(
        "token",
        token.map_or("none".to_owned(), |name| format!("secret {name}")),
    );
    line(
        "set by",
        format!("{}, {}", mirror.set_by, ago(mirror.set, now)),
    );
    if let Some(api) = &mirror.api {
        let untold = match (mirror.untold, &mirror.untold_why) {
            (0, None) => "all told".to_owned(),
            (0, Some(why)) => format!("one was given up: {why}"),
            (count, None) => format!("{count} to be told"),
            (count, Some(why)) => format!("{count} to be told: {why}"),
        };
        line("statuses", format!("{api}: {untold}"));
    }
    for said in &mirror.said {
        line("last said", said.clone());
    }
    text
}

/// What to enter at the other side. Pure.
fn webhook(hook: &MirrorHook) -> String {
    match &hook.url {
        Some(url) => format!(
            "webhook  {url}\nsecret   {}\ntype     application/json; only pushes, creations and deletions\n",
            hook.secret
        ),
        None => "no webhook: this machine serves its API at no host (`api: {host: …}` in machine.yaml)\n".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn mirror(now: SystemTime) -> MirrorInfo {
        let ago = |s| (now - Duration::from_secs(s)).into();
        MirrorInfo {
            project: ProjectName::new("shop"),
            way: MirrorWay::From,
            url: "https://github.com/acme/shop.git".to_owned(),
            token_secret: Some("GITHUB_TOKEN".to_owned()),
            every_s: 300,
            api: Some("https://api.github.com".to_owned()),
            set_by: "anna".to_owned(),
            set: ago(7200),
            tried: Some(ago(60)),
            done: Some(ago(3600)),
            failures: 3,
            why: Some("it answered 401".to_owned()),
            said: vec!["CI #3 runs for refs/heads/main".to_owned()],
            next: (now + Duration::from_secs(40)).into(),
            untold: 2,
            untold_why: None,
        }
    }

    #[test]
    fn a_mirror_says_why_it_is_not_up_to_date_and_when_it_is_tried_again() {
        let now = SystemTime::now();
        let told = shown(&mirror(now), now.into());
        for line in [
            "shop from https://github.com/acme/shop.git",
            "up to date   60 min ago",
            "failed       3 times: it answered 401",
            "next try     in 40 s, then every 5 min",
            "token        secret GITHUB_TOKEN",
            "statuses     https://api.github.com: 2 to be told",
            "last said    CI #3 runs for refs/heads/main",
        ] {
            assert!(told.contains(line), "{line}: {told}");
        }
    }
}
