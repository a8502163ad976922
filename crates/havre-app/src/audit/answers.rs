//! What is answered of the trail, in the words of the API.

use std::time::SystemTime;

use havre_api::{
    ApiError, AuditExportQuery, AuditLine, AuditOutcome, AuditPrincipal, AuditQuery, AuditRecord,
    AuditVerdict, AuditVerifyRequest, ErrorCode, ItemSink, Timestamp,
};
use havre_audit::{Chained, Head, Kind, Outcome, Query, Record, Shown, Trail};
use havre_base::{blocking, in_place};

/// The newest records that are asked for.
pub(crate) fn log(trail: &Trail, query: AuditQuery) -> Result<Vec<AuditRecord>, ApiError> {
    let query = Query {
        since: query.since.map(SystemTime::from),
        until: query.until.map(SystemTime::from),
        principal: query.principal,
        action: query.action,
        project: query.project.map(|name| name.to_string()),
        environment: query.environment.map(|name| name.to_string()),
        limit: query.limit,
    };
    let shown = trail.shown(query).map_err(|error| failed(&error))?;
    shown.into_iter().map(record).collect()
}

/// Whether the trail is whole.
pub(crate) fn verify(
    trail: &Trail,
    request: &AuditVerifyRequest,
) -> Result<AuditVerdict, ApiError> {
    let heads = request.heads.iter().map(|head| {
        let parsed = head.parse::<Head>();
        parsed.map_err(|error| {
            ApiError::new(ErrorCode::Invalid, format!("{head:?}: {error}"))
                .with_hint("`havre audit verify` prints one: it can be noted elsewhere")
        })
    });
    let heads: Vec<Head> = heads.collect::<Result<_, _>>()?;
    let verdict = in_place(|| trail.verify(&heads)).map_err(|error| failed(&error))?;
    Ok(AuditVerdict {
        sound: verdict.fault_count == 0,
        records: verdict.records,
        head: verdict.head.to_string(),
        cut: verdict.cut,
        key: verdict.key,
        faults: verdict.faults.iter().map(ToString::to_string).collect(),
        fault_count: verdict.fault_count,
        notes: verdict.notes,
    })
}

/// Sends all records with their chain.
pub(crate) async fn export(
    trail: &Trail,
    query: AuditExportQuery,
    lines: ItemSink<AuditLine>,
) -> Result<(), ApiError> {
    let trail = trail.clone();
    let sent = blocking(move || {
        trail.export(query.from, |one| {
            let Chained {
                record,
                previous,
                hash,
                ..
            } = one;
            let line = AuditLine {
                hash: hash.to_string(),
                previous: previous.to_string(),
                record,
            };
            lines.blocking_send(line).is_ok()
        })
    });
    match sent.await {
        Ok(sent) => sent.map_err(|error| failed(&error)),
        Err(error) => Err(ApiError::from_error(ErrorCode::Internal, &error)),
    }
}

fn record(shown: Shown) -> Result<AuditRecord, ApiError> {
    let Shown { record, ended } = shown;
    let at = time(&record)?;
    let (outcome, detail, ended) = match ended {
        Some(ended) => {
            let at = time(&ended)?;
            (ended.outcome, ended.detail.or(record.detail), Some(at))
        }
        None => (record.outcome, record.detail, None),
    };
    Ok(AuditRecord {
        sequence: record.sequence,
        at,
        principal: AuditPrincipal {
            kind: kind(record.principal.kind).to_owned(),
            name: record.principal.name,
            id: record.principal.id,
        },
        from: record.from,
        action: record.action,
        project: record.project,
        environment: record.environment,
        subject: record.subject,
        outcome: match outcome {
            Outcome::Begun => AuditOutcome::Begun,
            Outcome::Ok => AuditOutcome::Ok,
            Outcome::Failed => AuditOutcome::Failed,
            Outcome::Refused => AuditOutcome::Refused,
            Outcome::Cancelled => AuditOutcome::Cancelled,
        },
        ended,
        detail,
    })
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Local => "local",
        Kind::Token => "token",
        Kind::Oidc => "oidc",
        Kind::Havre => "havre",
        Kind::Anonymous => "anonymous",
    }
}

fn time(record: &Record) -> Result<Timestamp, ApiError> {
    record.at.parse().map_err(|_| {
        let message = format!("record {} has no time: {:?}", record.sequence, record.at);
        ApiError::new(ErrorCode::Failed, message).with_hint("see `havre audit verify`")
    })
}

fn failed(error: &dyn std::error::Error) -> ApiError {
    ApiError::from_error(ErrorCode::Failed, error)
        .with_hint("`havre audit verify` tells whether the trail is as it was written")
}
