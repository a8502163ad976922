//! `havre audit`.

use havre_api::{
    AuditExport, AuditExportQuery, AuditLog, AuditOutcome, AuditQuery, AuditRecord, AuditVerdict,
    AuditVerify, AuditVerifyRequest,
};
use havre_model::{EnvironmentName, ProjectName};

use crate::cli::{AuditCommand, AuditLogArgs};
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::exit::Exit;
use crate::paint::Paint;
use crate::table::Table;
use crate::{connect, human};

pub async fn run(context: &Context, command: AuditCommand) -> Outcome {
    match command {
        AuditCommand::Log(args) => log(context, args).await,
        AuditCommand::Verify { heads, json } => verify(context, heads, json.json).await,
        AuditCommand::Export { from } => export(context, from).await,
    }
}

async fn log(context: &Context, args: AuditLogArgs) -> Outcome {
    let (client, _) = connect::running(context).await?;
    let query = AuditQuery {
        since: args.since,
        until: args.until,
        principal: args.principal,
        action: args.action,
        project: args.project.map(ProjectName::new),
        environment: args.environment.map(EnvironmentName::new),
        limit: args.tail,
    };
    let records = client.call::<AuditLog>(&query).await?;
    let ui = context.ui;
    if args.json.json {
        for record in &records {
            let line = serde_json::to_string(record).map_err(std::io::Error::from)?;
            ui.data(&format!("{line}\n"))?;
        }
        return Ok(Exit::Ok);
    }
    if records.is_empty() {
        ui.say("no such records");
        return Ok(Exit::Ok);
    }
    ui.data(&table(&records, ui.out))?;
    if records.len() == query.limit as usize {
        ui.say(&format!(
            "the newest {}; -n shows more, --since and others choose",
            records.len()
        ));
    }
    Ok(Exit::Ok)
}

fn table(records: &[AuditRecord], paint: Paint) -> String {
    let mut table = Table::new(["TIME (UTC)", "WHO", "WHAT", "RESULT"]);
    for record in records {
        let time = format!("{:.0}", record.at);
        table.row([
            time.replace('T', " ").trim_end_matches('Z').to_owned(),
            who(record),
            what(record),
            result(record),
        ]);
    }
    table.render(paint, "")
}

fn who(record: &AuditRecord) -> String {
    let principal = &record.principal;
    match principal.kind.as_str() {
        "token" => format!("token {}", principal.name),
        _ => principal.name.clone(),
    }
}

/// The action, where, on what, and from where if not from this machine.
fn what(record: &AuditRecord) -> String {
    let place = [&record.project, &record.environment];
    let place: Vec<&str> = place.into_iter().flatten().map(String::as_str).collect();
    let mut text = record.action.clone();
    if !place.is_empty() {
        text.push_str(&format!(" {}", place.join("/")));
    }
    if let Some(subject) = &record.subject {
        let colon = if place.is_empty() { "" } else { ":" };
        text.push_str(&format!("{colon} {subject}"));
    }
    if let Some(from) = record.from.as_deref().filter(|from| *from != "socket") {
        text.push_str(&format!(" from {from}"));
    }
    text
}

fn result(record: &AuditRecord) -> String {
    let outcome = match record.outcome {
        AuditOutcome::Begun => "begun",
        AuditOutcome::Ok => "ok",
        AuditOutcome::Failed => "failed",
        AuditOutcome::Refused => "refused",
        AuditOutcome::Cancelled => "cancelled",
    };
    match &record.detail {
        Some(detail) => format!("{outcome}: {detail}"),
        None => outcome.to_owned(),
    }
}

async fn verify(context: &Context, heads: Vec<String>, json: bool) -> Outcome {
    let (client, _) = connect::running(context).await?;
    let verdict = client
        .call::<AuditVerify>(&AuditVerifyRequest { heads })
        .await?;
    let ui = context.ui;
    match json {
        true => ui.json(&verdict)?,
        false => ui.data(&told(&verdict, ui.out))?,
    }
    if verdict.sound {
        return Ok(Exit::Ok);
    }
    if json {
        // With --json the document above is the answer, and there is room for only one.
        return Ok(Exit::Failed);
    }
    let faults = human::count(verdict.fault_count, "fault");
    Err(
        Failure::new(Exit::Failed, format!("the audit trail has {faults}"))
            .hint("keep a copy of the state folder before anything else: docs/audit.md says what each can mean"),
    )
}

fn told(verdict: &AuditVerdict, paint: Paint) -> String {
    let mut text = String::new();
    for fault in &verdict.faults {
        text.push_str(&format!("{} {fault}\n", paint.error("✗")));
    }
    let more = verdict.fault_count - verdict.faults.len() as u64;
    if more > 0 {
        text.push_str(&format!("  and {more} more\n"));
    }
    for note in &verdict.notes {
        text.push_str(&format!("{} {note}\n", paint.hint("note:")));
    }
    let records = human::count(verdict.records, "record");
    let mark = match verdict.sound {
        true => format!("{} {records}, nothing was changed", paint.good("✓")),
        false => records,
    };
    text.push_str(&format!("{mark}\n"));
    if let Some(cut) = verdict.cut {
        text.push_str(&format!("  those up to {cut} were removed for their age\n"));
    }
    if let Some(key) = &verdict.key {
        text.push_str(&format!("  signed with key {key}\n"));
    }
    text.push_str(&format!("  head: {}\n", verdict.head));
    text
}

async fn export(context: &Context, from: u64) -> Outcome {
    let (client, _) = connect::running(context).await?;
    let mut lines = client
        .feed::<AuditExport>(&AuditExportQuery { from })
        .await?;
    while let Some(line) = lines.next().await? {
        // The record as it was hashed.
        context.ui.data(&format!(
            "{{\"hash\":\"{}\",\"previous\":\"{}\",\"record\":{}}}\n",
            line.hash, line.previous, line.record
        ))?;
    }
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use havre_api::AuditPrincipal;

    use super::*;

    fn record() -> AuditRecord {
        AuditRecord {
            sequence: 4711,
            at: "2026-11-30T00:10:32.123Z".parse().unwrap(),
            principal: AuditPrincipal {
                kind: "local".into(),
                name: "anna".into(),
                id: Some("1000".into()),
            },
            from: Some("socket".into()),
            action: "up".into(),
            project: Some("shop".into()),
            environment: Some("production".into()),
            subject: Some("web, db".into()),
            outcome: AuditOutcome::Failed,
            ended: None,
            detail: Some("rolled back, 41.2 s".into()),
        }
    }

    #[test]
    fn a_line_says_who_did_what_where_and_what_came_of_it() {
        let token = AuditPrincipal {
            kind: "token".into(),
            name: "ci".into(),
            id: Some("t1".into()),
        };
        let by_token = AuditRecord {
            principal: token,
            from: Some("203.0.113.7".into()),
            action: "exec".into(),
            outcome: AuditOutcome::Refused,
            detail: None,
            ..record()
        };
        let by_itself = AuditRecord {
            action: "daemon/start".into(),
            project: None,
            environment: None,
            subject: Some("havre 0.1.0".into()),
            outcome: AuditOutcome::Ok,
            detail: None,
            ..record()
        };
        let records = [record(), by_token, by_itself];
        insta::assert_snapshot!(table(&records, Paint::plain_within(80)), @r"
        TIME (UTC)           WHO       WHAT                      RESULT
        2026-11-30 00:10:32  anna      up shop/production: web,  failed: rolled back,
                                       db                        41.2 s
        2026-11-30 00:10:32  token ci  exec shop/production:     refused
                                       web, db from 203.0.113.7
        2026-11-30 00:10:32  anna      daemon/start havre 0.1.0  ok
        ");
    }

    #[test]
    fn a_verdict_names_each_fault_and_the_head() {
        let verdict = AuditVerdict {
            sound: false,
            records: 12,
            head: "12:ab".into(),
            cut: Some(3),
            key: Some("0a1b2c3d".into()),
            faults: vec!["record 5 is missing".into()],
            fault_count: 3,
            notes: vec!["audit.head is 1 behind".into()],
        };
        insta::assert_snapshot!(told(&verdict, Paint::plain()), @r"
        ✗ record 5 is missing
          and 2 more
        note: audit.head is 1 behind
        12 records
          those up to 3 were removed for their age
          signed with key 0a1b2c3d
          head: 12:ab
        ");
        let sound = AuditVerdict {
            sound: true,
            cut: None,
            key: None,
            faults: Vec::new(),
            fault_count: 0,
            notes: Vec::new(),
            ..verdict
        };
        insta::assert_snapshot!(told(&sound, Paint::plain()), @r"
        ✓ 12 records, nothing was changed
          head: 12:ab
        ");
    }
}
