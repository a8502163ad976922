//! What can be said of where a release comes from, in a form that others read: an in-toto statement with SLSA
//! provenance (v1).
//!
//! Sources: <https://in-toto.io/Statement/v1>, <https://slsa.dev/spec/v1.0/provenance>.

use std::collections::BTreeSet;
use std::time::SystemTime;

use havre_model::EnvironmentId;
use serde_json::{Value, json};

use crate::{Record, Release};

/// What a statement is, as media types say it.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";
/// What a statement says.
pub const SLSA: &str = "https://slsa.dev/provenance/v1";
/// What makes releases.
const BUILDER: &str = "https://github.com/havre/havre";
/// How it does.
const BUILD_TYPE: &str = "https://github.com/havre/havre/blob/main/docs/environments.md#provenance";

/// The statement about a release. `version`: of who makes it. Nobody has signed it.
pub fn provenance(
    id: &EnvironmentId,
    number: u64,
    release: &Release,
    record: &Record,
    version: &str,
) -> Value {
    let origin = record.origin.clone().unwrap_or_default();
    let mut parameters = json!({
        "project": id.project,
        "environment": id.environment,
        "release": number,
    });
    // Serialising it cannot fail: it has no map.
    let said = serde_json::to_value(&origin).unwrap_or_default();
    for (key, value) in said.as_object().into_iter().flatten() {
        if key != "approvals" && key != "configurations" {
            parameters[key] = value.clone();
        }
    }
    if !origin.approvals.is_empty() {
        let approvals = origin.approvals.iter().map(|one| {
            json!({ "by": one.by, "role": one.role, "at": time(one.at), "comment": one.comment })
        });
        parameters["approvals"] = approvals.collect();
    }
    let source = origin.commit.as_ref().map(|commit| {
        let repository = origin.repository.as_deref().unwrap_or("git");
        let reference = origin.reference.as_ref().map(|name| format!("@{name}"));
        json!({
            "uri": format!("git+{repository}{}", reference.unwrap_or_default()),
            "digest": { "gitCommit": commit },
        })
    });
    let mut metadata = json!({});
    for (key, value) in [
        ("invocationId", origin.run.clone()),
        ("startedOn", record.started_at.map(time)),
        ("finishedOn", record.ended_at.map(time)),
    ] {
        if let Some(value) = value {
            metadata[key] = value.into();
        }
    }
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subjects(release),
        "predicateType": SLSA,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": parameters,
                "internalParameters": { "requestedBy": record.by },
                "resolvedDependencies": source.into_iter().collect::<Vec<_>>(),
            },
            "runDetails": {
                "builder": { "id": BUILDER, "version": { "havre": version } },
                "metadata": metadata,
            },
        },
    })
}

/// Each image once, by the name that its service gives it.
fn subjects(release: &Release) -> Vec<Value> {
    let services = release.services.iter();
    let images = services.flat_map(|(name, service)| {
        let called = service.service.image.clone();
        let called = called.unwrap_or_else(|| name.to_string());
        let own = std::iter::once((called, service.image.as_str()));
        let steps = service.images().skip(1);
        own.chain(steps.map(move |digest| (format!("{name}: pre_start"), digest)))
    });
    let each: BTreeSet<(String, &str)> = images.collect();
    each.into_iter()
        .map(|(name, digest)| {
            let (algorithm, hex) = digest.split_once(':').unwrap_or(("sha256", digest));
            json!({ "name": name, "digest": { algorithm: hex } })
        })
        .collect()
}

fn time(at: SystemTime) -> String {
    // Out of range means beyond the year 9999: a broken clock, shown as such.
    let at = jiff::Timestamp::try_from(at).unwrap_or(jiff::Timestamp::MAX);
    format!("{at:.0}")
}
