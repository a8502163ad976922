//! What is said of where a release comes from.

use std::time::{Duration, UNIX_EPOCH};

use havre_model::grant::Role;
use havre_model::{EnvironmentId, EnvironmentName, ProjectName};
use havre_release::{Approval, Origin, Record, Source, provenance};
use serde_json::json;

use crate::world::{Shape, release};

fn id() -> EnvironmentId {
    EnvironmentId {
        project: ProjectName::new("shop"),
        environment: EnvironmentName::new("production"),
    }
}

#[test]
fn a_statement_names_images_and_where_they_come_from() {
    let at = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let record = Record {
        by: Some("anna".to_owned()),
        started_at: Some(at),
        origin: Some(Origin {
            commit: Some("c0ffee".to_owned()),
            repository: Some("https://git.example.org/shop".to_owned()),
            reference: Some("refs/heads/main".to_owned()),
            run: Some("41".to_owned()),
            actor: Some("ben".to_owned()),
            job: None,
            said_by: Some("anna".to_owned()),
            promotion: Some(3),
            promoted_from: Some(Source {
                environment: EnvironmentName::new("staging"),
                release: 7,
            }),
            approvals: vec![Approval {
                by: "carl".to_owned(),
                person: None,
                role: Role::Deployer,
                at,
                comment: None,
            }],
            overridden: None,
            configurations: Default::default(),
        }),
        ..Record::default()
    };
    let release = release(&[Shape::new("web"), Shape::new("db")]);
    let said = provenance(&id(), 12, &release, &record, "1.0.0");
    let subjects = said["subject"].as_array().expect("subjects");
    assert_eq!(subjects.len(), 2, "{said:#}");
    for subject in subjects {
        assert!(subject["digest"]["sha256"].is_string(), "{subject}");
    }
    let expected = json!({
        "project": "shop", "environment": "production", "release": 12, "commit": "c0ffee",
        "repository": "https://git.example.org/shop", "reference": "refs/heads/main", "run": "41",
        "actor": "ben", "said_by": "anna", "promotion": 3, "promoted_from": {"environment": "staging", "release": 7},
        "approvals": [{"by": "carl", "role": "deployer", "at": "2027-01-15T08:00:00Z", "comment": null}],
    });
    let definition = &said["predicate"]["buildDefinition"];
    assert_eq!(definition["externalParameters"], expected);
    assert_eq!(
        definition["resolvedDependencies"],
        json!([{
            "uri": "git+https://git.example.org/shop@refs/heads/main",
            "digest": {"gitCommit": "c0ffee"},
        }])
    );
    let details = &said["predicate"]["runDetails"]["metadata"];
    assert_eq!(
        *details,
        json!({"invocationId": "41", "startedOn": "2027-01-15T08:00:00Z"})
    );
}

#[test]
fn of_a_release_without_an_origin_no_more_is_said_than_is_known() {
    let release = release(&[Shape::new("web")]);
    let said = provenance(&id(), 1, &release, &Record::default(), "1.0.0");
    let definition = &said["predicate"]["buildDefinition"];
    assert_eq!(
        definition["externalParameters"],
        json!({"project": "shop", "environment": "production", "release": 1})
    );
    assert_eq!(definition["resolvedDependencies"], json!([]));
    assert_eq!(said["predicate"]["runDetails"]["metadata"], json!({}));
}
