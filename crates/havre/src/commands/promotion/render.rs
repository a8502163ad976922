//! Promotions and environments, for people.

use std::fmt::Display;

use havre_api::{
    EnvironmentInfo, GateState, GateStatus, PreviewInfo, PromotionState, PromotionStatus, Timestamp,
};
use havre_model::{Approver, EnvironmentGates};

use crate::human;
use crate::paint::Paint;
use crate::progress::verb;
use crate::table::{Table, printable, printable_lines};

/// What a gate that is not open waits for.
pub fn closed(gate: &GateStatus) -> Option<String> {
    let why = gate.why.as_deref().unwrap_or_default();
    match gate.state {
        GateState::Open => None,
        GateState::Waits | GateState::Refused => {
            Some(format!("{}: {}", gate.gate, when(why, gate.until)))
        }
    }
}

/// Why, and until when.
pub fn when(why: &str, until: Option<Timestamp>) -> String {
    match until {
        Some(until) => format!("{why}, until {until:.0}"),
        None => why.to_owned(),
    }
}

/// Environments, with what waits for each.
pub fn listed(all: &[EnvironmentInfo], paint: Paint, now: Timestamp) -> String {
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
        let of_branch = one
            .preview
            .as_ref()
            .map(|preview| of_branch(preview, &one.hosts));
        let mut lines = of_branch.into_iter().chain(frozen).chain(&mut waits);
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

/// Whose branch's it is, and where and how long.
fn of_branch(preview: &PreviewInfo, hosts: &[String]) -> (String, String) {
    let what = format!("branch {}", printable(&preview.branch));
    let hosts: Vec<String> = hosts.iter().map(|host| format!("https://{host}")).collect();
    let place = match hosts.is_empty() {
        true => "nothing serves yet".to_owned(),
        false => hosts.join(" "),
    };
    let about = match (&preview.goes, &preview.why) {
        (Some(goes), None) => format!("goes: {goes}"),
        (Some(goes), Some(why)) => format!("goes: {goes}; still there: {why}"),
        (None, _) => format!("{place}, until {:.0}", preview.until),
    };
    (what, printable(&about))
}

/// What has to hold, in few words.
fn asked(gates: &EnvironmentGates) -> String {
    let mut words = Vec::new();
    if gates.previews.is_some() {
        words.push("each branch its own".to_owned());
    }
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
pub fn shown(promotion: &PromotionStatus, paint: Paint) -> String {
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
            ("commit", &origin.origin.commit),
            ("repository", &origin.origin.repository),
            ("reference", &origin.origin.reference),
            ("run", &origin.origin.run),
            (
                "job",
                &origin
                    .job
                    .as_ref()
                    .map(|job| format!("{} of {}", job.job, job.workflow)),
            ),
            ("pushed by", &origin.origin.actor),
            ("as said by", &origin.said_by),
        ] {
            if let Some(value) = value {
                line(name, value);
            }
        }
    }
    if let Some(configuration) = &promotion.configuration {
        line("configuration", configuration);
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
