//! `environments.*` of `havre.yaml`: what has to hold before a release comes in.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::civil::{Date, DateTime, Time};

use crate::bounds::{
    LEAST_PREVIEW, MAX_APPROVALS, MAX_GATE_ITEMS, MAX_GATE_TEXT, MAX_PREVIEW_NAME, MAX_PREVIEWS,
    MAX_WAIT, is_gate_text, is_zone,
};
use crate::grant::Role;
use crate::project::{
    ApprovalRule, Approver, EnvironmentGates, EnvironmentName, Freeze, FreezeTime, Previews,
};
use crate::read::{Field, Fields};
use crate::report::Report;
use crate::schema;
use crate::settings::PRODUCTION;
use crate::suggest;

/// How long an environment of a branch stays, and how many there are, where nobody says otherwise.
const PREVIEW_AFTER: Duration = Duration::from_secs(3 * 24 * 3600);
const PREVIEW_MOST: u32 = 10;

/// As they are written, the first day of a week first.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// What one environment's `fields` say. `before`: the environments that stand above it.
pub(super) fn read(
    name: &str,
    fields: &Fields<'_>,
    before: &[EnvironmentGates],
    report: &mut Report,
) -> EnvironmentGates {
    EnvironmentGates {
        name: EnvironmentName::new(name),
        branches: texts(fields, "branch", report),
        needs: needs(name, fields, before, report),
        e2e: fields.get("e2e").and_then(|field| text(field, report)),
        approval: fields
            .get("approval")
            .and_then(|field| approval(field, report)),
        wait: fields.get("wait").and_then(|field| wait(field, report)),
        freeze: fields
            .get("freeze")
            .map(|field| freezes(field, report))
            .unwrap_or_default(),
        previews: fields
            .get("previews")
            .and_then(|field| previews(name, field, report)),
    }
}

fn wrong(field: Field<'_>, report: &mut Report, what: &str, hint: &str) {
    let message = format!("{}: {what}", field.owner);
    report
        .error("havre/value", field.span(), message)
        .hint(hint);
}

/// One line that is not too long.
fn text(field: Field<'_>, report: &mut Report) -> Option<String> {
    let text = field.string(report)?;
    if !is_gate_text(&text) {
        let what = format!(
            "`{}` is one line of at most {MAX_GATE_TEXT} bytes",
            field.key
        );
        wrong(field, report, &what, "shorten it");
        return None;
    }
    Some(text)
}

fn texts(fields: &Fields<'_>, key: &str, report: &mut Report) -> Vec<String> {
    let Some(field) = fields.get(key) else {
        return Vec::new();
    };
    let items = bounded(field, field.one_or_many(report), report);
    items
        .into_iter()
        .filter_map(|item| text(item, report))
        .collect()
}

fn bounded<'n>(field: Field<'n>, items: Vec<Field<'n>>, report: &mut Report) -> Vec<Field<'n>> {
    if items.len() > MAX_GATE_ITEMS {
        let what = format!("`{}` has more than {MAX_GATE_ITEMS} items", field.key);
        wrong(field, report, &what, "leave some out");
        return Vec::new();
    }
    items
}

/// Those that stand before it: so none needs itself through others.
fn needs(
    name: &str,
    fields: &Fields<'_>,
    before: &[EnvironmentGates],
    report: &mut Report,
) -> Vec<EnvironmentName> {
    let mut needs = Vec::new();
    let Some(field) = fields.get("needs") else {
        return needs;
    };
    for item in bounded(field, field.one_or_many(report), report) {
        let Some(needed) = item.string(report) else {
            continue;
        };
        if !before.iter().any(|one| one.name.as_str() == needed) {
            let what = format!("`{needed}` is no environment above `{name}`");
            let known: Vec<&str> = before.iter().map(|one| one.name.as_str()).collect();
            let near = suggest::nearest(&needed, known.iter().copied());
            let hint = match (near, needed == name || needed == PRODUCTION) {
                (Some(near), false) => format!("did you mean `{near}`?"),
                _ if known.is_empty() => format!("write `{needed}:` above `{name}:`"),
                _ => format!("above it are {}", known.join(", ")),
            };
            wrong(item, report, &what, &hint);
            continue;
        }
        let needed = EnvironmentName::new(needed);
        if !needs.contains(&needed) {
            needs.push(needed);
        }
    }
    needs
}

fn wait(field: Field<'_>, report: &mut Report) -> Option<Duration> {
    let wait = field.duration(report)?;
    if wait > MAX_WAIT {
        wrong(field, report, "`wait` is longer than 30 days", "shorten it");
        return None;
    }
    (!wait.is_zero()).then_some(wait)
}

/// `true`, or who and how many.
fn approval(field: Field<'_>, report: &mut Report) -> Option<ApprovalRule> {
    let plain = ApprovalRule {
        by: Vec::new(),
        count: 1,
        not_author: false,
    };
    if field.node.text().is_some() {
        return field.truth(report)?.then_some(plain);
    }
    let fields = field.fields(&schema::APPROVAL.section, report)?;
    let by: Vec<Approver> = texts(&fields, "by", report)
        .into_iter()
        .map(approver)
        .collect();
    if let (Some(field), true) = (fields.get("by"), by.iter().any(is_viewer)) {
        let hint = "`deployers`, `admins`, or people by name";
        wrong(field, report, "viewers look, and agree with nothing", hint);
    }
    let count = fields.get("count").and_then(|field| {
        let count: u32 = field.number(report)?;
        if count == 0 || count > MAX_APPROVALS {
            let what = format!("`count` is from 1 to {MAX_APPROVALS}");
            wrong(
                field,
                report,
                &what,
                "leave `approval` out where nobody has to agree",
            );
            return None;
        }
        Some((count, field))
    });
    if let Some((count, field)) = count {
        let named: BTreeSet<String> = by.iter().map(ToString::to_string).collect();
        let all_named = by.iter().all(|one| matches!(one, Approver::Name(_)));
        if all_named && !by.is_empty() && named.len() < count as usize {
            let what = format!("{count} have to agree, and `by` names {}", named.len());
            wrong(field, report, &what, "name more, or a role");
        }
    }
    Some(ApprovalRule {
        by,
        count: count.map_or(1, |(count, _)| count),
        not_author: fields.truth("not_author", report).unwrap_or(false),
    })
}

/// `true`, or how long and how many.
fn previews(name: &str, field: Field<'_>, report: &mut Report) -> Option<Previews> {
    let mut said = Previews {
        after: PREVIEW_AFTER,
        most: PREVIEW_MOST,
    };
    if field.node.text().is_some() && !field.truth(report)? {
        return None;
    }
    if name == PRODUCTION {
        let what = "`production` is one environment, and not each branch's";
        wrong(
            field,
            report,
            what,
            "write `previews` of one that is called `preview`",
        );
        return None;
    }
    if name.len() > MAX_PREVIEW_NAME {
        let what = format!("`{name}` is too long for a branch's name behind it");
        wrong(field, report, &what, "at most 20 characters, as `preview`");
        return None;
    }
    if field.node.text().is_some() {
        return Some(said);
    }
    let fields = field.fields(&schema::PREVIEWS.section, report)?;
    if let Some(field) = fields.get("after") {
        said.after = field.duration(report)?;
        if !(LEAST_PREVIEW..=MAX_WAIT).contains(&said.after) {
            wrong(field, report, "`after` is from 1m to 30d", "e.g. `3d`");
        }
    }
    if let Some(field) = fields.get("most") {
        said.most = field.number(report)?;
        if !(1..=MAX_PREVIEWS).contains(&said.most) {
            let what = format!("`most` is from 1 to {MAX_PREVIEWS}");
            wrong(field, report, &what, "each takes memory and disk");
        }
    }
    Some(said)
}

/// A role, one or many of it, or somebody's name.
fn approver(word: String) -> Approver {
    let roles = [Role::Deployer, Role::Admin].into_iter();
    let mut found = roles.filter(|role| word.strip_suffix('s').unwrap_or(&word) == role.word());
    match found.next() {
        Some(role) => Approver::Role(role),
        None => Approver::Name(word),
    }
}

fn is_viewer(one: &Approver) -> bool {
    let word = Role::Viewer.word();
    matches!(one, Approver::Name(name) if name.strip_suffix('s').unwrap_or(name) == word)
}

fn freezes(field: Field<'_>, report: &mut Report) -> Vec<Freeze> {
    let items = bounded(field, field.items(report), report);
    items
        .into_iter()
        .filter_map(|item| freeze(item, report))
        .collect()
}

fn freeze(item: Field<'_>, report: &mut Report) -> Option<Freeze> {
    let fields = item.fields(&schema::FREEZE.section, report)?;
    let timezone = match fields.get("timezone") {
        Some(field) => timezone(field, report)?,
        None => "UTC".to_owned(),
    };
    let reason = fields.get("reason").and_then(|field| text(field, report));
    let both = ["from", "to"].map(|key| {
        let field = fields.get(key);
        if field.is_none() {
            let message = format!("{} has no `{key}`", fields.owner);
            report.error("havre/missing-key", fields.span, message);
        }
        field
    });
    let [Some(from), Some(to)] = both else {
        return None;
    };
    let when = match (moment(from, report)?, moment(to, report)?) {
        (Moment::Once(begin, _), Moment::Once(_, end)) if begin < end => FreezeTime::Once {
            from: begin,
            to: end,
        },
        (Moment::Once(..), Moment::Once(..)) => {
            wrong(to, report, "`to` is not after `from`", "exchange them");
            return None;
        }
        (Moment::Weekly(begin), Moment::Weekly(end)) if begin != end => FreezeTime::Weekly {
            from: begin,
            to: end,
        },
        (Moment::Weekly(_), Moment::Weekly(_)) => {
            wrong(to, report, "`to` is the same as `from`", "let it end later");
            return None;
        }
        (Moment::Once(..), Moment::Weekly(_)) | (Moment::Weekly(_), Moment::Once(..)) => {
            let hint = "two dates, or two days of the week with their times";
            wrong(to, report, "`from` and `to` are of two kinds", hint);
            return None;
        }
    };
    Some(Freeze {
        when,
        timezone,
        reason,
    })
}

/// A name of the time zone database, by its letters: whether there is such a zone only the machine knows.
fn timezone(field: Field<'_>, report: &mut Report) -> Option<String> {
    let name = field.string(report)?;
    if !is_zone(&name) {
        let what = format!("`{name}` is no name of a time zone");
        wrong(field, report, &what, "e.g. `Europe/Berlin`");
        return None;
    }
    Some(name)
}

/// A point in time, without its zone.
enum Moment {
    /// As a beginning, and as an end: a date alone is the whole day.
    Once(DateTime, DateTime),
    /// Minutes since Monday, 00:00.
    Weekly(u16),
}

fn moment(field: Field<'_>, report: &mut Report) -> Option<Moment> {
    let text = field.string(report)?;
    let read = once(&text).or_else(|| weekly(&text).map(Moment::Weekly));
    if read.is_none() {
        let what = format!("`{}: {text}` is no time", field.key);
        let hint = "`2026-12-20`, `2026-12-20T18:00`, or of every week `fri 16:00`";
        wrong(field, report, &what, hint);
    }
    read
}

fn once(text: &str) -> Option<Moment> {
    let (date, time) = match text.split_once(['T', ' ']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let date: Date = date.parse().ok()?;
    Some(match time {
        Some(time) => {
            let at = date.to_datetime(clock(time)?);
            Moment::Once(at, at)
        }
        None => {
            let next = date.tomorrow().ok()?;
            Moment::Once(
                date.to_datetime(Time::midnight()),
                next.to_datetime(Time::midnight()),
            )
        }
    })
}

/// `fri 16:00`
fn weekly(text: &str) -> Option<u16> {
    let (day, time) = text.split_once(' ')?;
    let day = day.to_ascii_lowercase();
    let index = DAYS.iter().position(|known| day.starts_with(known))?;
    let days = u16::try_from(index).ok()?;
    let time = clock(time)?;
    let minute = u16::try_from(time.hour()).ok()? * 60 + u16::try_from(time.minute()).ok()?;
    Some(days * 24 * 60 + minute)
}

/// `16:00`
fn clock(text: &str) -> Option<Time> {
    let (hour, minute) = text.trim().split_once(':')?;
    let number = |text: &str| {
        let digits = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse::<i8>().ok()).flatten()
    };
    Time::new(number(hour)?, number(minute)?, 0, 0).ok()
}
