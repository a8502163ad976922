//! What a job may ask of its socket beside artifacts and caches: by what its workflow says, and by what is known here of
//! the job. Nothing of it can be said by the job itself.

use havre_runs::{LegStart, Permissions};
use havre_workflow::Level;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// What a job may ask; kept with its box, for the daemon after this one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Rights {
    /// Whose repository.
    pub(crate) project: String,
    /// The job, for people.
    pub(crate) name: String,
    /// Whether it may fetch from the repository.
    pub(crate) fetches: bool,
    /// Whether it may push to it.
    pub(crate) pushes: bool,
    /// What identity tokens say of it; none: it gets none.
    pub(crate) claims: Option<Map<String, Value>>,
}

impl Rights {
    /// Of a leg. Pure.
    pub(crate) fn of(leg: &LegStart) -> Self {
        let Permissions { contents, id_token } = leg.permissions;
        Self {
            project: leg.project.clone(),
            name: format!("{} of run {}", leg.name, leg.number),
            fetches: contents >= Level::Read,
            pushes: contents >= Level::Write && !leg.foreign,
            claims: (id_token >= Level::Write && !leg.foreign).then(|| claims(leg)),
        }
    }
}

/// As GitHub's tokens have them, but for issuer, audience and times.
fn claims(leg: &LegStart) -> Map<String, Value> {
    const OF_GITHUB: [&str; 20] = [
        "actor",
        "actor_id",
        "base_ref",
        "event_name",
        "head_ref",
        "ref",
        "ref_protected",
        "ref_type",
        "repository",
        "repository_id",
        "repository_owner",
        "repository_owner_id",
        "repository_visibility",
        "run_attempt",
        "run_id",
        "run_number",
        "sha",
        "workflow",
        "workflow_ref",
        "workflow_sha",
    ];
    let github = leg.contexts.get("github");
    let github: Value = github
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let mut claims = Map::new();
    for name in OF_GITHUB {
        let value = match &github[name] {
            Value::Null => Value::String(String::new()),
            // They are texts there.
            Value::Bool(value) => Value::String(value.to_string()),
            value => value.clone(),
        };
        claims.insert(name.to_owned(), value);
    }
    let mut put = |name: &str, value: String| claims.insert(name.to_owned(), json!(value));
    put("sub", subject(leg));
    put("sha", leg.commit.clone());
    put("ref", leg.reference.clone());
    // Of a workflow of another repository, that one.
    let (place, commit) = match &leg.origin {
        Some(it) => (
            format!(
                "{}/{}/{}@{}",
                it.owner, it.repository, it.path, it.reference
            ),
            it.commit.clone(),
        ),
        None => (
            format!("{}/{}@{}", leg.repository, leg.path, leg.reference),
            leg.commit.clone(),
        ),
    };
    put("job_workflow_ref", place);
    put("job_workflow_sha", commit);
    put("runner_environment", "self-hosted".to_owned());
    if let Some(environment) = &leg.environment {
        put("environment", environment.clone());
    }
    claims
}

/// What a job is there for: its environment, a pull request, or its reference.
fn subject(leg: &LegStart) -> String {
    let repository = &leg.repository;
    match &leg.environment {
        Some(environment) => {
            // What parts the parts is not among them.
            let environment = environment.replace('%', "%25").replace(':', "%3A");
            format!("repo:{repository}:environment:{environment}")
        }
        None if leg.event == "pull_request" => format!("repo:{repository}:pull_request"),
        None => format!("repo:{repository}:ref:{}", leg.reference),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use havre_pipeline::run::LegId;
    use havre_runs::{LegKey, RunId};

    use super::*;

    fn leg(environment: Option<&str>, contents: Level, id_token: Level) -> LegStart {
        let github = json!({
            "actor": "anna", "repository": "shop/shop", "ref": "refs/heads/main", "run_id": "7", "ref_protected": false,
            "workflow_ref": "shop/shop/.github/workflows/ci.yml@refs/heads/main",
        });
        LegStart {
            key: LegKey {
                run: RunId(7),
                leg: LegId {
                    job: "build".to_owned(),
                    index: 0,
                    attempt: 1,
                },
            },
            root: RunId(7),
            number: 3,
            project: "shop".to_owned(),
            name: "build".to_owned(),
            repository: "shop/shop".to_owned(),
            commit: "a".repeat(40),
            reference: "refs/heads/main".to_owned(),
            event: "push".to_owned(),
            actor: "anna".to_owned(),
            foreign: false,
            path: ".github/workflows/called.yml".to_owned(),
            origin: None,
            workflow: String::new(),
            contexts: BTreeMap::from([("github".to_owned(), github.to_string())]),
            masks: Vec::new(),
            labels: Vec::new(),
            environment: environment.map(str::to_owned),
            deploys: environment.is_some(),
            container: None,
            services: Vec::new(),
            permissions: Permissions { contents, id_token },
            cache_mode: None,
            timeout_ms: 1,
        }
    }

    #[test]
    fn what_is_said_of_a_job_has_githubs_names() {
        let rights = Rights::of(&leg(Some("production"), Level::Read, Level::Write));
        let claims = rights.claims.expect("it may ask");
        for (name, value) in [
            ("sub", "repo:shop/shop:environment:production"),
            ("environment", "production"),
            ("ref", "refs/heads/main"),
            ("ref_protected", "false"),
            ("run_id", "7"),
            (
                "job_workflow_ref",
                "shop/shop/.github/workflows/called.yml@refs/heads/main",
            ),
            (
                "workflow_ref",
                "shop/shop/.github/workflows/ci.yml@refs/heads/main",
            ),
            ("runner_environment", "self-hosted"),
        ] {
            assert_eq!(claims[name], value, "{name}");
        }
        let plain = Rights::of(&leg(None, Level::Read, Level::Write));
        let claims = plain.claims.expect("it may ask");
        assert_eq!(claims["sub"], "repo:shop/shop:ref:refs/heads/main");
        assert!(!claims.contains_key("environment"));
    }

    #[test]
    fn a_job_may_what_its_workflow_says_and_one_from_outside_reads() {
        let told = |leg: &LegStart| {
            let rights = Rights::of(leg);
            (rights.fetches, rights.pushes, rights.claims.is_some())
        };
        let usual = leg(None, Level::Read, Level::None);
        assert_eq!(told(&usual), (true, false, false));
        let all = leg(None, Level::Write, Level::Write);
        assert_eq!(told(&all), (true, true, true));
        assert_eq!(
            told(&LegStart {
                foreign: true,
                ..all
            }),
            (true, false, false)
        );
        assert_eq!(
            told(&leg(None, Level::None, Level::None)),
            (false, false, false)
        );
    }

    #[test]
    fn an_environment_cannot_say_more_than_its_name() {
        let claims = Rights::of(&leg(Some("a:ref:b%"), Level::Read, Level::Write)).claims;
        let claims = claims.expect("it may ask");
        assert_eq!(claims["sub"], "repo:shop/shop:environment:a%3Aref%3Ab%25");
    }
}
