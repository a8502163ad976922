//! Whether something may come into an environment: gathers what is stored, and asks `havre_release::gates`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use havre_api::{ApiError, EnvironmentId, ErrorCode};
use havre_base::one_line;
use havre_model::{EnvironmentGates, EnvironmentName};
use havre_release::{
    Approval, Comes, Entry, Facts, Frozen, Gate, Origin, Promotion, Release, TestReport, entry,
    frozen, gates,
};
use jiff::tz::TimeZone;
use sha2::{Digest as _, Sha256};

use super::people::person;
use super::tables::FreezeRow;
use super::{PromotionError, definitions};
use crate::environment::tables::LOOKED_THROUGH;
use crate::history::{Past, history};
use crate::platform::Platform;

/// What has to hold, and what it comes to.
pub(crate) struct Judged {
    pub(crate) gates: Vec<Gate>,
    pub(crate) entry: Entry,
}

/// Something that wants to come in.
pub(crate) struct Wanted<'a> {
    pub(crate) environment: &'a EnvironmentId,
    /// By its images, or by its commit.
    pub(crate) what: Sought<'a>,
    /// Where it comes from, and as which release.
    pub(crate) from: Option<(&'a EnvironmentName, u64)>,
    pub(crate) reference: Option<&'a str>,
    pub(crate) requested_at: SystemTime,
    pub(crate) authors: &'a BTreeSet<String>,
    pub(crate) approvals: &'a [Approval],
}

/// By what it is known elsewhere.
#[derive(Clone, Copy)]
pub(crate) enum Sought<'a> {
    /// A release that runs the same images.
    Images(&'a Release),
    /// One of the same commit, as the daemon knows it of its jobs; none: it does not.
    Commit(Option<&'a str>),
}

/// A promotion's gates.
pub(crate) fn judge(
    platform: &Platform,
    promotion: &Promotion,
    release: Option<&Release>,
    now: SystemTime,
) -> Result<Judged, ApiError> {
    let what = match (&promotion.what, release) {
        (Comes::Release { .. }, Some(release)) => Sought::Images(release),
        (Comes::Release { .. }, None) | (Comes::Job { .. }, _) => {
            Sought::Commit(promotion.origin.known_commit())
        }
    };
    let from = match &promotion.what {
        Comes::Release { from, release, .. } => Some((from, *release)),
        Comes::Job { .. } => None,
    };
    let wanted = Wanted {
        environment: &promotion.environment,
        what,
        from,
        reference: promotion.origin.reference.as_deref(),
        requested_at: promotion.requested_at,
        authors: &authors(platform, promotion),
        approvals: &promotion.approvals,
    };
    judge_any(platform, &wanted, now)
}

/// Who is behind a promotion, by all their names.
pub(crate) fn authors(platform: &Platform, promotion: &Promotion) -> BTreeSet<String> {
    let mut authors = promotion.authors.clone();
    authors.insert(promotion.by.clone());
    authors.extend(promotion.origin.actor.clone());
    with_people(platform, authors)
}

/// These names, and those of the persons that they are.
pub(super) fn with_people(platform: &Platform, mut names: BTreeSet<String>) -> BTreeSet<String> {
    let register = &platform.door.register;
    let people = names.iter().filter_map(|name| person(register, name));
    names.extend(people.collect::<Vec<_>>());
    names
}

/// The gates of anything that wants to come in.
pub(crate) fn judge_any(
    platform: &Platform,
    wanted: &Wanted<'_>,
    now: SystemTime,
) -> Result<Judged, ApiError> {
    let id = wanted.environment;
    let definition = definitions::of(platform, id)?;
    let sources = sources(platform, wanted, &definition)?;
    let of_definition = frozen(&definition.freeze, now, &zone);
    let by_hand = by_hand(platform, id, now)?;
    let frozen = longer(of_definition, by_hand);
    let facts = Facts {
        now,
        requested_at: wanted.requested_at,
        reference: wanted.reference,
        authors: wanted.authors,
        approvals: wanted.approvals,
        served: &sources.served,
        tests: &sources.tests,
        frozen: frozen.as_ref(),
    };
    let gates = gates(&definition, &facts);
    let entry = entry(&gates);
    Ok(Judged { gates, entry })
}

/// What of an environment's freezes holds, and who said so; none: havre.yaml did.
pub(crate) fn freeze(
    platform: &Platform,
    id: &EnvironmentId,
    now: SystemTime,
) -> Result<Option<(Frozen, Option<String>)>, ApiError> {
    let definition = definitions::of(platform, id)?;
    if let Some(found) = by_hand(platform, id, now)? {
        let row = freeze_row(platform, id)?;
        return Ok(Some((found, row.map(|row| row.by))));
    }
    let found = frozen(&definition.freeze, now, &zone);
    Ok(found.map(|found| (found, None)))
}

/// UTC is known without a database.
fn zone(name: &str) -> Option<TimeZone> {
    match name {
        "UTC" => Some(TimeZone::UTC),
        _ => TimeZone::get(name).ok(),
    }
}

fn freeze_row(platform: &Platform, id: &EnvironmentId) -> Result<Option<FreezeRow>, ApiError> {
    let row = platform.promotions.tables.freeze(id);
    row.map_err(|source| PromotionError::Store { source }.into())
}

fn by_hand(
    platform: &Platform,
    id: &EnvironmentId,
    now: SystemTime,
) -> Result<Option<Frozen>, ApiError> {
    let Some(row) = freeze_row(platform, id)? else {
        return Ok(None);
    };
    let until = row
        .until
        .map(|until| UNIX_EPOCH + Duration::from_secs(u64::try_from(until).unwrap_or(0)));
    let is_over = until.is_some_and(|until| until <= now);
    Ok((!is_over).then(|| Frozen {
        why: format!("{} ({})", row.reason, row.by),
        until,
    }))
}

fn longer(one: Option<Frozen>, other: Option<Frozen>) -> Option<Frozen> {
    match (one, other) {
        (Some(one), Some(other)) => Some(match (one.until, other.until) {
            (None, _) => one,
            (Some(_), None) => other,
            (Some(first), Some(second)) if first >= second => one,
            (Some(_), Some(_)) => other,
        }),
        (one, other) => one.or(other),
    }
}

/// Where the same has served, and what tests said of it there.
#[derive(Default)]
struct Sources {
    served: BTreeMap<EnvironmentName, u64>,
    tests: Vec<TestReport>,
}

fn sources(
    platform: &Platform,
    wanted: &Wanted<'_>,
    definition: &EnvironmentGates,
) -> Result<Sources, ApiError> {
    let mut found = Sources::default();
    let mut looked_at: BTreeSet<&EnvironmentName> = definition.needs.iter().collect();
    looked_at.extend(wanted.from.map(|(from, _)| from));
    for name in looked_at {
        let id = EnvironmentId {
            project: wanted.environment.project.clone(),
            environment: name.clone(),
        };
        for past in served(platform, &id)? {
            let is_it = match wanted.what {
                Sought::Images(release) => release.has_images_of(&past.release),
                Sought::Commit(commit) => {
                    let origin = past.record.origin.as_ref();
                    let there = origin.and_then(Origin::known_commit);
                    commit.is_some() && there == commit
                }
            };
            if is_it {
                found.served.insert(name.clone(), past.number);
                found.tests.extend(reports(platform, &id, &past.release)?);
                break;
            }
        }
    }
    found.tests.sort_by_key(|report| report.at);
    Ok(found)
}

/// Releases that have served, the newest first.
pub(crate) fn served(platform: &Platform, id: &EnvironmentId) -> Result<Vec<Past>, ApiError> {
    let history = history(&platform.tables, id, LOOKED_THROUGH);
    let history = history.map_err(|error| ApiError::from_error(ErrorCode::Internal, &error))?;
    let mut past = history.past;
    past.retain(|one| one.record.has_served());
    Ok(past)
}

fn reports(
    platform: &Platform,
    id: &EnvironmentId,
    release: &Release,
) -> Result<Vec<TestReport>, ApiError> {
    let rows = platform.promotions.tables.reports(id, &images(release));
    let rows = rows.map_err(|source| PromotionError::Store { source })?;
    let read = rows.iter().filter_map(|row| {
        // One that cannot be read opens nothing: it is as if it had not been made.
        serde_json::from_str(row)
            .inspect_err(|error| {
                tracing::warn!(environment = %id, error = one_line(error), "a test's report is not read");
            })
            .ok()
    });
    Ok(read.collect())
}

/// Where a release that has served comes from.
pub(crate) fn record_origin(
    platform: &Platform,
    id: &EnvironmentId,
    number: u64,
) -> Result<Option<Origin>, ApiError> {
    let mut past = served(platform, id)?.into_iter();
    let found = past.find(|one| one.number == number);
    Ok(found.and_then(|one| one.record.origin))
}

/// What serves was brought once more, by other files: where it comes from is theirs from now on. What somebody says takes
/// no place of what is known of a job.
pub(crate) fn renew_origin(
    platform: &Platform,
    id: &EnvironmentId,
    number: u64,
    origin: Option<Origin>,
) -> Result<(), ApiError> {
    let mut past = served(platform, id)?.into_iter();
    let found = past.find(|one| one.number == number);
    let (Some(Past { mut record, .. }), Some(origin)) = (found, origin) else {
        return Ok(());
    };
    let known = record.origin.take().unwrap_or_default();
    if known.job.is_some() && origin.job.is_none() {
        return Ok(());
    }
    let overridden = known.overridden.clone().or(origin.overridden.clone());
    record.origin = Some(Origin {
        promotion: known.promotion,
        promoted_from: known.promoted_from,
        approvals: known.approvals,
        overridden,
        ..origin
    });
    let text = serde_json::to_string(&record);
    let text = text.map_err(|error| ApiError::from_error(ErrorCode::Internal, &error))?;
    let (project, environment) = (id.project.as_str(), id.environment.as_str());
    let put = platform
        .tables
        .record_put(project, environment, number, text);
    put.map_err(|error| ApiError::from_error(ErrorCode::Failed, &error))?;
    platform.promotions.wake();
    Ok(())
}

/// Stands for the images of a release, whatever its number and configuration: 64 hex digits.
pub(crate) fn images(release: &Release) -> String {
    let mut hash = Sha256::new();
    for (name, service) in &release.services {
        hash.update(name.as_str());
        for digest in service.images() {
            hash.update([0]);
            hash.update(digest);
        }
        hash.update([1]);
    }
    let mut hex = String::new();
    for byte in &hash.finalize() {
        hex.push_str(&format!("{byte:02x}"));
    }
    hex
}
