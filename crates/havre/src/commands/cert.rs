//! `havre cert`: the certificates that hosts are served with.

use std::fmt::Write as _;
use std::path::Path;

use havre_api::{
    CertificateImport, CertificateQuery, CertificateReport, CertificateSource, CertificateState,
    CertificateStatus, Certificates, CertificatesImport, CertificatesRenew, CertificatesWhy, Empty,
    OrderFailure, RenewalBy, Timestamp,
};

use crate::cli::CertCommand;
use crate::connect;
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::exit::Exit;
use crate::human;
use crate::paint::Paint;
use crate::table::Table;

pub async fn run(context: &Context, command: CertCommand) -> Outcome {
    let ui = context.ui;
    let (client, _) = connect::running(context).await?;
    match command {
        CertCommand::Ls(json) => {
            let all = client.call::<Certificates>(&Empty {}).await?;
            match json.json {
                true => ui.json(&all)?,
                false => ui.data(&list(&all, ui.out, Timestamp::now()))?,
            }
        }
        CertCommand::Why { host, json } => {
            let report = client
                .call::<CertificatesWhy>(&CertificateQuery { host })
                .await?;
            match json.json {
                true => ui.json(&report)?,
                false => ui.data(&explain(&report, Timestamp::now()))?,
            }
        }
        CertCommand::Renew { host } => {
            let query = CertificateQuery { host };
            client.call::<CertificatesRenew>(&query).await?;
            let host = &query.host;
            ui.say(&format!(
                "a new certificate for {host} is ordered; the one it has serves until then. \
                 `havre cert why {host}` tells how far it is"
            ));
        }
        CertCommand::Import {
            certificate,
            key,
            hosts,
        } => {
            let brought = CertificateImport {
                hosts,
                chain: read(&certificate)?,
                key: read(&key)?,
            };
            let imported = client.call::<CertificatesImport>(&brought).await?;
            let lines: String = imported.hosts.iter().map(|it| format!("{it}\n")).collect();
            ui.data(&lines)?;
            for host in &imported.elsewhere {
                ui.warn(
                    &format!("{host} is served with another certificate, as its environment says or by this machine's own authority"),
                    Some("`tls: acme` in havre.yaml has it served with what you brought"),
                );
            }
            ui.say(
                "it serves where an environment has that host and its certificate comes from an \
                 authority; another is ordered three days before its end",
            );
        }
    }
    Ok(Exit::Ok)
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| {
        let message = format!("cannot read {}", path.display());
        Failure::new(Exit::Failed, message).caused_by(&error)
    })
}

fn list(all: &[CertificateStatus], paint: Paint, now: Timestamp) -> String {
    let mut table = Table::new(["HOST", "FROM", "UNTIL", "STATE", "NEXT", "LAST ERROR"]);
    for one in all {
        table.row([
            one.host.clone(),
            source(&one.source),
            one.valid_until.map_or("-".to_owned(), day),
            one.state.word().to_owned(),
            next(one, now),
            one.last_failure.as_ref().map_or("-".to_owned(), short),
        ]);
    }
    table.render(paint, "")
}

fn source(source: &CertificateSource) -> String {
    match source {
        CertificateSource::Authority { name } => name.clone(),
        CertificateSource::Imported => "imported".to_owned(),
        CertificateSource::Files => "files".to_owned(),
        CertificateSource::Local => "this machine".to_owned(),
    }
}

fn day(at: Timestamp) -> String {
    format!("{at:.0}").chars().take(10).collect()
}

/// When the next one is ordered, and who decided that.
fn next(one: &CertificateStatus, now: Timestamp) -> String {
    if let Some(at) = one.next_attempt {
        return format!("tries in {}", human::age(now.age_at(at)));
    }
    match &one.renewal {
        Some(renewal) => format!("{} ({})", day(renewal.at), renewal.by.word()),
        None => "-".to_owned(),
    }
}

fn short(failure: &OrderFailure) -> String {
    const MOST: usize = 60;
    let kind = failure.kind.as_deref().and_then(|it| it.rsplit(':').next());
    let text = match kind {
        Some(kind) => format!("{kind}: {}", failure.detail),
        None => failure.detail.clone(),
    };
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// One screen: what serves, what comes next, what was tried, what it looks like from here, what to do.
fn explain(report: &CertificateReport, now: Timestamp) -> String {
    let mut text = String::new();
    let mut line = |what: &str, said: String| {
        // Writing to a String cannot fail.
        let _written = writeln!(text, "{what:<10} {said}");
    };
    let status = &report.status;
    line("host", status.host.clone());
    line("state", state(status));
    line("serves", serves(status));
    if let Some(renewal) = &status.renewal {
        let by = match renewal.by {
            RenewalBy::Ari => "its authority (ARI)",
            RenewalBy::Lifetime => "its length of life",
            RenewalBy::Person => "a person who asked for it",
            RenewalBy::Settings => "machine.yaml, which no longer names its authority",
            RenewalBy::Absence => "there is none",
        };
        line("next", format!("{:.0}, decided by {by}", renewal.at));
        if let Some((start, end)) = renewal.window {
            line("", format!("window {start:.0} to {end:.0}"));
        }
        if let Some(page) = &renewal.explanation {
            line("", format!("why that window: {page}"));
        }
    }
    if let Some(failure) = &status.last_failure {
        let method = failure.method.as_deref().map(|it| format!(" by {it}"));
        let ago = human::age(failure.at.age_at(now));
        line(
            "failed",
            format!(
                "{ago} ago with {}, at: {}{}",
                failure.authority,
                failure.stage,
                method.unwrap_or_default()
            ),
        );
        line("", failure.detail.clone());
        if let Some(kind) = &failure.kind {
            line("", kind.clone());
        }
        for link in &failure.links {
            line("", format!("see {link}"));
        }
        if status.failures > 0 {
            line(
                "",
                format!(
                    "{} in a row",
                    human::count(status.failures.into(), "failure")
                ),
            );
        }
    }
    for wait in &status.waits {
        line(
            "waits",
            format!("{} is not asked before {:.0}", wait.authority, wait.until),
        );
    }
    if let Some(at) = status.next_attempt {
        line("tries", format!("again at {at:.0}"));
    }
    for (index, check) in report.checks.iter().enumerate() {
        let mark = match check.good {
            Some(true) => "ok",
            Some(false) => "NOT",
            None => "?",
        };
        let what = if index == 0 { "from here" } else { "" };
        line(what, format!("{mark:<3} {}: {}", check.what, check.found));
    }
    for (index, advice) in report.advice.iter().enumerate() {
        line(if index == 0 { "do" } else { "" }, advice.clone());
    }
    text
}

fn state(status: &CertificateStatus) -> String {
    let said = match status.state {
        CertificateState::Serving => "what is wanted serves",
        CertificateState::Ordering => "an order is under way",
        CertificateState::Waiting => "no authority has issued one yet",
        CertificateState::Failing => "no authority has issued one",
        CertificateState::Expired => "its life is over",
        CertificateState::Unused => "no environment has this host",
    };
    format!("{}: {said}", status.state.word())
}

fn serves(status: &CertificateStatus) -> String {
    let from = match &status.source {
        CertificateSource::Authority { name } => format!("a certificate of {name}"),
        CertificateSource::Imported => "a certificate that was imported".to_owned(),
        CertificateSource::Files => "the certificate that havre.yaml names".to_owned(),
        CertificateSource::Local => {
            "this machine's own certificate, which browsers do not trust".to_owned()
        }
    };
    let issuer = status
        .issuer
        .as_deref()
        .map(|it| format!(", signed by {it}"));
    let until = status.valid_until.map(|at| format!(", until {at:.0}"));
    format!(
        "{from}{}{}",
        issuer.unwrap_or_default(),
        until.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use havre_api::{AuthorityWait, CertificateCheck, Renewal};

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn paused() -> CertificateReport {
        let status = CertificateStatus {
            host: "shop.havre.dev".to_owned(),
            state: CertificateState::Failing,
            source: CertificateSource::Local,
            issuer: Some("CN=Havre local CA".to_owned()),
            serial: None,
            valid_from: None,
            valid_until: Some(at("2027-02-28T00:00:00Z")),
            renewal: None,
            next_attempt: Some(at("2026-11-30T01:00:00Z")),
            failures: 3,
            last_failure: Some(OrderFailure {
                at: at("2026-11-30T00:30:00Z"),
                authority: "letsencrypt".to_owned(),
                stage: "order".to_owned(),
                method: Some("http-01".to_owned()),
                kind: Some("urn:ietf:params:acme:error:rateLimited".to_owned()),
                detail: "paused, please visit: https://ca.dev/unpause?x".to_owned(),
                links: vec!["https://ca.dev/unpause?x".to_owned()],
                paused: true,
                limited: true,
            }),
            waits: vec![AuthorityWait {
                authority: "letsencrypt".to_owned(),
                until: at("2026-11-30T01:00:00Z"),
            }],
        };
        CertificateReport {
            status,
            checks: vec![CertificateCheck {
                what: "port 80 of 192.0.2.1".to_owned(),
                good: Some(false),
                found: "connection refused".to_owned(),
            }],
            advice: vec!["end the pause".to_owned()],
        }
    }

    #[test]
    fn why_is_one_screen() {
        let shown = explain(&paused(), at("2026-11-30T00:40:00Z"));
        insta::assert_snapshot!(shown, @r"
        host       shop.havre.dev
        state      failing: no authority has issued one
        serves     this machine's own certificate, which browsers do not trust, signed by CN=Havre local CA, until 2027-02-28T00:00:00Z
        failed     10 min ago with letsencrypt, at: order by http-01
                   paused, please visit: https://ca.dev/unpause?x
                   urn:ietf:params:acme:error:rateLimited
                   see https://ca.dev/unpause?x
                   3 failures in a row
        waits      letsencrypt is not asked before 2026-11-30T01:00:00Z
        tries      again at 2026-11-30T01:00:00Z
        from here  NOT port 80 of 192.0.2.1: connection refused
        do         end the pause
        ");
    }

    #[test]
    fn a_list_names_who_decides() {
        let mut renewed = paused().status;
        renewed.state = CertificateState::Serving;
        renewed.source = CertificateSource::Authority {
            name: "letsencrypt".to_owned(),
        };
        renewed.next_attempt = None;
        renewed.last_failure = None;
        renewed.renewal = Some(Renewal {
            at: at("2027-01-20T10:00:00Z"),
            by: RenewalBy::Ari,
            window: None,
            explanation: None,
        });
        let all = [renewed, paused().status];
        let shown = list(&all, Paint::plain(), at("2026-11-30T00:40:00Z"));
        let lines: Vec<&str> = shown.lines().collect();
        for (line, told) in [
            (lines[1], "letsencrypt"),
            (lines[1], "2027-01-20 (ARI)"),
            (lines[2], "this machine"),
            (lines[2], "tries in 20 min"),
            (lines[2], "rateLimited: paused"),
        ] {
            assert!(line.contains(told), "{told}: {shown}");
        }
    }
}
