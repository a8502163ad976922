//! The contexts of a run: what GitHub tells its workflows, of our own repository.

use std::collections::BTreeMap;

use havre_pipeline::{Event, Json, Known, Object, Reference, Value};
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};
use sha2::{Digest as _, Sha256};

use crate::ports::RunId;
use crate::trigger::Trigger;

/// No commit.
const NOTHING: &str = "0000000000000000000000000000000000000000";

/// What a run knows from its beginning; nothing of it is secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Contexts {
    pub(crate) github: Map<String, serde_json::Value>,
    pub(crate) inputs: Json,
    pub(crate) vars: BTreeMap<String, String>,
}

impl Contexts {
    /// As the scheduler takes them.
    pub(crate) fn known(&self, attempt: u32) -> Known {
        let mut known = Known::default();
        known.whole("github", value(&self.github_of(attempt)));
        known.whole("inputs", self.inputs.0.clone());
        let vars: Object = self
            .vars
            .iter()
            .map(|(name, v)| (name.as_str(), v.as_str()))
            .map(|(n, v)| (n, Value::from(v)))
            .collect();
        known.whole("vars", vars);
        known
    }

    pub(crate) fn github_of(&self, attempt: u32) -> Map<String, serde_json::Value> {
        let mut github = self.github.clone();
        github.insert("run_attempt".to_owned(), attempt.to_string().into());
        github
    }
}

/// A map of JSON as a value of expressions.
pub(crate) fn value(map: &Map<String, serde_json::Value>) -> Value {
    of_json(&serde_json::Value::Object(map.clone()))
}

fn of_json(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Bool(*value),
        serde_json::Value::Number(number) => Value::Number(number.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(text) => text.as_str().into(),
        serde_json::Value::Array(items) => items.iter().map(of_json).collect::<Vec<_>>().into(),
        serde_json::Value::Object(map) => {
            let entries = map
                .iter()
                .map(|(name, value)| (name.as_str(), of_json(value)));
            entries.collect::<Object>().into()
        }
    }
}

/// Who a run is.
pub(crate) struct Identity<'r> {
    pub(crate) id: RunId,
    /// Of its workflow.
    pub(crate) number: u64,
    pub(crate) workflow: &'r str,
    pub(crate) path: &'r str,
}

/// `github`, but for what belongs to an attempt, a job, or is secret.
pub(crate) fn github(trigger: &Trigger, run: &Identity<'_>) -> Map<String, serde_json::Value> {
    let source = &trigger.source;
    let owner = source.repository.split('/').next().unwrap_or_default();
    let server = server(&trigger.project);
    let (reference, head, base) = match &trigger.event {
        Event::PullRequest { head, base, .. } => {
            let number = number(trigger);
            let merged = number.map(|number| format!("refs/pull/{number}/merge"));
            let reference = merged.unwrap_or_else(|| format!("refs/heads/{head}"));
            (reference, head.as_str(), base.as_str())
        }
        event => (event.reference().full(), "", ""),
    };
    let of_event = trigger.event.reference();
    let (ref_name, ref_type) = match (&trigger.event, number(trigger)) {
        (Event::PullRequest { .. }, Some(number)) => (format!("{number}/merge"), "branch"),
        _ => (of_event.name().to_owned(), of_event.kind()),
    };
    let github = json!({
        "actor": trigger.actor,
        "actor_id": id_of(&trigger.actor),
        "api_url": format!("{server}/api/v3"),
        "base_ref": base,
        "event": event(trigger, owner, &server),
        "event_name": trigger.event.name(),
        "graphql_url": format!("{server}/api/graphql"),
        "head_ref": head,
        "ref": reference,
        "ref_name": ref_name,
        "ref_protected": false,
        "ref_type": ref_type,
        "repository": source.repository,
        "repositoryUrl": format!("git://{}/{}.git", server.trim_start_matches("https://"), source.repository),
        "repository_id": id_of(&trigger.project),
        "repository_owner": owner,
        "repository_owner_id": id_of(owner),
        "repository_visibility": "private",
        "retention_days": "90",
        "run_id": run.id.to_string(),
        "run_number": run.number.to_string(),
        "secret_source": match trigger.foreign { true => "None", false => "Actions" },
        "server_url": server,
        "sha": source.commit,
        "triggering_actor": trigger.actor,
        "workflow": run.workflow,
        "workflow_ref": format!("{}/{}@{reference}", source.repository, run.path),
        "workflow_sha": source.commit,
    });
    match github {
        serde_json::Value::Object(github) => github,
        _ => Map::new(),
    }
}

/// GitHub's clients refuse artifacts and caches of any host but their own and `*.localhost`.
fn server(project: &str) -> String {
    format!("https://{project}.localhost")
}

/// A number that always is the same for a name, and hardly ever that of another.
fn id_of(name: &str) -> String {
    let digest = Sha256::digest(name.as_bytes());
    let number = digest
        .iter()
        .take(6)
        .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    number.to_string()
}

fn number(trigger: &Trigger) -> Option<u64> {
    trigger.payload.as_ref()?.get("number")?.as_u64()
}

/// The payload, in the shape of GitHub's as far as it is known here.
fn event(trigger: &Trigger, owner: &str, server: &str) -> serde_json::Value {
    let source = &trigger.source;
    let name = source.repository.rsplit('/').next().unwrap_or_default();
    let repository = json!({
        "id": id_of(&trigger.project).parse::<u64>().unwrap_or_default(),
        "name": name,
        "full_name": source.repository,
        "private": true,
        "default_branch": source.default_branch,
        "html_url": format!("{server}/{}", source.repository),
        "owner": {"login": owner, "name": owner},
    });
    let mut event = Map::new();
    event.insert("repository".to_owned(), repository);
    event.insert("sender".to_owned(), json!({"login": trigger.actor}));
    let mut put = |name: &str, value: serde_json::Value| {
        event.insert(name.to_owned(), value);
    };
    match &trigger.event {
        Event::Push { to, .. } => push(trigger, to, &mut put),
        Event::PullRequest {
            action, base, head, ..
        } => {
            let side = |branch: &str, commit: Option<&str>| json!({"ref": branch, "sha": commit, "repo": {"full_name": source.repository}});
            put("action", json!(action));
            put("number", json!(number(trigger)));
            put(
                "pull_request",
                json!({
                    "number": number(trigger),
                    "base": side(base, trigger.before.as_deref()),
                    "head": side(head, Some(&source.commit)),
                    "user": {"login": trigger.actor},
                    "draft": false,
                }),
            );
        }
        Event::Dispatch { on, inputs } => {
            put("ref", json!(on.full()));
            let inputs: Map<String, serde_json::Value> = inputs
                .iter()
                .map(|(name, value)| (name.clone(), json!(value)))
                .collect();
            put("inputs", inputs.into());
        }
        Event::Schedule { cron, .. } => put("schedule", json!(cron)),
        Event::Repository { kind, branch } => {
            put("action", json!(kind));
            put("branch", json!(branch));
            put("client_payload", json!({}));
        }
        Event::WorkflowRun {
            workflow,
            action,
            ran_on,
            ..
        } => {
            put("action", json!(action));
            put("workflow", json!({"name": workflow}));
            put(
                "workflow_run",
                json!({"name": workflow, "head_branch": ran_on}),
            );
        }
        Event::Call { .. } => {}
    }
    for (name, value) in trigger.payload.iter().flatten() {
        match (event.get_mut(name), value) {
            (Some(serde_json::Value::Object(known)), serde_json::Value::Object(more)) => {
                known.extend(more.clone());
            }
            _ => {
                event.insert(name.clone(), value.clone());
            }
        }
    }
    event.into()
}

fn push(trigger: &Trigger, to: &Reference, put: &mut impl FnMut(&str, serde_json::Value)) {
    let source = &trigger.source;
    let (name, email) = &source.author;
    let head = json!({
        "id": source.commit,
        "message": source.message,
        "timestamp": source.at,
        "author": {"name": name, "email": email},
        "committer": {"name": name, "email": email},
    });
    put("ref", json!(to.full()));
    put(
        "before",
        json!(trigger.before.as_deref().unwrap_or(NOTHING)),
    );
    put("after", json!(source.commit));
    put("created", json!(trigger.before.is_none()));
    put("deleted", json!(false));
    put("forced", json!(trigger.forced));
    put("base_ref", serde_json::Value::Null);
    put("head_commit", head.clone());
    put("commits", json!([head]));
    put("pusher", json!({"name": trigger.actor}));
}
